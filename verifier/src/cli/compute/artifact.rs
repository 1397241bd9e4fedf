//! Reading artifacts: capped where they are kept whole, hashed as they are read where they need not be.

use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use evidence::digest::{Digest, HashAlg, Sha256Digest};
use firmware_refs::document::derivation::Artifact;
use firmware_refs::text::Text;
use indicatif::{ProgressBar, ProgressStyle};

use super::CommandError;

/// Largest kernel or unified kernel image, in bytes.
pub(super) const KERNEL_CAP_BYTES: u64 = 1 << 30;

/// Bytes read at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Files above this length show how far reading has come.
const PROGRESS_ABOVE_BYTES: u64 = 64 << 20;

/// The artifacts that a calculation has read, for the record.
#[derive(Default)]
pub(super) struct Artifacts(Vec<Artifact>);

impl Artifacts {
    /// Reads a whole artifact.
    pub(super) fn read(&mut self, role: &str, path: &Path, cap_bytes: u64) -> Result<Vec<u8>, CommandError> {
        let (mut file, bytes) = open(path)?;
        if bytes > cap_bytes {
            let path = path.display();
            return Err(CommandError::Usage(format!("{path} is longer than {cap_bytes} bytes, too long for {role}")));
        }
        let mut whole = Vec::new();
        let mut reader = (&mut file).take(cap_bytes.saturating_add(1));
        reader.read_to_end(&mut whole).map_err(|error| unreadable(path, error))?;
        if u64::try_from(whole.len()).ok() != Some(bytes) {
            return Err(unreadable(path, "it changed while it was read"));
        }
        self.record(role, path, bytes, Sha256Digest::of(&whole));
        Ok(whole)
    }

    /// Hashes an artifact with SHA-256 and with `algorithms`, keeping none of it.
    pub(super) fn hash(
        &mut self,
        role: &str,
        path: &Path,
        algorithms: &[HashAlg],
    ) -> Result<(Sha256Digest, Vec<Digest>), CommandError> {
        let (mut file, bytes) = open(path)?;
        let progress = progress(role, bytes);
        let mut sha256 = digest::Context::new(&digest::SHA256);
        let mut others: Vec<_> = algorithms.iter().map(|alg| (*alg, digest::Context::new(algorithm(*alg)))).collect();
        let mut piece = vec![0; PIECE_BYTES];
        let mut left = bytes;
        loop {
            let got = file.read(&mut piece).map_err(|error| unreadable(path, error))?;
            let read = piece.get(..got).unwrap_or(&piece);
            if read.is_empty() {
                break;
            }
            let count = u64::try_from(got).unwrap_or(u64::MAX);
            left = left.checked_sub(count).ok_or_else(|| unreadable(path, "it grew while it was read"))?;
            sha256.update(read);
            others.iter_mut().for_each(|(_, context)| context.update(read));
            progress.inc(count);
        }
        progress.finish_and_clear();
        if left > 0 {
            return Err(unreadable(path, "it shrank while it was read"));
        }
        let broken = || CommandError::fault("fault.bug", "a hash of another length than its own");
        let sha256 = Sha256Digest::try_from(sha256.finish().as_ref()).map_err(|_| broken())?;
        self.record(role, path, bytes, sha256);
        let others = others.into_iter().map(|(alg, context)| Digest::from_bytes(alg, context.finish().as_ref()));
        Ok((sha256, others.collect::<Option<_>>().ok_or_else(broken)?))
    }

    /// Hashes an artifact, if there is one, with `alg`.
    pub(super) fn hash_one(
        &mut self,
        role: &str,
        path: Option<&Path>,
        alg: HashAlg,
    ) -> Result<Option<Digest>, CommandError> {
        let Some(path) = path else { return Ok(None) };
        Ok(self.hash(role, path, &[alg])?.1.first().copied())
    }

    /// Writes down that something was read.
    pub(super) fn record(&mut self, role: &str, path: &Path, bytes: u64, sha256: Sha256Digest) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        self.0.push(Artifact { role: Text::lossy(role), file: Text::lossy(&name), bytes, sha256 });
    }

    /// What was read, for people and programs.
    pub(super) fn document(&self) -> serde_json::Value {
        self.0.iter().map(|artifact| serde_json::json!(artifact)).collect()
    }

    pub(super) fn into_list(self) -> Vec<Artifact> {
        self.0
    }
}

/// A file whose contents nothing can be calculated from.
pub(super) fn refused<E: std::fmt::Display>(path: &Path) -> impl Fn(E) -> CommandError {
    let path = PathBuf::from(path);
    move |error| CommandError::Usage(format!("{}: {error}", path.display()))
}

/// A cap of the library's, as a file's length.
pub(super) fn cap(bytes: usize) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// A regular file and its length: a directory or a device has no end, a pipe may never say anything.
fn open(path: &Path) -> Result<(File, u64), CommandError> {
    let found = std::fs::metadata(path).map_err(|error| unreadable(path, error))?;
    if !found.is_file() {
        return Err(unreadable(path, "not a regular file"));
    }
    let file = File::open(path).map_err(|error| unreadable(path, error))?;
    Ok((file, found.len()))
}

fn unreadable(path: &Path, why: impl std::fmt::Display) -> CommandError {
    CommandError::Usage(format!("cannot read {}: {why}", path.display()))
}

fn progress(role: &str, bytes: u64) -> ProgressBar {
    if bytes < PROGRESS_ABOVE_BYTES || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{msg} {bar:40} {bytes}/{total_bytes}");
    ProgressBar::new(bytes)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_message(role.to_owned())
}

const fn algorithm(alg: HashAlg) -> &'static digest::Algorithm {
    match alg {
        HashAlg::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        HashAlg::Sha256 => &digest::SHA256,
        HashAlg::Sha384 => &digest::SHA384,
        HashAlg::Sha512 => &digest::SHA512,
    }
}
