//! A fake Intel and a platform of its making: quotes and collateral of genuine form, of which a test changes one thing.

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use evidence::{digest::Sha256Digest, tdx::Collateral};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CustomExtension, DistinguishedName, DnType,
    IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, RevocationReason, RevokedCertParams, SerialNumber,
    date_time_ymd,
};
use serde_json::{Value, json};

/// SGX Extensions of a PCK certificate.
pub(crate) struct Extensions {
    pub(crate) fmspc: Vec<u8>,
    pub(crate) pce_id: Vec<u8>,
    pub(crate) components: Vec<u8>,
    pub(crate) pce_svn: u8,
    /// Writes the PPID so many times.
    pub(crate) ppids: usize,
}

/// Everything that Intel says, before it signs.
pub(crate) struct Intel {
    pub(crate) root: CertificateParams,
    pub(crate) pck_ca: CertificateParams,
    pub(crate) pck: CertificateParams,
    pub(crate) tcb_signing: CertificateParams,
    pub(crate) extensions: Extensions,
    pub(crate) tcb_info: Value,
    pub(crate) qe_identity: Value,
    pub(crate) root_crl: CertificateRevocationListParams,
    pub(crate) pck_crl: CertificateRevocationListParams,
    /// Issues the PCK revocation list under the root instead.
    pub(crate) pck_crl_by_root: bool,
}

/// A quote, before it is signed.
pub(crate) struct Draft {
    pub(crate) header: Vec<u8>,
    pub(crate) body: Vec<u8>,
    pub(crate) qe_report: Vec<u8>,
    pub(crate) qe_authentication: Vec<u8>,
    pub(crate) outer_type: u16,
    pub(crate) inner_type: u16,
    /// Binds the attestation key in the QE report.
    pub(crate) is_bound: bool,
}

/// What a verifier gets.
pub(crate) struct Answer {
    pub(crate) quote: Vec<u8>,
    pub(crate) collateral: Collateral,
    /// DER of the root.
    pub(crate) root: Vec<u8>,
}

/// Middle of the time that everything is valid in: 2026-01-15.
pub(crate) const NOW: u64 = 1_768_435_200;

impl Default for Intel {
    fn default() -> Self {
        let levels = |svn: u8, status: &str, advisories: &[&str]| json!({"tcb": {"isvsvn": svn}, "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": status, "advisoryIDs": advisories});
        let module =
            json!({"mrsigner": "00".repeat(48), "attributes": "00".repeat(8), "attributesMask": "FF".repeat(8)});
        let mut named = module.clone();
        named["id"] = "TDX_01".into();
        named["tcbLevels"] =
            json!([levels(5, "UpToDate", &[]), levels(3, "OutOfDate", &["INTEL-SA-00002"]), levels(1, "Revoked", &[])]);
        let tcb_info = json!({
            "id": "TDX", "version": 3, "issueDate": "2026-01-01T00:00:00Z", "nextUpdate": "2026-01-31T00:00:00Z",
            "fmspc": "90C06F000000", "pceId": "0000", "tcbType": 0, "tcbEvaluationDataNumber": 18,
            "tdxModule": module, "tdxModuleIdentities": [named],
            "tcbLevels": [level(3, 5, "UpToDate"), level(2, 4, "SWHardeningNeeded"), level(1, 3, "Revoked")],
        });
        let qe_identity = json!({
            "id": "TD_QE", "version": 2, "issueDate": "2026-01-01T00:00:00Z", "nextUpdate": "2026-01-31T00:00:00Z",
            "tcbEvaluationDataNumber": 18, "miscselect": "00000000", "miscselectMask": "FFFFFFFF",
            "attributes": "11000000000000000000000000000000", "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
            "mrsigner": "DC".repeat(32), "isvprodid": 2,
            "tcbLevels": [levels(4, "UpToDate", &[]), levels(2, "OutOfDate", &["INTEL-SA-00003"]), levels(1, "Revoked", &[])],
        });
        let crl = || CertificateRevocationListParams {
            this_update: date_time_ymd(2026, 1, 1),
            next_update: date_time_ymd(2026, 2, 1),
            crl_number: SerialNumber::from(1u64),
            issuing_distribution_point: None,
            revoked_certs: vec![revoked(77)],
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Self {
            root: authority("Intel SGX Root CA", 1, 1),
            pck_ca: authority("Intel SGX PCK Platform CA", 0, 2),
            pck: leaf("Intel SGX PCK Certificate", 3),
            tcb_signing: leaf("Intel SGX TCB Signing", 4),
            extensions: Extensions {
                fmspc: vec![0x90, 0xc0, 0x6f, 0, 0, 0],
                pce_id: vec![0, 0],
                components: vec![3; 16],
                pce_svn: 13,
                ppids: 1,
            },
            tcb_info,
            qe_identity,
            root_crl: crl(),
            pck_crl: crl(),
            pck_crl_by_root: false,
        }
    }
}

/// A level of TCB Info: every SGX component and every TDX component.
pub(crate) fn level(sgx: u8, tdx: u8, status: &str) -> Value {
    let components = |svn: u8| vec![json!({"svn": svn}); 16];
    let mut tdx_components = components(tdx);
    tdx_components[0] = json!({"svn": 5, "category": "OS/VMM", "type": "TDX Module"});
    tdx_components[1] = json!({"svn": 0, "category": "OS/VMM", "type": "TDX Module"});
    json!({
        "tcb": {"sgxtcbcomponents": components(sgx), "pcesvn": 13, "tdxtcbcomponents": tdx_components},
        "tcbDate": "2025-05-14T00:00:00Z", "tcbStatus": status, "advisoryIDs": ["INTEL-SA-00001"],
    })
}

/// A revocation of this serial number.
pub(crate) fn revoked(serial: u64) -> RevokedCertParams {
    RevokedCertParams {
        serial_number: SerialNumber::from(serial),
        revocation_time: date_time_ymd(2026, 1, 1),
        reason_code: Some(RevocationReason::KeyCompromise),
        invalidity_date: None,
    }
}

fn named(common_name: &str, serial: u64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.distinguished_name.push(DnType::OrganizationName, "Not Intel Corporation");
    params.not_before = date_time_ymd(2025, 1, 1);
    params.not_after = date_time_ymd(2035, 1, 1);
    params.serial_number = Some(SerialNumber::from(serial));
    params
}

pub(crate) fn authority(common_name: &str, path_length: u8, serial: u64) -> CertificateParams {
    let mut params = named(common_name, serial);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(path_length));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn leaf(common_name: &str, serial: u64) -> CertificateParams {
    let mut params = named(common_name, serial);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

impl Default for Draft {
    fn default() -> Self {
        Self::td15()
    }
}

impl Draft {
    /// Quote version 5 with a TD report of TDX 1.5.
    pub(crate) fn td15() -> Self {
        let mut body = [3u16.to_le_bytes().to_vec(), 648u32.to_le_bytes().to_vec()].concat();
        body.extend(td10());
        body.extend([5, 1].into_iter().chain([5; 14]));
        body.extend([0; 48]);
        Self::with(5, 0x81, body)
    }

    /// Quote version 4 with a TD report of TDX 1.0.
    pub(crate) fn td10() -> Self {
        Self::with(4, 0x81, td10())
    }

    fn with(version: u16, tee_type: u32, body: Vec<u8>) -> Self {
        let vendor = [0x93, 0x9a, 0x72, 0x33, 0xf7, 0x9c, 0x4c, 0xa9, 0x94, 0x0a, 0x0d, 0xb3, 0x95, 0x7f, 0x06, 0x07];
        let header =
            [&version.to_le_bytes()[..], &[2, 0], &tee_type.to_le_bytes(), &[0; 4], &vendor, &[7; 20]].concat();
        let mut qe_report = vec![0; 384];
        qe_report[48] = 0x11;
        qe_report[128..160].fill(0xdc);
        qe_report[256] = 2;
        qe_report[258] = 4;
        Self {
            header,
            body,
            qe_report,
            qe_authentication: (0..32).collect(),
            outer_type: 6,
            inner_type: 5,
            is_bound: true,
        }
    }

    /// Start of the TD report in the body.
    pub(crate) fn report(&mut self) -> &mut [u8] {
        let start = if self.header[0] == 5 { 6 } else { 0 };
        &mut self.body[start..]
    }
}

fn td10() -> Vec<u8> {
    let mut report = vec![0; 584];
    // module 1 of ISVSVN 5, every other component at 5
    report[..16].fill(5);
    report[1] = 1;
    report[16..64].fill(0x5e);
    report[120..128].copy_from_slice(&(1u64 << 28).to_le_bytes());
    report[128..136].copy_from_slice(&0x0006_02e7u64.to_le_bytes());
    report[136..184].fill(0x3d);
    report[520..584].fill(0xda);
    report
}

impl Intel {
    /// Signs everything.
    pub(crate) fn sign(self, draft: &Draft) -> Answer {
        let [root_key, ca_key, pck_key, signing_key, attestation_key] =
            std::array::from_fn(|_| KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap());
        let signer =
            |key: &KeyPair| EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &key.serialize_der()).unwrap();
        let (pck_signer, text_signer, quote_signer) =
            (signer(&pck_key), signer(&signing_key), signer(&attestation_key));
        let root = self.root.self_signed(&root_key).unwrap();
        let root_issuer = Issuer::new(self.root, root_key);
        let ca = self.pck_ca.signed_by(&ca_key, &root_issuer).unwrap();
        let ca_issuer = Issuer::new(self.pck_ca, ca_key);
        let mut pck = self.pck;
        pck.custom_extensions.push(self.extensions.encode());
        let pck = pck.signed_by(&pck_key, &ca_issuer).unwrap();
        let signing = self.tcb_signing.signed_by(&signing_key, &root_issuer).unwrap();
        let (root_crl, pck_crl) = (
            self.root_crl.signed_by(&root_issuer),
            match self.pck_crl_by_root {
                true => self.pck_crl.signed_by(&root_issuer),
                false => self.pck_crl.signed_by(&ca_issuer),
            },
        );
        let signing_chain = format!("{}{}\n", signing.pem(), root.pem());
        let (tcb_info, qe_identity) = (self.tcb_info.to_string(), self.qe_identity.to_string());
        let collateral = Collateral {
            pck_crl_issuer_chain: format!("{}{}", ca.pem(), root.pem()),
            root_ca_crl: root_crl.unwrap().der().to_vec(),
            pck_crl: pck_crl.unwrap().der().to_vec(),
            tcb_info_issuer_chain: signing_chain.clone(),
            tcb_info_signature: sign(&text_signer, tcb_info.as_bytes()),
            tcb_info,
            qe_identity_issuer_chain: signing_chain,
            qe_identity_signature: sign(&text_signer, qe_identity.as_bytes()),
            qe_identity,
        };
        let pck_chain = format!("{}{}{}\0", pck.pem(), ca.pem(), root.pem());
        let quote = draft.sign(&quote_signer, &pck_signer, pck_chain.as_bytes());
        Answer { quote, collateral, root: root.der().to_vec() }
    }
}

impl Draft {
    fn sign(&self, key: &EcdsaKeyPair, pck: &EcdsaKeyPair, pck_chain: &[u8]) -> Vec<u8> {
        let signed = [&self.header[..], &self.body].concat();
        let point = &key.public_key().as_ref()[1..];
        let mut qe_report = self.qe_report.clone();
        if self.is_bound {
            let digest = Sha256Digest::concat(&[point, &self.qe_authentication]);
            qe_report[320..352].copy_from_slice(digest.as_bytes());
        }
        let sized = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
        let qe = [
            &qe_report[..],
            &sign(pck, &qe_report),
            &(self.qe_authentication.len() as u16).to_le_bytes(),
            &self.qe_authentication,
            &self.inner_type.to_le_bytes(),
            &sized(pck_chain),
        ]
        .concat();
        let data = [&sign(key, &signed)[..], point, &self.outer_type.to_le_bytes(), &sized(&qe)].concat();
        [signed, sized(&data)].concat()
    }
}

fn sign(key: &EcdsaKeyPair, message: &[u8]) -> Vec<u8> {
    key.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
}

impl Extensions {
    fn encode(&self) -> CustomExtension {
        let oid = |arcs: &[u8]| tlv(0x06, &[&[0x2a, 0x86, 0x48, 0x86, 0xf8, 0x4d, 0x01, 0x0d, 0x01], arcs].concat());
        let pair = |arcs: &[u8], value: Vec<u8>| tlv(0x30, &[oid(arcs), value].concat());
        let octets = |bytes: &[u8]| tlv(0x04, bytes);
        let integer = |value: u8| match value {
            0x80.. => tlv(0x02, &[0, value]),
            _ => tlv(0x02, &[value]),
        };
        let mut components: Vec<u8> =
            (1u8..).zip(&self.components).flat_map(|(arc, svn)| pair(&[2, arc], integer(*svn))).collect();
        components.extend(pair(&[2, 17], integer(self.pce_svn)));
        components.extend(pair(&[2, 18], octets(&[3; 16])));
        let mut fields: Vec<u8> = (0..self.ppids).flat_map(|_| pair(&[1], octets(&[0x11; 16]))).collect();
        fields.extend(pair(&[2], tlv(0x30, &components)));
        fields.extend(pair(&[3], octets(&self.pce_id)));
        fields.extend(pair(&[4], octets(&self.fmspc)));
        fields.extend(pair(&[5], tlv(0x0a, &[1])));
        CustomExtension::from_oid_content(&[1, 2, 840, 113741, 1, 13, 1], tlv(0x30, &fields))
    }
}

fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let mut out = vec![tag];
    match content.len() {
        short @ 0..=0x7f => out.push(short as u8),
        long => out.extend([0x82, (long >> 8) as u8, long as u8]),
    }
    out.extend(content);
    out
}
