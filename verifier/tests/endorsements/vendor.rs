//! Certificates, lists and statements that name themselves as the vendors' do, under roots of this test's own.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, PKCS_ECDSA_P256_SHA256, SerialNumber, date_time_ymd,
};
use verifier::endorsements::key::{PckCa, SnpLine};
use verifier::endorsements::recognise::{Pile, Recognised};
use verifier::endorsements::{SnpKey, SnpSigner, TdxKey};

/// A date of certificates.
macro_rules! date {
    ($unix_s:expr) => {
        date_time_ymd(1970, 1, 1) + Duration::from_secs($unix_s)
    };
}
const DAY_S: u64 = 24 * 3600;

/// What the wall clock says: what is issued in its future is not stored.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// A certificate with its key.
pub(crate) struct Authority {
    pub(crate) der: Vec<u8>,
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    pub(crate) fn root(name: &str) -> Self {
        let (params, key) = (ca(name), KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap());
        Self { der: params.self_signed(&key).unwrap().der().to_vec(), params, key }
    }

    pub(crate) fn issue(&self, name: &str) -> Self {
        self.issue_with(ca(name))
    }

    fn issue_with(&self, params: CertificateParams) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        Self { der: params.signed_by(&key, &self.issuer()).unwrap().der().to_vec(), params, key }
    }

    fn issuer(&self) -> Issuer<'_, &KeyPair> {
        Issuer::from_params(&self.params, &self.key)
    }

    /// A list issued `age_s` ago, for a year.
    pub(crate) fn crl(&self, age_s: u64) -> Vec<u8> {
        let params = CertificateRevocationListParams {
            this_update: date!(now() - age_s),
            next_update: date!(now() - age_s + 365 * DAY_S),
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: Vec::new(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(&self.issuer()).unwrap().der().to_vec()
    }

    /// `{"NAME":TEXT,"signature":"…"}`
    fn states(&self, name: &str, text: &str) -> String {
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key.serialize_der()).unwrap();
        let signature = key.sign(&SystemRandom::new(), text.as_bytes()).unwrap();
        format!(r#"{{"{name}":{text},"signature":"{}"}}"#, hex::encode(signature.as_ref()))
    }
}

fn ca(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.not_before = date!(now() - DAY_S);
    params.not_after = date!(now() + 365 * DAY_S);
    params
}

/// AMD, as far as one Milan chip at one TCB can tell.
pub(crate) struct Amd {
    pub(crate) ark: Authority,
    pub(crate) ask: Authority,
    pub(crate) vcek: Vec<u8>,
    pub(crate) crl: Vec<u8>,
}

pub(crate) const CHIP: [u8; 64] = [0xc1; 64];
pub(crate) const TCB: [u8; 8] = [3, 0, 0, 0, 0, 0, 8, 115];

impl Amd {
    pub(crate) fn new() -> Self {
        let ark = Authority::root("ARK-Milan");
        let ask = ark.issue("SEV-Milan");
        let vcek = Self::vcek(&ask, &CHIP);
        let crl = ark.crl(DAY_S);
        Self { ark, ask, vcek, crl }
    }

    pub(crate) fn vcek(ask: &Authority, chip: &[u8]) -> Vec<u8> {
        let mut params = ca("SEV-VCEK");
        params.is_ca = IsCa::NoCa;
        let levels = [(1, TCB[0]), (2, TCB[1]), (3, TCB[6]), (8, TCB[7])];
        let level = |(arc, level): (u64, u8)| {
            CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 3704, 1, 3, arc], vec![2, 1, level])
        };
        params.custom_extensions = levels.map(level).to_vec();
        params
            .custom_extensions
            .push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 3704, 1, 4], chip.to_vec()));
        ask.issue_with(params).der
    }

    pub(crate) fn key() -> SnpKey {
        SnpKey { line: SnpLine::Milan, tcb: TCB, signer: SnpSigner::Vcek { chip_id: CHIP } }
    }

    pub(crate) fn chain(&self) -> String {
        pem(&[&self.ask.der, &self.ark.der])
    }

    /// Everything, as a directory would hold it.
    pub(crate) fn all(&self) -> Vec<Recognised> {
        recognised(&[&self.vcek, &self.ask.der, &self.ark.der, &self.crl])
    }
}

/// Intel, as far as one platform family can tell.
pub(crate) struct Intel {
    pub(crate) root: Authority,
    pub(crate) pck_ca: Authority,
    signer: Authority,
    /// What its statements are dated by, so that each reads the same whenever it is asked for.
    opened_at: u64,
}

pub(crate) const FMSPC: [u8; 6] = [0x90, 0xc0, 0x6f, 0, 0, 0];
pub(crate) const TDX: TdxKey = TdxKey { fmspc: FMSPC, ca: PckCa::Platform };

impl Intel {
    pub(crate) fn new() -> Self {
        let root = Authority::root("Intel SGX Root CA");
        let (pck_ca, signer) = (root.issue("Intel SGX PCK Platform CA"), root.issue("Intel SGX TCB Signing"));
        Self { root, pck_ca, signer, opened_at: now() }
    }

    pub(crate) fn tcb_info(&self) -> String {
        self.signer.states("tcbInfo", &self.statement("TDX", r#","fmspc":"90C06F000000""#))
    }

    pub(crate) fn qe_identity(&self) -> String {
        self.signer.states("enclaveIdentity", &self.statement("TD_QE", ""))
    }

    pub(crate) fn signing_chain(&self) -> String {
        pem(&[&self.signer.der, &self.root.der])
    }

    pub(crate) fn pck_chain(&self) -> String {
        pem(&[&self.pck_ca.der, &self.root.der])
    }

    fn statement(&self, id: &str, more: &str) -> String {
        let date = |unix_s: u64| humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(unix_s));
        let (issued, next) = (date(self.opened_at - DAY_S), date(self.opened_at + 29 * DAY_S));
        format!(r#"{{"id":"{id}","version":3,"issueDate":"{issued}","nextUpdate":"{next}"{more}}}"#)
    }
}

pub(crate) fn recognised(documents: &[&[u8]]) -> Vec<Recognised> {
    let mut pile = Pile::default();
    documents.iter().for_each(|document| pile.add("test", document));
    let sorted = pile.sorted();
    assert!(sorted.skipped.is_empty(), "{:?}", sorted.skipped);
    sorted.found
}

pub(crate) fn pem(certificates: &[&[u8]]) -> String {
    use base64::Engine as _;
    let block = |der: &&[u8]| {
        let body = base64::engine::general_purpose::STANDARD.encode(der);
        format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n")
    };
    certificates.iter().map(block).collect()
}
