//! `attestd status --tree`: the executions of this node, each under what it descends from.

use std::io::{self, Write as _};

use attestd::cli::{Format, Outcome};
use serde_json::{Value, json};

/// Prints them.
///
/// # Errors
/// Standard output.
pub(super) fn print(format: Format, status: &Value) -> anyhow::Result<Outcome> {
    let executions = status.get("executions").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let halted = status.get("halt").is_some_and(|halt| !halt.is_null());
    let mut out = io::stdout();
    match format {
        Format::Json => writeln!(out, "{}", json!({ "node": status.get("node"), "executions": grown(executions) }))?,
        Format::Text => {
            let text = |name| status.get(name).and_then(Value::as_str).unwrap_or("?");
            writeln!(out, "node {}: {}", text("node"), text("state"))?;
            for (depth, execution) in listed(executions) {
                writeln!(out, "{}{}", "   ".repeat(depth), line(execution))?;
            }
        }
    }
    Ok(if halted { Outcome::Halted } else { Outcome::Done })
}

fn number(execution: &Value) -> Option<u64> {
    execution.get("execution").and_then(Value::as_u64)
}

/// Those that descend from an execution of this node.
fn below(executions: &[Value], above: u64) -> impl Iterator<Item = &Value> {
    executions.iter().filter(move |execution| execution.get("parent").and_then(Value::as_u64) == Some(above))
}

fn roots(executions: &[Value]) -> impl Iterator<Item = &Value> {
    executions.iter().filter(|execution| {
        let parent = execution.get("parent").and_then(Value::as_u64);
        // One whose parent has just ended is about to end, too.
        !executions.iter().any(|other| parent.is_some() && number(other) == parent)
    })
}

/// Parents before children, with how far down each is. A child's number is higher than its parent's, so this ends.
fn listed(executions: &[Value]) -> Vec<(usize, &Value)> {
    let mut waiting: Vec<(usize, &Value)> = roots(executions).map(|execution| (0, execution)).collect();
    waiting.reverse();
    let mut listed = Vec::with_capacity(executions.len());
    while let Some((depth, execution)) = waiting.pop() {
        let mut children: Vec<_> = number(execution).into_iter().flat_map(|above| below(executions, above)).collect();
        children.reverse();
        waiting.extend(children.into_iter().map(|child| (depth.saturating_add(1), child)));
        listed.push((depth, execution));
    }
    listed
}

/// The same as JSON: each with its children in it.
fn grown(executions: &[Value]) -> Vec<Value> {
    fn with_children(executions: &[Value], execution: &Value, deep: usize) -> Value {
        let mut grown = execution.clone();
        let children: Vec<Value> = match number(execution) {
            Some(above) if deep < DEPTH_CAP => {
                below(executions, above).map(|child| with_children(executions, child, deep.saturating_add(1))).collect()
            }
            Some(_) | None => Vec::new(),
        };
        if let Value::Object(fields) = &mut grown {
            fields.insert("children".to_owned(), Value::Array(children));
        }
        grown
    }
    roots(executions).map(|execution| with_children(executions, execution, 0)).collect()
}

fn line(execution: &Value) -> String {
    let text = |name| execution.get(name).and_then(Value::as_str).unwrap_or("?").to_owned();
    let argv = execution.get("argv").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let command = argv.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ");
    let leases = execution.get("leases").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let ends_in_ms = leases.iter().filter_map(|lease| lease.get("ends_in_ms").and_then(Value::as_u64)).min();
    let from = match execution.get("parent") {
        Some(Value::Array(files)) => {
            format!(", of {} elsewhere", files.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "))
        }
        Some(_) | None => String::new(),
    };
    format!(
        "{}: {} pid {}{}{from}: {}",
        number(execution).unwrap_or_default(),
        text("state"),
        execution.get("pid").map_or_else(|| "-".to_owned(), Value::to_string),
        ends_in_ms.map_or_else(String::new, |ms| format!(", ends in {ms} ms unless renewed")),
        command.escape_debug(),
    )
}

/// More generations than a domain authorizes.
const DEPTH_CAP: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn children_stand_under_their_parents() {
        let execution = |number: u64, parent: Value| json!({ "execution": number, "parent": parent, "state": "held", "argv": ["sh"], "pid": 7, "leases": [] });
        let all = [
            execution(0, Value::Null),
            execution(1, json!(0)),
            execution(2, Value::Null),
            execution(3, json!(1)),
            execution(5, json!(4)),
        ];
        let depths: Vec<_> = listed(&all).iter().map(|(depth, shown)| (*depth, number(shown))).collect();
        assert_eq!(depths, [(0, Some(0)), (1, Some(1)), (2, Some(3)), (0, Some(2)), (0, Some(5))]);
        let grown = grown(&all);
        let below = grown.first().and_then(|first| first.pointer("/children/0/children/0/execution"));
        assert_eq!((below, grown.len()), (Some(&json!(3)), 3));
        assert_eq!(all.get(1).map(line).as_deref(), Some("1: held pid 7: sh"));
    }
}
