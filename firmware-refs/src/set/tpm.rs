//! Reference values for TPM evidence: checked as a whole, and indexed.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use evidence::digest::{Digest, HashAlg, Sha256Digest};

use super::{EVIDENCE_PCRS, IMA_PCR, KnownEvent, Problems, RegisterEvents};
use crate::document::{Accepted, FirmwareDeny, ImaReferences, MakerName, Platforms, TpmDocument};
use crate::text::{FirmwareVersion, KeyName};

/// Reference values for TPM evidence, indexed.
#[derive(Clone, Debug)]
pub struct TpmReferences {
    pub(crate) bank: HashAlg,
    pub(crate) pcrs: Vec<u8>,
    pub(crate) require_event_log: bool,
    pub(crate) require_ima_log: bool,
    pub(crate) platforms: KnownTpms,
    pub(crate) floors: BTreeMap<MakerName, FirmwareVersion>,
    pub(crate) deny: Vec<FirmwareDeny>,
    pub(crate) values: BTreeMap<u8, BTreeSet<Digest>>,
    pub(crate) events: BTreeMap<u8, RegisterEvents>,
    pub(crate) ima: Option<ImaFiles>,
}

/// Which TPMs, indexed.
#[derive(Clone, Debug)]
pub(crate) enum KnownTpms {
    /// Every enrolled one.
    Enrolled,
    /// Those with one of these keys, and where AKs are listed with one of these too.
    Listed { ek: HashSet<Sha256Digest>, ak: Option<HashSet<KeyName>> },
}

impl KnownTpms {
    fn index(platforms: &Platforms) -> Self {
        match platforms {
            Platforms::Enrolled => Self::Enrolled,
            Platforms::Listed { ek, ak } => Self::Listed {
                ek: ek.iter().copied().collect(),
                ak: ak.as_ref().map(|ak| ak.iter().cloned().collect()),
            },
        }
    }
}

/// The files that IMA may measure.
#[derive(Clone, Debug)]
pub struct ImaFiles {
    pub(crate) excluded_files: HashSet<String>,
    pub(crate) excluded_directories: Vec<String>,
    pub(crate) accepted: HashMap<String, HashSet<Digest>>,
    pub(crate) buffers: HashMap<String, HashSet<Digest>>,
}

impl TpmReferences {
    pub(super) fn index(tpm: &TpmDocument) -> Self {
        let mut events: BTreeMap<u8, RegisterEvents> = BTreeMap::new();
        for event in &tpm.event {
            let known = KnownEvent::new(&event.kind, &event.description, &event.accept, event.optional);
            events.entry(event.pcr).or_default().add(known);
        }
        let digests = |accept: &[Accepted]| accept.iter().map(|a| a.digest).collect::<BTreeSet<_>>();
        Self {
            bank: tpm.bank,
            pcrs: tpm.pcrs.clone(),
            require_event_log: tpm.require_event_log,
            require_ima_log: tpm.require_ima_log,
            platforms: KnownTpms::index(&tpm.platforms),
            floors: tpm.firmware.iter().map(|f| (f.manufacturer, f.floor)).collect(),
            deny: tpm.deny.clone(),
            values: tpm.pcr.iter().map(|p| (p.index, digests(&p.accept))).collect(),
            events,
            ima: tpm.ima.as_ref().map(ImaFiles::index),
        }
    }

    /// PCRs that are quoted, ascending.
    #[must_use]
    pub fn pcrs(&self) -> &[u8] {
        &self.pcrs
    }

    /// Bank that is quoted.
    #[must_use]
    pub fn bank(&self) -> HashAlg {
        self.bank
    }
}

impl ImaFiles {
    fn index(ima: &ImaReferences) -> Self {
        let (directories, files): (Vec<_>, Vec<_>) = ima.exclude.iter().cloned().partition(|path| path.ends_with('/'));
        Self {
            excluded_files: files.into_iter().collect(),
            excluded_directories: directories,
            accepted: by_name(ima.file.iter().map(|file| (&file.path, &file.accept))),
            buffers: by_name(ima.buffer.iter().map(|buffer| (&buffer.name, &buffer.accept))),
        }
    }

    pub(crate) fn excludes(&self, path: &str) -> bool {
        self.excluded_files.contains(path) || self.excluded_directories.iter().any(|d| path.starts_with(d.as_str()))
    }
}

fn by_name<'a>(all: impl Iterator<Item = (&'a String, &'a Vec<Accepted>)>) -> HashMap<String, HashSet<Digest>> {
    let mut out: HashMap<String, HashSet<Digest>> = HashMap::new();
    for (name, accept) in all {
        out.entry(name.clone()).or_default().extend(accept.iter().map(|a| a.digest));
    }
    out
}

impl Problems {
    pub(super) fn tpm(&mut self, tpm: &TpmDocument) {
        let strong = matches!(tpm.bank, HashAlg::Sha256 | HashAlg::Sha384);
        self.unless(strong, "tpm.bank", "only sha256 and sha384 banks are quoted");
        self.unless(!tpm.pcrs.is_empty(), "tpm.pcrs", "no PCR is required");
        self.unless(tpm.pcrs.is_sorted_by(|a, b| a < b), "tpm.pcrs", "PCRs are listed once each, ascending");
        for pcr in tpm.pcrs.iter().filter(|pcr| !EVIDENCE_PCRS.contains(pcr)) {
            self.add("tpm.pcrs", format!("PCR {pcr} can be reset and is not evidence"));
        }
        self.platforms(&tpm.platforms);
        self.firmware(tpm);
        self.values(tpm);
        self.events(tpm);
        self.ima(tpm);
        for pcr in &tpm.pcrs {
            let by_value = tpm.pcr.iter().any(|p| p.index == *pcr);
            let by_log = tpm.event.iter().any(|e| e.pcr == *pcr) || (*pcr == IMA_PCR && tpm.ima.is_some());
            self.unless(by_value || by_log, format!("tpm.pcrs[{pcr}]"), "nothing says which values are known");
        }
    }

    fn platforms(&mut self, platforms: &Platforms) {
        match platforms {
            Platforms::Enrolled => {}
            Platforms::Listed { ek, ak } => {
                self.unless(!ek.is_empty(), "tpm.platforms.ek", "an empty list accepts nothing");
                let ak_fine = ak.as_ref().is_none_or(|ak| !ak.is_empty());
                self.unless(ak_fine, "tpm.platforms.ak", "an empty list accepts nothing");
            }
        }
    }

    fn firmware(&mut self, tpm: &TpmDocument) {
        self.unless(!tpm.firmware.is_empty(), "tpm.firmware", "no TPM manufacturer is accepted");
        let makers: BTreeSet<_> = tpm.firmware.iter().map(|f| f.manufacturer).collect();
        self.unless(makers.len() == tpm.firmware.len(), "tpm.firmware", "one floor for each manufacturer");
        for deny in &tpm.deny {
            self.unless(deny.from <= deny.to, format!("tpm.deny {}", deny.advisory), "the range of versions is empty");
        }
    }

    fn values(&mut self, tpm: &TpmDocument) {
        let mut seen = BTreeSet::new();
        for pcr in &tpm.pcr {
            let at = format!("tpm.pcr[{}]", pcr.index);
            self.unless(tpm.pcrs.contains(&pcr.index), at.as_str(), "the PCR is not among tpm.pcrs");
            self.unless(seen.insert(pcr.index), at.as_str(), "the PCR stands twice");
            self.accept(&at, &pcr.accept, Some(tpm.bank));
        }
    }

    fn events(&mut self, tpm: &TpmDocument) {
        let mut seen = HashSet::new();
        for event in &tpm.event {
            let at = format!("tpm.event[PCR {} {}]", event.pcr, event.description);
            self.unless(tpm.require_event_log, at.as_str(), "events need require_event_log = true");
            self.unless(tpm.pcrs.contains(&event.pcr), at.as_str(), "the PCR is not among tpm.pcrs");
            self.accept(&at, &event.accept, Some(tpm.bank));
            for value in &event.accept {
                let first = seen.insert((event.pcr, value.digest));
                self.unless(first, at.as_str(), "a digest stands in two events of one PCR");
            }
        }
        for pcr in tpm.event.iter().map(|e| e.pcr).collect::<BTreeSet<_>>() {
            let required = tpm.event.iter().any(|e| e.pcr == pcr && !e.optional);
            self.unless(required, format!("tpm.event[PCR {pcr}]"), "every event is optional: an empty log would match");
        }
    }

    fn ima(&mut self, tpm: &TpmDocument) {
        let Some(ima) = &tpm.ima else {
            self.unless(!tpm.require_ima_log, "tpm.ima", "require_ima_log = true needs files to compare with");
            return;
        };
        self.unless(tpm.require_ima_log, "tpm.ima", "files need require_ima_log = true");
        self.unless(tpm.pcrs.contains(&IMA_PCR), "tpm.ima", "IMA measures into PCR 10, which is not among tpm.pcrs");
        self.unless(!ima.file.is_empty(), "tpm.ima.file", "an empty list accepts nothing");
        for path in &ima.exclude {
            let fine = path.starts_with('/') && path != "/";
            self.unless(fine, format!("tpm.ima.exclude {path:?}"), "an absolute path, or a directory ending in '/'");
        }
        for file in &ima.file {
            let at = format!("tpm.ima.file[{:?}]", file.path);
            self.unless(file.path.starts_with('/'), at.as_str(), "an absolute path");
            self.accept(&at, &file.accept, None);
        }
        for buffer in &ima.buffer {
            let at = format!("tpm.ima.buffer[{:?}]", buffer.name);
            let fine = !buffer.name.is_empty() && !buffer.name.starts_with('/');
            self.unless(fine, at.as_str(), "a name as IMA records it, and no path");
            self.accept(&at, &buffer.accept, None);
        }
    }
}
