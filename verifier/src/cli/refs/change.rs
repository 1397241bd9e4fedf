//! `verifier refs activate|supersede|revoke`: statements about sets that are already imported.

use clap::Args;
use evidence::digest::Sha256Digest;
use evidence::names::ItemName;
use governance::revocation::Revoked;
use governance::statement::Order;
use serde_json::Value;
use wire::proto::{RefsList, ServerStatus, operator_command::Command};

use super::super::CommandError;
use super::super::service::{Service, field, number, text};
use super::super::signing::SigningArgs;

/// Arguments of `verifier refs activate`.
#[derive(Args, Debug)]
pub(super) struct ActivateArgs {
    /// NAME (its newest version), NAME:VERSION or the set's digest.
    set: String,
    #[command(flatten)]
    grace: GraceArgs,
    #[command(flatten)]
    signing: SigningArgs,
}

/// Arguments of `verifier refs supersede`.
#[derive(Args, Debug)]
pub(super) struct SupersedeArgs {
    /// The active set that ends: NAME:VERSION or its digest; NAME, if it has one version.
    set: String,
    /// The set that takes its place, of the same or another name; made active if it is staged.
    #[arg(long, value_name = "SET")]
    by: String,
    #[command(flatten)]
    grace: GraceArgs,
    #[command(flatten)]
    signing: SigningArgs,
}

/// Arguments of `verifier refs revoke`.
#[derive(Args, Debug)]
pub(super) struct RevokeArgs {
    /// NAME:VERSION or the set's digest; NAME, if it has one version.
    set: String,
    #[command(flatten)]
    signing: SigningArgs,
}

#[derive(Args, Debug)]
struct GraceArgs {
    /// How long what is replaced still matches: seconds, or 90s, 15m, 12h, 7d; at most 30 days. Left out: the domain's
    /// `governance.reference_grace_s`.
    #[arg(long, value_name = "DURATION", value_parser = duration_s)]
    grace: Option<u64>,
}

/// A set as the service lists it.
struct Listed {
    name: ItemName,
    version: u64,
    digest: Sha256Digest,
    state: String,
}

impl ActivateArgs {
    pub(super) async fn run(&self, service: &mut Service) -> Result<Value, CommandError> {
        let newest = listed(service).await?.into_iter().filter(|set| set.is(&self.set)).max_by_key(|set| set.version);
        let Listed { name, version, digest, .. } = newest.ok_or_else(|| unknown(&self.set))?;
        let grace_s = self.grace.seconds(service).await?;
        let order = Order::ActivateReferences { name, version, set: digest, grace_s };
        Ok(self.signing.order(service, order).await?.document)
    }
}

impl SupersedeArgs {
    pub(super) async fn run(&self, service: &mut Service) -> Result<Value, CommandError> {
        let all = listed(service).await?;
        let (set, by) = (the_one(&all, &self.set)?, the_one(&all, &self.by)?);
        let grace_s = self.grace.seconds(service).await?;
        let order = Order::SupersedeReferences { set, by, grace_s };
        Ok(self.signing.order(service, order).await?.document)
    }
}

impl RevokeArgs {
    pub(super) async fn run(&self, service: &mut Service) -> Result<Value, CommandError> {
        let set = the_one(&listed(service).await?, &self.set)?;
        Ok(self.signing.order(service, Order::Revoke(Revoked::ReferenceSet(set))).await?.document)
    }
}

impl GraceArgs {
    /// The order always says it: what is in force follows from what was signed.
    async fn seconds(&self, service: &mut Service) -> Result<u64, CommandError> {
        if let Some(grace_s) = self.grace {
            return Ok(grace_s);
        }
        let status = service.ask(Command::ServerStatus(ServerStatus {})).await?.document;
        number(&status, "reference_grace_s")
    }
}

impl Listed {
    fn is(&self, named: &str) -> bool {
        let versioned = |mark| format!("{}{mark}{}", self.name, self.version) == named;
        self.name.as_str() == named || versioned(':') || versioned('@') || self.digest.to_string() == named
    }
}

async fn listed(service: &mut Service) -> Result<Vec<Listed>, CommandError> {
    let answer = service.ask(Command::RefsList(RefsList {})).await?.document;
    let sets = field(&answer, "sets")?.as_array().into_iter().flatten();
    sets.map(|set| {
        Ok(Listed {
            name: ItemName::new(text(set, "name")?).map_err(CommandError::usage)?,
            version: number(set, "version")?,
            digest: text(set, "digest")?.parse().map_err(CommandError::usage)?,
            state: text(set, "state")?.to_owned(),
        })
    })
    .collect()
}

/// Digest of the only set that is meant. To end the wrong version would be felt.
fn the_one(all: &[Listed], named: &str) -> Result<Sha256Digest, CommandError> {
    let meant: Vec<&Listed> = all.iter().filter(|set| set.is(named)).collect();
    match meant.as_slice() {
        [one] => Ok(one.digest),
        [] => Err(unknown(named)),
        several => {
            let each = several.iter().map(|set| format!("{}:{} ({})", set.name, set.version, set.state));
            let each = each.collect::<Vec<_>>().join(", ");
            Err(CommandError::Usage(format!("{named} has several versions, say which: {each}")))
        }
    }
}

fn unknown(named: &str) -> CommandError {
    let detail = format!("reference value set {named} is not known: `verifier refs list` shows those that are");
    CommandError::Denied { code: "order.unknown".to_owned(), detail: detail.into() }
}

/// Whole seconds, or a number with s, m, h or d.
fn duration_s(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_s = match text.strip_prefix(digits) {
        Some("" | "s") => 1,
        Some("m") => 60,
        Some("h") => 3600,
        Some("d") => 24 * 3600,
        Some(_) | None => return Err(format!("{text:?} is no duration: write seconds, or 90s, 15m, 12h, 7d")),
    };
    let count: u64 =
        digits.parse().map_err(|_| format!("{text:?} is no duration: write seconds, or 90s, 15m, 12h, 7d"))?;
    count.checked_mul(unit_s).ok_or_else(|| format!("{text:?} is too long"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_seconds_or_have_a_unit() {
        for (text, seconds) in [("0", 0), ("90", 90), ("90s", 90), ("15m", 900), ("12h", 43_200), ("7d", 604_800)] {
            assert_eq!(duration_s(text), Ok(seconds), "{text}");
        }
        for text in ["", "m", "-1", "1.5h", "1w", "1 h", "99999999999999999999d", "18446744073709551615d"] {
            assert!(duration_s(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_name_with_several_versions_is_not_enough_to_end_one() {
        let set = |version, state: &str| Listed {
            name: "laptops".parse().unwrap(),
            version,
            digest: Sha256Digest([u8::try_from(version).unwrap(); 32]),
            state: state.to_owned(),
        };
        let all = [set(1, "active"), set(2, "staged")];
        assert_eq!(the_one(&all, "laptops:1").ok(), Some(Sha256Digest([1; 32])));
        assert_eq!(the_one(&all, &Sha256Digest([2; 32]).to_string()).ok(), Some(Sha256Digest([2; 32])));
        assert_eq!(the_one(&all[..1], "laptops").ok(), Some(Sha256Digest([1; 32])));
        let Err(CommandError::Usage(told)) = the_one(&all, "laptops") else { panic!("taken") };
        assert!(told.contains("laptops:1 (active), laptops:2 (staged)"), "{told}");
        assert!(matches!(the_one(&all, "desktops"), Err(CommandError::Denied { .. })));
    }
}
