//! TD report bodies (DCAP quoting library, "TD Quote Body" for TDX 1.0 and 1.5).

use crate::layout::Layout;

/// TDATTRIBUTES bit 28.
pub const SEPT_VE_DISABLE: u64 = 1 << 28;

/// Every field of a TD quote body.
#[derive(Clone, Debug)]
pub struct TdBody {
    /// TEE_TCB_SVN at 0.
    pub tee_tcb_svn: [u8; 16],
    /// MRSEAM at 16.
    pub mr_seam: [u8; 48],
    /// MRSIGNERSEAM at 64.
    pub mr_signer_seam: [u8; 48],
    /// SEAMATTRIBUTES at 112.
    pub seam_attributes: u64,
    /// TDATTRIBUTES at 120.
    pub td_attributes: u64,
    /// XFAM at 128.
    pub xfam: u64,
    /// MRTD at 136.
    pub mr_td: [u8; 48],
    /// MRCONFIGID at 184.
    pub mr_config_id: [u8; 48],
    /// MROWNER at 232.
    pub mr_owner: [u8; 48],
    /// MROWNERCONFIG at 280.
    pub mr_owner_config: [u8; 48],
    /// RTMR0 to RTMR3 at 328.
    pub rtmrs: [[u8; 48]; 4],
    /// REPORTDATA at 520.
    pub report_data: [u8; 64],
    /// TEE_TCB_SVN_2 at 584, TDX 1.5 only.
    pub tee_tcb_svn_2: [u8; 16],
    /// MRSERVICETD at 600, TDX 1.5 only.
    pub mr_service_td: [u8; 48],
}

impl TdBody {
    /// An ordinary guest: SEPT_VE_DISABLE alone, no service TD, RTMRs zero.
    pub fn new() -> Self {
        let tee_tcb_svn = [0x0b, 1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        Self {
            tee_tcb_svn,
            mr_seam: [0x7b; 48],
            mr_signer_seam: [0; 48],
            seam_attributes: 0,
            td_attributes: SEPT_VE_DISABLE,
            xfam: 0x0006_02e7,
            mr_td: [0xd7; 48],
            mr_config_id: [0; 48],
            mr_owner: [0; 48],
            mr_owner_config: [0; 48],
            rtmrs: [[0; 48]; 4],
            report_data: [0; 64],
            tee_tcb_svn_2: tee_tcb_svn,
            mr_service_td: [0; 48],
        }
    }

    /// 584 bytes for TDX 1.0, 648 for 1.5.
    pub fn encode(&self, tdx_1_5: bool) -> Vec<u8> {
        let mut body = Layout::zeroed(584);
        body.put(0, &self.tee_tcb_svn);
        body.put(16, &self.mr_seam);
        body.put(64, &self.mr_signer_seam);
        body.put(112, &self.seam_attributes.to_le_bytes());
        body.put(120, &self.td_attributes.to_le_bytes());
        body.put(128, &self.xfam.to_le_bytes());
        body.put(136, &self.mr_td);
        body.put(184, &self.mr_config_id);
        body.put(232, &self.mr_owner);
        body.put(280, &self.mr_owner_config);
        body.put(328, &self.rtmrs.concat());
        body.put(520, &self.report_data);
        if tdx_1_5 {
            body.put(584, &self.tee_tcb_svn_2);
            body.put(600, &self.mr_service_td);
        }
        body.bytes()
    }
}

impl Default for TdBody {
    fn default() -> Self {
        Self::new()
    }
}
