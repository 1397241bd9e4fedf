//! `verifier endorsements`: hardware vendors' certificates, revocation lists and collateral, for where nothing is online.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use evidence::cbor::{self, Caps};
use evidence::cose::{KeySet, PublicKey};
use evidence::names::DomainName;
use indicatif::ProgressBar;
use serde_bytes::ByteBuf;
use serde_json::{Value, json};
use wire::proto::{EndorsementsExport, EndorsementsImport, EndorsementsList, ServerStatus, operator_command::Command};

use super::service::{Service, field, number, text};
use super::signing::{now, read_file, read_text, write_file};
use super::{CommandError, Common, output};
use crate::endorsements::bundle::Bundle;
use crate::endorsements::recognise::{PILE_CAP, Pile, Recognised, Skipped, Sorted};
use crate::state::read_signing_key;

/// Deepest folder below the one that is imported.
const DEPTH_CAP: usize = 4;
/// Most files of one import.
const FILES_CAP: usize = 65_536;
/// Sent to the service at once.
const BATCH_CAP_BYTES: usize = 1 << 20;
const BATCH_CAP: usize = 1024;
/// Longest page of documents that the service answers with.
const PAGE_CAP_BYTES: usize = 16 << 20;

/// Arguments of `verifier endorsements`.
#[derive(Args, Debug)]
pub struct EndorsementsArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Store certificates, revocation lists and collateral of AMD and Intel. Files may be named freely: each is told by
    /// what it holds (DER, PEM, an SNP host's certificate table, the vendors' JSON, or a bundle).
    Import {
        /// A file, or a folder of them.
        path: PathBuf,
        /// Public key (COSE_Key, hexadecimal) of who may have signed a bundle, or a file with it; repeatable.
        #[arg(long = "signer", value_name = "KEY")]
        signers: Vec<String>,
    },
    /// Write everything stored into one bundle.
    Export {
        /// Where to write it.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Key file to sign it with.
        #[arg(long, value_name = "KEYFILE")]
        sign: Option<PathBuf>,
    },
    /// List what is stored: about what, for when, from where.
    List,
}

impl EndorsementsArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let document = match &self.verb {
            Verb::Import { path, signers } => {
                // Files that cannot be used are the operator's to mend before any service is asked.
                let imported = Imported::read(path, signers)?;
                let mut service = Service::connect(&self.common.state).await?;
                imported.send(&mut service).await?
            }
            Verb::Export { out, sign } => {
                let mut service = Service::connect(&self.common.state).await?;
                export(&mut service, out, sign.as_deref()).await?
            }
            Verb::List => {
                let mut service = Service::connect(&self.common.state).await?;
                json!({ "endorsements": list(&mut service).await? })
            }
        };
        output::document(&document, self.common.format);
        Ok(())
    }
}

/// What files hold.
struct Imported {
    source: String,
    found: Vec<Recognised>,
    skipped: Vec<Skipped>,
}

impl Imported {
    fn read(path: &Path, signers: &[String]) -> Result<Self, CommandError> {
        let signers = signers.iter().map(|signer| public_key(signer)).collect::<Result<Vec<_>, _>>()?;
        let signers = KeySet::new(&signers);
        let files = files(path)?;
        let (mut pile, mut source) = (Pile::default(), "directory".to_owned());
        let bar = ProgressBar::new(u64::try_from(files.len()).unwrap_or(u64::MAX));
        for file in &files {
            let name = file.display().to_string();
            let bytes = read_file(file)?;
            if Bundle::is_like(&bytes) {
                let (bundle, signer) = Bundle::from_bytes(&bytes, &signers)
                    .map_err(|error| CommandError::Usage(format!("{name}: {error}")))?;
                let signer = signer.map_or_else(|| "unsigned".to_owned(), |kid| kid.to_string());
                source = format!("bundle {} {signer}", bundle.domain);
                bundle.add_to(&mut pile, &name);
            } else if signers.is_empty() {
                pile.add(&name, &bytes);
            } else {
                return Err(CommandError::Usage(format!("{name} is not a bundle, which --signer demands")));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        let Sorted { found, skipped } = pile.sorted();
        if found.is_empty() {
            let why = skipped.first().map_or_else(String::new, |first| format!(": {}: {}", first.file, first.why));
            return Err(CommandError::Usage(format!("no endorsement in {}{why}", path.display())));
        }
        Ok(Self { source, found, skipped })
    }

    async fn send(self, service: &mut Service) -> Result<Value, CommandError> {
        let Self { source, found, skipped } = self;
        let bar = ProgressBar::new(u64::try_from(found.len()).unwrap_or(u64::MAX));
        let (mut stored, mut batch, mut bytes) = (0_u64, Vec::new(), 0_usize);
        let mut found = found.into_iter().peekable();
        while let Some(endorsement) = found.next() {
            bytes = bytes.saturating_add(endorsement.bytes.len());
            batch.push(endorsement.bytes);
            let full = bytes >= BATCH_CAP_BYTES || batch.len() >= BATCH_CAP;
            if full || found.peek().is_none() {
                let sent = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                let documents = std::mem::take(&mut batch);
                let import = EndorsementsImport { source: source.clone(), documents };
                let answer = service.ask(Command::EndorsementsImport(import)).await?.document;
                stored = stored.saturating_add(number(&answer, "stored")?);
                bytes = 0;
                bar.inc(sent);
            }
        }
        bar.finish_and_clear();
        Ok(json!({ "stored": stored, "skipped": skipped }))
    }
}

/// Every file at `path`, in the order of names.
fn files(path: &Path) -> Result<Vec<PathBuf>, CommandError> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let (mut found, mut folders) = (Vec::new(), vec![(path.to_owned(), 0_usize)]);
    while let Some((folder, depth)) = folders.pop() {
        let failed = |error: std::io::Error| CommandError::Usage(format!("cannot read {}: {error}", folder.display()));
        for entry in std::fs::read_dir(&folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let kind = entry.file_type().map_err(failed)?;
            // links are not followed: a folder may be someone else's
            if kind.is_dir() && depth < DEPTH_CAP {
                folders.push((entry.path(), depth.saturating_add(1)));
            } else if kind.is_file() {
                found.push(entry.path());
            }
            if found.len() > FILES_CAP {
                return Err(CommandError::Usage(format!("{} holds more than {FILES_CAP} files", path.display())));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// A public key: in hexadecimal, or the name of a file that has it so.
fn public_key(given: &str) -> Result<PublicKey, CommandError> {
    let is_hex = !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_hexdigit());
    let text = if is_hex { given.to_owned() } else { read_text(Path::new(given))? };
    let bytes = hex::decode(text.trim())
        .map_err(|_| CommandError::Usage("a signer's public key is a COSE_Key in hexadecimal".to_owned()))?;
    PublicKey::from_cose_key(&bytes).map_err(CommandError::usage)
}

async fn list(service: &mut Service) -> Result<Vec<Value>, CommandError> {
    let (mut rows, mut after) = (Vec::new(), Vec::new());
    loop {
        let page = service.ask(Command::EndorsementsList(EndorsementsList { after })).await?.document;
        rows.extend(field(&page, "endorsements")?.as_array().into_iter().flatten().map(readable));
        match next(&page)? {
            Some(place) => after = place,
            None => return Ok(rows),
        }
    }
}

/// Times as dates.
fn readable(row: &Value) -> Value {
    let mut row = row.clone();
    for name in ["issued_at", "ends_at", "obtained_at"] {
        let seconds = row.get(name).and_then(Value::as_u64);
        let time =
            seconds.and_then(|seconds| std::time::UNIX_EPOCH.checked_add(std::time::Duration::from_secs(seconds)));
        if let (Some(time), Some(value)) = (time, row.get_mut(name)) {
            *value = Value::String(humantime::format_rfc3339_seconds(time).to_string());
        }
    }
    row
}

fn next(page: &Value) -> Result<Option<Vec<u8>>, CommandError> {
    let broken = || CommandError::fault("fault.service", "the service's answer names no next page");
    let place = field(page, "next")?;
    if place.is_null() {
        return Ok(None);
    }
    place.as_str().and_then(|text| hex::decode(text).ok()).map(Some).ok_or_else(broken)
}

async fn export(service: &mut Service, out: &Path, sign: Option<&Path>) -> Result<Value, CommandError> {
    let key = sign.map(|path| read_signing_key(path).map_err(CommandError::usage)).transpose()?;
    let status = service.ask(Command::ServerStatus(ServerStatus {})).await?.document;
    let domain = DomainName::new(text(&status, "domain")?).map_err(CommandError::usage)?;
    let (mut documents, mut after) = (Vec::new(), Vec::new());
    let bar = ProgressBar::new_spinner();
    loop {
        let answer = service.ask(Command::EndorsementsExport(EndorsementsExport { after })).await?;
        let caps = Caps::bytes(PAGE_CAP_BYTES).items(PILE_CAP);
        let page: Vec<ByteBuf> =
            cbor::from_slice(&answer.attachment, caps).map_err(|error| CommandError::fault("fault.service", error))?;
        documents.extend(page.into_iter().map(ByteBuf::into_vec));
        bar.set_position(u64::try_from(documents.len()).unwrap_or(u64::MAX));
        match next(&answer.document)? {
            Some(place) => after = place,
            None => break,
        }
    }
    bar.finish_and_clear();
    let count = documents.len();
    let bytes = Bundle::new(domain, now()?, documents)
        .to_bytes(key.as_ref())
        .map_err(|error| CommandError::fault("fault.bundle", error))?;
    write_file(out, &bytes)?;
    let signer = key.map(|key| hex::encode(key.public().cose_key()));
    Ok(json!({ "endorsements": count, "bytes": bytes.len(), "signer": signer }))
}
