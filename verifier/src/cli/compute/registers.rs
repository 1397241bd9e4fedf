//! How registers and their events are shown.

use evidence::register::Register;
use firmware_refs::compute::proposal::{ComputedValue, Origin};
use serde_json::{Map, Value, json};

use super::artifact::Artifacts;

/// A register that no artifact tells, and why.
pub(super) struct NotDerivable {
    pub(super) register: Register,
    pub(super) why: String,
}

/// Values, what they consist of, what is missing, and where it all comes from.
pub(super) fn document(
    values: &[ComputedValue],
    missing: &[NotDerivable],
    parameters: &[String],
    artifacts: &Artifacts,
) -> Map<String, Value> {
    let registers: Value = values
        .iter()
        .map(|value| {
            let origin = match value.origin {
                Origin::Derived => "derived",
                Origin::Replayed => "replayed from the event log",
            };
            json!({"register": Register::from(value.register), "value": value.value.to_string(), "origin": origin})
        })
        .collect();
    let events: Value = values
        .iter()
        .filter(|value| value.origin == Origin::Derived)
        .flat_map(|value| value.events.iter().map(|event| (Register::from(value.register), event)))
        .map(|(register, event)| {
            let (kind, description, digest) = (event.kind, &event.description, event.digest.hex());
            json!({"register": register, "type": kind, "description": description, "digest": digest})
        })
        .collect();
    let missing: Value =
        missing.iter().map(|missing| json!({"register": missing.register, "why": missing.why})).collect();
    let mut document = Map::new();
    document.insert("registers".into(), registers);
    let rows = [("events", events), ("not_derivable", missing)];
    let is_empty = |rows: &Value| rows.as_array().is_none_or(Vec::is_empty);
    document.extend(rows.into_iter().filter(|(_, rows)| !is_empty(rows)).map(|(name, rows)| (name.to_owned(), rows)));
    document.insert("parameters".into(), json!(parameters));
    document.insert("artifacts".into(), artifacts.document());
    document
}
