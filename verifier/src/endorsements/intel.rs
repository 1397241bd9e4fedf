//! Intel's certificates and JSON statements: which platform family or authority they speak of (PCS API v4).

use std::time::UNIX_EPOCH;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::document::{Malformed, SIGNATURE_BYTES, malformed};
use super::key::{EndorsementKey, PckCa};
use super::recognise::Window;
use super::x509::{CertificateFacts, CrlFacts};

/// Common name of the root.
const ROOT: &str = "Intel SGX Root CA";
/// Common name of the key that signs TCB infos and identities.
const TCB_SIGNING: &str = "Intel SGX TCB Signing";

/// What an Intel certificate is for.
pub(super) enum IntelCertificate {
    /// Kept under this key.
    Keyed(EndorsementKey),
    /// Signs statements; kept with them.
    TcbSigning,
}

/// What a certificate that calls itself Intel's is for; nothing for those of others.
pub(super) fn certificate(facts: &CertificateFacts) -> Option<IntelCertificate> {
    match (facts.subject.as_str(), facts.issuer.as_str()) {
        (ROOT, ROOT) => Some(IntelCertificate::Keyed(EndorsementKey::IntelRoot)),
        (TCB_SIGNING, ROOT) => Some(IntelCertificate::TcbSigning),
        (subject, ROOT) => authority(subject).map(|ca| IntelCertificate::Keyed(EndorsementKey::PckCa(ca))),
        _ => None,
    }
}

/// The key of a list that calls itself one of Intel's.
pub(super) fn crl(facts: &CrlFacts) -> Option<EndorsementKey> {
    match facts.issuer.as_str() {
        ROOT => Some(EndorsementKey::RootCaCrl),
        other => authority(other).map(EndorsementKey::PckCrl),
    }
}

fn authority(name: &str) -> Option<PckCa> {
    PckCa::ALL.into_iter().find(|ca| ca.common_name() == name)
}

/// A statement as it was signed, with what it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Statement {
    pub(super) key: EndorsementKey,
    pub(super) window: Window,
    pub(super) text: String,
    pub(super) signature: [u8; SIGNATURE_BYTES],
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Head {
    id: String,
    issue_date: String,
    next_update: String,
    fmspc: Option<String>,
}

/// Key and window of a signed text.
pub(super) fn text(text: &str) -> Result<(EndorsementKey, Window), Malformed> {
    let head: Head = serde_json::from_str(text).map_err(|error| malformed(format!("not a statement: {error}")))?;
    let key = match (head.id.as_str(), head.fmspc) {
        ("TDX", Some(fmspc)) => {
            let mut bytes = [0; 6];
            hex::decode_to_slice(fmspc, &mut bytes).map_err(|_| malformed("an FMSPC is 6 bytes in hexadecimal"))?;
            EndorsementKey::TcbInfo { fmspc: bytes }
        }
        ("TD_QE", None) => EndorsementKey::QeIdentity,
        ("SGX" | "QE" | "QVE", _) => return Err(malformed("a statement about SGX, which is not judged here")),
        _ => return Err(malformed("a statement about something else than TDX")),
    };
    let window = Window { issued_at: seconds(&head.issue_date)?, ends_at: seconds(&head.next_update)? };
    Ok((key, window))
}

/// RFC 3339, in seconds since the epoch.
fn seconds(text: &str) -> Result<u64, Malformed> {
    let time = humantime::parse_rfc3339(text).map_err(|_| malformed("a date is not RFC 3339"))?;
    Ok(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs())
}

/// A statement from its parts: signed text and signature in hexadecimal.
pub(super) fn statement(signed: &str, signature: &str) -> Result<Statement, Malformed> {
    let (key, window) = text(signed)?;
    let mut bytes = [0; SIGNATURE_BYTES];
    hex::decode_to_slice(signature, &mut bytes).map_err(|_| malformed("a signature is 64 bytes in hexadecimal"))?;
    Ok(Statement { key, window, text: signed.to_owned(), signature: bytes })
}

/// A JSON document of either service: the answer to one request (`tcbInfo` or `enclaveIdentity` with `signature`), or a
/// set of collateral as verification libraries write it.
pub(super) struct Collateral {
    pub(super) statements: Vec<Result<Statement, Malformed>>,
    /// PEM text or hexadecimal DER, to be read like files.
    pub(super) parts: Vec<String>,
}

#[derive(Deserialize)]
struct CollateralFile {
    tcb_info: Option<String>,
    tcb_info_signature: Option<String>,
    tcb_info_issuer_chain: Option<String>,
    qe_identity: Option<String>,
    qe_identity_signature: Option<String>,
    qe_identity_issuer_chain: Option<String>,
    pck_crl: Option<String>,
    pck_crl_issuer_chain: Option<String>,
    root_ca_crl: Option<String>,
}

/// Reads either form.
pub(super) fn json(document: &str) -> Result<Collateral, Malformed> {
    let members = members(document).ok_or_else(|| malformed("not a JSON object"))?;
    let member = |name: &str| members.iter().find(|(key, _)| key == name).map(|(_, value)| *value);
    if let Some(signed) = member("tcbInfo").or_else(|| member("enclaveIdentity")) {
        let signature: String = member("signature")
            .and_then(|value| serde_json::from_str(value).ok())
            .ok_or_else(|| malformed("a statement without signature"))?;
        return Ok(Collateral { statements: vec![statement(signed, &signature)], parts: Vec::new() });
    }
    let file: CollateralFile =
        serde_json::from_str(document).map_err(|_| malformed("JSON, but not a vendor's statement or collateral"))?;
    let pairs = [(file.tcb_info, file.tcb_info_signature), (file.qe_identity, file.qe_identity_signature)];
    let statements = pairs.into_iter().filter_map(|pair| match pair {
        (Some(signed), Some(signature)) => Some(statement(&signed, &signature)),
        (Some(_), None) => Some(Err(malformed("a statement without signature"))),
        (None, _) => None,
    });
    let chains = [file.tcb_info_issuer_chain, file.qe_identity_issuer_chain, file.pck_crl_issuer_chain];
    let lists = [file.pck_crl, file.root_ca_crl];
    Ok(Collateral {
        statements: statements.collect(),
        parts: chains.into_iter().chain(lists).flatten().filter(|part| !part.is_empty()).collect(),
    })
}

/// Most members of an object that is looked into.
const MEMBERS_CAP: usize = 32;

/// Names and values of the members of an object, values exactly as they are written: a signature is over that.
fn members(document: &str) -> Option<Vec<(String, &str)>> {
    let mut rest = document.trim_start().strip_prefix('{')?.trim_start();
    let mut found = Vec::new();
    while found.len() < MEMBERS_CAP {
        if let Some(after) = rest.strip_prefix('}') {
            return after.trim().is_empty().then_some(found);
        }
        let (name, after) = value(rest)?;
        let name: String = serde_json::from_str(name).ok()?;
        let (member, after) = value(after.trim_start().strip_prefix(':')?.trim_start())?;
        found.push((name, member));
        let after = after.trim_start();
        rest = match after.strip_prefix(',') {
            Some(more) => more.trim_start(),
            None => after,
        };
    }
    None
}

/// One JSON value at the start of `text`, and what follows it.
fn value(text: &str) -> Option<(&str, &str)> {
    let mut values = serde_json::Deserializer::from_str(text).into_iter::<IgnoredAny>();
    values.next()?.ok()?;
    text.split_at_checked(values.byte_offset())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TCB_INFO: &str = r#"{"id":"TDX","version":3,"issueDate":"2026-03-16T22:06:09Z","nextUpdate":"2026-04-15T22:06:09Z","fmspc":"90c06f000000","x": [1, "}\""]}"#;

    #[test]
    fn the_signed_text_is_taken_exactly_as_written() {
        let signature = "ab".repeat(64);
        for body in [
            format!(r#"{{"tcbInfo":{TCB_INFO},"signature":"{signature}"}}"#),
            format!("\n{{ \"signature\" : \"{signature}\" , \"tcbInfo\" : {TCB_INFO}\n}} "),
        ] {
            let read = json(&body).unwrap();
            let [Ok(statement)] = read.statements.as_slice() else { panic!("{body}") };
            assert_eq!(statement.text, TCB_INFO);
            assert_eq!(statement.key, EndorsementKey::TcbInfo { fmspc: [0x90, 0xc0, 0x6f, 0, 0, 0] });
            assert_eq!(statement.window, Window { issued_at: 1_773_698_769, ends_at: 1_776_290_769 });
            assert_eq!(statement.signature, [0xab; 64]);
        }
    }

    #[test]
    fn other_documents_are_refused() {
        let good = format!(r#"{{"tcbInfo":{TCB_INFO},"signature":"{}"}}"#, "ab".repeat(64));
        for (from, to) in [
            ("TDX", "SGX"),
            ("90c06f000000", "90c06f"),
            ("2026-03-16T22:06:09Z", "yesterday"),
            ("abab\"", "abzz\""),
            ("\"signature\"", "\"other\""),
            ("\"tcbInfo\":", "\"tcbInfo\" "),
        ] {
            let bad = good.replacen(from, to, 1);
            assert_ne!(bad, good);
            let read = json(&bad);
            assert!(read.is_err() || read.is_ok_and(|read| read.statements.iter().any(Result::is_err)), "{bad}");
        }
        assert!(json(&format!("{good} x")).is_err());
        for bad in ["", "[]", "{", "{\"a\"", "{\"a\":", "{\"a\":1", "\"a\"", "{\"a\":1}}"] {
            assert!(json(bad).is_err() || json(bad).is_ok_and(|read| read.statements.is_empty()), "{bad}");
        }
    }
}
