//! A directory in the form of configfs-tsm (Linux ABI, configfs-tsm-report): an entry of our own for each report.
//!
//! An entry is made by mkdir, its attributes appear with it: `inblob` takes what the report shall cover, `outblob` has it
//! made. Any process with the right to write there may change any entry, so what was read is only taken when
//! `generation`, which counts the writes, says that nobody wrote meanwhile, and the report covers what was asked.

use std::fs::{DirBuilder, File};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::error::TeeError;
use super::reports::{
    CERTIFICATES_CAP_BYTES, MANIFEST_CAP_BYTES, REPORT_CAP_BYTES, REPORT_DATA_BYTES, RawReport, TeeReports,
};

/// Names of our entries begin so; then the process, then a number.
const PREFIX: &str = "attestd-";
/// Longest text attribute that is read.
const TEXT_CAP_BYTES: usize = 256;

/// A directory in the form of configfs-tsm.
#[derive(Debug)]
pub struct Configfs<D: Entries = Directory> {
    directory: D,
    privlevel: Option<u32>,
    /// `service_provider`: whose manifest the report shall cover, `svsm` for one.
    service_provider: Option<String>,
    cleared: bool,
    /// A request that is never made: nobody else has reason to touch it.
    standing: Option<Standing>,
}

/// The watch's own entry, as it was left.
#[derive(Debug)]
struct Standing {
    name: String,
    generation: u64,
    provider: String,
}

impl Configfs {
    /// Reports from `directory`, for this privilege level if one is configured.
    #[must_use]
    pub fn new(directory: PathBuf, privlevel: Option<u32>, service_provider: Option<String>) -> Self {
        Self { directory: Directory(directory), privlevel, service_provider, cleared: false, standing: None }
    }
}

/// What is done with the directory, so that tests can make things happen in between.
pub trait Entries: Send + 'static {
    /// Makes an entry.
    ///
    /// # Errors
    /// The system's.
    fn make(&self, entry: &str) -> io::Result<()>;
    /// Removes one.
    ///
    /// # Errors
    /// The system's.
    fn remove(&self, entry: &str) -> io::Result<()>;
    /// Names of all entries, anybody's.
    ///
    /// # Errors
    /// The system's.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Writes an attribute whole.
    ///
    /// # Errors
    /// The system's.
    fn write(&self, entry: &str, attribute: &str, bytes: &[u8]) -> io::Result<()>;
    /// Reads an attribute whole, at most `cap_bytes` and one more.
    ///
    /// # Errors
    /// The system's.
    fn read(&self, entry: &str, attribute: &str, cap_bytes: usize) -> io::Result<Vec<u8>>;
    /// Where it is, for messages.
    fn place(&self) -> String;
}

/// A directory of the file system.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Entries for Directory {
    fn make(&self, entry: &str) -> io::Result<()> {
        DirBuilder::new().create(self.0.join(entry))
    }

    fn remove(&self, entry: &str) -> io::Result<()> {
        // Attributes go with their entry; they cannot be removed one by one.
        std::fs::remove_dir(self.0.join(entry))
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.0)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn write(&self, entry: &str, attribute: &str, bytes: &[u8]) -> io::Result<()> {
        File::options().write(true).open(self.0.join(entry).join(attribute))?.write_all(bytes)
    }

    fn read(&self, entry: &str, attribute: &str, cap_bytes: usize) -> io::Result<Vec<u8>> {
        let limit = u64::try_from(cap_bytes).unwrap_or(u64::MAX).saturating_add(1);
        let mut bytes = Vec::new();
        File::open(self.0.join(entry).join(attribute))?.take(limit).read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    fn place(&self) -> String {
        self.0.display().to_string()
    }
}

/// One entry of ours, removed with this value.
struct Entry<'a, D: Entries> {
    directory: &'a D,
    name: String,
}

impl<D: Entries> Drop for Entry<'_, D> {
    fn drop(&mut self) {
        if self.name.is_empty() {
            return; // it was kept
        }
        if let Err(error) = self.directory.remove(&self.name) {
            tracing::warn!(%error, entry = self.name, "a request for a report stays behind until the next start");
        }
    }
}

impl<'a, D: Entries> Entry<'a, D> {
    fn make(directory: &'a D) -> Result<Self, TeeError> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}{}-{number}", std::process::id());
        let failed = |error: io::Error| TeeError::of_io("making an entry in", directory.place(), &error);
        match directory.make(&name) {
            // Left by a process that had our number.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                directory.remove(&name).and_then(|()| directory.make(&name)).map_err(failed)?;
            }
            made => made.map_err(failed)?,
        }
        Ok(Self { directory, name })
    }

    /// Leaves it where it is; its name is what there is to find it by.
    fn keep(mut self) -> String {
        std::mem::take(&mut self.name)
    }

    fn place(&self, attribute: &str) -> String {
        format!("{}/{}/{attribute}", self.directory.place(), self.name)
    }

    fn write(&self, attribute: &str, bytes: &[u8]) -> Result<(), TeeError> {
        let written = self.directory.write(&self.name, attribute, bytes);
        written.map_err(|error| {
            if error.kind() == io::ErrorKind::InvalidInput {
                return TeeError::Refused { why: format!("{attribute} does not take what was written: {error}") };
            }
            TeeError::of_io("writing", self.place(attribute), &error)
        })
    }

    fn read(&self, attribute: &'static str, cap_bytes: usize) -> Result<Vec<u8>, TeeError> {
        let read = self.directory.read(&self.name, attribute, cap_bytes);
        let bytes = read.map_err(|error| TeeError::of_io("reading", self.place(attribute), &error))?;
        if bytes.len() > cap_bytes { Err(TeeError::TooLarge { what: attribute, cap_bytes }) } else { Ok(bytes) }
    }

    /// An attribute that not every provider has; empty where there is none.
    fn read_if_there(&self, attribute: &'static str, cap_bytes: usize) -> Result<Vec<u8>, TeeError> {
        match self.directory.read(&self.name, attribute, cap_bytes) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            _ => self.read(attribute, cap_bytes),
        }
    }

    fn text(&self, attribute: &'static str) -> Result<String, TeeError> {
        let bytes = self.read(attribute, TEXT_CAP_BYTES)?;
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.trim_end().escape_debug().collect())
    }

    fn number(&self, attribute: &'static str) -> Result<u64, TeeError> {
        let text = self.text(attribute)?;
        text.parse().map_err(|_| TeeError::Malformed { what: attribute, why: format!("{text:?} is no number") })
    }

    fn set_privlevel(&self, privlevel: u32) -> Result<(), TeeError> {
        // TDX has neither: a level that is configured for it cannot be met.
        let floor = u32::try_from(self.number("privlevel_floor")?).unwrap_or(u32::MAX);
        if privlevel < floor {
            return Err(TeeError::BelowFloor { got: privlevel, floor });
        }
        self.write("privlevel", privlevel.to_string().as_bytes())
    }
}

impl<D: Entries> Configfs<D> {
    /// Removes what processes that are gone left: a killed daemon cannot clean up after itself.
    fn clear_leftovers(&mut self) {
        if std::mem::replace(&mut self.cleared, true) {
            return;
        }
        let names = match self.directory.names() {
            Ok(names) => names,
            Err(error) => {
                tracing::debug!(%error, "leftover requests for reports could not be listed");
                return;
            }
        };
        for name in names.into_iter().filter(|name| is_leftover(name)) {
            match self.directory.remove(&name) {
                Ok(()) => tracing::info!(entry = name, "a request for a report of an earlier process was removed"),
                Err(error) => tracing::warn!(%error, entry = name, "a leftover request for a report stays"),
            }
        }
    }
}

/// Ours, by a process that is no more.
fn is_leftover(name: &str) -> bool {
    let process = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(process, _)| process);
    let process = process.filter(|process| process.parse::<u32>().is_ok());
    process.is_some_and(|process| !Path::new("/proc").join(process).exists())
}

impl<D: Entries> TeeReports for Configfs<D> {
    fn report(&mut self, data: &[u8; REPORT_DATA_BYTES]) -> Result<RawReport, TeeError> {
        self.clear_leftovers();
        let entry = Entry::make(&self.directory)?;
        if let Some(privlevel) = self.privlevel {
            entry.set_privlevel(privlevel)?;
        }
        if let Some(service) = &self.service_provider {
            entry.write("service_provider", service.as_bytes())?;
        }
        entry.write("inblob", data)?;
        let before = entry.number("generation")?;
        let provider = entry.text("provider")?;
        let outblob = entry.read("outblob", REPORT_CAP_BYTES)?;
        let auxblob = entry.read_if_there("auxblob", CERTIFICATES_CAP_BYTES)?;
        let manifestblob = match &self.service_provider {
            Some(_) => entry.read("manifestblob", MANIFEST_CAP_BYTES)?,
            None => Vec::new(),
        };
        if entry.number("generation")? != before {
            return Err(TeeError::Raced);
        }
        Ok(RawReport { provider, outblob, auxblob, manifestblob })
    }

    /// Makes an entry, which the kernel does only with a provider (ENXIO), and looks at one that stays: its `generation`
    /// counts what others do to it. Whatever was found, the next look compares with what is there now.
    fn probe(&mut self) -> Result<(), TeeError> {
        self.clear_leftovers();
        let fresh = Entry::make(&self.directory)?;
        // Read from the entry just made: only of a provider that is there may its name be asked.
        let provider = fresh.text("provider")?;
        let Some(standing) = &mut self.standing else {
            let generation = fresh.number("generation")?;
            self.standing = Some(Standing { name: fresh.keep(), generation, provider });
            return Ok(());
        };
        let place = format!("{}/{}", self.directory.place(), standing.name);
        let before = std::mem::replace(&mut standing.provider, provider.clone());
        if before != provider {
            return Err(TeeError::Disturbed { place, why: format!("the provider is {provider:?}, was {before:?}") });
        }
        let kept = Entry { directory: &self.directory, name: standing.name.clone() };
        let generation = kept.number("generation");
        kept.keep();
        match generation {
            Ok(generation) if generation == standing.generation => Ok(()),
            Ok(generation) => {
                let before = std::mem::replace(&mut standing.generation, generation);
                let why = format!("its generation is {generation}, was left at {before}");
                Err(TeeError::Disturbed { place, why })
            }
            Err(TeeError::Lost { .. }) => {
                *standing = Standing { generation: fresh.number("generation")?, name: fresh.keep(), provider };
                Err(TeeError::Disturbed { place, why: "it was removed".to_owned() })
            }
            Err(error) => Err(error),
        }
    }
}

impl<D: Entries> Drop for Configfs<D> {
    fn drop(&mut self) {
        if let Some(Standing { name, .. }) = self.standing.take() {
            drop(Entry { directory: &self.directory, name });
        }
    }
}

#[cfg(test)]
#[path = "configfs_tests.rs"]
mod tests;
