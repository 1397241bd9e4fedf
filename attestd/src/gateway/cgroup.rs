//! The cgroup of one execution: made below the configured one, limited before anything is in it.

use std::fs;
use std::path::{Path, PathBuf};

use governance::isolation::Limits;

use super::GatewayError;
use crate::supervise::confine::Unavailable;

/// Makes a cgroup for one execution.
pub(super) fn make(parent: &Path, name: &str, limits: &Limits) -> Result<PathBuf, GatewayError> {
    for controller in controllers_of(limits) {
        enable(parent, controller)?;
    }
    let path = parent.join(name);
    fs::create_dir(&path).map_err(|source| GatewayError::Cgroup { path: path.clone(), source })?;
    match limit(&path, limits) {
        Ok(()) => Ok(path),
        Err(unavailable) => {
            let _ = fs::remove_dir(&path); // nobody is in it yet
            Err(unavailable.into())
        }
    }
}

/// Controllers that the kernel offers below this cgroup.
pub(super) fn offered(parent: &Path) -> std::io::Result<Vec<String>> {
    let text = fs::read_to_string(parent.join("cgroup.controllers"))?;
    Ok(text.split_whitespace().map(str::to_owned).collect())
}

/// Controllers that these limits need.
pub(super) fn controllers_of(limits: &Limits) -> impl Iterator<Item = &'static str> + use<> {
    let Limits { memory_bytes, processes, cpu_millis } = *limits;
    let needed = [("memory", memory_bytes.is_some()), ("pids", processes.is_some()), ("cpu", cpu_millis.is_some())];
    needed.into_iter().filter_map(|(controller, needed)| needed.then_some(controller))
}

/// Passes a controller on to the cgroups below (cgroup-v2, "Enabling and Disabling").
fn enable(parent: &Path, controller: &str) -> Result<(), Unavailable> {
    let lacks = |got: String| {
        let wanted = format!("the {controller} controller below {}", parent.display());
        Unavailable::new(&format!("cgroup.{controller}"), wanted, got)
    };
    let offered = offered(parent).map_err(|error| lacks(error.to_string()))?;
    if !offered.iter().any(|name| name == controller) {
        return Err(lacks(listed(&offered)));
    }
    let control = parent.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&control).map_err(|error| lacks(error.to_string()))?;
    if enabled.split_whitespace().any(|name| name == controller) {
        return Ok(());
    }
    fs::write(&control, format!("+{controller}")).map_err(|error| lacks(error.to_string()))
}

pub(super) fn listed(controllers: &[String]) -> String {
    if controllers.is_empty() { "no controller".to_owned() } else { controllers.join(", ") }
}

fn limit(path: &Path, limits: &Limits) -> Result<(), Unavailable> {
    let Limits { memory_bytes, processes, cpu_millis } = limits;
    let set = |file: &str, value: String| {
        let lacks = |error: std::io::Error| Unavailable::new("cgroup", format!("{file} of {value}"), error);
        fs::write(path.join(file), &value).map_err(lacks)
    };
    if let Some(bytes) = memory_bytes {
        set("memory.max", bytes.to_string())?;
        set("memory.oom.group", "1".to_owned())?;
        // Absent in a kernel without swap, where there is nothing to forbid.
        if path.join("memory.swap.max").exists() {
            set("memory.swap.max", "0".to_owned())?;
        }
    }
    if let Some(count) = processes {
        set("pids.max", count.to_string())?;
    }
    match cpu_millis {
        Some(millis) => {
            let quota_us = u64::from(*millis).saturating_mul(CPU_PERIOD_US) / 1_000;
            set("cpu.max", format!("{quota_us} {CPU_PERIOD_US}"))
        }
        None => Ok(()),
    }
}

/// The kernel's own default.
const CPU_PERIOD_US: u64 = 100_000;

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder that looks like a cgroup whose kernel offers these controllers.
    fn parent(offered: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("cgroup.controllers"), offered).unwrap();
        fs::write(folder.path().join("cgroup.subtree_control"), "").unwrap();
        folder
    }

    #[test]
    fn limits_are_written_before_anything_runs() {
        let parent = parent("cpu memory pids");
        let limits = Limits { memory_bytes: Some(4096), processes: Some(9), cpu_millis: Some(1_500) };
        let path = make(parent.path(), "one", &limits).unwrap();
        let said = |file: &str| fs::read_to_string(path.join(file)).unwrap();
        assert_eq!(
            (said("memory.max"), said("pids.max"), said("cpu.max")),
            ("4096".into(), "9".into(), "150000 100000".into())
        );
        assert_eq!(fs::read_to_string(parent.path().join("cgroup.subtree_control")).unwrap(), "+cpu");
    }

    #[test]
    fn a_controller_that_is_not_there_is_named() {
        let parent = parent("cpu pids\n");
        let limits = Limits { memory_bytes: Some(4096), ..Limits::default() };
        let refused = make(parent.path(), "one", &limits).unwrap_err();
        let GatewayError::Unavailable(Unavailable { facility, got, .. }) = refused else { panic!("{refused}") };
        assert_eq!((facility.as_str(), got.as_str()), ("cgroup.memory", "cpu, pids"));
        assert!(!parent.path().join("one").exists());
    }
}
