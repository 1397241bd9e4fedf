//! `verifier refs convert` and `refs export`: sets from files of other formats, and files of other formats from sets.
//! Offline: neither a service nor a state folder is asked, and nothing is staged.

use std::path::{Path, PathBuf};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::{Args, ValueEnum};
use evidence::cose::PublicKey;
use firmware_refs::document::SetDocument;
use firmware_refs::exchange::{
    ImportDenial, Loss, corim, keylime,
    signers::{AllowedSigner, Hardware},
    snp_measure,
};
use firmware_refs::set::ReferenceValueSet;
use serde_json::json;

use super::signing::{now, read_file, read_text, write_file};
use super::{CommandError, Format, output};
use crate::state::read_signing_key;

/// SubjectPublicKeyInfo before the key itself: P-256 (RFC 5480), Ed25519 (RFC 8410).
const P256_SPKI: &str = "3059301306072a8648ce3d020106082a8648ce3d030107034200";
const ED25519_SPKI: &str = "302a300506032b6570032100";

/// Arguments of `verifier refs convert`.
#[derive(Args, Debug)]
pub(super) struct ConvertArgs {
    /// The file.
    file: PathBuf,
    /// Its format.
    #[arg(long)]
    from: Source,
    /// Set (TOML) to start from. It says what the file cannot say: name, version, platforms, floors, for how long. What
    /// the file says replaces what it says of the same.
    #[arg(long, value_name = "FILE")]
    base: PathBuf,
    /// Where to write the set (TOML), to be read, signed and staged with `refs import`.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Public key (PEM) that may sign the file; repeat for several.
    #[arg(long = "allow", value_name = "FILE", conflicts_with = "allow_unsigned")]
    allowed: Vec<PathBuf>,
    /// Kinds of hardware that these keys may speak of; left out: every kind.
    #[arg(long, value_name = "KIND", requires = "allowed")]
    hardware: Vec<HardwareName>,
    /// Take a file that nobody signed. Whoever could write it chose the values.
    #[arg(long)]
    allow_unsigned: bool,
}

/// Formats that are read.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Source {
    /// CoRIM, in a COSE_Sign1 or bare.
    Corim,
    /// A runtime policy of Keylime, in a DSSE envelope or bare.
    Keylime,
    /// Output of `sev-snp-measure` or of `refs compute snp --format json`; never signed.
    SevSnpMeasure,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HardwareName {
    SevSnp,
    Tdx,
    Tpm,
}

/// Arguments of `verifier refs export`.
#[derive(Args, Debug)]
pub(super) struct ExportArgs {
    /// The set (TOML).
    set: PathBuf,
    /// Where to write it as CoRIM (CBOR).
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Key file (Ed25519) to sign it with; left out: it is not signed.
    #[arg(long, value_name = "FILE")]
    signer: Option<PathBuf>,
}

impl ConvertArgs {
    pub(super) fn run(&self, format: Format) -> Result<(), CommandError> {
        let base: SetDocument = toml::from_str(&read_text(&self.base)?)
            .map_err(|error| CommandError::Usage(format!("{}: {error}", self.base.display())))?;
        let (bytes, now) = (read_file(&self.file)?, now()?);
        let hardware = self.hardware.iter().map(|name| match name {
            HardwareName::SevSnp => Hardware::SevSnp,
            HardwareName::Tdx => Hardware::Tdx,
            HardwareName::Tpm => Hardware::Tpm,
        });
        let hardware: Vec<_> = if self.hardware.is_empty() { Hardware::ALL.to_vec() } else { hardware.collect() };
        let signers = self.allowed.iter().map(|path| {
            Ok(AllowedSigner {
                key: public_key(path)?,
                environment: base.environment.clone(),
                hardware: hardware.clone(),
            })
        });
        let signers = signers.collect::<Result<Vec<_>, CommandError>>()?;
        let imported = match (self.from, self.allow_unsigned) {
            (Source::Corim, false) => corim::import(&bytes, base, &signers, now),
            (Source::Corim, true) => corim::import_unsigned(&bytes, base, now),
            (Source::Keylime, false) => keylime::import(&bytes, base, &signers, now),
            (Source::Keylime, true) => keylime::import_unsigned(&bytes, base, now),
            (Source::SevSnpMeasure, true) => snp_measure::import_unsigned(&bytes, base, now),
            (Source::SevSnpMeasure, false) => Err(ImportDenial::Unsigned),
        };
        let imported = imported.map_err(denied)?;
        write_file(&self.out, imported.set.to_toml().map_err(CommandError::usage)?.as_bytes())?;
        let document = json!({
            "name": imported.set.id().as_str(),
            "version": imported.set.version(),
            "file": self.out.display().to_string(),
            "from_sha256": imported.file.to_string(),
            "vouched_for": imported.voucher.to_string(),
            "lost": lost(&imported.losses),
        });
        output::document(&document, format);
        Ok(())
    }
}

impl ExportArgs {
    pub(super) fn run(&self, format: Format) -> Result<(), CommandError> {
        let set = ReferenceValueSet::from_toml(&read_text(&self.set)?)
            .map_err(|error| CommandError::Usage(format!("{}: {error}", self.set.display())))?;
        let exported = match &self.signer {
            None => corim::export(&set),
            Some(path) => {
                let key = read_signing_key(path).map_err(CommandError::usage)?;
                corim::export_signed(&set, &key, set.domain().as_str())
            }
        };
        let exported = exported.map_err(denied)?;
        write_file(&self.out, &exported.bytes)?;
        let file = self.out.display().to_string();
        output::document(&json!({"file": file, "bytes": exported.bytes.len(), "lost": lost(&exported.losses)}), format);
        Ok(())
    }
}

fn lost(losses: &[Loss]) -> Vec<serde_json::Value> {
    losses.iter().map(|loss| json!({"at": loss.at.as_str(), "what": loss.what.as_str()})).collect()
}

fn denied(denial: ImportDenial) -> CommandError {
    CommandError::Denied { code: denial.code().to_owned(), detail: denial.to_string().into() }
}

/// A public key as others publish it: SubjectPublicKeyInfo of P-256 or Ed25519, in PEM.
fn public_key(path: &Path) -> Result<PublicKey, CommandError> {
    let unusable = || CommandError::Usage(format!("{}: not a public key of P-256 or Ed25519 in PEM", path.display()));
    let text = read_text(path)?;
    let (_, body) = text.split_once("-----BEGIN PUBLIC KEY-----").ok_or_else(unusable)?;
    let (body, _) = body.split_once("-----END PUBLIC KEY-----").ok_or_else(unusable)?;
    let body: String = body.split_whitespace().collect();
    let der = hex::encode(STANDARD.decode(body).map_err(|_| unusable())?);
    let raw = |digits: &str| hex::decode(digits).map_err(|_| unusable());
    if let Some(point) = der.strip_prefix(P256_SPKI) {
        return PublicKey::p256(&raw(point)?).map_err(CommandError::usage);
    }
    let key = der.strip_prefix(ED25519_SPKI).ok_or_else(unusable)?;
    PublicKey::ed25519(&raw(key)?).map_err(CommandError::usage)
}
