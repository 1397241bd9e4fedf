//! `verifier refs backtest` and `verifier policy backtest`: who would break, had a candidate been in force.

use std::path::Path;

use clap::Args;
use evidence::time::UnixSeconds;
use firmware_refs::set::ReferenceValueSet;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};
use wire::proto::backtest::Candidate;
use wire::proto::{Backtest, operator_command::Command};

use super::service::Service;
use super::signing::{now, read_text};
use super::{CommandError, Common, Format, output};
use crate::backtest::{Found, Page};

const SECONDS_A_DAY: u64 = 24 * 3600;

/// What is tried, and on what.
#[derive(Args, Debug)]
pub(super) struct BacktestArgs {
    /// A file, or NAME:VERSION of one that was imported.
    candidate: String,
    /// How many days back decisions are judged again.
    #[arg(long, value_name = "N", default_value_t = 7)]
    days: u64,
}

impl BacktestArgs {
    /// Tries a reference value set.
    pub(super) async fn references(&self, common: &Common) -> Result<(), CommandError> {
        let candidate = match self.file() {
            None => Candidate::ReferencesNamed(self.candidate.clone()),
            Some(file) => {
                let unusable =
                    |error: &dyn std::fmt::Display| CommandError::Usage(format!("{}: {error}", file.display()));
                let set = ReferenceValueSet::from_toml(&read_text(file)?).map_err(|error| unusable(&error))?;
                Candidate::References(set.to_cbor().map_err(|error| unusable(&error))?)
            }
        };
        self.tried(candidate, common).await
    }

    /// Tries a policy set.
    pub(super) async fn policy(&self, common: &Common) -> Result<(), CommandError> {
        let candidate = match self.file() {
            None => Candidate::PolicyNamed(self.candidate.clone()),
            Some(file) => Candidate::Policy(read_text(file)?),
        };
        self.tried(candidate, common).await
    }

    fn file(&self) -> Option<&Path> {
        let path = Path::new(&self.candidate);
        path.exists().then_some(path)
    }

    /// A candidate that is none is misuse: exit code 3 says that decisions were judged.
    async fn tried(&self, candidate: Candidate, common: &Common) -> Result<(), CommandError> {
        let until = now()?;
        let since = UnixSeconds(until.0.saturating_sub(self.days.saturating_mul(SECONDS_A_DAY)));
        let mut service = Service::connect(&common.state).await?;
        let mut asked = Backtest { candidate: Some(candidate), since: since.0, before: None };
        let mut whole = Page::default();
        let bar = bar(until.0.saturating_sub(since.0));
        loop {
            let document = match service.ask(Command::Backtest(asked.clone())).await {
                Ok(answer) => answer.document,
                Err(CommandError::Denied { code, detail }) => {
                    return Err(CommandError::Usage(format!("{} ({code})", detail.as_str().unwrap_or_default())));
                }
                Err(error) => return Err(error),
            };
            let page: Page =
                serde_json::from_value(document).map_err(|error| CommandError::fault("fault.service", error))?;
            whole.reached = page.reached.or(whole.reached);
            whole.candidate = page.candidate;
            whole.found.add(page.found);
            bar.set_position(whole.reached.map_or(0, |at| until.0.saturating_sub(at.0)));
            match page.next {
                // it only ever goes down, whatever the service says
                Some(next) if asked.before.is_none_or(|before| next < before) => asked.before = Some(next),
                Some(_) | None => break,
            }
        }
        bar.finish_and_clear();
        self.conclude(&whole, common.format)
    }

    fn conclude(&self, whole: &Page, format: Format) -> Result<(), CommandError> {
        let verdict = Verdict::of(&whole.found);
        let document = document(whole, self.days, &verdict);
        if format == Format::Text {
            output::line(&text(whole, self.days));
        }
        match (verdict, format) {
            (Verdict::NobodyBreaks, Format::Json) => output::json(&document),
            (Verdict::NobodyBreaks, Format::Text) => {}
            (Verdict::Breaks(what), format) => {
                let detail = if format == Format::Json { document } else { what.into() };
                return Err(CommandError::Denied { code: "backtest.breaks".to_owned(), detail });
            }
            (Verdict::Undecided(_), _) => {
                return Err(CommandError::Undecided { code: "fault.backtest_undecided".to_owned(), document });
            }
        }
        Ok(())
    }
}

enum Verdict {
    NobodyBreaks,
    Breaks(String),
    Undecided(String),
}

impl Verdict {
    /// That nobody breaks can only be said when everything that was permitted was judged again, and there was something.
    fn of(found: &Found) -> Self {
        let totals = found.totals;
        if totals.broken > 0 {
            let nodes = found.nodes_broken();
            return Self::Breaks(format!("{} decisions about {nodes} nodes would be denials", totals.broken));
        }
        if totals.permitted_unjudged > 0 {
            let what = "decisions that permitted something could not be judged again";
            return Self::Undecided(format!("{} {what}", totals.permitted_unjudged));
        }
        if totals.decisions == 0 {
            return Self::Undecided("no decision was logged in that time: nothing to judge by".to_owned());
        }
        Self::NobodyBreaks
    }
}

/// The shape of every denial, with what is known beside it.
fn document(whole: &Page, days: u64, verdict: &Verdict) -> Value {
    let found = &whole.found;
    let mut document = json!({
        "candidate": whole.candidate,
        "days": days,
        "grants": "nothing",
        "totals": found.totals,
        "nodes_broken": found.nodes_broken(),
        "failures": found.breaks,
        "mended": found.mends,
        "unjudged": found.unjudged,
    });
    if let Some(fields) = document.as_object_mut() {
        let decision = match verdict {
            Verdict::NobodyBreaks => "affirmed",
            Verdict::Breaks(_) => "denied",
            Verdict::Undecided(_) => "fault",
        };
        fields.insert("decision".to_owned(), json!(decision));
        if let Verdict::Undecided(why) = verdict {
            fields.insert("code".to_owned(), json!("fault.backtest_undecided"));
            fields.insert("error".to_owned(), json!(why));
        }
    }
    document
}

fn text(whole: &Page, days: u64) -> String {
    let (found, totals) = (&whole.found, whole.found.totals);
    let said = |name: &str| whole.candidate.get(name).map(plain).unwrap_or_default();
    let place = match said("in_place_of").as_str() {
        "" => "in addition to what was in force".to_owned(),
        others => format!("in the place of {others}"),
    };
    let mut lines = vec![
        format!("{} {}, {place}", said("kind"), said("name")),
        format!("{} decisions of the last {days} days", totals.decisions),
        format!("would break: {} decisions about {} nodes", totals.broken, found.nodes_broken()),
    ];
    for row in &found.breaks {
        lines.push(format!("  {}: {} at {}, {}", row.node, row.code, row.claim.escape_debug(), entries(row.at)));
        lines.push(format!("    got       {}", row.got.escape_debug()));
        lines.push(format!("    accepted  {}", row.accepted.join(", ").escape_debug()));
    }
    lines.push(format!("would be mended: {} decisions", totals.mended));
    lines.extend(found.mends.iter().map(|row| format!("  {}: denied by {}, {}", row.node, row.code, entries(row.at))));
    let unjudged = totals.permitted_unjudged.saturating_add(totals.denied_unjudged);
    lines.push(format!("could not be judged: {unjudged} decisions ({} had permitted)", totals.permitted_unjudged));
    lines.extend(found.unjudged.iter().map(|row| format!("  {}: {}", row.why.escape_debug(), entries(row.at))));
    let (permitted, denied, otherwise) = (totals.still_permitted, totals.still_denied, totals.denied_otherwise);
    lines
        .push(format!("unchanged: {permitted} permitted, {denied} denied; denied whatever evidence says: {otherwise}"));
    if totals.unlisted > 0 {
        lines.push(format!("and {} rows more than are listed", totals.unlisted));
    }
    lines.join("\n")
}

fn entries(at: crate::backtest::Entries) -> String {
    if at.decisions == 1 {
        return format!("log entry {}", at.first_entry);
    }
    format!("{} decisions, log entries {} to {}", at.decisions, at.first_entry, at.last_entry)
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.escape_debug().to_string(),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => value.to_string(),
    }
}

/// How far back it got, on a terminal alone.
fn bar(seconds: u64) -> ProgressBar {
    let bar = ProgressBar::new(seconds);
    if let Ok(style) = ProgressStyle::with_template("judging decisions again {wide_bar} {percent} % {eta}") {
        bar.set_style(style);
    }
    bar
}
