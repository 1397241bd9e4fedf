//! A proposal for a set, captured from a machine. It is a draft for people to
//! read and sign: a machine that was already wrong would be captured wrong.

use std::collections::{BTreeMap, BTreeSet};

use evidence::{
    digest::Digest,
    event_log::{DataBinding, Event},
    names::{DomainName, ItemName},
    time::UnixSeconds,
};

use crate::document::{
    Accepted, EventReference, FirmwareFloor, ImaFile, ImaReferences, PcrReference, Platforms, SetDocument, TpmDocument,
};
use crate::observed::ObservedTpm;
use crate::set::{EVIDENCE_PCRS, IMA_PCR, ReferenceValueSet, SetError};
use crate::text::{Moment, Text};

/// What a captured set is called, and how long it is to hold.
#[derive(Clone, Debug)]
pub struct CaptureHeader {
    /// Name of the set.
    pub id: ItemName,
    /// Its version.
    pub version: u64,
    /// Domain that will sign it.
    pub domain: DomainName,
    /// What the values are for.
    pub environment: ItemName,
    /// Where they were captured: the node's id.
    pub node: String,
    /// When.
    pub now: UnixSeconds,
    /// How long they are to hold, in seconds.
    pub lifetime_s: u64,
}

/// A proposed set. Its sources say for every value whether it could be derived from what was measured
/// (`derived`), or was only seen (`observed`): look at the latter first.
#[derive(Clone, Debug)]
pub struct Capture {
    set: ReferenceValueSet,
    observed_only: usize,
}

impl Capture {
    /// The proposed set.
    #[must_use]
    pub fn set(&self) -> &ReferenceValueSet {
        &self.set
    }

    /// How many values were only seen.
    #[must_use]
    pub fn observed_only(&self) -> usize {
        self.observed_only
    }

    /// The proposal as TOML, with a word to its reader.
    ///
    /// # Errors
    /// [`SetError::Toml`] when it cannot be written.
    pub fn to_toml(&self) -> Result<String, SetError> {
        let body = self.set.to_toml()?;
        let document = self.set.document();
        Ok(format!(
            "# {}\n# {} of its values were only observed (source \"observed ...\"): nothing but this machine vouches\n\
             # for them. Compare them with what you meant to install, then sign and stage the set.\n\n{body}",
            document.reason, self.observed_only
        ))
    }
}

/// Proposes a set that knows exactly this machine.
///
/// # Errors
/// [`SetError::Unusable`] when no usable set can be made of what was observed.
pub fn capture(observed: &ObservedTpm<'_>, header: CaptureHeader) -> Result<Capture, SetError> {
    let mut draft = Draft { observed, node: header.node.clone(), observed_only: 0 };
    let pcrs: Vec<u8> = observed.pcrs.iter().map(|(pcr, _)| *pcr).filter(|pcr| EVIDENCE_PCRS.contains(pcr)).collect();
    let event = draft.events(&pcrs);
    let by_log: BTreeSet<u8> = event.iter().map(|e| e.pcr).collect();
    let ima = draft.files();
    let ima_judges = ima.is_some();
    let pcr = pcrs.iter().filter(|pcr| **pcr != IMA_PCR || !ima_judges).map(|pcr| draft.register(*pcr)).collect();
    let firmware = vec![FirmwareFloor {
        manufacturer: observed.manufacturer,
        floor: observed.firmware,
        source: Text::lossy(&format!("observed on {}", header.node)),
    }];
    let tpm = TpmDocument {
        bank: observed.bank,
        pcrs,
        require_event_log: !by_log.is_empty(),
        require_ima_log: ima_judges,
        platforms: Platforms::Enrolled,
        firmware,
        deny: Vec::new(),
        pcr,
        event,
        ima,
    };
    let document = SetDocument {
        id: header.id,
        version: header.version,
        domain: header.domain,
        environment: header.environment,
        issued_at: Moment::from(header.now),
        not_before: Moment::from(header.now),
        not_after: Moment::from(header.now.plus(header.lifetime_s)),
        reason: Text::lossy(&format!("captured from node {}", header.node)),
        tpm: Some(tpm),
    };
    Ok(Capture { observed_only: draft.observed_only, set: ReferenceValueSet::from_document(document)? })
}

struct Draft<'d, 'a> {
    observed: &'d ObservedTpm<'a>,
    node: String,
    observed_only: usize,
}

impl Draft<'_, '_> {
    fn accepted(&mut self, digest: Digest, derived: Option<&str>) -> Vec<Accepted> {
        let source = match derived {
            Some(how) => format!("derived {how}, on {}", self.node),
            None => {
                self.observed_only = self.observed_only.saturating_add(1);
                format!("observed on {}", self.node)
            }
        };
        vec![Accepted { digest, source: Text::lossy(&source) }]
    }

    fn register(&mut self, pcr: u8) -> PcrReference {
        let value = self.observed.pcr(pcr).unwrap_or(Digest::zero(self.observed.bank));
        let proven = self.observed.event_log.is_some_and(|log| log.proven.contains(pcr));
        PcrReference { index: pcr, accept: self.accepted(value, proven.then_some("by replay of the event log")) }
    }

    /// Every event of the registers that the log explains, once for each digest.
    fn events(&mut self, pcrs: &[u8]) -> Vec<EventReference> {
        let Some(observed) = self.observed.event_log else { return Vec::new() };
        let mut seen = BTreeSet::new();
        let mut references = Vec::new();
        for pcr in pcrs.iter().filter(|pcr| observed.proven.contains(**pcr)) {
            for (event, digest) in observed.log.measured(*pcr, self.observed.bank) {
                if seen.insert((*pcr, digest)) {
                    references.push(EventReference {
                        pcr: *pcr,
                        kind: Text::lossy(&event.kind().to_string()),
                        description: Text::lossy(&event.description()),
                        accept: self.accepted(digest, derivation(event, digest)),
                        optional: false,
                    });
                }
            }
        }
        references
    }

    fn files(&mut self) -> Option<ImaReferences> {
        let entries = self.observed.files?;
        let mut files: BTreeMap<String, BTreeSet<Digest>> = BTreeMap::new();
        for entry in entries.iter().filter(|entry| !entry.is_boot_aggregate()) {
            let path = std::str::from_utf8(entry.path()).ok().filter(|path| path.starts_with('/'));
            if let (Some(path), Some(digest)) = (path, entry.known_file_digest()) {
                files.entry(path.to_owned()).or_default().insert(digest);
            }
        }
        let mut file = Vec::new();
        for (path, digests) in files {
            let accept = digests.into_iter().flat_map(|digest| self.accepted(digest, None)).collect();
            file.push(ImaFile { path, accept });
        }
        (!file.is_empty()).then_some(ImaReferences { exclude: Vec::new(), file })
    }
}

/// How the digest follows from the data beside it, where it does.
fn derivation(event: &Event<'_>, digest: Digest) -> Option<&'static str> {
    match event.data_binding(digest.alg()) {
        DataBinding::Nothing => None,
        DataBinding::Whole | DataBinding::VariableData | DataBinding::AllButLastByte | DataBinding::AfterPrefix => {
            Some("from the logged data")
        }
    }
}
