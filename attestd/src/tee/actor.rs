//! One thread owns the source of reports; everyone else sends it requests and waits no longer than a deadline.
//!
//! Files of configfs and requests to the security processor block without a timeout, so the deadline is kept outside the
//! thread. A source that exceeds it is given up for good, with its thread (which may stay blocked until the process ends):
//! what it says later would answer a request that we already called failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::configfs::Configfs;
use super::error::TeeError;
use super::guest_device::SevGuest;
use super::reports::{REPORT_DATA_BYTES, TeeKind, TeeReport, TeeReports};
use super::socket::Simulator;
use crate::config::{ReportsSource, TeeConfig};

/// Requests that may wait; more make their senders wait.
const REQUEST_QUEUE_CAP: usize = 16;

enum Request {
    Report(Box<[u8; REPORT_DATA_BYTES]>, oneshot::Sender<Result<TeeReport, TeeError>>),
    Probe(oneshot::Sender<Result<(), TeeError>>),
}

impl Request {
    const fn doing(&self) -> &'static str {
        match self {
            Self::Report(..) => "a report",
            Self::Probe(_) => "a look at it",
        }
    }
}

/// Handle on the source's thread. Clones share it; the thread ends with the last.
#[derive(Clone, Debug)]
pub struct Tee {
    kind: TeeKind,
    requests: mpsc::Sender<Request>,
    pulse: Pulse,
}

impl Tee {
    /// The TEE of the configuration. Nothing is asked yet: a node without one can still report that it lost it.
    ///
    /// # Errors
    /// [`TeeError::Ended`] if no thread can be started.
    pub fn open(kind: TeeKind, config: &TeeConfig) -> Result<Self, TeeError> {
        let (deadline, privlevel) = (config.deadline(), config.privlevel);
        match &config.reports {
            ReportsSource::Configfs(directory) => {
                let service = config.service_provider.clone();
                Self::start(kind, Configfs::new(directory.clone(), privlevel, service), deadline)
            }
            ReportsSource::SevGuest => Self::start(kind, SevGuest::new(privlevel), deadline),
            ReportsSource::Socket(path) => {
                Self::start(kind, Simulator::new(path.clone(), privlevel, deadline), deadline)
            }
        }
    }

    /// Starts the thread.
    ///
    /// # Errors
    /// [`TeeError::Ended`] if no thread can be started.
    pub fn start(kind: TeeKind, reports: impl TeeReports, deadline: Duration) -> Result<Self, TeeError> {
        let pulse = Pulse { deadline, state: Arc::default() };
        let (requests, queue) = mpsc::channel(REQUEST_QUEUE_CAP);
        let thread_pulse = pulse.clone();
        std::thread::Builder::new()
            .name("tee".to_owned())
            .spawn(move || serve(kind, reports, &thread_pulse, queue))
            .map_err(|_| TeeError::Ended)?;
        Ok(Self { kind, requests, pulse })
    }

    /// Which TEE.
    #[must_use]
    pub const fn kind(&self) -> TeeKind {
        self.kind
    }

    /// A report over `data`.
    ///
    /// # Errors
    /// [`TeeError`].
    pub async fn report(&self, data: [u8; REPORT_DATA_BYTES]) -> Result<TeeReport, TeeError> {
        self.ask(|reply| Request::Report(Box::new(data), reply)).await
    }

    /// Whether the TEE still is there, without having a report made.
    ///
    /// # Errors
    /// [`TeeError`].
    pub async fn probe(&self) -> Result<(), TeeError> {
        self.ask(Request::Probe).await
    }

    async fn ask<T>(
        &self,
        request: impl FnOnce(oneshot::Sender<Result<T, TeeError>>) -> Request,
    ) -> Result<T, TeeError> {
        let (reply, answer) = oneshot::channel();
        let mut waiting = std::pin::pin!(async {
            self.requests.send(request(reply)).await.map_err(|_| TeeError::Ended)?;
            answer.await.map_err(|_| TeeError::Ended)?
        });
        loop {
            if let Some(hung) = self.pulse.overdue() {
                return Err(hung);
            }
            tokio::select! {
                biased;
                outcome = &mut waiting => return match (outcome, self.pulse.overdue()) {
                    (Err(TeeError::Ended), Some(hung)) => Err(hung),
                    (outcome, _) => outcome,
                },
                () = tokio::time::sleep(self.pulse.look_again_after()) => {}
            }
        }
    }
}

fn serve(kind: TeeKind, mut reports: impl TeeReports, pulse: &Pulse, mut queue: mpsc::Receiver<Request>) {
    while let Some(request) = queue.blocking_recv() {
        pulse.begin(request.doing());
        // Whoever asked may be gone: the outcome is not needed then.
        match request {
            Request::Report(data, reply) => drop(reply.send(TeeReport::obtain(kind, &mut reports, &data))),
            Request::Probe(reply) => drop(reply.send(reports.probe())),
        }
        if pulse.end_was_too_late() {
            return;
        }
    }
}

/// Which request is running and until when it may.
#[derive(Clone, Debug)]
struct Pulse {
    deadline: Duration,
    state: Arc<Mutex<PulseState>>,
}

#[derive(Debug, Default)]
struct PulseState {
    running: Option<(&'static str, Instant)>,
    given_up: Option<TeeError>,
}

impl Pulse {
    fn begin(&self, doing: &'static str) {
        self.lock().running = Some((doing, Instant::now()));
    }

    fn end_was_too_late(&self) -> bool {
        let mut state = self.lock();
        state.running = None;
        state.given_up.is_some()
    }

    /// Gives the source up if its running request is over the deadline; once given up, it stays so.
    fn overdue(&self) -> Option<TeeError> {
        let mut state = self.lock();
        if let (None, Some((doing, since))) = (&state.given_up, state.running)
            && since.elapsed() >= self.deadline
        {
            let deadline_ms = u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX);
            state.given_up = Some(TeeError::Hung { doing, deadline_ms });
        }
        state.given_up.clone()
    }

    fn look_again_after(&self) -> Duration {
        let running = self.lock().running;
        running.map_or(self.deadline, |(_, since)| self.deadline.saturating_sub(since.elapsed())).max(SHORTEST_LOOK)
    }

    fn lock(&self) -> MutexGuard<'_, PulseState> {
        // The state is two plain values, whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const SHORTEST_LOOK: Duration = Duration::from_millis(1);

#[cfg(test)]
mod tests {
    use std::sync::mpsc as std_mpsc;

    use super::super::reports::RawReport;
    use super::super::reports::tests::snp;
    use super::*;

    /// Answers when it is told to.
    struct Slow(std_mpsc::Receiver<()>);

    impl TeeReports for Slow {
        fn report(&mut self, data: &[u8; 64]) -> Result<RawReport, TeeError> {
            let _ = self.0.recv();
            Ok(snp(data))
        }
        fn probe(&mut self) -> Result<(), TeeError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_source_that_hangs_is_given_up_for_good() {
        let (go, wait) = std_mpsc::channel();
        let tee = Tee::start(TeeKind::SevSnp, Slow(wait), Duration::from_millis(50)).unwrap();
        go.send(()).unwrap();
        assert_eq!(tee.report([1; 64]).await.unwrap().kind(), TeeKind::SevSnp);
        let hung = TeeError::Hung { doing: "a report", deadline_ms: 50 };
        assert_eq!(tee.report([2; 64]).await, Err(hung.clone()));
        go.send(()).unwrap();
        assert_eq!(tee.report([3; 64]).await, Err(hung.clone()), "it answers again, too late");
        assert_eq!(tee.probe().await, Err(hung));
    }

    #[tokio::test]
    async fn a_request_that_waits_in_line_is_not_late() {
        let (go, wait) = std_mpsc::channel();
        let tee = Tee::start(TeeKind::SevSnp, Slow(wait), Duration::from_secs(60)).unwrap();
        let first = tokio::spawn({
            let tee = tee.clone();
            async move { tee.report([1; 64]).await }
        });
        let probe = tokio::spawn(async move { tee.probe().await });
        go.send(()).unwrap();
        assert!(first.await.unwrap().is_ok() && probe.await.unwrap().is_ok());
    }
}
