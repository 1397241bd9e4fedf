//! What this machine can give to keep an execution apart, found out before anybody is asked to authorize it.

use std::path::Path;

use governance::isolation::{Files, Isolation, Limits, Seccomp};
use serde_json::{Value, json};

use super::cgroup;
use crate::supervise::confine::{self, Unavailable};

/// Refuses what this machine cannot give of `isolation`.
///
/// # Errors
/// [`Unavailable`] naming the first facility that is missing.
pub(crate) fn admit(isolation: &Isolation, parent: Option<&Path>) -> Result<(), Unavailable> {
    confine::kernel_gives(isolation)?;
    if !isolation.needs_cgroup() {
        return Ok(());
    }
    let lacks = |got: String| Unavailable::new("cgroup", "a cgroup of its own", got);
    let parent = parent.ok_or_else(|| lacks("no halt.cgroup in the configuration".to_owned()))?;
    let offered = cgroup::offered(parent).map_err(|error| lacks(format!("{}: {error}", parent.display())))?;
    match cgroup::controllers_of(&isolation.limits).find(|needed| !offered.iter().any(|name| name == needed)) {
        None => Ok(()),
        Some(controller) => {
            let wanted = format!("the {controller} controller below {}", parent.display());
            Err(Unavailable::new(&format!("cgroup.{controller}"), wanted, cgroup::listed(&offered)))
        }
    }
}

/// Whether the kernel is set up to give user namespaces (user_namespaces(7), and what distributions add).
fn images() -> Result<(), Unavailable> {
    let lacks = |got: String| Err(Unavailable::new("user_namespaces", "an image of its own files", got));
    let setting = |name: &str| std::fs::read_to_string(Path::new("/proc/sys").join(name)).ok();
    match setting("user/max_user_namespaces") {
        None => return lacks("a kernel without them".to_owned()),
        Some(none) if none.trim() == "0" => return lacks("user.max_user_namespaces is 0".to_owned()),
        Some(_) => {}
    }
    let refusals = [("kernel/unprivileged_userns_clone", "0"), ("kernel/apparmor_restrict_unprivileged_userns", "1")];
    let refused = |(name, value): &(&str, &str)| setting(name).is_some_and(|set| set.trim() == *value);
    match refusals.into_iter().find(refused) {
        Some((name, value)) if !rustix::process::geteuid().is_root() => {
            lacks(format!("{} is {value}, for users other than root", name.replace('/', ".")))
        }
        Some(_) | None => Ok(()),
    }
}

/// What there is, one facility an entry: its name, and what is missing of it.
#[must_use]
pub fn look(parent: Option<&Path>) -> Vec<(&'static str, Result<(), Unavailable>)> {
    let asked = Isolation::default;
    let limits = |limits| Isolation { limits, ..asked() };
    let each = [
        ("files", Isolation { files: Some(Files::default()), ..asked() }),
        ("signals", Isolation { confine_signals: true, ..asked() }),
        ("seccomp", Isolation { seccomp: Seccomp::Default, ..asked() }),
        ("cgroup", Isolation { cgroup: true, ..asked() }),
        ("memory", limits(Limits { memory_bytes: Some(1), ..Limits::default() })),
        ("processes", limits(Limits { processes: Some(1), ..Limits::default() })),
        ("cpu", limits(Limits { cpu_millis: Some(1), ..Limits::default() })),
    ];
    each.map(|(name, isolation)| (name, admit(&isolation, parent))).into_iter().chain([("image", images())]).collect()
}

/// The same for `status` and `config check`, with the kernel capabilities that an intent may keep.
#[must_use]
pub fn to_json(parent: Option<&Path>) -> Value {
    let facility = |(name, gives): (&str, Result<(), Unavailable>)| match gives {
        Ok(()) => json!({ "facility": name, "available": true }),
        Err(lacks) => json!({ "facility": name, "available": false, "wanted": lacks.wanted, "got": lacks.got }),
    };
    json!({ "facilities": look(parent).into_iter().map(facility).collect::<Vec<_>>(), "privileges": privileges() })
}

/// The same in words, a sentence a line.
#[must_use]
pub fn in_words(parent: Option<&Path>) -> Vec<String> {
    let facility = |(name, gives): (&str, Result<(), Unavailable>)| match gives {
        Ok(()) => format!("An intent may ask for isolation by {name}."),
        Err(lacks) => format!("An intent that asks for isolation by {name} is refused: {}.", lacks.got),
    };
    let privileges = match privileges() {
        none if none.is_empty() => "A workload has no kernel capability.".to_owned(),
        some => format!("A workload has no kernel capability but those that its intent keeps, of {}.", some.join(", ")),
    };
    look(parent).into_iter().map(facility).chain([privileges]).collect()
}

fn privileges() -> Vec<String> {
    let mut names: Vec<String> = confine::held().unwrap_or_default().iter().map(confine::short_name).collect();
    names.sort_unstable();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_refused_by_name() {
        let wants = Isolation { cgroup: true, ..Isolation::default() };
        assert_eq!(admit(&wants, None).unwrap_err().facility, "cgroup");
        let wants =
            Isolation { privileges: [evidence::names::ItemName::new("fly").unwrap()].into(), ..Isolation::default() };
        assert_eq!(admit(&wants, None).unwrap_err().facility, "capabilities");
        admit(&Isolation::default(), None).unwrap();
    }

    #[test]
    fn every_facility_is_told_with_what_is_missing() {
        let told = to_json(None);
        let cgroup = told["facilities"].as_array().unwrap().iter().find(|facility| facility["facility"] == "cgroup");
        assert_eq!(cgroup.unwrap()["available"], false);
        assert_eq!(in_words(None).len(), 9);
    }
}
