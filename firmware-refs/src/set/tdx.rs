//! Reference values for TDX quotes: checked as a whole, and indexed.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use evidence::{
    digest::{Digest, HashAlg},
    tdx::TcbStatus,
};

use super::{KnownEvent, Machines, Problems, RegisterEvents, digests};
use crate::document::tdx::{TdxDocument, TdxPlatforms};
use crate::fields::{BitRule, Hex, Mask};
use crate::text::Moment;

/// Run-time registers of a trust domain.
const RTMRS: std::ops::RangeInclusive<u8> = 0..=3;
/// XFAM bits that every trust domain has: x87 and SSE (Intel TDX module ABI).
const XFAM_FIXED: u64 = 3;

/// Reference values for TDX quotes, indexed.
#[derive(Clone, Debug)]
pub struct TdxReferences {
    pub(crate) require_event_log: bool,
    pub(crate) xfam: Mask,
    pub(crate) tcb_status: BTreeSet<TcbStatus>,
    pub(crate) tcb_evaluation_floor: u32,
    pub(crate) platforms: Machines<Hex<16>>,
    pub(crate) attributes: [(&'static str, u32, BitRule); 6],
    pub(crate) advisories: BTreeMap<String, Moment>,
    pub(crate) mrtd: BTreeSet<Digest>,
    pub(crate) mrconfigid: BTreeSet<Digest>,
    pub(crate) mrowner: BTreeSet<Digest>,
    pub(crate) mrownerconfig: BTreeSet<Digest>,
    pub(crate) mrservicetd: BTreeSet<Digest>,
    pub(crate) rtmrs: BTreeMap<u8, BTreeSet<Digest>>,
    pub(crate) events: BTreeMap<u8, RegisterEvents>,
}

impl TdxReferences {
    pub(super) fn index(tdx: &TdxDocument) -> Self {
        let mut events: BTreeMap<u8, RegisterEvents> = BTreeMap::new();
        for event in &tdx.event {
            let known = KnownEvent::new(&event.kind, &event.description, &event.accept, event.optional);
            events.entry(event.rtmr).or_default().add(known);
        }
        Self {
            require_event_log: tdx.require_event_log,
            xfam: tdx.xfam,
            tcb_status: tdx.tcb_status.iter().copied().collect(),
            tcb_evaluation_floor: tdx.tcb_evaluation_floor,
            platforms: match &tdx.platforms {
                TdxPlatforms::Any => Machines::Any,
                TdxPlatforms::Listed { ppid } => Machines::Listed(ppid.iter().copied().collect()),
            },
            attributes: tdx.attributes.rules(),
            advisories: tdx.advisory.iter().map(|advisory| (advisory.id.to_string(), advisory.until)).collect(),
            mrtd: digests(&tdx.mrtd),
            mrconfigid: digests(&tdx.mrconfigid),
            mrowner: digests(&tdx.mrowner),
            mrownerconfig: digests(&tdx.mrownerconfig),
            mrservicetd: digests(&tdx.mrservicetd),
            rtmrs: tdx.rtmr.iter().map(|rtmr| (rtmr.index, digests(&rtmr.accept))).collect(),
            events,
        }
    }

    /// Whether the event log must come.
    #[must_use]
    pub const fn require_event_log(&self) -> bool {
        self.require_event_log
    }
}

/// A missing update or an advised relaunch is no state to start anything in.
const fn may_be_accepted(status: TcbStatus) -> bool {
    match status {
        TcbStatus::UpToDate
        | TcbStatus::SwHardeningNeeded
        | TcbStatus::ConfigurationNeeded
        | TcbStatus::ConfigurationAndSwHardeningNeeded => true,
        TcbStatus::OutOfDate
        | TcbStatus::OutOfDateConfigurationNeeded
        | TcbStatus::TdRelaunchAdvised
        | TcbStatus::TdRelaunchAdvisedConfigurationNeeded
        | TcbStatus::Revoked => false,
    }
}

impl Problems {
    pub(super) fn tdx(&mut self, tdx: &TdxDocument) {
        let empty = "an empty list accepts nothing";
        let fixed = tdx.xfam.0 & XFAM_FIXED == XFAM_FIXED;
        self.unless(fixed, "tdx.xfam", "every trust domain has bits 0 and 1: without them nothing matches");
        self.unless(!tdx.tcb_status.is_empty(), "tdx.tcb_status", empty);
        for status in tdx.tcb_status.iter().filter(|status| !may_be_accepted(**status)) {
            self.add("tdx.tcb_status", format!("{status} is denied whatever a set says"));
        }
        match &tdx.platforms {
            TdxPlatforms::Any => {}
            TdxPlatforms::Listed { ppid } => self.unless(!ppid.is_empty(), "tdx.platforms.ppid", empty),
        }
        let mut seen = BTreeSet::new();
        for advisory in &tdx.advisory {
            let at = format!("tdx.advisory[{}]", advisory.id);
            self.unless(!advisory.id.as_str().is_empty(), at.as_str(), "name the advisory");
            self.unless(seen.insert(&advisory.id), at.as_str(), "the advisory stands twice");
            self.unless(!advisory.reason.as_str().is_empty(), at.as_str(), "say why it is borne");
        }
        for (at, accept) in [
            ("tdx.mrtd", &tdx.mrtd),
            ("tdx.mrconfigid", &tdx.mrconfigid),
            ("tdx.mrowner", &tdx.mrowner),
            ("tdx.mrownerconfig", &tdx.mrownerconfig),
            ("tdx.mrservicetd", &tdx.mrservicetd),
        ] {
            self.register(at, accept, HashAlg::Sha384);
        }
        self.rtmrs(tdx);
        self.rtmr_events(tdx);
    }

    fn rtmrs(&mut self, tdx: &TdxDocument) {
        let mut seen = BTreeSet::new();
        for rtmr in &tdx.rtmr {
            let at = format!("tdx.rtmr[{}]", rtmr.index);
            self.unless(RTMRS.contains(&rtmr.index), at.as_str(), "there are RTMR 0 to 3");
            self.unless(seen.insert(rtmr.index), at.as_str(), "the RTMR stands twice");
            self.register(&at, &rtmr.accept, HashAlg::Sha384);
        }
        for index in RTMRS {
            let known = seen.contains(&index) || tdx.event.iter().any(|event| event.rtmr == index);
            self.unless(known, format!("tdx.rtmr[{index}]"), "nothing says which values are known");
        }
    }

    fn rtmr_events(&mut self, tdx: &TdxDocument) {
        let mut seen = HashSet::new();
        for event in &tdx.event {
            let at = format!("tdx.event[RTMR {} {}]", event.rtmr, event.description);
            self.unless(tdx.require_event_log, at.as_str(), "events need require_event_log = true");
            self.unless(RTMRS.contains(&event.rtmr), at.as_str(), "there are RTMR 0 to 3");
            self.register(&at, &event.accept, HashAlg::Sha384);
            for value in &event.accept {
                let first = seen.insert((event.rtmr, value.digest));
                self.unless(first, at.as_str(), "a digest stands in two events of one RTMR");
            }
        }
        for rtmr in tdx.event.iter().map(|event| event.rtmr).collect::<BTreeSet<_>>() {
            let required = tdx.event.iter().any(|event| event.rtmr == rtmr && !event.optional);
            self.unless(
                required,
                format!("tdx.event[RTMR {rtmr}]"),
                "every event is optional: an empty log would match",
            );
        }
    }
}
