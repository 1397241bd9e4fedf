//! `verifier result`: the Attestation Result of a logged decision, as JWT.

use std::process::ExitCode;

use clap::Args;
use wire::proto::{ResultJwt, operator_command::Command};

use super::service::{Service, text};
use super::{CommandError, Common, Format, output};

/// Arguments of `verifier result`.
///
/// Prints the token alone, or with --format json the token beside its claims and the name of its key.
#[derive(Args, Debug)]
pub struct ResultArgs {
    #[command(flatten)]
    common: Common,
    /// Index of the decision in the log.
    entry: u64,
}

impl ResultArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let mut service = Service::connect(&self.common.state).await?;
        let answer = service.ask(Command::ResultJwt(ResultJwt { entry: self.entry })).await?;
        match self.common.format {
            Format::Json => output::json(&answer.document),
            Format::Text => output::line(text(&answer.document, "jwt")?),
        }
        Ok(())
    }
}
