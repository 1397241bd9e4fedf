//! Keylime runtime policies (`keylime/ima/ima.py`, schema version 1): the files that IMA may measure, as JSON, bare or
//! in a DSSE envelope (github.com/secure-systems-lab/dsse, protocol and envelope of v1.0.0).
//!
//! Files and their digests, keys of keyrings and other buffers, and those exclusions that are a path or a directory, go
//! into `tpm.ima`. The rest makes Keylime accept more than a set would: leaving it out denies, and is listed.

use std::collections::BTreeMap;
use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evidence::{
    digest::{Digest, HashAlg},
    time::UnixSeconds,
};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, IgnoredAny, MapAccess, Visitor},
};

use super::{
    IMPORT_CAP_BYTES, ImportDenial, Imported, Losses, Origin, Voucher, cap,
    signers::{AllowedSigner, Hardware, verified},
};
use crate::document::{Accepted, ImaBuffer, ImaFile, ImaReferences, SetDocument};
use crate::set::IMA_PCR;
use crate::text::Text;

/// Payload type of the envelope.
const PAYLOAD_TYPE: &str = "application/vnd.keylime+json";
/// Newest schema of a policy that is known.
const SCHEMA_VERSION: u64 = 1;
/// Most files of one policy.
const FILES_CAP: usize = 100_000;
/// Most signatures of one envelope.
const SIGNATURES_CAP: usize = 16;

/// A policy. A field that is not known is refused: it could be a condition.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Policy {
    meta: Meta,
    #[serde(default, rename = "release")]
    _release: IgnoredAny,
    digests: Lists,
    #[serde(default)]
    excludes: Option<Vec<String>>,
    #[serde(default)]
    keyrings: Lists,
    #[serde(default)]
    ima: Option<Ima>,
    #[serde(default, rename = "ima-buf")]
    ima_buf: Lists,
    #[serde(default, rename = "verification-keys")]
    verification_keys: serde_json::Value,
}

#[derive(Deserialize)]
struct Meta {
    version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ima {
    #[serde(default)]
    ignored_keyrings: Vec<String>,
    #[serde(default)]
    log_hash_alg: Option<String>,
    #[serde(default)]
    dm_policy: Option<IgnoredAny>,
}

/// A JSON object of lists of text, in its order; a name that stands twice is refused.
#[derive(Default)]
struct Lists(Vec<(String, Vec<String>)>);

impl<'de> Deserialize<'de> for Lists {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Lists;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of lists of text")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Lists, A::Error> {
                let mut lists = Vec::new();
                let mut seen = std::collections::HashSet::new();
                while let Some((name, list)) = map.next_entry::<String, Vec<String>>()? {
                    if !seen.insert(name.clone()) {
                        return Err(A::Error::custom("a name stands twice"));
                    }
                    if lists.len() >= FILES_CAP {
                        return Err(A::Error::custom("more entries than allowed"));
                    }
                    lists.push((name, list));
                }
                Ok(Lists(lists))
            }
        }
        deserializer.deserialize_map(Reader)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<EnvelopeSignature>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EnvelopeSignature {
    #[serde(default, rename = "keyid")]
    _keyid: Option<String>,
    sig: String,
}

/// Reads a policy in an envelope that one of the allowed signers signed.
///
/// # Errors
/// [`ImportDenial`]; [`ImportDenial::Unsigned`] for a bare policy.
pub fn import(
    bytes: &[u8],
    base: SetDocument,
    signers: &[AllowedSigner],
    now: UnixSeconds,
) -> Result<Imported, ImportDenial> {
    cap(bytes, IMPORT_CAP_BYTES)?;
    if json::<Policy>(bytes).is_ok() {
        return Err(ImportDenial::Unsigned);
    }
    let envelope: Envelope = json(bytes)?;
    if envelope.payload_type != PAYLOAD_TYPE {
        return Err(ImportDenial::malformed(0, "an envelope around something else than a Keylime policy"));
    }
    if envelope.signatures.len() > SIGNATURES_CAP {
        return Err(ImportDenial::TooMany { what: "signatures", cap: SIGNATURES_CAP });
    }
    let decoded = |text: &str| STANDARD.decode(text).map_err(|_| ImportDenial::malformed(0, "not base64"));
    let payload = decoded(&envelope.payload)?;
    let mut signatures = Vec::new();
    for signature in &envelope.signatures {
        let bytes = decoded(&signature.sig)?;
        signatures.extend(fixed(&bytes));
        signatures.push(bytes);
    }
    let by = verified(signers, &base.environment, None, &to_be_signed(&payload), &signatures)?;
    by.may_speak_of(Hardware::Tpm)?;
    let origin = Origin::of("keylime", bytes, Voucher::Signer(by.kid()));
    draft(json(&payload)?, base, &origin, now)
}

/// Reads a bare policy. Whoever could write the file chose the values: the draft says so in every source, and can only
/// be staged.
///
/// # Errors
/// [`ImportDenial`].
pub fn import_unsigned(bytes: &[u8], base: SetDocument, now: UnixSeconds) -> Result<Imported, ImportDenial> {
    cap(bytes, IMPORT_CAP_BYTES)?;
    draft(json(bytes)?, base, &Origin::of("keylime", bytes, Voucher::Nobody), now)
}

fn json<'de, T: Deserialize<'de>>(bytes: &'de [u8]) -> Result<T, ImportDenial> {
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_eof() {
            ImportDenial::Truncated { offset: bytes.len() }
        } else {
            ImportDenial::malformed(error.column(), &format!("line {}: {error}", error.line()))
        }
    })
}

/// Pre-authentication encoding (DSSE protocol v1.0.0, "Signature Definition").
fn to_be_signed(payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {PAYLOAD_TYPE} {} ", PAYLOAD_TYPE.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

/// An ECDSA signature of P-256 in DER (RFC 3279 §2.2.3), as Keylime writes it, in the fixed form of 64 bytes.
fn fixed(der: &[u8]) -> Option<Vec<u8>> {
    let [0x30, length, rest @ ..] = der else { return None };
    (usize::from(*length) == rest.len()).then_some(())?;
    let (r, rest) = integer(rest)?;
    let (s, rest) = integer(rest)?;
    rest.is_empty().then(|| [r, s].concat())
}

fn integer(der: &[u8]) -> Option<([u8; 32], &[u8])> {
    let [0x02, length, rest @ ..] = der else { return None };
    let (bytes, rest) = rest.split_at_checked(usize::from(*length))?;
    let bytes = bytes.strip_prefix(&[0]).unwrap_or(bytes);
    let mut out = [0; 32];
    let from = 32usize.checked_sub(bytes.len())?;
    out.get_mut(from..)?.copy_from_slice(bytes);
    Some((out, rest))
}

fn draft(policy: Policy, mut base: SetDocument, origin: &Origin, now: UnixSeconds) -> Result<Imported, ImportDenial> {
    let ends = base.not_after.at();
    super::within(&mut base, None, Some(ends), now)?;
    let tpm = base.tpm.as_mut().ok_or(ImportDenial::BaseLacks { section: "tpm" })?;
    if policy.meta.version > SCHEMA_VERSION {
        return Err(ImportDenial::inexpressible("meta.version", "a newer schema than is known"));
    }
    let mut losses = Losses::default();
    policy.beside(&mut losses);
    let exclude = policy.excludes.iter().flatten().filter_map(|regex| excluded(regex, &mut losses)).collect();
    let source = origin.source("");
    let file: Vec<ImaFile> =
        policy.digests.0.into_iter().filter_map(|(path, digests)| file(path, &digests, &source, &mut losses)).collect();
    if file.is_empty() {
        return Err(ImportDenial::Empty);
    }
    if !tpm.pcrs.contains(&IMA_PCR) {
        tpm.pcrs.push(IMA_PCR);
        tpm.pcrs.sort_unstable();
    }
    tpm.require_ima_log = true;
    let buffers = policy.keyrings.0.into_iter().chain(policy.ima_buf.0);
    let buffer = buffers.filter_map(|(name, digests)| buffer(name, &digests, &source, &mut losses)).collect();
    tpm.ima = Some(ImaReferences { exclude, file, buffer });
    origin.draft(base, losses)
}

impl Policy {
    /// What makes Keylime accept more than the set will.
    fn beside(&self, losses: &mut Losses) {
        let keys = &self.verification_keys;
        let none = keys.is_null() || [Some(0)].contains(&keys.as_array().map(Vec::len)) || keys.as_str() == Some("");
        if !none {
            losses.add("verification-keys", "a file needs a digest: its signature alone does not pass");
        }
        let Some(ima) = &self.ima else { return };
        for keyring in &ima.ignored_keyrings {
            losses.add(&format!("ima.ignored_keyrings {keyring}"), "keyrings are not passed over");
        }
        if ima.dm_policy.is_some() {
            losses.add("ima.dm_policy", "device mapper is not judged: its measurements are denied");
        }
        if ima.log_hash_alg.as_deref().is_some_and(|alg| alg != "sha1") {
            losses.add("ima.log_hash_alg", "the quoted bank decides");
        }
    }
}

/// A file with those of its digests that count.
fn file(path: String, digests: &[String], source: &Text, losses: &mut Losses) -> Option<ImaFile> {
    if !path.starts_with('/') {
        let what = if path == "boot_aggregate" {
            "compared with the quoted PCRs instead"
        } else {
            "not an absolute path: denied"
        };
        losses.add(&format!("digests {path}"), what);
        return None;
    }
    let at = format!("digests {path}");
    let accept = counted(&at, digests, source, losses);
    if accept.is_empty() {
        losses.add(&at, "no digest that counts: the file is denied");
        return None;
    }
    Some(ImaFile { path, accept })
}

/// Keys of a keyring, or another buffer.
fn buffer(name: String, digests: &[String], source: &Text, losses: &mut Losses) -> Option<ImaBuffer> {
    let at = format!("buffer {name}");
    if name.is_empty() || name.starts_with('/') {
        losses.add(&at, "no name of a keyring or buffer: denied");
        return None;
    }
    let accept = counted(&at, digests, source, losses);
    if accept.is_empty() {
        losses.add(&at, "no digest that counts: its measurements are denied");
        return None;
    }
    Some(ImaBuffer { name, accept })
}

/// Those of bare hexadecimal digests that count: the length is the algorithm.
fn counted(at: &str, digests: &[String], source: &Text, losses: &mut Losses) -> Vec<Accepted> {
    let mut accept = BTreeMap::new();
    for text in digests {
        let alg = HashAlg::ALL.into_iter().find(|alg| alg.len().saturating_mul(2) == text.len());
        let bytes = hex::decode(text).ok();
        match alg.and_then(|alg| Digest::from_bytes(alg, &bytes?)) {
            Some(digest) if digest.alg() != HashAlg::Sha1 => {
                accept.insert(digest, source.clone());
            }
            Some(_) => {
                losses.add("digests of SHA-1", "not accepted: the files are denied unless a stronger one stands")
            }
            None => losses.add(at, "not a digest that is known: not used"),
        }
    }
    super::accepted(accept)
}

/// Exclusions are Python regular expressions, matched at the start of a path. Those that say one path (`/a$`) or one
/// directory (`/a/`, `/a/.*`) are kept; the others are left out, which denies.
fn excluded(regex: &str, losses: &mut Losses) -> Option<String> {
    let body = regex.strip_prefix('^').unwrap_or(regex);
    let (body, exact) = match (body.strip_suffix(".*$").or(body.strip_suffix(".*")), body.strip_suffix('$')) {
        (Some(directory), _) => (directory, false),
        (None, Some(path)) => (path, true),
        (None, None) => (body, false),
    };
    let path = literal(body).filter(|path| path.starts_with('/') && path != "/" && exact != path.ends_with('/'));
    if path.is_none() {
        losses.add(&format!("excludes {regex}"), "not one path or directory: files that it matches are denied");
    }
    path
}

/// The text that a regular expression without choices matches; a lone dot is one.
fn literal(regex: &str) -> Option<String> {
    let mut out = String::new();
    let mut chars = regex.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| !c.is_ascii_alphanumeric())?),
            '.' | '*' | '+' | '?' | '[' | ']' | '(' | ')' | '{' | '}' | '|' | '^' | '$' => return None,
            other => out.push(other),
        }
    }
    Some(out)
}
