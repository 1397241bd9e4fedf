//! Mutants of certificates and revocation list (AMD 57230), signed again by the authority, by a stranger, or not.

use simulators::{
    amd::{AmdAuthority, EndorsementKey, oids},
    asn1,
    keys::{RsaKey, Signer},
    x509::{self, CertificateFields, CrlFields, Extension, RevokedCertificate},
};

use super::{Base, SnpCase, World};
use crate::{
    Mutant, NOW,
    pick::{Pick, WAYS, change},
};

/// Everything that is signed, as fields.
struct Fields {
    leaf: CertificateFields,
    issuer: CertificateFields,
    root: CertificateFields,
    list: CrlFields,
}

type Change = dyn Fn(&mut Fields, &mut Pick) + Send + Sync;

/// One change of [`Fields`], by name.
pub struct Defect {
    name: String,
    part: Part,
    change: Box<Change>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Leaf,
    Issuer,
    Root,
    List,
}

/// All defects by name.
pub fn defects() -> Vec<Defect> {
    let mut all = vec![];
    for (part, name) in [(Part::Leaf, "leaf"), (Part::Issuer, "issuer"), (Part::Root, "root")] {
        let mut add = |field: &str, change: fn(&mut CertificateFields, &mut Pick)| {
            let change = Box::new(move |fields: &mut Fields, pick: &mut Pick| change(certificate(fields, part), pick));
            all.push(Defect { name: format!("{name}.{field}"), part, change });
        };
        add("serial", |of, pick| of.serial = vec![1 + pick.below(127) as u8, 7]);
        add("not_before", |of, pick| of.not_before = NOW + 1 + pick.below(1 << 20) as u64);
        add("not_after", |of, pick| of.not_after = NOW - 1 - pick.below(1 << 20) as u64);
        add("not_after.now", |of, _| of.not_after = NOW);
        add("issuer", |of, pick| rename(&mut of.issuer, pick));
        add("subject", |of, pick| rename(&mut of.subject, pick));
        add("key", |of, pick| {
            let last = of.public_key_info.len() - 1 - pick.below(90);
            of.public_key_info[last] ^= 1 << pick.below(8);
        });
        add("extension.unknown", |of, pick| {
            let critical = pick.once_in(2);
            of.extensions.push(Extension { oid: UNKNOWN, critical, value: asn1::null() });
        });
        add("extension.twice", |of, pick| {
            let again = pick.one(&of.extensions).clone();
            of.extensions.push(again);
        });
        add("extension.removed", |of, pick| {
            let gone = pick.below(of.extensions.len());
            of.extensions.remove(gone);
        });
        add("extension.value", |of, pick| {
            let at = pick.below(of.extensions.len());
            let value = &mut of.extensions[at].value;
            let (len, way) = (value.len(), pick.below(WAYS - 1));
            change(pick, way, value, 0, len, &[]);
        });
        add("extension.level", |of, pick| {
            let level = *pick.one(&LEVELS);
            let value = *pick.one(&[0, 1, 127, 128, 255, 256, 65_535]);
            if let Some(extension) = of.extension_mut(level) {
                extension.value = asn1::small(value);
            }
        });
        add("extension.constraints", |of, pick| {
            let constraints = *pick.one(&[None, Some(None), Some(Some(0)), Some(Some(1)), Some(Some(9))]);
            of.remove_extension(x509::BASIC_CONSTRAINTS);
            of.extensions.push(x509::basic_constraints(constraints));
        });
        add("extension.usage", |of, pick| {
            of.remove_extension(x509::KEY_USAGE);
            of.extensions.push(x509::key_usage(0, *pick.one(&[0x80, 0x04, 0x02, 0x06, 0xff, 0x00])));
        });
    }
    let mut add = |name: &str, part: Part, change: fn(&mut Fields, &mut Pick)| {
        all.push(Defect { name: name.to_owned(), part, change: Box::new(change) });
    };
    add("leaf.identity", Part::Leaf, |of, pick| {
        let identity = *pick.one(&[oids::HWID, oids::CSP_ID]);
        of.leaf.remove_extension(oids::HWID);
        of.leaf.remove_extension(oids::CSP_ID);
        let value =
            if identity == oids::HWID { vec![0x5a; *pick.one(&[8, 64, 63])] } else { asn1::ia5("other.example") };
        of.leaf.extensions.push(Extension { oid: identity, critical: false, value });
    });
    add("leaf.product", Part::Leaf, |of, pick| {
        let product = *pick.one(&["Milan-B0", "Genoa", "Turin", "Rome", "", "Milan-B1", "Genoa-B1"]);
        if let Some(extension) = of.leaf.extension_mut(oids::PRODUCT_NAME) {
            extension.value = asn1::ia5(product);
        }
    });
    add("list.this_update", Part::List, |of, pick| of.list.this_update = NOW + 1 + pick.below(1 << 20) as u64);
    add("list.next_update", Part::List, |of, pick| of.list.next_update = NOW - 1 - pick.below(1 << 20) as u64);
    add("list.issuer", Part::List, |of, pick| rename(&mut of.list.issuer, pick));
    add("list.revoked", Part::List, |of, pick| {
        let serial = pick.one(&[of.issuer.serial.clone(), of.root.serial.clone()]).clone();
        of.list.revoked.push(RevokedCertificate { serial, at: NOW - 5, reason: 1 });
    });
    add("list.revoked.other", Part::List, |of, _| {
        of.list.revoked.push(RevokedCertificate { serial: vec![0x77; 8], at: NOW - 5, reason: 1 });
    });
    add("list.extension", Part::List, |of, pick| {
        let critical = pick.once_in(2);
        of.list.extensions.push(Extension { oid: UNKNOWN, critical, value: asn1::null() });
    });
    all
}

const UNKNOWN: der::oid::ObjectIdentifier = der::oid::ObjectIdentifier::new_unwrap("1.3.6.1.4.1.55555.1");
const LEVELS: [der::oid::ObjectIdentifier; 11] = [
    oids::STRUCT_VERSION,
    oids::FMC,
    oids::BOOT_LOADER,
    oids::TEE,
    oids::SNP,
    oids::SPL4,
    oids::SPL5,
    oids::SPL6,
    oids::SPL7,
    oids::MICROCODE,
    oids::BOOT_LOADER,
];

fn certificate(fields: &mut Fields, part: Part) -> &mut CertificateFields {
    match part {
        Part::Leaf => &mut fields.leaf,
        Part::Issuer => &mut fields.issuer,
        Part::Root | Part::List => &mut fields.root,
    }
}

/// Another common name of the hierarchy, or another organization.
fn rename(name: &mut [x509::NamePart], pick: &mut Pick) {
    const NAMES: [&str; 9] =
        ["ARK-Milan", "ARK-Genoa", "SEV-Milan", "SEV-Turin", "SEV-VLEK-Genoa", "SEV-VCEK", "SEV-VLEK", "ARK-Rome", ""];
    let organization = pick.once_in(4);
    let before = name.to_vec();
    for part in name.iter_mut() {
        if organization && part.oid == x509::ORGANIZATION {
            part.value = "Example".to_owned();
        } else if !organization && part.oid == x509::COMMON_NAME {
            part.value = (*pick.one(&NAMES)).to_owned();
        }
    }
    if *name == *before
        && let Some(part) = name.last_mut()
    {
        part.value.push('x');
    }
}

/// Mutant `at` of the chains.
pub(super) fn mutant(world: &World, pick: &mut Pick, at: usize) -> (usize, Mutant<SnpCase>) {
    let base = at % world.bases.len();
    let of = &world.bases[base];
    let rest = at / world.bases.len();
    // of three, one is signed again, one has bytes changed under the old signature, one has certificates exchanged
    let mutant = match rest % 4 {
        0 | 1 => resigned(world, of, pick, (rest / 4) * 2 + rest % 4 + base),
        2 => raw(of, pick),
        _ => exchanged(world, of, pick),
    };
    (base, mutant)
}

fn resigned(world: &World, of: &Base, pick: &mut Pick, at: usize) -> Mutant<SnpCase> {
    let defect = &world.defects[at % world.defects.len()];
    let authority = &of.machine.authority;
    let vek = of.machine.vek_fields();
    let is_vcek = of.machine.endorsement_key == EndorsementKey::Vcek;
    let mut fields = Fields {
        leaf: vek.certificate_fields(authority, &of.vek.key),
        issuer: if is_vcek { authority.ask_fields() } else { authority.asvk_fields() },
        root: authority.ark_fields(),
        list: authority.crl_fields(),
    };
    (defect.change)(&mut fields, pick);
    let foreign = pick.once_in(8).then(|| AmdAuthority::published(authority.line, NOW).expect("an authority"));
    let stranger = foreign.map(|_| simulators::amd::AmdKeys::foreign().expect("a key"));
    let own = |key| stranger.as_ref().unwrap_or(key);
    let mut evidence = of.genuine.clone();
    let ark = |key: &RsaKey, fields: &CertificateFields| fields.sign(Signer::RsaPssTrailer(key)).expect("signed");
    match defect.part {
        Part::Leaf => {
            let key = if is_vcek { &authority.keys.ask } else { &authority.keys.asvk };
            evidence.leaf = fields.leaf.sign(Signer::RsaPss(own(key))).expect("signed").into();
        }
        Part::Issuer => evidence.issuer = ark(own(&authority.keys.ark), &fields.issuer).into(),
        Part::Root => evidence.root = ark(own(&authority.keys.ark), &fields.root).into(),
        Part::List => {
            evidence.list = fields.list.sign(Signer::RsaPssTrailer(own(&authority.keys.ark))).expect("signed").into();
        }
    }
    let how = if stranger.is_some() { "signed by a stranger" } else { "signed again" };
    Mutant { field: defect.name.clone(), how: how.to_owned(), evidence }
}

fn raw(of: &Base, pick: &mut Pick) -> Mutant<SnpCase> {
    let mut evidence = of.genuine.clone();
    let (name, slot) = match pick.below(4) {
        0 => ("leaf", &mut evidence.leaf),
        1 => ("issuer", &mut evidence.issuer),
        2 => ("root", &mut evidence.root),
        _ => ("list", &mut evidence.list),
    };
    let mut der = slot.to_vec();
    let how = match pick.below(8) {
        0 => {
            der.truncate(pick.below(der.len()));
            "truncated"
        }
        1 => {
            der.push(pick.bits() as u8);
            "extended"
        }
        2 => {
            der.clear();
            "empty"
        }
        _ => {
            let at = pick.below(der.len());
            let way = pick.below(7);
            change(pick, way, &mut der, at, 1, &[])
        }
    };
    *slot = der.into();
    Mutant { field: format!("{name}.der"), how: how.to_owned(), evidence }
}

/// Certificates of others, in others' places.
fn exchanged(world: &World, of: &Base, pick: &mut Pick) -> Mutant<SnpCase> {
    let other = &pick.one(&world.bases).genuine;
    let mut evidence = of.genuine.clone();
    let own = of.genuine.clone();
    let field = match pick.below(9) {
        0 => {
            evidence.leaf = other.leaf.clone();
            "exchanged.leaf"
        }
        1 => {
            evidence.issuer = other.issuer.clone();
            "exchanged.issuer"
        }
        2 => {
            evidence.root = other.root.clone();
            "exchanged.root"
        }
        3 => {
            evidence.list = other.list.clone();
            "exchanged.list"
        }
        4 => {
            (evidence.leaf, evidence.issuer) = (own.issuer, own.leaf);
            "exchanged.places"
        }
        5 => {
            (evidence.issuer, evidence.root) = (own.root, own.issuer);
            "exchanged.places"
        }
        6 => {
            evidence.issuer = own.root;
            "exchanged.places"
        }
        7 => {
            evidence = SnpCase { report: own.report, ..other.clone() };
            "exchanged.chain"
        }
        _ => {
            let foreign = of.machine.authority.ark_fields();
            let stranger = simulators::amd::AmdKeys::foreign().expect("a key");
            let mut root = foreign;
            root.public_key_info = stranger.public_key_info();
            evidence.root = root.sign(Signer::RsaPssTrailer(&stranger)).expect("signed").into();
            let mut issuer = of.machine.authority.ask_fields();
            let is_vcek = of.machine.endorsement_key == EndorsementKey::Vcek;
            if !is_vcek {
                issuer = of.machine.authority.asvk_fields();
            }
            evidence.issuer = issuer.sign(Signer::RsaPssTrailer(&stranger)).expect("signed").into();
            "exchanged.stranger"
        }
    };
    Mutant { field: field.to_owned(), how: "another's".to_owned(), evidence }
}
