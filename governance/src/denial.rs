//! Why an authorization, or the state behind it, was refused: one variant a fact, both sides in it.

use evidence::{
    cose::CoseDenial, digest::Sha256Digest, kind::EvidenceKind, names::DomainName, names::ItemName, names::NodeId,
    threshold::ThresholdDenial, time::UnixSeconds,
};
use strum::{EnumDiscriminants, EnumIter};

use crate::artifact::ArtifactId;
use crate::revocation::RevokedKind;
use crate::rotation::OnlineRole;

/// It was judged, and refused. `code` is stable; text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(
    name(GovernanceDenialKind),
    derive(EnumIter, Hash, PartialOrd, Ord),
    doc = "The variants of [`GovernanceDenial`], to enumerate them."
)]
#[allow(missing_docs, reason = "field names say which side they are; units stand in the name")]
pub enum GovernanceDenial {
    /// A record is longer than its cap.
    #[error("{what} of {got_bytes} bytes, at most {cap_bytes} allowed")]
    TooLarge { what: &'static str, got_bytes: usize, cap_bytes: usize },
    /// A record is not the deterministic CBOR of its type.
    #[error("{what} malformed: {cause}")]
    Malformed { what: &'static str, cause: String },
    /// A field breaks its own rule.
    #[error("{what}.{field}: {rule}")]
    FieldInvalid { what: &'static str, field: &'static str, rule: &'static str },
    /// A record of another version.
    #[error("{what} has version {got}, expected {expected}")]
    Version { what: &'static str, got: u8, expected: u8 },
    /// No signature by an accepted key over these bytes for this purpose and domain.
    #[error("{what} is not signed by an accepted key: {cause}")]
    SignatureInvalid { what: &'static str, cause: CoseDenial },
    /// Not enough distinct keys of the authority signed.
    #[error("{what} lacks the authority's signatures: {cause}")]
    ThresholdNotMet { what: &'static str, cause: ThresholdDenial },
    /// Fewer domains authorized the execution than its intent needs.
    #[error("{got} of the {needed} authorizations that the intent needs")]
    MissingAuthorization { got: usize, needed: usize },
    /// Issued by or for another domain.
    #[error("{what} is of domain {got}, expected {expected}")]
    Domain { what: &'static str, got: DomainName, expected: DomainName },
    /// Issued by another service of the domain.
    #[error("artifact issued by {got}, expected {expected}")]
    Issuer { got: String, expected: String },
    /// Meant for somebody else.
    #[error("meant for {got}, expected {expected}")]
    Audience { got: String, expected: String },
    /// About another node.
    #[error("{what} is for node {got}, expected {expected}")]
    Node { what: &'static str, got: NodeId, expected: NodeId },
    /// Authorizes another workload (another intent).
    #[error("artifact authorizes intent {got}, expected {expected}")]
    Workload { got: Sha256Digest, expected: Sha256Digest },
    /// Bound to another node key.
    #[error("artifact is bound to node key {got}, expected {expected}")]
    NodeKey { got: Sha256Digest, expected: Sha256Digest },
    /// Renewed under another node key than it was authorized for: whoever held that one is gone.
    #[error("renewal under node key {got}, the execution was authorized for {held}")]
    NodeKeyChanged { got: Sha256Digest, held: Sha256Digest },
    /// A renewal of another artifact.
    #[error("artifact id {got}, expected {expected}")]
    ArtifactId { got: String, expected: String },
    /// Its window has not begun.
    #[error("{what} begins at {not_before}, judged at {now}")]
    NotYetValid { what: &'static str, not_before: UnixSeconds, now: UnixSeconds },
    /// Its window is over.
    #[error("{what} expired at {expires_at}, judged at {now}")]
    Expired { what: &'static str, expires_at: UnixSeconds, now: UnixSeconds },
    /// Its window is empty or longer than allowed.
    #[error("{what} has a window of {got_s} s, allowed are 1 to {cap_s} s")]
    Lifetime { what: &'static str, got_s: u64, cap_s: u64 },
    /// From before the newest governance epoch that is known.
    #[error("artifact of epoch {got}, at least {min} needed")]
    EpochStale { got: u64, min: u64 },
    /// A lease sequence number that was used or is void.
    #[error("lease seq {got}, at least {min} needed")]
    LeaseSeqStale { got: u64, min: u64 },
    /// A lease sequence number that another holder has: a copy of the node is at work.
    #[error("lease seq {seq} presented by {got}, held by {held}")]
    LeaseHeldTwice { seq: u64, got: Sha256Digest, held: Sha256Digest },
    /// Lease terms that no lease can have.
    #[error("lease of {duration_ms} ms renewed after {renew_after_ms} ms, at most {cap_ms} ms allowed")]
    LeaseTerms { duration_ms: u64, renew_after_ms: u64, cap_ms: u64 },
    /// Revoked.
    #[error("{kind} {subject} is revoked: {reason}")]
    Revoked { kind: RevokedKind, subject: String, reason: String },
    /// Reaches beyond what its parent, or the request, allows.
    #[error("{part} {got} is beyond the scope it must stay within")]
    ScopeExceeded { part: &'static str, got: String },
    /// Names a parent artifact that was neither issued here nor came along.
    #[error("no artifact {parent} of {domain} is known, which the intent names as its parent")]
    ParentUnknown { domain: DomainName, parent: Sha256Digest },
    /// The execution that it descends from is over.
    #[error("the parent execution, artifact {artifact}, is not in force: {what}")]
    ParentNotLive { artifact: ArtifactId, what: &'static str },
    /// An execution that it descends from was revoked.
    #[error("it descends from artifact {artifact}: {reason}")]
    ParentRevoked { artifact: ArtifactId, reason: String },
    /// The node's history does not continue the one that the verifier holds.
    #[error("lineage head {got}, held are {current} and, acknowledged, {acknowledged}")]
    LineageDiscontinuous { got: Sha256Digest, current: Sha256Digest, acknowledged: Sha256Digest },
    /// The node halted or was quarantined and has not been readmitted.
    #[error("node {node} is quarantined: {reason}")]
    NodeQuarantined { node: NodeId, reason: String },
    /// No such node is enrolled.
    #[error("node {node} is not enrolled")]
    NodeUnknown { node: NodeId },
    /// Enrolled, and waiting for an operator to admit it.
    #[error("node {node} is enrolled but not admitted")]
    NodePending { node: NodeId },
    /// The node id, or the EK, is enrolled otherwise: an identity is never replaced.
    #[error("node {node}: {what}")]
    NodeIdentity { node: NodeId, what: &'static str },
    /// The governance state in hand has expired, or none arrived in time.
    #[error("governance state of {domain} expired at {expires_at}, judged at {now}")]
    StateStale { domain: DomainName, expires_at: UnixSeconds, now: UnixSeconds },
    /// Two governance states of one epoch, or one that does not continue the held one.
    #[error("governance state of {domain}, epoch {epoch}: {got}, held is {held}")]
    StateForked { domain: DomainName, epoch: u64, got: Sha256Digest, held: Sha256Digest },
    /// A governance state from before the held one.
    #[error("governance state of {domain} has epoch {got}, held is {held}")]
    StateRolledBack { domain: DomainName, got: u64, held: u64 },
    /// A governance state that skips epochs: the ones between must be fetched.
    #[error("governance state of {domain} has epoch {got}, held is {held}")]
    StateGap { domain: DomainName, got: u64, held: u64 },
    /// Bound to another governance state than the one in force.
    #[error("governance state {got}, expected {expected}")]
    StateMismatch { got: Sha256Digest, expected: Sha256Digest },
    /// A trust bundle with a lower sequence than the held one.
    #[error("trust bundle of {domain} has sequence {got}, held is {held}")]
    BundleRolledBack { domain: DomainName, got: u64, held: u64 },
    /// The trust bundle in hand has run out, and no newer one came.
    #[error("trust bundle of {domain} expired at {expires_at}, judged at {now}")]
    BundleExpired { domain: DomainName, expires_at: UnixSeconds, now: UnixSeconds },
    /// Another trust bundle with the sequence of the held one.
    #[error("trust bundle of {domain}, sequence {sequence}: {got}, held is {held}")]
    BundleForked { domain: DomainName, sequence: u64, got: Sha256Digest, held: Sha256Digest },
    /// A key that no bundle in force announced is to sign.
    #[error("{role} key {kid} is not announced by the trust bundle in force")]
    KeyUnannounced { role: OnlineRole, kid: String },
    /// A key is to sign, or to count, before it was announced for long enough.
    #[error("{role} key {kid} at {at}, earliest {earliest}")]
    KeyTooEarly { role: OnlineRole, kid: String, at: UnixSeconds, earliest: UnixSeconds },
    /// A bundle lacks a key that signs, or whose signatures still serve.
    #[error("{role} key {kid} is needed until {until}, removed at {now}")]
    KeyInUse { role: OnlineRole, kid: String, until: UnixSeconds, now: UnixSeconds },
    /// A statement whose sequence was already used.
    #[error("statement sequence {got}, at least {min} needed")]
    StatementReplayed { got: u64, min: u64 },
    /// No operator of this domain trusts that partner.
    #[error("domain {domain} is no partner of this one")]
    PartnerUnknown { domain: DomainName },
    /// The trust in a partner was taken back.
    #[error("trust in domain {domain} was taken back at {since}")]
    PartnerUntrusted { domain: DomainName, since: UnixSeconds },
    /// A partner's newest governance state was not seen for longer than it may serve.
    #[error("domain {domain} was last seen at {seen_at}, its state serves for {max_staleness_s} s, judged at {now}")]
    PartnerStale { domain: DomainName, seen_at: UnixSeconds, max_staleness_s: u64, now: UnixSeconds },
    /// A partner signed two histories; nothing of it counts until it is trusted anew.
    #[error("domain {domain} signed two histories, seen at {since}")]
    PartnerForked { domain: DomainName, since: UnixSeconds },
    /// A partner went back in time; nothing of it counts until it is trusted anew.
    #[error("domain {domain} went back to an older history, seen at {since}")]
    PartnerRolledBack { domain: DomainName, since: UnixSeconds },
    /// A partner's log has another past than the one that was seen.
    #[error("log of {domain}, size {size}: root {got} does not continue {held}")]
    LogForked { domain: DomainName, size: u64, got: Sha256Digest, held: Sha256Digest },
    /// A partner's log was not shown to go on from what was seen of it; nothing is concluded from that.
    #[error("log of {domain} has {got} entries, and is not proven to go on from the {held} that were seen")]
    LogUnproven { domain: DomainName, got: u64, held: u64 },
    /// A partner's log is shorter than it was.
    #[error("log of {domain} has {got} entries, seen were {held}")]
    LogRolledBack { domain: DomainName, got: u64, held: u64 },
    /// A governance state that was not shown to be in its domain's log.
    #[error("governance state of {domain}, epoch {epoch}, is not proven to be in its log")]
    StateUnlogged { domain: DomainName, epoch: u64 },
    /// A governance state names another bundle or list than the one that its domain serves.
    #[error("{what} of {domain} is {got}, its governance state names {named}")]
    TrustInconsistent { domain: DomainName, what: &'static str, got: Sha256Digest, named: Sha256Digest },
    /// A node holds no witness policy of a domain, which is no lab.
    #[error("no witness policy of {domain} is known, and the domain is no lab")]
    WitnessPolicyAbsent { domain: DomainName },
    /// A partner speaks for a name that it was not granted.
    #[error("{domain} speaks for {got}, granted are names that begin with {allowed}")]
    GrantName { domain: DomainName, got: String, allowed: String },
    /// A partner vouches for a kind of evidence that it was not granted.
    #[error("{domain} vouches for evidence of kind {got}, granted are: {allowed}")]
    GrantKind { domain: DomainName, got: EvidenceKind, allowed: String },
    /// A partner vouches for a longer lease than it was granted.
    #[error("{domain} vouches for a lease of {got_ms} ms, granted are {allowed_ms} ms")]
    GrantLease { domain: DomainName, got_ms: u64, allowed_ms: u64 },
    /// More of a partner's statements came within a minute than it was granted.
    #[error("{got} statements of {domain} within a minute, granted are {allowed}")]
    GrantRate { domain: DomainName, got: u32, allowed: u32 },
    /// A partner's cosignatures are not granted to count.
    #[error("cosignatures of {domain} are not granted to count")]
    GrantWitness { domain: DomainName },
    /// A partner's Attestation Results are not granted to count for evidence.
    #[error("Attestation Results of {domain} are not granted to count for evidence")]
    GrantResults { domain: DomainName },
    /// A passport is not about this challenge, this machine, or what its own parts say.
    #[error("the passport by {domain} has another {what} than is asked for")]
    PassportMismatch { domain: DomainName, what: &'static str },
    /// A partner vouches by the result of a third domain, which nobody here granted anything.
    #[error("{domain} vouches by a result that {got} issued")]
    PassportTransitive { domain: DomainName, got: String },
    /// A partner's Attestation Result says less than is relied on.
    #[error("the result of {domain} is not relied on: {cause}")]
    PassportResult { domain: DomainName, cause: String },
    /// One domain permits what a rule of another forbids.
    #[error("{permitting} permits by {permits}, {forbidding} forbids by {forbids}")]
    PolicyConflict { permitting: DomainName, permits: String, forbidding: DomainName, forbids: String },
    /// Fewer shares of a key than join it, or nothing of it.
    #[error("{got} of the {needed} parts of key {name} that are needed")]
    KeyIncomplete { name: ItemName, got: usize, needed: usize },
    /// Shares of different splittings, or a share beside a whole key.
    #[error("parts of key {name} do not belong together: {got}, expected {expected}")]
    KeyMixed { name: ItemName, got: String, expected: String },
    /// Two domains gave the same share, or both a whole key of one name.
    #[error("key {name} came twice")]
    KeyRepeated { name: ItemName },
    /// A share of another key.
    #[error("share of key {got}, expected one of {name}")]
    KeyShareForeign { name: ItemName, got: ItemName },
    /// A share is not the one that its group names.
    #[error("share {index} of key {name} is not the one that its group names")]
    KeyShareInvalid { name: ItemName, index: u8 },
    /// The shares join to something else than the key that was split.
    #[error("the shares of key {name} do not join to the key that was split")]
    KeyUnjoined { name: ItemName },
}

impl GovernanceDenial {
    /// Stable code, `governance.<fact>`; `policy.conflict` where two domains' policies contradict.
    #[must_use]
    pub fn code(&self) -> &'static str {
        GovernanceDenialKind::from(self).code()
    }
}

impl GovernanceDenialKind {
    /// Stable code of this kind of denial.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::TooLarge => "governance.too_large",
            Self::Malformed => "governance.malformed",
            Self::FieldInvalid => "governance.field_invalid",
            Self::Version => "governance.version",
            Self::SignatureInvalid => "governance.signature_invalid",
            Self::ThresholdNotMet => "governance.threshold_not_met",
            Self::MissingAuthorization => "governance.missing_authorization",
            Self::Domain => "governance.domain",
            Self::Issuer => "governance.issuer",
            Self::Audience => "governance.audience",
            Self::Node => "governance.node",
            Self::Workload => "governance.workload",
            Self::NodeKey => "governance.node_key",
            Self::NodeKeyChanged => "governance.node_key_changed",
            Self::ArtifactId => "governance.artifact_id",
            Self::NotYetValid => "governance.not_yet_valid",
            Self::Expired => "governance.expired",
            Self::Lifetime => "governance.lifetime",
            Self::EpochStale => "governance.epoch_stale",
            Self::LeaseSeqStale => "governance.lease_seq_stale",
            Self::LeaseHeldTwice => "governance.lease_held_twice",
            Self::LeaseTerms => "governance.lease_terms",
            Self::Revoked => "governance.revoked",
            Self::ScopeExceeded => "governance.scope_exceeded",
            Self::ParentUnknown => "governance.parent_unknown",
            Self::ParentNotLive => "governance.parent_not_live",
            Self::ParentRevoked => "governance.parent_revoked",
            Self::LineageDiscontinuous => "governance.lineage_discontinuous",
            Self::NodeQuarantined => "governance.node_quarantined",
            Self::NodeUnknown => "governance.node_unknown",
            Self::NodePending => "governance.node_pending",
            Self::NodeIdentity => "governance.node_identity",
            Self::StateStale => "governance.state_stale",
            Self::StateForked => "governance.state_forked",
            Self::StateRolledBack => "governance.state_rolled_back",
            Self::StateGap => "governance.state_gap",
            Self::StateMismatch => "governance.state_mismatch",
            Self::BundleRolledBack => "governance.bundle_rolled_back",
            Self::BundleExpired => "governance.bundle_expired",
            Self::BundleForked => "governance.bundle_forked",
            Self::KeyUnannounced => "governance.key_unannounced",
            Self::KeyTooEarly => "governance.key_too_early",
            Self::KeyInUse => "governance.key_in_use",
            Self::StatementReplayed => "governance.statement_replayed",
            Self::PolicyConflict => "policy.conflict",
            Self::KeyIncomplete => "governance.key_incomplete",
            Self::KeyMixed => "governance.key_mixed",
            Self::KeyRepeated => "governance.key_repeated",
            Self::KeyShareForeign => "governance.key_share_foreign",
            Self::KeyShareInvalid => "governance.key_share_invalid",
            Self::KeyUnjoined => "governance.key_unjoined",
            Self::PartnerUnknown => "governance.partner_unknown",
            Self::PartnerUntrusted => "governance.partner_untrusted",
            Self::PartnerStale => "governance.partner_stale",
            Self::PartnerForked => "governance.partner_forked",
            Self::PartnerRolledBack => "governance.partner_rolled_back",
            Self::LogForked => "governance.log_forked",
            Self::LogUnproven => "governance.log_unproven",
            Self::LogRolledBack => "governance.log_rolled_back",
            Self::StateUnlogged => "governance.state_unlogged",
            Self::TrustInconsistent => "governance.trust_inconsistent",
            Self::WitnessPolicyAbsent => "governance.witness_policy_absent",
            Self::GrantName => "governance.grant_name",
            Self::GrantKind => "governance.grant_kind",
            Self::GrantLease => "governance.grant_lease",
            Self::GrantRate => "governance.grant_rate",
            Self::GrantWitness => "governance.grant_witness",
            Self::GrantResults => "governance.grant_results",
            Self::PassportMismatch => "governance.passport_mismatch",
            Self::PassportTransitive => "governance.passport_transitive",
            Self::PassportResult => "governance.passport_result",
        }
    }

    /// What to do about it.
    #[must_use]
    pub const fn hint(self) -> &'static str {
        match self {
            Self::TooLarge | Self::Malformed | Self::FieldInvalid | Self::Version => {
                "it is not what this version reads: compare the versions of node and verifier, else look at who made it"
            }
            Self::SignatureInvalid => "have it signed by a key that is in force, for this purpose and domain",
            Self::ThresholdNotMet => "collect the signatures of more keys of the authority",
            Self::MissingAuthorization => "ask the other domains that the intent names",
            Self::Domain
            | Self::Issuer
            | Self::Audience
            | Self::Node
            | Self::Workload
            | Self::NodeKey
            | Self::ArtifactId => "use the artifact that was issued for this domain, node, key and intent",
            Self::NodeKeyChanged => {
                "guest or daemon was started anew, and what it ran is gone: readmit the node, then start the execution again"
            }
            Self::NotYetValid => "wait, and check the clocks",
            Self::Expired => "ask for a new one, and check the clocks",
            Self::Lifetime | Self::LeaseTerms => "stay within the limits that are named",
            Self::EpochStale | Self::LeaseSeqStale | Self::StateMismatch => {
                "ask for a new authorization: governance or the lease moved on"
            }
            Self::LeaseHeldTwice => "revoke the artifact (verifier revoke), and find out which of the two is the node",
            Self::Revoked => "it was revoked on purpose, for the reason that is named",
            Self::ParentUnknown => "give the parent's artifact along, as its domain signed it (attestd exec --parent)",
            Self::ParentNotLive => "start the parent first, and a child only while that runs",
            Self::ParentRevoked => "what it descends from was revoked on purpose, for the reason that is named",
            Self::ScopeExceeded => "ask for no more than the parent or the intent allows",
            Self::LineageDiscontinuous => {
                "the node lost or forked its history: look at it, then readmit it (verifier node readmit)"
            }
            Self::NodeQuarantined => "find out why it halted, then readmit it (verifier node readmit)",
            Self::NodeUnknown => "enrol the node (attestd enrol)",
            Self::NodePending => "admit the node, if you expect it (verifier node admit)",
            Self::NodeIdentity => "an identity is never replaced: enrol under another name, and look at who asked",
            Self::StateStale => "let the domain publish a new governance state, and check the clocks",
            Self::StateForked
            | Self::StateRolledBack
            | Self::BundleRolledBack
            | Self::BundleForked
            | Self::LogForked
            | Self::LogRolledBack => {
                "two histories were signed, or an old one was restored: look at the domain's log before all else"
            }
            Self::BundleExpired => {
                "let the policy authority sign the domain's next bundle (verifier domain bundle --renew), and check the clocks"
            }
            Self::KeyUnannounced => "announce the key first (verifier keys rotate --prepare)",
            Self::KeyTooEarly => "wait until everybody holds a bundle that announces the key (verifier keys list)",
            Self::KeyInUse => "activate its successor, and wait until what it signed has ended (verifier keys list)",
            Self::StateGap => "fetch the states between",
            Self::StatementReplayed => "sign the statement with a higher sequence",
            Self::PolicyConflict => "let the domains agree on the intent, or name other domains",
            Self::KeyIncomplete => {
                "let enough of the domains that hold the key, or its shares, be asked, and the key be put there (verifier keys put)"
            }
            Self::KeyMixed | Self::KeyRepeated | Self::KeyShareForeign | Self::KeyShareInvalid | Self::KeyUnjoined => {
                "put the shares of one splitting, one in each domain (verifier keys split)"
            }
            Self::PartnerUnknown | Self::PartnerUntrusted => {
                "trust the domain, if you mean to (verifier domain trust), with a bundle that its operators confirmed"
            }
            Self::PartnerStale => "find out why the partner cannot be reached (verifier governance status)",
            Self::PartnerForked | Self::PartnerRolledBack => {
                "find out from the partner's operators what happened; then trust it anew (verifier domain trust)"
            }
            Self::StateUnlogged | Self::TrustInconsistent | Self::LogUnproven => {
                "the partner serves things that do not fit together: tell its operators, if it stays so"
            }
            Self::WitnessPolicyAbsent => {
                "order whose cosignatures count on the domain's log (verifier domain witnesses), then let the node connect"
            }
            Self::GrantName
            | Self::GrantKind
            | Self::GrantLease
            | Self::GrantRate
            | Self::GrantWitness
            | Self::GrantResults => "grant more to the partner, if you mean to (verifier domain trust)",
            Self::PassportMismatch => {
                "let the node ask the partner anew: what it shows is of another execution, machine or moment"
            }
            Self::PassportTransitive => {
                "trust the domain that judged the evidence itself, if you mean to (verifier domain trust)"
            }
            Self::PassportResult => "ask the partner's operators why its result says no more than that",
        }
    }

    /// Every kind of denial.
    pub fn all() -> impl Iterator<Item = Self> {
        use strum::IntoEnumIterator as _;
        Self::iter()
    }
}

#[cfg(test)]
#[path = "denial_tests.rs"]
mod tests;
