//! `verifier revoke`: what the domain no longer stands by.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use evidence::digest::{Digest, Sha256Digest};
use evidence::names::{ItemName, NodeId};
use governance::artifact::ArtifactId;
use governance::revocation::Revoked;
use governance::statement::Order;
use wire::proto::GovernanceAcknowledged;
use wire::proto::operator_command::Command;

use super::service::{Service, number};
use super::signing::SigningArgs;
use super::{CommandError, Common, output};

/// Arguments of `verifier revoke`.
#[derive(Args, Debug)]
pub struct RevokeArgs {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    signing: SigningArgs,
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// An authorization artifact, over all its renewals.
    Artifact {
        /// Its id, 32 hexadecimal digits.
        id: String,
    },
    /// A node.
    Node {
        /// Its name.
        node: String,
    },
    /// An execution key.
    Key {
        /// Its name.
        name: String,
    },
    /// A measured value, wherever it stands.
    Measurement {
        /// ALG:HEX.
        digest: Digest,
    },
    /// A reference value set.
    ReferenceSet {
        /// Its digest.
        digest: Sha256Digest,
    },
}

impl RevokeArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let revoked = match &self.what {
            What::Artifact { id } => {
                let mut bytes = [0u8; 16];
                hex::decode_to_slice(id, &mut bytes)
                    .map_err(|_| CommandError::Usage("an artifact id is 32 hexadecimal digits".to_owned()))?;
                Revoked::Artifact(ArtifactId(bytes))
            }
            What::Node { node } => Revoked::Node(NodeId::new(node.as_str()).map_err(CommandError::usage)?),
            What::Key { name } => Revoked::Key(ItemName::new(name.as_str()).map_err(CommandError::usage)?),
            What::Measurement { digest } => Revoked::Measurement(*digest),
            What::ReferenceSet { digest } => Revoked::ReferenceSet(*digest),
        };
        let mut service = Service::connect(&self.common.state).await?;
        let mut document = self.signing.order(&mut service, Order::Revoke(revoked)).await?.document;
        if self.signing.collects() {
            output::document(&document, self.common.format);
            return Ok(());
        }
        // Its state names the revocation: whoever took it knows, and said when.
        let epoch = number(&document, "epoch")?;
        let told = service.ask(Command::GovernanceAcknowledged(GovernanceAcknowledged { epoch })).await?.document;
        if let (Some(fields), Some(partners)) = (document.as_object_mut(), told.get("partners")) {
            fields.insert("partners".to_owned(), partners.clone());
        }
        output::document(&document, self.common.format);
        Ok(())
    }
}
