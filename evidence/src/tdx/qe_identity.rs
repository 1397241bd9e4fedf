//! Identity of the quoting enclave (PCS API v4, "Get TDX Quoting Enclave Identity" and "Get SGX Quoting Enclave
//! Identity"; version 2 of the structure; Intel QVL, steps 4.1.2.9.5 to .10).

use serde::Deserialize;

use super::{
    body::EnclaveReport,
    json::{self, Hex, Instant, capped},
    quote::TeeType,
    tcb_level::{IsvLevelText, IsvLevels, Standing},
};
use crate::{EvidenceDenial, time::UnixSeconds};

/// Name in denials.
pub(super) const QE_IDENTITY: &str = "QE identity";

/// What the quoting enclave must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QeIdentity {
    /// Whose quotes the enclave makes.
    pub tee_type: TeeType,
    /// When Intel issued it.
    pub issued_at: UnixSeconds,
    /// When the next is due at the latest.
    pub next_update: UnixSeconds,
    /// Grows with every TCB recovery.
    pub tcb_evaluation_data_number: u32,
    misc_select: [u8; 4],
    misc_select_mask: [u8; 4],
    attributes: [u8; 16],
    attributes_mask: [u8; 16],
    mr_signer: [u8; 32],
    isv_prod_id: u16,
    levels: IsvLevels,
}

impl QeIdentity {
    /// Reads the text, whose signature is verified elsewhere.
    pub(super) fn read(text: &str) -> Result<Self, EvidenceDenial> {
        let text: QeIdentityText = json::read(QE_IDENTITY, text)?;
        let field = |field, got: String, accepted| EvidenceDenial::CollateralField {
            structure: QE_IDENTITY,
            field,
            got: got.escape_default().take(64).collect(),
            accepted,
        };
        if text.version != 2 {
            return Err(field("version", text.version.to_string(), "2"));
        }
        let tee_type = match text.id.as_str() {
            "QE" => TeeType::Sgx,
            "TD_QE" => TeeType::Tdx,
            _ => return Err(field("id", text.id, "QE or TD_QE")),
        };
        Ok(Self {
            tee_type,
            issued_at: text.issue_date.0,
            next_update: text.next_update.0,
            tcb_evaluation_data_number: text.tcb_evaluation_data_number,
            misc_select: text.miscselect.0,
            misc_select_mask: text.miscselect_mask.0,
            attributes: text.attributes.0,
            attributes_mask: text.attributes_mask.0,
            mr_signer: text.mrsigner.0,
            isv_prod_id: text.isvprodid,
            levels: IsvLevels::read(QE_IDENTITY, text.tcb_levels)?,
        })
    }

    /// X4: is `report` of this enclave? What its version is worth.
    pub(super) fn judge(&self, report: &EnclaveReport<'_>) -> Result<&Standing, EvidenceDenial> {
        masked("MISCSELECT", report.misc_select, &self.misc_select_mask, &self.misc_select)?;
        masked("ATTRIBUTES", report.attributes, &self.attributes_mask, &self.attributes)?;
        masked("MRSIGNER", report.mr_signer, &[0xff; 32], &self.mr_signer)?;
        masked("ISVPRODID", &report.isv_prod_id.to_be_bytes(), &[0xff; 2], &self.isv_prod_id.to_be_bytes())?;
        report.refuse_debug("quoting enclave")?;
        self.levels.standing("quoting enclave", report.isv_svn)
    }
}

fn masked<const N: usize>(
    field: &'static str,
    got: &[u8; N],
    mask: &[u8; N],
    want: &[u8; N],
) -> Result<(), EvidenceDenial> {
    let is_equal = got.iter().zip(mask).zip(want).all(|((got, mask), want)| got & mask == *want);
    if is_equal {
        return Ok(());
    }
    Err(EvidenceDenial::QeIdentityMismatch { field, got: hex::encode(got), want: hex::encode(want) })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct QeIdentityText {
    id: String,
    version: u32,
    issue_date: Instant,
    next_update: Instant,
    tcb_evaluation_data_number: u32,
    miscselect: Hex<4>,
    miscselect_mask: Hex<4>,
    attributes: Hex<16>,
    attributes_mask: Hex<16>,
    mrsigner: Hex<32>,
    isvprodid: u16,
    #[serde(deserialize_with = "capped")]
    tcb_levels: Vec<IsvLevelText>,
}
