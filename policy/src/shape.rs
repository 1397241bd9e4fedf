//! Which optional attributes a question has, and which such shapes are known to fit the schema.
//!
//! Every attribute of a context comes from a field of one Rust type (text, 64-bit number, truth, or a set of
//! one of these), so whether a context fits the schema depends on the action and on which optional attributes
//! are there, and on nothing else of it. The schema is therefore asked once for each shape, with the first
//! question that has it; a shape that did not fit is asked again every time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::claims::{Claims, IntentClaims, IsolationClaims, Question, ReferenceClaims, SnpFacts, TdxFacts, TpmFacts};
use crate::schema::Action;

/// The action of a question, and one bit for each optional attribute that it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shape {
    action: Action,
    present: u32,
}

impl Shape {
    /// The shape of `question`. Every field is named, so that a new one cannot be forgotten here: an optional one
    /// needs a bit.
    pub(crate) fn of(question: &Question<'_>) -> Self {
        let present = match question {
            Question::Attest { claims } => of_claims(claims),
            Question::Execute { claims, intent, scope: _, renewal: _ } => of_claims(claims) | of_intent(intent),
            Question::Release { claims, intent, key: _, labels: _ } => of_claims(claims) | of_intent(intent),
            Question::Witness { partner: _, domain: _, epoch: _, now: _, origin: _ } => NONE,
            Question::Federate {
                partner: _,
                domain: _,
                epoch: _,
                now: _,
                kind: _,
                subject: _,
                result_age_s: _,
                state_age_s: _,
            } => NONE,
        };
        Self { action: question.action(), present }
    }
}

fn of_claims(claims: &Claims) -> u32 {
    let Claims {
        node: _,
        domain: _,
        kind: _,
        environment: _,
        simulated: _,
        epoch: _,
        now: _,
        reference,
        tpm,
        snp,
        tdx,
    } = claims;
    let ReferenceClaims { id: _, version: _, age_s: _, grace: _ } = reference;
    tpm.as_ref().map_or(NONE, of_tpm) | snp.as_ref().map_or(NONE, of_snp) | tdx.as_ref().map_or(NONE, of_tdx)
}

fn of_tpm(tpm: &TpmFacts) -> u32 {
    let TpmFacts {
        ek: _,
        ek_pinned: _,
        ak: _,
        manufacturer: _,
        firmware: _,
        bank: _,
        pcrs: _,
        event_log: _,
        ima_log: _,
        secure_boot,
        reset_count: _,
        restart_count: _,
    } = tpm;
    TPM | secure_boot.map_or(NONE, |_| TPM_SECURE_BOOT)
}

fn of_snp(snp: &SnpFacts) -> u32 {
    let SnpFacts {
        product: _,
        chip: _,
        provider: _,
        report_version: _,
        vmpl: _,
        guest_svn: _,
        measurement: _,
        host_data: _,
        id_key: _,
        author_key: _,
        boot_loader: _,
        tee: _,
        snp: _,
        microcode: _,
        firmware: _,
        smt: _,
        alias_check: _,
        ciphertext_hiding: _,
    } = snp;
    SNP
}

fn of_tdx(tdx: &TdxFacts) -> u32 {
    let TdxFacts {
        ppid: _,
        mrtd: _,
        rtmr0: _,
        rtmr1: _,
        rtmr2: _,
        rtmr3: _,
        mrconfigid: _,
        mrowner: _,
        mrownerconfig: _,
        tcb_status: _,
        advisories: _,
        tcb_evaluation: _,
        perfmon: _,
        event_log: _,
    } = tdx;
    TDX
}

fn of_intent(intent: &IntentClaims) -> u32 {
    let IntentClaims {
        requester: _,
        executable: _,
        program: _,
        arguments: _,
        capabilities: _,
        keys: _,
        labels: _,
        child: _,
        isolation,
        attached: _,
        image: _,
        on_halt: _,
        drain_ms: _,
    } = intent;
    of_isolation(isolation)
}

fn of_isolation(isolation: &IsolationClaims) -> u32 {
    let IsolationClaims {
        seccomp: _,
        confine_files: _,
        read: _,
        write: _,
        confine_signals: _,
        privileges: _,
        cgroup: _,
        memory_bytes: _,
        processes: _,
        cpu_millis: _,
    } = isolation;
    NONE
}

const NONE: u32 = 0;
const TPM: u32 = 1 << 0;
const TPM_SECURE_BOOT: u32 = 1 << 1;
const SNP: u32 = 1 << 2;
const TDX: u32 = 1 << 3;

/// The shapes that the schema accepted, of one policy set. No lock: a bit that is not seen yet costs one more look
/// at the schema.
#[derive(Clone, Debug, Default)]
pub(crate) struct FittingShapes {
    /// By action, in the order of [`Action::ALL`]; bit n of an entry is the shape whose `present` is n.
    by_action: Arc<[AtomicU64; 5]>,
}

impl FittingShapes {
    /// Has a context of this shape fitted the schema before?
    pub(crate) fn contains(&self, shape: Shape) -> bool {
        bit(shape).is_some_and(|bit| self.of(shape.action).load(Ordering::Relaxed) & bit != 0)
    }

    /// A context of this shape fitted the schema.
    pub(crate) fn insert(&self, shape: Shape) {
        // A shape beyond the bits is asked about every time.
        if let Some(bit) = bit(shape) {
            self.of(shape.action).fetch_or(bit, Ordering::Relaxed);
        }
    }

    fn of(&self, action: Action) -> &AtomicU64 {
        action.of(&self.by_action)
    }
}

fn bit(shape: Shape) -> Option<u64> {
    1u64.checked_shl(shape.present)
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use cedar_policy::Schema;

    use super::*;
    use crate::testdata::{claims, intent, set_of, snp, tdx};

    /// Claims with each combination of optional attributes.
    fn claims_of_every_shape() -> Vec<Claims> {
        let tpm = claims().tpm.expect("claims of a TPM");
        let facts = [None, Some(false), Some(true)].map(|secure_boot| TpmFacts { secure_boot, ..tpm.clone() });
        let empty = TpmFacts { pcrs: vec![], ..tpm.clone() };
        let tpms = facts.into_iter().chain([empty]).map(Some).chain([None]);
        let advised = TdxFacts { advisories: vec!["INTEL-SA-00615".to_owned()], ..tdx() };
        let tees = [(None, None), (Some(snp()), None), (None, Some(tdx())), (None, Some(advised))];
        let with =
            |tpm: Option<TpmFacts>| tees.clone().map(|(snp, tdx)| Claims { tpm: tpm.clone(), snp, tdx, ..claims() });
        tpms.flat_map(with).collect()
    }

    fn questions() -> Vec<Question<'static>> {
        let partner = || ("b.example".to_owned(), "a.example".to_owned());
        let mut all = Vec::new();
        for claims in claims_of_every_shape() {
            all.push(Question::Attest { claims: Cow::Owned(claims.clone()) });
            for full in [true, false] {
                let some = |text: &str| if full { vec![text.to_owned()] } else { vec![] };
                let (capabilities, keys, labels) = (some("net_admin"), some("k"), some("a=b"));
                let intent = IntentClaims { capabilities, keys, labels, ..intent() };
                let (claims, scope) = (claims.clone(), "default".to_owned());
                all.push(Question::Execute {
                    claims: Cow::Owned(claims.clone()),
                    intent: Cow::Owned(intent.clone()),
                    scope,
                    renewal: full,
                });
                all.push(Question::Release {
                    claims: Cow::Owned(claims),
                    intent: Cow::Owned(intent),
                    key: "k".to_owned(),
                    labels: some("a=b"),
                });
            }
        }
        let (epoch, now, (partner, domain)) = (i64::MAX, i64::MIN, partner());
        let (kind, subject) = ("tpm".to_owned(), String::new());
        let origin = "b.example/log".to_owned();
        all.push(Question::Witness { partner: partner.clone(), domain: domain.clone(), epoch, now, origin });
        let (result_age_s, state_age_s) = (0, -1);
        all.push(Question::Federate { partner, domain, epoch, now, kind, subject, result_age_s, state_age_s });
        all
    }

    #[test]
    fn every_shape_of_question_fits_the_schema() {
        let mut shapes = Vec::new();
        for question in questions() {
            // a fresh set each time, so that the schema is asked
            let set = set_of("@id(\"yes\") permit (principal, action, resource);");
            assert!(!set.fitting.contains(Shape::of(&question)));
            set.prepare(&question).unwrap_or_else(|denial| panic!("{question:?}: {denial}"));
            assert!(set.fitting.contains(Shape::of(&question)), "and it is known from then on");
            shapes.push(Shape::of(&question));
        }
        for action in Action::ALL {
            let of_action = |shape: &&Shape| shape.action == action;
            let mut present: Vec<u32> = shapes.iter().filter(of_action).map(|shape| shape.present).collect();
            present.sort_unstable();
            present.dedup();
            let wanted: &[u32] = match action {
                Action::Attest | Action::Execute | Action::Release => &[
                    NONE,
                    TPM,
                    TPM | TPM_SECURE_BOOT,
                    SNP,
                    SNP | TPM,
                    SNP | TPM | TPM_SECURE_BOOT,
                    TDX,
                    TDX | TPM,
                    TDX | TPM | TPM_SECURE_BOOT,
                ],
                Action::Witness | Action::Federate => &[NONE],
            };
            assert_eq!(present, wanted, "{action}");
        }
    }

    #[test]
    fn a_shape_that_does_not_fit_is_denied_every_time() {
        let mut set = set_of("@id(\"yes\") permit (principal, action, resource);");
        let narrower = crate::schema::SCHEMA.replace("tpm?: Tpm,", "");
        set.schema = Schema::from_cedarschema_str(&narrower).expect("a schema").0;
        let without = Question::Attest { claims: Cow::Owned(Claims { tpm: None, ..claims() }) };
        let with = Question::Attest { claims: Cow::Owned(claims()) };
        for _ in 0..3 {
            assert_eq!(set.ask(&with).unwrap_err().code(), "policy.request_invalid");
            assert!(set.ask(&without).is_ok(), "another shape says nothing about this one");
        }
    }

    #[test]
    fn a_shape_fits_for_its_own_action_only_and_beyond_the_bits_never() {
        let fitting = FittingShapes::default();
        for action in Action::ALL {
            let shape = Shape { action, present: 63 };
            assert!(!fitting.contains(shape), "{action}");
            fitting.insert(shape);
            assert!(fitting.contains(shape) && !fitting.contains(Shape { action, present: 62 }));
            let beyond = Shape { action, present: 64 };
            fitting.insert(beyond);
            assert!(!fitting.contains(beyond));
        }
    }
}
