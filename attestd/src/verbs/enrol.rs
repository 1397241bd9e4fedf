//! `attestd enrol`: uses the TPM or TEE without a running daemon.

use std::io::{self, Write as _};
use std::sync::Arc;

use attestd::cli::{Common, EnrolArgs, Format, Outcome};
use attestd::config::{Config, DomainConfig};
use attestd::enrol::enrol as enrol_with;
use attestd::machine::Machine;
use attestd::state::StateDir;
use serde_json::json;

use super::failure::{Failure, failed};

/// Configuration, locked state and machine.
struct Place {
    config: Config,
    state: Arc<StateDir>,
    machine: Machine,
}

impl Place {
    fn open(common: &Common) -> Result<Self, Failure> {
        let config = Failure::or_config(common)?;
        let state = StateDir::open(&common.state).map_err(|error| Failure::of_state(&error))?;
        let machine =
            Machine::open(&config.identity).map_err(|error| Failure::fault(error.code(), error.to_string()))?;
        Ok(Self { config, state: Arc::new(state), machine })
    }
}

/// Enrols with one domain.
///
/// # Errors
/// Output cannot be written.
pub(crate) async fn enrol(common: &Common, arguments: EnrolArgs) -> anyhow::Result<Outcome> {
    let place = match Place::open(common) {
        Ok(place) => place,
        Err(failure) => return failed(common.format, &failure),
    };
    let Some(domain) = chosen(&place.config, arguments.domain.as_deref()) else {
        return failed(common.format, &Failure::usage("domain", "--domain must name one of the configured domains"));
    };
    match enrol_with(&place.config, domain, &place.machine, &place.state).await {
        Ok(grant) => {
            let bundle = grant.bundle.bundle();
            let document = json!({
                "decision": "affirmed",
                "node": place.config.node_id.as_str(),
                "domain": grant.domain.as_str(),
                "trust_bundle": { "sequence": bundle.sequence, "expires_at": bundle.expires_at.0, "digest": grant.bundle.digest().to_string() },
            });
            match common.format {
                Format::Json => writeln!(io::stdout(), "{document}")?,
                Format::Text => writeln!(
                    io::stdout(),
                    "{} is enrolled with {} (trust bundle {}, sequence {}).",
                    place.config.node_id,
                    grant.domain,
                    grant.bundle.digest(),
                    bundle.sequence
                )?,
            }
            Ok(Outcome::Done)
        }
        Err(error) => {
            let (class, code) = (error.class(), error.code().to_owned());
            failed(common.format, &Failure { class, code, why: error.to_string() })
        }
    }
}

fn chosen<'a>(config: &'a Config, name: Option<&str>) -> Option<&'a DomainConfig> {
    match (name, config.domains.as_slice()) {
        (None, [only]) => Some(only),
        (None, _) => None,
        (Some(name), domains) => domains.iter().find(|domain| domain.name.as_str() == name),
    }
}
