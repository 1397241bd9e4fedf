//! Signing as the policy authority: with key files that only the operator holds.

use std::path::{Path, PathBuf};

use clap::Args;
use evidence::cose::SigningKey;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::statement::{Order, STATEMENT_VERSION, Statement};
use governance::text::Text;
use wire::proto::{ServerStatus, Statements, operator_command::Command};

use super::CommandError;
use super::service::{Answer, Service, number, text};
use crate::clock::Clock;
use crate::state::read_signing_key;

/// How long an order may wait before it is obeyed, in seconds.
const ORDER_LIFETIME_S: u64 = 3600;

/// Largest file that an operator hands in, in bytes.
const FILE_CAP_BYTES: u64 = 8 << 20;

/// Whose keys sign, and why.
#[derive(Args, Debug)]
pub(super) struct SigningArgs {
    /// Key file of the policy authority; repeat for as many as the threshold demands.
    #[arg(long = "signer", value_name = "FILE", required = true)]
    signers: Vec<PathBuf>,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT", default_value = "none given")]
    pub(super) reason: String,
}

impl SigningArgs {
    /// The keys.
    pub(super) fn keys(&self) -> Result<Vec<SigningKey>, CommandError> {
        self.signers.iter().map(|path| read_signing_key(path).map_err(CommandError::usage)).collect()
    }

    /// Signs an order with every key and has the service obey it.
    pub(super) async fn order(&self, service: &mut Service, order: Order) -> Result<Answer, CommandError> {
        let cose = self.signed(service, order).await?;
        service.ask(Command::Statements(Statements { cose })).await
    }

    /// An order as the service's next statement, signed with every key.
    pub(super) async fn signed(&self, service: &mut Service, order: Order) -> Result<Vec<Vec<u8>>, CommandError> {
        let status = service.ask(Command::ServerStatus(ServerStatus {})).await?.document;
        let issued_at = now()?;
        let statement = Statement {
            version: STATEMENT_VERSION,
            domain: DomainName::new(text(&status, "domain")?).map_err(CommandError::usage)?,
            sequence: number(&status, "next_statement")?,
            order,
            reason: Text::new(&*self.reason).map_err(CommandError::usage)?,
            issued_at,
            expires_at: issued_at.plus(ORDER_LIFETIME_S),
        };
        self.keys()?.iter().map(|key| statement.sign(key).map_err(CommandError::usage)).collect()
    }
}

/// The wall clock of whoever signs or judges here.
pub(super) fn now() -> Result<UnixSeconds, CommandError> {
    Clock::starting_at(UnixSeconds(0)).now().map_err(|error| CommandError::fault("fault.clock", error))
}

/// Reads a text file that an operator hands in.
pub(super) fn read_text(path: &Path) -> Result<String, CommandError> {
    let bytes = read_file(path)?;
    String::from_utf8(bytes).map_err(|_| CommandError::Usage(format!("{} is not UTF-8 text", path.display())))
}

/// Reads a file that an operator hands in.
pub(super) fn read_file(path: &Path) -> Result<Vec<u8>, CommandError> {
    use std::io::Read as _;
    let failed = |error: std::io::Error| CommandError::Usage(format!("cannot read {}: {error}", path.display()));
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(failed)?;
    file.take(FILE_CAP_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > FILE_CAP_BYTES {
        return Err(CommandError::Usage(format!("{} is longer than {FILE_CAP_BYTES} bytes", path.display())));
    }
    Ok(bytes)
}

/// Writes a file that an operator asked for; one that exists is not overwritten.
pub(super) fn write_file(path: &Path, bytes: &[u8]) -> Result<(), CommandError> {
    crate::state::write_new(path, bytes, 0o644).map_err(CommandError::usage)
}
