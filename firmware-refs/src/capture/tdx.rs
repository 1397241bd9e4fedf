//! The part of a captured set that is about a trust domain.

use std::collections::BTreeSet;

use super::Draft;
use crate::document::tdx::{
    AcceptedAdvisory, RtmrEventReference, RtmrReference, TdAttributeRules, TdxDocument, TdxPlatforms,
};
use crate::fields::{BitRule, Mask};
use crate::observed::{ObservedCcel, ObservedTdx};
use crate::text::{Moment, Text};

/// How long an advisory that already stands is borne by a captured set, in seconds: a week to read the proposal.
const BORNE_S: u64 = 7 * 86_400;

impl Draft {
    /// Exactly this trust domain on this platform, no older collateral, every bit as it is.
    pub(super) fn tdx(&mut self, observed: &ObservedTdx<'_>) -> TdxDocument {
        let event = observed.event_log.map_or_else(Vec::new, |log| self.rtmr_events(log));
        let bit = |bit: u32| {
            if observed.attributes.wrapping_shr(bit) & 1 == 1 { BitRule::Required } else { BitRule::Forbidden }
        };
        let reason = Text::lossy(&format!("stood against {} when it was captured", self.node));
        let borne = |id: &String| AcceptedAdvisory {
            id: Text::lossy(id),
            until: Moment::from(observed.judged_at.plus(BORNE_S)),
            reason: reason.clone(),
        };
        let rtmr = (0u8..).zip(observed.rtmrs).map(|(index, value)| {
            let proven = observed.event_log.is_some_and(|log| log.log.is_proven(index));
            RtmrReference { index, accept: self.accepted(value, proven.then_some("by replay of the event log")) }
        });
        TdxDocument {
            rtmr: rtmr.collect(),
            require_event_log: !event.is_empty(),
            xfam: Mask(observed.xfam),
            tcb_status: vec![observed.tcb_status],
            tcb_evaluation_floor: observed.tcb_evaluation,
            platforms: TdxPlatforms::Listed { ppid: vec![observed.ppid] },
            attributes: TdAttributeRules {
                icssd: bit(16),
                lass: bit(27),
                pks: bit(30),
                key_locker: bit(31),
                tpa: bit(62),
                perfmon: bit(63),
            },
            advisory: observed.advisories.iter().map(borne).collect(),
            mrtd: self.accepted(observed.mrtd, None),
            mrconfigid: self.accepted(observed.mrconfigid, None),
            mrowner: self.accepted(observed.mrowner, None),
            mrownerconfig: self.accepted(observed.mrownerconfig, None),
            mrservicetd: self.accepted(observed.mrservicetd, None),
            event,
        }
    }

    /// Every event of the registers that the log explains, once for each digest.
    fn rtmr_events(&mut self, log: ObservedCcel<'_>) -> Vec<RtmrEventReference> {
        let mut seen = BTreeSet::new();
        let mut references = Vec::new();
        for rtmr in (0..=3u8).filter(|rtmr| log.log.is_proven(*rtmr)) {
            for (event, digest) in log.log.measured(rtmr) {
                if seen.insert((rtmr, digest)) {
                    references.push(RtmrEventReference {
                        rtmr,
                        kind: Text::lossy(&event.kind().to_string()),
                        description: Text::lossy(&event.description()),
                        accept: self.accepted(digest, None),
                        optional: false,
                    });
                }
            }
        }
        references
    }
}
