//! The certificate table of an extended guest request (GHCB 2.03, 4.1.8.1): entries of GUID, offset and length, ended by
//! a zero entry, then the certificates.

use crate::layout::Layout;

/// GUIDs of the entries, in the byte order that real tables have.
pub mod guid {
    /// c0b406a4-a803-4952-9743-3fb6014cd0ae.
    pub const ARK: [u8; 16] = 0xc0b4_06a4_a803_4952_9743_3fb6_014c_d0ae_u128.to_be_bytes();
    /// 4ab7b379-bbac-4fe4-a02f-05aef327c782.
    pub const ASK: [u8; 16] = 0x4ab7_b379_bbac_4fe4_a02f_05ae_f327_c782_u128.to_be_bytes();
    /// 63da758d-e664-4564-adc5-f4b93be8accd.
    pub const VCEK: [u8; 16] = 0x63da_758d_e664_4564_adc5_f4b9_3be8_accd_u128.to_be_bytes();
    /// a8074bc2-a25a-483e-aae6-39c045a0b8a1.
    pub const VLEK: [u8; 16] = 0xa807_4bc2_a25a_483e_aae6_39c0_45a0_b8a1_u128.to_be_bytes();
    /// 92f81bc3-5811-4d3d-97ff-d19f88dc67ea.
    pub const CRL: [u8; 16] = 0x92f8_1bc3_5811_4d3d_97ff_d19f_88dc_67ea_u128.to_be_bytes();
}

/// One entry; offset and length are computed unless a test says otherwise.
#[derive(Clone, Debug)]
pub struct CertificateTableEntry {
    /// Which certificate.
    pub guid: [u8; 16],
    /// DER or PEM.
    pub bytes: Vec<u8>,
    /// Written in place of the real offset.
    pub claimed_offset: Option<u32>,
    /// Written in place of the real length.
    pub claimed_length: Option<u32>,
}

/// The whole table.
#[derive(Clone, Debug, Default)]
pub struct CertificateTable {
    /// In order.
    pub entries: Vec<CertificateTableEntry>,
    /// Leave out the zero entry that ends it.
    pub unterminated: bool,
}

impl CertificateTable {
    /// With these certificates in order.
    pub fn new(certificates: &[([u8; 16], &[u8])]) -> Self {
        let entries = certificates
            .iter()
            .map(|(guid, bytes)| CertificateTableEntry {
                guid: *guid,
                bytes: bytes.to_vec(),
                claimed_offset: None,
                claimed_length: None,
            })
            .collect();
        Self { entries, unterminated: false }
    }

    /// The table's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let rows = self.entries.len().saturating_add(usize::from(!self.unterminated));
        let mut table = Layout::zeroed(rows.saturating_mul(ROW_LEN));
        for (index, entry) in self.entries.iter().enumerate() {
            let row = index.saturating_mul(ROW_LEN);
            let offset = table.as_bytes().len();
            table.put(row, &entry.guid);
            table.put(row.saturating_add(16), &entry.claimed_offset.unwrap_or(number(offset)).to_le_bytes());
            table.put(row.saturating_add(20), &entry.claimed_length.unwrap_or(number(entry.bytes.len())).to_le_bytes());
            table.put(offset, &entry.bytes);
        }
        table.bytes()
    }
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// GUID, offset, length.
const ROW_LEN: usize = 24;
