//! What is judged of saved evidence and of enrolments alone, without a challenge: reports of Azure's paravisor, the answer
//! to an activation, lists that no quote covers, AK certificates.

use aws_lc_rs::{
    encoding::{AsDer as _, PublicKeyX509Der},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _},
};
use evidence::{
    EvidenceDenial,
    denial::EvidenceDenialKind as Kind,
    digest::HashAlg,
    event_log::EventLog,
    hcl::{HardwareReport, HclReport},
    ima::{ImaKey, ImaLog},
    ledger::CheckId::{E3, E8, S1, S6, S10, S11, T3, T4, T5, X1, X5, X10, X11},
    sev_snp::SnpReport,
    tdx::{Quote, VerifiedPck},
    tpm::{AkCertificate, PendingActivation, VerifyingKey, public::SignatureScheme},
};
use rcgen::{ExtendedKeyUsagePurpose, KeyUsagePurpose};
use zeroize::Zeroizing;

use super::{Case, Defect, cases, defect};
use crate::{
    authority::EkCertificateParams,
    genuine::Machine,
    genuine_hcl::{HARDWARE_BYTES, HEADER_BYTES, HclGuest, HclReceived, jwk},
    genuine_vtpm::Tee,
    soft_tpm::{Ak, AkKind},
};

/// Where a defect of a paravisor's report is put in.
#[derive(Clone, Copy)]
enum Hcl {
    /// The guest, before its hardware signs.
    Guest(fn(&mut HclGuest)),
    /// Everything, after it was signed.
    Signed(fn(&mut HclReceived)),
}

/// A judgement with the defect in it, or without: all there is to say about it is in one function.
type Judge = fn(defective: bool) -> Result<(), EvidenceDenial>;

pub(super) fn all() -> impl Iterator<Item = Case> {
    let on_snp = |place| judge_hcl(on_snp(), Some(place));
    let on_tdx = |place| judge_hcl(on_tdx(), Some(place));
    cases("Azure, SNP", ON_SNP, on_snp).chain(cases("Azure, TDX", ON_TDX, on_tdx)).chain(cases(
        "alone",
        ALONE,
        |judge: Judge| judge(true),
    ))
}

pub(super) fn genuine() -> impl Iterator<Item = (String, Result<(), EvidenceDenial>)> {
    let snp = ("Azure, SNP".to_owned(), judge_hcl(on_snp(), None));
    let tdx = ("Azure, TDX".to_owned(), judge_hcl(on_tdx(), None));
    let alone = ALONE.iter().map(|row| (format!("but for: {}", row.name), (row.place)(false)));
    [snp, tdx].into_iter().chain(alone)
}

fn on_snp() -> Tee {
    Tee::Snp(Box::default())
}

fn on_tdx() -> Tee {
    Tee::Tdx(Box::default())
}

fn judge_hcl(hardware: Tee, place: Option<Hcl>) -> Result<(), EvidenceDenial> {
    let mut guest = HclGuest::new(hardware);
    if let Some(Guest(edit)) = place {
        edit(&mut guest);
    }
    let mut received = guest.sign();
    if let Some(Signed(edit)) = place {
        edit(&mut received);
    }
    let hcl = HclReport::parse(&received.report)?;
    let claims = match (&guest.hardware, hcl.hardware) {
        (Tee::Snp(machine), HardwareReport::Snp(report)) => {
            let report = SnpReport::parse(report)?;
            let claims = hcl.runtime_claims(report.report_data)?;
            machine.endorsement().vek.authenticate(&report)?;
            report.verify_measurement(&machine.machine.fields.measurement)?;
            claims
        }
        (Tee::Tdx(machine), HardwareReport::Tdx(td_report)) => {
            let claims = hcl.runtime_claims(td_report.report_data)?;
            let (quote, anchors) = (Quote::parse(&received.td_quote)?, machine.anchors());
            let pck = VerifiedPck::verify(quote.pck_chain(), &anchors.tdx_roots(), machine.now)?;
            pck.authenticate(&quote)?;
            let quoted = quote.td_report()?;
            hcl.runtime_claims(quoted.report_data)?;
            td_report.verify_quoted(quoted)?;
            claims
        }
        (Tee::Snp(_) | Tee::Tdx(_), _) => panic!("the report says another kind of hardware"),
    };
    let scheme = SignatureScheme::RsaSsa(HashAlg::Sha256);
    VerifyingKey::from_spki(claims.ak_spki(), scheme)?.verify(&received.message, &received.signature).map(|_| ())
}

fn claim(guest: &mut HclGuest, from: &str, to: &str) {
    assert!(guest.claims.contains(from));
    guest.claims = guest.claims.replacen(from, to, 1);
}

fn another_key(guest: &mut HclGuest, kid: &str, times: usize) {
    let more = format!("{},", jwk(kid, &guest.ak)).repeat(times);
    claim(guest, "\"keys\":[", &format!("\"keys\":[{more}"));
}

fn claims_altered(received: &mut HclReceived) {
    // the last digit of the user data
    let at = received.report.len() - 3;
    received.report[at] = b'1';
}

use Hcl::{Guest, Signed};

#[rustfmt::skip]
const ON_SNP: &[Defect<Hcl>] = &[
    defect(S1, Kind::Malformed, "another magic", Signed(|r| r.report[0] ^= 1)),
    defect(S1, Kind::Malformed, "header version 3", Guest(|g| g.version = 3)),
    defect(S1, Kind::Malformed, "status of failure", Guest(|g| g.status = 1)),
    defect(S1, Kind::Malformed, "hash type 4", Guest(|g| g.hash_type = 4)),
    defect(S1, Kind::Malformed, "report type 3", Signed(|r| r.report[HEADER_BYTES + HARDWARE_BYTES + 8] = 3)),
    defect(S1, Kind::Malformed, "another size", Signed(|r| r.report[8] ^= 1)),
    defect(S1, Kind::Malformed, "claims longer than the runtime data", Signed(|r| r.report[HEADER_BYTES + HARDWARE_BYTES + 16] ^= 1)),
    defect(S1, Kind::Malformed, "claims cut", Signed(|r| r.report.truncate(r.report.len() - 1))),
    defect(S1, Kind::TrailingBytes, "a byte after the claims", Signed(|r| r.report.push(1))),
    defect(S1, Kind::TooLarge, "above its cap", Signed(|r| r.report.resize((64 << 10) + 1, 0))),
    defect(S6, Kind::SignatureInvalid, "measurement altered", Signed(|r| r.report[HEADER_BYTES + 0x90] ^= 1)),
    defect(S10, Kind::MeasurementUnexpected, "another measurement than expected", Signed(|r| {
        let mut other = HclGuest::new(on_snp());
        if let Tee::Snp(guest) = &mut other.hardware { guest.machine.fields.measurement[0] ^= 1; }
        *r = other.sign();
    })),
    defect(S11, Kind::RuntimeClaimsMismatch, "claims altered after signing", Signed(claims_altered)),
    defect(S11, Kind::RuntimeClaimsMismatch, "hashed otherwise than signed", Signed(|r| r.report[HEADER_BYTES + HARDWARE_BYTES + 12] = 2)),
    defect(S11, Kind::Malformed, "claims that are no JSON", Guest(|g| g.claims.truncate(40))),
    defect(S11, Kind::Malformed, "claims without an AK", Guest(|g| claim(g, "HCLAkPub", "HCLEkPub"))),
    defect(S11, Kind::Malformed, "claims with two AKs", Guest(|g| another_key(g, "HCLAkPub", 1))),
    defect(S11, Kind::Malformed, "an AK of another kind", Guest(|g| claim(g, "\"RSA\"", "\"EC\""))),
    defect(S11, Kind::TooMany, "seventeen keys", Guest(|g| another_key(g, "k", 16))),
    defect(T5, Kind::SignatureInvalid, "a quote by an AK that the claims do not name", Signed(|r| r.signature = Ak::generate(AkKind::RsaSsa).sign(&r.message))),
    defect(T5, Kind::SignatureInvalid, "quote altered after signing", Signed(|r| *r.message.last_mut().unwrap() ^= 1)),
];

#[rustfmt::skip]
const ON_TDX: &[Defect<Hcl>] = &[
    defect(X1, Kind::Malformed, "bytes behind the TDREPORT", Signed(|r| r.report[HEADER_BYTES + 1024] = 1)),
    defect(X5, Kind::SignatureInvalid, "quote altered", Signed(|r| r.td_quote[60] ^= 1)),
    defect(X10, Kind::TdReportMismatch, "another RTMR than quoted", Signed(|r| r.report[HEADER_BYTES + 512 + 399] ^= 1)),
    defect(X10, Kind::TdReportMismatch, "other attributes than quoted", Signed(|r| r.report[HEADER_BYTES + 512] ^= 1)),
    defect(X11, Kind::RuntimeClaimsMismatch, "claims altered after signing", Signed(claims_altered)),
    defect(X11, Kind::RuntimeClaimsMismatch, "a quote over other claims", Guest(|g| g.quoted = Some([0x66; 64]))),
    defect(T5, Kind::SignatureInvalid, "a quote by an AK that the claims do not name", Signed(|r| r.signature = Ak::generate(AkKind::RsaSsa).sign(&r.message))),
];

#[rustfmt::skip]
const ALONE: &[Defect<Judge>] = &[
    defect(T4, Kind::ActivationSecret, "another secret came back", another_secret),
    defect(T3, Kind::AkKeyMismatch, "AK certificate of another AK", another_ak),
    defect(E3, Kind::RegisterUnproven, "a register of the log without a value", register_without_a_value),
    defect(E8, Kind::ImaOrder, "boot_aggregate is not the first", other_order),
    defect(E8, Kind::ImaSignature, "a file signed by an unknown key", unknown_file_key),
];

fn another_secret(defective: bool) -> Result<(), EvidenceDenial> {
    let (machine, secret) = (Machine::default(), [0x11; 32]);
    let (anchors, randomness) = (machine.anchors(), Zeroizing::new([0x22; 48]));
    let (pending, _) =
        PendingActivation::start(machine.identity(), 5, Zeroizing::new(secret), &randomness, &anchors, machine.now)?;
    let back = if defective { [0x12; 32] } else { secret };
    let proof = machine.enrolment_proof(&back).write();
    pending.complete(&back, &proof, &machine.ak.sign(&proof), &anchors, machine.now).map(|_| ())
}

fn another_ak(defective: bool) -> Result<(), EvidenceDenial> {
    let machine = Machine::default();
    let mut params = EkCertificateParams::default();
    params.certificate.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.certificate.extended_key_usages = vec![ExtendedKeyUsagePurpose::Other(vec![2, 23, 133, 8, 3])];
    let chain = machine.authority.chain(machine.authority.certify(&machine.ak.spki(), &params));
    let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
    let certificate = AkCertificate::verify(&chain, &machine.anchors(), machine.now)?;
    let ak = if defective { Machine::default().ak } else { machine.ak };
    certificate.is_for_key_info(&ak.spki())
}

fn register_without_a_value(defective: bool) -> Result<(), EvidenceDenial> {
    let boot = Machine::default().boot;
    let (bytes, last) = (boot.event_log(), if defective { 8 } else { 9 });
    let registers: Vec<u8> = (0..=last).collect();
    let values: Vec<_> = boot.pcrs(HashAlg::Sha256, &registers).iter().map(|(pcr, value)| (pcr, *value)).collect();
    EventLog::parse(&bytes)?.verify_all_proven(&values)
}

fn other_order(defective: bool) -> Result<(), EvidenceDenial> {
    let text = String::from_utf8(Machine::default().boot.ima_log()).unwrap();
    let mut lines: Vec<_> = text.lines().collect();
    if defective {
        lines.swap(0, 1);
    }
    let bytes = (lines.join("\n") + "\n").into_bytes();
    let log = ImaLog::parse(&bytes)?;
    log.verify_entries()?;
    log.verify_order()
}

fn unknown_file_key(defective: bool) -> Result<(), EvidenceDenial> {
    let key = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
    let public = |pair: &EcdsaKeyPair| {
        let der: PublicKeyX509Der<'_> = pair.public_key().as_der().unwrap();
        ImaKey::from_spki_der(der.as_ref()).unwrap()
    };
    let pair = key();
    // security.ima as evmctl writes it: signature version 2, SHA-256, key id, length, signature
    let signature = pair.sign(&SystemRandom::new(), b"file").unwrap();
    let size = u16::try_from(signature.as_ref().len()).unwrap().to_be_bytes();
    let keyid = hex::decode(public(&pair).keyid()).unwrap();
    let signature = [&[3, 2, 4][..], &keyid, &size, signature.as_ref()].concat();
    let digest = HashAlg::Sha256.hash(&[b"file"]);
    let field = |value: &[u8]| [&u32::try_from(value.len()).unwrap().to_le_bytes()[..], value].concat();
    let fields = [&[b"sha256:\0", digest.as_bytes()].concat()[..], b"/bin/file\0", &signature];
    let template = HashAlg::Sha1.hash(&[&fields.map(field).concat()]).hex();
    let line = format!("10 {template} ima-sig {digest} /bin/file {}\n", hex::encode(&signature));
    let log = ImaLog::parse(line.as_bytes())?;
    log.verify_entries()?;
    log.verify_signatures(&[public(&if defective { key() } else { pair })]).map(|_| ())
}
