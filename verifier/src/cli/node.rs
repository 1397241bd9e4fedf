//! `verifier node`: which machines are known, and what became of them.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use evidence::digest::Sha256Digest;
use evidence::names::NodeId;
use evidence::tee::PlatformId;
use governance::statement::Order;
use wire::proto::{Named, NodeAdmit, NodeList, NodeQuarantine, ServerStatus, operator_command::Command};

use super::service::{Answer, Service, number, text};
use super::signing::SigningArgs;
use super::{CommandError, Common, output};

/// Arguments of `verifier node`.
#[derive(Args, Debug)]
pub struct NodeArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// List all nodes and their states.
    List,
    /// Show one node: identity, state, lineage, and what to do next.
    Show {
        /// The node.
        node: String,
    },
    /// Admit a pending node, or pin an EK or a platform for it beforehand.
    Admit {
        /// The node.
        node: String,
        /// SHA-256 of the EK's TPM2B_PUBLIC, when the node has not enrolled yet.
        #[arg(long, value_name = "HEX")]
        ek: Option<Sha256Digest>,
        /// Platform of its TEE, when the node has not enrolled yet: amd-chip:HEX (CHIP_ID), amd-vlek:CSP_ID or
        /// intel-ppid:HEX.
        #[arg(long, value_name = "PLATFORM", conflicts_with = "ek")]
        platform: Option<PlatformId>,
        /// Why, for the log.
        #[arg(long, value_name = "TEXT", default_value = "none given")]
        reason: String,
    },
    /// Stop a node: its leases are refused and it halts at once if it is connected.
    Quarantine {
        /// The node.
        node: String,
        /// Why, for the log.
        #[arg(long, value_name = "TEXT", default_value = "none given")]
        reason: String,
    },
    /// Take a halted or quarantined node back, by the policy authority's signatures.
    Readmit {
        /// The node.
        node: String,
        #[command(flatten)]
        signing: SigningArgs,
    },
}

impl NodeArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let mut service = Service::connect(&self.common.state).await?;
        let answer = match &self.verb {
            Verb::List => service.ask(Command::NodeList(NodeList {})).await?,
            Verb::Show { node } => service.ask(Command::NodeShow(Named { name: node.clone() })).await?,
            Verb::Admit { node, ek, platform, reason } => {
                let ek_digest = ek.map(|digest| digest.0.to_vec()).unwrap_or_default();
                let platform = platform.as_ref().map(PlatformId::to_string).unwrap_or_default();
                let admit = NodeAdmit { node_id: node.clone(), ek_digest, reason: reason.clone(), platform };
                service.ask(Command::NodeAdmit(admit)).await?
            }
            Verb::Quarantine { node, reason } => {
                let quarantine = NodeQuarantine { node_id: node.clone(), reason: reason.clone() };
                service.ask(Command::NodeQuarantine(quarantine)).await?
            }
            Verb::Readmit { node, signing } => readmit(&mut service, node, signing).await?,
        };
        output::document(&answer.document, self.common.format);
        Ok(())
    }
}

/// The order names the halt record it answers and an epoch later than the halt, so that it cannot answer another.
async fn readmit(service: &mut Service, node: &str, signing: &SigningArgs) -> Result<Answer, CommandError> {
    let shown = service.ask(Command::NodeShow(Named { name: node.to_owned() })).await?.document;
    let status = service.ask(Command::ServerStatus(ServerStatus {})).await?.document;
    let halt = text(&shown, "halt")?.parse().map_err(CommandError::usage)?;
    let order = Order::Readmit {
        node: NodeId::new(node).map_err(CommandError::usage)?,
        halt,
        epoch: number(&status, "epoch")?.saturating_add(1),
    };
    signing.order(service, order).await
}
