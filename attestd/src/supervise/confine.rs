//! What a workload gives up for good before its first instruction, as its intent asks (`governance::isolation`).
//!
//! All of it is inherited by whatever the workload starts, and none of it can be taken back. What the kernel cannot do is
//! said by name and nothing is started: there is no best effort here.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;

use caps::{CapSet, Capability, CapsHashSet};
use evidence::names::ItemName;
use governance::isolation::{Files, Isolation, Seccomp};
use landlock::{
    ABI, Access as _, AccessFs, BitFlags, CompatLevel, Compatible as _, PathBeneath, PathFd, Ruleset, RulesetAttr as _,
    RulesetCreated, RulesetCreatedAttr as _, RulesetStatus, Scope,
};
use serde::{Deserialize, Serialize};

use super::syscalls;

/// Something that was asked for and that this machine cannot give.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("this machine does not give {facility}: wanted {wanted}, got {got}")]
#[serde(deny_unknown_fields)]
pub struct Unavailable {
    /// `landlock`, `seccomp`, `capabilities`, `cgroup`, `cgroup.memory`, …
    pub facility: String,
    /// What was asked for.
    pub wanted: String,
    /// What there is.
    pub got: String,
}

impl Unavailable {
    pub(crate) fn new(facility: &str, wanted: impl Into<String>, got: impl ToString) -> Self {
        Self { facility: facility.to_owned(), wanted: wanted.into(), got: got.to_string() }
    }
}

/// Gives up everything that `isolation` says. No new privileges is set already: without it the kernel takes no filter.
pub(super) fn confine(isolation: &Isolation, executable: &File) -> Result<(), Unavailable> {
    confine_files(isolation, executable)?;
    keep_only(&isolation.privileges)?;
    match isolation.seccomp {
        Seccomp::None => Ok(()),
        Seccomp::Default => filter_system_calls(), // last: nothing that comes before may be refused by it
    }
}

fn confine_files(isolation: &Isolation, executable: &File) -> Result<(), Unavailable> {
    let Some(ruleset) = ruleset(isolation)? else { return Ok(()) };
    let ruleset = match &isolation.files {
        None => ruleset,
        Some(files) => admit(ruleset, files, executable)?,
    };
    let status = ruleset.restrict_self().map_err(|error| landlock_lacks(isolation, error))?;
    match status.ruleset {
        RulesetStatus::FullyEnforced => Ok(()),
        partly @ (RulesetStatus::PartiallyEnforced | RulesetStatus::NotEnforced) => {
            Err(landlock_lacks(isolation, format!("{partly:?}")))
        }
    }
}

/// What Landlock is to refuse, as far as it is asked for anything. Making one restricts nobody yet.
fn ruleset(isolation: &Isolation) -> Result<Option<RulesetCreated>, Unavailable> {
    if isolation.files.is_none() && !isolation.confine_signals {
        return Ok(None);
    }
    let lacks = |error| landlock_lacks(isolation, error);
    let mut ruleset = Ruleset::default().set_compatibility(CompatLevel::HardRequirement);
    if isolation.files.is_some() {
        ruleset = ruleset.handle_access(AccessFs::from_all(FILES_ABI)).map_err(lacks)?;
    }
    if isolation.confine_signals {
        ruleset = ruleset.scope(Scope::Signal).map_err(lacks)?;
    }
    ruleset.create().map(Some).map_err(lacks)
}

fn admit(mut ruleset: RulesetCreated, files: &Files, executable: &File) -> Result<RulesetCreated, Unavailable> {
    let read = AccessFs::from_read(FILES_ABI);
    let run = AccessFs::Execute | AccessFs::ReadFile;
    let refused = |path: &str, error: String| Unavailable::new("landlock", format!("a rule for {path}"), error);
    let own = PathBeneath::new(executable.as_fd(), run);
    ruleset = ruleset.add_rule(own).map_err(|error| refused("the executable", error.to_string()))?;
    let reads = files.read.iter().map(|path| (path.as_str(), read));
    let writes = files.write.iter().map(|path| (path.as_str(), AccessFs::from_all(FILES_ABI)));
    for (path, access) in reads.chain(writes) {
        let folder = std::fs::metadata(path).map_err(|error| refused(path, error.to_string()))?.is_dir();
        // A rule for a file with rights that only folders have is refused.
        let access: BitFlags<AccessFs> = if folder { access } else { access & AccessFs::from_file(FILES_ABI) };
        let opened = PathFd::new(path).map_err(|error| refused(path, error.to_string()))?;
        let rule = PathBeneath::new(opened, access);
        ruleset = ruleset.add_rule(rule).map_err(|error| refused(path, error.to_string()))?;
    }
    Ok(ruleset)
}

fn landlock_lacks(isolation: &Isolation, got: impl ToString) -> Unavailable {
    let files = isolation.files.as_ref().map(|_| "files confined (Linux 6.2)");
    let signals = isolation.confine_signals.then_some("signals confined (Linux 6.12)");
    let wanted: Vec<&str> = files.into_iter().chain(signals).collect();
    Unavailable::new("landlock", wanted.join(" and "), got)
}

/// Leaves exactly these capabilities, in every set; a kernel that knows more of them than we do clears those, too.
fn keep_only(privileges: &BTreeSet<ItemName>) -> Result<(), Unavailable> {
    let kept = capabilities(privileges)?;
    let refused = |error: caps::errors::CapsError| Unavailable::new("capabilities", wanted(privileges), error);
    // Who may not change the bounding set has no need to: without new privileges nothing is gained from it.
    if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).map_err(refused)? {
        for capability in caps::read(None, CapSet::Bounding).map_err(refused)?.difference(&kept) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(refused)?;
        }
    }
    caps::clear(None, CapSet::Ambient).map_err(refused)?;
    caps::set(None, CapSet::Inheritable, &kept).map_err(refused)?;
    caps::set(None, CapSet::Effective, &kept).map_err(refused)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(refused)?;
    kept.iter().try_for_each(|capability| caps::raise(None, CapSet::Ambient, *capability)).map_err(refused)
}

/// The capabilities of these names, if this process has all of them.
pub(crate) fn capabilities(privileges: &BTreeSet<ItemName>) -> Result<CapsHashSet, Unavailable> {
    let held = held()?;
    let named = privileges.iter().map(|name| {
        let known = caps::to_canonical(name.as_str()).parse::<Capability>().ok();
        known.filter(|capability| held.contains(capability))
    });
    named.collect::<Option<_>>().ok_or_else(|| {
        let mut names: Vec<String> = held.iter().map(short_name).collect();
        names.sort_unstable();
        let got = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        Unavailable::new("capabilities", wanted(privileges), got)
    })
}

/// What this process could leave to a workload.
pub(crate) fn held() -> Result<CapsHashSet, Unavailable> {
    caps::read(None, CapSet::Permitted).map_err(|error| Unavailable::new("capabilities", "to read them", error))
}

/// A capability's name as intents write it.
pub(crate) fn short_name(capability: &Capability) -> String {
    capability.to_string().trim_start_matches("CAP_").to_lowercase()
}

fn wanted(privileges: &BTreeSet<ItemName>) -> String {
    if privileges.is_empty() {
        return "to drop all".to_owned();
    }
    privileges.iter().map(ItemName::as_str).collect::<Vec<_>>().join(", ")
}

fn filter_system_calls() -> Result<(), Unavailable> {
    let lacks = |got: String| Unavailable::new("seccomp", "the profile default", got);
    let program = syscalls::default_profile().ok_or_else(|| lacks("no table for this architecture".to_owned()))?;
    seccompiler::apply_filter(&program).map_err(|error| lacks(error.to_string()))
}

/// Refuses what the kernel would refuse, without giving anything up.
pub(crate) fn kernel_gives(isolation: &Isolation) -> Result<(), Unavailable> {
    ruleset(isolation)?;
    capabilities(&isolation.privileges)?;
    let lacks = |got: &str| Err(Unavailable::new("seccomp", "the profile default", got));
    match isolation.seccomp {
        Seccomp::None => Ok(()),
        Seccomp::Default if syscalls::default_profile().is_none() => lacks("no table for this architecture"),
        Seccomp::Default => match std::fs::read_to_string(SECCOMP_ACTIONS) {
            Ok(actions) if ["kill_process", "errno"].iter().all(|a| actions.split_whitespace().any(|b| a == &b)) => {
                Ok(())
            }
            Ok(actions) => lacks(&format!("only {}", actions.trim())),
            Err(error) => lacks(&format!("{SECCOMP_ACTIONS}: {error}")),
        },
    }
}

/// The rights that files are confined by: all that Linux 6.2 knows, truncation the last of them.
const FILES_ABI: ABI = ABI::V3;
const SECCOMP_ACTIONS: &str = "/proc/sys/kernel/seccomp/actions_avail";
