//! Trust anchors as configured: certificate files, revoked digests, and the EKs
//! that operators admitted.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use evidence::anchors::{AnchorError, AnchorSet, RootPin, TrustAnchors};
use evidence::digest::Sha256Digest;
use evidence::sev_snp::{ProductLine, roots::genuine_ark_digest};
use evidence::tdx::roots::GENUINE_ROOTS;
use serde_bytes::ByteBuf;
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use crate::config::{Config, SnpConfig, TdxConfig, TpmConfig};

/// Largest file of certificates.
const FILE_CAP_BYTES: u64 = 1 << 20;

/// Why the configured anchors are not usable.
#[derive(Debug, thiserror::Error)]
pub enum AnchorsFault {
    /// A file could not be read.
    #[error("reading trust anchor {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A file holds no certificate, or something else.
    #[error("trust anchor {path}: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// The set as a whole is refused.
    #[error(transparent)]
    Refused(#[from] AnchorError),
}

/// What the configuration names, before any EK that an operator admitted.
#[derive(Debug, Clone)]
pub struct ConfiguredAnchors {
    set: AnchorSet,
    lab: bool,
}

impl ConfiguredAnchors {
    /// Reads every certificate file.
    pub fn read(config: &Config) -> Result<Self, AnchorsFault> {
        let mut set = AnchorSet { revoked: config.tpm.revoked.clone(), ..AnchorSet::default() };
        tpms(&config.tpm, &mut set)?;
        snp_guests(&config.snp, &mut set)?;
        trust_domains(&config.tdx, &mut set)?;
        Ok(Self { set, lab: config.lab })
    }

    /// The anchors with these admitted EKs; nothing while nobody could be
    /// trusted by them.
    pub fn with_pinned(&self, pinned: &BTreeSet<Sha256Digest>) -> Result<Option<TrustAnchors>, AnchorsFault> {
        let set = AnchorSet { pinned_eks: pinned.clone(), ..self.set.clone() };
        let anchors = if self.lab { TrustAnchors::lab_accepting_simulated(set) } else { TrustAnchors::new(set) };
        match anchors {
            Ok(anchors) => Ok(Some(anchors)),
            Err(AnchorError::Empty) => Ok(None),
            Err(
                error @ (AnchorError::Simulated { .. }
                | AnchorError::Encoding(_)
                | AnchorError::Certificate { .. }
                | AnchorError::ProductLine { .. }),
            ) => Err(error.into()),
        }
    }
}

fn tpms(tpm: &TpmConfig, set: &mut AnchorSet) -> Result<(), AnchorsFault> {
    for path in &tpm.roots {
        pin(path, &mut set.tpm_roots, &mut set.ca_certificates)?;
    }
    for path in &tpm.simulated_roots {
        pin(path, &mut set.simulated_tpm_roots, &mut set.ca_certificates)?;
    }
    for path in &tpm.intermediates {
        set.ca_certificates.extend(certificates(path)?.into_iter().map(ByteBuf::from));
    }
    Ok(())
}

fn snp_guests(snp: &SnpConfig, set: &mut AnchorSet) -> Result<(), AnchorsFault> {
    for line in snp.product_lines.iter().filter_map(|line| ProductLine::from_name(line)) {
        let pin = RootPin::Certificate(genuine_ark_digest(line));
        set.snp_roots.entry(line.name().to_owned()).or_default().insert(pin);
    }
    for (line, paths) in &snp.simulated_roots {
        let pins = set.simulated_snp_roots.entry(line.clone()).or_default();
        for path in paths {
            pins.extend(roots(path)?);
        }
    }
    Ok(())
}

fn trust_domains(tdx: &TdxConfig, set: &mut AnchorSet) -> Result<(), AnchorsFault> {
    if tdx.intel {
        set.tdx_roots.extend(GENUINE_ROOTS.iter().copied());
    }
    for path in &tdx.simulated_roots {
        set.simulated_tdx_roots.extend(roots(path)?);
    }
    Ok(())
}

/// Certificates that are trusted for nothing but ending a chain.
fn roots(path: &Path) -> Result<Vec<RootPin>, AnchorsFault> {
    Ok(certificates(path)?.iter().map(|der| RootPin::Certificate(Sha256Digest::of(der))).collect())
}

fn pin(
    path: &Path,
    roots: &mut BTreeSet<RootPin>,
    certificates_known: &mut BTreeSet<ByteBuf>,
) -> Result<(), AnchorsFault> {
    for der in certificates(path)? {
        roots.insert(RootPin::Certificate(Sha256Digest::of(&der)));
        certificates_known.insert(ByteBuf::from(der));
    }
    Ok(())
}

/// The certificates in a PEM file, or the one in a DER file.
pub(crate) fn certificates(path: &Path) -> Result<Vec<Vec<u8>>, AnchorsFault> {
    let read_fault = |source| AnchorsFault::Read { path: path.to_owned(), source };
    let malformed = |why: String| AnchorsFault::Malformed { path: path.to_owned(), why };
    let length = std::fs::metadata(path).map_err(read_fault)?.len();
    if length > FILE_CAP_BYTES {
        return Err(malformed(format!("{length} bytes, at most {FILE_CAP_BYTES} are read")));
    }
    let bytes = std::fs::read(path).map_err(read_fault)?;
    let parsed = if bytes.starts_with(b"-----BEGIN") {
        Certificate::load_pem_chain(&bytes).map_err(|error| malformed(error.to_string()))?
    } else {
        vec![Certificate::from_der(&bytes).map_err(|error| malformed(error.to_string()))?]
    };
    if parsed.is_empty() {
        return Err(malformed("holds no certificate".to_owned()));
    }
    parsed.iter().map(|certificate| certificate.to_der().map_err(|error| malformed(error.to_string()))).collect()
}
