//! A file in which the policy authority's signatures are collected, by people who need not meet: each part is one payload
//! with the signatures that it has so far. Nothing in it counts before a service judged it.

use std::collections::BTreeMap;

use evidence::cbor::{self, Caps};
use evidence::cose::{KeyId, KeySet, Purpose, SigningKey, claimed_payload, sign1, verify1};
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::threshold::{Authority, SIGNATURES_CAP};
use firmware_refs::set::ReferenceValueSet;
use governance::GovernanceDenial;
use governance::statement::Statement;
use governance::trust_bundle::TrustBundle;
use policy::set::PolicyDocument;
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use serde_json::{Value, json};

use super::CommandError;

const VERSION: u8 = 1;
/// Most parts: a set, and the order that puts it into force.
const PARTS_CAP: usize = 4;

/// What is collected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Collected {
    version: u8,
    /// Whose authority signs.
    pub(super) domain: DomainName,
    /// In the order in which a service takes them.
    pub(super) parts: Vec<Part>,
    /// Signatures over another domain's first bundle, which comes with an order to trust it; not ours to sign.
    pub(super) bundle: Vec<ByteBuf>,
}

/// One payload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// What it is.
    pub(super) kind: PartKind,
    /// COSE_Sign1 over it, one a key.
    pub(super) signatures: Vec<ByteBuf>,
}

/// What an authority signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum PartKind {
    /// A policy set.
    PolicySet,
    /// A set of reference values.
    ReferenceValues,
    /// The own trust bundle.
    TrustBundle,
    /// An order: activation, revocation, readmission, trust.
    Statement,
}

impl PartKind {
    const fn purpose(self) -> Purpose {
        match self {
            Self::PolicySet => Purpose::PolicySet,
            Self::ReferenceValues => Purpose::ReferenceValues,
            Self::TrustBundle => Purpose::TrustBundle,
            Self::Statement => Purpose::Statement,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::PolicySet => "policy set",
            Self::ReferenceValues => "reference values",
            Self::TrustBundle => "trust bundle",
            Self::Statement => "statement",
        }
    }

    /// What somebody would put their name to.
    fn says(self, payload: &[u8]) -> Result<Value, CommandError> {
        let caps = Caps::bytes(payload.len());
        match self {
            Self::PolicySet => {
                let document: PolicyDocument = cbor::from_slice(payload, caps).map_err(CommandError::usage)?;
                Ok(json!(document))
            }
            Self::ReferenceValues => {
                let set = ReferenceValueSet::from_cbor(payload).map_err(CommandError::usage)?;
                Ok(json!({ "id": set.id(), "version": set.version() }))
            }
            Self::TrustBundle => Ok(json!(TrustBundle::decode(payload).map_err(CommandError::usage)?)),
            Self::Statement => Ok(json!(Statement::decode(payload).map_err(CommandError::usage)?)),
        }
    }
}

/// A payload, and whose signatures it has.
struct Judged {
    payload: Vec<u8>,
    signatures: BTreeMap<KeyId, ByteBuf>,
}

impl Part {
    /// One payload of this kind, as it was just signed.
    pub(super) fn new(kind: PartKind, signatures: impl IntoIterator<Item = Vec<u8>>) -> Self {
        Self { kind, signatures: signatures.into_iter().map(ByteBuf::from).collect() }
    }

    /// The signatures as a service takes them.
    pub(super) fn cose(&self) -> Vec<Vec<u8>> {
        self.signatures.iter().map(|cose| cose.to_vec()).collect()
    }

    /// Every signature must be one of the authority's, over one payload; one key counts once.
    fn judged(&self, domain: &DomainName, authority: &Authority) -> Result<Judged, CommandError> {
        let keys = KeySet::new(authority.keys());
        let mut judged: Option<Judged> = None;
        if self.signatures.len() > SIGNATURES_CAP {
            return Err(CommandError::Usage(format!("a part has more than {SIGNATURES_CAP} signatures")));
        }
        for cose in &self.signatures {
            let signed = verify1(self.kind.purpose(), domain, cose, &keys)
                .map_err(|cause| denied(&GovernanceDenial::SignatureInvalid { what: self.kind.name(), cause }))?;
            let of = judged
                .get_or_insert_with(|| Judged { payload: signed.payload().to_vec(), signatures: BTreeMap::new() });
            if of.payload != signed.payload() {
                return Err(CommandError::Usage(format!("the signatures are over different {}s", self.kind.name())));
            }
            of.signatures.entry(signed.signer()).or_insert_with(|| cose.clone());
        }
        judged.ok_or_else(|| CommandError::Usage(format!("a {} without any signature", self.kind.name())))
    }
}

impl Collected {
    /// A file with these parts.
    pub(super) const fn of(domain: DomainName, parts: Vec<Part>, bundle: Vec<ByteBuf>) -> Self {
        Self { version: VERSION, domain, parts, bundle }
    }

    /// Reads a file; nothing is verified.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self, CommandError> {
        let file: Self = cbor::from_slice(bytes, Caps::bytes(bytes.len()))
            .map_err(|error| CommandError::Usage(format!("not a file of collected signatures: {error}")))?;
        if file.version != VERSION || file.parts.is_empty() || file.parts.len() > PARTS_CAP {
            return Err(CommandError::Usage(format!("version {} with {} parts", file.version, file.parts.len())));
        }
        Ok(file)
    }

    /// The file.
    pub(super) fn encode(&self) -> Result<Vec<u8>, CommandError> {
        cbor::to_vec(self).map_err(CommandError::usage)
    }

    /// Adds the signatures of these keys to every part that lacks them; what is there is verified first.
    ///
    /// # Errors
    /// Denied: a signature that is there is not the authority's. Usage: a key is none of the authority's.
    pub(super) fn signed_by(mut self, keys: &[SigningKey], authority: &Authority) -> Result<Self, CommandError> {
        for part in &mut self.parts {
            let mut judged = part.judged(&self.domain, authority)?;
            for key in keys {
                let kid = key.public().kid();
                if !authority.keys().contains(key.public()) {
                    return Err(CommandError::Usage(format!("key {kid} is none of the authority of {}", self.domain)));
                }
                if !judged.signatures.contains_key(&kid) {
                    let cose = sign1(part.kind.purpose(), &self.domain, &judged.payload, key);
                    judged.signatures.insert(kid, ByteBuf::from(cose.map_err(CommandError::usage)?));
                }
            }
            part.signatures = judged.signatures.into_values().collect();
        }
        Ok(self)
    }

    /// What is to be signed, by whom it is, and whether that is enough.
    pub(super) fn report(&self, authority: &Authority) -> Result<Value, CommandError> {
        let threshold = usize::from(authority.threshold().get());
        let (mut parts, mut complete) = (Vec::new(), true);
        for part in &self.parts {
            let judged = part.judged(&self.domain, authority)?;
            let got = judged.signatures.len();
            complete &= got >= threshold;
            parts.push(json!({
                "kind": part.kind.name(),
                "digest": Sha256Digest::of(&judged.payload),
                "signatures": format!("{got} of {threshold}"),
                "signers": judged.signatures.keys().map(ToString::to_string).collect::<Vec<_>>(),
                "says": part.kind.says(&judged.payload)?,
            }));
        }
        Ok(json!({ "domain": self.domain, "complete": complete, "parts": parts }))
    }

    /// What the file claims, where no authority is at hand to judge it by.
    pub(super) fn claimed(&self) -> Result<Value, CommandError> {
        let mut parts = Vec::new();
        for part in &self.parts {
            let payload = part.signatures.first().map(|cose| claimed_payload(cose)).transpose();
            let payload = payload.map_err(CommandError::usage)?.unwrap_or_default();
            let digest = Sha256Digest::of(&payload);
            parts.push(json!({ "kind": part.kind.name(), "digest": digest, "signatures": part.signatures.len() }));
        }
        Ok(json!({ "domain": self.domain, "parts": parts }))
    }
}

fn denied(denial: &GovernanceDenial) -> CommandError {
    CommandError::Denied { code: denial.code().to_owned(), detail: denial.to_string().into() }
}

#[cfg(test)]
mod tests {
    use governance::statement::{Order, STATEMENT_VERSION};
    use governance::text::Text;

    use super::*;

    fn key(seed: u8) -> SigningKey {
        SigningKey::from_seed(&[seed; 32]).unwrap()
    }

    fn domain() -> DomainName {
        DomainName::new("a.example").unwrap()
    }

    fn authority() -> Authority {
        Authority::new(vec![key(1).public().clone(), key(2).public().clone(), key(3).public().clone()], 2).unwrap()
    }

    fn order(reason: &str) -> Statement {
        Statement {
            version: STATEMENT_VERSION,
            domain: domain(),
            sequence: 7,
            order: Order::UntrustDomain { domain: DomainName::new("b.example").unwrap() },
            reason: Text::new(reason).unwrap(),
            issued_at: evidence::time::UnixSeconds(1_000),
            expires_at: evidence::time::UnixSeconds(2_000),
        }
    }

    fn begun() -> Collected {
        let part = Part::new(PartKind::Statement, [order("why").sign(&key(1)).unwrap()]);
        Collected::of(domain(), vec![part], Vec::new())
    }

    fn standing(file: &Collected) -> (bool, String) {
        let report = file.report(&authority()).unwrap();
        (report["complete"].as_bool().unwrap(), report["parts"][0]["signatures"].as_str().unwrap().to_owned())
    }

    #[test]
    fn signatures_of_people_who_do_not_meet_add_up_and_one_key_counts_once() {
        let file = begun();
        assert_eq!(standing(&file), (false, "1 of 2".to_owned()));
        let again = file.clone().signed_by(&[key(1)], &authority()).unwrap();
        assert_eq!(again, file, "the same key adds nothing");
        let mut twice = file.clone();
        let repeated = twice.parts[0].signatures[0].clone();
        twice.parts[0].signatures.push(repeated);
        assert_eq!(standing(&twice), (false, "1 of 2".to_owned()));
        let sent = Collected::decode(&twice.encode().unwrap()).unwrap();
        let both = sent.signed_by(&[key(3)], &authority()).unwrap();
        assert_eq!(standing(&both), (true, "2 of 2".to_owned()));
        let verified =
            Statement::verify(&both.parts[0].cose(), &domain(), &authority(), 7, evidence::time::UnixSeconds(1_500));
        assert_eq!(verified.unwrap().statement(), &order("why"));
        assert_eq!(both.report(&authority()).unwrap()["parts"][0]["says"]["reason"], "why");
    }

    #[test]
    fn what_was_changed_or_is_another_payload_or_of_a_stranger_is_not_signed() {
        let code = |file: Collected| match file.signed_by(&[key(2)], &authority()) {
            Err(CommandError::Denied { code, .. }) => code,
            Err(CommandError::Usage(_)) => "usage".to_owned(),
            other => panic!("{other:?}"),
        };
        let mut bent = begun();
        let at = bent.parts[0].signatures[0].windows(3).position(|bytes| bytes == b"why").unwrap();
        bent.parts[0].signatures[0][at] ^= 1;
        assert_eq!(code(bent), "governance.signature_invalid");
        let mut of_stranger = begun();
        of_stranger.parts[0].signatures[0] = order("why").sign(&key(9)).unwrap().into();
        assert_eq!(code(of_stranger), "governance.signature_invalid");
        let mut other_kind = begun();
        other_kind.parts[0].kind = PartKind::PolicySet;
        assert_eq!(code(other_kind), "governance.signature_invalid");
        let mut mixed = begun();
        mixed.parts[0].signatures.push(order("why not").sign(&key(3)).unwrap().into());
        assert_eq!(code(mixed), "usage");
        assert!(matches!(begun().signed_by(&[key(9)], &authority()), Err(CommandError::Usage(_))), "a stranger's key");
        let mut empty = begun();
        empty.parts[0].signatures.clear();
        assert_eq!(code(empty), "usage");
    }
}
