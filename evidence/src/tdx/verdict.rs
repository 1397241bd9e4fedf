//! From a quote to what it proves, in the order of Intel's library (QVL 4.1.2.4.4 to .17) but for signatures, which
//! come before everything that is only compared.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};

use super::{
    body::{Body, TdReport},
    pck::VerifiedPck,
    quote::{Quote, TeeType},
    tcb_info::{MODULE, ModuleIdentity, PlatformStanding},
    tcb_level::{IsvLevels, Standing, TcbStatus},
    verified_collateral::VerifiedCollateral,
};
use crate::{EvidenceDenial, digest::Sha256Digest};

/// A quote signed by a key that Intel's quoting enclave vouches for, on a platform that Intel certified. Made only by
/// [`VerifiedPck::authenticate`]; what the platform is worth is judged by [`AuthenticQuote::judge`].
#[derive(Clone, Copy, Debug)]
pub struct AuthenticQuote<'q, 'a> {
    quote: &'q Quote<'a>,
    pck: &'q VerifiedPck,
}

/// What a platform is worth by the collateral.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcbVerdict {
    /// The worst of platform, TDX module and quoting enclave, and all advisories.
    pub standing: Standing,
    /// Of the platform alone.
    pub platform: TcbStatus,
    /// Of the TDX module alone, where it has an identity of its own.
    pub module: Option<TcbStatus>,
    /// Of the quoting enclave alone.
    pub quoting_enclave: TcbStatus,
    /// The lower of those of TCB Info and QE identity.
    pub tcb_evaluation_data_number: u32,
}

impl VerifiedPck {
    /// X3 and X5: the PCK signed the QE report, which names the attestation key, which signed the quote.
    ///
    /// # Errors
    /// [`EvidenceDenial::SignatureInvalid`], [`EvidenceDenial::AttestationKeyUnbound`], or
    /// [`EvidenceDenial::CollateralMismatch`] when the quote carries another chain than this one.
    pub fn authenticate<'q, 'a>(&'q self, quote: &'q Quote<'a>) -> Result<AuthenticQuote<'q, 'a>, EvidenceDenial> {
        if !self.is_of(quote) {
            return Err(EvidenceDenial::CollateralMismatch {
                field: "PCK certificate chain",
                collateral: self.digest().to_string(),
                pck: quote.pck_chain_digest().to_string(),
            });
        }
        if !self.verify_signature(quote.qe_report.bytes, quote.qe_report_signature) {
            return Err(EvidenceDenial::SignatureInvalid { over: "QE report" });
        }
        let expected = Sha256Digest::concat(&[quote.attestation_key, quote.qe_authentication]);
        let (digest, rest) = quote.qe_report.report_data.split_at(32);
        if digest != expected.as_bytes() || rest.iter().any(|byte| *byte != 0) {
            let (got, expected) = (hex::encode(quote.qe_report.report_data), expected.to_string());
            return Err(EvidenceDenial::AttestationKeyUnbound { got, expected });
        }
        // uncompressed point (SEC 1 §2.3.3)
        let mut point = [0x04; 65];
        for (to, from) in point.iter_mut().skip(1).zip(quote.attestation_key) {
            *to = *from;
        }
        UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(quote.signed, quote.signature)
            .map_err(|_| EvidenceDenial::SignatureInvalid { over: "quote" })?;
        Ok(AuthenticQuote { quote, pck: self })
    }
}

impl<'q, 'a> AuthenticQuote<'q, 'a> {
    /// The quote.
    #[must_use]
    pub const fn quote(&self) -> &'q Quote<'a> {
        self.quote
    }

    /// The platform's certificate.
    #[must_use]
    pub const fn pck(&self) -> &'q VerifiedPck {
        self.pck
    }

    /// X2's revocation, X4, X6 to X8 and X13: what the platform is worth by `collateral`, which must be current.
    ///
    /// # Errors
    /// [`EvidenceDenial`] when the collateral is not for this platform, the quoting enclave or TDX module is another,
    /// no level is reached, or one is revoked. Every other status is in the verdict, for policy.
    pub fn judge(&self, collateral: &VerifiedCollateral) -> Result<TcbVerdict, EvidenceDenial> {
        collateral.refuse_revoked(self.pck)?;
        self.judge_subject(collateral)?;
        let (pck, info) = (self.pck.extensions(), collateral.tcb_info());
        let enclave = collateral.qe_identity().judge(&self.quote.qe_report)?;
        let (platform, module) = match self.quote.td_report() {
            Err(_) => (info.standing(pck, None)?, None),
            Ok(report) => {
                let [isv_svn, version, ..] = *report.tee_tcb_svn;
                let levels = module_levels(report, version, collateral)?;
                let platform = info.standing(pck, Some(report.tee_tcb_svn))?;
                let module = levels.map(|levels| levels.standing(MODULE, isv_svn.into())).transpose()?;
                (platform, module)
            }
        };
        let named = [("platform", Some(platform.all)), (MODULE, module), ("quoting enclave", Some(enclave))];
        if let Some((of, _)) = named.iter().find(|(_, of)| of.is_some_and(|of| of.status == TcbStatus::Revoked)) {
            return Err(EvidenceDenial::TcbRevoked { of });
        }
        let mut standing = module.map_or_else(|| platform.all.clone(), |module| platform.all.merged(module));
        if let Body::Td15(report) = &self.quote.body {
            let now = report.tee_tcb_svn2;
            standing.status = relaunch(standing.status, platform, module, enclave, now, collateral)?;
        }
        let numbers = (info.tcb_evaluation_data_number, collateral.qe_identity().tcb_evaluation_data_number);
        Ok(TcbVerdict {
            standing: standing.merged(enclave),
            platform: platform.all.status,
            module: module.map(|module| module.status),
            quoting_enclave: enclave.status,
            tcb_evaluation_data_number: numbers.0.min(numbers.1),
        })
    }

    /// X6: is the TCB Info of this kind of platform (QVL 4.1.2.4.9, .10)?
    fn judge_subject(&self, collateral: &VerifiedCollateral) -> Result<(), EvidenceDenial> {
        let (pck, info) = (self.pck.extensions(), collateral.tcb_info());
        let mismatch =
            |field, collateral: String, pck: String| Err(EvidenceDenial::CollateralMismatch { field, collateral, pck });
        if info.tee_type != self.quote.tee_type() {
            let name = |tee_type: TeeType| format!("{tee_type:?}");
            return mismatch("TEE type", name(info.tee_type), name(self.quote.tee_type()));
        }
        if info.fmspc != pck.fmspc {
            return mismatch("FMSPC", hex::encode(info.fmspc), hex::encode(pck.fmspc));
        }
        if info.pce_id != pck.pce_id {
            return mismatch("PCEID", hex::encode(info.pce_id), hex::encode(pck.pce_id));
        }
        Ok(())
    }
}

/// X7: who made the TDX module, and with which attributes (QVL 4.1.2.4.11). Returns the levels of a module that has
/// an identity of its own; version 0 is judged with the platform.
fn module_levels<'c>(
    report: &TdReport<'_>,
    version: u8,
    collateral: &'c VerifiedCollateral,
) -> Result<Option<&'c IsvLevels>, EvidenceDenial> {
    let info = collateral.tcb_info();
    let (identity, levels): (&ModuleIdentity, _) = match (version, &info.module) {
        (0, Some(identity)) => (identity, None),
        (0, None) => return Err(EvidenceDenial::TdxModuleUnknown { version }),
        (version, _) => info.module(version).map(|(identity, levels)| (identity, Some(levels)))?,
    };
    let mismatch = |field, got: &[u8], want: &[u8]| {
        Err(EvidenceDenial::TdxModuleMismatch { field, got: hex::encode(got), want: hex::encode(want) })
    };
    if *report.mr_signer_seam != identity.mr_signer {
        return mismatch("MRSIGNERSEAM", report.mr_signer_seam, &identity.mr_signer);
    }
    if *report.seam_attributes != [0; 8] || *report.seam_attributes != identity.attributes {
        return mismatch("SEAMATTRIBUTES", report.seam_attributes, &identity.attributes);
    }
    Ok(levels)
}

/// X13: out of date only because the TDX module was newer when the trust domain was quoted than when it started
/// (QVL 4.1.2.4.17.4.3). `now` is TEE_TCB_SVN2.
fn relaunch(
    status: TcbStatus,
    platform: PlatformStanding<'_>,
    module: Option<&Standing>,
    enclave: &Standing,
    now: &[u8; 16],
    collateral: &VerifiedCollateral,
) -> Result<TcbStatus, EvidenceDenial> {
    let sgx = platform.sgx.status;
    let only_module = module.is_some_and(|module| module.status.is_out_of_date())
        && status.is_out_of_date()
        && !sgx.is_out_of_date()
        && sgx != TcbStatus::Revoked
        && !enclave.status.is_out_of_date();
    if !only_module {
        return Ok(status);
    }
    let info = collateral.tcb_info();
    let (newest_module, newest_microcode) = info.newest_tdx();
    let [isv_svn, version, microcode, ..] = *now;
    let newest = match version {
        0 => u16::from(newest_module),
        version => info.module(version)?.1.greatest(),
    };
    if u16::from(isv_svn) < newest || microcode < newest_microcode {
        return Ok(status);
    }
    Ok(match sgx.needs_configuration() || status.needs_configuration() {
        true => TcbStatus::TdRelaunchAdvisedConfigurationNeeded,
        false => TcbStatus::TdRelaunchAdvised,
    })
}
