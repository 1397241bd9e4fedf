//! `verifier policy`: policy sets, checked and tried offline, signed here, activated by statement.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use evidence::digest::Sha256Digest;
use evidence::names::{DomainName, ItemName};
use evidence::time::UnixSeconds;
use firmware_refs::text::{Moment, Text};
use governance::statement::Order;
use policy::cases::CaseFile;
use policy::check::check;
use policy::set::{PolicyDocument, PolicySet};
use wire::proto::{PolicyImport, PolicyShow, ServerStatus, operator_command::Command};

use super::backtest::BacktestArgs;
use super::collected::{Part, PartKind};
use super::service::{Service, field, number, text};
use super::signing::{SigningArgs, now, read_text};
use super::{CommandError, Common, output};

const SECONDS_A_DAY: u64 = 24 * 3600;

/// Arguments of `verifier policy`.
#[derive(Args, Debug)]
pub struct PolicyArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Find what keeps a policy (Cedar) from loading, and what in it is odd. Offline.
    Check {
        /// The policy.
        file: PathBuf,
    },
    /// Ask a policy the questions of a case file (TOML) and compare the answers. Offline.
    Test {
        /// The policy.
        file: PathBuf,
        /// The cases.
        cases: PathBuf,
    },
    /// Judge the decisions of the last days again with a candidate in the place of the policy set: who would break?
    /// Exit code 0: nobody, 3: somebody, 4: something could not be judged.
    Backtest(BacktestArgs),
    /// Show the policy sets of the running service.
    Show,
    /// Sign a policy as the next version of a set, and make it the one in force.
    Activate {
        /// The policy.
        file: PathBuf,
        /// Name of the set.
        #[arg(long, default_value = "policy")]
        name: String,
        /// How long it permits anything, in days.
        #[arg(long, value_name = "DAYS", default_value_t = 90)]
        valid_days: u64,
        #[command(flatten)]
        signing: SigningArgs,
    },
}

impl PolicyArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let document = match &self.verb {
            Verb::Check { file } => return self.check(file),
            Verb::Test { file, cases } => return self.test(file, cases),
            Verb::Backtest(backtest) => return backtest.policy(&self.common).await,
            Verb::Show => {
                let mut service = Service::connect(&self.common.state).await?;
                service.ask(Command::PolicyShow(PolicyShow {})).await?.document
            }
            Verb::Activate { file, name, valid_days, signing } => {
                self.activate(file, name, *valid_days, signing).await?
            }
        };
        output::document(&document, self.common.format);
        Ok(())
    }

    fn check(&self, file: &Path) -> Result<(), CommandError> {
        let report = check(&unsigned(read_text(file)?)?);
        let document = serde_json::json!(report);
        if report.is_usable() {
            output::document(&document, self.common.format);
            return Ok(());
        }
        let problems: Vec<_> = report.errors.iter().map(ToString::to_string).collect();
        Err(CommandError::Usage(format!("{} does not load:\n{}", file.display(), problems.join("\n"))))
    }

    fn test(&self, file: &Path, cases: &Path) -> Result<(), CommandError> {
        let set = PolicySet::from_document(unsigned(read_text(file)?)?).map_err(CommandError::usage)?;
        let cases = CaseFile::from_toml(&read_text(cases)?).map_err(CommandError::usage)?;
        let report = cases.run(&set);
        output::document(&serde_json::json!(report), self.common.format);
        if report.passed() {
            return Ok(());
        }
        let failed = report.cases.iter().filter(|case| !case.passed).count();
        let what = format!("{failed} of {} cases answered otherwise than expected", report.cases.len());
        Err(CommandError::Denied { code: "policy.cases_failed".to_owned(), detail: what.into() })
    }

    async fn activate(
        &self,
        file: &Path,
        name: &str,
        valid_days: u64,
        signing: &SigningArgs,
    ) -> Result<serde_json::Value, CommandError> {
        let cedar = read_text(file)?;
        let mut service = Service::connect(&self.common.state).await?;
        let status = service.ask(Command::ServerStatus(ServerStatus {})).await?.document;
        let known = service.ask(Command::PolicyShow(PolicyShow {})).await?.document;
        let issued_at = now()?;
        let set = PolicySet::from_document(PolicyDocument {
            id: ItemName::new(name).map_err(CommandError::usage)?,
            version: newest(&known)?.saturating_add(1),
            domain: DomainName::new(text(&status, "domain")?).map_err(CommandError::usage)?,
            issued_at: Moment::from(issued_at),
            not_after: Moment::from(issued_at.plus(valid_days.saturating_mul(SECONDS_A_DAY))),
            reason: Text::try_from(signing.reason.clone()).map_err(CommandError::usage)?,
            cedar,
        })
        .map_err(|error| CommandError::Usage(format!("{}: {error}", file.display())))?;
        let keys = signing.keys()?;
        let signatures = keys.iter().map(|key| set.sign(key).map_err(CommandError::usage));
        let signatures: Vec<_> = signatures.collect::<Result<_, _>>()?;
        let (version, digest): (u64, Sha256Digest) = (set.document().version, set.digest());
        let order = Order::ActivatePolicy { version, set: digest };
        if signing.collects() {
            let set = Part::new(PartKind::PolicySet, signatures);
            return Ok(signing.collect_set(&mut service, set, Some(order)).await?.document);
        }
        for cose in signatures {
            service.ask(Command::PolicyImport(PolicyImport { cose })).await?;
        }
        Ok(signing.order(&mut service, order).await?.document)
    }
}

/// A document around a policy text that is only being looked at.
fn unsigned(cedar: String) -> Result<PolicyDocument, CommandError> {
    let today = now()?;
    Ok(PolicyDocument {
        id: ItemName::new("candidate").map_err(CommandError::usage)?,
        version: 1,
        domain: DomainName::new("candidate").map_err(CommandError::usage)?,
        issued_at: Moment::from(today),
        not_after: Moment::from(UnixSeconds(today.0.saturating_add(SECONDS_A_DAY))),
        reason: Text::lossy("not signed"),
        cedar,
    })
}

/// Highest version that the service has seen; 0 when there is none. One policy set is in force at a time, whatever its
/// name, and only a higher version replaces it: so versions count across names.
fn newest(known: &serde_json::Value) -> Result<u64, CommandError> {
    let mut newest = 0;
    for set in field(known, "sets")?.as_array().into_iter().flatten() {
        newest = newest.max(number(set, "version")?);
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_version_is_above_those_of_every_name() {
        let known = serde_json::json!({"sets": [
            {"name": "lab", "version": 7},
            {"name": "policy", "version": 2},
        ]});
        assert_eq!(newest(&known).unwrap(), 7);
        assert_eq!(newest(&serde_json::json!({"sets": []})).unwrap(), 0);
        assert!(newest(&serde_json::json!({"sets": [{"name": "lab"}]})).is_err());
        assert!(newest(&serde_json::json!({})).is_err());
    }
}
