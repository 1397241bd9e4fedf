//! The UEFI structures inside events that decisions depend on: variables and signature lists.

use super::event::Event;
use crate::{denial::EvidenceDenial, reader::Reader};

/// Most bytes of a variable's name.
const NAME_CAP_BYTES: usize = 512;
/// Most bytes that may follow a variable in an event: shim before 15.3 counted its structure's padding in.
const PADDING_CAP_BYTES: usize = 8;

/// An EFI_GUID as it stands in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Guid(pub(super) [u8; 16]);

impl Guid {
    /// EFI_GLOBAL_VARIABLE (UEFI §3.3), 8be4df61-93ca-11d2-aa0d-00e098032b8c.
    pub(super) const GLOBAL: Self =
        Self([0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c]);
    /// EFI_IMAGE_SECURITY_DATABASE (UEFI §32.6), d719b2cb-3d3a-4596-a3bc-dad00e67656f.
    pub(super) const IMAGE_SECURITY: Self =
        Self([0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f]);
    /// EFI_CERT_SHA256 (UEFI §32.4.1), c1c41626-504c-4092-aca9-41f936934328.
    const CERT_SHA256: Self =
        Self([0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28]);
}

impl std::fmt::Display for Guid {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [a0, a1, a2, a3, b0, b1, c0, c1, d0, d1, e @ ..] = self.0;
        write!(f, "{}-{}-", hex::encode([a3, a2, a1, a0]), hex::encode([b1, b0]))?;
        write!(f, "{}-{}-{}", hex::encode([c1, c0]), hex::encode([d0, d1]), hex::encode(e))
    }
}

/// UEFI_VARIABLE_DATA (PFP §10.2.6).
#[derive(Clone, Copy)]
pub(super) struct Variable<'a> {
    pub(super) guid: Guid,
    /// UTF-16LE, an even number of bytes.
    pub(super) name: &'a [u8],
    pub(super) data: &'a [u8],
    /// Bytes of the event after the variable.
    pub(super) padding_bytes: usize,
}

impl<'a> Variable<'a> {
    pub(super) fn parse(event: &Event<'a>) -> Result<Self, EvidenceDenial> {
        let mut reader = Reader::new("UEFI_VARIABLE_DATA", event.data());
        let guid = reader.take(16)?.first_chunk::<16>().map(|bytes| Guid(*bytes));
        let guid = guid.ok_or_else(|| reader.malformed("ends early"))?;
        let characters = reader.length_u64()?;
        let data_bytes = reader.length_u64()?;
        let name_bytes = characters.checked_mul(2).filter(|bytes| *bytes <= NAME_CAP_BYTES);
        let name = reader.take(name_bytes.ok_or_else(|| reader.malformed("name is too long"))?)?;
        let data = reader.take(data_bytes)?;
        let padding_bytes = reader.left();
        if padding_bytes > PADDING_CAP_BYTES {
            return Err(reader.malformed("bytes after the variable"));
        }
        Ok(Self { guid, name, data, padding_bytes })
    }

    /// Whether the name is this ASCII text; a trailing NUL in the event is not part of a name.
    pub(super) fn is_named(&self, ascii: &str) -> bool {
        let name = self.name.strip_suffix(&[0, 0]).unwrap_or(self.name);
        name.len() == ascii.len().saturating_mul(2)
            && name.chunks_exact(2).zip(ascii.bytes()).all(|(unit, letter)| unit == [letter, 0])
    }

    /// Whether it holds EFI_SIGNATURE_LISTs: PK, KEK, and the databases (UEFI §32.3, §32.4).
    pub(super) fn has_signature_lists(&self) -> bool {
        let named = |names: &[&str]| names.iter().any(|name| self.is_named(name));
        (self.guid == Guid::GLOBAL && named(&["PK", "KEK"]))
            || (self.guid == Guid::IMAGE_SECURITY && named(&["db", "dbx", "dbt", "dbr"]))
    }
}

/// E7: EFI_SIGNATURE_LISTs (UEFI §32.4.1) fill `data` exactly, and their signatures fill each list exactly.
/// Returns how many signatures there are.
pub(super) fn signature_lists(data: &[u8]) -> Result<usize, EvidenceDenial> {
    const HEADER_BYTES: usize = 28;
    let mut reader = Reader::new("EFI_SIGNATURE_LIST", data);
    let mut signatures = 0usize;
    while !reader.is_at_end() {
        let start = reader;
        let kind = reader.take(16)?;
        let list_bytes = reader.length_u32()?;
        let header_bytes = reader.length_u32()?;
        let signature_bytes = reader.length_u32()?;
        let body = HEADER_BYTES.checked_add(header_bytes).and_then(|used| list_bytes.checked_sub(used));
        let body = body.ok_or_else(|| start.malformed("list is smaller than its headers"))?;
        // SignatureOwner is 16 bytes; a signature has at least one byte after it.
        let count = body.checked_div(signature_bytes).filter(|_| signature_bytes > 16);
        let count = count.ok_or_else(|| start.malformed("signature size leaves no room for a signature"))?;
        if count == 0 || count.checked_mul(signature_bytes) != Some(body) {
            return Err(start.malformed("signatures do not divide their list"));
        }
        if kind == Guid::CERT_SHA256.0 && signature_bytes != 48 {
            return Err(start.malformed("SHA-256 signature is not an owner and 32 bytes"));
        }
        // SignatureHeader belongs to no signature (CVE-2026-12681: its bytes once became trusted hashes).
        reader.take(header_bytes)?;
        reader.take(body)?;
        signatures = signatures.saturating_add(count);
    }
    Ok(signatures)
}
