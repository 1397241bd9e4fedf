//! What a verifier says on a node's stream. The node trusts nothing of it beyond what is signed.

use evidence::{
    challenge::CHALLENGE_TTL_S,
    cose::PublicKey,
    digest::Sha256Digest,
    names::{DomainName, ItemName},
    time::UnixSeconds,
};
use governance::{
    artifact::ArtifactId,
    intent::DOMAINS_CAP,
    jwt_svid::JWT_SVID_CAP_BYTES,
    key_share::ShareHeader,
    text::Text,
    trust_bundle::{CA_CAP_BYTES, KeyRecord, ROLE_CAP_KEYS},
};

use super::{
    ARTIFACT_CAP_BYTES, BUNDLE_CAP_BYTES, CHECKPOINT_CAP_BYTES, FieldDenial, OTHER_CHECKPOINTS_CAP, RECEIPT_CAP_BYTES,
    RESULT_CAP_BYTES, REVOCATION_CAP_BYTES, SIGNATURES_CAP, STATE_CAP_BYTES, STATEMENT_CAP_BYTES, TEXT_CAP_BYTES,
    bytes,
    demand::{Demands, demands},
    digest,
    enrolment::PEM_CAP_BYTES,
    item_name, list, refuse, spiffe_id, text,
};
use crate::proto::{self, verifier_message::Message};

/// Longest HPKE encapsulation (X-Wing: 1,120 bytes), in bytes.
pub const ENCAPSULATED_CAP_BYTES: usize = 1_536;
/// Longest wrapped execution key, in bytes.
pub const SEALED_CAP_BYTES: usize = 8 * 1024;

/// Most partners whose keys come with an authorization.
pub const PARTNERS_CAP: usize = 256;

/// One message of a verifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifierAnswer {
    /// Answers hello.
    Welcome(Welcome),
    /// Asks for evidence.
    Challenge(ChallengeTerms),
    /// Authorizes or renews.
    Authorization(Authorization),
    /// Refuses.
    Refusal(Refusal),
    /// A halt, an end or captured evidence is in the log.
    Recorded(Recorded),
    /// Says who an execution is.
    JwtSvid(JwtSvid),
    /// Comes unasked.
    Push(Push),
    /// Takes a halted node back.
    Readmission {
        /// COSE_Sign1 over one statement by distinct keys.
        statements: Vec<Vec<u8>>,
    },
}

/// Answers hello.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// Signed governance state.
    pub governance_state: Vec<u8>,
    /// Newest signed checkpoint.
    pub checkpoint: Vec<u8>,
    /// Newest record that the verifier holds of this node.
    pub lineage_head: Sha256Digest,
    /// The domain's trust bundle: COSE_Sign1 over one payload by distinct keys of its authority.
    pub trust_bundle: Vec<Vec<u8>>,
    /// TLS client certificate for the next connection, PEM chain.
    pub client_certificate: Vec<u8>,
    /// COSE_Sign1 over the statement that orders the witness policy in force, by distinct keys; none before the first.
    pub witness_policy: Vec<Vec<u8>>,
    /// Newest checkpoint of each partner's log that the verifier cosigned.
    pub other_checkpoints: Vec<Vec<u8>>,
}

/// What the verifier demands of one evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChallengeTerms {
    /// 256 random bits.
    pub nonce: [u8; 32],
    /// Milliseconds from sending, at most ten seconds.
    pub expires_after_ms: u64,
    /// The verifier's SPIFFE ID.
    pub audience: String,
    /// Governance epoch.
    pub epoch: u64,
    /// What the evidence is about.
    pub subject: Sha256Digest,
    /// What it must come with, by the kind of machine.
    pub demands: Demands,
    /// Domains one of whose results may come in the place of evidence.
    pub vouchers: Vec<DomainName>,
}

/// Authorizes or renews.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authorization {
    /// Signed artifact.
    pub artifact: Vec<u8>,
    /// Signed Attestation Result.
    pub result: Vec<u8>,
    /// Wrapped execution keys; none on renewal.
    pub keys: Vec<WrappedKey>,
    /// Receipt of the record.
    pub receipt: Vec<u8>,
    /// Newest record of this node's lineage.
    pub lineage_head: Sha256Digest,
    /// X509-SVID certificate, DER.
    pub svid: Vec<u8>,
    /// Keys of partners.
    pub partners: Vec<DomainKeys>,
}

/// By which keys a domain's SVIDs are verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DomainKeys {
    /// Whose.
    pub domain: DomainName,
    /// CA certificates, DER.
    pub x509: Vec<Vec<u8>>,
    /// Keys of JWT-SVIDs.
    pub jwt: Vec<KeyRecord>,
}

/// Says who an execution is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSvid {
    /// JWS compact serialization.
    pub svid: String,
    /// Receipt of the record.
    pub receipt: Vec<u8>,
    /// Newest record of this node's lineage.
    pub lineage_head: Sha256Digest,
}

/// How an execution key is wrapped: by the kind of the node key (`wire::protocol`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HpkeSuite {
    /// To a P-256 key in a TPM.
    P256,
    /// To an X-Wing key in a TEE's memory.
    XWing,
}

/// An execution key for the node key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WrappedKey {
    /// Its name.
    pub name: ItemName,
    /// How it is wrapped.
    pub suite: HpkeSuite,
    /// HPKE encapsulation.
    pub encapsulated: Vec<u8>,
    /// HPKE ciphertext.
    pub sealed: Vec<u8>,
    /// Which share of a split key it is; none for a whole key.
    pub share: Option<ShareHeader>,
}

/// Whether the verifier judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalClass {
    /// It judged, and said no.
    Denied,
    /// It could not judge.
    Fault,
}

/// Refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Denial or fault.
    pub class: RefusalClass,
    /// Stable code.
    pub code: String,
    /// Log index of the denial record.
    pub entry: Option<u64>,
    /// Newest record of the node's lineage, when the refusal is part of it.
    pub lineage_head: Option<Sha256Digest>,
    /// Whether the node must halt.
    pub halt: bool,
    /// Policy rules that denied, by id.
    pub rules: Vec<Text>,
}

/// A record is in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Its index.
    pub index: u64,
    /// Its receipt.
    pub receipt: Vec<u8>,
    /// Newest record of this node's lineage.
    pub lineage_head: Sha256Digest,
}

/// Comes unasked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Push {
    /// Signed revocation.
    Revocation(Vec<u8>),
    /// The node must halt.
    Halt {
        /// Stable code.
        code: String,
        /// Reason for people.
        reason: String,
    },
    /// Newer signed checkpoint.
    Checkpoint(Vec<u8>),
    /// Newer trust bundle: COSE_Sign1 over one payload by distinct keys of the authority.
    TrustBundle(Vec<Vec<u8>>),
    /// TLS client certificate for the next connection, PEM chain.
    ClientCertificate(Vec<u8>),
    /// What an execution here descends from is over.
    ParentOver {
        /// Id of the execution's artifact.
        artifact: ArtifactId,
        /// Stable code.
        code: String,
    },
    /// COSE_Sign1 over the statement that orders the witness policy in force from now on, by distinct keys.
    WitnessPolicy(Vec<Vec<u8>>),
}

impl TryFrom<proto::VerifierMessage> for VerifierAnswer {
    type Error = FieldDenial;

    fn try_from(given: proto::VerifierMessage) -> Result<Self, FieldDenial> {
        match given.message.ok_or(refuse("message", "absent"))? {
            Message::Welcome(welcome) => Ok(Self::Welcome(Welcome {
                governance_state: bytes("governance_state", welcome.governance_state, STATE_CAP_BYTES)?,
                checkpoint: bytes("checkpoint", welcome.checkpoint, CHECKPOINT_CAP_BYTES)?,
                lineage_head: digest("lineage_head", &welcome.lineage_head)?,
                trust_bundle: trust_bundle(welcome.trust_bundle.unwrap_or_default())?,
                client_certificate: bytes("client_certificate", welcome.client_certificate, PEM_CAP_BYTES)?,
                witness_policy: list(
                    "witness_policy",
                    welcome.witness_policy.unwrap_or_default().cose,
                    0..=SIGNATURES_CAP,
                    STATEMENT_CAP_BYTES,
                )?,
                other_checkpoints: list(
                    "other_checkpoints",
                    welcome.other_checkpoints,
                    0..=OTHER_CHECKPOINTS_CAP,
                    CHECKPOINT_CAP_BYTES,
                )?,
            })),
            Message::Challenge(challenge) => Ok(Self::Challenge(challenge.try_into()?)),
            Message::Authorization(authorization) => Ok(Self::Authorization(authorization.try_into()?)),
            Message::Refusal(refusal) => Ok(Self::Refusal(refusal.try_into()?)),
            Message::Recorded(recorded) => Ok(Self::Recorded(Recorded {
                index: recorded.index,
                receipt: bytes("receipt", recorded.receipt, RECEIPT_CAP_BYTES)?,
                lineage_head: digest("lineage_head", &recorded.lineage_head)?,
            })),
            Message::JwtSvid(given) => Ok(Self::JwtSvid(JwtSvid {
                svid: text("svid", given.svid, JWT_SVID_CAP_BYTES)?,
                receipt: bytes("receipt", given.receipt, RECEIPT_CAP_BYTES)?,
                lineage_head: digest("lineage_head", &given.lineage_head)?,
            })),
            Message::Push(push) => Ok(Self::Push(push.try_into()?)),
            Message::Readmission(readmission) => Ok(Self::Readmission {
                statements: list("statements", readmission.statements, 1..=SIGNATURES_CAP, STATEMENT_CAP_BYTES)?,
            }),
        }
    }
}

impl TryFrom<proto::Challenge> for ChallengeTerms {
    type Error = FieldDenial;

    fn try_from(given: proto::Challenge) -> Result<Self, FieldDenial> {
        if given.expires_after_ms == 0 || given.expires_after_ms > CHALLENGE_TTL_S.saturating_mul(1000) {
            return Err(refuse("expires_after_ms", "not within ten seconds"));
        }
        Ok(Self {
            nonce: <[u8; 32]>::try_from(given.nonce).map_err(|_| refuse("nonce", "not 32 bytes"))?,
            expires_after_ms: given.expires_after_ms,
            audience: spiffe_id("audience", given.audience)?,
            epoch: given.epoch,
            subject: digest("subject", &given.subject)?,
            demands: demands(given.demand)?,
            vouchers: vouchers(given.vouchers)?,
        })
    }
}

fn vouchers(given: Vec<String>) -> Result<Vec<DomainName>, FieldDenial> {
    if given.len() > DOMAINS_CAP {
        return Err(refuse("vouchers", "too many"));
    }
    given.into_iter().map(|name| DomainName::new(name).map_err(|_| refuse("vouchers", "not a domain"))).collect()
}

impl TryFrom<proto::Authorization> for Authorization {
    type Error = FieldDenial;

    fn try_from(given: proto::Authorization) -> Result<Self, FieldDenial> {
        if given.keys.len() > governance::scope::KEYS_CAP {
            return Err(refuse("keys", "too many"));
        }
        if given.partners.len() > PARTNERS_CAP {
            return Err(refuse("partners", "too many"));
        }
        Ok(Self {
            artifact: bytes("artifact", given.artifact, ARTIFACT_CAP_BYTES)?,
            result: bytes("result", given.result, RESULT_CAP_BYTES)?,
            keys: given.keys.into_iter().map(WrappedKey::try_from).collect::<Result<_, _>>()?,
            receipt: bytes("receipt", given.receipt, RECEIPT_CAP_BYTES)?,
            lineage_head: digest("lineage_head", &given.lineage_head)?,
            svid: bytes("svid", given.svid, CA_CAP_BYTES)?,
            partners: given.partners.into_iter().map(DomainKeys::try_from).collect::<Result<_, _>>()?,
        })
    }
}

impl TryFrom<proto::DomainKeys> for DomainKeys {
    type Error = FieldDenial;

    fn try_from(given: proto::DomainKeys) -> Result<Self, FieldDenial> {
        Ok(Self {
            domain: DomainName::new(given.domain).map_err(|_| refuse("partners.domain", "not a domain name"))?,
            x509: list("partners.x509", given.x509, 0..=ROLE_CAP_KEYS, CA_CAP_BYTES)?,
            jwt: match given.jwt.len() {
                0..=ROLE_CAP_KEYS => given.jwt.into_iter().map(key_window).collect::<Result<_, _>>()?,
                _ => return Err(refuse("partners.jwt", "too many")),
            },
        })
    }
}

fn key_window(given: proto::KeyWindow) -> Result<KeyRecord, FieldDenial> {
    let key = PublicKey::from_cose_key(&given.key).map_err(|_| refuse("partners.jwt.key", "not a COSE_Key"))?;
    Ok(KeyRecord { key, from: UnixSeconds(given.from), until: UnixSeconds(given.until) })
}

impl TryFrom<proto::WrappedKey> for WrappedKey {
    type Error = FieldDenial;

    fn try_from(given: proto::WrappedKey) -> Result<Self, FieldDenial> {
        let suite = match given.suite() {
            proto::HpkeSuite::P256 => HpkeSuite::P256,
            proto::HpkeSuite::XWing => HpkeSuite::XWing,
            proto::HpkeSuite::Unspecified => return Err(refuse("keys.suite", "not a suite we know")),
        };
        Ok(Self {
            name: item_name("keys.name", given.name)?,
            suite,
            encapsulated: bytes("keys.encapsulated", given.encapsulated, ENCAPSULATED_CAP_BYTES)?,
            sealed: bytes("keys.sealed", given.sealed, SEALED_CAP_BYTES)?,
            share: match given.share.as_slice() {
                [] => None,
                header => Some(ShareHeader::decode(header).map_err(|_| refuse("keys.share", "not a share's header"))?),
            },
        })
    }
}

impl TryFrom<proto::Refusal> for Refusal {
    type Error = FieldDenial;

    fn try_from(given: proto::Refusal) -> Result<Self, FieldDenial> {
        let class = match given.class.as_str() {
            "denied" => RefusalClass::Denied,
            "fault" => RefusalClass::Fault,
            _ => return Err(refuse("class", "neither denied nor fault")),
        };
        let entry = match given.entry.as_str() {
            "" => None,
            index => Some(index.parse().map_err(|_| refuse("entry", "not a log index"))?),
        };
        let lineage_head = match given.lineage_head.as_slice() {
            [] => None,
            head => Some(digest("lineage_head", head)?),
        };
        if given.rules.len() > governance::artifact::LIST_CAP {
            return Err(refuse("rules", "too many"));
        }
        let rules = given
            .rules
            .into_iter()
            .map(|rule| Text::new(rule).map_err(|_| refuse("rules", "not short printable text")));
        let (rules, code) = (rules.collect::<Result<_, _>>()?, code(given.code)?);
        Ok(Self { class, code, entry, lineage_head, halt: given.halt, rules })
    }
}

impl TryFrom<proto::Push> for Push {
    type Error = FieldDenial;

    fn try_from(given: proto::Push) -> Result<Self, FieldDenial> {
        use proto::push::Push as Given;
        match given.push.ok_or(refuse("push", "absent"))? {
            Given::Revocation(revocation) => {
                Ok(Self::Revocation(bytes("revocation", revocation.cose, REVOCATION_CAP_BYTES)?))
            }
            Given::Halt(halt) => {
                Ok(Self::Halt { code: code(halt.code)?, reason: text("reason", halt.reason, TEXT_CAP_BYTES)? })
            }
            Given::WitnessPolicy(policy) => {
                Ok(Self::WitnessPolicy(list("witness_policy", policy.cose, 1..=SIGNATURES_CAP, STATEMENT_CAP_BYTES)?))
            }
            Given::Checkpoint(note) => Ok(Self::Checkpoint(bytes("checkpoint", note, CHECKPOINT_CAP_BYTES)?)),
            Given::TrustBundle(signed) => Ok(Self::TrustBundle(trust_bundle(signed)?)),
            Given::ClientCertificate(pem) => {
                Ok(Self::ClientCertificate(bytes("client_certificate", pem, PEM_CAP_BYTES)?))
            }
            Given::ParentOver(over) => Ok(Self::ParentOver {
                artifact: ArtifactId(over.artifact.try_into().map_err(|_| refuse("artifact", "not 16 bytes"))?),
                code: code(over.code)?,
            }),
        }
    }
}

fn trust_bundle(given: proto::ByAuthority) -> Result<Vec<Vec<u8>>, FieldDenial> {
    list("trust_bundle", given.cose, 1..=SIGNATURES_CAP, BUNDLE_CAP_BYTES)
}

fn code(given: String) -> Result<String, FieldDenial> {
    audit::record::Code::new(given).map(String::from).map_err(|_| refuse("code", "not a code"))
}

#[cfg(test)]
#[path = "verifier_tests.rs"]
mod tests;
