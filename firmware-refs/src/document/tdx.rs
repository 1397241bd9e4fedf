//! Reference values for TDX quotes, as written (Intel TDX DCAP quoting library API, TD report).

use evidence::tdx::TcbStatus;
use serde::{Deserialize, Serialize};

use super::{Accepted, is_false};
use crate::{
    fields::{BitRule, Hex, Mask},
    text::{Moment, Text},
};

/// Reference values for TDX quotes. What is left out is refused at load, unless its line says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdxDocument {
    /// Whether the CCEL event log must come with the quote.
    pub require_event_log: bool,
    /// Features that the trust domain may use (XFAM): no other bit may be set.
    pub xfam: Mask,
    /// Accepted TCB statuses, by Intel's names. Those that need more than `UpToDate` are accepted only while every
    /// advisory against the platform is borne; missing updates and advised relaunches never are.
    #[serde(with = "crate::fields::tcb_statuses")]
    pub tcb_status: Vec<TcbStatus>,
    /// Lowest tcbEvaluationDataNumber of the collateral.
    pub tcb_evaluation_floor: u32,
    /// Which platforms.
    pub platforms: TdxPlatforms,
    /// Bits of TDATTRIBUTES.
    pub attributes: TdAttributeRules,
    /// Advisories that may stand against the platform, each until a day. Left out: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub advisory: Vec<AcceptedAdvisory>,
    /// Accepted MRTD, SHA-384.
    pub mrtd: Vec<Accepted>,
    /// Accepted MRCONFIGID, 48 bytes written as SHA-384; all zero for a trust domain that is given none.
    pub mrconfigid: Vec<Accepted>,
    /// Accepted MROWNER, likewise.
    pub mrowner: Vec<Accepted>,
    /// Accepted MROWNERCONFIG, likewise.
    pub mrownerconfig: Vec<Accepted>,
    /// Accepted MRSERVICETD, likewise. A quote of TDX 1.0 has none and counts as all zero.
    pub mrservicetd: Vec<Accepted>,
    /// Whole RTMR values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rtmr: Vec<RtmrReference>,
    /// Measured events, for RTMRs judged by their log. Each of RTMR 0 to 3 needs a value or events.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub event: Vec<RtmrEventReference>,
}

/// Which platforms the set is for: `{ accept = "any" }` or `{ accept = "listed", ppid = [...] }`. The choice is
/// written out: leaving it open is not a choice. `any` leaves attacks that need the machine in hand undetected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "accept", rename_all = "lowercase", deny_unknown_fields)]
pub enum TdxPlatforms {
    /// Every platform with an accepted TCB.
    Any,
    /// Only these.
    Listed {
        /// PPID of each, 16 bytes.
        ppid: Vec<Hex<16>>,
    },
}

/// An advisory that is known and borne, until a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AcceptedAdvisory {
    /// Its id (`INTEL-SA-00837`).
    pub id: Text,
    /// First moment at which it is no longer borne.
    pub until: Moment,
    /// Why it is borne.
    pub reason: Text,
}

/// Bits of TDATTRIBUTES (Intel TDX module ABI). DEBUG, MIGRATABLE and reserved bits are refused and SEPT_VE_DISABLE
/// is required whatever a set says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TdAttributeRules {
    /// PERFMON, bit 63: the trust domain may use performance counters.
    pub perfmon: BitRule,
    /// ICSSD, bit 16: defence against single-stepping by instruction counts.
    pub icssd: BitRule,
    /// LASS, bit 27: linear address space separation.
    pub lass: BitRule,
    /// PKS, bit 30: supervisor protection keys.
    pub pks: BitRule,
    /// KL, bit 31: key locker.
    pub key_locker: BitRule,
    /// TPA, bit 62: the trust domain is a provisioning agent of TDX Connect.
    pub tpa: BitRule,
}

/// Accepted values of one RTMR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtmrReference {
    /// The RTMR, 0 to 3.
    pub index: u8,
    /// Its accepted values, SHA-384.
    pub accept: Vec<Accepted>,
}

/// One event that an RTMR's log must (or may) hold; judged as for PCRs ([`super::EventReference`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RtmrEventReference {
    /// The RTMR it is measured into.
    pub rtmr: u8,
    /// Its type as TCG names it. Shown, never compared: the type is not hashed into a register.
    #[serde(rename = "type")]
    pub kind: Text,
    /// What it is, in words.
    pub description: Text,
    /// Accepted digests, SHA-384.
    pub accept: Vec<Accepted>,
    /// Whether a log without it is accepted too.
    #[serde(default, skip_serializing_if = "is_false")]
    pub optional: bool,
}

impl TdAttributeRules {
    /// Name, position and rule of each bit.
    pub(crate) const fn rules(&self) -> [(&'static str, u32, BitRule); 6] {
        [
            ("icssd", 16, self.icssd),
            ("lass", 27, self.lass),
            ("pks", 30, self.pks),
            ("key_locker", 31, self.key_locker),
            ("tpa", 62, self.tpa),
            ("perfmon", 63, self.perfmon),
        ]
    }
}
