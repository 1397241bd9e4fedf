//! The certificate table that a host gives with an extended report (AMD 56421 "SEV-ES Guest-Hypervisor Communication
//! Block Standardization" §4.1.8.1, SNP Extended Guest Request), as configfs-tsm hands it out as `auxblob`.

use std::{borrow::Cow, ops::Range};

use der::Document;

use crate::{EvidenceDenial, x509::CERTIFICATE_CAP_BYTES};

/// Longest table.
pub const CERT_TABLE_CAP_BYTES: usize = 48 * 1024;
/// Most entries.
pub const CERT_TABLE_ENTRIES_CAP: usize = 16;

/// A table that reads as one: which certificates, where. What they say is not read.
#[derive(Clone, Debug)]
pub struct CertificateTable<'a> {
    entries: Vec<CertificateEntry<'a>>,
}

/// One entry of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CertificateEntry<'a> {
    /// GUID, as it stands: its first three fields little-endian or big-endian, as hosts differ.
    pub guid: [u8; 16],
    /// What is under it.
    pub bytes: &'a [u8],
}

/// What the table is known to hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateKind {
    /// The chip's endorsement key.
    Vcek,
    /// The provider's endorsement key.
    Vlek,
    /// The issuer of either.
    Ask,
    /// The root.
    Ark,
    /// The root's revocation list.
    Crl,
}

impl CertificateKind {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Vcek, Self::Vlek, Self::Ask, Self::Ark, Self::Crl];

    /// Its GUID in the order in which it is written.
    const fn guid(self) -> [u8; 16] {
        let guid: u128 = match self {
            Self::Vcek => 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd,
            Self::Vlek => 0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1,
            Self::Ask => 0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782,
            Self::Ark => 0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae,
            Self::Crl => 0x92f8_1bc3_5811_4d3d_97ff_d19f_88dc_67ea,
        };
        guid.to_be_bytes()
    }
}

impl CertificateEntry<'_> {
    /// What it is, if known.
    #[must_use]
    pub fn kind(&self) -> Option<CertificateKind> {
        let [a, b, c, d, e, f, g, h, rest @ ..] = self.guid;
        let [i, j, k, l, m, n, o, p] = rest;
        let swapped = [d, c, b, a, f, e, h, g, i, j, k, l, m, n, o, p];
        CertificateKind::ALL.into_iter().find(|kind| kind.guid() == self.guid || kind.guid() == swapped)
    }
}

impl<'a> CertificateTable<'a> {
    /// Reads a table: entries of GUID, offset and length (little-endian, 24 bytes) up to one that is all zeros, and
    /// what they point to. Entries lie behind the table, within the bytes, and do not overlap.
    ///
    /// # Errors
    /// [`EvidenceDenial::TooLarge`], [`EvidenceDenial::TooMany`] or [`EvidenceDenial::Malformed`] with the offset of
    /// the entry.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, EvidenceDenial> {
        if bytes.len() > CERT_TABLE_CAP_BYTES {
            let (got_bytes, cap_bytes) = (bytes.len(), CERT_TABLE_CAP_BYTES);
            return Err(EvidenceDenial::TooLarge { part: "certificate table", got_bytes, cap_bytes });
        }
        let (heads, table_bytes) = read_heads(bytes)?;
        let mut entries = Vec::with_capacity(heads.len());
        let mut taken: Vec<Range<usize>> = Vec::with_capacity(heads.len());
        for (position, (guid, offset, length)) in heads.into_iter().enumerate() {
            let refused = |what| malformed(position.saturating_mul(ENTRY_BYTES), what);
            let start = usize::try_from(offset).map_err(|_| refused("an offset within the table"))?;
            let length = usize::try_from(length).map_err(|_| refused("a length within the table"))?;
            let end = start.checked_add(length).ok_or_else(|| refused("an end that can be counted"))?;
            let contents = bytes.get(start..end).filter(|contents| start >= table_bytes && !contents.is_empty());
            let contents = contents.ok_or_else(|| refused("contents behind the entries and within the table"))?;
            if taken.iter().any(|other| start < other.end && other.start < end) {
                return Err(refused("contents of its own"));
            }
            let entry = CertificateEntry { guid, bytes: contents };
            let is_repeated = |other: &CertificateEntry<'_>| {
                other.guid == guid || (entry.kind().is_some() && other.kind() == entry.kind())
            };
            if entries.iter().any(is_repeated) {
                return Err(refused("a GUID of its own"));
            }
            taken.push(start..end);
            entries.push(entry);
        }
        Ok(Self { entries })
    }

    /// All entries.
    #[must_use]
    pub fn entries(&self) -> &[CertificateEntry<'a>] {
        &self.entries
    }

    /// DER of the certificate or list of this kind; `None` when there is none. Hosts store DER or PEM.
    ///
    /// # Errors
    /// [`EvidenceDenial::TooLarge`], or [`EvidenceDenial::Malformed`] when it is neither.
    pub fn der(&self, kind: CertificateKind) -> Result<Option<Cow<'a, [u8]>>, EvidenceDenial> {
        let Some(entry) = self.entries.iter().find(|entry| entry.kind() == Some(kind)) else { return Ok(None) };
        let cap_bytes = CERTIFICATE_CAP_BYTES.saturating_mul(2);
        if entry.bytes.len() > cap_bytes {
            let got_bytes = entry.bytes.len();
            return Err(EvidenceDenial::TooLarge { part: "certificate in the table", got_bytes, cap_bytes });
        }
        if !entry.bytes.starts_with(b"-----BEGIN ") {
            return Ok(Some(Cow::Borrowed(entry.bytes)));
        }
        let label = if kind == CertificateKind::Crl { "X509 CRL" } else { "CERTIFICATE" };
        let text = std::str::from_utf8(entry.bytes).ok().map(str::trim_end);
        let document = text.and_then(|text| Document::from_pem(text).ok()).filter(|(found, _)| *found == label);
        match document {
            Some((_, der)) => Ok(Some(Cow::Owned(der.into_vec()))),
            None => Err(malformed(0, "PEM of the one certificate or list it is named for")),
        }
    }

    /// The endorsement key's certificate, VLEK or VCEK, as DER.
    ///
    /// # Errors
    /// As [`CertificateTable::der`].
    pub fn vek(&self) -> Result<Option<Cow<'a, [u8]>>, EvidenceDenial> {
        match self.der(CertificateKind::Vlek)? {
            Some(vlek) => Ok(Some(vlek)),
            None => self.der(CertificateKind::Vcek),
        }
    }
}

/// GUID, offset and length.
type Head = ([u8; 16], u32, u32);

/// The entries up to the terminator, and where that ends.
fn read_heads(bytes: &[u8]) -> Result<(Vec<Head>, usize), EvidenceDenial> {
    let mut heads = Vec::new();
    for (position, entry) in bytes.chunks_exact(ENTRY_BYTES).enumerate() {
        let offset = position.saturating_mul(ENTRY_BYTES);
        let early = || malformed(offset, "ends early");
        let (guid, place) = entry.split_first_chunk::<16>().ok_or_else(early)?;
        let (start, length) = place.split_first_chunk::<4>().ok_or_else(early)?;
        let length = length.first_chunk::<4>().ok_or_else(early)?;
        let head = (*guid, u32::from_le_bytes(*start), u32::from_le_bytes(*length));
        if *guid == [0; 16] {
            return match head {
                (_, 0, 0) => Ok((heads, offset.saturating_add(ENTRY_BYTES))),
                _ => Err(malformed(offset, "a terminator that is all zeros")),
            };
        }
        if heads.len() >= CERT_TABLE_ENTRIES_CAP {
            return Err(EvidenceDenial::TooMany { part: "certificate table", cap: CERT_TABLE_ENTRIES_CAP });
        }
        heads.push(head);
    }
    Err(malformed(bytes.len(), "an entry of zeros at the end of the entries"))
}

const fn malformed(offset: usize, what: &'static str) -> EvidenceDenial {
    EvidenceDenial::Malformed { structure: "certificate table", offset, what }
}

const ENTRY_BYTES: usize = 24;

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(guid: [u8; 16], offset: u32, length: u32) -> Vec<u8> {
        [&guid[..], &offset.to_le_bytes(), &length.to_le_bytes()].concat()
    }

    fn table(heads: &[Vec<u8>], contents: &[u8]) -> Vec<u8> {
        [heads.concat(), vec![0; 24], contents.to_vec()].concat()
    }

    const ARK: [u8; 16] = CertificateKind::Ark.guid();
    const VCEK: [u8; 16] = CertificateKind::Vcek.guid();

    #[test]
    fn entries_are_found_whatever_the_order_of_bytes_in_their_guid() {
        let mut swapped = VCEK;
        swapped[..4].reverse();
        swapped[4..6].reverse();
        swapped[6..8].reverse();
        let bytes = table(&[entry(ARK, 72, 3), entry(swapped, 75, 2)], b"arkve");
        let read = CertificateTable::parse(&bytes).unwrap();
        assert_eq!(read.entries().len(), 2);
        assert_eq!(read.der(CertificateKind::Ark).unwrap().as_deref(), Some(&b"ark"[..]));
        assert_eq!(read.vek().unwrap().as_deref(), Some(&b"ve"[..]));
        assert_eq!(read.der(CertificateKind::Ask).unwrap(), None);
        assert!(CertificateTable::parse(&[0; 24]).unwrap().entries().is_empty());
    }

    #[test]
    fn each_rule_of_the_table_is_kept() {
        let contents = [b'x'; 40];
        for (what, bytes) in [
            ("empty", vec![]),
            ("no terminator", entry(ARK, 24, 0)),
            ("terminator with a place", [entry([0; 16], 24, 1), vec![0]].concat()),
            ("terminator cut", [entry(ARK, 48, 1), vec![0; 20]].concat()),
            ("contents among the entries", table(&[entry(ARK, 0, 4)], &contents)),
            ("contents in the terminator", table(&[entry(ARK, 40, 4)], &contents)),
            ("contents behind the end", table(&[entry(ARK, 48, 41)], &contents)),
            ("offset that overflows", table(&[entry(ARK, u32::MAX, 40)], &contents)),
            ("length that overflows", table(&[entry(ARK, 48, u32::MAX)], &contents)),
            ("no contents", table(&[entry(ARK, 48, 0)], &contents)),
            ("contents shared", table(&[entry(ARK, 72, 10), entry(VCEK, 81, 10)], &contents)),
            ("the same twice", table(&[entry(ARK, 72, 10), entry(ARK, 82, 10)], &contents)),
            ("too large", vec![0; CERT_TABLE_CAP_BYTES + 1]),
            ("too many", vec![1; 24 * 20]),
        ] {
            assert!(CertificateTable::parse(&bytes).is_err(), "{what}");
        }
        let text = b"-----BEGIN CERTIFICATE-----\nnot base64\n-----END CERTIFICATE-----\n";
        let bytes = table(&[entry(ARK, 48, u32::try_from(text.len()).unwrap())], text);
        assert!(CertificateTable::parse(&bytes).unwrap().der(CertificateKind::Ark).is_err());
    }
}
