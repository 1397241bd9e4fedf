//! `verifier keys`: execution keys, and the domain's own. A secret is read from a file or made by the service, never given as an argument.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use evidence::names::ItemName;
use governance::key_share::{self, SALT_BYTES};
use wire::proto::{KeysList, KeysPut, operator_command::Command};

use zeroize::Zeroizing;

use super::rotate::RotateArgs;
use super::service::Service;
use super::{CommandError, Common, output};
use crate::random::{self, Drawn, NoRandomness};
use crate::state::{read_secret, write_new};

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
        #[arg(long, value_name = "FILE", conflicts_with = "share")]
        secret_file: Option<PathBuf>,
        /// Share of a split key, as `keys split` writes it (mode 0600).
        #[arg(long, value_name = "FILE")]
        share: Option<PathBuf>,
        /// Label that policies can ask for; repeatable.
        #[arg(long = "label", value_name = "TEXT")]
        labels: Vec<String>,
    },
    /// Split a key among domains, offline: any K of the N shares join to it, in a node that K of them authorize.
    Split {
        /// Its name.
        name: String,
        /// How many shares join to the key.
        #[arg(long, value_name = "K")]
        need: u8,
        /// How many shares to make, one for each domain.
        #[arg(long, value_name = "N")]
        of: u8,
        /// File (mode 0600) whose bytes are the key; without it, 32 random bytes that nobody sees.
        #[arg(long, value_name = "FILE")]
        secret: Option<PathBuf>,
        /// Existing folder to write NAME-1.share to NAME-N.share to (mode 0600).
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
    /// List the names of all execution keys, and the domain's own keys with their state. Secrets are never shown.
    List,
    /// Replace one of the domain's own keys in three steps: prepare, activate, retire. The service goes on meanwhile.
    Rotate(RotateArgs),
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
            Verb::Rotate(rotate) => {
                let mut service = Service::connect(&self.common.state).await?;
                output::document(&rotate.answer(&mut service).await?, self.common.format);
                return Ok(());
            }
            Verb::Split { name, need, of, secret, out } => {
                output::document(&split(name, *need, *of, secret.as_deref(), out)?, self.common.format);
                return Ok(());
            }
            Verb::Put { name, secret_file, share, labels } => {
                let secret = match secret_file.as_ref().or(share.as_ref()) {
                    Some(path) => read_secret(path).map_err(CommandError::usage)?.to_vec(),
                    None => Vec::new(),
                };
                if (secret_file.is_some() || share.is_some()) && secret.is_empty() {
                    return Err(CommandError::Usage("the secret file is empty".to_owned()));
                }
                Command::KeysPut(KeysPut { name: name.clone(), secret, labels: labels.clone(), share: share.is_some() })
            }
        };
        let mut service = Service::connect(&self.common.state).await?;
        output::document(&service.ask(command).await?.document, self.common.format);
        Ok(())
    }
}

/// Splits a key and writes its shares, each for its owner alone.
fn split(name: &str, need: u8, of: u8, secret: Option<&Path>, out: &Path) -> Result<serde_json::Value, CommandError> {
    let name = ItemName::new(name).map_err(CommandError::usage)?;
    let fault = |error: NoRandomness| CommandError::fault("fault.randomness_unavailable", error);
    let key = match secret {
        Some(path) => read_secret(path).map_err(CommandError::usage)?,
        None => Zeroizing::new(random::bytes::<32>().map_err(fault)?.to_vec()),
    };
    let salt = Zeroizing::new(random::bytes::<SALT_BYTES>().map_err(fault)?);
    // One coefficient for each byte and degree, and a generator may give more than it is asked for.
    let bytes = key.len().saturating_add(SALT_BYTES).saturating_mul(usize::from(need)).saturating_mul(8);
    let mut random = Drawn::of(bytes).map_err(fault)?;
    let shares = key_share::split(&name, &key, need, of, &salt, &mut random).map_err(CommandError::usage)?;
    if random.is_short() {
        return Err(fault(NoRandomness));
    }
    let mut files = Vec::with_capacity(shares.len());
    for share in &shares {
        let path = out.join(format!("{name}-{}.share", share.header().index));
        write_new(&path, &share.encode().map_err(CommandError::usage)?, 0o600).map_err(CommandError::usage)?;
        files.push(path);
    }
    let group = shares.first().map(|share| share.header().group.id()).transpose().map_err(CommandError::usage)?;
    Ok(serde_json::json!({ "name": name, "need": need, "of": of, "group": group, "files": files }))
}
