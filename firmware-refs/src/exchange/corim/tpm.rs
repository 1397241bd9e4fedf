//! PCR values: Parsec's TPM profile. An environment's class is a UUID, a measurement's key the PCR's index, its value
//! the digests that the PCR may have, of any bank.

use std::collections::BTreeMap;

use evidence::digest::Digest;

use super::{Values, add, profile::Profile};
use crate::document::{PcrReference, SetDocument};
use crate::exchange::{ImportDenial, accepted};
use crate::set::EVIDENCE_PCRS;
use crate::text::Text;

/// Tag of a UUID.
const UUID: u64 = 37;

impl Values<'_> {
    pub(super) fn tpm(self, base: &mut SetDocument) -> Result<(), ImportDenial> {
        let tpm = base.tpm.as_mut().ok_or(ImportDenial::BaseLacks { section: "tpm" })?;
        let mut values: BTreeMap<u8, BTreeMap<Digest, Text>> = BTreeMap::new();
        let mut classes = std::collections::BTreeSet::new();
        for comid in self.comids {
            let source = self.origin.source(&format!(" tag {}", comid.id));
            for triple in &comid.triples {
                let environment = &triple.environment;
                if environment.class_id.is_none_or(|(tag, _)| tag != UUID) {
                    return Err(Profile::Tpm.elsewhere(environment));
                }
                classes.insert(environment.class_id);
                if environment.narrowed {
                    return Err(ImportDenial::inexpressible(
                        &format!("tag {}", comid.id),
                        "values of single TPMs: list them in tpm.platforms",
                    ));
                }
                for measurement in &triple.measurements {
                    let key = measurement.number_key()?;
                    let pcr = u8::try_from(key).ok().filter(|pcr| EVIDENCE_PCRS.contains(pcr));
                    let at = format!("PCR {key}");
                    let pcr = pcr.ok_or_else(|| ImportDenial::inexpressible(&at, "not a PCR that is evidence"))?;
                    measurement.only(2, &at)?;
                    let known = values.entry(pcr).or_default();
                    for digest in measurement.digests_of(tpm.bank, &at, self.losses)? {
                        add(known, digest, &source);
                    }
                }
            }
        }
        if classes.len() > 1 {
            return Err(ImportDenial::inexpressible("environments", "values of several classes: import each alone"));
        }
        if values.values().filter(|known| known.len() > 1).count() > 1 {
            self.losses.add("PCRs", "several values of several PCRs: a set accepts every combination of them");
        }
        tpm.pcr.retain(|pcr| !values.contains_key(&pcr.index));
        tpm.event.retain(|event| !values.contains_key(&event.pcr));
        tpm.pcrs.extend(values.keys());
        tpm.pcrs.sort_unstable();
        tpm.pcrs.dedup();
        tpm.pcr.extend(values.into_iter().map(|(index, known)| PcrReference { index, accept: accepted(known) }));
        tpm.pcr.sort_by_key(|pcr| pcr.index);
        Ok(())
    }
}
