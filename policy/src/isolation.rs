//! How an execution asks to be kept apart, as policies see it.

use governance::isolation::{Files, Isolation, Limits, Seccomp};
use serde::{Deserialize, Serialize};

use crate::facts::{text, texts};
use crate::value::Cedar;

/// What an intent asks for. A case that leaves it out asks for nothing.
///
/// No limit is `i64::MAX`, so that `memory_bytes <= 1073741824` needs no guard and is not met by what has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IsolationClaims {
    /// Named filter of system calls: `none` or `default`.
    pub seccomp: String,
    /// Whether it may open only the files below.
    pub confine_files: bool,
    /// Paths that it may read; empty unless files are confined.
    pub read: Vec<String>,
    /// Paths that it may write; empty unless files are confined.
    pub write: Vec<String>,
    /// Whether it can signal only its own processes.
    pub confine_signals: bool,
    /// Kernel capabilities that it keeps, without `cap_`.
    pub privileges: Vec<String>,
    /// Whether it gets a cgroup of its own.
    pub cgroup: bool,
    /// Bytes of memory.
    pub memory_bytes: i64,
    /// Processes and threads.
    pub processes: i64,
    /// Thousandths of one processor.
    pub cpu_millis: i64,
}

/// Where nothing limits it.
pub(crate) const UNLIMITED: i64 = i64::MAX;

impl Default for IsolationClaims {
    fn default() -> Self {
        Self::of(&Isolation::default())
    }
}

impl IsolationClaims {
    pub(crate) fn of(isolation: &Isolation) -> Self {
        let Isolation { seccomp, files, confine_signals, privileges, cgroup: _, limits } = isolation;
        let Limits { memory_bytes, processes, cpu_millis } = limits;
        let confined = files.clone().unwrap_or_default();
        let Files { read, write } = confined;
        let seccomp: Seccomp = *seccomp;
        Self {
            seccomp: seccomp.name().to_owned(),
            confine_files: files.is_some(),
            read: read.into_iter().map(String::from).collect(),
            write: write.into_iter().map(String::from).collect(),
            confine_signals: *confine_signals,
            privileges: privileges.iter().map(ToString::to_string).collect(),
            cgroup: isolation.needs_cgroup(),
            memory_bytes: memory_bytes.map_or(UNLIMITED, |bytes| i64::try_from(bytes).unwrap_or(UNLIMITED)),
            processes: processes.map_or(UNLIMITED, i64::from),
            cpu_millis: cpu_millis.map_or(UNLIMITED, i64::from),
        }
    }

    pub(crate) fn to_cedar(&self) -> Cedar {
        Cedar::new_record([
            ("seccomp", text(&self.seccomp)),
            ("confine_files", Cedar::new_bool(self.confine_files)),
            ("read", texts(&self.read)),
            ("write", texts(&self.write)),
            ("confine_signals", Cedar::new_bool(self.confine_signals)),
            ("privileges", texts(&self.privileges)),
            ("cgroup", Cedar::new_bool(self.cgroup)),
            ("memory_bytes", Cedar::new_long(self.memory_bytes)),
            ("processes", Cedar::new_long(self.processes)),
            ("cpu_millis", Cedar::new_long(self.cpu_millis)),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_asked_for_is_no_isolation() {
        let none = IsolationClaims::default();
        assert_eq!((none.seccomp.as_str(), none.confine_files, none.cgroup), ("none", false, false));
        assert_eq!([none.memory_bytes, none.processes, none.cpu_millis], [UNLIMITED; 3]);
    }

    #[test]
    fn a_limit_is_a_cgroup() {
        let limits = Limits { processes: Some(20), ..Limits::default() };
        let claims = IsolationClaims::of(&Isolation { limits, ..Isolation::default() });
        assert!(claims.cgroup);
        assert_eq!(claims.processes, 20);
    }
}
