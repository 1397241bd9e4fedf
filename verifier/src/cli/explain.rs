//! `verifier explain`: why a logged decision was what it was.

use std::process::ExitCode;

use clap::Args;
use wire::proto::{Explain, operator_command::Command};

use super::service::Service;
use super::{CommandError, Common, output};

/// Arguments of `verifier explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    #[command(flatten)]
    common: Common,
    /// Index of the decision in the log.
    entry: u64,
    /// Decide again from what the log names, and compare the results byte for byte.
    #[arg(long)]
    replay: bool,
}

impl ExplainArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let mut service = Service::connect(&self.common.state).await?;
        let explain = Explain { entry: self.entry, replay: self.replay };
        output::document(&service.ask(Command::Explain(explain)).await?.document, self.common.format);
        Ok(())
    }
}
