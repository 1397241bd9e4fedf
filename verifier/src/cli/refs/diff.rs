//! `verifier refs diff`: two sets, or a node and a set, told apart in words.

use std::path::Path;

use clap::Args;
use firmware_refs::diff::{Difference, differences};
use firmware_refs::set::ReferenceValueSet;
use serde_json::{Value, json};
use wire::proto::{Named, RefsCompare, operator_command::Command};

use super::super::service::{Service, field, text};
use super::super::signing::read_text;
use super::super::{CommandError, Common, Format, output};

/// Arguments of `verifier refs diff`.
#[derive(Args, Debug)]
pub(super) struct DiffArgs {
    /// Two sets, or one with --node. Each a file (TOML) that exists here, or NAME (its newest version), NAME:VERSION or a
    /// digest that the service knows. Two files are compared offline.
    #[arg(required = true, num_args = 1..=2, value_name = "SET")]
    sets: Vec<String>,
    /// Compare what this node sent last with the set instead, which need not be active.
    #[arg(long, value_name = "NODE")]
    node: Option<String>,
}

impl DiffArgs {
    pub(super) async fn run(&self, common: &Common) -> Result<(), CommandError> {
        let (document, words) = match (self.sets.as_slice(), &self.node) {
            ([from, to], None) => of_sets(common, from, to).await?,
            ([set], Some(node)) => of_node(common, node, set).await?,
            (_, None) => {
                return Err(CommandError::Usage("two sets are compared, or a node (--node) with one".to_owned()));
            }
            (_, Some(_)) => return Err(CommandError::Usage("a node is compared with one set".to_owned())),
        };
        match common.format {
            Format::Json => output::json(&document),
            Format::Text => output::line(&words),
        }
        Ok(())
    }
}

async fn of_sets(common: &Common, from: &str, to: &str) -> Result<(Value, String), CommandError> {
    let mut service = None;
    let (old, new) = (set(common, &mut service, from).await?, set(common, &mut service, to).await?);
    let found = differences(old.document(), new.document()).map_err(|error| CommandError::fault("fault.bug", error))?;
    let name = |set: &ReferenceValueSet| format!("{}:{}", set.id(), set.version());
    let document = json!({ "from": name(&old), "to": name(&new), "same": found.is_empty(), "differences": found });
    Ok((document, in_words(&found)))
}

/// For people: that the same value was computed or captured elsewhere is no news, and counted only.
fn in_words(found: &[Difference]) -> String {
    let (same, other): (Vec<_>, Vec<_>) = found.iter().partition(|difference| difference.origin_only);
    let lines: Vec<&str> = other.iter().map(|difference| difference.words.as_str()).collect();
    match (lines.is_empty(), same.len()) {
        (true, 0) => "the sets say the same".to_owned(),
        (true, count) => format!("the sets accept the same; {count} values come from elsewhere"),
        (false, 0) => escaped(&lines),
        (false, count) => format!("{}\n({count} values are the same and come from elsewhere)", escaped(&lines)),
    }
}

async fn of_node(common: &Common, node: &str, set: &str) -> Result<(Value, String), CommandError> {
    if Path::new(set).is_file() {
        let why = format!("{set} is a file: import it first, the service compares a node with sets that it knows");
        return Err(CommandError::Usage(why));
    }
    let mut service = Service::connect(&common.state).await?;
    let compare = RefsCompare { node_id: node.to_owned(), set: set.to_owned() };
    let document = service.ask(Command::RefsCompare(compare)).await?.document;
    let found = field(&document, "differences")?.as_array().into_iter().flatten();
    let lines = found.map(|difference| text(difference, "words")).collect::<Result<Vec<_>, _>>()?;
    let words = match (lines.is_empty(), text(&document, "set")?) {
        (true, set) => format!("{node} is as {set} describes"),
        (false, _) => escaped(&lines),
    };
    Ok((document, words))
}

/// A file if there is one of that name, or else what the service holds.
async fn set(common: &Common, service: &mut Option<Service>, named: &str) -> Result<ReferenceValueSet, CommandError> {
    let path = Path::new(named);
    let usage = |error: firmware_refs::set::SetError| CommandError::Usage(format!("{named}: {error}"));
    if path.is_file() {
        return ReferenceValueSet::from_toml(&read_text(path)?).map_err(usage);
    }
    let mut connected = match service.take() {
        Some(connected) => connected,
        None => Service::connect(&common.state).await?,
    };
    let document = connected.ask(Command::RefsShow(Named { name: named.to_owned() })).await?.document;
    *service = Some(connected);
    ReferenceValueSet::from_toml(text(&document, "toml")?).map_err(usage)
}

/// Names in logs and sets are others' choice: nothing of them steers a terminal.
fn escaped(lines: &[&str]) -> String {
    let escape = |line: &&str| line.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect::<String>();
    lines.iter().map(escape).collect::<Vec<_>>().join("\n")
}
