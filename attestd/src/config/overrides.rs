//! `ATTESTD_*`: which keys of the file a variable may replace.

use super::{ConfigError, value_error};
use crate::gateway::ATTESTD_KEYS_SOCKET;

/// Variables with this prefix that are not configuration: where the state and the configuration are, log levels, and
/// where a workload finds its keys.
const OTHER_VARIABLES: [&str; 5] =
    ["ATTESTD_STATE", "ATTESTD_CONFIG", "ATTESTD_LOG", "ATTESTD_TSS_LOG_SET", ATTESTD_KEYS_SOCKET];

/// Keys that a variable may override: (variable, section, key, is a number). Domains and watched PCRs are not among
/// them: lists of trusted things stay in one reviewed place.
const OVERRIDES: [(&str, Option<&str>, &str, bool); 15] = [
    ("ATTESTD_NODE_ID", None, "node_id", false),
    ("ATTESTD_TPM_TCTI", Some("tpm"), "tcti", false),
    ("ATTESTD_TPM_EK", Some("tpm"), "ek", false),
    ("ATTESTD_TPM_EK_CERTIFICATE", Some("tpm"), "ek_certificate", false),
    ("ATTESTD_TPM_EK_INTERMEDIATES", Some("tpm"), "ek_intermediates", false),
    ("ATTESTD_TPM_COMMAND_DEADLINE_MS", Some("tpm"), "command_deadline_ms", true),
    ("ATTESTD_TPM_KEY_DEADLINE_MS", Some("tpm"), "key_deadline_ms", true),
    ("ATTESTD_TEE_REPORTS", Some("tee"), "reports", false),
    ("ATTESTD_TEE_CCEL", Some("tee"), "ccel", false),
    ("ATTESTD_TEE_DEADLINE_MS", Some("tee"), "deadline_ms", true),
    ("ATTESTD_LOGS_EVENT_LOG", Some("logs"), "event_log", false),
    ("ATTESTD_LOGS_IMA_LOG", Some("logs"), "ima_log", false),
    ("ATTESTD_WATCH_INTERVAL_MS", Some("watch"), "interval_ms", true),
    ("ATTESTD_GATEWAY_IMAGE_CAP_BYTES", Some("gateway"), "image_cap_bytes", true),
    ("ATTESTD_HALT_CGROUP", Some("halt"), "cgroup", false),
];

pub(super) fn apply_override(table: &mut toml::Table, name: &str, text: &str) -> Result<(), ConfigError> {
    if !name.starts_with("ATTESTD_") || OTHER_VARIABLES.contains(&name) || name.starts_with("ATTESTD_KEY_FD_") {
        return Ok(());
    }
    let (_, section, key, number) = OVERRIDES
        .iter()
        .find(|(variable, ..)| *variable == name)
        .ok_or_else(|| ConfigError::UnknownOverride { name: name.chars().take(64).collect() })?;
    let value = if *number {
        toml::Value::Integer(text.parse().map_err(|_| value_error(name, "must be a whole number"))?)
    } else {
        toml::Value::String(text.to_owned())
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
