//! `VERIFIER_*` variables. Lists of trusted things (authority keys, roots, revoked
//! digests) and the lab switch are not among them: they stay in one reviewed place.

use super::{ConfigError, value_error};

/// How a variable's text becomes a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Text,
    Number,
}

const OVERRIDES: [(&str, Option<&str>, &str, Form); 12] = [
    ("VERIFIER_STORE", None, "store", Form::Text),
    ("VERIFIER_LISTEN_ENROLMENT", Some("listen"), "enrolment", Form::Text),
    ("VERIFIER_LISTEN_NODES", Some("listen"), "nodes", Form::Text),
    ("VERIFIER_LISTEN_ADMIN", Some("listen"), "admin", Form::Text),
    ("VERIFIER_NODES_ADMISSION", Some("nodes"), "admission", Form::Text),
    ("VERIFIER_LEASE_LENGTH_MS", Some("lease"), "length_ms", Form::Number),
    ("VERIFIER_GOVERNANCE_STATE_LIFETIME_S", Some("governance"), "state_lifetime_s", Form::Number),
    ("VERIFIER_GOVERNANCE_REFERENCE_GRACE_S", Some("governance"), "reference_grace_s", Form::Number),
    ("VERIFIER_LOG_ORIGIN", Some("log"), "origin", Form::Text),
    ("VERIFIER_LIMITS_CONNECTIONS", Some("limits"), "connections", Form::Number),
    ("VERIFIER_LIMITS_CONNECTIONS_PER_ADDRESS", Some("limits"), "connections_per_address", Form::Number),
    ("VERIFIER_LIMITS_APPRAISALS", Some("limits"), "appraisals", Form::Number),
];

/// Variables with this prefix that are options of the command line.
const OPTIONS: [&str; 3] = ["VERIFIER_STATE", "VERIFIER_CONFIG", "VERIFIER_LOG"];

pub(super) fn apply(table: &mut toml::Table, name: &str, text: &str) -> Result<(), ConfigError> {
    if !name.starts_with("VERIFIER_") || OPTIONS.contains(&name) {
        return Ok(());
    }
    let (_, section, key, form) = OVERRIDES
        .iter()
        .find(|(variable, ..)| *variable == name)
        .ok_or_else(|| ConfigError::UnknownOverride { name: name.chars().take(64).collect() })?;
    let value = match form {
        Form::Number => toml::Value::Integer(text.parse().map_err(|_| value_error(name, "must be a whole number"))?),
        Form::Text => toml::Value::String(text.to_owned()),
    };
    let target = match section {
        None => table,
        Some(section) => table
            .entry(*section)
            .or_insert_with(|| toml::Value::Table(toml::Table::new()))
            .as_table_mut()
            .ok_or_else(|| value_error(section, "must be a table"))?,
    };
    target.insert((*key).to_owned(), value);
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    use super::*;
    use crate::cli::ServeArgs;

    #[test]
    fn no_variable_of_an_option_is_mistaken_for_a_key() {
        let serve = ServeArgs::augment_args(clap::Command::new("serve"));
        let variables: Vec<_> = serve.get_arguments().filter_map(|argument| argument.get_env()).collect();
        assert!(!variables.is_empty());
        for variable in variables {
            let (mut table, name) = (toml::Table::new(), variable.to_str().unwrap());
            apply(&mut table, name, "info").unwrap();
            assert!(table.is_empty(), "{name}");
        }
    }
}
