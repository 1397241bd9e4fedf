//! Passports at the desk: a partner's verdict about an execution, taken in the place of evidence as far as its grant goes.
//!
//! What is decided stands in [`policy::passport`]; here stand what it is decided from, that it is kept, and the count of a
//! partner's statements. Nobody's word is passed on: what is granted by it names the partner's own result, and none of ours
//! is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use evidence::cbor::{self, Caps};
use evidence::challenge::Challenge;
use evidence::cose::{KeySet, PublicKey};
use evidence::digest::Sha256Digest;
use evidence::names::{DomainName, NodeId};
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::intent::Intent;
use governance::passport::Passport;
use governance::revocation::RevocationList;
use governance::text::Text;
use policy::Denial;
use policy::claims::IntentClaims;
use policy::engine::Rule;
use policy::passport::{EnrolledMachine, Presented, Relied, Voucher, rely};
use serde::{Deserialize, Serialize};
use wire::proto::verifier_message::Message as Answer;

use crate::appraise::Verdict;
use crate::decision::{AskedFor, TrustInputs, build};
use crate::denials::{Judged, passport_subject};
use crate::desk::Desk;
use crate::evidence_store::BlobKind;
use crate::fault::Fault;
use crate::intake::{Asks, Request};
use crate::judge::{Asking, Execution, questions};
use crate::nodes::{Machine, Node, NodeIdentity};
use crate::refusal::{ProtocolDenial, Refused};
use crate::trust::Trust;
use crate::wrap::HolderKey;

/// Version of the record.
const VERSION: u8 = 1;
/// Longest decision that is read back: a partner's revocations are most of it.
const DECISION_CAP_BYTES: usize = 2 << 20;

/// Everything that one judgement of a passport is made from, trust and execution aside; kept as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PassportDecision {
    version: u8,
    /// The program that decided.
    pub(crate) build: String,
    /// When.
    pub(crate) now: UnixSeconds,
    /// The passport as received.
    pub(crate) passport: Sha256Digest,
    /// The challenge.
    pub(crate) challenge: Sha256Digest,
    node: NodeId,
    record_key: PublicKey,
    machine: EnrolledMachine,
    /// The execution.
    pub(crate) asked: AskedFor,
    /// What was relied on of whom.
    pub(crate) partner: Voucher,
    /// The how many-th of the partner's statements in that minute it was; none for one refused before it counted.
    count: Option<u32>,
    /// What it was judged by.
    pub(crate) trust: TrustInputs,
}

/// A passport that this domain relies on, permitted to do what was asked.
pub(crate) struct Judgement {
    pub(crate) relied: Relied,
    pub(crate) rules: Vec<Rule>,
    holder: HolderKey,
}

impl PassportDecision {
    pub(crate) fn to_kept(&self) -> Result<Vec<u8>, Fault> {
        cbor::to_vec(self).map_err(|error| Fault::Bug { what: error.to_string() })
    }

    /// Reads a kept decision.
    pub(crate) fn from_kept(bytes: &[u8]) -> Result<Self, cbor::CborError> {
        cbor::from_slice(bytes, Caps::bytes(DECISION_CAP_BYTES))
    }

    /// The passport, signed by its node.
    pub(crate) fn read(&self, cose: &[u8]) -> Result<Passport, GovernanceDenial> {
        Passport::verify(cose, &self.trust.domain, &self.node, &KeySet::new([&self.record_key]))
    }

    /// The same inputs give the same judgement, live and in a replay.
    pub(crate) fn judge(
        &self,
        passport: &Passport,
        challenge: &Challenge,
        execution: &Execution,
        trust: &policy::Trust,
        revocations: &RevocationList,
    ) -> Result<Judgement, Denial> {
        let presented = Presented {
            passport,
            challenge,
            intent: &execution.intent,
            intent_digest: execution.intent_digest,
            machine: &self.machine,
            now: self.now,
        };
        let relied = rely(presented, &self.partner, trust, revocations)?;
        let holder = HolderKey::vouched(&relied.terms().confirmation.key)?;
        execution.course.goes_on(&relied.terms().confirmation.key)?;
        let (intent, mut rules) = (IntentClaims::of(&execution.intent), relied.rules().to_vec());
        for question in questions(execution, relied.claims(), &intent) {
            rules.extend_from_slice(trust.policy().ask_at(&question, self.now)?.rules());
        }
        rules.sort_by(|a, b| a.id.cmp(&b.id));
        rules.dedup_by(|a, b| a.id == b.id);
        // Counted last: nobody uses up a partner's rate with what is refused anyway.
        self.count.map_or(Ok(()), |count| self.partner.grant.admits_rate(&self.partner.domain, count))?;
        Ok(Judgement { relied, rules, holder })
    }
}

/// A passport that was read, before it is judged.
struct Read {
    cose: Vec<u8>,
    passport: Passport,
    challenge: Challenge,
    execution: Execution,
    decision: PassportDecision,
}

/// What came of one.
enum Outcome {
    Verdict(Box<Verdict>),
    Denied(Box<NotRelied>),
}

/// A passport that was refused, and what that was decided from if it could be read.
struct NotRelied {
    denial: Denial,
    decision: Option<PassportDecision>,
}

impl Desk {
    /// Partners of which a request may bring a result in the place of evidence: named by the intent, fresh, and granted
    /// this node's name and kind. What else is granted is judged with what comes.
    pub(crate) fn vouchers(&self, request: &Request) -> Result<Vec<DomainName>, Fault> {
        let Some(intent) = intent(request) else { return Ok(Vec::new()) };
        let (now, partners, kind) = (self.now()?, self.parts.trust.partners(), request.node.identity.machine.kind());
        let vouches = |domain: &&DomainName| {
            let fresh = partners.partner(domain).and_then(|held| held.fresh(now));
            fresh.is_ok_and(|fresh| {
                let name = domain.node_spiffe_id(&request.node.identity.id);
                let grant = fresh.grant();
                grant.results && grant.admits_name(domain, &name).is_ok() && grant.admits_kind(domain, kind).is_ok()
            })
        };
        let others = intent.domains.named().iter().filter(|domain| **domain != self.parts.domain);
        Ok(others.filter(vouches).cloned().collect())
    }

    /// Judges a passport for a request and answers it.
    pub(crate) async fn conclude_passport(
        self: &Arc<Self>,
        request: Request,
        challenge: Challenge,
        cose: Vec<u8>,
    ) -> Result<Answer, Refused> {
        if intent(&request).is_none() {
            let (got, wanted) = ("a passport", "evidence");
            return Err(ProtocolDenial::Unexpected { got, wanted }.into());
        }
        let bytes = cbor::to_vec(&challenge).map_err(|error| Fault::Bug { what: error.to_string() })?;
        let (digest, named) = (Sha256Digest::of(&cose), Sha256Digest::of(&bytes));
        let kept = vec![(BlobKind::Passport, cose.clone()), (BlobKind::Challenge, bytes)];
        let outcome = match self.read_passport(&request, (challenge, named), cose).await? {
            Ok(read) => self.judged_passport(&request, *read).await?,
            Err(denial) => Outcome::Denied(Box::new(NotRelied { denial: denial.into(), decision: None })),
        };
        match outcome {
            Outcome::Verdict(verdict) => self.granted(&request, *verdict, kept).await,
            Outcome::Denied(not) => {
                let NotRelied { denial, decision } = *not;
                let (mut kept, mut listed) = (kept, None);
                if let Some(decision) = decision {
                    let decision = decision.to_kept()?;
                    listed = Some(passport_subject(Sha256Digest::of(&decision)));
                    kept.push((BlobKind::Decision, decision));
                }
                let judged = Judged {
                    denial,
                    presented: request.head,
                    subject: request.subject(),
                    kept,
                    evidence: Some(digest),
                    decision: listed,
                    intent: request.intent_cose(),
                    // What a partner may not say, or did not say, proves nothing about this machine.
                    halt: false,
                };
                Err(self.deny(&request.node, &request.trust, judged).await)
            }
        }
    }

    /// By whom, for what, and what is held of the partner now.
    async fn read_passport(
        &self,
        request: &Request,
        (challenge, named): (Challenge, Sha256Digest),
        cose: Vec<u8>,
    ) -> Result<Result<Box<Read>, GovernanceDenial>, Fault> {
        let NodeIdentity { id, record_key, .. } = &request.node.identity;
        let passport = match Passport::verify(&cose, &self.parts.domain, id, &KeySet::new([record_key])) {
            Ok(passport) => passport,
            Err(denial) => return Ok(Err(denial)),
        };
        let now = self.now()?;
        let partners = self.parts.trust.partners();
        let voucher = partners.partner(&passport.partner).and_then(|held| Ok(Voucher::of(&held.fresh(now)?, now)));
        let partner = match voucher {
            Ok(partner) => partner,
            Err(denial) => return Ok(Err(denial)),
        };
        let Asking::Execute(execution) = self.asking(request).await? else {
            return Err(Fault::Bug { what: "a passport for nothing to execute".to_owned() });
        };
        if !execution.intent.domains.named().contains(&partner.domain) {
            let domain = partner.domain;
            return Ok(Err(GovernanceDenial::PassportMismatch { domain, what: "domain than the intent names" }));
        }
        let decision = PassportDecision {
            version: VERSION,
            build: build(),
            now,
            passport: Sha256Digest::of(&cose),
            challenge: named,
            node: id.clone(),
            record_key: record_key.clone(),
            machine: enrolled(&request.node),
            asked: AskedFor::of(&execution),
            partner,
            count: None,
            trust: request.trust.inputs.clone(),
        };
        Ok(Ok(Box::new(Read { cose, passport, challenge, execution: *execution, decision })))
    }

    async fn judged_passport(self: &Arc<Self>, request: &Request, mut read: Read) -> Result<Outcome, Fault> {
        let place = self.appraisals.acquire().await.map_err(|_| Fault::ShuttingDown)?;
        let (desk, trust) = (self.clone(), request.trust.clone());
        let judged = tokio::task::spawn_blocking(move || {
            let judgement = read.judged(&trust).and_then(|judgement| {
                let count = desk.vouched.count(&read.decision.partner.domain);
                read.decision.count = Some(count);
                read.decision.partner.grant.admits_rate(&read.decision.partner.domain, count)?;
                Ok(judgement)
            });
            match judgement {
                Ok(judgement) => verdict(&read, &trust, judgement).map(|verdict| Outcome::Verdict(Box::new(verdict))),
                Err(denial) => Ok(Outcome::Denied(Box::new(NotRelied { denial, decision: Some(read.decision) }))),
            }
        })
        .await;
        drop(place);
        judged.map_err(|error| Fault::Bug { what: format!("judging a passport: {error}") })?
    }
}

impl Read {
    fn judged(&self, trust: &Trust) -> Result<Judgement, Denial> {
        self.decision.judge(&self.passport, &self.challenge, &self.execution, &trust.judging, trust.revocations())
    }
}

fn intent(request: &Request) -> Option<&Intent> {
    match &request.asks {
        Asks::Authorize(asked) => Some(&asked.intent),
        Asks::Renew(renewing) => Some(&renewing.intent.intent),
        Asks::Capture => None,
    }
}

fn enrolled(node: &Node) -> EnrolledMachine {
    let machine: &Machine = &node.identity.machine;
    EnrolledMachine {
        kind: machine.kind(),
        ek: machine.tpm().map(|tpm| tpm.ek_digest),
        platform: machine.platform().cloned(),
    }
}

/// What is granted by it: the partner's result and measurements, and no longer than the partner's own lease.
fn verdict(read: &Read, trust: &Trust, judgement: Judgement) -> Result<Verdict, Fault> {
    let decision = read.decision.to_kept()?;
    let (policy, terms) = (trust.judging.policy(), judgement.relied.terms());
    let determining = judgement.rules.iter().map(|rule| Text::new(rule.id.clone()));
    Ok(Verdict {
        result: read.passport.result.to_vec(),
        evidence: Sha256Digest::of(&read.cose),
        decision: passport_subject(Sha256Digest::of(&decision)),
        documents: Vec::new(),
        kept: vec![(BlobKind::Decision, decision)],
        confirmation: terms.confirmation.key.clone(),
        node_key: judgement.holder,
        measurements: judgement.relied.measurements().clone(),
        register_digest: terms.conditions.register_digest,
        clock: None,
        report_id: None,
        restarted: crate::judge::Restarted::default(),
        policy_set: policy.digest(),
        policy_version: policy.document().version,
        determining: determining.collect::<Result<_, _>>().map_err(|error| Fault::Bug { what: error.to_string() })?,
        reference_sets: terms.policy.reference_sets.clone(),
        elsewhere: BTreeMap::from([(read.decision.partner.domain.clone(), vec![judgement.relied.record()])]),
        until: Some(terms.expires_at),
    })
}
