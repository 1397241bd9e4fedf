//! From a client's wish to a signed intent and a task that carries it out (phase 1).

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use evidence::cose::PublicKey;
use evidence::digest::Sha256Digest;
use evidence::names::{DomainName, ItemName};
use governance::GovernanceDenial;
use governance::intent::{self, Domains, INTENT_VERSION, Intent};
use governance::isolation::Isolation;
use governance::on_halt::OnHalt;
use governance::scope::Scope;
use governance::text::Text;
use serde::Deserialize;
use tokio::sync::mpsc;
use wire::bounded::local::ExecRequest;
use wire::proto;

use super::execution::{Execution, Prepared, SignedIntent};
use super::governed::Governed;
use super::narration::Narration;
use super::parent::Parent;
use super::refused::Refused;
use super::svid::SvidKey;
use super::{Node, lock};
use crate::clock::unix_now;
use crate::gateway::{
    ATTESTD_KEYS_SOCKET, Asker, AttachError, Attached, Environment, Executable, GatewayError, Image, KEYS_SOCKET, Root,
    SPIFFE_ENDPOINT_SOCKET, WORKLOAD_SOCKET, Workload,
};

/// An intent file. Unknown keys are refused; what is left out is empty, and every configured domain must authorize.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct IntentFile {
    #[serde(default)]
    argv: Vec<String>,
    /// cgroup of what runs already, instead of a program.
    attach: Option<PathBuf>,
    /// OCI image layout, and perhaps `@sha256:…`, in which to run.
    image: Option<String>,
    #[serde(default)]
    environment: BTreeMap<String, String>,
    #[serde(default)]
    keys: BTreeSet<ItemName>,
    #[serde(default)]
    capabilities: BTreeSet<ItemName>,
    #[serde(default)]
    labels: BTreeMap<ItemName, Text>,
    directory: Option<PathBuf>,
    domains: Option<BTreeSet<DomainName>>,
    quorum: Option<u8>,
    #[serde(default)]
    isolation: Isolation,
    on_halt: Option<OnHalt>,
}

impl IntentFile {
    /// What runs already names itself, and asks for the one capability that this takes.
    fn naming(&mut self, executable: &Executable) -> Result<(), Refused> {
        if !self.argv.is_empty() || self.image.is_some() {
            return Err(malformed("a program or an image beside what runs already"));
        }
        self.argv = vec![executable.path().to_string_lossy().into_owned()];
        let capability = ItemName::new(intent::ATTACH_CAPABILITY).map_err(|error| malformed(&error.to_string()))?;
        self.capabilities.insert(capability);
        Ok(())
    }
}

impl IntentFile {
    fn program(&self) -> Result<String, Refused> {
        self.argv.first().cloned().ok_or_else(|| malformed("no program"))
    }

    fn directory(&self) -> Result<PathBuf, Refused> {
        let directory = self.directory.clone().unwrap_or_else(|| PathBuf::from("/"));
        if directory.is_absolute() { Ok(directory) } else { Err(malformed("the working directory is not absolute")) }
    }
}

impl Node {
    /// Starts an execution for a local client; its events go to `events` until it has ended.
    pub(crate) async fn exec(
        self: &Arc<Self>,
        request: ExecRequest,
        (uid, caller): (u32, Option<Arc<Governed>>),
        events: mpsc::Sender<proto::ExecEvent>,
    ) -> Result<(), Refused> {
        self.refuse_if_halted()?;
        let parent = Parent::of(caller, &request.parents)?;
        let mut file = as_file(request)?;
        file.isolation = parent.isolation(file.isolation)?;
        let environment =
            Environment::new(file.environment.clone(), &self.config.gateway.environment).map_err(GatewayError::from)?;
        self.gateway.admit(&file.isolation, file.on_halt.unwrap_or(self.config.halt.action))?;
        let workload = match (file.attach.clone(), file.image.clone()) {
            (Some(cgroup), _) => {
                let (executable, attached) = running_in(cgroup).await?;
                file.naming(&executable)?;
                Workload { attached: Some(attached), ..self.workload(&file, executable, environment)? }
            }
            (None, Some(image)) => {
                let asker = if matches!(parent, Parent::Here(_)) { Asker::Workload } else { Asker::Operator };
                self.in_image((asker, image), &mut file, environment).await?
            }
            (None, None) => {
                let environment = environment
                    .told(SPIFFE_ENDPOINT_SOCKET, format!("unix://{}", told(&self.state.spiffe_socket_path())?))
                    .told(ATTESTD_KEYS_SOCKET, told(&self.state.keys_socket_path())?);
                let opened = open(file.program()?, environment.search_path().to_owned(), file.directory()?);
                self.workload(&file, opened.await?, environment)?
            }
        };
        let svid_key = SvidKey::generate()?;
        let intent = self.intent(file, &workload, svid_key.public(), uid, &parent)?;
        // What changes from here on is noticed, whether or not a verifier looks at it.
        let prepared = Prepared { workload, svid_key, pcrs: self.watching.watch.pcrs().await? };
        let digest = intent.digest().map_err(denied)?;
        let sign = |domain: &DomainName| Ok((domain.clone(), intent.sign(domain, &self.record_key)?));
        let signed = intent.domains.named().iter().map(sign).collect::<Result<_, _>>().map_err(denied)?;
        let narration = Narration::new(events);
        narration.intent_generated(digest, &intent);

        let number = self.next_execution();
        let (orders_sender, orders) = mpsc::channel(ORDERS_CAP);
        {
            let mut executions = lock(&self.executions);
            // Looked at under this lock: a halt stops what it finds registered, and nothing registers after it.
            self.refuse_if_halted()?;
            if executions.stopping || executions.orders.len() >= EXECUTIONS_CAP {
                return Err(Refused::fault("fault.overloaded", "stopping, or too many executions"));
            }
            if let Parent::Here(governed) = &parent {
                // Likewise: what ends the parent ends what it finds here.
                governed.goes_on()?;
                let children = executions.parents.values().filter(|parent| **parent == governed.number).count();
                if children >= CHILDREN_CAP {
                    return Err(Refused::fault("fault.overloaded", "too many children of one workload"));
                }
                executions.parents.insert(number, governed.number);
            }
            executions.orders.insert(number, orders_sender);
        }
        let signed = Arc::new(SignedIntent { intent, digest, signed });
        let execution = Execution::new(Arc::clone(self), number, signed, parent, prepared, narration);
        tokio::spawn(execution.run(orders));
        Ok(())
    }

    /// What runs with the machine's files, if nothing else is said.
    fn workload(
        &self,
        file: &IntentFile,
        executable: Executable,
        environment: Environment,
    ) -> Result<Workload, Refused> {
        Ok(Workload {
            executable,
            environment,
            working_directory: file.directory()?,
            attached: None,
            root: None,
            supervisor: self.gateway.stand_by()?,
        })
    }

    /// What runs in an image: unpacked now, so that the intent names an executable that was looked at. What the intent file
    /// leaves out is as the image says.
    async fn in_image(
        self: &Arc<Self>,
        (asker, named): (Asker, String),
        file: &mut IntentFile,
        environment: Environment,
    ) -> Result<Workload, Refused> {
        let bug = |error| Refused::fault("fault.bug", error);
        let opening = tokio::task::spawn_blocking(move || Image::open(&named));
        let image = opening.await.map_err(bug)?.map_err(GatewayError::from)?;
        if file.argv.is_empty() {
            file.argv.clone_from(&image.argv);
        }
        if file.directory.is_none() {
            file.directory = Some(image.directory.clone());
        }
        let environment = environment.over(&image.environment).map_err(GatewayError::from)?;
        let (program, directory) = (file.program()?, file.directory()?);
        let search_path = environment.search_path().to_owned();
        let node = Arc::clone(self);
        let unpacking =
            tokio::task::spawn_blocking(move || node.gateway.unpack(asker, &image, &program, &search_path, &directory));
        let (root, executable) = unpacking.await.map_err(bug)??;
        let environment = environment
            .told(SPIFFE_ENDPOINT_SOCKET, format!("unix://{WORKLOAD_SOCKET}"))
            .told(ATTESTD_KEYS_SOCKET, KEYS_SOCKET.to_owned());
        Ok(Workload { root: Some(root), ..self.workload(file, executable, environment)? })
    }

    fn refuse_if_halted(&self) -> Result<(), Refused> {
        let halted = self.halted.borrow();
        let Some(reason) = halted.as_ref() else { return Ok(()) };
        let denial = GovernanceDenial::NodeQuarantined { node: self.id().clone(), reason: reason.code().to_owned() };
        Err(Refused::denied(denial.code(), &denial))
    }

    fn intent(
        &self,
        file: IntentFile,
        planned: &Workload,
        svid_key: &PublicKey,
        uid: u32,
        parent: &Parent,
    ) -> Result<Intent, Refused> {
        let path = planned.attached.as_ref().map(|attached| Text::new(attached.path().to_string_lossy()));
        let attach = path.transpose().map_err(|error| malformed(&error.to_string()))?;
        let parents = parent.named()?;
        let of_parent = parents.keys().filter(|domain| self.domains.contains_key(*domain)).cloned();
        let named = file.domains.unwrap_or_else(|| match parent {
            // As its parent's, unless it says otherwise.
            Parent::Here(_) => of_parent.collect(),
            Parent::None | Parent::Elsewhere(_) => self.domains.keys().cloned().collect(),
        });
        if let Some(unknown) = named.iter().find(|domain| !self.domains.contains_key(*domain)) {
            return Err(malformed(&format!("domain {unknown} is not configured")));
        }
        let mut nonce = [0; 16];
        aws_lc_rs::rand::fill(&mut nonce)
            .map_err(|_| Refused::fault("fault.randomness_unavailable", "no randomness"))?;
        Ok(Intent {
            version: INTENT_VERSION,
            requester: Text::new(format!("uid:{uid}")).map_err(|error| malformed(&error.to_string()))?,
            workload: intent::Workload {
                argv: file.argv,
                environment: file.environment.into_keys().collect(),
                executable: Sha256Digest(*planned.executable.digest()),
                attach,
                image: planned.root.as_ref().map(Root::image),
            },
            isolation: file.isolation,
            on_halt: file.on_halt.unwrap_or(self.config.halt.action),
            scope: Scope { keys: file.keys, capabilities: file.capabilities, labels: file.labels },
            domains: match file.quorum {
                None => Domains::All(named),
                Some(k) => Domains::Quorum { k, of: named },
            },
            parents,
            node: self.id().clone(),
            created_at: unix_now(),
            svid_key: svid_key.clone(),
            nonce,
        })
    }
}

fn as_file(request: ExecRequest) -> Result<IntentFile, Refused> {
    if request.intent_toml.is_empty() {
        let Scope { keys, capabilities, labels } = request.scope;
        let directory = Some(request.working_directory).filter(|path| !path.is_empty()).map(PathBuf::from);
        let (argv, environment) = (request.argv, request.environment);
        let domains = Some(request.domains).filter(|domains| !domains.is_empty());
        return Ok(IntentFile {
            argv,
            attach: Some(request.attach).filter(|path| !path.is_empty()).map(PathBuf::from),
            image: Some(request.image).filter(|named| !named.is_empty()),
            environment,
            keys,
            capabilities,
            labels,
            directory,
            domains,
            quorum: request.need,
            ..IntentFile::default()
        });
    }
    let text = std::str::from_utf8(&request.intent_toml).map_err(|error| malformed(&error.to_string()))?;
    toml::from_str(text).map_err(|error| malformed(error.message()))
}

async fn open(program: String, search_path: String, directory: PathBuf) -> Result<Executable, Refused> {
    let opening = tokio::task::spawn_blocking(move || Executable::open(&program, &search_path, Path::new(&directory)));
    let opened = opening.await.map_err(|error| Refused::fault("fault.bug", error))?;
    opened.map_err(|error| Refused::denied("governance.workload", error))
}

async fn running_in(cgroup: PathBuf) -> Result<(Executable, Attached), Refused> {
    let looking = tokio::task::spawn_blocking(move || {
        let attached = Attached::open(&cgroup)?;
        Ok::<_, AttachError>((Executable::of(&attached)?, attached))
    });
    let found = looking.await.map_err(|error| Refused::fault("fault.bug", error))?;
    found.map_err(|error| Refused::denied("governance.workload", error))
}

/// A socket's path as workloads are told it.
fn told(path: &Path) -> Result<String, Refused> {
    let unnamed = || Refused::fault("fault.state_unavailable", "the state directory's path cannot be told");
    std::path::absolute(path).ok().and_then(|path| path.into_os_string().into_string().ok()).ok_or_else(unnamed)
}

fn malformed(what: &str) -> Refused {
    Refused::denied("governance.field_invalid", what)
}

fn denied(denial: GovernanceDenial) -> Refused {
    Refused::denied(denial.code(), &denial)
}

/// Orders that may wait for one execution.
const ORDERS_CAP: usize = 16;
/// Executions at once, as many as a halt record can name.
const EXECUTIONS_CAP: usize = governance::halt::HALT_LIST_CAP;
/// Children of one execution at once: all of the node's places, and the queue for its TPM, are not one workload's.
const CHILDREN_CAP: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    fn request(toml: &str) -> ExecRequest {
        let given = proto::ExecRequest { intent_toml: toml.as_bytes().to_vec(), ..Default::default() };
        ExecRequest::try_from(given).unwrap()
    }

    #[test]
    fn the_intent_of_the_manual_is_one() {
        let manual = include_str!("../../../docs/executions.md");
        let (_, from) = manual.split_once("```toml\n").unwrap();
        let (written, _) = from.split_once("```").unwrap();
        let file = as_file(request(written)).unwrap();
        assert_eq!(file.on_halt, Some(OnHalt::Drain { grace_ms: 5_000 }));
        assert!(file.isolation.confine_signals && file.isolation.needs_cgroup());
        assert_eq!(file.isolation.limits.cpu_millis, Some(1_500));
        assert_eq!(file.isolation.files.unwrap().write.len(), 1);
        let bad = written.replace("cpu_millis", "cpu_seconds");
        assert_eq!(as_file(request(&bad)).unwrap_err().code, "governance.field_invalid");
    }

    #[test]
    fn an_intent_file_is_read_strictly() {
        let file = as_file(request(
            "argv = [\"sh\"]\nkeys = [\"db\"]\nlabels = { tier = \"prod\" }\ndomains = [\"a.example\"]\nquorum = 1",
        ))
        .unwrap();
        assert_eq!((file.argv.as_slice(), file.quorum), (["sh".to_owned()].as_slice(), Some(1)));
        for bad in ["argv = [\"sh\"]\nprivileged = true", "argv = [\"sh\"]\nkeys = [\"../db\"]", "argv ="] {
            assert_eq!(as_file(request(bad)).unwrap_err().code, "governance.field_invalid", "{bad}");
        }
    }
}
