//! What a quote is about: a TD report of TDX 1.0 or 1.5, or an SGX enclave's report (Intel DCAP Quoting Library API
//! A.3.2, A.4.2 and A.4.3; TDX Module ABI, TD_INFO and TEE_TCB_INFO). Numbers are little-endian.

use crate::{EvidenceDenial, reader::Reader};

/// The body of a quote.
#[derive(Clone, Copy, Debug)]
pub enum Body<'a> {
    /// An enclave.
    Sgx(EnclaveReport<'a>),
    /// A trust domain, as TDX 1.0 reports it.
    Td10(TdReport<'a>),
    /// A trust domain, as TDX 1.5 reports it.
    Td15(TdReport15<'a>),
}

/// TD report of TDX 1.0, 584 bytes; field by field as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdReport<'a> {
    /// Offset 0: security versions; [0] and [1] are the TDX module's ISVSVN and version.
    pub tee_tcb_svn: &'a [u8; 16],
    /// Offset 16: measurement of the TDX module.
    pub mr_seam: &'a [u8; 48],
    /// Offset 64: signer of the TDX module; zero for Intel's.
    pub mr_signer_seam: &'a [u8; 48],
    /// Offset 112: attributes of the TDX module.
    pub seam_attributes: &'a [u8; 8],
    /// Offset 120: attributes of the trust domain.
    pub td_attributes: &'a [u8; 8],
    /// Offset 128: extended features that the trust domain may use.
    pub xfam: &'a [u8; 8],
    /// Offset 136: measurement of the initial contents.
    pub mr_td: &'a [u8; 48],
    /// Offset 184: chosen by the host at creation.
    pub mr_config_id: &'a [u8; 48],
    /// Offset 232: chosen by the host at creation.
    pub mr_owner: &'a [u8; 48],
    /// Offset 280: chosen by the host at creation.
    pub mr_owner_config: &'a [u8; 48],
    /// Offset 328: run-time measurement registers 0 to 3.
    pub rtmrs: [&'a [u8; 48]; 4],
    /// Offset 520: chosen by the trust domain.
    pub report_data: &'a [u8; 64],
}

/// TD report of TDX 1.5, 648 bytes: that of 1.0 and two fields more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TdReport15<'a> {
    /// Offset 0.
    pub td10: TdReport<'a>,
    /// Offset 584: security versions as of now, where [`TdReport::tee_tcb_svn`] is as of the launch.
    pub tee_tcb_svn2: &'a [u8; 16],
    /// Offset 600: measurement of the service trust domains; zero if there are none.
    pub mr_service_td: &'a [u8; 48],
}

/// SGX REPORT body, 384 bytes (A.3.2.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EnclaveReport<'a> {
    /// The whole report, for its signature.
    pub(super) bytes: &'a [u8; 384],
    /// Offset 0.
    pub cpu_svn: &'a [u8; 16],
    /// Offset 16.
    pub misc_select: &'a [u8; 4],
    /// Offset 48; bit 1 is DEBUG.
    pub attributes: &'a [u8; 16],
    /// Offset 64.
    pub mr_enclave: &'a [u8; 32],
    /// Offset 128.
    pub mr_signer: &'a [u8; 32],
    /// Offset 256.
    pub isv_prod_id: u16,
    /// Offset 258.
    pub isv_svn: u16,
    /// Offset 320.
    pub report_data: &'a [u8; 64],
}

impl<'a> TdReport<'a> {
    pub(super) const BYTES: usize = 584;

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, EvidenceDenial> {
        Ok(Self {
            tee_tcb_svn: reader.field()?,
            mr_seam: reader.field()?,
            mr_signer_seam: reader.field()?,
            seam_attributes: reader.field()?,
            td_attributes: reader.field()?,
            xfam: reader.field()?,
            mr_td: reader.field()?,
            mr_config_id: reader.field()?,
            mr_owner: reader.field()?,
            mr_owner_config: reader.field()?,
            rtmrs: [reader.field()?, reader.field()?, reader.field()?, reader.field()?],
            report_data: reader.field()?,
        })
    }
}

impl<'a> TdReport15<'a> {
    pub(super) const BYTES: usize = 648;

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, EvidenceDenial> {
        Ok(Self { td10: TdReport::read(reader)?, tee_tcb_svn2: reader.field()?, mr_service_td: reader.field()? })
    }
}

impl<'a> EnclaveReport<'a> {
    pub(super) const BYTES: usize = 384;

    pub(super) fn read(reader: &mut Reader<'a>) -> Result<Self, EvidenceDenial> {
        let bytes = reader.field()?;
        let mut reader = Reader::new("enclave report", bytes);
        let cpu_svn = reader.field()?;
        let misc_select = reader.field()?;
        reader.take(28)?;
        let attributes = reader.field()?;
        let mr_enclave = reader.field()?;
        reader.take(32)?;
        let mr_signer = reader.field()?;
        reader.take(96)?;
        let isv_prod_id = reader.u16()?;
        let isv_svn = reader.u16()?;
        reader.take(60)?;
        let report_data = reader.field()?;
        Ok(Self { bytes, cpu_svn, misc_select, attributes, mr_enclave, mr_signer, isv_prod_id, isv_svn, report_data })
    }

    /// ATTRIBUTES.DEBUG (Intel SDM volume 3D §38.7.1): the host may read the enclave.
    #[must_use]
    pub const fn is_debug(&self) -> bool {
        self.attributes[0] & 0x02 != 0
    }

    /// Refuses an enclave whose memory the host may read.
    ///
    /// # Errors
    /// [`EvidenceDenial::DebugEnabled`], naming it `what`.
    pub const fn refuse_debug(&self, what: &'static str) -> Result<(), EvidenceDenial> {
        if self.is_debug() { Err(EvidenceDenial::DebugEnabled { what }) } else { Ok(()) }
    }
}
