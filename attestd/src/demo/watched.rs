//! An `attestd exec` whose events the demo reads as they come.

use std::process::Stdio;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout};
use tokio::time::timeout;

use super::machine::SOON;
use super::stage::{ATTESTD_STATE, DemoFault, Stage};

/// A running `attestd exec --format json`.
pub struct Watched {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    /// Output of the workload behind the line that was looked for last.
    #[cfg(test)]
    pub(super) unread: String,
}

/// One event of it.
pub struct Seen(Value);

impl Seen {
    /// Whether it is this event.
    #[must_use]
    pub fn is(&self, event: &str) -> bool {
        self.0.get("event").and_then(Value::as_str) == Some(event)
    }

    /// The phase, if it is one.
    #[must_use]
    pub fn phase(&self) -> Option<u64> {
        if self.is("phase") { self.0.get("number").and_then(Value::as_u64) } else { None }
    }

    /// A fact of a phase; `?` where there is none.
    #[must_use]
    pub fn fact(&self, name: &str) -> &str {
        self.0.pointer(&format!("/facts/{name}")).and_then(Value::as_str).unwrap_or("?")
    }

    /// A field; empty where there is none.
    #[must_use]
    pub fn field(&self, name: &str) -> &str {
        self.0.get(name).and_then(Value::as_str).unwrap_or("")
    }

    /// A field that is a list of texts; empty where there is none.
    #[must_use]
    pub fn list(&self, name: &str) -> Vec<&str> {
        let values = self.0.get(name).and_then(Value::as_array);
        values.into_iter().flatten().filter_map(Value::as_str).collect()
    }

    /// Name and facts of a phase on one line.
    #[must_use]
    pub fn told(&self) -> String {
        let facts = self.0.get("facts").and_then(Value::as_object);
        let mut facts: Vec<String> = facts
            .into_iter()
            .flatten()
            .filter_map(|(name, value)| Some(format!("{name} {}", short(value.as_str()?))))
            .collect();
        facts.sort_unstable();
        format!("{}: {}", self.field("name"), facts.join(", "))
    }
}

/// Digests are long; their first bytes tell them apart here.
pub(super) fn short(text: &str) -> String {
    let hex = text.rsplit(':').next().unwrap_or(text);
    if [64, 96].contains(&hex.len()) && hex.bytes().all(|b| b.is_ascii_hexdigit()) {
        return format!("{}…", hex.get(..12).unwrap_or(hex));
    }
    text.to_owned()
}

impl Watched {
    pub(super) fn start(stage: &Stage, arguments: &[&str]) -> Result<Self, DemoFault> {
        Self::start_of(stage, ATTESTD_STATE, arguments)
    }

    /// The same, on a node whose state is this folder.
    pub(super) fn start_of(stage: &Stage, state: &str, arguments: &[&str]) -> Result<Self, DemoFault> {
        let mut all = vec!["--format", "json", "exec"];
        all.extend(arguments);
        let mut command = stage.attestd_of(state, &all);
        let doing = |error| DemoFault::new("starting attestd exec", error);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(doing)?;
        stage.attend(child.id());
        let stdout = child.stdout.take().ok_or_else(|| DemoFault::new("starting attestd exec", "no output"))?;
        Ok(Self {
            child,
            lines: BufReader::new(stdout).lines(),
            #[cfg(test)]
            unread: String::new(),
        })
    }

    /// The next event.
    ///
    /// # Errors
    /// [`DemoFault`]: none came.
    pub async fn next(&mut self) -> Result<Seen, DemoFault> {
        let doing = "reading what attestd exec prints";
        let line = timeout(SOON, self.lines.next_line()).await.map_err(|_| DemoFault::new(doing, "nothing came"))?;
        let line =
            line.map_err(|error| DemoFault::new(doing, error))?.ok_or_else(|| DemoFault::new(doing, "it ended"))?;
        serde_json::from_str(&line)
            .map(Seen)
            .map_err(|error| DemoFault::new(doing, format_args!("{error} in {line:?}")))
    }

    /// Reads until an event satisfies; the ones before it are given to `passing`.
    ///
    /// # Errors
    /// [`DemoFault`]: it ended before, or `passing` refused one.
    pub async fn until(
        &mut self,
        wanted: impl Fn(&Seen) -> bool,
        mut passing: impl FnMut(&Seen) -> Result<(), DemoFault>,
    ) -> Result<Seen, DemoFault> {
        loop {
            let seen = self.next().await?;
            if wanted(&seen) {
                return Ok(seen);
            }
            passing(&seen)?;
            if seen.is("exit") {
                return Err(DemoFault::new("attestd exec", format_args!("ended too early: {}", seen.0)));
            }
        }
    }

    /// Its exit code.
    ///
    /// # Errors
    /// [`DemoFault`]: it did not end.
    pub async fn exit_code(mut self) -> Result<i32, DemoFault> {
        let ended =
            timeout(SOON, self.child.wait()).await.map_err(|_| DemoFault::new("attestd exec", "did not end"))?;
        let status = ended.map_err(|error| DemoFault::new("attestd exec", error))?;
        status.code().ok_or_else(|| DemoFault::new("attestd exec", status))
    }
}
