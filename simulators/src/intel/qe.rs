//! The quoting enclave's report (SGX REPORT body, 384 bytes).

use crate::layout::Layout;

/// Every field of the report but its report data, which binds the attestation key.
#[derive(Clone, Debug)]
pub struct QeReportFields {
    /// CPUSVN at 0.
    pub cpu_svn: [u8; 16],
    /// MISCSELECT at 16.
    pub misc_select: u32,
    /// ISVEXTPRODID at 32.
    pub isv_ext_prod_id: [u8; 16],
    /// ATTRIBUTES (flags, XFRM) at 48.
    pub attributes: [u8; 16],
    /// MRENCLAVE at 64.
    pub mr_enclave: [u8; 32],
    /// MRSIGNER at 128.
    pub mr_signer: [u8; 32],
    /// CONFIGID at 192.
    pub config_id: [u8; 64],
    /// ISVPRODID at 256.
    pub isv_prod_id: u16,
    /// ISVSVN at 258.
    pub isv_svn: u16,
    /// CONFIGSVN at 260.
    pub config_svn: u16,
    /// ISVFAMILYID at 304.
    pub isv_family_id: [u8; 16],
    /// REPORTDATA at 320 in place of SHA-256(attestation key ‖ authentication data) and zeros.
    pub report_data: Option<[u8; 64]>,
    /// Put over the body before it is signed, by offset.
    pub overlay: Vec<(usize, Vec<u8>)>,
}

impl QeReportFields {
    /// The TD quoting enclave, at the level of the default QE identity.
    pub fn new() -> Self {
        Self {
            cpu_svn: [4, 4, 0x19, 0x1b, 4, 0xff, 0, 6, 0, 0, 0, 0, 0, 0, 0, 0],
            misc_select: 0,
            isv_ext_prod_id: [0; 16],
            attributes: [0x15, 0, 0, 0, 0, 0, 0, 0, 0xe7, 0, 0, 0, 0, 0, 0, 0],
            mr_enclave: [0xe5; 32],
            mr_signer: QE_MR_SIGNER,
            config_id: [0; 64],
            isv_prod_id: 2,
            isv_svn: 6,
            config_svn: 0,
            isv_family_id: [0; 16],
            report_data: None,
            overlay: vec![],
        }
    }

    /// 384 bytes; `binding` is the report data unless [`Self::report_data`] says otherwise.
    pub fn encode(&self, binding: [u8; 64]) -> Vec<u8> {
        let mut report = Layout::zeroed(384);
        report.put(0, &self.cpu_svn);
        report.put(16, &self.misc_select.to_le_bytes());
        report.put(32, &self.isv_ext_prod_id);
        report.put(48, &self.attributes);
        report.put(64, &self.mr_enclave);
        report.put(128, &self.mr_signer);
        report.put(192, &self.config_id);
        report.put(256, &self.isv_prod_id.to_le_bytes());
        report.put(258, &self.isv_svn.to_le_bytes());
        report.put(260, &self.config_svn.to_le_bytes());
        report.put(304, &self.isv_family_id);
        report.put(320, &self.report_data.unwrap_or(binding));
        for (offset, bytes) in &self.overlay {
            report.put(*offset, bytes);
        }
        report.bytes()
    }
}

impl Default for QeReportFields {
    fn default() -> Self {
        Self::new()
    }
}

/// MRSIGNER of Intel's TD quoting enclave.
pub(super) const QE_MR_SIGNER: [u8; 32] = [
    0xdc, 0x9e, 0x2a, 0x7c, 0x6f, 0x94, 0x8f, 0x17, 0x47, 0x4e, 0x34, 0xa7, 0xfc, 0x43, 0xed, 0x03, 0x0f, 0x7c, 0x15,
    0x63, 0xf1, 0xba, 0xbd, 0xdf, 0x63, 0x40, 0xc8, 0x2e, 0x0e, 0x54, 0xa8, 0xc5,
];
