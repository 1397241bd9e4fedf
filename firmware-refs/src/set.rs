//! A reference value set that means something: read, checked as a whole, and
//! indexed for comparison. A set that could match by omission is refused here.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use evidence::{
    cbor::{self, Caps, CborError},
    digest::{Digest, HashAlg, Sha256Digest},
    names::{DomainName, ItemName},
    time::UnixSeconds,
};

use crate::document::{
    Accepted, EventReference, FirmwareDeny, ImaReferences, MakerName, Platforms, SET_CAP_BYTES, SetDocument,
    TpmDocument,
};
use crate::text::FirmwareVersion;

/// PCRs that may be references. 16 and 23 are resettable at will, 17 to 22 by
/// locality (TCG PC Client PTP §3.2.4): none of them is evidence without a DRTM
/// policy (APPRAISAL.md T11).
pub const EVIDENCE_PCRS: std::ops::RangeInclusive<u8> = 0..=15;

/// The PCR that IMA extends.
pub const IMA_PCR: u8 = 10;

/// Most CBOR items of a signed set.
const ITEMS_CAP: usize = 400_000;

/// Why bytes or text are not a reference value set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    /// Longer than the cap.
    #[error("reference value set of {got_bytes} bytes, at most {SET_CAP_BYTES} allowed")]
    TooLong {
        /// Length received.
        got_bytes: usize,
    },
    /// The TOML does not read; the message holds line and column.
    #[error("{0}")]
    Toml(String),
    /// The CBOR does not read.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// It reads, and means nothing or too much.
    #[error("reference value set is not usable:\n{}", lines(.0))]
    Unusable(Vec<Problem>),
}

/// One thing wrong with a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Where, as a path of the authored form (`tpm.pcr[4]`).
    pub at: String,
    /// What.
    pub what: String,
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(|p| format!("  {}: {}", p.at, p.what)).collect::<Vec<_>>().join("\n")
}

/// A reference value set, checked and indexed. Whether anyone signed it is said by [`crate::signed::SignedSet`].
#[derive(Clone, Debug)]
pub struct ReferenceValueSet {
    document: SetDocument,
    digest: Sha256Digest,
    tpm: TpmReferences,
}

/// Reference values for TPM evidence, indexed.
#[derive(Clone, Debug)]
pub struct TpmReferences {
    pub(crate) bank: HashAlg,
    pub(crate) pcrs: Vec<u8>,
    pub(crate) require_event_log: bool,
    pub(crate) require_ima_log: bool,
    pub(crate) platforms: Platforms,
    pub(crate) floors: BTreeMap<MakerName, FirmwareVersion>,
    pub(crate) deny: Vec<FirmwareDeny>,
    pub(crate) values: BTreeMap<u8, HashSet<Digest>>,
    pub(crate) events: BTreeMap<u8, PcrEvents>,
    pub(crate) ima: Option<ImaFiles>,
}

/// The events that one PCR's log must and may hold.
#[derive(Clone, Debug)]
pub struct PcrEvents {
    pub(crate) references: Vec<EventReference>,
    /// Position in `references` of every accepted digest.
    pub(crate) by_digest: HashMap<Digest, usize>,
}

/// The files that IMA may measure.
#[derive(Clone, Debug)]
pub struct ImaFiles {
    pub(crate) excluded_files: HashSet<String>,
    pub(crate) excluded_directories: Vec<String>,
    pub(crate) accepted: HashMap<String, HashSet<Digest>>,
}

impl ReferenceValueSet {
    /// Reads the authored form.
    ///
    /// # Errors
    /// [`SetError`], with line and column where the text does not read.
    pub fn from_toml(text: &str) -> Result<Self, SetError> {
        if text.len() > SET_CAP_BYTES {
            return Err(SetError::TooLong { got_bytes: text.len() });
        }
        let document: SetDocument = toml::from_str(text).map_err(|e| SetError::Toml(e.to_string()))?;
        Self::from_document(document)
    }

    /// Reads the signed form.
    ///
    /// # Errors
    /// [`SetError`].
    pub fn from_cbor(payload: &[u8]) -> Result<Self, SetError> {
        let document: SetDocument = cbor::from_slice(payload, Caps::bytes(SET_CAP_BYTES).items(ITEMS_CAP))?;
        Self::from_document(document)
    }

    /// Checks a document as a whole and indexes it.
    ///
    /// # Errors
    /// [`SetError::Unusable`] with every problem found.
    pub fn from_document(document: SetDocument) -> Result<Self, SetError> {
        let mut problems = Problems::default();
        problems.header(&document);
        let Some(tpm) = &document.tpm else {
            problems.add("tpm", "the set has values for no kind of evidence: it would match nothing");
            return Err(SetError::Unusable(problems.0));
        };
        problems.tpm(tpm);
        if !problems.0.is_empty() {
            return Err(SetError::Unusable(problems.0));
        }
        let tpm = TpmReferences::index(tpm);
        let digest = Sha256Digest::of(&cbor::to_vec(&document)?);
        Ok(Self { document, digest, tpm })
    }

    /// The signed form: deterministic CBOR.
    ///
    /// # Errors
    /// [`CborError`] when it cannot be written.
    pub fn to_cbor(&self) -> Result<Vec<u8>, CborError> {
        cbor::to_vec(&self.document)
    }

    /// The authored form.
    ///
    /// # Errors
    /// [`SetError::Toml`] when it cannot be written.
    pub fn to_toml(&self) -> Result<String, SetError> {
        toml::to_string(&self.document).map_err(|e| SetError::Toml(e.to_string()))
    }

    /// As written.
    #[must_use]
    pub fn document(&self) -> &SetDocument {
        &self.document
    }

    /// Name.
    #[must_use]
    pub fn id(&self) -> &ItemName {
        &self.document.id
    }

    /// Version.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.document.version
    }

    /// Whose set it is.
    #[must_use]
    pub fn domain(&self) -> &DomainName {
        &self.document.domain
    }

    /// SHA-256 of its signed form.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// First moment at which it matches anything.
    #[must_use]
    pub fn not_before(&self) -> UnixSeconds {
        self.document.not_before.at()
    }

    /// First moment at which it no longer does.
    #[must_use]
    pub fn not_after(&self) -> UnixSeconds {
        self.document.not_after.at()
    }

    /// Its values for TPM evidence.
    #[must_use]
    pub fn tpm(&self) -> &TpmReferences {
        &self.tpm
    }
}

impl TpmReferences {
    fn index(tpm: &TpmDocument) -> Self {
        let mut events: BTreeMap<u8, PcrEvents> = BTreeMap::new();
        for reference in &tpm.event {
            let of = events
                .entry(reference.pcr)
                .or_insert_with(|| PcrEvents { references: Vec::new(), by_digest: HashMap::new() });
            let position = of.references.len();
            of.by_digest.extend(reference.accept.iter().map(|a| (a.digest, position)));
            of.references.push(reference.clone());
        }
        let digests = |accept: &[Accepted]| accept.iter().map(|a| a.digest).collect::<HashSet<_>>();
        Self {
            bank: tpm.bank,
            pcrs: tpm.pcrs.clone(),
            require_event_log: tpm.require_event_log,
            require_ima_log: tpm.require_ima_log,
            platforms: tpm.platforms.clone(),
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
        let mut accepted: HashMap<String, HashSet<Digest>> = HashMap::new();
        for file in &ima.file {
            accepted.entry(file.path.clone()).or_default().extend(file.accept.iter().map(|a| a.digest));
        }
        Self { excluded_files: files.into_iter().collect(), excluded_directories: directories, accepted }
    }

    pub(crate) fn excludes(&self, path: &str) -> bool {
        self.excluded_files.contains(path) || self.excluded_directories.iter().any(|d| path.starts_with(d.as_str()))
    }
}

/// Collects every problem, so that an author mends a set in one go.
#[derive(Default)]
struct Problems(Vec<Problem>);

impl Problems {
    fn add(&mut self, at: impl Into<String>, what: impl Into<String>) {
        self.0.push(Problem { at: at.into(), what: what.into() });
    }

    fn unless(&mut self, fine: bool, at: impl Into<String>, what: &str) {
        if !fine {
            self.add(at, what);
        }
    }

    fn header(&mut self, set: &SetDocument) {
        self.unless(set.version > 0, "version", "versions start at 1");
        self.unless(set.not_before < set.not_after, "not_after", "the set ends before it begins");
        self.unless(set.issued_at < set.not_after, "issued_at", "the set was over when it was written");
        self.unless(!set.reason.as_str().is_empty(), "reason", "say why this version exists");
    }

    fn tpm(&mut self, tpm: &TpmDocument) {
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

    fn accept(&mut self, at: &str, accept: &[Accepted], bank: Option<HashAlg>) {
        self.unless(!accept.is_empty(), at, "an empty list accepts nothing");
        for value in accept {
            let fits = bank.is_none_or(|bank| value.digest.alg() == bank);
            self.unless(fits, at, "a digest of another bank never matches");
            self.unless(!value.source.as_str().is_empty(), at, "say where the digest comes from");
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
    }
}
