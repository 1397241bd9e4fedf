//! The execution gateway: the only place that starts a workload.

mod cgroup;
mod environment;
mod error;
mod executable;
pub mod facilities;
mod image;
mod key;
mod running;
mod standby;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use governance::GovernanceDenial;
use governance::artifact::VerifiedArtifact;
use governance::intent::Intent;
use governance::isolation::Isolation;
use governance::on_halt::OnHalt;
use rustix::process::{Pid, getpid};
use tokio::net::unix::pipe;
use tokio::sync::{Semaphore, oneshot, watch};

pub use environment::{ATTESTD_KEYS_SOCKET, Environment, EnvironmentError, SPIFFE_ENDPOINT_SOCKET};
pub use error::GatewayError;
pub use executable::{Executable, ExecutableError};
pub(crate) use executable::{find, hash, open_file};
pub use image::{Image, ImageError, KEYS_SOCKET, Root, WORKLOAD_SOCKET};
pub(crate) use key::SealedKey;
pub use key::{ExecutionKey, key_variable};
pub use running::Running;
use running::Still;
pub use standby::Standby;
use standby::supervisors;

pub use crate::supervise::attach::{AttachError, Attached};
pub use crate::supervise::confine::Unavailable;
use crate::supervise::control::{self, Attach, Order, Report, Start, StartFault};
pub use crate::supervise::control::{EndCause, Ended, Outcome};
use crate::supervise::{SUPERVISE, descendants};

/// What the node's configuration says about workloads.
#[derive(Debug, Clone)]
pub struct GatewaySettings {
    /// This program, as a supervisor.
    pub program: PathBuf,
    /// A writable cgroup v2 directory below which each execution gets its own; none: the process tree is walked.
    pub cgroup: Option<PathBuf>,
    /// The sockets that images are given, by where workloads find them there.
    pub sockets: Vec<(PathBuf, &'static str)>,
    /// Most memory that an image's files may take, in bytes.
    pub image_cap_bytes: u64,
}

/// Starts workloads and remembers their supervisors.
#[derive(Debug)]
pub struct Gateway {
    settings: GatewaySettings,
    executions: AtomicU64,
    /// Places for images of executions that have not started: an image takes memory before anybody authorized anything.
    waiting_images: Waiting,
}

/// Places of operators, and of workloads that ask for children.
#[derive(Debug)]
struct Waiting {
    operators: Arc<Semaphore>,
    workloads: Arc<Semaphore>,
}

/// Who asks for an execution.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// An operator.
    Operator,
    /// A workload.
    Workload,
}

/// What the node adds to an intent: the open executable, values for the intent's environment names, a place to run, and who
/// will see to its end.
pub struct Workload {
    /// Opened and hashed before the intent was made.
    pub executable: Executable,
    /// Already judged.
    pub environment: Environment,
    /// Absolute.
    pub working_directory: PathBuf,
    /// The cgroup that holds it already; none: it is started.
    pub attached: Option<Attached>,
    /// The image that it runs in; none: the machine's files.
    pub root: Option<Root>,
    /// From [`Gateway::stand_by`].
    pub supervisor: Standby,
}

impl Gateway {
    /// Makes this process the reaper of whatever a killed supervisor leaves behind.
    pub fn new(settings: GatewaySettings) -> io::Result<Self> {
        rustix::process::set_child_subreaper(Some(getpid()))?;
        let places = |count| Arc::new(Semaphore::new(count));
        let waiting_images = Waiting { operators: places(OPERATORS_IMAGES), workloads: places(WORKLOADS_IMAGES) };
        Ok(Self { settings, executions: AtomicU64::new(0), waiting_images })
    }

    /// A supervisor that is there by the time something is authorized.
    ///
    /// # Errors
    /// [`GatewayError::System`].
    pub fn stand_by(&self) -> Result<Standby, GatewayError> {
        Ok(Standby::start(&self.settings.program, SUPERVISE)?)
    }

    /// Unpacks an image for one execution and opens `program` in it, as a shell would find it there. Blocks.
    ///
    /// # Errors
    /// [`GatewayError::Image`], [`GatewayError::Executable`]; [`GatewayError::TooManyImages`] while others wait to be started.
    pub fn unpack(
        &self,
        asker: Asker,
        image: &Image,
        program: &str,
        search_path: &str,
        directory: &Path,
    ) -> Result<(Root, Executable), GatewayError> {
        let places = match asker {
            Asker::Operator => &self.waiting_images.operators,
            Asker::Workload => &self.waiting_images.workloads,
        };
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| GatewayError::TooManyImages)?;
        let GatewaySettings { program: supervisor, sockets, image_cap_bytes, .. } = &self.settings;
        let (root, file, path) =
            image.unpack(supervisor, (program, search_path, directory), sockets, *image_cap_bytes)?;
        Ok((root.in_place(place), Executable::unpacked(file, path)?))
    }

    /// Starts what was authorized, and only that. Comes back when the executable is running, with the lease's end already
    /// enforced by its supervisor.
    ///
    /// # Errors
    /// [`GatewayError`]; nothing runs then, and the keys are wiped.
    pub async fn start(
        &self,
        artifacts: &[VerifiedArtifact],
        intent: &Intent,
        workload: Workload,
        keys: Vec<ExecutionKey>,
        ends_at_boottime_ms: u64,
    ) -> Result<Running, GatewayError> {
        permit(artifacts, intent, &workload, &keys)?;
        let cgroup = match &workload.attached {
            None => self.make_cgroup(&intent.isolation)?,
            Some(_) => None,
        };
        let Workload { executable, environment, working_directory, attached, root, supervisor } = workload;
        let working_directory = working_directory.into_os_string().into_string();
        let working_directory =
            working_directory.map_err(|_| GatewayError::Request { what: "the working directory is not UTF-8" })?;
        let orders = supervisor.orders.try_clone()?;
        let (stdout, stdout_writer) = io::pipe()?;
        let (stderr, stderr_writer) = io::pipe()?;
        let (started_sender, started) = oneshot::channel();
        let (ended_sender, ended) = watch::channel(None);
        let (still_sender, still) = watch::channel(Still::default());
        let preparation = Preparation {
            outputs: [stdout_writer.into(), stderr_writer.into()],
            argv: intent.workload.argv.clone(),
            isolation: intent.isolation.clone(),
            executable,
            environment,
            working_directory,
            attached: attached.clone(),
            root,
            keys,
            cgroup,
            ends_at_boottime_ms,
        };
        // One thread per execution, for as long as it lasts: the control channel is read by blocking.
        std::thread::Builder::new()
            .name("supervisor".to_owned())
            .spawn(move || attend(supervisor, preparation, started_sender, &still_sender, &ended_sender))?;
        let supervisor = started.await.map_err(|_| GatewayError::SupervisorLost)??;
        let stdout = pipe::Receiver::from_owned_fd(stdout.into())?;
        let stderr = pipe::Receiver::from_owned_fd(stderr.into())?;
        Ok(Running::new(supervisor, attached, orders, (stdout, stderr), still, ended))
    }

    /// Refuses what this machine cannot give, before anybody is asked to authorize it.
    ///
    /// # Errors
    /// [`GatewayError::Unavailable`].
    pub fn admit(&self, isolation: &Isolation, on_halt: OnHalt) -> Result<(), GatewayError> {
        facilities::admit(isolation, self.settings.cgroup.as_deref())?;
        match on_halt {
            OnHalt::Freeze => self.freezes().map_err(GatewayError::from),
            OnHalt::Kill | OnHalt::Drain { .. } | OnHalt::RevokeKeys => Ok(()),
        }
    }

    /// Refuses where executions cannot be made to stand still. SIGSTOP to each process is no way: another process of the
    /// same user, or one just forked, goes on.
    pub(crate) fn freezes(&self) -> Result<(), Unavailable> {
        let alone = Isolation { cgroup: true, ..Isolation::default() };
        facilities::admit(&alone, self.settings.cgroup.as_deref()).map_err(|lacks| Unavailable {
            facility: "cgroup.freeze".to_owned(),
            wanted: "executions that stand still".to_owned(),
            ..lacks
        })
    }

    fn make_cgroup(&self, isolation: &Isolation) -> Result<Option<String>, GatewayError> {
        let Some(parent) = &self.settings.cgroup else {
            // What was asked for is never left out in silence, even if nobody looked before.
            return facilities::admit(isolation, None).map(|()| None).map_err(GatewayError::from);
        };
        let number = self.executions.fetch_add(1, Ordering::Relaxed);
        let name = format!("attestd-{}-{number}", getpid().as_raw_pid());
        let path = cgroup::make(parent, &name, &isolation.limits)?;
        let text = path.to_str().ok_or(GatewayError::Request { what: "the cgroup's path is not UTF-8" })?;
        Ok(Some(text.to_owned()))
    }
}

/// The gate: enough domains authorized this very intent, and everything about to run is what they authorized.
fn permit(
    artifacts: &[VerifiedArtifact],
    intent: &Intent,
    workload: &Workload,
    keys: &[ExecutionKey],
) -> Result<(), GatewayError> {
    let digest = intent.digest()?;
    intent.domains.met_by(artifacts.iter().map(|artifact| &artifact.terms().governance.domain))?;
    // One machine was judged by all of them.
    let judged: Vec<_> = artifacts.iter().map(|artifact| artifact.terms().confirmation.key.digest()).collect();
    if let Some((got, expected)) = judged.iter().zip(judged.iter().skip(1)).find(|(one, next)| one != next) {
        return Err(GovernanceDenial::NodeKey { got: *got, expected: *expected }.into());
    }
    for artifact in artifacts {
        let terms = artifact.terms();
        if terms.intent != digest {
            return Err(GovernanceDenial::Workload { got: terms.intent, expected: digest }.into());
        }
        let authorized = *terms.bindings.executable.as_bytes();
        if *workload.executable.digest() != authorized {
            let (path, got) = (workload.executable.path().to_owned(), *workload.executable.digest());
            return Err(ExecutableError::Changed { path, got, authorized }.into());
        }
    }
    let granted = |name: &str| artifacts.iter().any(|a| a.terms().scope.keys.iter().any(|key| key.as_str() == name));
    if let Some(key) = keys.iter().find(|key| !granted(key.name())) {
        return Err(GovernanceDenial::ScopeExceeded { part: "key", got: key.name().to_owned() }.into());
    }
    if intent.workload.image != workload.root.as_ref().map(Root::image) {
        return Err(GatewayError::Request { what: "another image than the intent names" });
    }
    let asked = intent.workload.attach.as_ref().map(|path| Path::new(path.as_str()));
    if asked != workload.attached.as_ref().map(Attached::path) {
        return Err(GatewayError::Request { what: "another cgroup than the intent names" });
    }
    if let Some(name) = workload.environment.requested().find(|name| !intent.workload.environment.contains(*name)) {
        return Err(EnvironmentError::NotAllowed { name: name.to_owned() }.into());
    }
    Ok(())
}

/// What a supervisor is handed.
struct Preparation {
    outputs: [OwnedFd; 2],
    argv: Vec<String>,
    isolation: Isolation,
    executable: Executable,
    environment: Environment,
    working_directory: String,
    attached: Option<Attached>,
    root: Option<Root>,
    keys: Vec<ExecutionKey>,
    cgroup: Option<String>,
    ends_at_boottime_ms: u64,
}

/// A supervisor whose workload runs.
pub(crate) struct Supervisor {
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) workload_pid: i32,
    /// What the workload was handed.
    pub(crate) keys: Vec<SealedKey>,
}

/// The life of one execution, seen from the daemon.
fn attend(
    supervisor: Standby,
    preparation: Preparation,
    started: oneshot::Sender<Result<Supervisor, GatewayError>>,
    still: &watch::Sender<Still>,
    ended: &watch::Sender<Option<Ended>>,
) {
    let Standby { mut process, pidfd, orders } = supervisor;
    let pid = process.pid();
    let attached = preparation.attached.clone();
    let (workload_pid, keys) = match begin(preparation, &orders) {
        Ok(begun) => begun,
        Err(error) => {
            drop(process);
            kill_left(attached.filter(|_| !error.left_untouched()).as_ref());
            return drop(started.send(Err(error))); // nobody to tell if whoever asked is gone
        }
    };
    if started.send(Ok(Supervisor { pid, pidfd, workload_pid, keys })).is_err() {
        let _ = control::send(&orders, &Order::Kill, &[]); // whoever asked for it is gone
    }
    let reported = last_report(&orders, Some(still));
    drop(orders);
    // The channel is closed or the last report is in: the supervisor has nothing left to do but exit.
    if reported.is_some() {
        process.wait();
    }
    drop(process);
    let end = reported.unwrap_or_else(|| Ended {
        outcome: Outcome::Unobserved,
        cause: EndCause::SupervisorLost,
        killed: kill_left(attached.as_ref()),
    });
    ended.send_replace(Some(end));
}

/// Kills what a supervisor that is gone left, and says how many processes that were.
fn kill_left(attached: Option<&Attached>) -> u32 {
    kill_orphans().saturating_add(attached.map_or(0, Attached::kill))
}

/// Hands everything over and waits until the executable runs; its process and its keys are what comes back.
fn begin(preparation: Preparation, orders: &OwnedFd) -> Result<(i32, Vec<SealedKey>), GatewayError> {
    let Preparation {
        outputs,
        argv,
        isolation,
        executable,
        environment,
        working_directory,
        attached,
        root,
        keys,
        cgroup,
        ends_at_boottime_ms,
    } = preparation;
    executable.verify_unchanged()?;
    let sealed = keys.into_iter().map(ExecutionKey::seal).collect::<io::Result<Vec<_>>>()?;
    let start = Start {
        argv,
        environment: environment.into_pairs(),
        in_image: root.is_some(),
        working_directory,
        key_variables: sealed.iter().map(|key| key.variable.clone()).collect(),
        isolation,
        cgroup,
        ends_at_boottime_ms,
    };
    let order = match &attached {
        None => Order::Start(Box::new(start)),
        Some(attached) => Order::Attach(Attach {
            cgroup: attached.path().to_string_lossy().into_owned(),
            executable: hex::encode(executable.digest()),
            ends_at_boottime_ms,
        }),
    };
    let [stdout, stderr] = &outputs;
    let mut descriptors: Vec<BorrowedFd<'_>> = vec![executable.file().as_fd(), stdout.as_fd(), stderr.as_fd()];
    descriptors.extend(root.iter().flat_map(|root| [root.user_namespace.as_fd(), root.mount_namespace.as_fd()]));
    descriptors.extend(sealed.iter().map(|key| key.descriptor.as_fd()));
    control::send(orders, &order, &descriptors)?;
    drop(outputs);
    drop(root); // from here on it lasts as long as the workload

    match control::receive::<Report>(orders)? {
        Some((Report::Started { pid: workload_pid }, _)) => {
            if let Err(changed) = executable.verify_unchanged() {
                let _ = control::send(orders, &Order::Kill, &[]);
                let _ = last_report(orders, None);
                return Err(changed.into());
            }
            Ok((workload_pid, sealed))
        }
        Some((Report::NotStarted { fault: StartFault::Unavailable(lacks) }, _)) => Err(lacks.into()),
        Some((Report::NotStarted { fault: StartFault::Failed { what } }, _)) => Err(GatewayError::NotStarted { what }),
        Some((Report::Frozen { .. } | Report::Paused { .. } | Report::Resumed | Report::Ended(_), _)) | None => {
            Err(GatewayError::SupervisorLost)
        }
    }
}

/// Blocks until the supervisor reports the end; none if it dies first.
fn last_report(orders: &OwnedFd, still: Option<&watch::Sender<Still>>) -> Option<Ended> {
    let stands = |now| still.map(|still| still.send_replace(now));
    loop {
        match control::receive::<Report>(orders) {
            Ok(Some((Report::Ended(ended), _))) => return Some(ended),
            Ok(Some((Report::Frozen { processes }, _))) => drop(stands(Still::Frozen(processes))),
            Ok(Some((Report::Paused { processes }, _))) => drop(stands(Still::Paused(processes))),
            Ok(Some((Report::Resumed, _))) => drop(stands(Still::No)),
            Ok(Some((Report::Started { .. } | Report::NotStarted { .. }, _))) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}

/// Kills and reaps what a killed supervisor left: every child of ours that is not a supervisor.
fn kill_orphans() -> u32 {
    let mut killed = BTreeSet::new();
    loop {
        // Held while looking, so that a supervisor being started is not taken for an orphan.
        let known = supervisors();
        let mut orphans = descendants::children_and_zombies(getpid());
        orphans.retain(|pid| !known.contains(&pid.as_raw_pid()));
        drop(known);
        if orphans.is_empty() {
            return u32::try_from(killed.len()).unwrap_or(u32::MAX);
        }
        for orphan in orphans {
            descendants::kill_below_once(orphan, &mut killed);
            if descendants::kill_child_of(orphan, &BTreeSet::from([getpid().as_raw_pid()])) {
                killed.insert(orphan.as_raw_pid());
            }
            let _ = rustix::process::waitpid(Some(orphan), rustix::process::WaitOptions::empty());
        }
    }
}

/// Images of operators' executions that may wait, each of `image_cap_bytes` at most.
const OPERATORS_IMAGES: usize = 4;
/// The same of workloads' children, all workloads together.
const WORKLOADS_IMAGES: usize = 2;
