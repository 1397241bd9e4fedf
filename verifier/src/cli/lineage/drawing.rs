//! A lineage laid out: the words of each row, and the drawing as text and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, UNIX_EPOCH};

use audit::record::RecordBody;
use audit::tree::{Leaf, Row, Tree};
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use governance::intent::Intent;
use serde_json::{Value, json};

/// Longest command that is shown, in characters.
const COMMAND_CAP: usize = 48;

/// A tree, and which part of it is drawn.
pub(super) struct Drawing {
    pub(super) tree: Tree,
    pub(super) taken: BTreeSet<usize>,
    /// What was asked about.
    pub(super) about: BTreeSet<usize>,
    pub(super) intents: BTreeMap<Sha256Digest, Intent>,
}

/// The words of a row; names and codes are of a small character set, the rest is escaped.
pub(super) struct Words {
    /// `7 authorization`, `8–11 renewal ×4`.
    pub(super) what: String,
    /// What tells it from others of its kind.
    pub(super) detail: String,
    /// Whose it is; empty where that is said by what it hangs from.
    pub(super) place: String,
    pub(super) at: String,
    /// What was asked about is in it.
    pub(super) marked: bool,
}

impl Drawing {
    /// The rows, each with its words.
    pub(super) fn rows(&self) -> Vec<(Row, Words)> {
        let rows = self.tree.rows(&self.taken);
        let mut out: Vec<(Row, Words)> = Vec::with_capacity(rows.len());
        for row in rows {
            let stem = row.stem.and_then(|stem| out.get(stem)).and_then(|(stem, _)| self.first(stem));
            if let Some(words) = self.words(&row, stem) {
                out.push((row, words));
            }
        }
        out
    }

    fn first(&self, row: &Row) -> Option<&Leaf> {
        self.tree.leaves().get(*row.leaves.first()?)
    }

    fn words(&self, row: &Row, stem: Option<&Leaf>) -> Option<Words> {
        let (first, last) = (self.first(row)?, self.tree.leaves().get(*row.leaves.last()?)?);
        let (record, kind) = (&first.step.record, first.step.record.kind().name());
        let what = match row.leaves.len() {
            1 => format!("{} {kind}", first.step.index),
            count => format!("{}–{} {kind} ×{count}", first.step.index, last.step.index),
        };
        let whose = |leaf: &Leaf| (leaf.step.record.domain.clone(), leaf.step.record.node.clone());
        let place = match (stem.map(whose) == Some(whose(first)), &record.node) {
            (true, _) => String::new(),
            (false, Some(node)) => format!("{node} in {}", record.domain),
            (false, None) => record.domain.to_string(),
        };
        let mut detail = self.detail(first, last);
        if row.again {
            detail.push_str(" (as above)");
        }
        // Where most of it was asked about, a mark says nothing.
        let few = self.about.len() <= self.taken.len() / 2;
        let marked = few && row.leaves.iter().any(|at| self.about.contains(at));
        Some(Words { what, detail, place, at: time(record.at), marked })
    }

    fn detail(&self, first: &Leaf, last: &Leaf) -> String {
        let mut words = match &first.step.record.body {
            RecordBody::Intent { intent } => match self.intents.get(intent) {
                Some(intent) => command(&intent.workload.argv),
                None => short(intent),
            },
            RecordBody::Authorization { artifact, lease_seq, .. } | RecordBody::Renewal { artifact, lease_seq, .. } => {
                let newest = last.step.record.body.granted().map_or(*lease_seq, |granted| granted.lease_seq);
                let seq = if newest == *lease_seq { newest.to_string() } else { format!("{lease_seq}–{newest}") };
                format!("artifact {} lease {seq}", hex::encode(artifact.as_slice()))
            }
            RecordBody::Release { keys, .. } => {
                format!("keys {}", keys.iter().map(evidence::names::ItemName::as_str).collect::<Vec<_>>().join(", "))
            }
            RecordBody::JwtSvid { expires_at, .. } => format!("until {}", time(*expires_at)),
            RecordBody::Denial { code, .. } | RecordBody::Halt { code, .. } | RecordBody::Quarantine { code } => {
                code.to_string()
            }
            RecordBody::Alarm { code, artifact } => format!("{code} artifact {}", hex::encode(artifact.as_slice())),
            RecordBody::Federation { partner, code, .. } => format!("{partner} {code}"),
            RecordBody::Readmission { epoch, .. } | RecordBody::GovernanceState { epoch, .. } => {
                format!("epoch {epoch}")
            }
            RecordBody::Staging { version, .. }
            | RecordBody::Activation { version, .. }
            | RecordBody::Supersession { version, .. } => format!("version {version}"),
            RecordBody::Enrolment { .. }
            | RecordBody::Admission { .. }
            | RecordBody::Capture { .. }
            | RecordBody::End { .. }
            | RecordBody::Restart { .. }
            | RecordBody::Revocation { .. } => String::new(),
        };
        for at in &first.also {
            if let Some(other) = self.tree.leaves().get(*at) {
                words.push_str(&format!(" after {} of {}", other.step.index, other.step.record.domain));
            }
        }
        for (domain, digest) in &first.absent {
            words.push_str(&format!(" after {} of {domain}, not here", short(digest)));
        }
        words.trim_start().to_owned()
    }

    /// Lines with branches, for people.
    pub(super) fn text(&self) -> String {
        let rows = self.rows();
        // Whether a row at this depth follows before the branch ends: from the last row up.
        let mut open: Vec<bool> = Vec::new();
        let mut lines: Vec<String> = Vec::with_capacity(rows.len());
        for (row, words) in rows.iter().rev() {
            open.resize(row.depth.saturating_add(1), false);
            let mut line = String::new();
            for level in 1..row.depth {
                line.push_str(if open.get(level) == Some(&true) { "│  " } else { "   " });
            }
            if row.depth > 0 {
                line.push_str(if open.get(row.depth) == Some(&true) { "├─ " } else { "└─ " });
            }
            if let Some(level) = open.last_mut() {
                *level = true;
            }
            let mark = if words.marked { "*" } else { "" };
            let parts = [&words.what, mark, &words.place, &words.detail, &words.at].map(str::to_owned);
            line.push_str(&parts.into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join("  "));
            lines.push(line);
        }
        lines.reverse();
        lines.join("\n")
    }

    /// Every record drawn, with what it hangs from.
    pub(super) fn document(&self) -> Value {
        let leaves = self.tree.leaves();
        let named = |places: &[usize]| -> Vec<Sha256Digest> {
            places.iter().filter_map(|at| leaves.get(*at)).map(|leaf| leaf.step.digest).collect()
        };
        let records = self.taken.iter().filter_map(|at| leaves.get(*at)).map(|leaf| {
            let record = &leaf.step.record;
            json!({
                "domain": record.domain,
                "index": leaf.step.index,
                "kind": record.kind().name(),
                "node": record.node,
                "subject": record.subject,
                "at": record.at,
                "record": leaf.step.digest,
                "artifact": record.body.granted().map(|granted| hex::encode(granted.artifact)),
                "command": self.intents.get(&record.subject).map(|intent| &intent.workload.argv),
                "detail": self.detail(leaf, leaf),
                "hangs_from": named(&leaf.stems),
                "follows": named(&leaf.also),
                "absent": leaf.absent.iter().map(|(domain, record)| json!({ "domain": domain, "record": record }))
                    .collect::<Vec<_>>(),
            })
        });
        let records: Vec<Value> = records.collect();
        json!({ "about": named(&self.about.iter().copied().collect::<Vec<_>>()), "records": records })
    }
}

fn command(argv: &[String]) -> String {
    // Whoever asked chose it: no character of it steers a terminal. Quotes stay as they are.
    let plain = |c: char| match c {
        '\'' | '"' | '\\' => c.to_string(),
        c => c.escape_debug().to_string(),
    };
    let whole: String = argv.join(" ").chars().map(plain).collect();
    if whole.chars().count() <= COMMAND_CAP {
        return whole;
    }
    format!("{}…", whole.chars().take(COMMAND_CAP).collect::<String>())
}

fn short(digest: &Sha256Digest) -> String {
    format!("{}…", digest.to_string().trim_start_matches("sha256:").chars().take(12).collect::<String>())
}

fn time(at: UnixSeconds) -> String {
    let time = UNIX_EPOCH.checked_add(Duration::from_secs(at.0));
    time.map_or_else(|| at.to_string(), |time| humantime::format_rfc3339_seconds(time).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_shown_short_and_steers_no_terminal() {
        assert_eq!(
            command(&["sh".to_owned(), "-c".to_owned(), "echo 'a'\u{1b}[31m".to_owned()]),
            "sh -c echo 'a'\\u{1b}[31m"
        );
        let long = command(&["x".repeat(100)]);
        assert_eq!((long.chars().count(), long.ends_with('…')), (COMMAND_CAP + 1, true));
    }
}
