//! What a local client asks of its node's daemon.

use std::collections::{BTreeMap, BTreeSet};

use evidence::digest::HashAlg;
use evidence::names::{DomainName, ItemName};
use governance::{
    intent::{ARGUMENT_CAP_BYTES, ARGV_CAP, DOMAINS_CAP, ENVIRONMENT_CAP, ENVIRONMENT_NAME_CAP_BYTES},
    scope::Scope,
    text::Text,
};

use super::demand::{pcr_bank, pcrs};
use super::{FieldDenial, bytes_or_none, item_name, refuse};
use crate::proto;

/// Longest `NAME=VALUE`, in bytes.
pub const ENVIRONMENT_ENTRY_CAP_BYTES: usize = 32 * 1024;
/// Longest intent file, in bytes.
pub const INTENT_FILE_CAP_BYTES: usize = 64 * 1024;
/// Longest path, in bytes (PATH_MAX).
pub const PATH_CAP_BYTES: usize = 4096;

/// A wish to run something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecRequest {
    /// Program and arguments; empty only with an intent file, an image or what runs already.
    pub argv: Vec<String>,
    /// OCI image layout to run in, with the digest of a manifest behind an `@`; empty for the machine's files.
    pub image: String,
    /// cgroup of what runs already, instead of a program; empty for a program.
    pub attach: String,
    /// Environment offered, by name; the intent's allow-list decides what reaches the workload.
    pub environment: BTreeMap<String, String>,
    /// Keys, capabilities and labels asked for.
    pub scope: Scope,
    /// Who asks, as the client says; the daemon knows the peer's uid.
    pub requester: Option<Text>,
    /// Intent file, TOML; empty if none.
    pub intent_toml: Vec<u8>,
    /// Where to run; empty for the daemon's choice.
    pub working_directory: String,
    /// Domains that must authorize; empty for every configured one.
    pub domains: BTreeSet<DomainName>,
    /// How many of them must; none for all.
    pub need: Option<u8>,
    /// Files with the newest artifacts of a parent that runs elsewhere.
    pub parents: Vec<String>,
}

impl TryFrom<proto::ExecRequest> for ExecRequest {
    type Error = FieldDenial;

    fn try_from(given: proto::ExecRequest) -> Result<Self, FieldDenial> {
        let intent_toml = bytes_or_none("intent_toml", given.intent_toml, INTENT_FILE_CAP_BYTES)?;
        let directory = path("working_directory", given.working_directory)?;
        let requester = match given.requester {
            none if none.is_empty() => None,
            named => Some(Text::new(named).map_err(|_| refuse("requester", "not short printable text"))?),
        };
        Ok(Self {
            argv: argv(given.argv, intent_toml.is_empty() && given.attach.is_empty() && given.image.is_empty())?,
            image: path("image", given.image)?,
            attach: path("attach", given.attach)?,
            environment: environment(given.environment)?,
            scope: Scope {
                keys: names("keys", given.keys, governance::scope::KEYS_CAP)?,
                capabilities: names("capabilities", given.capabilities, governance::scope::CAPABILITIES_CAP)?,
                labels: labels(given.labels)?,
            },
            requester,
            intent_toml,
            working_directory: directory,
            domains: domains(given.domains)?,
            need: match given.need {
                0 => None,
                need => Some(u8::try_from(need).map_err(|_| refuse("need", "more than a number of domains"))?),
            },
            parents: paths("parents", given.parents)?,
        })
    }
}

fn paths(field: &'static str, given: Vec<String>) -> Result<Vec<String>, FieldDenial> {
    let sound = |path: &String| path.starts_with('/') && path.len() <= PATH_CAP_BYTES && !path.contains('\0');
    if given.len() <= DOMAINS_CAP && given.iter().all(sound) {
        Ok(given)
    } else {
        Err(refuse(field, "not at most 16 absolute paths"))
    }
}

fn path(field: &'static str, given: String) -> Result<String, FieldDenial> {
    if given.len() > PATH_CAP_BYTES || given.contains('\0') { Err(refuse(field, "not a path")) } else { Ok(given) }
}

fn domains(given: Vec<String>) -> Result<BTreeSet<DomainName>, FieldDenial> {
    let denied = refuse("domains", "not distinct names of at most 16 domains");
    if given.len() > DOMAINS_CAP {
        return Err(denied);
    }
    let mut domains = BTreeSet::new();
    for name in given {
        let Ok(name) = DomainName::new(name) else { return Err(denied) };
        if !domains.insert(name) {
            return Err(denied);
        }
    }
    Ok(domains)
}

/// A wish to see Evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EvidenceRequest {
    /// What it must name.
    pub nonce: [u8; 32],
    /// Bank to quote, of machines with a TPM.
    pub pcr_bank: HashAlg,
    /// PCRs to quote, ascending, at least one.
    pub pcrs: Vec<u8>,
}

impl TryFrom<proto::EvidenceRequest> for EvidenceRequest {
    type Error = FieldDenial;

    fn try_from(given: proto::EvidenceRequest) -> Result<Self, FieldDenial> {
        Ok(Self {
            nonce: given.nonce.try_into().map_err(|_| refuse("nonce", "not 32 bytes"))?,
            pcr_bank: pcr_bank(&given.pcr_bank)?,
            pcrs: pcrs("pcrs", &given.pcrs)?,
        })
    }
}

fn argv(given: Vec<String>, needed: bool) -> Result<Vec<String>, FieldDenial> {
    if given.len() > ARGV_CAP || given.iter().any(|a| a.len() > ARGUMENT_CAP_BYTES || a.contains('\0')) {
        return Err(refuse("argv", "too many, too long, or with a zero byte"));
    }
    if needed && given.first().is_none_or(String::is_empty) {
        return Err(refuse("argv", "absent"));
    }
    Ok(given)
}

fn environment(given: Vec<String>) -> Result<BTreeMap<String, String>, FieldDenial> {
    let denied = refuse("environment", "not distinct NAME=VALUE within their caps");
    if given.len() > ENVIRONMENT_CAP {
        return Err(denied);
    }
    let mut environment = BTreeMap::new();
    for entry in given {
        let Some((name, value)) = entry.split_once('=') else { return Err(denied) };
        let sound = (1..=ENVIRONMENT_NAME_CAP_BYTES).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
            && entry.len() <= ENVIRONMENT_ENTRY_CAP_BYTES
            && !value.contains('\0');
        if !sound || environment.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(denied);
        }
    }
    Ok(environment)
}

fn names(field: &'static str, given: Vec<String>, cap: usize) -> Result<BTreeSet<ItemName>, FieldDenial> {
    if given.len() > cap {
        return Err(refuse(field, "too many"));
    }
    given.into_iter().map(|name| item_name(field, name)).collect()
}

fn labels(given: std::collections::HashMap<String, String>) -> Result<BTreeMap<ItemName, Text>, FieldDenial> {
    if given.len() > governance::scope::LABELS_CAP {
        return Err(refuse("labels", "too many"));
    }
    let label = |(name, value)| {
        let value = Text::new(value).map_err(|_| refuse("labels", "not short printable text"))?;
        Ok((item_name("labels", name)?, value))
    };
    given.into_iter().map(label).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_bounded() {
        let base = || proto::ExecRequest { argv: vec!["/bin/true".into()], ..Default::default() };
        ExecRequest::try_from(base()).unwrap();
        let file = proto::ExecRequest { intent_toml: vec![1], ..Default::default() };
        ExecRequest::try_from(file).unwrap();
        let environment = |entries: &[&str]| proto::ExecRequest {
            environment: entries.iter().map(|e| (*e).to_owned()).collect(),
            ..base()
        };
        let label = |n: &str, v: &str| proto::ExecRequest { labels: [(n.to_owned(), v.to_owned())].into(), ..base() };
        for (bent, field) in [
            (proto::ExecRequest::default(), "argv"),
            (proto::ExecRequest { argv: vec![String::new()], ..base() }, "argv"),
            (proto::ExecRequest { argv: vec!["a".into(); ARGV_CAP + 1], ..base() }, "argv"),
            (proto::ExecRequest { argv: vec!["a\0b".into()], ..base() }, "argv"),
            (environment(&["NAME"]), "environment"),
            (environment(&["A=1", "A=2"]), "environment"),
            (environment(&["=1"]), "environment"),
            (environment(&["A B=1"]), "environment"),
            (environment(&["A=\0"]), "environment"),
            (proto::ExecRequest { keys: vec!["../k".into()], ..base() }, "keys"),
            (proto::ExecRequest { domains: vec!["a.example".into(), "a.example".into()], ..base() }, "domains"),
            (proto::ExecRequest { domains: vec!["A example".into()], ..base() }, "domains"),
            (proto::ExecRequest { domains: (0..17).map(|n| format!("d{n}.example")).collect(), ..base() }, "domains"),
            (proto::ExecRequest { need: 256, ..base() }, "need"),
            (proto::ExecRequest { keys: vec!["k".into(); 33], ..base() }, "keys"),
            (proto::ExecRequest { capabilities: vec!["".into()], ..base() }, "capabilities"),
            (label("a b", "c"), "labels"),
            (label("a", "\n"), "labels"),
            (proto::ExecRequest { requester: "\u{7}".into(), ..base() }, "requester"),
            (proto::ExecRequest { intent_toml: vec![0; INTENT_FILE_CAP_BYTES + 1], ..base() }, "intent_toml"),
            (proto::ExecRequest { working_directory: "a\0".into(), ..base() }, "working_directory"),
        ] {
            assert_eq!(ExecRequest::try_from(bent).unwrap_err().field, field);
        }
    }

    #[test]
    fn what_evidence_is_asked_for_is_bounded() {
        let base = || proto::EvidenceRequest { nonce: vec![7; 32], pcr_bank: "sha256".into(), pcrs: vec![0, 4] };
        let taken = EvidenceRequest { nonce: [7; 32], pcr_bank: HashAlg::Sha256, pcrs: vec![0, 4] };
        assert_eq!(EvidenceRequest::try_from(base()), Ok(taken));
        for (bent, field) in [
            (proto::EvidenceRequest { nonce: vec![7; 31], ..base() }, "nonce"),
            (proto::EvidenceRequest { pcr_bank: "sha1".into(), ..base() }, "pcr_bank"),
            (proto::EvidenceRequest { pcrs: vec![4, 0], ..base() }, "pcrs"),
            (proto::EvidenceRequest { pcrs: Vec::new(), ..base() }, "pcrs"),
        ] {
            assert_eq!(EvidenceRequest::try_from(bent).unwrap_err().field, field);
        }
    }
}
