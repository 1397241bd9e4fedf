//! TCB info and QE identity (PCS API v4) as signed text, and the collateral as one JSON document.

use serde::Serialize;

use super::{IntelAuthority, PckCa, PckFields, authority::DAY, qe::QE_MR_SIGNER};
use crate::{
    SimulatorError, asn1,
    keys::{EcKey, Signer},
    x509::{CrlFields, certificate_pem},
};

/// TCB info, version 3, in the order of its text.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbInfo {
    /// `TDX`.
    pub id: String,
    /// 3.
    pub version: u32,
    /// `2026-03-16T22:06:09Z`.
    pub issue_date: String,
    /// Likewise.
    pub next_update: String,
    /// Six bytes, lower-case hex.
    pub fmspc: String,
    /// Two bytes, hex.
    pub pce_id: String,
    /// 0.
    pub tcb_type: u32,
    /// Grows with each TCB recovery.
    pub tcb_evaluation_data_number: u32,
    /// The module where TEE_TCB_SVN\[1\] is zero.
    pub tdx_module: TdxModule,
    /// Modules by TEE_TCB_SVN\[1\].
    pub tdx_module_identities: Vec<TdxModuleIdentity>,
    /// Greatest first.
    pub tcb_levels: Vec<TcbLevel>,
}

/// Identity of the TDX module.
#[derive(Clone, Debug, Serialize)]
pub struct TdxModule {
    /// MRSIGNERSEAM, 48 bytes hex.
    pub mrsigner: String,
    /// SEAMATTRIBUTES, 8 bytes hex.
    pub attributes: String,
    /// Mask, 8 bytes hex.
    #[serde(rename = "attributesMask")]
    pub attributes_mask: String,
}

/// Identity and levels of the TDX module of one major version.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TdxModuleIdentity {
    /// `TDX_01`.
    pub id: String,
    /// MRSIGNERSEAM, 48 bytes hex.
    pub mrsigner: String,
    /// SEAMATTRIBUTES, 8 bytes hex.
    pub attributes: String,
    /// Mask, 8 bytes hex.
    pub attributes_mask: String,
    /// Greatest first.
    pub tcb_levels: Vec<IsvTcbLevel>,
}

/// A level of the platform.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TcbLevel {
    /// Levels.
    pub tcb: TcbComponents,
    /// Date.
    pub tcb_date: String,
    /// `UpToDate`, `OutOfDate`, ...
    pub tcb_status: String,
    /// Left out where empty.
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    pub advisory_ids: Vec<String>,
}

/// Component levels.
#[derive(Clone, Debug, Serialize)]
pub struct TcbComponents {
    /// Sixteen.
    pub sgxtcbcomponents: Vec<TcbComponent>,
    /// PCE's.
    pub pcesvn: u16,
    /// Sixteen.
    pub tdxtcbcomponents: Vec<TcbComponent>,
}

/// One component.
#[derive(Clone, Debug, Serialize)]
pub struct TcbComponent {
    /// Level.
    pub svn: u8,
    /// Left out where none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub category: Option<String>,
    /// Left out where none.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
}

/// A level of an enclave or module.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct IsvTcbLevel {
    /// Level.
    pub tcb: IsvTcb,
    /// Date.
    pub tcb_date: String,
    /// `UpToDate`, `OutOfDate`, ...
    pub tcb_status: String,
    /// Left out where empty.
    #[serde(rename = "advisoryIDs", skip_serializing_if = "Vec::is_empty")]
    pub advisory_ids: Vec<String>,
}

/// One SVN.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct IsvTcb {
    /// ISVSVN.
    pub isvsvn: u16,
}

/// QE identity, version 2, in the order of its text.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QeIdentity {
    /// `TD_QE`.
    pub id: String,
    /// 2.
    pub version: u32,
    /// Date.
    pub issue_date: String,
    /// Date.
    pub next_update: String,
    /// Grows with each TCB recovery.
    pub tcb_evaluation_data_number: u32,
    /// Four bytes, hex.
    pub miscselect: String,
    /// Mask.
    pub miscselect_mask: String,
    /// Sixteen bytes, hex.
    pub attributes: String,
    /// Mask.
    pub attributes_mask: String,
    /// 32 bytes, hex.
    pub mrsigner: String,
    /// ISVPRODID.
    pub isvprodid: u16,
    /// Greatest first.
    pub tcb_levels: Vec<IsvTcbLevel>,
}

/// Everything collateral is made of. Change any, then sign.
#[derive(Clone, Debug)]
pub struct CollateralFields {
    /// TCB info.
    pub tcb_info: TcbInfo,
    /// QE identity.
    pub qe_identity: QeIdentity,
    /// The root's CRL.
    pub root_crl: CrlFields,
    /// The PCK CA's CRL.
    pub pck_crl: CrlFields,
    /// Whose CRL that is.
    pub pck_ca: PckCa,
}

/// Signed collateral as one JSON document: the two texts as strings with hex signatures, CRLs as hex of DER, chains in PEM.
#[derive(Clone, Debug, Serialize)]
pub struct Collateral {
    /// PCK CRL, DER in hex.
    pub pck_crl: String,
    /// PCK CA and root.
    pub pck_crl_issuer_chain: String,
    /// QE identity, exactly as signed.
    pub qe_identity: String,
    /// TCB Signing and root.
    pub qe_identity_issuer_chain: String,
    /// 64 bytes in hex.
    pub qe_identity_signature: String,
    /// Root CRL, DER in hex.
    pub root_ca_crl: String,
    /// TCB info, exactly as signed.
    pub tcb_info: String,
    /// TCB Signing and root.
    pub tcb_info_issuer_chain: String,
    /// 64 bytes in hex.
    pub tcb_info_signature: String,
}

impl CollateralFields {
    /// For the platform of `pck`: a week old, good for thirty days, with an up-to-date, two out-of-date and no revoked level.
    pub fn new(authority: &IntelAuthority, pck: &PckFields) -> Result<Self, SimulatorError> {
        let issued = authority.now.saturating_sub(7 * DAY);
        let issue_date = asn1::iso_time(issued)?;
        let next_update = asn1::iso_time(issued.saturating_add(30 * DAY))?;
        Ok(Self {
            tcb_info: TcbInfo {
                id: "TDX".to_owned(),
                version: 3,
                issue_date: issue_date.clone(),
                next_update: next_update.clone(),
                fmspc: hex::encode(pck.fmspc),
                pce_id: hex::encode(pck.pceid),
                tcb_type: 0,
                tcb_evaluation_data_number: EVALUATION_DATA_NUMBER,
                tdx_module: TdxModule {
                    mrsigner: "00".repeat(48),
                    attributes: "00".repeat(8),
                    attributes_mask: "FF".repeat(8),
                },
                tdx_module_identities: vec![module("TDX_03", &[(3, UP_TO_DATE)]), default_module()],
                tcb_levels: vec![
                    level([3, 3, 2, 2, 4, 1, 0, 5], 13, [5, 0, 3], "2024-11-13T00:00:00Z", UP_TO_DATE),
                    level([2, 2, 2, 2, 3, 1, 0, 5], 13, [5, 0, 2], "2024-03-13T00:00:00Z", OUT_OF_DATE),
                    level([2, 2, 2, 2, 3, 1, 0, 5], 5, [5, 0, 2], "2018-01-04T00:00:00Z", OUT_OF_DATE),
                ],
            },
            qe_identity: QeIdentity {
                id: "TD_QE".to_owned(),
                version: 2,
                issue_date,
                next_update,
                tcb_evaluation_data_number: EVALUATION_DATA_NUMBER,
                miscselect: "00000000".to_owned(),
                miscselect_mask: "FFFFFFFF".to_owned(),
                attributes: "11000000000000000000000000000000".to_owned(),
                attributes_mask: "FBFFFFFFFFFFFFFF0000000000000000".to_owned(),
                mrsigner: hex::encode_upper(QE_MR_SIGNER),
                isvprodid: 2,
                tcb_levels: vec![isv_level(4, UP_TO_DATE)],
            },
            root_crl: authority.root_crl_fields(),
            pck_crl: authority.pck_crl_fields(pck.ca),
            pck_ca: pck.ca,
        })
    }

    /// Signed by `authority`.
    pub fn sign(&self, authority: &IntelAuthority) -> Result<Collateral, SimulatorError> {
        let tcb_info = serde_json::to_string(&self.tcb_info).map_err(|_| SimulatorError::Text("TCB info"))?;
        let qe_identity = serde_json::to_string(&self.qe_identity).map_err(|_| SimulatorError::Text("QE identity"))?;
        let signing = issuer_chain(&[&authority.tcb_signing, &authority.root]);
        let pck_signer = Signer::Ec(authority.pck_ca_key(self.pck_ca));
        Ok(Collateral {
            pck_crl: hex::encode(self.pck_crl.sign(pck_signer)?),
            pck_crl_issuer_chain: issuer_chain(&[authority.pck_ca(self.pck_ca), &authority.root]),
            qe_identity_signature: sign_text(&authority.keys.tcb_signing, &qe_identity)?,
            qe_identity,
            qe_identity_issuer_chain: signing.clone(),
            root_ca_crl: hex::encode(self.root_crl.sign(Signer::Ec(&authority.keys.root))?),
            tcb_info_signature: sign_text(&authority.keys.tcb_signing, &tcb_info)?,
            tcb_info,
            tcb_info_issuer_chain: signing,
        })
    }
}

impl Collateral {
    /// The JSON document.
    pub fn to_json(&self) -> Result<String, SimulatorError> {
        serde_json::to_string_pretty(self).map_err(|_| SimulatorError::Text("collateral"))
    }
}

/// r ‖ s over `text`, in hex, as PCS gives it.
pub fn sign_text(key: &EcKey, text: &str) -> Result<String, SimulatorError> {
    Ok(hex::encode(key.sign_fixed(text.as_bytes())?))
}

/// Certificates in PEM and an empty line at the end, as PCS' header gives them.
fn issuer_chain(certificates: &[&[u8]]) -> String {
    let mut chain: String = certificates.iter().map(|der| certificate_pem(der)).collect();
    chain.push('\n');
    chain
}

fn default_module() -> TdxModuleIdentity {
    module("TDX_01", &[(6, UP_TO_DATE), (4, OUT_OF_DATE), (2, OUT_OF_DATE)])
}

fn module(id: &str, levels: &[(u16, &str)]) -> TdxModuleIdentity {
    TdxModuleIdentity {
        id: id.to_owned(),
        mrsigner: "00".repeat(48),
        attributes: "00".repeat(8),
        attributes_mask: "FF".repeat(8),
        tcb_levels: levels.iter().map(|(isvsvn, status)| isv_level(*isvsvn, status)).collect(),
    }
}

fn isv_level(isvsvn: u16, status: &str) -> IsvTcbLevel {
    IsvTcbLevel {
        tcb: IsvTcb { isvsvn },
        tcb_date: "2024-11-13T00:00:00Z".to_owned(),
        tcb_status: status.to_owned(),
        advisory_ids: advisories(status),
    }
}

fn level(sgx: [u8; 8], pcesvn: u16, tdx: [u8; 3], date: &str, status: &str) -> TcbLevel {
    let sgx_kinds = [
        ("BIOS", "Early Microcode Update"),
        ("OS/VMM", "SGX Late Microcode Update"),
        ("OS/VMM", "TXT SINIT"),
        ("BIOS", ""),
        ("BIOS", ""),
        ("BIOS", ""),
        ("", ""),
        ("OS/VMM", "SEAMLDR ACM"),
    ];
    let tdx_kinds = [("OS/VMM", "TDX Module"), ("OS/VMM", "TDX Module"), ("OS/VMM", "TDX Late Microcode Update")];
    TcbLevel {
        tcb: TcbComponents {
            sgxtcbcomponents: components(&sgx, &sgx_kinds),
            pcesvn,
            tdxtcbcomponents: components(&tdx, &tdx_kinds),
        },
        tcb_date: date.to_owned(),
        tcb_status: status.to_owned(),
        advisory_ids: advisories(status),
    }
}

fn components(svns: &[u8], kinds: &[(&str, &str)]) -> Vec<TcbComponent> {
    let word = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    svns.iter()
        .zip(kinds)
        .map(|(svn, (category, kind))| TcbComponent { svn: *svn, category: word(category), kind: word(kind) })
        .chain(std::iter::repeat_n(TcbComponent { svn: 0, category: None, kind: None }, 16))
        .take(16)
        .collect()
}

fn advisories(status: &str) -> Vec<String> {
    if status == UP_TO_DATE { vec![] } else { vec!["INTEL-SA-01036".to_owned(), "INTEL-SA-01099".to_owned()] }
}

const UP_TO_DATE: &str = "UpToDate";
const OUT_OF_DATE: &str = "OutOfDate";
const EVALUATION_DATA_NUMBER: u32 = 18;
