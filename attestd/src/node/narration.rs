//! What an execution's client sees: the seven phases as they happen, the workload's output, the end.
//!
//! A client that does not read loses phases, never holds up a lease; its output waits in the workload's own pipe.

use std::collections::HashMap;
use std::time::Duration;

use evidence::digest::Sha256Digest;
use evidence::names::DomainName;
use governance::governance_state::VerifiedState;
use governance::intent::{self, Intent};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;
use wire::proto::{self, exec_event::Event};

use super::domain::Accepted;
use super::refused::Refused;

/// What one client is told.
pub(crate) struct Narration {
    events: mpsc::Sender<proto::ExecEvent>,
    pumps: JoinSet<()>,
}

impl Narration {
    pub(crate) fn new(events: mpsc::Sender<proto::ExecEvent>) -> Self {
        Self { events, pumps: JoinSet::new() }
    }

    /// Resolves when the client is gone.
    pub(crate) async fn abandoned(&self) {
        self.events.closed().await;
    }

    pub(crate) fn intent_generated(&self, digest: Sha256Digest, intent: &Intent) {
        let intent::Workload { executable, image, .. } = &intent.workload;
        let facts =
            [("node", intent.node.to_string()), ("intent", digest.to_string()), ("executable", executable.to_string())];
        let facts = facts.into_iter().chain(image.map(|image| ("image", image.to_string())));
        self.phase(1, "intent generated", facts);
    }

    pub(crate) fn governance_synchronized(&self, domain: &DomainName, state: &VerifiedState, log_size: u64) {
        let epoch = state.state().epoch.to_string();
        let facts = [
            ("domain", domain.to_string()),
            ("epoch", epoch),
            ("state", state.digest().to_string()),
            ("log_size", log_size.to_string()),
        ];
        self.phase(2, "governance synchronized", facts);
    }

    /// Phases 3 and 4, or 6 for a renewal.
    pub(crate) fn authorized(&self, domain: &DomainName, accepted: &Accepted, renewal: bool) {
        let terms = accepted.artifact.terms();
        let authorization = [
            ("domain", domain.to_string()),
            ("artifact", terms.id.to_string()),
            ("lease_seq", terms.lease.seq.to_string()),
            ("epoch", terms.governance.epoch.to_string()),
            ("log_index", accepted.log_index.to_string()),
        ];
        let trust = [
            ("node", terms.bindings.node.to_string()),
            ("pcr_digest", terms.conditions.register_digest.to_string()),
            ("evidence", terms.bindings.evidence.to_string()),
            ("lease_ms", terms.lease.duration_ms.to_string()),
        ];
        if renewal {
            self.phase(6, "verification continues", authorization.into_iter().chain(trust));
        } else {
            self.phase(3, "authorization issued", authorization);
            let keys = accepted.keys.iter().map(|key| key.name.as_str()).collect::<Vec<_>>().join(",");
            self.phase(4, "runtime trust established", trust.into_iter().chain([("keys", keys)]));
        }
    }

    pub(crate) fn begun(&self, workload_pid: i32) {
        self.phase(5, "governed execution begins", [("pid", workload_pid.to_string())]);
    }

    pub(crate) fn proof_persisted(&self, record: &str, log_index: Option<u64>) {
        let index = log_index.map_or_else(|| "unsent".to_owned(), |index| index.to_string());
        self.phase(7, "operational proof persisted", [("record", record.to_owned()), ("log_index", index)]);
    }

    pub(crate) fn refused(&self, refused: &Refused) {
        tracing::warn!(%refused, "refused");
        self.tell(Event::Refusal(refused.to_message()));
    }

    fn phase<'a>(&self, number: u32, name: &str, facts: impl IntoIterator<Item = (&'a str, String)>) {
        let facts: HashMap<String, String> = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        tracing::info!(phase = number, ?facts, "{name}");
        self.tell(Event::Phase(proto::Phase { number, name: name.to_owned(), facts }));
    }

    fn tell(&self, event: Event) {
        if self.events.try_send(proto::ExecEvent { event: Some(event) }).is_err() {
            tracing::debug!("the client does not read");
        }
    }

    /// Passes the workload's output on, at the pace of the client.
    pub(crate) fn stream(&mut self, stdout: pipe::Receiver, stderr: pipe::Receiver) {
        self.pumps.spawn(pump(stdout, self.events.clone(), Event::Stdout));
        self.pumps.spawn(pump(stderr, self.events.clone(), Event::Stderr));
    }

    /// The last event, after what the workload wrote last.
    pub(crate) async fn finish(mut self, exit_code: i32, halt_code: &str) {
        let drained = async { while self.pumps.join_next().await.is_some() {} };
        let _ = timeout(LAST_WORDS_WITHIN, drained).await;
        self.pumps.abort_all();
        let exit = proto::Exit { code: exit_code, halt_code: halt_code.to_owned() };
        let event = proto::ExecEvent { event: Some(Event::Exit(exit)) };
        let _ = timeout(LAST_WORDS_WITHIN, self.events.send(event)).await;
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, to: mpsc::Sender<proto::ExecEvent>, wrap: fn(Vec<u8>) -> Event) {
    let mut buffer = vec![0; CHUNK_BYTES];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(count) => {
                let chunk = buffer.get(..count).unwrap_or_default().to_vec();
                if to.send(proto::ExecEvent { event: Some(wrap(chunk)) }).await.is_err() {
                    return;
                }
            }
        }
    }
}

const CHUNK_BYTES: usize = 16 * 1024;
/// How long a client may take to read the end.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(2);
