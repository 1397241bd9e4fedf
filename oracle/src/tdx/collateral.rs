//! Mutants of the collateral: texts by path in their JSON, lists and issuers by field, chains by block.

use std::sync::Arc;

use evidence::tdx::Collateral;
use serde_json::Value;
use simulators::{
    keys::Signer,
    x509::{self, CrlFields, Extension, RevokedCertificate, certificate_pem},
};

use super::{Base, TdxCase, World, pck::alter};
use crate::{
    Mutant, NOW,
    pick::{Pick, change},
};

/// JSON pointers of everything in the two signed texts.
pub struct Texts {
    tcb_info: Vec<String>,
    qe_identity: Vec<String>,
}

impl Texts {
    pub fn of(collateral: &Collateral) -> Self {
        let paths = |text: &str| {
            let mut paths = vec![];
            walk(&serde_json::from_str(text).expect("JSON"), String::new(), &mut paths);
            paths
        };
        Self { tcb_info: paths(&collateral.tcb_info), qe_identity: paths(&collateral.qe_identity) }
    }
}

fn walk(value: &Value, path: String, paths: &mut Vec<String>) {
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, of)| walk(of, format!("{path}/{name}"), paths)),
        Value::Array(all) => all.iter().enumerate().for_each(|(at, of)| walk(of, format!("{path}/{at}"), paths)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
    if !path.is_empty() {
        paths.push(path);
    }
}

/// Mutant `at` of the collateral.
pub(super) fn mutant(world: &World, pick: &mut Pick, at: usize) -> Mutant<TdxCase> {
    let of = &world.bases[at % world.bases.len()];
    let at = at / world.bases.len();
    let mut collateral = (*of.genuine.collateral).clone();
    let (field, how) = match at % 5 {
        0 | 1 => text(world, of, pick, at / 5 * 2 + at % 5, &mut collateral),
        2 => list(of, pick, &mut collateral),
        3 => issuer(of, pick, &mut collateral),
        _ => raw(world, pick, &mut collateral),
    };
    let evidence = TdxCase { collateral: Arc::new(collateral), ..of.genuine.clone() };
    Mutant { field, how, evidence }
}

/// One value of one text, signed again three times of four.
fn text(world: &World, of: &Base, pick: &mut Pick, at: usize, collateral: &mut Collateral) -> (String, String) {
    let is_info = pick.below(3) > 0;
    let (name, paths) =
        if is_info { ("tcb_info", &world.texts.tcb_info) } else { ("qe_identity", &world.texts.qe_identity) };
    let text = if is_info { &mut collateral.tcb_info } else { &mut collateral.qe_identity };
    let path = &paths[at % paths.len()];
    let mut value: Value = serde_json::from_str(text).expect("JSON");
    let mut how = alter_value(&mut value, path, paths, pick);
    *text = value.to_string();
    if how == "named twice" {
        *text = twice(text, path);
    }
    if pick.below(4) > 0 {
        let signature = of.machine.authority.keys.tcb_signing.sign_fixed(text.as_bytes()).expect("signed");
        *(if is_info { &mut collateral.tcb_info_signature } else { &mut collateral.qe_identity_signature }) = signature;
        how.push_str(", signed again");
    }
    let steps: Vec<_> = path.split('/').filter(|step| !step.is_empty() && step.parse::<u8>().is_err()).collect();
    (format!("{name}.{}", steps.join(".")), format!("{how} at {path}"))
}

fn alter_value(root: &mut Value, path: &str, paths: &[String], pick: &mut Pick) -> String {
    let other = root.pointer(pick.one::<String>(paths)).cloned().unwrap_or(Value::Null);
    let Some((parent, name)) = path.rsplit_once('/') else { return "nothing".to_owned() };
    match pick.below(10) {
        0 => {
            match root.pointer_mut(parent) {
                Some(Value::Object(fields)) => drop(fields.shift_remove(name)),
                Some(Value::Array(all)) => drop(all.remove(name.parse::<usize>().unwrap_or(0))),
                _ => {}
            }
            return "removed".to_owned();
        }
        1 => {
            match root.pointer_mut(parent) {
                Some(Value::Object(fields)) => drop(fields.insert("more".to_owned(), other)),
                Some(Value::Array(all)) => {
                    let again = all.first().cloned().unwrap_or(other);
                    all.push(again);
                }
                _ => {}
            }
            return "one more".to_owned();
        }
        2 => {
            if let Some(Value::Array(all)) = root.pointer_mut(parent) {
                all.reverse();
                return "reversed".to_owned();
            }
            return "named twice".to_owned();
        }
        3 => {
            if let Some(slot) = root.pointer_mut(path) {
                *slot = other;
            }
            return "another's".to_owned();
        }
        _ => {}
    }
    let Some(slot) = root.pointer_mut(path) else { return "nothing".to_owned() };
    match slot {
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or(0);
            let edges = [0, 1, number + 1, number - 1, 255, 256, 65_535, 65_536, -1, i64::from(u32::MAX) + 1];
            *slot = Value::from(*pick.one(&edges));
            "another number".to_owned()
        }
        Value::String(text) => alter_text(text, pick).to_owned(),
        Value::Array(all) => {
            all.clear();
            "emptied".to_owned()
        }
        Value::Object(_) | Value::Bool(_) | Value::Null => {
            *slot = Value::Null;
            "null".to_owned()
        }
    }
}

const STATUSES: [&str; 11] = [
    "UpToDate",
    "OutOfDate",
    "Revoked",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDateConfigurationNeeded",
    "TDRelaunchAdvised",
    "TDRelaunchAdvisedConfigurationNeeded",
    "uptodate",
    "Unknown",
];

fn alter_text(text: &mut String, pick: &mut Pick) -> &'static str {
    let is_status = STATUSES.contains(&text.as_str());
    let is_date = text.ends_with('Z') && text.contains('T');
    if is_status {
        *text = (*pick.one(&STATUSES)).to_owned();
        return "another status";
    }
    if is_date && pick.below(4) > 0 {
        const DATES: [&str; 9] = [
            "2020-01-01T00:00:00Z",
            "2035-01-01T00:00:00Z",
            "2026-09-21T14:13:20Z",
            "2026-09-21T14:13:19Z",
            "2026-09-21T14:13:21Z",
            "2026-09-01T00:00:00+02:00",
            "2026-09-01",
            "2026-13-01T00:00:00Z",
            "2026-09-01T00:00:00.5Z",
        ];
        *text = (*pick.one(&DATES)).to_owned();
        return "another date";
    }
    match pick.below(6) {
        0 => {
            text.clear();
            "empty"
        }
        1 => {
            text.push('0');
            "longer"
        }
        2 => {
            text.pop();
            "shorter"
        }
        3 => {
            *text = if *text == text.to_uppercase() { text.to_lowercase() } else { text.to_uppercase() };
            "other case"
        }
        4 => {
            text.push(' ');
            "a space"
        }
        _ => {
            let mut bytes = std::mem::take(text).into_bytes();
            if !bytes.is_empty() {
                let at = pick.below(bytes.len());
                bytes[at] = *pick.one(b"0123456789abcdefFTQ_");
            }
            *text = String::from_utf8_lossy(&bytes).into_owned();
            "a character"
        }
    }
}

/// Repeats the top-level field of `path`.
fn twice(text: &str, path: &str) -> String {
    let name = path.split('/').nth(1).unwrap_or_default();
    let value: Value = serde_json::from_str(text).unwrap_or(Value::Null);
    let again = value.get(name).cloned().unwrap_or(Value::Null);
    format!("{},{}:{again}}}", &text[..text.len() - 1], Value::from(name))
}

/// A revocation list, signed again.
fn list(of: &Base, pick: &mut Pick, collateral: &mut Collateral) -> (String, String) {
    let authority = &of.machine.authority;
    let is_root = pick.once_in(2);
    let mut fields = if is_root { authority.root_crl_fields() } else { authority.pck_crl_fields(of.machine.pck.ca) };
    let what = alter_list(of, &mut fields, pick);
    let own = if is_root { &authority.keys.root } else { authority.pck_ca_key(of.machine.pck.ca) };
    let (key, how) =
        if pick.once_in(6) { (&authority.keys.tcb_signing, "by another key") } else { (own, "signed again") };
    let der = fields.sign(Signer::Ec(key)).expect("signed");
    let name = if is_root { "root_crl" } else { "pck_crl" };
    *(if is_root { &mut collateral.root_ca_crl } else { &mut collateral.pck_crl }) = der;
    let field = if how == "by another key" { "signer" } else { what };
    (format!("{name}.{field}"), format!("{what}, {how}"))
}

fn alter_list(of: &Base, fields: &mut CrlFields, pick: &mut Pick) -> &'static str {
    let authority = &of.machine.authority;
    let revoke = |fields: &mut CrlFields, serial: Vec<u8>| {
        fields.revoked.push(RevokedCertificate { serial, at: NOW - 5, reason: 1 });
    };
    match pick.below(9) {
        0 => {
            fields.this_update = NOW + 1 + pick.below(1 << 20) as u64;
            "this_update"
        }
        1 => {
            fields.next_update = NOW - 1 - pick.below(1 << 20) as u64;
            "next_update"
        }
        2 => {
            fields.next_update = NOW;
            "next_update.now"
        }
        3 => {
            fields.issuer = simulators::intel::intel_name("Intel SGX Other CA");
            "issuer"
        }
        4 => {
            revoke(fields, of.machine.pck.serial.clone());
            "revoked.pck"
        }
        5 => {
            revoke(fields, authority.pck_ca_fields(of.machine.pck.ca).serial);
            "revoked.ca"
        }
        6 => {
            let serial = pick
                .one(&[authority.tcb_signing_fields().serial, authority.root_fields().serial, vec![0x77; 8]])
                .clone();
            revoke(fields, serial);
            "revoked.other"
        }
        7 => {
            fields.extensions.clear();
            "extensions"
        }
        _ => {
            let critical = pick.once_in(2);
            fields.extensions.push(Extension { oid: super::pck::UNKNOWN, critical, value: vec![5, 0] });
            if critical { "extension.critical" } else { "extension.unknown" }
        }
    }
}

/// The certificate of an issuer, signed again by the root.
fn issuer(of: &Base, pick: &mut Pick, collateral: &mut Collateral) -> (String, String) {
    let authority = &of.machine.authority;
    let root = certificate_pem(&authority.root);
    let sign = |fields: &x509::CertificateFields| fields.sign(Signer::Ec(&authority.keys.root)).expect("signed");
    match pick.below(3) {
        0 => {
            let mut fields = authority.pck_ca_fields(of.machine.pck.ca);
            let what = alter(&mut fields, pick);
            collateral.pck_crl_issuer_chain = certificate_pem(&sign(&fields)) + &root;
            (format!("crl_issuer.{what}"), "signed again".to_owned())
        }
        1 => {
            let mut fields = authority.tcb_signing_fields();
            let what = alter(&mut fields, pick);
            let chain = certificate_pem(&sign(&fields)) + &root;
            collateral.tcb_info_issuer_chain = chain.clone();
            if pick.once_in(2) {
                collateral.qe_identity_issuer_chain = chain;
            }
            (format!("tcb_signing.{what}"), "signed again".to_owned())
        }
        _ => {
            let mut fields = authority.root_fields();
            let what = alter(&mut fields, pick);
            let root = certificate_pem(&sign(&fields));
            collateral.tcb_info_issuer_chain = certificate_pem(&authority.tcb_signing) + &root;
            (format!("issuer_root.{what}"), "signed again".to_owned())
        }
    }
}

/// Bytes of any part.
fn raw(world: &World, pick: &mut Pick, collateral: &mut Collateral) -> (String, String) {
    let other = &*pick.one(&world.bases).genuine.collateral;
    let part = pick.below(9);
    let way = pick.below(7);
    let bytes = |slot: &mut Vec<u8>, other: &[u8], pick: &mut Pick| match pick.below(6) {
        0 => {
            *slot = other.to_vec();
            "another's"
        }
        1 => {
            slot.truncate(pick.below(slot.len()));
            "truncated"
        }
        2 => {
            slot.push(pick.bits() as u8);
            "extended"
        }
        _ => {
            let at = pick.below(slot.len());
            change(pick, way, slot, at, 1, &[])
        }
    };
    let chain = |slot: &mut String, other: &str, pick: &mut Pick| {
        let blocks: Vec<String> = slot.split_inclusive("-----END CERTIFICATE-----\n").map(str::to_owned).collect();
        match pick.below(8) {
            0 => {
                *slot = other.to_owned();
                "another's"
            }
            1 => {
                *slot = blocks[0].clone();
                "leaf alone"
            }
            2 => {
                *slot = blocks[1].clone() + &blocks[0];
                "reversed"
            }
            3 => {
                slot.push_str(&blocks[1]);
                "root twice"
            }
            4 => {
                slot.insert_str(0, "text before\n");
                "text before"
            }
            5 => {
                slot.push_str("text after");
                "text after"
            }
            6 => {
                *slot = slot.replace('\n', "\r\n");
                "other line ends"
            }
            _ => {
                let at = 40 + pick.below(slot.len() - 80);
                let letter = if slot.as_bytes()[at] == b'A' { "B" } else { "A" };
                slot.replace_range(at..=at, letter);
                "a character"
            }
        }
    };
    let (name, how) = match part {
        0 => {
            ("pck_crl_issuer_chain.pem", chain(&mut collateral.pck_crl_issuer_chain, &other.pck_crl_issuer_chain, pick))
        }
        1 => (
            "tcb_info_issuer_chain.pem",
            chain(&mut collateral.tcb_info_issuer_chain, &other.pck_crl_issuer_chain, pick),
        ),
        2 => {
            let other = &other.pck_crl_issuer_chain;
            ("qe_identity_issuer_chain.pem", chain(&mut collateral.qe_identity_issuer_chain, other, pick))
        }
        3 => ("root_crl.der", bytes(&mut collateral.root_ca_crl, &other.pck_crl, pick)),
        4 => ("pck_crl.der", bytes(&mut collateral.pck_crl, &other.pck_crl, pick)),
        5 => ("tcb_info.signature", bytes(&mut collateral.tcb_info_signature, &other.qe_identity_signature, pick)),
        6 => ("qe_identity.signature", bytes(&mut collateral.qe_identity_signature, &other.tcb_info_signature, pick)),
        7 => {
            collateral.tcb_info.insert(pick.below(2), ' ');
            ("tcb_info.spelling", "a space")
        }
        _ => {
            std::mem::swap(&mut collateral.tcb_info, &mut collateral.qe_identity);
            std::mem::swap(&mut collateral.tcb_info_signature, &mut collateral.qe_identity_signature);
            ("texts.exchanged", "in each other's place")
        }
    };
    (name.to_owned(), how.to_owned())
}
