//! One thread owns the TPM; everyone else sends it jobs and waits no longer than a deadline.
//!
//! libtss2 blocks without a timeout, so the deadline is kept outside the thread: each TPM command is announced in
//! [`Pulse`] before it is sent, and whoever waits looks there. A TPM that exceeds its deadline is given up for good,
//! with its thread (which may stay blocked until the process ends): it might answer later with the outcome of
//! something that we already called failed.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::device::{TpmDevice, TpmTransport};
use super::error::TpmError;
use super::esys::{EsysTransport, Leftovers};
use crate::config::TpmConfig;

/// Jobs that may wait; more make their senders wait.
const JOB_QUEUE_CAP: usize = 64;

type Job = Box<dyn FnOnce(Result<&mut dyn TpmDevice, TpmError>) -> Fate + Send>;

/// What a job's outcome means for the connection.
enum Fate {
    Keep,
    Reconnect,
}

/// Handle on the TPM's thread. Clones share it; the thread ends with the last.
#[derive(Clone, Debug)]
pub struct Tpm {
    jobs: mpsc::Sender<Job>,
    pulse: Pulse,
}

impl Tpm {
    /// The TPM of the configuration, through libtss2.
    ///
    /// # Errors
    /// As [`Tpm::start`].
    pub fn open(config: &TpmConfig) -> Result<Self, TpmError> {
        Self::start(EsysTransport { tcti: config.tcti.clone(), leftovers: Leftovers::Flushed }, config)
    }

    /// Starts the thread; the first job connects.
    ///
    /// # Errors
    /// [`TpmError::Ended`] if no thread can be started.
    pub fn start(transport: impl TpmTransport, config: &TpmConfig) -> Result<Self, TpmError> {
        let pulse = Pulse::new(config.command_deadline(), config.key_deadline());
        let (jobs, queue) = mpsc::channel(JOB_QUEUE_CAP);
        let thread_pulse = pulse.clone();
        std::thread::Builder::new()
            .name("tpm".to_owned())
            .spawn(move || Owner { transport, pulse: thread_pulse, device: None }.serve(queue))
            .map_err(|_| TpmError::Ended)?;
        Ok(Self { jobs, pulse })
    }

    /// Runs `job` on the TPM's thread.
    ///
    /// # Errors
    /// What the job returned, or that the TPM hangs or cannot be reached.
    pub async fn call<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut dyn TpmDevice) -> Result<T, TpmError> + Send + 'static,
    ) -> Result<T, TpmError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |device| {
            let outcome = device.and_then(job);
            let fate = match &outcome {
                Err(TpmError::Unreachable { .. }) => Fate::Reconnect,
                Ok(_) | Err(_) => Fate::Keep,
            };
            // Nobody waits any more: the outcome is not needed.
            let _ = reply.send(outcome);
            fate
        });
        let mut waiting = std::pin::pin!(async {
            self.jobs.send(job).await.map_err(|_| TpmError::Ended)?;
            answer.await.map_err(|_| TpmError::Ended)?
        });
        loop {
            if let Some(error) = self.pulse.overdue() {
                return Err(error);
            }
            let look_again = tokio::time::sleep(self.pulse.look_again_after());
            tokio::select! {
                biased;
                outcome = &mut waiting => return match (outcome, self.pulse.overdue()) {
                    (Err(TpmError::Ended), Some(hung)) => Err(hung),
                    (outcome, _) => outcome,
                },
                () = look_again => {}
            }
        }
    }
}

struct Owner<T> {
    transport: T,
    pulse: Pulse,
    device: Option<Box<dyn TpmDevice>>,
}

impl<T: TpmTransport> Owner<T> {
    fn serve(mut self, mut queue: mpsc::Receiver<Job>) {
        while let Some(job) = queue.blocking_recv() {
            let fate = match self.connected() {
                Ok(device) => job(Ok(device)),
                Err(error) => job(Err(error)),
            };
            match fate {
                Fate::Keep => {}
                // A Context is dead for good after a transport error.
                Fate::Reconnect => self.device = None,
            }
            if self.pulse.given_up() {
                // Dropping the connection would flush its handles, which may be another owner's by now.
                std::mem::forget(self.device.take());
                return;
            }
        }
    }

    fn connected(&mut self) -> Result<&mut dyn TpmDevice, TpmError> {
        let device = match self.device.take() {
            Some(device) => device,
            None => self.transport.connect(&self.pulse)?,
        };
        Ok(self.device.insert(device).as_mut())
    }
}

/// Which TPM command is running and until when it may.
#[derive(Clone, Debug)]
pub struct Pulse {
    command_deadline: Duration,
    key_deadline: Duration,
    state: Arc<Mutex<PulseState>>,
}

#[derive(Debug, Default)]
struct PulseState {
    running: Option<Running>,
    given_up: Option<TpmError>,
}

#[derive(Clone, Copy, Debug)]
struct Running {
    command: &'static str,
    allowed: Duration,
    since: Instant,
}

impl Pulse {
    /// Deadlines for ordinary commands and for those that make keys.
    #[must_use]
    pub fn new(command_deadline: Duration, key_deadline: Duration) -> Self {
        Self { command_deadline, key_deadline, state: Arc::default() }
    }

    /// Runs one TPM command under the ordinary deadline.
    ///
    /// # Errors
    /// The TPM was given up before, or what `send` returned.
    pub fn command<T>(&self, command: &'static str, send: impl FnOnce() -> Result<T, TpmError>) -> Result<T, TpmError> {
        self.within(command, self.command_deadline, send)
    }

    /// Runs one TPM command that makes a key.
    ///
    /// # Errors
    /// As [`Pulse::command`].
    pub fn key_command<T>(
        &self,
        command: &'static str,
        send: impl FnOnce() -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        self.within(command, self.key_deadline, send)
    }

    fn within<T>(
        &self,
        command: &'static str,
        allowed: Duration,
        send: impl FnOnce() -> Result<T, TpmError>,
    ) -> Result<T, TpmError> {
        {
            let mut state = self.lock();
            if let Some(error) = &state.given_up {
                return Err(error.clone());
            }
            state.running = Some(Running { command, allowed, since: Instant::now() });
        }
        let outcome = send();
        let mut state = self.lock();
        state.running = None;
        match &state.given_up {
            Some(error) => Err(error.clone()),
            None => outcome,
        }
    }

    /// Gives the TPM up if its running command is over its deadline; once given up, it stays so.
    fn overdue(&self) -> Option<TpmError> {
        let mut state = self.lock();
        if let (None, Some(running)) = (&state.given_up, state.running)
            && running.since.elapsed() >= running.allowed
        {
            let deadline_ms = u64::try_from(running.allowed.as_millis()).unwrap_or(u64::MAX);
            state.given_up = Some(TpmError::Hung { command: running.command, deadline_ms });
        }
        state.given_up.clone()
    }

    fn given_up(&self) -> bool {
        self.lock().given_up.is_some()
    }

    fn look_again_after(&self) -> Duration {
        self.lock()
            .running
            .map_or(self.command_deadline, |r| r.allowed.saturating_sub(r.since.elapsed()))
            // Between two commands of one job the next may have another deadline.
            .min(self.command_deadline)
            .max(Duration::from_millis(1))
    }

    fn lock(&self) -> MutexGuard<'_, PulseState> {
        // The state is two plain values, whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
