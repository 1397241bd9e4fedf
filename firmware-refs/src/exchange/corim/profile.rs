//! Profiles that are known, and what they have in common.

use evidence::digest::{Digest, HashAlg};

use super::model::{Corim, Key, Measurement, number, read_digests};
use crate::exchange::{
    ImportDenial, Losses,
    cbor::{Item, Kind},
    signers::Hardware,
};
use crate::text::Text;

/// A profile of CoRIM: which values the numbers mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile {
    /// draft-deeglaze-amd-sev-snp-corim-profile-02.
    Snp,
    /// draft-cds-rats-intel-corim-profile-07.
    Tdx,
    /// Parsec's TPM profile (PCRs by index).
    Tpm,
}

/// AMD's profile: the name of draft 02, first, and that of its later editor's copy.
const SNP_URIS: [&str; 2] = ["tag:amd.com,2024:snp-corim-profile", "tag:amd.com,2025:snp-corim-profile"];
/// Intel's: OID 2.16.840.1.113741.1.16.1, without tag and length.
const TDX_OID: [u8; 10] = [0x60, 0x86, 0x48, 0x01, 0x86, 0xf8, 0x4d, 0x01, 0x10, 0x01];
const TPM_URI: &str = "tag:github.com/parallaxsecond,2023-03-03:tpm";

impl Profile {
    pub(super) fn of(corim: &Corim<'_>) -> Result<Self, ImportDenial> {
        let unknown = |got: &str| ImportDenial::ProfileUnknown { got: Text::lossy(got) };
        let profile = corim.profile.as_ref().ok_or_else(|| unknown("none named"))?;
        if let Some(uri) = profile.tagged(32).and_then(Item::text) {
            return match uri {
                TPM_URI => Ok(Self::Tpm),
                _ if SNP_URIS.contains(&uri) => Ok(Self::Snp),
                _ => Err(unknown(uri)),
            };
        }
        match profile.tagged(111).and_then(Item::bytes) {
            Some(oid) if oid == TDX_OID.as_slice() => Ok(Self::Tdx),
            Some(oid) => Err(unknown(&format!("OID {}", hex::encode(oid)))),
            None => Err(profile.wrong("a profile is a URI or an OID")),
        }
    }

    pub(super) const fn hardware(self) -> Hardware {
        match self {
            Self::Snp => Hardware::SevSnp,
            Self::Tdx => Hardware::Tdx,
            Self::Tpm => Hardware::Tpm,
        }
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Snp => "AMD SEV-SNP",
            Self::Tdx => "Intel",
            Self::Tpm => "Parsec TPM",
        }
    }

    /// As it stands in a CoRIM.
    pub(super) fn written(self) -> ciborium::Value {
        use ciborium::Value;
        let uri = |uri: &str| Value::Tag(32, Box::new(Value::from(uri)));
        match self {
            Self::Snp => uri(SNP_URIS.first().copied().unwrap_or_default()),
            Self::Tdx => Value::Tag(111, Box::new(Value::Bytes(TDX_OID.to_vec()))),
            Self::Tpm => uri(TPM_URI),
        }
    }
}

/// A security version: a floor, or one version alone.
pub(super) struct Svn {
    pub(super) floor: u64,
}

impl Svn {
    /// `svn-type-choice` (draft-ietf-rats-corim-11 §6.1.5): a bare number or `#6.552` is one version, `#6.553` a floor.
    /// A set holds floors: one version alone becomes one, which is told.
    pub(super) fn read(item: &Item<'_>, at: &str, losses: &mut Losses) -> Result<Self, ImportDenial> {
        if let Some(floor) = item.tagged(553) {
            return Ok(Self { floor: number(floor)? });
        }
        losses.add(at, "one version alone: kept as a floor, which newer versions pass too");
        Ok(Self { floor: number(item.tagged(552).unwrap_or(item))? })
    }
}

impl Measurement<'_> {
    /// The number that a profile's keys are.
    pub(super) fn number_key(&self) -> Result<u64, ImportDenial> {
        match self.key {
            Some(Key::Number(number)) => Ok(number),
            Some(key @ (Key::Text(_) | Key::Tagged(..))) => {
                Err(ImportDenial::inexpressible(&format!("key {key}"), "the profile's keys are numbers"))
            }
            None => Err(ImportDenial::inexpressible("measurement", "without key: the profile's keys are numbers")),
        }
    }

    /// The one value under `label`. Any other value beside it would be a condition left out.
    pub(super) fn only(&self, label: i128, at: &str) -> Result<&Item<'_>, ImportDenial> {
        let Kind::Map(pairs) = &self.values.kind else { return Err(self.values.wrong("measurement values are a map")) };
        match (pairs.as_slice(), self.values.get(label)) {
            ([_], Some(value)) => Ok(value),
            (_, _) => Err(ImportDenial::inexpressible(at, "other measurement values than the profile's one")),
        }
    }

    /// A raw value of exactly `N` bytes (`#6.560`), without mask.
    pub(super) fn raw<const N: usize>(&self, at: &str) -> Result<[u8; N], ImportDenial> {
        let value = self.only(4, at)?;
        let bytes = value.tagged(560).and_then(Item::bytes);
        bytes
            .and_then(|bytes| <[u8; N]>::try_from(bytes).ok())
            .ok_or_else(|| ImportDenial::inexpressible(at, &format!("a raw value of {N} bytes without mask expected")))
    }

    /// Digests of one algorithm, at least one.
    pub(super) fn digests_of(&self, alg: HashAlg, at: &str, losses: &mut Losses) -> Result<Vec<Digest>, ImportDenial> {
        let none = || ImportDenial::inexpressible(at, &format!("no {alg} digest"));
        let (known, others) = read_digests(self.values.get(2).ok_or_else(none)?)?;
        for other in known.iter().filter(|digest| digest.alg() != alg) {
            losses.add(&format!("{at} {}", other.alg()), "digests of another algorithm, not used");
        }
        for other in others {
            losses.add(&format!("{at} {other}"), "digests of an unknown algorithm, not used");
        }
        let fitting: Vec<Digest> = known.into_iter().filter(|digest| digest.alg() == alg).collect();
        if fitting.is_empty() { Err(none()) } else { Ok(fitting) }
    }
}

impl Profile {
    pub(super) fn elsewhere(self, environment: &super::model::Environment<'_>) -> ImportDenial {
        ImportDenial::EnvironmentUnknown { got: environment.shown(), profile: self.name() }
    }
}
