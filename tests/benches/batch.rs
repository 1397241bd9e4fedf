//! What `verifier evidence verify --batch` costs, files and answers included, as a ratio to aws-lc-rs verifying the same
//! cases' signatures on the same cores and nothing else.
//!
//! Genuine evidence, named by ATTEST_CORPUS: the genuine roots judge no other. Every line names the same few machines,
//! as a fleet's lines do: the second ratio is to the signatures that every line has of its own.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a bench that goes wrong should stop, and prints what it measured"
)]

mod measure;

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    thread,
};

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ParsedPublicKey,
    RSA_PSS_2048_8192_SHA384, VerificationAlgorithm,
};
use base64::Engine as _;
use criterion::Criterion;
use der::{Decode as _, Reader as _, SliceReader, asn1::BitStringRef};
use evidence::tdx::{Collateral, Quote};
use serde_json::json;
use verifier::evidence_cli::judge_lines;

/// Lines of one batch.
const LINES: usize = 256;
/// A batch of a fleet judges at 90 % of the bare rate.
const GOAL: f64 = 1.11;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let Some(corpus) = std::env::var_os("ATTEST_CORPUS").map(PathBuf::from) else {
        println!("skipped: ATTEST_CORPUS names no corpus of genuine evidence");
        return;
    };
    let machines: Vec<Machine> =
        ["milan", "genoa", "turin"].map(|product| Machine::snp(&corpus, product)).into_iter().collect();
    measured(&mut criterion, "SNP", &machines);
    measured(&mut criterion, "TDX", &[Machine::tdx(&corpus)]);
}

fn measured(criterion: &mut Criterion, name: &str, machines: &[Machine]) {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut lines = String::new();
    machines.iter().cycle().take(LINES).for_each(|machine| writeln!(lines, "{}", machine.question).unwrap());
    let batch = measure::best_us(criterion, &format!("batch/{name}/judged"), || {
        let mut answers = Vec::new();
        assert!(judge_lines(lines.as_bytes(), &mut answers, cores).unwrap());
        answers
    });
    let mut bare = |what: &str, of: fn(&Machine) -> &[Bare]| {
        let all: Vec<&Machine> = machines.iter().cycle().take(LINES).collect();
        measure::best_us(criterion, &format!("batch/{name}/{what}"), || {
            thread::scope(|scope| {
                for part in all.chunks(LINES.div_ceil(cores)) {
                    scope.spawn(move || part.iter().flat_map(|machine| of(machine)).for_each(Bare::verify));
                }
            });
        })
    };
    let (all, own) = (bare("bare", |machine| &machine.signatures), bare("bare-own", Machine::own));
    let each = all * cores as f64 / LINES as f64;
    let title = format!("batch of {name} evidence on {cores} cores, over bare ({each:.0} µs)");
    measure::report(&title, batch / all, " ×", GOAL);
    println!("ratio: batch of {name} evidence, over the bare signatures of its own: {:.2} ×", batch / own);
}

/// Evidence of one machine, as a line asks about it, and its signatures.
struct Machine {
    question: serde_json::Value,
    /// Its own first.
    signatures: Vec<Bare>,
    /// How many are over what it alone says.
    own: usize,
}

impl Machine {
    fn snp(corpus: &Path, product: &str) -> Self {
        let of = |name: &str| corpus.join(name);
        let report = of(&format!("snp/{product}-aci-report.bin"));
        let vek = of(&format!("snp/{product}-aci-vcek.pem"));
        let [ask, ark] = ["ask", "ark"].map(|role| of(&format!("roots/amd-{product}-{role}.pem")));
        let bytes = std::fs::read(&report).unwrap();
        let [leaf, issuer, root] =
            [&vek, &ask, &ark].map(|path| certificates(&std::fs::read_to_string(path).unwrap()).remove(0));
        let signed = Bare {
            algorithm: &ECDSA_P384_SHA384_FIXED,
            key: key_info(&leaf),
            message: bytes[..0x2a0].to_vec(),
            signature: [0x2a0, 0x2e8].iter().flat_map(|at| bytes[*at..at + 48].iter().rev().copied()).collect(),
        };
        let by = |issuer: &[u8], der: &[u8]| Bare::of_der(&RSA_PSS_2048_8192_SHA384, issuer, der);
        Self {
            question: json!({"id": product, "kind": "snp-report", "at": "2026-03-01T00:00:00Z", "files": {
                "report": report, "vek": vek, "intermediate": ask, "root": ark,
            }}),
            signatures: vec![signed, by(&issuer, &leaf), by(&root, &issuer)],
            own: 1,
        }
    }

    fn tdx(corpus: &Path) -> Self {
        let quote = corpus.join("dcap/tdx-v4-b0c06f-quote.bin");
        let collateral = corpus.join("dcap/collateral-b0c06f-tdx-2025-06.json");
        let (bytes, texts) = (std::fs::read(&quote).unwrap(), std::fs::read(&collateral).unwrap());
        let [leaf, ca, root] = Quote::parse_prefix(&bytes).unwrap().0.pck_certificates().unwrap();
        let texts = Collateral::from_json(&texts).unwrap();
        let signer = certificates(&texts.tcb_info_issuer_chain).remove(0);
        // version 4: header and body, length, signature data (Intel DCAP Quoting Library API, A.3)
        let (end, enclave) = (48 + 584, 48 + 584 + 4 + 128 + 6);
        let point = [&[4], &bytes[end + 68..end + 132]].concat();
        let fixed = |key: Vec<u8>, message: &[u8], signature: &[u8]| Bare {
            algorithm: &ECDSA_P256_SHA256_FIXED,
            key,
            message: message.to_vec(),
            signature: signature.to_vec(),
        };
        let by = |issuer: &[u8], der: &[u8]| Bare::of_der(&ECDSA_P256_SHA256_ASN1, issuer, der);
        Self {
            question: json!({"id": "tdx", "kind": "dcap-quote", "at": "2025-07-04T10:16:31Z", "files": {
                "quote": quote, "collateral": collateral,
            }}),
            signatures: vec![
                fixed(point, &bytes[..end], &bytes[end + 4..end + 68]),
                fixed(key_info(&leaf), &bytes[enclave..enclave + 384], &bytes[enclave + 384..enclave + 448]),
                by(&ca, &leaf),
                by(&root, &ca),
                by(&root, &signer),
                by(&root, &texts.root_ca_crl),
                by(&ca, &texts.pck_crl),
                fixed(key_info(&signer), texts.tcb_info.as_bytes(), &texts.tcb_info_signature),
                fixed(key_info(&signer), texts.qe_identity.as_bytes(), &texts.qe_identity_signature),
            ],
            own: 2,
        }
    }

    fn own(&self) -> &[Bare] {
        &self.signatures[..self.own]
    }
}

/// A signature to be verified: algorithm, key, message, signature.
struct Bare {
    algorithm: &'static dyn VerificationAlgorithm,
    key: Vec<u8>,
    message: Vec<u8>,
    signature: Vec<u8>,
}

impl Bare {
    /// Of a certificate or a list (RFC 5280): what is signed, by the key of the certificate `issuer`.
    fn of_der(algorithm: &'static dyn VerificationAlgorithm, issuer: &[u8], der: &[u8]) -> Self {
        let mut reader = SliceReader::new(der).unwrap();
        let (message, signature) = reader
            .sequence(|body| {
                let message = body.tlv_bytes()?.to_vec();
                body.tlv_bytes()?;
                Ok::<_, der::Error>((message, BitStringRef::decode(body)?.raw_bytes().to_vec()))
            })
            .unwrap();
        Self { algorithm, key: key_info(issuer), message, signature }
    }

    fn verify(&self) {
        let key = ParsedPublicKey::new(self.algorithm, &self.key).expect("a key");
        key.verify_sig(&self.message, &self.signature).expect("genuine");
    }
}

/// SubjectPublicKeyInfo of a certificate: the seventh field of what is signed.
fn key_info(certificate: &[u8]) -> Vec<u8> {
    let mut reader = SliceReader::new(certificate).unwrap();
    let read = |body: &mut SliceReader<'_>| {
        let mut tbs = SliceReader::new(body.tlv_bytes()?)?;
        let key = tbs.sequence(|fields| {
            for _ in 0..6 {
                fields.tlv_bytes()?;
            }
            let key = fields.tlv_bytes()?.to_vec();
            fields.read_slice(fields.remaining_len())?;
            Ok::<_, der::Error>(key)
        })?;
        body.read_slice(body.remaining_len())?;
        Ok::<_, der::Error>(key)
    };
    reader.sequence(read).unwrap()
}

/// Certificates (DER) in PEM.
fn certificates(pem: &str) -> Vec<Vec<u8>> {
    let blocks = pem.split("-----BEGIN CERTIFICATE-----").skip(1);
    let body = |block: &str| block.split("-----END").next().unwrap().split_ascii_whitespace().collect::<String>();
    blocks.map(|block| base64::engine::general_purpose::STANDARD.decode(body(block)).unwrap()).collect()
}
