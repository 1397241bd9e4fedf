//! What is known of a machine that was refused: of every set that was ever signed the one that comes nearest, where the two
//! part, and the commands by which a machine like this would be known.

use std::cmp::Reverse;

use evidence::names::NodeId;
use evidence::time::UnixSeconds;
use firmware_refs::lifecycle::{HistoryEntry, Stage};
use firmware_refs::observed::Observed;
use firmware_refs::{InForce, ReferenceDenial, ReferenceValues};
use policy::Denial;
use policy::denial::Failure;
use serde_json::{Value, json};

use super::{DeskJudgements, Remade};
use crate::governor::{ListedSet, OrderRefusal};

/// Most sets that one denial is compared with: of more, those that changed last.
const COMPARED_CAP: usize = 64;

/// What is known of a refused machine.
pub(super) struct Known {
    node: Option<NodeId>,
    /// Log index of the denial.
    entry: u64,
    nearest: Option<Near>,
    compared: usize,
    /// Sets that were not compared: not signed by enough keys, or beyond the cap.
    left_out: usize,
}

/// The set that comes nearest.
struct Near {
    name: String,
    version: u64,
    signer: String,
    /// How it came to stand where it does, and that in a word.
    stage: HistoryEntry,
    state: &'static str,
    /// Name of the set that replaced it.
    replaced_by: Option<String>,
    /// Out of force by its own times, now.
    validity: Option<ReferenceDenial>,
    /// What differs, in the order in which it is judged; nothing when all matches.
    differs: Vec<ReferenceDenial>,
}

impl DeskJudgements {
    /// Looks for the nearest set among all that were ever signed for this kind of machine; nothing when no denial is
    /// about a value that a set could know.
    pub(super) async fn known(
        &self,
        remade: &Remade,
        denials: &[Denial],
        node: Option<&NodeId>,
        entry: u64,
    ) -> Result<Option<Known>, OrderRefusal> {
        if !denials.iter().any(is_of_unknown_value) {
            return Ok(None);
        }
        let now = self.desk.now()?;
        let listed = self.governor.list_references().await?;
        let all = listed.len();
        let names: Vec<_> =
            listed.iter().map(|set| (set.digest, format!("{} version {}", set.name, set.version))).collect();
        let mut signed: Vec<_> =
            listed.into_iter().filter_map(|set| Some((set.history.last()?.clone(), set))).collect();
        signed.sort_by_key(|(stage, _)| Reverse(stage.at));
        signed.truncate(COMPARED_CAP);
        let left_out = all.saturating_sub(signed.len());
        let (mut nearest, mut compared) = (None::<Near>, 0_usize);
        for (stage, set) in signed {
            let replaced_by = match stage.stage {
                Stage::Superseded { by, .. } => {
                    names.iter().find(|(digest, _)| *digest == by).map(|(_, name)| name.clone())
                }
                Stage::Staged | Stage::Active { .. } | Stage::Revoked { .. } => None,
            };
            let Some(near) = self.compared(remade, stage, &set, now).await? else { continue };
            let near = Near { replaced_by, ..near };
            compared = compared.saturating_add(1);
            if nearest.as_ref().is_none_or(|best| near.rank() < best.rank()) {
                nearest = Some(near);
            }
        }
        Ok(Some(Known { node: node.cloned(), entry, nearest, compared, left_out }))
    }

    /// Nothing for a set of another kind of machine, or where nothing can be said of what was measured.
    async fn compared(
        &self,
        remade: &Remade,
        stage: HistoryEntry,
        listed: &ListedSet,
        now: UnixSeconds,
    ) -> Result<Option<Near>, OrderRefusal> {
        let signed = self.governor.references_by_digest(&listed.digest).await?;
        let Remade { case, trust, .. } = remade;
        if signed.set().kind() != case.evidence.kind() {
            return Ok(None);
        }
        let values = ReferenceValues::new(vec![InForce::active(signed)])?;
        let failures = |observed: &Observed<'_>| values.all_failures(observed, now);
        let (evidence, held) = (&case.evidence, &case.endorsements);
        let failures = policy::explain::measured(evidence, held, &case.challenge, trust, case.now, failures);
        let signer = values.sets().first().map(|set| set.name().signer()).unwrap_or_default();
        Ok(failures.map(|failures| {
            let (validity, differs): (Vec<_>, Vec<_>) = failures.into_iter().partition(ReferenceDenial::is_of_validity);
            let validity = validity.into_iter().next();
            let (name, version, state) = (listed.name.clone(), listed.version, listed.state);
            Near { name, version, signer, stage, state, replaced_by: None, validity, differs }
        }))
    }
}

fn is_of_unknown_value(denial: &Denial) -> bool {
    matches!(denial, Denial::Reference(reference) if reference.is_of_unknown_value() || reference.is_of_validity())
}

impl Near {
    /// Fewest differences first, then what would let the machine in soonest, then the highest version.
    fn rank(&self) -> (usize, u8, Reverse<u64>) {
        let stage = match self.stage.stage {
            Stage::Active { .. } => 0,
            Stage::Staged => 1,
            Stage::Superseded { .. } => 2,
            Stage::Revoked { .. } => 3,
        };
        (self.differs.len(), stage, Reverse(self.version))
    }

    /// In words, and whether a new set is what helps.
    fn says(&self, now_known: &str) -> (String, Helps) {
        let (name, version) = (&self.name, self.version);
        if let Some(first) = self.differs.first() {
            let more = match self.differs.len().saturating_sub(1) {
                0 => String::new(),
                more => format!(", and {more} more"),
            };
            let what = format!("nearest is {name} version {version} ({}): {first}{more}", self.state);
            return (what, Helps::NewSet);
        }
        if let (Some(validity), false) = (&self.validity, matches!(self.stage.stage, Stage::Revoked { .. })) {
            return (format!("all matches {name} version {version}, but {validity}"), Helps::NewSet);
        }
        match self.stage.stage {
            Stage::Active { since } => {
                (format!("all matches {name} version {version}, active since {since}: attest again"), Helps::Nothing)
            }
            Stage::Staged => {
                (format!("all matches {name} version {version}, which is staged and not active"), Helps::Activation)
            }
            Stage::Superseded { grace_until, .. } => {
                let by = self.replaced_by.as_deref().unwrap_or("another set");
                let over = format!("superseded by {by}, and out of its grace window at {grace_until}");
                (format!("all matches {name} version {version}, {over}: update {now_known}"), Helps::NewSet)
            }
            Stage::Revoked { since } => {
                let why = format!("revoked at {since}: {}", self.stage.reason);
                (format!("all matches {name} version {version}, {why}; update {now_known}"), Helps::Nothing)
            }
        }
    }

    fn to_json(&self) -> Value {
        let first = self.differs.first().cloned().map(|denial| {
            let Failure { claim, got, accepted, .. } = Denial::from(denial).failure();
            json!({ "claim": claim, "got": got, "accepted": accepted })
        });
        json!({
            "id": self.name,
            "version": self.version,
            "signer": self.signer,
            "stage": self.state,
            "differences": self.differs.len(),
            "first": first,
        })
    }
}

/// What an operator can do, if the machine is as it should be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Helps {
    Nothing,
    Activation,
    NewSet,
}

impl Known {
    /// A denial's document with what is known: in the hint of the first failure that is about reference values, and apart.
    pub(super) fn told_with(&self, mut denied: Value) -> Value {
        let machine = self.node.as_ref().map_or_else(|| "the machine".to_owned(), ToString::to_string);
        let (says, helps) = match &self.nearest {
            Some(near) => near.says(&machine),
            None => ("no set was ever signed for this kind of machine".to_owned(), Helps::NewSet),
        };
        let steps = self.steps(helps);
        let commands: Vec<_> = steps.iter().map(|(command, _)| format!("`{command}`")).collect();
        let failures = denied.get_mut("failures").and_then(Value::as_array_mut);
        let is_of_references =
            |failure: &&mut Value| failure["code"].as_str().is_some_and(|c| c.starts_with("reference."));
        if let Some(failure) = failures.and_then(|all| all.iter_mut().find(is_of_references)) {
            let hint = failure["hint"].as_str().unwrap_or_default();
            let hint = [&[hint.to_owned(), says.clone()], commands.as_slice()].concat().join("; ");
            failure["hint"] = Value::String(hint);
        }
        let rows: Vec<_> = steps.iter().map(|(command, does)| json!({ "command": command, "does": does })).collect();
        if let Some(fields) = denied.as_object_mut() {
            let nearest = self.nearest.as_ref().map(Near::to_json);
            let sets = json!({ "compared": self.compared, "left_out": self.left_out });
            fields.extend([("nearest".to_owned(), json!(nearest)), ("sets".to_owned(), sets)]);
            fields.extend([("known".to_owned(), json!(says)), ("next".to_owned(), json!(rows))]);
        }
        denied
    }

    fn steps(&self, helps: Helps) -> Vec<(String, &'static str)> {
        match (helps, &self.nearest, &self.node) {
            (Helps::Activation, Some(near), _) => {
                let activate = format!("verifier refs activate {}:{} --signer KEY", near.name, near.version);
                vec![(activate, "makes the staged set active")]
            }
            (Helps::NewSet, _, Some(node)) => vec![
                (
                    format!("verifier refs capture {node} --entry {} --out {node}.toml", self.entry),
                    "proposes a set that knows what this evidence shows: read it before you sign it",
                ),
                (format!("verifier refs import {node}.toml --signer KEY"), "signs it and stages it"),
                (format!("verifier refs activate {node} --signer KEY"), "makes it active"),
            ],
            (Helps::Nothing | Helps::Activation, ..) | (Helps::NewSet, _, None) => Vec::new(),
        }
    }
}
