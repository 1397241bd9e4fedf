//! Sets of other formats become ours, and ours become theirs; with one defect they do not.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout,
    clippy::as_conversions,
    clippy::disallowed_methods
)]

mod corim;
mod corpus;
mod defects;
mod keylime;
mod snp_measure;

use ciborium::Value;
use evidence::{
    cbor,
    cose::{PublicKey, SigningKey},
    time::UnixSeconds,
};
use firmware_refs::{
    document::SetDocument,
    exchange::signers::{AllowedSigner, Hardware},
};

/// Within the time of the corpus' files and of the sets here.
const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

const HEADER: &str = r#"
id = "imported"
version = 1
domain = "a.example"
environment = "lab"
issued_at = "2023-01-01T00:00:00Z"
not_before = "2023-01-01T00:00:00Z"
not_after = "2027-01-01T00:00:00Z"
reason = "base"
"#;

const TPM: &str = r#"
[tpm]
bank = "sha256"
pcrs = [7]
require_event_log = false
require_ima_log = false
platforms = { accept = "enrolled" }
firmware = [{ manufacturer = "id:49424D00", floor = "2019102300163636", source = "bulletin" }]
[[tpm.pcr]]
index = 7
accept = [{ digest = "sha256:7777777777777777777777777777777777777777777777777777777777777777", source = "base" }]
"#;

const SNP: &str = r#"
[snp]
report_versions = [3]
vmpl = [0]
guest_svn = 0
family_id = ["00000000000000000000000000000000"]
image_id = ["00000000000000000000000000000000"]
platforms = { accept = "any" }
id_block = { accept = "none" }
measurement = [{ digest = "sha384:MEASURED", source = "base" }]
host_data = [{ digest = "sha256:0000000000000000000000000000000000000000000000000000000000000000", source = "base" }]
[snp.policy]
smt = "required"
single_socket = "forbidden"
cxl = "forbidden"
aes_256_xts = "forbidden"
rapl_disabled = "forbidden"
ciphertext_hiding = "forbidden"
page_swap_disabled = "forbidden"
[snp.platform_info]
smt = "required"
tsme = "forbidden"
ecc = "forbidden"
rapl_disabled = "forbidden"
ciphertext_hiding = "forbidden"
alias_check = "forbidden"
iommu_write_safe = "forbidden"
tio = "forbidden"
[[snp.product]]
product = "Genoa"
source = "bulletin"
firmware = "1.55.8"
reported = { boot_loader = 1, tee = 2, snp = 3, microcode = 4 }
committed = { boot_loader = 1, tee = 2, snp = 3, microcode = 4 }
current = { boot_loader = 1, tee = 2, snp = 3, microcode = 4 }
launch = { boot_loader = 1, tee = 2, snp = 3, microcode = 4 }
"#;

const TDX: &str = r#"
[tdx]
require_event_log = false
xfam = "0x00000000000000e7"
tcb_status = ["UpToDate"]
tcb_evaluation_floor = 17
platforms = { accept = "any" }
mrtd = [{ digest = "sha384:MEASURED", source = "base" }]
mrconfigid = [{ digest = "sha384:ZERO", source = "base" }]
mrowner = [{ digest = "sha384:ZERO", source = "base" }]
mrownerconfig = [{ digest = "sha384:ZERO", source = "base" }]
mrservicetd = [{ digest = "sha384:ZERO", source = "base" }]
rtmr = [
  { index = 0, accept = [{ digest = "sha384:MEASURED", source = "base" }] },
  { index = 1, accept = [{ digest = "sha384:MEASURED", source = "base" }] },
  { index = 2, accept = [{ digest = "sha384:MEASURED", source = "base" }] },
  { index = 3, accept = [{ digest = "sha384:ZERO", source = "base" }] },
]
[tdx.attributes]
perfmon = "forbidden"
icssd = "forbidden"
lass = "forbidden"
pks = "forbidden"
key_locker = "forbidden"
tpa = "forbidden"
"#;

/// A document with one section, its measurements all of this digit.
fn document(section: &str, digit: &str) -> SetDocument {
    let section = section.replace("MEASURED", &digit.repeat(96)).replace("ZERO", &"0".repeat(96));
    toml::from_str(&format!("{HEADER}{section}")).unwrap()
}

fn signing_key() -> SigningKey {
    SigningKey::from_seed(&[7; 32]).unwrap()
}

fn signer(key: &PublicKey, hardware: &[Hardware]) -> AllowedSigner {
    AllowedSigner { key: key.clone(), environment: "lab".parse().unwrap(), hardware: hardware.to_vec() }
}

fn signers() -> Vec<AllowedSigner> {
    vec![signer(signing_key().public(), &Hardware::ALL)]
}

fn map(pairs: Vec<(i64, Value)>) -> Value {
    Value::Map(pairs.into_iter().map(|(label, value)| (Value::from(label), value)).collect())
}

fn tag(number: u64, value: Value) -> Value {
    Value::Tag(number, Box::new(value))
}

fn bytes(value: &Value) -> Vec<u8> {
    cbor::to_vec(value).unwrap()
}

/// `#6.506(comid)` of this id, version, links and content of reference triples.
fn comid(id: &str, version: u64, links: Vec<(&str, u8)>, triples: Vec<Value>) -> Value {
    let link = |(to, relation): (&str, u8)| map(vec![(0, Value::from(to)), (1, Value::from(relation))]);
    let mut pairs = vec![
        (1, map(vec![(0, Value::from(id)), (1, Value::from(version))])),
        (4, map(vec![(0, Value::Array(triples))])),
    ];
    if !links.is_empty() {
        pairs.push((3, Value::Array(links.into_iter().map(link).collect())));
    }
    tag(506, Value::Bytes(bytes(&map(pairs))))
}

fn pcr_triple(pcr: u64, digest: [u8; 32]) -> Value {
    let class = map(vec![(0, map(vec![(0, tag(37, Value::Bytes(vec![1; 16])))]))]);
    let digests = Value::Array(vec![Value::Array(vec![Value::from(1), Value::Bytes(digest.to_vec())])]);
    let measurement = map(vec![(0, Value::from(pcr)), (1, map(vec![(2, digests)]))]);
    Value::Array(vec![class, Value::Array(vec![measurement])])
}

const PARSEC: &str = "tag:github.com/parallaxsecond,2023-03-03:tpm";

fn corim_of(profile: &str, tags: Vec<Value>) -> Value {
    let profile = tag(32, Value::from(profile));
    tag(501, map(vec![(0, Value::from("test")), (1, Value::Array(tags)), (3, profile)]))
}

fn pcrs_corim(tags: Vec<Value>) -> Vec<u8> {
    bytes(&corim_of(PARSEC, tags))
}

/// A COSE_Sign1 by the test's key, under this protected header.
fn signed(header: &Value, payload: Vec<u8>) -> Vec<u8> {
    let header = bytes(header);
    let parts =
        ["Signature1".into(), Value::Bytes(header.clone()), Value::Bytes(vec![]), Value::Bytes(payload.clone())];
    let signature = signing_key().sign_raw(&bytes(&Value::Array(parts.to_vec())));
    let parts = vec![Value::Bytes(header), map(vec![]), Value::Bytes(payload), Value::Bytes(signature)];
    bytes(&tag(18, Value::Array(parts)))
}

fn header(alg: i64) -> Value {
    map(vec![(1, Value::from(alg)), (3, Value::from("application/rim+cbor"))])
}
