//! JSON on stdout as it is, or the same document laid out for people.

use std::io::{IsTerminal as _, Write as _};

use comfy_table::{ContentArrangement, Table, presets};
use serde_json::Value;

use super::Format;

/// Prints a document that a verb answers with.
pub(super) fn document(document: &Value, format: Format) {
    match format {
        Format::Json => json(document),
        Format::Text => line(&laid_out(document)),
    }
}

/// Prints one JSON document.
pub(super) fn json(document: &Value) {
    line(&serde_json::to_string_pretty(document).unwrap_or_else(|_| document.to_string()));
}

/// Prints text for people.
pub(super) fn line(text: &str) {
    let mut out = std::io::stdout().lock();
    // A closed pipe (`| head`) is the reader's choice, not an error of ours.
    let _ = writeln!(out, "{}", text.trim_end());
}

/// Says why a verb failed, for people.
pub(super) fn complaint(what: &str, document: &Value) {
    let mut err = std::io::stderr().lock();
    let _ = writeln!(err, "verifier: {what}");
    if document.get("failures").and_then(Value::as_array).is_some_and(|failures| !failures.is_empty()) {
        let _ = writeln!(err, "{}", laid_out(document).trim_end());
    }
}

/// The document of a denial: what came from the service, or its code alone.
pub(super) fn denied(code: &str, detail: &Value) -> Value {
    if detail.get("failures").is_some() {
        return detail.clone();
    }
    serde_json::json!({"decision": "denied", "failures": [{"code": code, "hint": detail}]})
}

fn laid_out(document: &Value) -> String {
    match document {
        Value::Object(fields) => {
            let (tables, plain): (Vec<_>, Vec<_>) = fields.iter().partition(|(_, value)| is_rows(value));
            let width = plain.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
            let mut out: String =
                plain.iter().map(|(name, value)| format!("{name:width$}  {}\n", cell(value))).collect();
            for (name, value) in tables {
                out.push_str(&format!("{name}\n{}\n", rows(value)));
            }
            out
        }
        Value::Array(_) if is_rows(document) => rows(document),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => cell(document),
    }
}

fn is_rows(value: &Value) -> bool {
    value.as_array().is_some_and(|items| !items.is_empty() && items.iter().all(Value::is_object))
}

fn rows(value: &Value) -> String {
    let items: Vec<_> = value.as_array().into_iter().flatten().filter_map(Value::as_object).collect();
    let mut columns: Vec<&String> = Vec::new();
    for item in &items {
        for name in item.keys() {
            if !columns.contains(&name) {
                columns.push(name);
            }
        }
    }
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table.set_header(columns.iter().map(|name| name.as_str()));
    for item in items {
        table.add_row(columns.iter().map(|name| item.get(*name).map_or_else(String::new, cell)));
    }
    table.to_string()
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.escape_debug().to_string(),
        Value::Array(items) => items.iter().map(cell).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name} {}", cell(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn documents_are_laid_out_and_controls_escaped() {
        let text = laid_out(
            &json!({"node": "n1", "why": "a\u{1b}[31m", "failures": [{"code": "x", "got": 1}, {"code": "y"}]}),
        );
        assert!(text.contains("node  n1"), "{text}");
        assert!(text.contains("\\u{1b}") && !text.contains('\u{1b}'), "{text}");
        assert!(text.contains("code") && text.contains('y'), "{text}");
    }
}
