//! `verifier keys`: execution keys. A secret is read from a file or made by the service, never given as an argument.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use wire::proto::{KeysList, KeysPut, operator_command::Command};

use super::service::Service;
use super::{CommandError, Common, output};
use crate::state::read_secret;

/// Arguments of `verifier keys`.
#[derive(Args, Debug)]
pub struct KeysArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Keep an execution key: 32 random bytes, or the secret in a file.
    Put {
        /// Its name.
        name: String,
        /// File (mode 0600) whose bytes are the secret.
        #[arg(long, value_name = "FILE")]
        secret_file: Option<PathBuf>,
        /// Label that policies can ask for; repeatable.
        #[arg(long = "label", value_name = "TEXT")]
        labels: Vec<String>,
    },
    /// List the names of all execution keys. Secrets are never shown.
    List,
}

impl KeysArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let command = match &self.verb {
            Verb::List => Command::KeysList(KeysList {}),
            Verb::Put { name, secret_file, labels } => {
                let secret = match secret_file {
                    Some(path) => read_secret(path).map_err(CommandError::usage)?.to_vec(),
                    None => Vec::new(),
                };
                if secret_file.is_some() && secret.is_empty() {
                    return Err(CommandError::Usage("the secret file is empty".to_owned()));
                }
                Command::KeysPut(KeysPut { name: name.clone(), secret, labels: labels.clone() })
            }
        };
        let mut service = Service::connect(&self.common.state).await?;
        output::document(&service.ask(command).await?.document, self.common.format);
        Ok(())
    }
}
