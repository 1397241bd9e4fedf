//! Mutants of the PCK chain in a quote (Intel SGX PCK Certificate and CRL specification).

use der::oid::ObjectIdentifier;
use simulators::{
    asn1,
    intel::{PckCa, PckChain, intel_name},
    keys::{EcKey, Signer},
    x509::{self, CertificateFields, Extension, certificate_pem},
};

use super::{Base, TdxCase, World};
use crate::{
    Mutant, NOW,
    pick::{Pick, WAYS, change},
};

pub(super) const UNKNOWN: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.4.1.55555.1");

/// Mutant `at` of the PCK chains.
pub(super) fn mutant(world: &World, pick: &mut Pick, at: usize) -> Mutant<TdxCase> {
    let of = &world.bases[at % world.bases.len()];
    let (field, how, pem) = match at / world.bases.len() % 4 {
        0 => platform(of, pick),
        1 => leaf(of, pick),
        2 => above(of, pick),
        _ => blocks(world, of, pick),
    };
    // the PCK's key stays the same, so that the enclave's report stays signed
    let key = of.machine.authority.keys.derive(&[b"PCK", &of.machine.pck.ppid]).expect("a key");
    let chain = PckChain { key, certificate: vec![], pem };
    let quote = of.machine.quote_with([0x3c; 64], &chain).expect("a quote");
    Mutant { field, how, evidence: TdxCase { quote, ..of.genuine.clone() } }
}

fn key(of: &Base) -> EcKey {
    of.machine.authority.keys.derive(&[b"PCK", &of.machine.pck.ppid]).expect("a key")
}

fn pem(of: &Base, leaf: &[u8]) -> String {
    let authority = &of.machine.authority;
    [leaf, authority.pck_ca(of.machine.pck.ca), &authority.root].map(certificate_pem).concat()
}

/// What the certificate says of the platform.
fn platform(of: &Base, pick: &mut Pick) -> (String, String, String) {
    let mut pck = of.machine.pck.clone();
    let field = match pick.below(9) {
        0 => {
            pck.fmspc[pick.below(6)] ^= 1 << pick.below(8);
            "fmspc"
        }
        1 => {
            pck.pceid[pick.below(2)] ^= 1 << pick.below(8);
            "pceid"
        }
        2 => {
            pck.ppid[pick.below(16)] ^= 1;
            "ppid"
        }
        3 | 4 => {
            let at = pick.below(9);
            pck.components[at] = *pick.one(&[0, 1, 2, 3, 4, 5, 255]);
            "components"
        }
        5 => {
            pck.pcesvn = *pick.one(&[0, 1, 4, 5, 6, 12, 13, 14, 65_535]);
            "pcesvn"
        }
        6 => {
            pck.sgx_type = pick.below(4) as u8;
            "sgx_type"
        }
        7 => {
            pck.configuration = None;
            "configuration"
        }
        _ => {
            pck.ca = if pck.ca == PckCa::Platform { PckCa::Processor } else { PckCa::Platform };
            "ca"
        }
    };
    let authority = &of.machine.authority;
    let leaf = authority.pck_fields(&pck, &key(of)).sign(Signer::Ec(authority.pck_ca_key(pck.ca))).expect("signed");
    let pem = [&leaf, authority.pck_ca(pck.ca), &authority.root].map(certificate_pem).concat();
    (format!("platform.{field}"), "certified".to_owned(), pem)
}

fn leaf(of: &Base, pick: &mut Pick) -> (String, String, String) {
    let authority = &of.machine.authority;
    let mut fields = authority.pck_fields(&of.machine.pck, &key(of));
    let what = alter(&mut fields, pick);
    let own = authority.pck_ca_key(of.machine.pck.ca);
    let is_foreign = pick.once_in(8);
    let signer = if is_foreign { &authority.keys.tcb_signing } else { own };
    let what = if is_foreign { "signer" } else { what };
    let leaf = fields.sign(Signer::Ec(signer)).expect("signed");
    (format!("pck.{what}"), "signed again".to_owned(), pem(of, &leaf))
}

fn above(of: &Base, pick: &mut Pick) -> (String, String, String) {
    let authority = &of.machine.authority;
    let root = Signer::Ec(&authority.keys.root);
    let is_root = pick.once_in(3);
    let mut fields = if is_root { authority.root_fields() } else { authority.pck_ca_fields(of.machine.pck.ca) };
    let what = alter(&mut fields, pick);
    let der = fields.sign(root).expect("signed");
    let (ca, root) = if is_root { (authority.pck_ca(of.machine.pck.ca), &*der) } else { (&*der, &*authority.root) };
    let pem = [&of.pck.certificate, ca, root].map(certificate_pem).concat();
    (format!("{}.{what}", if is_root { "pck_root" } else { "pck_ca" }), "signed again".to_owned(), pem)
}

/// Blocks and bytes of the PEM text.
fn blocks(world: &World, of: &Base, pick: &mut Pick) -> (String, String, String) {
    let authority = &of.machine.authority;
    let (leaf, ca, root) = (&of.pck.certificate, authority.pck_ca(of.machine.pck.ca), &authority.root);
    let join = |all: &[&[u8]]| all.iter().map(|der| certificate_pem(der)).collect::<String>();
    let (how, pem) = match pick.below(10) {
        0 => ("leaf alone", join(&[leaf])),
        1 => ("without its root", join(&[leaf, ca])),
        2 => ("without its authority", join(&[leaf, root])),
        3 => ("reversed", join(&[root, ca, leaf])),
        4 => ("root before authority", join(&[leaf, root, ca])),
        5 => ("root twice", join(&[leaf, ca, root, root])),
        6 => ("text before", format!("text\n{}", of.pck.pem)),
        7 => ("text after", format!("{}text", of.pck.pem)),
        8 => ("another's leaf", join(&[&pick.one(&world.bases).pck.certificate, ca, root])),
        _ => {
            let mut der = leaf.clone();
            let at = pick.below(der.len());
            let way = pick.below(7);
            let how = change(pick, way, &mut der, at, 1, &[]);
            return ("pck.der".to_owned(), how.to_owned(), join(&[&der, ca, root]));
        }
    };
    ("pck.pem".to_owned(), how.to_owned(), pem)
}

/// Changes one field of a certificate; says which.
pub(super) fn alter(of: &mut CertificateFields, pick: &mut Pick) -> &'static str {
    match pick.below(13) {
        0 => {
            of.not_before = NOW + 1 + pick.below(1 << 20) as u64;
            "not_before"
        }
        1 => {
            of.not_after = NOW - 1 - pick.below(1 << 20) as u64;
            "not_after"
        }
        2 => {
            of.not_after = NOW;
            "not_after.now"
        }
        3 => {
            of.issuer = intel_name(pick.one::<&str>(&["Intel SGX Root CA 2", "Intel SGX PCK Platform CA", ""]));
            "issuer"
        }
        4 => {
            of.subject =
                intel_name(pick.one::<&str>(&["Example", "Intel SGX TCB Signing", "Intel SGX PCK Certificate", ""]));
            "subject"
        }
        5 => {
            let last = of.public_key_info.len() - 1 - pick.below(60);
            of.public_key_info[last] ^= 1 << pick.below(8);
            "key"
        }
        6 => {
            of.serial = vec![1 + pick.below(127) as u8; 20];
            "serial"
        }
        7 => {
            let critical = pick.once_in(2);
            of.extensions.push(Extension { oid: UNKNOWN, critical, value: asn1::null() });
            if critical { "extension.critical" } else { "extension.unknown" }
        }
        8 => {
            let again = pick.one(&of.extensions).clone();
            of.extensions.push(again);
            "extension.twice"
        }
        9 => {
            let gone = of.extensions.remove(pick.below(of.extensions.len()));
            removed(gone.oid)
        }
        10 => {
            let constraints = *pick.one(&[None, Some(None), Some(Some(0)), Some(Some(1)), Some(Some(9))]);
            of.remove_extension(x509::BASIC_CONSTRAINTS);
            of.extensions.push(x509::basic_constraints(constraints));
            "extension.constraints"
        }
        11 => {
            of.remove_extension(x509::KEY_USAGE);
            of.extensions.push(x509::key_usage(0, *pick.one(&[0x80, 0x04, 0x02, 0x06, 0xff, 0xc0])));
            "extension.usage"
        }
        _ => {
            let at = pick.below(of.extensions.len());
            let value = &mut of.extensions[at].value;
            let (len, way) = (value.len(), pick.below(WAYS - 1));
            change(pick, way, value, 0, len, &[]);
            "extension.value"
        }
    }
}

fn removed(oid: ObjectIdentifier) -> &'static str {
    match oid {
        x509::BASIC_CONSTRAINTS => "extension.constraints.removed",
        x509::KEY_USAGE => "extension.usage.removed",
        _ => "extension.removed",
    }
}
