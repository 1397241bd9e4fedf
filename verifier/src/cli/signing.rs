//! Signing as the policy authority: with key files that only the operator holds.

use std::path::{Path, PathBuf};

use clap::Args;
use evidence::cose::SigningKey;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::statement::{Order, STATEMENT_VERSION, Statement};
use governance::text::Text;
use serde_bytes::ByteBuf;
use wire::proto::{DomainTrust, ServerStatus, Statements, operator_command::Command};

use super::CommandError;
use super::collected::{Collected, Part, PartKind};
use super::service::{Answer, Service, number, text};
use crate::clock::Clock;
use crate::state::read_signing_key;

/// How long an order may wait before it is obeyed, in seconds.
const ORDER_LIFETIME_S: u64 = 3600;
/// How long one may wait whose signatures are collected from several people, in seconds.
const COLLECTED_LIFETIME_S: u64 = 7 * 24 * 3600;

/// Largest file that an operator hands in, in bytes.
const FILE_CAP_BYTES: u64 = 8 << 20;

/// Whose keys sign, and why.
#[derive(Args, Debug)]
pub(super) struct SigningArgs {
    /// Key file of the policy authority; repeat for as many as the threshold demands.
    #[arg(long = "signer", value_name = "FILE", required = true)]
    signers: Vec<PathBuf>,
    /// Do not give it to the service: begin this file, which must not exist, with these signatures. Others add theirs
    /// (`verifier sign`) within a week, and one of them hands it in.
    #[arg(long, value_name = "FILE")]
    collect: Option<PathBuf>,
    /// Why, for the log.
    #[arg(long, value_name = "TEXT", default_value = "none given")]
    pub(super) reason: String,
}

impl SigningArgs {
    /// The keys.
    pub(super) fn keys(&self) -> Result<Vec<SigningKey>, CommandError> {
        self.signers.iter().map(|path| read_signing_key(path).map_err(CommandError::usage)).collect()
    }

    /// Whether the service gets nothing, because others are to sign too.
    pub(super) const fn collects(&self) -> bool {
        self.collect.is_some()
    }

    /// Signs an order with every key and has the service obey it, or begins to collect more signatures.
    pub(super) async fn order(&self, service: &mut Service, order: Order) -> Result<Answer, CommandError> {
        self.order_with(service, order, &[]).await
    }

    /// The same; `bundle` are the signatures over the first bundle of a domain that it orders to trust.
    pub(super) async fn order_with(
        &self,
        service: &mut Service,
        order: Order,
        bundle: &[Vec<u8>],
    ) -> Result<Answer, CommandError> {
        let (domain, cose) = self.signed(service, order).await?;
        if self.collects() {
            let bundle = bundle.iter().cloned().map(ByteBuf::from).collect();
            return self.begin(Collected::of(domain, vec![Part::new(PartKind::Statement, cose)], bundle));
        }
        service
            .ask(if bundle.is_empty() {
                Command::Statements(Statements { cose })
            } else {
                Command::DomainTrust(DomainTrust { cose, bundle: bundle.to_vec() })
            })
            .await
    }

    /// Begins to collect signatures over a set, and over the order that puts it into force if there is one.
    pub(super) async fn collect_set(
        &self,
        service: &mut Service,
        set: Part,
        order: Option<Order>,
    ) -> Result<Answer, CommandError> {
        let status = service.ask(Command::ServerStatus(ServerStatus {})).await?.document;
        let domain = DomainName::new(text(&status, "domain")?).map_err(CommandError::usage)?;
        let mut parts = vec![set];
        if let Some(order) = order {
            let (_, cose) = self.signed(service, order).await?;
            parts.push(Part::new(PartKind::Statement, cose));
        }
        self.begin(Collected::of(domain, parts, Vec::new()))
    }

    fn begin(&self, file: Collected) -> Result<Answer, CommandError> {
        let path = self.collect.as_deref().ok_or_else(|| CommandError::Usage("--collect names no file".to_owned()))?;
        begin(path, &file)
    }

    /// An order as the service's next statement, signed with every key, and whose it is.
    async fn signed(&self, service: &mut Service, order: Order) -> Result<(DomainName, Vec<Vec<u8>>), CommandError> {
        let status = service.ask(Command::ServerStatus(ServerStatus {})).await?.document;
        let issued_at = now()?;
        let domain = DomainName::new(text(&status, "domain")?).map_err(CommandError::usage)?;
        let statement = Statement {
            version: STATEMENT_VERSION,
            domain: domain.clone(),
            sequence: number(&status, "next_statement")?,
            order,
            reason: Text::new(&*self.reason).map_err(CommandError::usage)?,
            issued_at,
            expires_at: issued_at.plus(if self.collects() { COLLECTED_LIFETIME_S } else { ORDER_LIFETIME_S }),
        };
        let keys = self.keys()?;
        let cose = keys.iter().map(|key| statement.sign(key).map_err(CommandError::usage));
        Ok((domain, cose.collect::<Result<_, _>>()?))
    }
}

/// Begins a file of collected signatures, and says what stands in it.
pub(super) fn begin(path: &Path, file: &Collected) -> Result<Answer, CommandError> {
    write_file(path, &file.encode()?)?;
    let mut document = file.claimed()?;
    if let Some(fields) = document.as_object_mut() {
        fields.insert("file".to_owned(), path.display().to_string().into());
        fields.insert("next".to_owned(), "verifier sign FILE --pin pin.toml --signer KEY; then --submit".into());
    }
    Ok(Answer { document, attachment: Vec::new() })
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
