//! Quotes in format 4 and 5 (DCAP quoting library, "Quote format").

use aws_lc_rs::digest;

use super::{QeReportFields, TdBody};
use crate::{SimulatorError, keys::EcKey, layout::Layout};

/// Every field of a quote.
#[derive(Clone, Debug)]
pub struct TdQuoteFields {
    /// 4, or 5.
    pub version: u16,
    /// 2: ECDSA P-256.
    pub attestation_key_type: u16,
    /// 0x81: TDX.
    pub tee_type: u32,
    /// Two reserved words of the header.
    pub reserved: [u8; 4],
    /// QE vendor: Intel.
    pub qe_vendor_id: [u8; 16],
    /// User data of the header.
    pub user_data: [u8; 20],
    /// In format 5: body of TDX 1.5. Format 4 has the body of 1.0 always.
    pub tdx_1_5: bool,
    /// Body.
    pub body: TdBody,
    /// QE report.
    pub qe: QeReportFields,
    /// QE authentication data.
    pub auth_data: Vec<u8>,
    /// In place of the body type of format 5 (2: TDX 1.0, 3: TDX 1.5).
    pub claimed_body_type: Option<u16>,
    /// In place of the body size of format 5.
    pub claimed_body_size: Option<u32>,
    /// In place of the length of the signature data.
    pub claimed_signature_len: Option<u32>,
    /// In place of certification data type 6 (QE report).
    pub outer_type: u16,
    /// In place of certification data type 5 (PCK chain, PEM).
    pub inner_type: u16,
    /// What follows the signature data: real quotes may carry zeros here.
    pub trailing: Vec<u8>,
}

/// Keys and certificates that a quote is made with.
#[derive(Clone, Copy, Debug)]
pub struct QuoteSigning<'a> {
    /// Signs header and body.
    pub attestation: &'a EcKey,
    /// The key named in the quote and bound by the QE; differs from `attestation` only in a forged quote.
    pub named_attestation: &'a EcKey,
    /// Signs the QE report.
    pub pck: &'a EcKey,
    /// Leaf, intermediate, root in PEM.
    pub chain_pem: &'a str,
}

impl TdQuoteFields {
    /// An ordinary quote of `version` 4 (body of TDX 1.0) or 5 (body of TDX 1.5).
    pub fn new(version: u16) -> Self {
        Self {
            version,
            attestation_key_type: 2,
            tee_type: 0x81,
            reserved: [0; 4],
            qe_vendor_id: INTEL_QE_VENDOR,
            user_data: [0x60; 20],
            tdx_1_5: true,
            body: TdBody::new(),
            qe: QeReportFields::new(),
            auth_data: (0..32).collect(),
            claimed_body_type: None,
            claimed_body_size: None,
            claimed_signature_len: None,
            outer_type: 6,
            inner_type: 5,
            trailing: vec![],
        }
    }

    /// Header and body: what the attestation key signs.
    pub fn signed_part(&self) -> Vec<u8> {
        let mut quote = Layout::zeroed(48);
        quote.put(0, &self.version.to_le_bytes());
        quote.put(2, &self.attestation_key_type.to_le_bytes());
        quote.put(4, &self.tee_type.to_le_bytes());
        quote.put(8, &self.reserved);
        quote.put(12, &self.qe_vendor_id);
        quote.put(28, &self.user_data);
        if self.version < 5 {
            quote.put(48, &self.body.encode(false));
        } else {
            let body = self.body.encode(self.tdx_1_5);
            let body_type = if self.tdx_1_5 { 3 } else { 2 };
            quote.put(48, &self.claimed_body_type.unwrap_or(body_type).to_le_bytes());
            quote.put(50, &self.claimed_body_size.unwrap_or(number(body.len())).to_le_bytes());
            quote.put(54, &body);
        }
        quote.bytes()
    }

    /// The quote's bytes.
    pub fn sign(&self, signing: QuoteSigning<'_>) -> Result<Vec<u8>, SimulatorError> {
        let mut quote = self.signed_part();
        let signature = signing.attestation.sign_fixed(&quote)?;
        let attestation_key = raw_point(signing.named_attestation);
        let certification = self.certification(&attestation_key, signing)?;
        let data = [
            signature,
            attestation_key,
            self.outer_type.to_le_bytes().to_vec(),
            number(certification.len()).to_le_bytes().to_vec(),
            certification,
        ]
        .concat();
        quote.extend(self.claimed_signature_len.unwrap_or(number(data.len())).to_le_bytes());
        quote.extend(data);
        quote.extend_from_slice(&self.trailing);
        Ok(quote)
    }

    /// Certification data type 6: QE report, its signature, authentication data, and the PCK chain as type 5.
    fn certification(&self, attestation_key: &[u8], signing: QuoteSigning<'_>) -> Result<Vec<u8>, SimulatorError> {
        let bound = digest::digest(&digest::SHA256, &[attestation_key, &self.auth_data].concat());
        let mut binding = Layout::zeroed(64);
        binding.put(0, bound.as_ref());
        let report = self.qe.encode(binding.bytes().try_into().unwrap_or([0; 64]));
        let signature = signing.pck.sign_fixed(&report)?;
        let auth_len = u16::try_from(self.auth_data.len()).unwrap_or(u16::MAX);
        // Quotes carry the chain as a C string.
        let chain = [signing.chain_pem.as_bytes(), &[0]].concat();
        Ok([
            report,
            signature,
            auth_len.to_le_bytes().to_vec(),
            self.auth_data.clone(),
            self.inner_type.to_le_bytes().to_vec(),
            number(chain.len()).to_le_bytes().to_vec(),
            chain,
        ]
        .concat())
    }
}

/// x and y without the leading 0x04.
fn raw_point(key: &EcKey) -> Vec<u8> {
    key.public_point().iter().copied().skip(1).collect()
}

fn number(value: usize) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

/// 939a7233-f79c-4ca9-940a-0db3957f0607.
const INTEL_QE_VENDOR: [u8; 16] = 0x939a_7233_f79c_4ca9_940a_0db3_957f_0607_u128.to_be_bytes();
