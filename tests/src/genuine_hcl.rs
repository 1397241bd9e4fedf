//! A confidential guest of Azure's with its paravisor's report and a quote of its vTPM: from here a test changes one thing.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use evidence::{
    digest::{HashAlg, Sha256Digest},
    tpm::{PcrSelection, attest::ClockInfo},
};

use crate::{
    boot::Boot,
    genuine_tdx::TdxGuest,
    genuine_vtpm::Tee,
    soft_tpm::{Ak, AkKind, AttestDraft, Unique},
};

/// A guest, before its hardware signs.
pub struct HclGuest {
    /// What it runs on.
    pub hardware: Tee,
    /// The vTPM's attestation key, an RSA one as Azure's is.
    pub ak: Ak,
    /// Version of the header.
    pub version: u32,
    /// Status in the header.
    pub status: u32,
    /// 1: SHA-256, as Azure has it.
    pub hash_type: u32,
    /// Runtime claims, JSON.
    pub claims: String,
    /// What the TDX quote is over, when not the claims.
    pub quoted: Option<[u8; 64]>,
}

/// What a verifier gets.
pub struct HclReceived {
    /// The paravisor's report.
    pub report: Vec<u8>,
    /// The TDX quote; empty where there is none.
    pub td_quote: Vec<u8>,
    /// TPMS_ATTEST of the vTPM.
    pub message: Vec<u8>,
    /// TPMT_SIGNATURE over it.
    pub signature: Vec<u8>,
}

impl HclGuest {
    /// A guest on `hardware`.
    pub fn new(hardware: Tee) -> Self {
        let ak = Ak::generate(AkKind::RsaSsa);
        let claims = format!(r#"{{"keys":[{}],"user-data":"{}"}}"#, jwk("HCLAkPub", &ak), "00".repeat(64));
        Self { hardware, ak, version: 2, status: 0, hash_type: 1, claims, quoted: None }
    }

    /// Signs everything.
    pub fn sign(&self) -> HclReceived {
        let mut report_data = [0; 64];
        report_data[..32].copy_from_slice(Sha256Digest::of(self.claims.as_bytes()).as_bytes());
        let (report_type, mut hardware, td_quote) = match &self.hardware {
            Tee::Snp(guest) => (2, guest.machine.report(report_data).unwrap().report, Vec::new()),
            Tee::Tdx(guest) => {
                (4, td_report(guest, report_data), guest.machine.quote(self.quoted.unwrap_or(report_data)).unwrap())
            }
        };
        hardware.resize(HARDWARE_BYTES, 0);
        let message = self.quote();
        HclReceived {
            report: self.report(report_type, &hardware),
            td_quote,
            signature: self.ak.sign(&message),
            message,
        }
    }

    fn report(&self, report_type: u32, hardware: &[u8]) -> Vec<u8> {
        let claims_bytes = u32::try_from(self.claims.len()).unwrap();
        let data_bytes = claims_bytes + 20;
        let size = u32::try_from(HEADER_BYTES + HARDWARE_BYTES).unwrap() + data_bytes;
        let header = [u32::from_le_bytes(*b"HCLA"), self.version, size, 2, self.status, 0, 0, 0];
        let data = [data_bytes, 1, report_type, self.hash_type, claims_bytes];
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        [&words(&header)[..], hardware, &words(&data), self.claims.as_bytes()].concat()
    }

    fn quote(&self) -> Vec<u8> {
        let values = Boot::default().pcrs(HashAlg::Sha256, &[0, 7]);
        let selection = PcrSelection { bank: values.bank(), pcrs: values.selected() };
        let digest = values.digest(values.selected(), self.ak.kind.hash()).unwrap();
        let clock = ClockInfo { clock_ms: 50_000, reset_count: 3, restart_count: 0, safe: true };
        AttestDraft::quote(&[0x33; 32], clock, 0x2020_0312_0012_0000, selection, digest.as_bytes()).write()
    }
}

/// The JSON Web Key of an RSA key.
pub fn jwk(kid: &str, ak: &Ak) -> String {
    let Unique::Rsa(modulus) = ak.public().unique else { panic!("not an RSA key") };
    let n = URL_SAFE_NO_PAD.encode(modulus);
    format!(r#"{{"kid":"{kid}","key_ops":["sign"],"kty":"RSA","e":"AQAB","n":"{n}"}}"#)
}

/// TDREPORT_STRUCT: report data at 128, TDINFO at 512, which a TD report of a quote has from byte 120 to 520.
fn td_report(guest: &TdxGuest, report_data: [u8; 64]) -> Vec<u8> {
    let mut out = vec![0; 1024];
    out[128..192].copy_from_slice(&report_data);
    out[512..912].copy_from_slice(&guest.machine.quote.body.encode(false)[120..520]);
    out
}

/// Header of the paravisor's report.
pub const HEADER_BYTES: usize = 32;
/// The hardware report behind it.
pub const HARDWARE_BYTES: usize = 1184;
