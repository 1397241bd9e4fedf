//! What a verb ran into, as it is printed and as its exit code.

use std::io::{self, Write as _};

use attestd::cli::{Common, Format, Outcome};
use attestd::config::Config;
use attestd::state::StateError;
use serde_json::json;

/// What a verb ran into, with its class and code.
pub(super) struct Failure {
    pub(super) class: &'static str,
    pub(super) code: String,
    pub(super) why: String,
}

impl Failure {
    pub(super) fn usage(code: &str, why: impl Into<String>) -> Self {
        Self { class: "usage", code: code.to_owned(), why: why.into() }
    }

    pub(super) fn fault(code: &str, why: impl Into<String>) -> Self {
        Self { class: "fault", code: code.to_owned(), why: why.into() }
    }

    /// A state directory that does not open.
    pub(super) fn of_state(error: &StateError) -> Self {
        match error {
            StateError::InUse { .. } => {
                Self::fault("fault.state_in_use", format!("{error}; stop it first, the machine has one owner"))
            }
            StateError::Missing { .. }
            | StateError::NotPrivate { .. }
            | StateError::TooLarge { .. }
            | StateError::Malformed { .. }
            | StateError::Io { .. } => Self::fault("fault.state", error.to_string()),
        }
    }

    /// The configuration, or why it is none.
    pub(super) fn or_config(common: &Common) -> Result<Config, Self> {
        let loaded = Config::load(&common.config_path(), std::env::vars());
        loaded.map_err(|error| Self::usage("configuration", error.to_string()))
    }
}

/// Prints it.
pub(super) fn failed(format: Format, failure: &Failure) -> anyhow::Result<Outcome> {
    let outcome = match failure.class {
        "denied" => Outcome::Denied,
        "usage" => Outcome::Usage,
        _ => Outcome::Fault,
    };
    match format {
        Format::Json => {
            let document =
                json!({ "decision": failure.class, "failures": [{ "code": failure.code, "why": failure.why }] });
            writeln!(io::stdout(), "{document}")?;
        }
        Format::Text => writeln!(io::stderr(), "attestd: {} ({})", failure.why, failure.code)?,
    }
    Ok(outcome)
}
