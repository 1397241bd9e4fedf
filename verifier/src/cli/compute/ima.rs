//! `verifier refs compute ima`: what IMA measures of the files of a machine, from a tree or from packages that hold them.

use std::fs::{DirBuilder, File};
use std::io::{IsTerminal as _, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::{Args, ValueEnum};
use evidence::digest::{Digest, HashAlg, Sha256Digest};
use firmware_refs::compute::proposal::{MeasuredBuffer, MeasuredFile};
use indicatif::ProgressBar;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::super::signing::read_file;
use super::CommandError;
use super::artifact::Artifacts;
use super::proposal::{Calculated, SetArgs};
use crate::random;

/// Most files: a set of more does not fit its own cap.
const FILES_CAP: usize = 20_000;
/// Most folders above a file.
const DEPTH_CAP: usize = 64;
/// What an ELF file begins with.
const ELF: [u8; 4] = *b"\x7fELF";

/// Arguments of `verifier refs compute ima`.
#[derive(Args, Debug)]
pub(in crate::cli) struct ImaArgs {
    /// Folder that holds the files as the machine has them: an unpacked image, or `/` of a machine that was installed
    /// and never connected.
    #[arg(long, value_name = "DIR", required_unless_present = "packages")]
    root: Option<PathBuf>,
    /// Debian package that the machine has; repeat for each. Paths are told as a machine with a merged /usr has them
    /// (Debian 12 and later). Of two versions of a package both contents of a file are accepted.
    #[arg(long = "deb", value_name = "FILE")]
    packages: Vec<PathBuf>,
    /// Path on the machine that is not judged: exact, or a folder that ends in `/`. It is neither read nor accepted by
    /// its contents; whoever can write there runs what they like.
    #[arg(long, value_name = "PATH")]
    exclude: Vec<String>,
    /// Take every file, not only what is executed or loaded: programs, libraries, kernel modules, firmware.
    #[arg(long)]
    all: bool,
    /// Key that may be loaded onto a keyring while IMA measures keys (`func=KEY_CHECK`): its certificate, DER or PEM.
    #[arg(long = "key", value_name = "KEYRING=FILE", value_parser = keyring_and_file)]
    keys: Vec<(String, PathBuf)>,
    /// Hash that IMA is told to use (`ima_hash=`).
    #[arg(long, value_enum, default_value_t)]
    hash: Hash,
    #[command(flatten)]
    set: SetArgs,
}

/// Hashes of IMA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Hash {
    /// SHA-256.
    #[default]
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

/// What was found in the tree.
struct Tree<'a> {
    args: &'a ImaArgs,
    alg: HashAlg,
    files: Vec<MeasuredFile>,
    bytes: u64,
    /// Whether what is walked now is of a package, to be found below /usr where its folders lead there.
    is_package: bool,
    progress: ProgressBar,
}

impl ImaArgs {
    pub(super) fn answer(&self) -> Result<Value, CommandError> {
        if let Some(path) = self.exclude.iter().find(|path| !path.starts_with('/') || path.as_str() == "/") {
            return Err(CommandError::Usage(format!("--exclude {path}: an absolute path, and not the whole machine")));
        }
        let (alg, name) = match self.hash {
            Hash::Sha256 => (HashAlg::Sha256, "sha256"),
            Hash::Sha384 => (HashAlg::Sha384, "sha384"),
            Hash::Sha512 => (HashAlg::Sha512, "sha512"),
        };
        let (files, bytes, mut artifacts) = self.measured(alg)?;
        let buffers = self.keys(alg, &mut artifacts)?;
        let mut parameters = vec![format!("hash {name}"), format!("all {}", self.all)];
        parameters.extend(self.exclude.iter().map(|path| format!("exclude {path}")));
        parameters.extend(buffers.iter().map(|key| format!("key of {} {}", key.name, key.digest)));
        let rows: Value =
            files.iter().map(|file| json!({"path": file.path, "digest": file.digest.to_string()})).collect();
        let mut document = json!({
            "measured": files.len(),
            "bytes": bytes,
            "file": rows,
            "key": buffers.iter().map(|key| json!({"keyring": key.name, "digest": key.digest.to_string()})).collect::<Value>(),
            "parameters": parameters,
            "artifacts": artifacts.document(),
        });
        let exclude = self.exclude.clone();
        let registers = Calculated::of_registers("ima", parameters, artifacts, Vec::new());
        let calculated = Calculated { files, buffers, exclude, ..registers };
        if let (Some(set), Some(fields)) = (self.set.write(calculated)?, document.as_object_mut()) {
            fields.insert("set".into(), set);
        }
        Ok(document)
    }
}

impl ImaArgs {
    /// Every file of the tree and of the packages, by path; how many bytes they have; and what they were read from.
    fn measured(&self, alg: HashAlg) -> Result<(Vec<MeasuredFile>, u64, Artifacts), CommandError> {
        let (files, progress, is_package) = (Vec::new(), spinner(), false);
        let mut tree = Tree { args: self, alg, files, bytes: 0, is_package, progress };
        let mut artifacts = Artifacts::default();
        if let Some(root) = &self.root {
            tree.walk(root, "", 0)?;
            tree.files.sort_by(|a, b| a.path.cmp(&b.path));
            // what `sha256sum` prints of these files, hashed: anybody can make it again
            let line = |file: &MeasuredFile| format!("{}  {}\n", file.digest.hex(), file.path);
            let listed: String = tree.files.iter().map(line).collect();
            artifacts.record("file tree", root, tree.bytes, Sha256Digest::of(listed.as_bytes()));
        }
        tree.is_package = true;
        for package in &self.packages {
            artifacts.hash("Debian package", package, &[])?;
            let unpacked = Unpacked::of(package)?;
            tree.walk(&unpacked.folder, "", 0)?;
        }
        tree.progress.finish_and_clear();
        let Tree { mut files, bytes, .. } = tree;
        if files.is_empty() {
            let read = self.root.iter().chain(&self.packages).map(|path| path.display().to_string());
            let read = read.collect::<Vec<_>>().join(", ");
            return Err(CommandError::Usage(format!("{read}: no file that IMA would measure")));
        }
        files.sort_by(|a, b| (&a.path, a.digest).cmp(&(&b.path, b.digest)));
        files.dedup();
        Ok((files, bytes, artifacts))
    }

    /// The kernel measures a key as it is given to the keyring: a certificate in DER
    /// (security/integrity/ima/ima_asymmetric_keys.c).
    fn keys(&self, alg: HashAlg, artifacts: &mut Artifacts) -> Result<Vec<MeasuredBuffer>, CommandError> {
        let mut measured = Vec::with_capacity(self.keys.len());
        for (keyring, file) in &self.keys {
            let failed = |why: &dyn std::fmt::Display| CommandError::Usage(format!("--key {}: {why}", file.display()));
            let bytes = read_file(file)?;
            let der = match bytes.first() {
                Some(0x30) => bytes,
                _ => CertificateDer::from_pem_slice(&bytes).map_err(|error| failed(&error))?.to_vec(),
            };
            Certificate::from_der(&der).map_err(|error| failed(&error))?;
            let size = u64::try_from(der.len()).unwrap_or(u64::MAX);
            artifacts.record("certificate", file, size, Sha256Digest::of(&der));
            measured.push(MeasuredBuffer { name: keyring.clone(), digest: alg.hash(&[&der]) });
        }
        Ok(measured)
    }
}

/// A package, unpacked into a folder that goes with it.
struct Unpacked {
    folder: PathBuf,
}

impl Unpacked {
    fn of(package: &Path) -> Result<Self, CommandError> {
        let failed = |why: String| CommandError::Usage(format!("--deb {}: {why}", package.display()));
        let name: [u8; 8] =
            random::bytes().map_err(|error| CommandError::fault("fault.randomness_unavailable", error))?;
        let folder = std::env::temp_dir().join(format!("verifier-{}", hex::encode(name)));
        DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .map_err(|error| failed(format!("{}: {error}", folder.display())))?;
        let unpacked = Self { folder };
        let ended = Command::new("dpkg-deb").arg("--extract").arg(package).arg(&unpacked.folder).output();
        let ended = ended.map_err(|error| failed(format!("dpkg-deb, which unpacks it, cannot be run: {error}")))?;
        if !ended.status.success() {
            return Err(failed(String::from_utf8_lossy(&ended.stderr).trim().to_owned()));
        }
        Ok(unpacked)
    }
}

impl Drop for Unpacked {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.folder) {
            tracing::warn!(folder = %self.folder.display(), %error, "not removed");
        }
    }
}

fn keyring_and_file(text: &str) -> Result<(String, PathBuf), String> {
    match text.split_once('=') {
        Some((keyring, file)) if !keyring.is_empty() && !keyring.starts_with('/') && !file.is_empty() => {
            Ok((keyring.to_owned(), file.into()))
        }
        _ => Err("KEYRING=FILE, such as .ima=key.der".to_owned()),
    }
}

impl Tree<'_> {
    /// Every file below `folder`, which the machine knows as `path`. Links are not followed: the kernel records where
    /// a file is, not by which way it was reached.
    fn walk(&mut self, folder: &Path, path: &str, depth: usize) -> Result<(), CommandError> {
        let failed = |error: std::io::Error| CommandError::Usage(format!("cannot read {}: {error}", folder.display()));
        if depth > DEPTH_CAP {
            return Err(CommandError::Usage(format!("{}: more than {DEPTH_CAP} folders deep", folder.display())));
        }
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let unspeakable = || CommandError::Usage(format!("{}: a name that is not UTF-8", entry.path().display()));
            let name = entry.file_name().into_string().map_err(|_| unspeakable())?;
            let path = self.found_at(format!("{path}/{name}"));
            let kind = entry.file_type().map_err(failed)?;
            if kind.is_dir() {
                if !self.is_excluded(&format!("{path}/")) {
                    self.walk(&entry.path(), &path, depth.saturating_add(1))?;
                }
            } else if kind.is_file() && !self.is_excluded(&path) {
                self.file(&entry.path(), path)?;
            }
        }
        Ok(())
    }

    /// Where a machine has a path of a package: with a merged /usr these folders are links into it.
    fn found_at(&self, path: String) -> String {
        let is_linked = matches!(path.as_str(), "/bin" | "/sbin" | "/lib" | "/lib32" | "/lib64" | "/libx32");
        if self.is_package && is_linked { format!("/usr{path}") } else { path }
    }

    fn is_excluded(&self, path: &str) -> bool {
        let covers =
            |excluded: &String| path == excluded || (excluded.ends_with('/') && path.starts_with(excluded.as_str()));
        self.args.exclude.iter().any(covers)
    }

    fn file(&mut self, file: &Path, path: String) -> Result<(), CommandError> {
        let failed = |error: std::io::Error| CommandError::Usage(format!("cannot read {}: {error}", file.display()));
        let metadata = std::fs::symlink_metadata(file).map_err(failed)?;
        if metadata.len() == 0
            || !(self.args.all || is_loaded(file, &path, metadata.permissions().mode()).map_err(failed)?)
        {
            return Ok(());
        }
        if self.files.len() >= FILES_CAP {
            let advice = "exclude what nobody executes";
            return Err(CommandError::Usage(format!("more than {FILES_CAP} files, too many for a set: {advice}")));
        }
        let mut read = Artifacts::default();
        let (_, digests) = read.hash("file", file, &[self.alg])?;
        let digest: Digest = digests.first().copied().ok_or_else(|| CommandError::fault("fault.bug", "no digest"))?;
        self.files.push(MeasuredFile { path, digest });
        self.bytes = self.bytes.saturating_add(metadata.len());
        self.progress.inc(1);
        Ok(())
    }
}

/// Whether a file is executed or loaded by what runs: an execute bit, an ELF file, a kernel module, firmware.
fn is_loaded(file: &Path, path: &str, mode: u32) -> std::io::Result<bool> {
    const MODULES: [&str; 4] = [".ko", ".ko.gz", ".ko.xz", ".ko.zst"];
    const FIRMWARE: [&str; 2] = ["/lib/firmware/", "/usr/lib/firmware/"];
    let by_name = MODULES.iter().any(|end| path.ends_with(end)) || FIRMWARE.iter().any(|start| path.starts_with(start));
    if mode & 0o111 != 0 || by_name {
        return Ok(true);
    }
    let mut start = Vec::new();
    File::open(file)?.take(4).read_to_end(&mut start)?;
    Ok(start == ELF)
}

fn spinner() -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let progress = ProgressBar::new_spinner().with_message("hashing files");
    progress.enable_steady_tick(Duration::from_millis(200));
    progress
}
