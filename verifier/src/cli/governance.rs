//! `verifier governance`: this domain's state, and how it and its partners stand with each other.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use wire::proto::operator_command::Command;
use wire::proto::{GovernancePublish, GovernanceStatus};

use super::service::Service;
use super::{CommandError, Common, output};

/// Arguments of `verifier governance`.
#[derive(Args, Debug)]
pub struct GovernanceArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// The own state, and every partner: standing, epoch, age, lag, sequence, what it holds of us, the last error.
    Status,
    /// Issue the next state now, tell the partners, and say who took it within a moment.
    Publish,
}

impl GovernanceArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let mut service = Service::connect(&self.common.state).await?;
        let command = match self.verb {
            Verb::Status => Command::GovernanceStatus(GovernanceStatus {}),
            Verb::Publish => Command::GovernancePublish(GovernancePublish {}),
        };
        output::document(&service.ask(command).await?.document, self.common.format);
        Ok(())
    }
}
