//! EAT Attestation Result as a CWT claims set (draft-ietf-rats-ear-04 §3, RFC 9711,
//! RFC 8392), with the AR4SI trustworthiness vector (draft-ietf-rats-ar4si-10 §2.3).
//!
//! Integer keys as the drafts suggest them; under their names in JSON: `ear_json`. A claim that is not known is ignored
//! (ear-04 §3: a receiver MUST); a claim that stands twice or is missing is refused.

use std::collections::BTreeMap;

use evidence::{
    EvidenceKind,
    digest::{Digest, Sha256Digest},
    register::Register,
    tee::PlatformId,
};
use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ear_json::{octets, wide};

/// eat_profile of draft-ietf-rats-ear-04 (§3).
pub const PROFILE: &str = "tag:ietf.org,2026:rats/ear#04";

/// AR4SI trustworthiness tiers (§2.3.2), as far apart as the drafts put them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tier {
    /// No claim is made.
    None,
    /// The attester meets what it must.
    Affirming,
    /// It does in part.
    Warning,
    /// It does not.
    Contraindicated,
}

impl Tier {
    /// Its number in an EAR.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Affirming => 2,
            Self::Warning => 32,
            Self::Contraindicated => 96,
        }
    }

    /// Its name (AR4SI §2.3.2).
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Affirming => "affirming",
            Self::Warning => "warning",
            Self::Contraindicated => "contraindicated",
        }
    }

    /// The tier of one claim of a vector (AR4SI §2.3.2: ranges around each number).
    #[must_use]
    pub const fn of_claim(claim: i8) -> Self {
        match claim {
            -1..=1 => Self::None,
            2..=31 | -32..=-2 => Self::Affirming,
            32..=95 | -96..=-33 => Self::Warning,
            96..=127 | -128..=-97 => Self::Contraindicated,
        }
    }
}

impl Serialize for Tier {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(self.number())
    }
}

impl<'de> Deserialize<'de> for Tier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(Self::None),
            2 => Ok(Self::Affirming),
            32 => Ok(Self::Warning),
            96 => Ok(Self::Contraindicated),
            other => Err(D::Error::custom(format_args!("{other} is no trustworthiness tier"))),
        }
    }
}

/// A key of a claims set: ours are integers, others' may be text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Key {
    Number(i64),
    Text(IgnoredAny),
}

/// A claims set with integer keys: one table for both directions.
macro_rules! claims_set {
    ($(#[$meta:meta])* $name:ident {
        $($(#[$must_meta:meta])* $must_key:literal => $must:ident: $must_type:ty,)*
        optional
        $($(#[$may_meta:meta])* $may_key:literal => $may:ident: $may_type:ty,)*
    }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct $name {
            $($(#[$must_meta])* pub $must: $must_type,)*
            $($(#[$may_meta])* pub $may: Option<$may_type>,)*
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                let mut map = serializer.serialize_map(None)?;
                $({ let key: i64 = $must_key; map.serialize_entry(&key, &self.$must)?; })*
                $(if let Some(value) = &self.$may { let key: i64 = $may_key; map.serialize_entry(&key, value)?; })*
                map.end()
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Claims;
                impl<'de> Visitor<'de> for Claims {
                    type Value = $name;
                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a claims set")
                    }
                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        $(let mut $must: Option<$must_type> = None;)*
                        $(let mut $may: Option<$may_type> = None;)*
                        while let Some(key) = map.next_key::<Key>()? {
                            let repeated = match key {
                                $(Key::Number($must_key) => $must.replace(map.next_value()?).is_some(),)*
                                $(Key::Number($may_key) => $may.replace(map.next_value()?).is_some(),)*
                                Key::Number(_) | Key::Text(_) => map.next_value::<IgnoredAny>().map(|_| false)?,
                            };
                            if repeated {
                                return Err(A::Error::custom("a claim stands twice"));
                            }
                        }
                        Ok($name {
                            $($must: $must.ok_or_else(|| A::Error::missing_field(stringify!($must)))?,)*
                            $($may,)*
                        })
                    }
                }
                deserializer.deserialize_map(Claims)
            }
        }
    };
}

claims_set! {
    /// The whole claims set.
    Ear {
        /// `iss`: SPIFFE ID of the verifier.
        1 => issuer: String,
        /// `aud`: who may rely on it.
        3 => audience: String,
        /// `exp`: first second in which it no longer counts.
        4 => expires_at: u64,
        /// `iat`: when the evidence was judged.
        6 => issued_at: u64,
        /// `eat_profile`.
        265 => profile: String,
        /// `submods`: one appraisal for each attester.
        266 => submods: BTreeMap<String, Appraisal>,
        /// `ear_status`: no better than the worst of the appraisals.
        1000 => status: Tier,
        /// `ear_verifier_id`.
        1004 => verifier: VerifierId,
        optional
        /// `eat_nonce`: the challenge's nonce. Optional in the draft; our reader demands it.
        10 => nonce: Nonce,
    }
}

claims_set! {
    /// Appraisal of one attester.
    Appraisal {
        /// `ear_status`.
        1000 => status: Tier,
        /// `ear_trustworthiness_vector`.
        1001 => vector: TrustVector,
        /// `ear_appraisal_policy_ids`: in the order in which they were applied.
        1003 => policies: Vec<String>,
        /// `ear_attester_claims`: what the evidence said.
        1005 => attester: AttesterClaims,
        /// `ear_verifier_claims`: what was checked, and by what.
        1006 => verifier: VerifierClaims,
        optional
    }
}

claims_set! {
    /// AR4SI verifier identity (§3.3).
    VerifierId {
        /// Who made the software.
        0 => developer: String,
        /// Which build.
        1 => build: String,
        optional
    }
}

claims_set! {
    /// AR4SI trustworthiness vector (§2.3.3): a category about which nothing is claimed is absent.
    TrustVector {
        optional
        /// Is it the machine it says it is?
        0 => instance_identity: i8,
        /// Is it configured as known?
        1 => configuration: i8,
        /// Does it run what is known?
        2 => executables: i8,
        /// Are its files known?
        3 => file_system: i8,
        /// Is its hardware genuine?
        4 => hardware: i8,
        /// Is its memory hidden from its host?
        5 => runtime_opaque: i8,
        /// Are its stored secrets?
        6 => storage_opaque: i8,
        /// Is its data from where it says?
        7 => sourced_data: i8,
    }
}

impl TrustVector {
    /// The claims made, each with its name in JSON (§2.3.3).
    pub fn named(&self) -> impl Iterator<Item = (&'static str, i8)> {
        [
            ("instance-identity", self.instance_identity),
            ("configuration", self.configuration),
            ("executables", self.executables),
            ("file-system", self.file_system),
            ("hardware", self.hardware),
            ("runtime-opaque", self.runtime_opaque),
            ("storage-opaque", self.storage_opaque),
            ("sourced-data", self.sourced_data),
        ]
        .into_iter()
        .filter_map(|(name, claim)| Some((name, claim?)))
    }

    /// The claims made.
    pub fn made(&self) -> impl Iterator<Item = i8> {
        self.named().map(|(_, claim)| claim)
    }

    /// The worst tier of the claims made; none if none is made.
    #[must_use]
    pub fn worst(&self) -> Tier {
        let tiers: Vec<Tier> = self.made().map(Tier::of_claim).collect();
        if tiers.contains(&Tier::None) {
            return Tier::None;
        }
        tiers.into_iter().max().unwrap_or(Tier::None)
    }
}

/// A nonce of 8 to 64 bytes (RFC 9711 §4.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Nonce(pub Vec<u8>);

impl Serialize for Nonce {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serde_bytes::serialize(&self.0, serializer)
    }
}

impl<'de> Deserialize<'de> for Nonce {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Vec<u8> = serde_bytes::deserialize(deserializer)?;
        if (8..=64).contains(&bytes.len()) {
            Ok(Self(bytes))
        } else {
            Err(D::Error::custom("a nonce is 8 to 64 bytes long"))
        }
    }
}

/// What the evidence said. Text keys: they have no meaning outside this verifier's results.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AttesterClaims {
    /// Node id.
    pub node: String,
    /// Kind of evidence.
    pub kind: EvidenceKind,
    /// SHA-256 of the node key's COSE_Key.
    pub node_key: Sha256Digest,
    /// Every measured register with its value.
    pub registers: BTreeMap<Register, Digest>,
    /// Of its TPM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tpm: Option<TpmAttester>,
    /// The platform of its TEE.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<PlatformId>,
}

/// What the evidence said of a TPM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TpmAttester {
    /// SHA-256 of the EK's TPM2B_PUBLIC.
    pub ek: Sha256Digest,
    /// Name of the AK.
    #[serde(with = "octets")]
    pub ak_name: serde_bytes::ByteBuf,
    /// Name of the node key.
    #[serde(with = "octets")]
    pub node_key_name: serde_bytes::ByteBuf,
    /// Quoted bank.
    pub pcr_bank: String,
    /// Manufacturer of the TPM.
    pub manufacturer: String,
    /// firmwareVersion of the quote.
    #[serde(with = "wide")]
    pub firmware: u64,
}

/// What was checked, and by what: enough to reach the same verdict again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifierClaims {
    /// Domain that judged.
    pub domain: String,
    /// Environment of the reference value set that matched.
    pub environment: String,
    /// Bits of the checks that passed: exactly those required.
    #[serde(with = "wide")]
    pub ledger: u64,
    /// Digest of the evidence.
    pub evidence: Sha256Digest,
    /// Digest of the enrolment that the evidence was held against.
    pub endorsements: Sha256Digest,
    /// The endorsements that it was judged by, in the order in which they were used.
    pub endorsed_by: Vec<EndorsementUsed>,
    /// Digest of the challenge.
    pub challenge: Sha256Digest,
    /// Digest of the trust anchors.
    pub anchors: Sha256Digest,
    /// Name of the reference value set that matched, its version and digest.
    pub reference: SetName,
    /// Digest of all reference values in force.
    pub reference_values: Sha256Digest,
    /// Name of the policy set that permitted, its version and digest.
    pub policy: SetName,
    /// The rules that permitted, by id.
    pub rules: Vec<String>,
    /// Governance epoch.
    pub epoch: u64,
    /// Digest of the governance state.
    pub governance: Sha256Digest,
    /// Digest of the whole snapshot of trust.
    pub trust: Sha256Digest,
}

/// An endorsement that evidence was judged by: a vendor's certificate, revocation list or signed statement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EndorsementUsed {
    /// What it is: `vcek`, `snp-crl`, `tcb-info`, `ek-certificate`, ...
    pub kind: String,
    /// SHA-256 of its bytes.
    pub digest: Sha256Digest,
    /// Seconds from its issue to the time judged at.
    pub age_s: u64,
}

/// A signed set by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetName {
    /// Name.
    pub id: String,
    /// Version.
    pub version: u64,
    /// SHA-256 of its signed form.
    pub digest: Sha256Digest,
}
