//! What of a TPM or TEE is on this machine, and why the rest is not used. For people: nothing depends on it.

use std::path::{Path, PathBuf};

use rustix::fs::{Access, access};
use rustix::io::Errno;
use serde_json::{Value, json};

use crate::config::{Config, ReportsSource, Tcti};

/// One thing that was looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub what: &'static str,
    /// Where it was looked for.
    pub path: PathBuf,
    /// Whether the configuration uses it.
    pub configured: bool,
    /// What was found.
    pub found: Found,
}

/// What was found of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There, and this user may use it.
    Usable,
    /// Not there.
    Absent,
    /// There, for others.
    NotPermitted,
    /// Something else was found, or it could not be looked at.
    Unusable(String),
}

#[derive(Clone, Copy)]
enum Form {
    /// Read and written.
    Device,
    /// Entries are made in it.
    Directory,
    /// Read.
    File,
}

/// Everything that is looked for, where Linux has it.
const USUAL: [(&str, &str, Form); 7] = [
    (TPM, "/dev/tpmrm0", Form::Device),
    (CONFIGFS, "/sys/kernel/config/tsm/report", Form::Directory),
    (SEV_GUEST, super::guest_device::PLACE, Form::Device),
    ("TDX guest device", "/dev/tdx_guest", Form::Device),
    (CCEL, "/sys/firmware/acpi/tables/data/CCEL", Form::File),
    (EVENT_LOG, "/sys/kernel/security/tpm0/binary_bios_measurements", Form::File),
    (IMA_LOG, "/sys/kernel/security/ima/ascii_runtime_measurements", Form::File),
];
const TPM: &str = "TPM device";
const CONFIGFS: &str = "report directory (configfs-tsm)";
const SEV_GUEST: &str = "SEV-SNP guest device";
const SIMULATOR: &str = "simulator's socket";
const CCEL: &str = "event log of a TD (CCEL)";
const EVENT_LOG: &str = "event log of the TPM";
const IMA_LOG: &str = "IMA log";

/// Looks for everything, at the configured places first. Nothing is opened or asked.
#[must_use]
pub fn look(config: &Config) -> Vec<Finding> {
    let configured = configured(config);
    let unconfigured = USUAL.into_iter().filter(|(what, ..)| configured.iter().all(|(named, ..)| named != what));
    let usual = unconfigured.map(|(what, path, form)| (what, PathBuf::from(path), form, false));
    let places = configured.iter().map(|(what, path, form)| (*what, path.clone(), *form, true)).chain(usual);
    places.map(|(what, path, form, configured)| Finding { what, found: at(&path, form), path, configured }).collect()
}

fn configured(config: &Config) -> Vec<(&'static str, PathBuf, Form)> {
    let mut places = Vec::new();
    if let Some(Tcti::Device(path)) = config.identity.tpm().map(|tpm| &tpm.tcti) {
        places.push((TPM, path.clone(), Form::Device));
    }
    if let Some((_, tee)) = config.identity.tee() {
        places.push(match &tee.reports {
            ReportsSource::Configfs(path) => (CONFIGFS, path.clone(), Form::Directory),
            ReportsSource::SevGuest => (SEV_GUEST, PathBuf::from(super::guest_device::PLACE), Form::Device),
            ReportsSource::Socket(path) => (SIMULATOR, path.clone(), Form::Device),
        });
        places.extend(tee.ccel.clone().map(|path| (CCEL, path, Form::File)));
    }
    places.extend(config.logs.event_log.clone().map(|path| (EVENT_LOG, path, Form::File)));
    places.extend(config.logs.ima_log.clone().map(|path| (IMA_LOG, path, Form::File)));
    places
}

fn at(path: &Path, form: Form) -> Found {
    let (right, directory) = match form {
        Form::Device => (Access::READ_OK | Access::WRITE_OK, false),
        Form::Directory => (Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK, true),
        Form::File => (Access::READ_OK, false),
    };
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() != directory => {
            Found::Unusable(if directory { "no directory" } else { "a directory" }.to_owned())
        }
        Ok(_) => of_errno(access(path, right).err()),
        Err(error) => match Errno::from_io_error(&error) {
            Some(errno) => of_errno(Some(errno)),
            None => Found::Unusable(error.to_string()),
        },
    }
}

fn of_errno(errno: Option<Errno>) -> Found {
    match errno {
        None => Found::Usable,
        Some(Errno::NOENT | Errno::NOTDIR) => Found::Absent,
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS) => Found::NotPermitted,
        Some(other) => Found::Unusable(other.to_string()),
    }
}

impl Finding {
    /// For `--format json`.
    #[must_use]
    pub fn to_json(&self) -> Value {
        let (found, why) = match &self.found {
            Found::Usable => ("usable", None),
            Found::Absent => ("absent", None),
            Found::NotPermitted => ("not-permitted", None),
            Found::Unusable(why) => ("unusable", Some(why)),
        };
        json!({
            "what": self.what,
            "path": self.path.display().to_string(),
            "configured": self.configured,
            "found": found,
            "why": why,
        })
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let use_of_it = match (&self.found, self.configured) {
            (Found::Usable, true) => "there, used".to_owned(),
            (Found::Usable, false) => "there; not used, because the configuration does not name it".to_owned(),
            (Found::Absent, true) => "not there, though the configuration names it".to_owned(),
            (Found::Absent, false) => "not there".to_owned(),
            (Found::NotPermitted, _) => "there, but this user may not use it".to_owned(),
            (Found::Unusable(why), _) => format!("not usable: {why}"),
        };
        write!(f, "{} {}: {use_of_it}", self.what, self.path.display())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_and_what_is_not_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ccel");
        std::fs::write(&file, b"log").unwrap();
        assert_eq!(at(&file, Form::File), Found::Usable);
        assert_eq!(at(&folder.path().join("none"), Form::File), Found::Absent);
        assert_eq!(at(&file.join("below"), Form::File), Found::Absent);
        assert_eq!(at(folder.path(), Form::Directory), Found::Usable);
        assert!(matches!(at(folder.path(), Form::Device), Found::Unusable(_)));
        assert!(matches!(at(&file, Form::Directory), Found::Unusable(_)));
        assert_eq!(of_errno(Some(Errno::ACCESS)), Found::NotPermitted);
    }
}
