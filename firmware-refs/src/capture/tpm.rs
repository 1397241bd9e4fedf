//! The part of a captured set that is about a TPM.

use std::collections::{BTreeMap, BTreeSet};

use evidence::{
    digest::Digest,
    event_log::{DataBinding, Event},
    ima::Template,
};

use super::Draft;
use crate::document::{
    EventReference, FirmwareFloor, ImaBuffer, ImaFile, ImaReferences, PcrReference, Platforms, TpmDocument,
};
use crate::observed::ObservedTpm;
use crate::set::{EVIDENCE_PCRS, IMA_PCR};
use crate::text::Text;

impl Draft {
    /// Exactly the registers, events and files of this machine, and no firmware older than its own.
    pub(super) fn tpm(&mut self, observed: &ObservedTpm<'_>) -> TpmDocument {
        let quoted = observed.pcrs.iter().map(|(pcr, _)| *pcr);
        let pcrs: Vec<u8> = quoted.filter(|pcr| EVIDENCE_PCRS.contains(pcr)).collect();
        let event = self.events(observed, &pcrs);
        let ima = self.files(observed);
        let by_value = pcrs.iter().filter(|pcr| **pcr != IMA_PCR || ima.is_none());
        let pcr = by_value.map(|pcr| self.register(observed, *pcr)).collect();
        let firmware = vec![FirmwareFloor {
            manufacturer: observed.manufacturer,
            floor: observed.firmware,
            source: Text::lossy(&format!("observed on {}", self.node)),
        }];
        TpmDocument {
            bank: observed.bank,
            pcrs,
            require_event_log: !event.is_empty(),
            require_ima_log: ima.is_some(),
            platforms: Platforms::Enrolled,
            firmware,
            deny: Vec::new(),
            pcr,
            event,
            ima,
        }
    }

    fn register(&mut self, observed: &ObservedTpm<'_>, pcr: u8) -> PcrReference {
        let value = observed.pcr(pcr).unwrap_or(Digest::zero(observed.bank));
        let proven = observed.event_log.is_some_and(|log| log.proven.contains(pcr));
        PcrReference { index: pcr, accept: self.accepted(value, proven.then_some("by replay of the event log")) }
    }

    /// Every event of the registers that the log explains, once for each digest.
    fn events(&mut self, observed: &ObservedTpm<'_>, pcrs: &[u8]) -> Vec<EventReference> {
        let Some(log) = observed.event_log else { return Vec::new() };
        let mut seen = BTreeSet::new();
        let mut references = Vec::new();
        for pcr in pcrs.iter().filter(|pcr| log.proven.contains(**pcr)) {
            for (event, digest) in log.log.measured(*pcr, observed.bank) {
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

    fn files(&mut self, observed: &ObservedTpm<'_>) -> Option<ImaReferences> {
        let entries = observed.files?;
        let [mut files, mut buffers]: [BTreeMap<String, BTreeSet<Digest>>; 2] = Default::default();
        for entry in entries.iter().filter(|entry| !entry.is_boot_aggregate()) {
            let is_buffer = entry.template() == Template::ImaBuf;
            let name = std::str::from_utf8(entry.path()).ok().filter(|name| name.starts_with('/') != is_buffer);
            if let (Some(name), Some(digest)) = (name, entry.known_file_digest()) {
                let all = if is_buffer { &mut buffers } else { &mut files };
                all.entry(name.to_owned()).or_default().insert(digest);
            }
        }
        let mut accept = |digests: BTreeSet<Digest>| -> Vec<_> {
            digests.into_iter().flat_map(|digest| self.accepted(digest, None)).collect()
        };
        let file: Vec<_> = files.into_iter().map(|(path, digests)| ImaFile { path, accept: accept(digests) }).collect();
        let buffer = buffers.into_iter().map(|(name, digests)| ImaBuffer { name, accept: accept(digests) }).collect();
        (!file.is_empty()).then_some(ImaReferences { exclude: Vec::new(), file, buffer })
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
