//! A workload's child, which may do less than it and ends with it; and the lineage of everything that ran.

use std::path::Path;
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::process::Command;

use super::machine::NODE;
use super::stage::DemoFault;
use super::story::{KEY, Story, is_alive, refuse_refusals, string};
use super::watched::Watched;

type Told<T> = Result<T, DemoFault>;

/// A parent and its child, both over.
pub(super) struct Family {
    parent: String,
    child: String,
}

impl Story<'_> {
    /// A workload asks for more than it has, then for less; then it is killed.
    pub(super) async fn child_with_its_parent(&mut self) -> Told<Family> {
        let call = shell(&self.stage.attestd(&["--format", "json", "exec"]))?;
        let wider = format!("{call} --key {KEY} --capability net -- true; echo wider $?");
        let script = format!("{wider}; {call} -- sleep 600 > /dev/null; sleep 600");
        let mut execution = Watched::start(self.stage, &["--key", KEY, "--", "sh", "-c", &script])?;
        let intent = execution.until(|seen| seen.phase() == Some(1), refuse_refusals).await?;
        let begun = execution.until(|seen| seen.phase() == Some(5), refuse_refusals).await?;
        let (parent, pid) = (intent.fact("intent").to_owned(), begun.fact("pid").to_owned());
        self.tell.say(format_args!("a workload with the key \"{KEY}\" runs, pid {pid}"))?;
        let mut told = String::new();
        while !told.contains("wider ") {
            told.push_str(execution.until(|seen| seen.is("stdout"), refuse_refusals).await?.field("text"));
        }
        if !told.contains(BEYOND) || !told.contains("wider 3") {
            return Err(DemoFault::new("a child that asks for more than its parent has", told));
        }
        self.tell.say(format_args!("  it asks for a child that may do more than itself: denied ({BEYOND})"))?;
        let stage = self.stage;
        let running = async || {
            let tree = stage.ask_attestd(&["status", "--tree"], 0).await?;
            let all = tree.pointer("/executions").and_then(Value::as_array).cloned().unwrap_or_default();
            let child = all.iter().find_map(|execution| execution.pointer("/children/0")).cloned();
            Ok(child.filter(|child| child.pointer("/pid").is_some_and(Value::is_u64)))
        };
        let child = stage.until("the child", running).await?;
        let child_pid = string(&child, &["/pid"])?;
        self.tell.say(format_args!("  it asks for less, without the key: its child runs under it, pid {child_pid}"))?;
        let killed_at = Instant::now();
        kill(&pid)?;
        stage.until("the child's end", async || Ok((!is_alive(&child_pid)).then_some(()))).await?;
        self.tell.say(format_args!(
            "  pid {pid} was killed: its child, pid {child_pid}, was dead {} ms later",
            killed_at.elapsed().as_millis()
        ))?;
        execution.until(|seen| seen.is("exit"), |_| Ok(())).await?;
        Ok(Family { parent, child: string(&child, &["/intent"])? })
    }

    /// The tree of what ran on this node, and a drawing of it.
    pub(super) async fn lineage(&mut self, family: &Family, svg: Option<&Path>) -> Told<()> {
        let drawn = self.stage.text("lineage.svg");
        let show = ["lineage", "show", NODE, "--svg", &drawn];
        let output = self.stage.finish(self.stage.verifier(&show)).await?;
        if !output.status.success() {
            return Err(DemoFault::new("lineage show", String::from_utf8_lossy(&output.stderr)));
        }
        family.is_in(&self.stage.ask_verifier(&show[..3], 0).await?)?;
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            self.tell.line(format_args!("  {line}"))?;
        }
        match svg {
            Some(path) => {
                let copied = std::fs::copy(&drawn, path);
                copied.map_err(|error| DemoFault::new(format_args!("writing {}", path.display()), error))?;
                self.tell.say(format_args!("the same as a drawing: {}", path.display()))
            }
            None => self.tell.say("the same as a drawing with --svg FILE"),
        }
    }
}

impl Family {
    /// The child hangs from a grant of its parent, and both have ended.
    fn is_in(&self, lineage: &Value) -> Told<()> {
        let records = lineage.pointer("/records").and_then(Value::as_array).cloned().unwrap_or_default();
        let text = |record: &Value, name: &str| string(record, &[&format!("/{name}")]).unwrap_or_default();
        let of = |subject: &str, kind: &str| -> Vec<Value> {
            let wanted = |record: &&Value| text(record, "subject") == subject && text(record, "kind") == kind;
            records.iter().filter(wanted).cloned().collect()
        };
        let grants: Vec<String> = ["authorization", "renewal"]
            .iter()
            .flat_map(|kind| of(&self.parent, kind))
            .map(|record| text(&record, "record"))
            .collect();
        let hangs = of(&self.child, "intent").iter().any(|intent| {
            intent
                .pointer("/hangs_from/0")
                .and_then(Value::as_str)
                .is_some_and(|stem| grants.iter().any(|one| one == stem))
        });
        let ended = !of(&self.child, "end").is_empty() && !of(&self.parent, "end").is_empty();
        if hangs && ended { Ok(()) } else { Err(DemoFault::new("the lineage", lineage)) }
    }
}

/// A command as a shell reads it.
fn shell(command: &Command) -> Told<String> {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| {
        let word = word.to_str().filter(|word| !word.contains('\''));
        word.map(|word| format!("'{word}'")).ok_or_else(|| DemoFault::new("a path", "is not for a shell"))
    });
    Ok(words.collect::<Told<Vec<_>>>()?.join(" "))
}

fn kill(pid: &str) -> Told<()> {
    let pid = pid.parse().ok().and_then(Pid::from_raw).ok_or_else(|| DemoFault::new("the workload's pid", pid))?;
    kill_process(pid, Signal::KILL).map_err(|errno| DemoFault::new("killing the workload", errno))
}

const BEYOND: &str = "governance.scope_exceeded";
