//! What judging a TEE's evidence costs beyond the signatures that no verifier can spare, and what others take for it.
//!
//! Bare signatures begin with keys and signatures as bytes where the evidence is cold, and with parsed keys where it is
//! warm. A signature counts once even if two parts of the evidence carry it.

#[path = "../../tests/benches/measure.rs"]
mod measure;

use std::{
    collections::{BTreeMap, BTreeSet},
    hint::black_box,
};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey,
    RSA_PSS_2048_8192_SHA384, VerificationAlgorithm,
};
use criterion::Criterion;
use der::{Decode as _, Reader as _, SliceReader, asn1::BitStringRef};
use evidence::{
    anchors::RootPin,
    digest::Sha256Digest,
    sev_snp::{Revocation, SnpReport, SnpRoots, VerifiedVek},
    tdx::{Quote, TdxRoots, VerifiedCollateral, VerifiedPck, td_attributes},
    time::UnixSeconds,
};
use oracle::{NOW, snp, tdx};
use sev::certs::snp::Certificate;
use simulators::{amd::Product, keys::RsaKey};

/// A signature to be verified: algorithm, key, message, signature.
struct Bare {
    algorithm: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Bare {
    /// Of a certificate or a list: what is signed, and by whom.
    fn of_der(algorithm: &'static dyn VerificationAlgorithm, key: Vec<u8>, der: &[u8]) -> Self {
        let mut reader = SliceReader::new(der).expect("DER");
        let (message, signature) = reader
            .sequence(|body| {
                let message = body.tlv_bytes()?.to_vec();
                body.tlv_bytes()?;
                Ok::<_, der::Error>((message, BitStringRef::decode(body)?.raw_bytes().to_vec()))
            })
            .expect("something signed");
        Self { algorithm, key, message, signature }
    }

    fn parsed(&self) -> ParsedPublicKey {
        ParsedPublicKey::new(self.algorithm, &self.key).expect("a key")
    }

    fn verify(&self) {
        self.parsed().verify_sig(&self.message, &self.signature).expect("genuine");
    }
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    snp(&mut criterion);
    tdx(&mut criterion);
}

fn snp(criterion: &mut Criterion) {
    let world = snp::World::new();
    let base = world.bases.iter().find(|base| base.machine.product == Product::Genoa).expect("a machine");
    let case = &base.genuine;
    let authority = &base.machine.authority;
    let (none, revoked) = (BTreeMap::new(), BTreeSet::new());
    // by certificate, as the genuine roots are
    let pin = BTreeSet::from([RootPin::Certificate(Sha256Digest::of(&case.root))]);
    let simulated = BTreeMap::from([("Genoa".to_owned(), pin)]);
    let roots = SnpRoots::lab_accepting_simulated(&none, &simulated, &revoked);
    let now = UnixSeconds(NOW);
    let chain = || {
        let list = Revocation::List(&case.list);
        VerifiedVek::verify(&case.leaf, Some(&case.issuer), Some(&case.root), list, &roots, now).expect("genuine")
    };
    let judge = |vek: &VerifiedVek| {
        let report = SnpReport::parse(&case.report).expect("genuine");
        vek.current(&roots, now).expect("genuine");
        vek.authenticate(&report).map(|authentic| *authentic.tcbs()).expect("genuine")
    };

    let report = Bare {
        algorithm: &ECDSA_P384_SHA384_FIXED,
        key: base.vek.key.public_point().to_vec(),
        message: case.report[..0x2a0].to_vec(),
        signature: [0x2a0, 0x2e8].iter().flat_map(|at| case.report[*at..at + 48].iter().rev().copied()).collect(),
    };
    let rsa = |key: &RsaKey, der: &[u8]| Bare::of_der(&RSA_PSS_2048_8192_SHA384, key.public_key_info(), der);
    let keys = &authority.keys;
    let chain_signatures = [rsa(&keys.ark, &case.issuer), rsa(&keys.ask, &case.leaf), rsa(&keys.ark, &case.list)];

    let key = report.parsed();
    let bare_warm = measure::best_us(criterion, "snp/warm/bare", || {
        key.verify_sig(&report.message, &report.signature).expect("genuine");
    });
    let verified = chain();
    let warm = measure::best_us(criterion, "snp/warm/judged", || judge(&verified));
    let bare_cold = measure::best_us(criterion, "snp/cold/bare", || {
        chain_signatures.iter().for_each(Bare::verify);
        report.verify();
    });
    let cold = measure::best_us(criterion, "snp/cold/judged", || judge(&chain()));
    let vek = Certificate::from_der(&case.leaf).expect("a leaf");
    let sev_warm = measure::best_us(criterion, "snp/warm/sev", || {
        black_box(snp::report_judged_by_sev(&vek, &case.report).expect("genuine"))
    });
    let sev_cold = measure::best_us(criterion, "snp/cold/sev", || black_box(snp::whole_by_sev(case).expect("genuine")));

    measure::report(&format!("SNP report, chain known, over bare ({bare_warm:.0} µs)"), warm / bare_warm, " ×", 1.15);
    measure::report(&format!("SNP report and chain, over bare ({bare_cold:.0} µs)"), cold / bare_cold, " ×", 1.25);
    println!("ratio: sev 8, SNP report, chain known: {:.1} × ours", sev_warm / warm);
    println!("ratio: sev 8, SNP report and chain without list: {:.1} × ours with it", sev_cold / cold);
}

fn tdx(criterion: &mut Criterion) {
    let world = tdx::World::new();
    let base = &world.bases[1];
    let case = &base.genuine;
    let authority = &base.machine.authority;
    let (none, revoked) = (BTreeSet::new(), BTreeSet::new());
    // by certificate, as the genuine root is
    let pin = BTreeSet::from([RootPin::Certificate(Sha256Digest::of(&authority.root))]);
    let roots = TdxRoots::lab_accepting_simulated(&none, &pin, &revoked);
    let now = UnixSeconds(NOW);
    let collateral = || VerifiedCollateral::verify(&case.collateral, &roots, now).expect("genuine");
    let judge = |known: Option<&VerifiedPck>, collateral: &VerifiedCollateral| {
        let quote = Quote::parse(&case.quote).expect("genuine");
        let made;
        let pck = match known.filter(|known| known.is_of(&quote)) {
            Some(known) => known,
            None => {
                made = VerifiedPck::verify_beside(collateral, quote.pck_chain(), &roots, now).expect("genuine");
                &made
            }
        };
        pck.current(&roots, now).expect("genuine");
        collateral.current(&roots, now).expect("genuine");
        td_attributes::judge(quote.td_report().expect("a trust domain")).expect("genuine");
        pck.authenticate(&quote).expect("genuine").judge(collateral).expect("genuine")
    };

    let signatures = tdx_signatures(base);
    let [quote, enclave] = &signatures.quote;
    let enclave_key = enclave.parsed();
    let bare_warm = measure::best_us(criterion, "tdx/warm/bare", || {
        enclave_key.verify_sig(&enclave.message, &enclave.signature).expect("genuine");
        quote.verify();
    });
    let known_collateral = collateral();
    let parsed = Quote::parse(&case.quote).expect("genuine");
    let known_pck = VerifiedPck::verify(parsed.pck_chain(), &roots, now).expect("genuine");
    let warm = measure::best_us(criterion, "tdx/warm/judged", || judge(Some(&known_pck), &known_collateral));
    let bare_pck = measure::best_us(criterion, "tdx/pck-cold/bare", || {
        signatures.quote.iter().chain(&signatures.pck).for_each(Bare::verify);
    });
    let pck = measure::best_us(criterion, "tdx/pck-cold/judged", || judge(None, &known_collateral));
    let bare_cold = measure::best_us(criterion, "tdx/cold/bare", || {
        signatures.quote.iter().chain(&signatures.pck).chain(&signatures.collateral).for_each(Bare::verify);
    });
    let cold = measure::best_us(criterion, "tdx/cold/judged", || judge(None, &collateral()));
    let qvl = measure::best_us(criterion, "tdx/cold/dcap-qvl", || world.judged_by_qvl(case).expect("genuine"));

    measure::report(
        &format!("TDX quote, collateral and PCK known, over bare ({bare_warm:.0} µs)"),
        warm / bare_warm,
        " ×",
        1.25,
    );
    measure::report(&format!("TDX quote, collateral known, over bare ({bare_pck:.0} µs)"), pck / bare_pck, " ×", 1.25);
    measure::report(&format!("TDX quote and collateral, over bare ({bare_cold:.0} µs)"), cold / bare_cold, " ×", 1.25);
    println!("ratio: dcap-qvl 0.7, TDX quote and collateral: {:.1} × ours", qvl / cold);
    println!("ratio: dcap-qvl 0.7, TDX quote (it keeps no collateral): {:.1} × ours with it known", qvl / warm);
}

/// Each signature in TDX evidence once.
struct TdxSignatures {
    /// Quote and enclave report.
    quote: [Bare; 2],
    /// PCK certificate and its authority, which the quote carries.
    pck: [Bare; 2],
    /// Both lists, TCB signing certificate, both texts.
    collateral: [Bare; 5],
}

fn tdx_signatures(base: &tdx::Base) -> TdxSignatures {
    let authority = &base.machine.authority;
    let keys = &authority.keys;
    let (bytes, collateral) = (&base.genuine.quote, &base.genuine.collateral);
    let ca = authority.pck_ca_key(base.machine.pck.ca);
    // version 5 with the body of TDX 1.5: header, descriptor, body, length, signature data
    let (end, enclave) = (54 + 648, 54 + 648 + 138);
    let fixed = |key: &[u8], message: &[u8], signature: &[u8]| Bare {
        algorithm: &ECDSA_P256_SHA256_FIXED,
        key: key.to_vec(),
        message: message.to_vec(),
        signature: signature.to_vec(),
    };
    let der = |key: &simulators::keys::EcKey, der: &[u8]| {
        Bare::of_der(&ECDSA_P256_SHA256_ASN1, key.public_point().to_vec(), der)
    };
    let signing = keys.tcb_signing.public_point();
    TdxSignatures {
        quote: [
            fixed(base.attestation.public_point(), &bytes[..end], &bytes[end + 4..end + 68]),
            fixed(base.pck.key.public_point(), &bytes[enclave..enclave + 384], &bytes[enclave + 384..enclave + 448]),
        ],
        pck: [
            der(ca, &base.pck.certificate),
            der(&keys.root, authority.pck_ca(base.machine.pck.ca)),
        ],
        collateral: [
            der(&keys.root, &collateral.root_ca_crl),
            der(ca, &collateral.pck_crl),
            der(&keys.root, &authority.tcb_signing),
            fixed(signing, collateral.tcb_info.as_bytes(), &collateral.tcb_info_signature),
            fixed(signing, collateral.qe_identity.as_bytes(), &collateral.qe_identity_signature),
        ],
    }
}
