//! The verbs that talk to a running daemon: `exec`, `status`, `halt`, and `evidence` where there is one.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use attestd::cli::{Common, ExecArgs, Format, HaltArgs, Outcome, PauseArgs};
use attestd::collect::Inspected;
use attestd::state::{socket_path, workload_socket_path};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};
use wire::bounded::EVIDENCE_CAP_BYTES;
use wire::proto::{self, exec_event::Event, local_client::LocalClient, workload_client::WorkloadClient};

use super::failure::Failure;

/// Runs a command under the daemon and passes its output on.
///
/// # Errors
/// The daemon cannot be reached, or broke off.
pub(crate) async fn exec(common: &Common, arguments: ExecArgs) -> anyhow::Result<Outcome> {
    let intent_toml = match &arguments.intent {
        Some(path) => std::fs::read(path).with_context(|| format!("reading intent {}", path.display()))?,
        None => Vec::new(),
    };
    let labels = arguments.labels.iter().map(|label| label.split_once('=').map(|(n, v)| (n.to_owned(), v.to_owned())));
    let Some(labels) = labels.collect::<Option<_>>() else { return usage("a label must be NAME=VALUE") };
    let directory = match (arguments.directory, &arguments.image) {
        (Some(within), Some(_)) => path_text(within)?,
        (None, Some(_)) => String::new(),
        (named, None) => {
            let directory = named.map_or_else(std::env::current_dir, std::path::absolute);
            path_text(directory.context("working directory")?)?
        }
    };
    let image = arguments.image.map_or(Ok(String::new()), absolute_layout)?;
    let parents = arguments.parents.iter().map(std::path::absolute).collect::<io::Result<Vec<_>>>()?;
    let request = proto::ExecRequest {
        argv: arguments.argv,
        environment: arguments.environment,
        keys: arguments.keys,
        labels,
        capabilities: arguments.capabilities,
        requester: String::new(),
        intent_toml,
        working_directory: directory,
        domains: arguments.domains,
        need: arguments.need.unwrap_or(0),
        parents: parents.into_iter().map(path_text).collect::<anyhow::Result<_>>()?,
        attach: arguments.attach.map_or(Ok(String::new()), path_text)?,
        image,
    };
    let answered = match arguments.child {
        true => as_child(&common.state, request).await?,
        false => match connect(&common.state).await?.exec(request.clone()).await {
            // The daemon knows its own: what a workload starts is its child.
            Err(status) if status.code() == tonic::Code::PermissionDenied => as_child(&common.state, request).await?,
            answered => answered,
        },
    };
    let mut events = match answered {
        Ok(events) => events.into_inner(),
        Err(status) => return rejected(common.format, &status),
    };
    let mut printer = Printer { format: common.format, refusal: None };
    while let Some(event) = events.message().await.context("the daemon broke off")? {
        let Some(event) = event.event else { continue };
        if let Some(outcome) = printer.print(event)? {
            return Ok(outcome);
        }
    }
    match printer.refusal {
        Some(refusal) => Ok(refusal_outcome(&refusal)),
        None => anyhow::bail!("the daemon broke off before the end"),
    }
}

/// A layout as the daemon, which runs elsewhere, can read it.
fn absolute_layout(named: String) -> anyhow::Result<String> {
    path_text(std::path::absolute(named).context("image")?)
}

/// Prints events as they come.
struct Printer {
    format: Format,
    refusal: Option<proto::Refusal>,
}

impl Printer {
    fn print(&mut self, event: Event) -> anyhow::Result<Option<Outcome>> {
        match event {
            Event::Stdout(bytes) => self.output("stdout", &bytes, &mut io::stdout())?,
            Event::Stderr(bytes) => self.output("stderr", &bytes, &mut io::stderr())?,
            Event::Phase(phase) => self.note(
                &json!({"event": "phase", "number": phase.number, "name": phase.name, "facts": phase.facts}),
                || phase_text(&phase),
            )?,
            Event::Refusal(refusal) => {
                let document = json!({
                    "event": "refusal", "decision": decision(&refusal), "code": refusal.code, "entry": refusal.entry, "halt": refusal.halt,
                    "rules": refusal.rules,
                });
                self.note(&document, || {
                    format!("refused ({}): {}{}", refusal.class, refusal.code, entry_text(&refusal))
                })?;
                self.refusal = Some(refusal);
            }
            Event::Exit(exit) => {
                let halted = !exit.halt_code.is_empty();
                let document =
                    json!({"event": "exit", "code": exit.code, "halt_code": halted.then_some(&exit.halt_code)});
                self.note(&document, || {
                    if halted { format!("halted: {}", exit.halt_code) } else { format!("ended with {}", exit.code) }
                })?;
                return Ok(Some(match &self.refusal {
                    _ if halted => Outcome::Halted,
                    // Nothing ran, or a start failed: the refusal says more than the code.
                    Some(refusal) if exit.code == NOT_STARTED_EXIT_CODE => refusal_outcome(refusal),
                    Some(_) | None => Outcome::Workload(u8::try_from(exit.code).unwrap_or(u8::MAX)),
                }));
            }
        }
        Ok(None)
    }

    /// The workload's own output: as it is, or as an event a line.
    fn output(&self, stream: &str, bytes: &[u8], to: &mut dyn Write) -> anyhow::Result<()> {
        match self.format {
            Format::Text => {
                to.write_all(bytes)?;
                to.flush()?;
            }
            Format::Json => {
                let text = String::from_utf8_lossy(bytes);
                writeln!(io::stdout(), "{}", json!({"event": stream, "text": text}))?;
            }
        }
        Ok(())
    }

    /// What the daemon says: on stderr for people, so that stdout is the workload's alone.
    fn note(&self, document: &Value, text: impl FnOnce() -> String) -> anyhow::Result<()> {
        match self.format {
            Format::Text => writeln!(io::stderr(), "attestd: {}", text())?,
            Format::Json => writeln!(io::stdout(), "{document}")?,
        }
        Ok(())
    }
}

fn phase_text(phase: &proto::Phase) -> String {
    let mut facts: Vec<_> = phase.facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
    facts.sort_unstable();
    format!("{} {} {}", phase.number, phase.name, facts.join(" "))
}

fn entry_text(refusal: &proto::Refusal) -> String {
    let entry = if refusal.entry.is_empty() { String::new() } else { format!(", log entry {}", refusal.entry) };
    let rules = if refusal.rules.is_empty() { String::new() } else { format!(" ({})", refusal.rules.join("; ")) };
    entry + &rules
}

fn decision(refusal: &proto::Refusal) -> &'static str {
    if refusal.class == "denied" { "denied" } else { "fault" }
}

fn refusal_outcome(refusal: &proto::Refusal) -> Outcome {
    if refusal.class == "denied" { Outcome::Denied } else { Outcome::Fault }
}

/// Evidence from the daemon; `None` where no daemon answers.
///
/// # Errors
/// The daemon broke off.
pub(super) async fn evidence(
    state: &Path,
    request: proto::EvidenceRequest,
) -> anyhow::Result<Option<Result<Inspected, Failure>>> {
    let Ok(client) = connect(state).await else { return Ok(None) };
    let mut client = client.max_decoding_message_size(EVIDENCE_ANSWER_CAP_BYTES);
    let answer = match client.evidence(request).await {
        Ok(answer) => answer.into_inner(),
        Err(status) if status.code() == tonic::Code::InvalidArgument => {
            return Ok(Some(Err(Failure::usage("evidence", status.message()))));
        }
        Err(status) => anyhow::bail!("the daemon refused the request: {}", status.message()),
    };
    let document: Value = serde_json::from_str(&answer.json).context("the daemon's answer")?;
    Ok(Some(match answer.refusal {
        None => Ok(Inspected { document, cmw: answer.cmw }),
        Some(refusal) => Err(Failure::fault(&refusal.code, document.as_str().unwrap_or_default())),
    }))
}

/// Prints the daemon's status.
///
/// # Errors
/// The daemon cannot be reached.
pub(crate) async fn status(common: &Common, tree: bool) -> anyhow::Result<Outcome> {
    let answer =
        connect(&common.state).await?.status(proto::StatusRequest {}).await.context("asking for the status")?;
    let document = answer.into_inner().json;
    if tree {
        let status: Value = serde_json::from_str(&document).context("the daemon's status")?;
        return super::tree::print(common.format, &status);
    }
    print_status(common.format, &document)
}

/// Halts the node.
///
/// # Errors
/// The daemon cannot be reached.
pub(crate) async fn halt(common: &Common, arguments: HaltArgs) -> anyhow::Result<Outcome> {
    let HaltArgs { reason, mode, grace_ms } = arguments;
    let mode = mode.map_or_else(String::new, |mode| mode.name().to_owned());
    match connect(&common.state).await?.halt(proto::HaltRequest { reason, mode, grace_ms }).await {
        Ok(answer) => print_status(common.format, &answer.into_inner().json),
        Err(status) => rejected(common.format, &status),
    }
}

/// Has executions stand still.
///
/// # Errors
/// The daemon cannot be reached, or this machine cannot do it.
pub(crate) async fn pause(common: &Common, arguments: PauseArgs) -> anyhow::Result<Outcome> {
    let Some(request) = pause_request(arguments) else { return usage(NOT_A_DIGEST) };
    match connect(&common.state).await?.pause(request).await {
        Ok(answer) => print_status(common.format, &answer.into_inner().json),
        Err(status) => rejected(common.format, &status),
    }
}

/// Lets executions go on.
///
/// # Errors
/// The daemon cannot be reached.
pub(crate) async fn resume(common: &Common, arguments: PauseArgs) -> anyhow::Result<Outcome> {
    let Some(request) = pause_request(arguments) else { return usage(NOT_A_DIGEST) };
    match connect(&common.state).await?.resume(request).await {
        Ok(answer) => print_status(common.format, &answer.into_inner().json),
        Err(status) => rejected(common.format, &status),
    }
}

fn pause_request(arguments: PauseArgs) -> Option<proto::PauseRequest> {
    let intent =
        arguments.intent.map_or(Some(Vec::new()), |intent| hex::decode(intent).ok().filter(|d| d.len() == 32))?;
    Some(proto::PauseRequest { intent })
}

const NOT_A_DIGEST: &str = "an intent is named by 64 hexadecimal digits";

fn print_status(format: Format, document: &str) -> anyhow::Result<Outcome> {
    let status: Value = serde_json::from_str(document).context("the daemon's status")?;
    let halted = status.get("halt").is_some_and(|halt| !halt.is_null());
    let mut out = io::stdout();
    match format {
        Format::Json => writeln!(out, "{status}")?,
        Format::Text => {
            let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or("?").to_owned();
            writeln!(out, "node {}: {}", text(status.get("node")), text(status.get("state")))?;
            for part in ["halt", "domains", "executions", "unsent_records"] {
                let value = status.get(part).unwrap_or(&Value::Null);
                writeln!(out, "{part}: {value:#}")?;
            }
        }
    }
    Ok(if halted { Outcome::Halted } else { Outcome::Done })
}

/// A request that the daemon did not take.
pub(super) fn rejected(format: Format, status: &tonic::Status) -> anyhow::Result<Outcome> {
    if status.code() == tonic::Code::InvalidArgument {
        return match format {
            Format::Text => usage(status.message()),
            Format::Json => {
                writeln!(io::stdout(), "{}", json!({"error": "usage", "why": status.message()}))?;
                Ok(Outcome::Usage)
            }
        };
    }
    anyhow::bail!("the daemon refused the request: {}", status.message())
}

fn usage(why: &str) -> anyhow::Result<Outcome> {
    writeln!(io::stderr(), "attestd: {why}")?;
    Ok(Outcome::Usage)
}

async fn connect(state: &Path) -> anyhow::Result<LocalClient<Channel>> {
    reach(socket_path(state)).await.map(LocalClient::new)
}

/// Asks as a workload.
async fn as_child(
    state: &Path,
    request: proto::ExecRequest,
) -> anyhow::Result<Result<tonic::Response<tonic::Streaming<proto::ExecEvent>>, tonic::Status>> {
    Ok(workload(state).await?.exec(request).await)
}

/// The socket of workloads.
pub(super) async fn workload(state: &Path) -> anyhow::Result<WorkloadClient<Channel>> {
    reach(workload_socket_path(state)).await.map(WorkloadClient::new)
}

async fn reach(path: PathBuf) -> anyhow::Result<Channel> {
    let shown = path.display().to_string();
    // The name is not used: the connector always opens the one socket.
    let endpoint = Endpoint::try_from("http://local")?;
    let connector = tower::service_fn(move |_| {
        let path = path.clone();
        async move { opened(&path).await.map(TokioIo::new) }
    });
    let channel = endpoint.connect_with_connector(connector).await;
    channel.with_context(|| format!("no daemon answers at {shown}; is `attestd run` running?"))
}

/// A connection, also where so many clients stand in line that there is no place for one more at the moment.
async fn opened(path: &Path) -> io::Result<UnixStream> {
    let in_line = async {
        loop {
            match UnixStream::connect(path).await {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    tokio::time::sleep(IN_LINE_AGAIN_AFTER).await;
                }
                connected => return connected,
            }
        }
    };
    tokio::time::timeout(IN_LINE_WITHIN, in_line).await.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
}

fn path_text(path: PathBuf) -> anyhow::Result<String> {
    path.into_os_string().into_string().map_err(|path| anyhow::anyhow!("{} is not UTF-8", path.display()))
}

/// unix(7): a socket whose backlog is full refuses at once whoever does not block.
const IN_LINE_WITHIN: Duration = Duration::from_secs(5);
const IN_LINE_AGAIN_AFTER: Duration = Duration::from_millis(2);
/// Evidence, and a document about it.
const EVIDENCE_ANSWER_CAP_BYTES: usize = EVIDENCE_CAP_BYTES + 64 * 1024;
/// What the daemon reports when nothing was started.
const NOT_STARTED_EXIT_CODE: i32 = 126;
