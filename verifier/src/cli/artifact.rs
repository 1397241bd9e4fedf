//! `verifier artifact`: what a relying party asks of an artifact that somebody comes with.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use evidence::time::UnixSeconds;
use governance::GovernanceDenial;
use governance::artifact::VerifiedArtifact;
use governance::fence::{Fence, Relying};
use governance::governance_state::GovernanceState;
use governance::revocation::RevocationList;
use governance::trust_bundle::{OWN_LIFETIME_CAP_S, Role, TrustBundle, VerifiedBundle};
use serde_bytes::ByteBuf;
use serde_json::json;

use super::proof::read_pin;
use super::signing::{now, read_file};
use super::{CommandError, Common, output};
use crate::evidence_cli::parse_time;
use crate::federation::{BUNDLE_CAP_BYTES, LoggedState, REVOCATIONS_CAP_BYTES, read_message, revocation_list};

/// Arguments of `verifier artifact`.
#[derive(Args, Debug)]
pub struct ArtifactArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Judge an artifact offline: signature, domain, audience, window, revocations, epoch, lease number.
    ///
    /// Exit code 0: it holds; 3: it does not, with the code; 4: it could not be judged. Who comes with it is not looked at:
    /// a service that has to tell two holders of one lease apart embeds the library (docs/relying-parties.md).
    Check(Box<CheckArgs>),
}

#[derive(Args, Debug)]
struct CheckArgs {
    /// The artifact (COSE_Sign1).
    file: PathBuf,
    /// The issuing domain's trust bundle, as `verifier domain bundle --out` writes it or /governance/bundle serves it.
    #[arg(long, value_name = "FILE")]
    bundle: PathBuf,
    /// Who must have signed the bundle (TOML, as `init` writes to pin.toml).
    #[arg(long, value_name = "FILE")]
    pin: PathBuf,
    /// SPIFFE ID that the artifact must be for: spiffe://DOMAIN/node/NAME.
    #[arg(long, value_name = "SPIFFE_ID")]
    audience: String,
    /// The domain's governance state, as /governance/state serves it: the epoch, and which revocations are all of them.
    #[arg(long, value_name = "FILE", requires = "revocations")]
    state: Option<PathBuf>,
    /// The domain's revocations, as /governance/revocations serves them; they must be those that the state names.
    #[arg(long, value_name = "FILE", requires = "state")]
    revocations: Option<PathBuf>,
    /// Judge without state and revocations; what was withdrawn since is then let through, and the answer says so.
    #[arg(long, conflicts_with = "state", required_unless_present = "state")]
    revocations_unknown: bool,
    /// Highest lease number that was seen of this artifact id: a lower one is of a paused or cloned holder.
    #[arg(long, value_name = "SEQ", default_value_t = 1)]
    seen: u64,
    /// Judge as at this time (RFC 3339) instead of now.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<UnixSeconds>,
}

/// What is known of the issuing domain's governance.
struct Known {
    revocations: RevocationList,
    epoch_min: u64,
}

impl ArtifactArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let Verb::Check(check) = &self.verb;
        output::document(&check.judge()?, self.common.format);
        Ok(())
    }
}

impl CheckArgs {
    fn judge(&self) -> Result<serde_json::Value, CommandError> {
        let now = match self.at {
            Some(at) => at,
            None => now()?,
        };
        let pin = read_pin(&self.pin)?;
        let signatures: Vec<ByteBuf> = message(&self.bundle, BUNDLE_CAP_BYTES)?;
        let bundle = TrustBundle::verify(&signatures, &pin.domain, &pin.authority, OWN_LIFETIME_CAP_S, now);
        let bundle = bundle.map_err(denied)?;
        let known = self.known(&pin.domain, &bundle, now)?;
        let artifact = self.admitted(&pin.domain, &bundle, &known, now).map_err(denied)?;
        let terms = artifact.terms();
        Ok(json!({
            "decision": "affirmed",
            "artifact": terms.id.to_string(),
            "digest": artifact.digest(),
            "domain": terms.governance.domain,
            "node": terms.bindings.node,
            "audience": terms.audience,
            "seq": terms.lease.seq,
            "epoch": terms.governance.epoch,
            "expires_at": terms.expires_at,
            "scope": terms.scope,
            "revocations": if self.revocations_unknown { "unknown" } else { "known" },
        }))
    }

    fn admitted(
        &self,
        domain: &DomainName,
        bundle: &VerifiedBundle,
        known: &Known,
        now: UnixSeconds,
    ) -> Result<VerifiedArtifact, Refusal> {
        let bytes = read_file(&self.file).map_err(Refusal::Command)?;
        let relying = Relying {
            domain,
            issuer_keys: &bundle.keys(Role::Issuer, now),
            audience: &self.audience,
            revocations: &known.revocations,
            epoch_min: known.epoch_min,
        };
        // A fence that lives for this one look: nobody else holds anything.
        let artifact = Fence::default().admit(&bytes, Sha256Digest::of(&bytes), &relying, now)?;
        artifact.seq_at_least(self.seen)?;
        Ok(artifact)
    }

    fn known(&self, domain: &DomainName, bundle: &VerifiedBundle, now: UnixSeconds) -> Result<Known, CommandError> {
        let (Some(state), Some(revocations)) = (&self.state, &self.revocations) else {
            return Ok(Known { revocations: RevocationList::default(), epoch_min: 0 });
        };
        let logged = LoggedState::read(&read_file(state)?)
            .map_err(|error| CommandError::Usage(format!("{}: {error}", state.display())))?;
        let state = GovernanceState::verify(&logged.state, domain, &bundle.keys(Role::Issuer, now), now);
        let state = state.map_err(denied)?;
        let entries: Vec<ByteBuf> = message(revocations, REVOCATIONS_CAP_BYTES)?;
        let list = revocation_list(&entries)
            .map_err(|error| CommandError::Usage(format!("{}: {error}", revocations.display())))?;
        let (got, expected) = (list.digest().map_err(denied)?, state.state().revocations);
        if got != expected {
            let what = "list of revocations";
            return Err(denied(GovernanceDenial::TrustInconsistent {
                domain: domain.clone(),
                what,
                got,
                named: expected,
            }));
        }
        Ok(Known { revocations: list, epoch_min: state.state().epoch })
    }
}

/// Why it does not pass.
enum Refusal {
    Denied(GovernanceDenial),
    Command(CommandError),
}

impl From<GovernanceDenial> for Refusal {
    fn from(denial: GovernanceDenial) -> Self {
        Self::Denied(denial)
    }
}

fn denied(refusal: impl Into<Refusal>) -> CommandError {
    match refusal.into() {
        Refusal::Denied(denial) => {
            CommandError::Denied { code: denial.code().to_owned(), detail: denial.to_string().into() }
        }
        Refusal::Command(error) => error,
    }
}

fn message<T: serde::de::DeserializeOwned>(path: &Path, cap_bytes: usize) -> Result<T, CommandError> {
    read_message(&read_file(path)?, cap_bytes)
        .map_err(|error| CommandError::Usage(format!("{}: {error}", path.display())))
}
