//! `verifier sign`: adds signatures to what others have begun to sign, offline; and hands it in once there are enough.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;
use wire::proto::{BundleImport, DomainTrust, PolicyImport, RefsImport, Statements, operator_command::Command};

use super::collected::{Collected, PartKind};
use super::service::Service;
use super::signing::{read_file, read_text};
use super::{CommandError, Common, output};
use crate::pin::PinFile;
use crate::state::{read_signing_key, replace};

/// Arguments of `verifier sign`.
#[derive(Args, Debug)]
pub struct SignArgs {
    #[command(flatten)]
    common: Common,
    /// The file, as an order given with --collect began it.
    file: PathBuf,
    /// The domain's pin.toml: whose keys may sign, and how many must. Needs no service.
    #[arg(long, value_name = "FILE", required_unless_present = "submit")]
    pin: Option<PathBuf>,
    /// Key file of the policy authority to sign with; repeatable. Without one the file is only shown.
    #[arg(long = "signer", value_name = "FILE", requires = "pin")]
    signers: Vec<PathBuf>,
    /// Have the running service obey it.
    #[arg(long)]
    submit: bool,
}

impl SignArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let mut file = Collected::decode(&read_file(&self.file)?)?;
        let mut document = file.claimed()?;
        if let Some(pin) = &self.pin {
            (file, document) = self.signed(file, pin)?;
        }
        if self.submit {
            document = submitted(&self.common.state, &file).await?;
        }
        output::document(&document, self.common.format);
        Ok(())
    }

    fn signed(&self, file: Collected, pin: &Path) -> Result<(Collected, Value), CommandError> {
        let pin: PinFile = toml::from_str(&read_text(pin)?).map_err(CommandError::usage)?;
        if pin.domain != file.domain {
            let (got, wanted) = (&file.domain, &pin.domain);
            return Err(CommandError::Usage(format!("the file is for domain {got}, the pin is of {wanted}")));
        }
        let authority = pin.authority().map_err(CommandError::usage)?;
        let keys = self.signers.iter().map(|path| read_signing_key(path).map_err(CommandError::usage));
        let keys = keys.collect::<Result<Vec<_>, _>>()?;
        if !keys.is_empty() {
            let signed = file.signed_by(&keys, &authority)?;
            replace(&self.file, &signed.encode()?).map_err(CommandError::usage)?;
            return signed.report(&authority).map(|report| (signed, report));
        }
        file.report(&authority).map(|report| (file, report))
    }
}

/// Hands in every part, in their order; what came of the last.
async fn submitted(state: &Path, file: &Collected) -> Result<Value, CommandError> {
    let mut service = Service::connect(state).await?;
    let mut document = Value::Null;
    for part in &file.parts {
        let cose = part.cose();
        let commands = match part.kind {
            // One signature a request: the service counts distinct keys.
            PartKind::PolicySet => cose.into_iter().map(|cose| Command::PolicyImport(PolicyImport { cose })).collect(),
            PartKind::ReferenceValues => {
                cose.into_iter().map(|cose| Command::RefsImport(RefsImport { cose })).collect()
            }
            PartKind::TrustBundle => vec![Command::BundleImport(BundleImport { cose })],
            PartKind::Statement if file.bundle.is_empty() => vec![Command::Statements(Statements { cose })],
            PartKind::Statement => {
                let bundle = file.bundle.iter().map(|cose| cose.to_vec()).collect();
                vec![Command::DomainTrust(DomainTrust { cose, bundle })]
            }
        };
        for command in commands {
            document = service.ask(command).await?.document;
        }
    }
    Ok(document)
}
