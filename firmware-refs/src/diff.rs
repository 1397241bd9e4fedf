//! What tells two sets apart, in words: field by field, register by register, events and files by name.
//!
//! The written forms are compared, so nothing that a set says can be forgotten here. Order in lists says nothing.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::{Map, Value};

use crate::document::SetDocument;

/// One difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where, as a path of the authored form (`tpm.pcr[4].accept`).
    pub at: String,
    /// What the first set says there; nothing where it says nothing.
    pub from: Option<String>,
    /// What the second set says there; nothing where it says nothing.
    pub to: Option<String>,
    /// The same for people.
    pub words: String,
    /// Only where a value comes from differs: the same machines match.
    pub origin_only: bool,
}

/// Every difference between two sets.
///
/// # Errors
/// [`serde_json::Error`] when a set has no written form.
pub fn differences(from: &SetDocument, to: &SetDocument) -> Result<Vec<Difference>, serde_json::Error> {
    let (from, to) = (serde_json::to_value(from)?, serde_json::to_value(to)?);
    let mut found = Vec::new();
    Place::default().compare(Some(&from), Some(&to), &mut found);
    Ok(found)
}

/// Where a comparison has come to.
#[derive(Clone, Default)]
struct Place {
    at: String,
    words: Vec<String>,
    /// Last field on the way.
    field: String,
}

impl Place {
    fn field(&self, name: &str) -> Self {
        let at = if self.at.is_empty() { name.to_owned() } else { format!("{}.{name}", self.at) };
        let mut words = self.words.clone();
        match name {
            ACCEPT => {}
            "tpm" | "snp" | "tdx" | "ima" => words.push(name.to_ascii_uppercase()),
            _ => words.push(name.replace('_', " ")),
        }
        Self { at, words, field: name.to_owned() }
    }

    /// An element of the list that this place is, which the label tells from the others.
    fn element(&self, element: &Value, identity: &str) -> Self {
        let mut words = self.words.clone();
        // What is accepted stands under its register's or event's own name.
        if self.field != ACCEPT {
            words.pop();
        }
        words.push(label(&self.field, element, identity));
        Self { at: format!("{}[{identity}]", self.at), words, field: self.field.clone() }
    }

    fn compare(&self, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<Difference>) {
        match (from, to) {
            (from, to) if from == to => {}
            (Some(Value::Object(from)), Some(Value::Object(to))) => self.fields(from, to, found),
            (Some(Value::Object(from)), None) => self.fields(from, &Map::new(), found),
            (None, Some(Value::Object(to))) => self.fields(&Map::new(), to, found),
            (Some(Value::Array(from)), Some(Value::Array(to))) => self.elements(from, to, found),
            (Some(Value::Array(from)), None) => self.elements(from, &[], found),
            (None, Some(Value::Array(to))) => self.elements(&[], to, found),
            (from, to) => self.differs(from, to, found),
        }
    }

    fn fields(&self, from: &Map<String, Value>, to: &Map<String, Value>, found: &mut Vec<Difference>) {
        let names: BTreeSet<&String> = from.keys().chain(to.keys()).collect();
        for name in names {
            self.field(name).compare(from.get(name), to.get(name), found);
        }
    }

    fn elements(&self, from: &[Value], to: &[Value], found: &mut Vec<Difference>) {
        let (from, to) = (self.by_identity(from), self.by_identity(to));
        let gone: Vec<_> = from.iter().filter(|(key, _)| !to.contains_key(*key)).collect();
        let come: Vec<_> = to.iter().filter(|(key, _)| !from.contains_key(*key)).collect();
        for (key, element) in &from {
            if let Some(other) = to.get(key) {
                self.element(element, &key.0).compare(Some(element), Some(other), found);
            }
        }
        if let ([(_, old)], [(_, new)]) = (gone.as_slice(), come.as_slice())
            && is_value(old)
            && is_value(new)
        {
            return self.differs(Some(old), Some(new), found);
        }
        for ((identity, _), old) in gone {
            self.listed(old, identity, false, found);
        }
        for ((identity, _), new) in come {
            self.listed(new, identity, true, found);
        }
    }

    fn by_identity<'v>(&self, elements: &'v [Value]) -> BTreeMap<(String, usize), &'v Value> {
        let mut all = BTreeMap::new();
        let mut count: BTreeMap<String, usize> = BTreeMap::new();
        for element in elements {
            // Two of one name, as two events may be: the first, the second.
            let identity = identity(&self.field, element);
            let nth = count.entry(identity.clone()).or_default();
            *nth = nth.saturating_add(1);
            all.insert((identity, *nth), element);
        }
        all
    }

    /// An element that only one of the lists has.
    fn listed(&self, element: &Value, identity: &str, is_new: bool, found: &mut Vec<Difference>) {
        let whole = shown(element);
        let words = if is_value(element) {
            let verb = match (element.is_object(), is_new) {
                (true, true) => "now accepts",
                (true, false) => "no longer accepts",
                (false, true) => "now with",
                (false, false) => "now without",
            };
            format!("{}: {verb} {whole}", self.words.join(", "))
        } else {
            // The label says already what tells it apart.
            let rest = element.as_object().into_iter().flatten();
            let rest = rest.filter(|(name, _)| !identifying(&self.field).contains(&name.as_str()));
            let verb = if is_new { "added" } else { "removed" };
            let rest = Value::Object(rest.map(|(name, value)| (name.clone(), value.clone())).collect());
            format!("{}: {verb}, {}", self.element(element, identity).words.join(", "), shown(&rest))
        };
        let (from, to) = if is_new { (None, Some(whole)) } else { (Some(whole), None) };
        found.push(Difference { at: format!("{}[{identity}]", self.at), from, to, words, origin_only: false });
    }

    fn differs(&self, from: Option<&Value>, to: Option<&Value>, found: &mut Vec<Difference>) {
        let origin_only = ORIGINS.contains(&self.field.as_str()) && self.at.ends_with(&format!("].{}", self.field));
        let (from, to) = (from.map(shown), to.map(shown));
        let side = |side: &Option<String>| side.clone().unwrap_or_else(|| "not said".to_owned());
        let words = format!("{}: {} → {}", self.words.join(", "), side(&from), side(&to));
        found.push(Difference { at: self.at.clone(), from, to, words, origin_only });
    }
}

/// Field of what a register, an event or a file may be.
const ACCEPT: &str = "accept";
/// Fields that say where a listed value comes from.
const ORIGINS: [&str; 2] = ["source", "from"];

/// What tells the elements of a list apart, by the list's name. Lists that are not here hold digests or plain values.
const IDENTITIES: [(&str, &[&str]); 11] = [
    ("pcr", &["index"]),
    ("rtmr", &["index"]),
    ("event", &["pcr", "rtmr", "type", "description"]),
    ("file", &["path"]),
    ("firmware", &["manufacturer"]),
    ("deny", &["manufacturer", "advisory", "from"]),
    ("product", &["product"]),
    ("advisory", &["id"]),
    ("derivation", &["id"]),
    ("artifact", &["role", "file"]),
    ("tag", &["id"]),
];

fn identifying(list: &str) -> &'static [&'static str] {
    IDENTITIES.iter().find(|(name, _)| *name == list).map_or(&["digest"], |(_, fields)| fields)
}

fn identity(list: &str, element: &Value) -> String {
    let parts: Vec<String> = identifying(list).iter().filter_map(|field| element.get(field)).map(shown).collect();
    if parts.is_empty() { shown(element) } else { parts.join(" ") }
}

fn label(list: &str, element: &Value, identity: &str) -> String {
    let text = |name: &str| element.get(name).map(shown).unwrap_or_default();
    match list {
        "pcr" => format!("PCR {identity}"),
        "rtmr" => format!("RTMR {identity}"),
        "event" => {
            let register =
                element.get("pcr").map_or_else(|| format!("RTMR {}", text("rtmr")), |_| format!("PCR {}", text("pcr")));
            format!("{register}, event {} \"{}\"", text("type"), text("description"))
        }
        "firmware" => format!("firmware of {identity}"),
        "deny" => format!("denied firmware of {identity}"),
        ACCEPT => identity.to_owned(),
        _ if is_value(element) => format!("{} {identity}", list.replace('_', " ")),
        _ => format!("{list} {identity}"),
    }
}

/// A digest with its source, or a plain value: what a list accepts, rather than a table of its own.
fn is_value(element: &Value) -> bool {
    !element.is_object() || element.get("digest").is_some()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) => value.to_string(),
        Value::Array(items) => items.iter().map(shown).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => match (fields.get("digest"), fields.get("source")) {
            (Some(digest), Some(source)) => format!("{} ({})", shown(digest), shown(source)),
            (_, _) => {
                let sorted: BTreeMap<_, _> = fields.iter().map(|(name, value)| (name, shown(value))).collect();
                sorted.iter().map(|(name, value)| format!("{name} {value}")).collect::<Vec<_>>().join(", ")
            }
        },
    }
}
