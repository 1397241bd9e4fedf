//! `verifier refs history`: every step of a set, with who ordered it and where the log says so.

use clap::Args;
use evidence::time::UnixSeconds;
use firmware_refs::text::Moment;
use serde_json::{Value, json};
use wire::proto::{Named, operator_command::Command};

use super::super::service::{Service, field};
use super::super::{CommandError, Format, output};

/// Arguments of `verifier refs history`.
#[derive(Args, Debug)]
pub(super) struct HistoryArgs {
    /// NAME (all of its versions), NAME:VERSION or the set's digest; left out: every set.
    set: Option<String>,
}

impl HistoryArgs {
    pub(super) async fn run(&self, service: &mut Service, format: Format) -> Result<(), CommandError> {
        let name = self.set.clone().unwrap_or_default();
        let document = service.ask(Command::RefsHistory(Named { name })).await?.document;
        match format {
            Format::Json => output::document(&document, format),
            Format::Text => {
                let steps = field(&document, "history")?.as_array().into_iter().flatten();
                let rows: Vec<Value> = steps.map(row).collect();
                output::document(&if rows.is_empty() { json!("no set was staged yet") } else { json!(rows) }, format);
            }
        }
        Ok(())
    }
}

/// A step on one line: key ids are cut to what tells them apart by eye, the JSON has them whole.
fn row(step: &Value) -> Value {
    let short = |name: &str| {
        let ids = step.get(name).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        ids.map(|id| id.get(..KEY_ID_CHARS).unwrap_or(id).to_owned()).collect::<Vec<_>>()
    };
    let plain = |name: &str| step.get(name).and_then(Value::as_str).unwrap_or_default();
    let moment =
        |name: &str| step.get(name).and_then(Value::as_u64).map(|at| Moment::from(UnixSeconds(at)).to_string());
    let became = match (plain("by"), moment("grace_until")) {
        ("", _) => plain("step").to_owned(),
        (by, until) => format!("{} by {by}, matches until {}", plain("step"), until.unwrap_or_default()),
    };
    let number = |name: &str| step.get(name).cloned().unwrap_or_default();
    json!({
        "at": moment("at"),
        "set": format!("{}:{}", plain("name"), number("version")),
        "step": became,
        "reason": plain("reason"),
        "signed by": short("signers"),
        "ordered by": short("ordered_by"),
        "statement": plain("statement").get(..DIGEST_CHARS).unwrap_or("-"),
        "epoch": number("epoch"),
        "entry": number("entry"),
    })
}

const KEY_ID_CHARS: usize = 8;
const DIGEST_CHARS: usize = 16;
