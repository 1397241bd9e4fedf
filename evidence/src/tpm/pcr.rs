//! PCR selections and values (TPM2 Library Part 2 §10.6, TPMS_PCR_SELECTION, TPML_PCR_SELECTION), the digest
//! that a quote carries over them, and the policy digest that a key can be bound to them with.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::wire::{Reader, put_u16, put_u32};
use crate::{
    EvidenceDenial,
    cbor::{self, BYTES, CborError, Items, MAP, UNSIGNED},
    digest::{Digest, HashAlg},
};

/// PCRs of a PC Client TPM (TCG PC Client Platform TPM Profile, PCR attributes): 0 to 23.
pub const PCR_COUNT: u8 = 24;

/// PCRs that software or a locality can reset while the machine runs (the same table): 16 and 23
/// by anyone, 17 to 22 by a dynamic launch. They say nothing about how the machine started.
pub const RESETTABLE: PcrSet = PcrSet(0b1111_1111 << 16);

/// A set of PCR indices, 0 to 23.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PcrSet(u32);

impl PcrSet {
    /// No PCR.
    pub const EMPTY: Self = Self(0);

    /// The set of these indices; `None` when one is not a PCR.
    #[must_use]
    pub fn of(indices: &[u8]) -> Option<Self> {
        indices.iter().try_fold(Self::EMPTY, |set, &index| set.with(index))
    }

    /// The set with one more index; `None` when it is not a PCR.
    #[must_use]
    pub fn with(self, index: u8) -> Option<Self> {
        (index < PCR_COUNT).then(|| Self(self.0 | 1u32 << index))
    }

    /// Is this PCR in the set?
    #[must_use]
    pub const fn contains(self, index: u8) -> bool {
        index < PCR_COUNT && self.0 >> index & 1 == 1
    }

    /// Is every PCR of `other` in this set?
    #[must_use]
    pub const fn contains_all(self, other: Self) -> bool {
        other.0 & !self.0 == 0
    }

    /// PCRs in both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// PCRs in this set and not in `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Has it no PCR?
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many PCRs.
    #[must_use]
    pub const fn len(self) -> u32 {
        self.0.count_ones()
    }

    /// Its indices, ascending.
    pub fn iter(self) -> impl Iterator<Item = u8> {
        (0..PCR_COUNT).filter(move |&index| self.contains(index))
    }

    /// sizeofSelect and pcrSelect as every PC Client TPM writes them: three octets, PCR 0 in the lowest bit of the first.
    fn octets(self) -> [u8; 3] {
        let [a, b, c, _] = self.0.to_le_bytes();
        [a, b, c]
    }
}

impl std::fmt::Display for PcrSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (position, index) in self.iter().enumerate() {
            if position > 0 {
                f.write_str(",")?;
            }
            write!(f, "{index}")?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for PcrSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{{{self}}}")
    }
}

impl Serialize for PcrSet {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for PcrSet {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let indices = Vec::<u8>::deserialize(deserializer)?;
        if !indices.is_sorted_by(|a, b| a < b) {
            return Err(D::Error::custom("PCR indices must ascend without repetition"));
        }
        Self::of(&indices).ok_or_else(|| D::Error::custom("a PCR index is 0 to 23"))
    }
}

/// One bank and the PCRs selected in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PcrSelection {
    /// Hash algorithm of the bank.
    pub bank: HashAlg,
    /// The PCRs.
    pub pcrs: PcrSet,
}

impl PcrSelection {
    /// Reads a TPML_PCR_SELECTION that names PCRs in exactly one bank.
    ///
    /// A TPM may list further banks with nothing selected in them; those are accepted and dropped. PCRs in two
    /// banks are refused: one digest would cover both and nothing here could say which bank a policy meant.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, EvidenceDenial> {
        const COUNT: &str = "TPML_PCR_SELECTION.count";
        let count = usize::try_from(reader.u32(COUNT)?).unwrap_or(usize::MAX);
        if count > CAP_BANKS {
            return Err(reader.malformed(COUNT));
        }
        let mut found = None;
        for _ in 0..count {
            let alg = reader.u16("TPMS_PCR_SELECTION.hash")?;
            let pcrs = read_select(reader)?;
            if pcrs.is_empty() {
                continue;
            }
            let refused = || EvidenceDenial::AlgorithmRefused { what: "PCR bank", got: alg };
            let bank = HashAlg::from_tpm(alg).ok_or_else(refused)?;
            if found.replace(Self { bank, pcrs }).is_some() {
                return Err(reader.malformed("PCRs selected in more than one bank"));
            }
        }
        found.ok_or_else(|| reader.malformed("no PCR selected"))
    }

    /// Writes the selection as TPML_PCR_SELECTION with one bank.
    pub fn write(&self, out: &mut Vec<u8>) {
        put_u32(out, 1);
        put_u16(out, self.bank.tpm_id());
        out.push(3);
        out.extend_from_slice(&self.pcrs.octets());
    }
}

fn read_select(reader: &mut Reader<'_>) -> Result<PcrSet, EvidenceDenial> {
    const SIZE: &str = "TPMS_PCR_SELECTION.sizeofSelect";
    let size = usize::from(reader.u8(SIZE)?);
    if size > CAP_SELECT_OCTETS {
        return Err(reader.malformed(SIZE));
    }
    let mut octets = [0u8; CAP_SELECT_OCTETS];
    for (to, from) in octets.iter_mut().zip(reader.take(SIZE, size)?) {
        *to = *from;
    }
    let bits = u32::from_le_bytes(octets);
    if bits >> PCR_COUNT == 0 { Ok(PcrSet(bits)) } else { Err(reader.malformed("TPMS_PCR_SELECTION.pcrSelect")) }
}

/// The values of selected PCRs of one bank.
#[derive(Clone, PartialEq, Eq)]
pub struct PcrValues {
    bank: HashAlg,
    /// Ascending, unique; each digest has the bank's algorithm.
    values: Vec<(u8, Digest)>,
}

impl PcrValues {
    /// The values, if their indices ascend without repetition and every digest is of `bank`.
    #[must_use]
    pub fn new(bank: HashAlg, values: Vec<(u8, Digest)>) -> Option<Self> {
        let ascending = values.is_sorted_by(|a, b| a.0 < b.0);
        let fitting = values.iter().all(|(index, value)| *index < PCR_COUNT && value.alg() == bank);
        (ascending && fitting).then_some(Self { bank, values })
    }

    /// The bank's hash algorithm.
    #[must_use]
    pub const fn bank(&self) -> HashAlg {
        self.bank
    }

    /// Which PCRs have a value here.
    #[must_use]
    pub fn selected(&self) -> PcrSet {
        self.values.iter().fold(PcrSet::EMPTY, |set, (index, _)| set.with(*index).unwrap_or(set))
    }

    /// The value of one PCR.
    #[must_use]
    pub fn get(&self, index: u8) -> Option<&Digest> {
        self.values.iter().find(|(i, _)| *i == index).map(|(_, value)| value)
    }

    /// All values, ascending by index.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &Digest)> {
        self.values.iter().map(|(index, value)| (*index, value))
    }

    /// These values without those of other PCRs than `pcrs`.
    #[must_use]
    pub fn restricted_to(&self, pcrs: PcrSet) -> std::borrow::Cow<'_, Self> {
        if self.selected() == pcrs {
            return std::borrow::Cow::Borrowed(self);
        }
        let values = self.values.iter().filter(|(index, _)| pcrs.contains(*index)).copied().collect();
        std::borrow::Cow::Owned(Self { bank: self.bank, values })
    }

    /// Hash over the concatenated values of `pcrs`, ascending (TPM2 Library Part 2, TPMS_QUOTE_INFO).
    ///
    /// `alg` is the hash of the signing scheme for a quote and the nameAlg of the key for a policy, whatever the
    /// bank. `None` when a value is missing.
    #[must_use]
    pub fn digest(&self, pcrs: PcrSet, alg: HashAlg) -> Option<Digest> {
        if !self.selected().contains_all(pcrs) {
            return None;
        }
        let mut parts: [&[u8]; 24] = [&[]; 24];
        let wanted = self.values.iter().filter(|(index, _)| pcrs.contains(*index));
        for (part, (_, value)) in parts.iter_mut().zip(wanted) {
            *part = value.as_bytes();
        }
        Some(alg.hash(&parts))
    }
}

impl PcrValues {
    /// Deterministic CBOR `{bank: {index: value}}`.
    ///
    /// # Errors
    /// When it cannot be encoded, which no such value has.
    pub fn to_cbor(&self) -> Result<Vec<u8>, CborError> {
        let values: BTreeMap<u8, &serde_bytes::Bytes> =
            self.values.iter().map(|(index, value)| (*index, serde_bytes::Bytes::new(value.as_bytes()))).collect();
        cbor::to_vec(&BTreeMap::from([(self.bank, values)]))
    }

    /// Reads what [`PcrValues::to_cbor`] writes.
    ///
    /// # Errors
    /// [`EvidenceDenial::Cbor`], and [`EvidenceDenial::Malformed`] for other banks, indices or lengths.
    pub fn from_cbor(bytes: &[u8]) -> Result<Self, EvidenceDenial> {
        cbor::inspect(bytes, cbor::Caps::bytes(CAP_VALUES_BYTES).items(64))?;
        let mut items = Items::new("PCR values", bytes);
        if items.expect(MAP, "one bank")? != 1 {
            return Err(items.malformed("one bank"));
        }
        let bank = HashAlg::from_name(items.text("a bank's name")?).ok_or_else(|| items.malformed("a known bank"))?;
        let count = items.expect(MAP, "values of the bank")?;
        let mut values = Vec::with_capacity(count.min(usize::from(PCR_COUNT)));
        for _ in 0..count {
            let index = u8::try_from(items.expect(UNSIGNED, "a PCR index")?);
            let index = index.map_err(|_| items.malformed("PCR indices 0 to 23"))?;
            let len = items.expect(BYTES, "a value")?;
            let value = Digest::from_bytes(bank, items.take(len)?);
            values.push((index, value.ok_or_else(|| items.malformed("values as long as the bank's hash"))?));
        }
        Self::new(bank, values).ok_or_else(|| items.malformed("PCR indices 0 to 23"))
    }
}

impl std::fmt::Debug for PcrValues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Policy digest of a session in which only TPM2_PolicyPCR over `pcrs` of `values` ran (TPM2 Library Part 3 §23.7).
///
/// `name_alg` is the key's nameAlg, which is also the session's hash. `None` when a value is missing or nothing is selected.
#[must_use]
pub fn policy_pcr_digest(values: &PcrValues, pcrs: PcrSet, name_alg: HashAlg) -> Option<Digest> {
    if pcrs.is_empty() {
        return None;
    }
    let pcr_digest = values.digest(pcrs, name_alg)?;
    let mut selection = Vec::with_capacity(10);
    PcrSelection { bank: values.bank(), pcrs }.write(&mut selection);
    let start = Digest::zero(name_alg);
    Some(name_alg.hash(&[start.as_bytes(), &TPM_CC_POLICY_PCR.to_be_bytes(), &selection, pcr_digest.as_bytes()]))
}

const TPM_CC_POLICY_PCR: u32 = 0x0000_017f;
const CAP_VALUES_BYTES: usize = 4096;
const CAP_BANKS: usize = 16; // HASH_COUNT of the most generous TPM seen
const CAP_SELECT_OCTETS: usize = 4; // PCR_SELECT_MAX; PC Client TPMs use 3

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<PcrSelection, EvidenceDenial> {
        let mut reader = Reader::new("TPML_PCR_SELECTION", bytes);
        let selection = PcrSelection::read(&mut reader)?;
        reader.finish()?;
        Ok(selection)
    }

    #[test]
    fn a_selection_round_trips_and_empty_banks_are_dropped() {
        let selection = PcrSelection { bank: HashAlg::Sha256, pcrs: PcrSet::of(&[0, 7, 8, 23]).unwrap() };
        let mut bytes = Vec::new();
        selection.write(&mut bytes);
        assert_eq!(hex::encode(&bytes), "00000001000b03810180");
        assert_eq!(read(&bytes).unwrap(), selection);
        assert_eq!(
            read(&hex::decode("000000020004030000000 00b03810180".replace(' ', "")).unwrap()).unwrap(),
            selection
        );
    }

    #[test]
    fn ambiguous_empty_and_oversized_selections_are_refused() {
        for hexed in [
            "00000000",                          // no bank
            "00000001000b03000000",              // nothing selected
            "000000020004030100000 00b03010000", // two banks
            "00000001001203010000",              // SM3 bank
            "00000001000b0400000001",            // PCR 24
            "00000001000b050000000000",          // five octets
            "ffffffff",
            "00000001000b0381",
        ] {
            let bytes = hex::decode(hexed.replace(' ', "")).unwrap();
            assert!(read(&bytes).is_err(), "{hexed}");
        }
    }

    #[test]
    fn values_must_be_sorted_and_of_their_bank() {
        let one = HashAlg::Sha256.hash(&[b"1"]);
        assert!(PcrValues::new(HashAlg::Sha256, vec![(0, one), (1, one)]).is_some());
        assert!(PcrValues::new(HashAlg::Sha256, vec![(1, one), (0, one)]).is_none());
        assert!(PcrValues::new(HashAlg::Sha256, vec![(0, one), (0, one)]).is_none());
        assert!(PcrValues::new(HashAlg::Sha384, vec![(0, one)]).is_none());
        assert!(PcrValues::new(HashAlg::Sha256, vec![(24, one)]).is_none());
    }

    #[test]
    fn a_missing_value_has_no_digest() {
        let one = HashAlg::Sha256.hash(&[b"1"]);
        let values = PcrValues::new(HashAlg::Sha256, vec![(0, one)]).unwrap();
        assert!(values.digest(PcrSet::of(&[0, 1]).unwrap(), HashAlg::Sha256).is_none());
        assert!(policy_pcr_digest(&values, PcrSet::EMPTY, HashAlg::Sha256).is_none());
        assert!(policy_pcr_digest(&values, PcrSet::of(&[1]).unwrap(), HashAlg::Sha256).is_none());
    }
}
