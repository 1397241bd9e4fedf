//! Logged decisions, made again with a candidate in the place of what was in force: who would break, who would be mended.
//! Grants, logs and remembers nothing.

use std::sync::Arc;

use audit::record::VerifiedRecord;
use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use governance::revocation::RevocationList;
use policy::Denial;
use serde_json::Value;
use wire::proto::Backtest;

use super::candidate::Candidate;
use super::verdict::Logged;
use super::{DeskJudgements, failures, kept};
use crate::backtest::{Break, Entries, Found, Mend, Page, Totals, Unjudged};
use crate::decision::TrustInputs;
use crate::fault::Fault;
use crate::governor::OrderRefusal;
use crate::judge::{self, Case};
use crate::log::Entry;

/// Entries of the log that one page looks at.
const PAGE: u64 = 256;
/// Most failures of one decision that are told.
const FAILURES_CAP: usize = 16;

/// What decisions of one moment were judged by, and what they would have been judged by.
struct Trusts {
    inputs: TrustInputs,
    then: policy::Trust,
    with: policy::Trust,
    revocations: RevocationList,
}

/// What one decision would have come to.
enum Outcome {
    Same,
    /// Permitted then, and now all of this stands against it.
    Breaks(Vec<Denial>),
    Mends,
    /// Denied then for something that is not judged from evidence.
    DeniedOtherwise,
    Unjudged(String),
}

impl DeskJudgements {
    /// Judges a page of the log again, from the entry before `before` downwards, until what was logged before `since`.
    pub(super) async fn tried(&self, asked: Backtest) -> Result<Value, OrderRefusal> {
        let since = UnixSeconds(asked.since);
        let candidate = self.candidate(&asked, since, self.desk.now()?).await?;
        let log = &self.desk.parts.log;
        let before = asked.before.unwrap_or(u64::MAX).min(log.size());
        let from = before.saturating_sub(PAGE);
        let mut page = Page { candidate: candidate.told.clone(), next: (from > 0).then_some(from), ..Page::default() };
        let keys = self.desk.parts.issuer.known();
        let mut trusts = None;
        let entries = log.range(from, before).await?;
        for (index, bytes) in (from..before).rev().zip(entries.into_iter().rev()) {
            let entry = Entry { index, bytes };
            let verified = VerifiedRecord::verify(&entry.bytes, self.desk.domain(), &keys)?;
            let record = verified.record();
            if record.at < since {
                page.next = None;
                break;
            }
            page.reached = Some(record.at);
            if let Some(logged) = Logged::of(record) {
                let outcome = self.again(&entry, &logged, &candidate, &mut trusts).await?;
                page.found.add(found(&logged.node, logged.code, index, outcome));
            }
        }
        serde_json::to_value(page).map_err(|error| OrderRefusal::Bug(error.to_string()))
    }

    async fn again(
        &self,
        entry: &Entry,
        logged: &Logged,
        candidate: &Candidate,
        trusts: &mut Option<Arc<Trusts>>,
    ) -> Result<Outcome, OrderRefusal> {
        match self.remade_with(entry, candidate, trusts).await {
            Ok(None) => Ok(Outcome::DeniedOtherwise),
            Ok(Some(case)) => {
                let Some(trusts) = trusts.clone() else { return Ok(Outcome::Unjudged(NOT_KEPT.to_owned())) };
                self.judged_off(case, trusts, logged.code.is_none()).await
            }
            Err(refusal @ (OrderRefusal::Store(_) | OrderRefusal::Clock(_) | OrderRefusal::NotJudged(_))) => {
                Err(refusal)
            }
            Err(OrderRefusal::Unknown { what, .. }) => Ok(Outcome::Unjudged(format!("{what}: {NOT_KEPT}"))),
            Err(refusal) => Ok(Outcome::Unjudged(refusal.to_string())),
        }
    }

    /// The case behind an entry, with the trusts to judge it by left in `trusts`: neighbours in the log share them. Nothing
    /// when there was no judgement of evidence.
    async fn remade_with(
        &self,
        entry: &Entry,
        candidate: &Candidate,
        trusts: &mut Option<Arc<Trusts>>,
    ) -> Result<Option<Case>, OrderRefusal> {
        let Some(decision) = kept::decision(&self.desk, entry).await? else { return Ok(None) };
        if trusts.as_ref().is_none_or(|trusts| trusts.inputs != decision.trust) {
            *trusts = None;
            let then = self.trust(&decision.trust).await?;
            let with = candidate.in_place(&then)?;
            let revocations = self.governor.revocations_under(&decision.trust.state).await?;
            *trusts = Some(Arc::new(Trusts { inputs: decision.trust.clone(), then, with, revocations }));
        }
        let Some(trusts) = trusts else { return Ok(None) };
        self.case(&decision, trusts.then.anchors()).await.map(Some)
    }

    /// Off the IO threads, in one of the places of live appraisals.
    async fn judged_off(&self, case: Case, trusts: Arc<Trusts>, permitted: bool) -> Result<Outcome, OrderRefusal> {
        let place = self.desk.appraisals.acquire().await.map_err(|_| Fault::ShuttingDown)?;
        let judged = tokio::task::spawn_blocking(move || outcome(&case, &trusts, permitted)).await;
        drop(place);
        judged.map_err(|error| OrderRefusal::Bug(format!("back-test: {error}")))
    }
}

fn outcome(case: &Case, trusts: &Trusts, permitted: bool) -> Outcome {
    let as_then = || judge::judge(case, &trusts.then, &trusts.revocations);
    match (permitted, judge::judge(case, &trusts.with, &trusts.revocations)) {
        (true, Ok(_)) | (false, Err(_)) => Outcome::Same,
        (false, Ok(_)) => match as_then() {
            Ok(_) => Outcome::DeniedOtherwise,
            Err(_) => Outcome::Mends,
        },
        (true, Err(deciding)) => {
            if let Err(denial) = as_then() {
                let what = "as it was then, this program denies it too";
                return Outcome::Unjudged(format!("{what} ({}): another version permitted it", denial.code()));
            }
            let absent = |denial: &Denial| matches!(denial, Denial::Reference(denial) if denial.is_of_absence());
            let (absent, against): (Vec<_>, Vec<_>) =
                failures(case, &trusts.with, deciding).into_iter().partition(absent);
            match (against.is_empty(), absent.first()) {
                (true, Some(absent)) => Outcome::Unjudged(format!("the evidence was not asked for it: {absent}")),
                (true, None) | (false, _) => Outcome::Breaks(against),
            }
        }
    }
}

/// One decision, as a page of its own.
fn found(node: &NodeId, code: Option<String>, index: u64, outcome: Outcome) -> Found {
    let (mut found, at) = (Found::default(), Entries::one(index));
    let totals: &mut Totals = &mut found.totals;
    totals.decisions = 1;
    match (outcome, code) {
        (Outcome::Same | Outcome::DeniedOtherwise | Outcome::Mends, None) => totals.still_permitted = 1,
        (Outcome::Same | Outcome::Breaks(_), Some(_)) => totals.still_denied = 1,
        (Outcome::DeniedOtherwise, Some(_)) => totals.denied_otherwise = 1,
        (Outcome::Mends, Some(code)) => {
            totals.mended = 1;
            found.mends.push(Mend { node: node.clone(), code, at });
        }
        (Outcome::Breaks(denials), None) => {
            totals.broken = 1;
            let failures = denials.iter().take(FAILURES_CAP).map(Denial::failure);
            found.breaks.extend(failures.map(|failure| Break::of(node, failure, index)));
        }
        (Outcome::Unjudged(why), code) => {
            let sum = if code.is_none() { &mut totals.permitted_unjudged } else { &mut totals.denied_unjudged };
            *sum = 1;
            found.unjudged.push(Unjudged { why, at });
        }
    }
    found
}

/// Said of what the evidence store gave up.
const NOT_KEPT: &str = "no longer kept";
