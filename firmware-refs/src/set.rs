//! A reference value set that means something: read, checked as a whole, and
//! indexed for comparison. A set that could match by omission is refused here.

pub mod snp;
pub mod tdx;
pub mod tpm;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use evidence::{
    EvidenceKind,
    cbor::{self, Caps, CborError},
    digest::{Digest, HashAlg, Sha256Digest},
    names::{DomainName, ItemName},
    time::UnixSeconds,
};

pub(crate) use self::tpm::KnownTpms;
pub use self::tpm::{ImaFiles, TpmReferences};
use self::{snp::SnpReferences, tdx::TdxReferences};
use crate::denial::some;
use crate::document::{Accepted, SET_CAP_BYTES, SetDocument};
use crate::text::Text;

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
    references: References,
}

/// Reference values by the kind of machine that the set is for. A set is for one kind: what a vTPM and its TEE say
/// together, neither says alone.
#[derive(Clone, Debug)]
enum References {
    Tpm(TpmReferences),
    SevSnp(Box<SnpReferences>),
    Tdx(Box<TdxReferences>),
    TpmOnSevSnp(TpmReferences, Box<SnpReferences>),
    TpmOnTdx(TpmReferences, Box<TdxReferences>),
}

/// Which machines a set is for, indexed.
#[derive(Clone, Debug)]
pub(crate) enum Machines<T> {
    /// Every one.
    Any,
    /// These.
    Listed(HashSet<T>),
}

/// The events that one register's log must and may hold.
#[derive(Clone, Debug, Default)]
pub(crate) struct RegisterEvents {
    pub(crate) events: Vec<KnownEvent>,
    /// Position in `events` of every accepted digest.
    pub(crate) by_digest: HashMap<Digest, usize, BuildHasherDefault<OwnHash>>,
    /// Positions of those that must occur, ascending.
    pub(crate) required: Vec<usize>,
    /// The first few of `by_digest`, for denials: there may be a hundred thousand.
    pub(crate) some: Vec<Digest>,
}

/// One event that a register's log must or may hold.
#[derive(Clone, Debug)]
pub(crate) struct KnownEvent {
    pub(crate) kind: Text,
    pub(crate) description: Text,
    pub(crate) accept: Vec<Digest>,
    pub(crate) optional: bool,
}

impl KnownEvent {
    fn new(kind: &Text, description: &Text, accept: &[Accepted], optional: bool) -> Self {
        let accept = accept.iter().map(|accepted| accepted.digest).collect();
        Self { kind: kind.clone(), description: description.clone(), accept, optional }
    }
}

/// A digest in a table is hashed already: its first bytes will do. Whoever chooses what is looked up does not choose what
/// the table holds, which the policy authority signed.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OwnHash(u64);

impl Hasher for OwnHash {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let first = bytes.iter().take(8).fold(0, |all: u64, byte| all.rotate_left(8) ^ u64::from(*byte));
        self.0 = self.0.rotate_left(8) ^ first;
    }
}

impl RegisterEvents {
    fn add(&mut self, event: KnownEvent) {
        let position = self.events.len();
        self.by_digest.extend(event.accept.iter().map(|digest| (*digest, position)));
        self.required.extend((!event.optional).then_some(position));
        self.some = some(self.some.iter().chain(&event.accept).copied());
        self.events.push(event);
    }
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
        problems.sections(&document);
        problems.derivations(&document);
        let references = References::index(&document);
        let (Some(references), true) = (references, problems.0.is_empty()) else {
            return Err(SetError::Unusable(problems.0));
        };
        let digest = Sha256Digest::of(&cbor::to_vec(&document)?);
        Ok(Self { document, digest, references })
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

    /// The kind of machine that it is for.
    #[must_use]
    pub const fn kind(&self) -> EvidenceKind {
        match &self.references {
            References::Tpm(_) => EvidenceKind::Tpm,
            References::SevSnp(_) => EvidenceKind::SevSnp,
            References::Tdx(_) => EvidenceKind::Tdx,
            References::TpmOnSevSnp(..) => EvidenceKind::TpmOnSevSnp,
            References::TpmOnTdx(..) => EvidenceKind::TpmOnTdx,
        }
    }

    /// Its values for a TPM, if its kind has one.
    #[must_use]
    pub const fn tpm(&self) -> Option<&TpmReferences> {
        match &self.references {
            References::Tpm(tpm) | References::TpmOnSevSnp(tpm, _) | References::TpmOnTdx(tpm, _) => Some(tpm),
            References::SevSnp(_) | References::Tdx(_) => None,
        }
    }

    /// Its values for an SNP guest, if its kind is one.
    #[must_use]
    pub const fn snp(&self) -> Option<&SnpReferences> {
        match &self.references {
            References::SevSnp(snp) | References::TpmOnSevSnp(_, snp) => Some(snp),
            References::Tpm(_) | References::Tdx(_) | References::TpmOnTdx(..) => None,
        }
    }

    /// Its values for a trust domain, if its kind is one.
    #[must_use]
    pub const fn tdx(&self) -> Option<&TdxReferences> {
        match &self.references {
            References::Tdx(tdx) | References::TpmOnTdx(_, tdx) => Some(tdx),
            References::Tpm(_) | References::SevSnp(_) | References::TpmOnSevSnp(..) => None,
        }
    }
}

impl References {
    /// By the sections that stand together; `None` where they name no kind of machine.
    fn index(document: &SetDocument) -> Option<Self> {
        match (&document.tpm, &document.snp, &document.tdx) {
            (Some(tpm), None, None) => Some(Self::Tpm(TpmReferences::index(tpm))),
            (None, Some(snp), None) => Some(Self::SevSnp(Box::new(SnpReferences::index(snp)))),
            (None, None, Some(tdx)) => Some(Self::Tdx(Box::new(TdxReferences::index(tdx)))),
            (Some(tpm), Some(snp), None) => {
                Some(Self::TpmOnSevSnp(TpmReferences::index(tpm), Box::new(SnpReferences::index(snp))))
            }
            (Some(tpm), None, Some(tdx)) => {
                Some(Self::TpmOnTdx(TpmReferences::index(tpm), Box::new(TdxReferences::index(tdx))))
            }
            (None, None, None) | (_, Some(_), Some(_)) => None,
        }
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
        let tags: BTreeSet<&Text> = set.tag.iter().map(|tag| &tag.id).collect();
        self.unless(tags.len() == set.tag.len(), "tag", "one entry for each id");
    }

    fn sections(&mut self, set: &SetDocument) {
        if let Some(tpm) = &set.tpm {
            self.tpm(tpm);
        }
        if let Some(snp) = &set.snp {
            self.snp(snp);
        }
        if let Some(tdx) = &set.tdx {
            self.tdx(tdx);
        }
        let any = set.tpm.is_some() || set.snp.is_some() || set.tdx.is_some();
        self.unless(any, "tpm", "the set has values for no kind of evidence: it would match nothing");
        let one = set.snp.is_none() || set.tdx.is_none();
        self.unless(one, "tdx", "a machine is an SNP guest or a trust domain: write a set for each");
    }

    /// Values name calculations that are written down, and every calculation has a value.
    fn derivations(&mut self, set: &SetDocument) {
        let mut unused = BTreeSet::new();
        for derivation in &set.derivation {
            let at = format!("derivation[{}]", derivation.id);
            self.unless(unused.insert(&derivation.id), at.as_str(), "one entry for each id");
            self.unless(!derivation.artifact.is_empty(), at.as_str(), "say which artifacts were read");
        }
        let known = unused.clone();
        for named in set.accepted().filter_map(|accepted| accepted.from.as_ref()) {
            self.unless(known.contains(named), format!("derivation[{named}]"), "a value names it, it is not there");
            unused.remove(named);
        }
        for id in unused {
            self.add(format!("derivation[{id}]"), "no value comes from it");
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

    /// Digests of 32 or 48 bytes that some register must have.
    fn register(&mut self, at: &str, accept: &[Accepted], alg: HashAlg) {
        self.unless(!accept.is_empty(), at, "an empty list accepts nothing");
        for value in accept {
            self.unless(value.digest.alg() == alg, at, "a value of another length never matches");
            self.unless(!value.source.as_str().is_empty(), at, "say where the value comes from");
        }
    }
}

fn digests(accept: &[Accepted]) -> BTreeSet<Digest> {
    accept.iter().map(|accepted| accepted.digest).collect()
}
