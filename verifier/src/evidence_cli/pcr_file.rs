//! Files of PCR values: JSON, tpm2_pcrread's text, and the binary that tpm2_pcrread and tpm2_quote write.

use std::{collections::BTreeMap, path::Path};

use evidence::{
    EvidenceDenial,
    digest::{Digest, HashAlg},
    tpm::{PcrSelection, PcrValues},
};

use super::{files, outcome::Refusal};

const PCR_FILE_CAP_BYTES: usize = 256 * 1024;
const PCRS: u8 = 24;

/// PCR values by bank and index.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Banks(BTreeMap<HashAlg, BTreeMap<u8, Digest>>);

impl Banks {
    /// Reads a file; `selection` says what the values of a bare binary file are of.
    pub(super) fn read(path: &Path, selection: Option<PcrSelection>) -> Result<Self, Refusal> {
        let bytes = files::read(path, "PCR values", PCR_FILE_CAP_BYTES)?;
        Ok(Self::parse(&bytes, selection)?)
    }

    fn parse(bytes: &[u8], selection: Option<PcrSelection>) -> Result<Self, EvidenceDenial> {
        let is_text = std::str::from_utf8(bytes).ok().filter(|text| !text.contains('\0'));
        let banks = match is_text {
            Some(text) if text.trim_start().starts_with('{') => Self::from_json(text),
            Some(text) => Self::from_yaml(text),
            None if bytes.len() >= SERIALIZED_HEAD_BYTES => Self::from_serialized(bytes),
            None => None,
        };
        let banks = banks.or_else(|| selection.and_then(|selection| Self::from_values(bytes, selection)));
        let banks = banks.ok_or_else(|| malformed("no form of PCR values that is known"))?;
        if banks.0.values().all(BTreeMap::is_empty) {
            return Err(EvidenceDenial::Missing { part: "PCR values" });
        }
        Ok(banks)
    }

    /// These values.
    pub(super) fn of(registers: &[(u8, Digest)]) -> Self {
        let mut out = Self::default();
        for (pcr, value) in registers {
            out.0.entry(value.alg()).or_default().insert(*pcr, *value);
        }
        out
    }

    /// All values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u8, Digest)> + '_ {
        self.0.values().flat_map(|bank| bank.iter().map(|(pcr, value)| (*pcr, *value)))
    }

    /// One value.
    pub(super) fn get(&self, alg: HashAlg, pcr: u8) -> Option<Digest> {
        self.0.get(&alg)?.get(&pcr).copied()
    }

    /// The values of one bank.
    pub(super) fn bank(&self, alg: HashAlg) -> Option<PcrValues> {
        let values = self.0.get(&alg)?.iter().map(|(pcr, value)| (*pcr, *value)).collect();
        PcrValues::new(alg, values)
    }

    fn insert(&mut self, alg: HashAlg, pcr: u8, value: Digest) -> Option<()> {
        let is_new = pcr < PCRS && self.0.entry(alg).or_default().insert(pcr, value).is_none();
        is_new.then_some(())
    }

    /// `{"banks": {"sha256": {"0": "hex"}}}`, or the inner object alone.
    fn from_json(text: &str) -> Option<Self> {
        let document: serde_json::Value = serde_json::from_str(text).ok()?;
        let banks = document.get("banks").unwrap_or(&document).as_object()?;
        let mut out = Self::default();
        for (name, values) in banks {
            let alg = HashAlg::from_name(name)?;
            for (pcr, value) in values.as_object()? {
                out.insert(alg, pcr.parse().ok()?, digest_of_hex(alg, value.as_str()?)?)?;
            }
        }
        Some(out)
    }

    /// What tpm2_pcrread prints: `sha256:` and then `0 : 0x…` lines.
    fn from_yaml(text: &str) -> Option<Self> {
        let mut out = Self::default();
        let mut bank = None;
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let (key, value) = line.split_once(':')?;
            let (key, value) = (key.trim(), value.trim());
            if value.is_empty() {
                bank = Some(HashAlg::from_name(key)?);
            } else {
                out.insert(bank?, key.parse().ok()?, digest_of_hex(bank?, value)?)?;
            }
        }
        Some(out)
    }

    /// Bare digests one after another, as `tpm2_pcrread -o` writes them: only the quote says of which PCRs.
    fn from_values(bytes: &[u8], selection: PcrSelection) -> Option<Self> {
        let mut out = Self::default();
        let mut values = bytes.chunks_exact(selection.bank.len());
        for pcr in selection.pcrs.iter() {
            out.insert(selection.bank, pcr, Digest::from_bytes(selection.bank, values.next()?)?)?;
        }
        (values.next().is_none() && values.remainder().is_empty()).then_some(out)
    }

    /// The C structures of tpm2-tss in little-endian order (`--pcrs_format serialized`): TPML_PCR_SELECTION
    /// with room for 16 banks, a count, and TPML_DIGESTs of eight.
    fn from_serialized(bytes: &[u8]) -> Option<Self> {
        let (head, lists) = bytes.split_at_checked(SERIALIZED_HEAD_BYTES)?;
        let (selections, lists_count) = head.split_at_checked(SELECTION_BYTES)?;
        let (banks_count, rows) = selections.split_first_chunk::<4>()?;
        let banks_count = usize::try_from(u32::from_le_bytes(*banks_count)).ok().filter(|count| *count <= 16)?;
        let lists_count = usize::try_from(u32::from_le_bytes(*lists_count.first_chunk::<4>()?)).ok()?;
        if lists.len() != lists_count.checked_mul(DIGEST_LIST_BYTES)? {
            return None;
        }
        let mut digests = Vec::new();
        for list in lists.chunks_exact(DIGEST_LIST_BYTES) {
            let (count, digests_room) = list.split_first_chunk::<4>()?;
            let count = usize::try_from(u32::from_le_bytes(*count)).ok().filter(|count| *count <= 8)?;
            digests.extend(digests_room.chunks_exact(DIGEST_BYTES).take(count));
        }
        let mut digests = digests.into_iter();
        let mut out = Self::default();
        for row in rows.chunks_exact(8).take(banks_count) {
            let [alg0, alg1, size, select @ ..] = row.first_chunk::<7>()?;
            let alg = HashAlg::from_tpm(u16::from_le_bytes([*alg0, *alg1]));
            let bits =
                select.iter().take(usize::from(*size)).rev().fold(0u32, |bits, byte| (bits << 8) | u32::from(*byte));
            for pcr in (0..PCRS).filter(|pcr| bits & 1u32.unbounded_shl(u32::from(*pcr)) != 0) {
                let (length, room) = digests.next()?.split_first_chunk::<2>()?;
                let value = room.get(..usize::from(u16::from_le_bytes(*length)))?;
                out.insert(alg?, pcr, Digest::from_bytes(alg?, value)?)?;
            }
        }
        digests.next().is_none().then_some(out)
    }
}

fn digest_of_hex(alg: HashAlg, text: &str) -> Option<Digest> {
    let digits = text.strip_prefix("0x").unwrap_or(text);
    Digest::from_bytes(alg, &hex::decode(digits).ok()?)
}

const fn malformed(what: &'static str) -> EvidenceDenial {
    EvidenceDenial::Malformed { structure: "PCR values", offset: 0, what }
}

/// TPML_PCR_SELECTION: a count and 16 TPMS_PCR_SELECTIONs of eight bytes.
const SELECTION_BYTES: usize = 4 + 16 * 8;
const SERIALIZED_HEAD_BYTES: usize = SELECTION_BYTES + 4;
/// TPM2B_DIGEST: a length and room for 64 bytes.
const DIGEST_BYTES: usize = 2 + 64;
/// TPML_DIGEST: a count and eight TPM2B_DIGESTs.
const DIGEST_LIST_BYTES: usize = 4 + 8 * DIGEST_BYTES;
