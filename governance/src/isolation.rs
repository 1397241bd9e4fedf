//! How an execution is kept apart from the rest of its machine: what its intent asks for, and its node must give.
//!
//! What holds for every execution is not written here, because nobody can ask for less: no new privileges, no core dumps,
//! and no kernel capability but those that the intent keeps.

use std::collections::BTreeSet;

use evidence::names::ItemName;
use serde::{Deserialize, Serialize};

use crate::{denial::GovernanceDenial, text::Text};

/// Most paths that may be read, and as many that may be written.
pub const PATHS_CAP: usize = 32;
/// Most kernel capabilities that may be kept; Linux has fewer.
pub const PRIVILEGES_CAP: usize = 64;
/// Most memory that may be asked for, in bytes: 1 PiB.
pub const MEMORY_CAP_BYTES: u64 = 1 << 50;
/// Most processes that may be asked for: the kernel's own limit (`PID_MAX_LIMIT`).
pub const PROCESSES_CAP: u32 = 4_194_304;
/// Most processor time that may be asked for, in thousandths of one processor.
pub const CPU_CAP_MILLIS: u32 = 8_192_000;

/// What one execution asks for. Left out is: no filter, every file that the node's user may open, no limit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Isolation {
    /// Which system calls it may make.
    pub seccomp: Seccomp,
    /// Which files it may open (Landlock).
    pub files: Option<Files>,
    /// It can signal no process but its own, its supervisor least of all (Landlock).
    pub confine_signals: bool,
    /// Kernel capabilities that it keeps, by name without `cap_`; it has no other.
    pub privileges: BTreeSet<ItemName>,
    /// It runs in a cgroup of its own; so does each execution with a limit.
    pub cgroup: bool,
    /// What it may use up.
    pub limits: Limits,
}

/// A named filter of system calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Seccomp {
    /// Every system call.
    #[default]
    None,
    /// None that looks into other processes, loads code into the kernel, mounts, makes namespaces, or sets the clock.
    Default,
}

impl Seccomp {
    /// Its name in intents and policies.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Default => "default",
        }
    }
}

/// Files and folders, with all below them. The executable itself may always be read and run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Files {
    /// May be read and executed: the loader and its libraries among them.
    pub read: BTreeSet<Text>,
    /// May be read, executed, written, made and removed.
    pub write: BTreeSet<Text>,
}

/// What an execution may use up; none is no limit. Each needs its cgroup v2 controller.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Memory in bytes (memory.max), and no swap beside it.
    pub memory_bytes: Option<u64>,
    /// Processes and threads (pids.max).
    pub processes: Option<u32>,
    /// Processor time in thousandths of one processor (cpu.max).
    pub cpu_millis: Option<u32>,
}

impl Isolation {
    /// Whether it needs a cgroup of its own.
    #[must_use]
    pub fn needs_cgroup(&self) -> bool {
        self.cgroup || self.limits != Limits::default()
    }

    pub(crate) fn bounded(&self, what: &'static str) -> Result<(), GovernanceDenial> {
        let refuse = |field, rule| Err(GovernanceDenial::FieldInvalid { what, field, rule });
        if let Some(Files { read, write }) = &self.files {
            if read.len() > PATHS_CAP || write.len() > PATHS_CAP {
                return refuse("isolation.files", "at most 32 paths to read and 32 to write");
            }
            if !read.iter().chain(write).all(plain_path) {
                return refuse("isolation.files", "absolute paths without . and ..");
            }
        }
        if self.privileges.len() > PRIVILEGES_CAP {
            return refuse("isolation.privileges", "at most 64");
        }
        let Limits { memory_bytes, processes, cpu_millis } = self.limits;
        if memory_bytes.is_some_and(|bytes| bytes == 0 || bytes > MEMORY_CAP_BYTES) {
            return refuse("isolation.limits.memory_bytes", "1 to 2^50");
        }
        if processes.is_some_and(|count| count == 0 || count > PROCESSES_CAP) {
            return refuse("isolation.limits.processes", "1 to 4194304");
        }
        if cpu_millis.is_some_and(|millis| !(CPU_MIN_MILLIS..=CPU_CAP_MILLIS).contains(&millis)) {
            return refuse("isolation.limits.cpu_millis", "10 to 8192000");
        }
        Ok(())
    }
}

pub(crate) fn plain_path(path: &Text) -> bool {
    let path = path.as_str();
    path.starts_with('/') && path.split('/').all(|part| part != "." && part != "..")
}

/// cpu.max takes no quota below a millisecond in its period of a tenth of a second.
const CPU_MIN_MILLIS: u32 = 10;
