//! `verifier serve`: opens what `init` made and serves it until told to stop.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use audit::record::LineageRecord;
use clap::Args;
use evidence::cbor::{self, Caps};
use evidence::time::UnixSeconds;
use tokio::sync::watch;
use wire::proto::operator_server;

use super::witnessing::Witnessing;
use super::{CommandError, Format, output};
use crate::clock::Clock;
use crate::config::Config;
use crate::desk::{Desk, DeskParts, LeaseLengths};
use crate::endorsements::EndorsementStore;
use crate::fault::Fault;
use crate::federation::gossip::{Gossip, gossip};
use crate::federation::surface::Surface;
use crate::federation::sync::Following;
use crate::federation::{PublicListener, surface};
use crate::governor::{Governor, Snapshot};
use crate::health::HealthService;
use crate::judgements::DeskJudgements;
use crate::listen::ConnectionCaps;
use crate::live::Live;
use crate::log::Opened;
use crate::open::{OpenError, OpenVerifier, certificates, endorsement_store, open_store, parts, web_key};
use crate::operator::{self, OperatorParts};
use crate::serve::{Bound, Listeners, stop_signal};
use crate::state::StateFolder;
use crate::store::StoreError;
use crate::trust::{Trust, TrustParts, TrustSource};
use crate::witness::{self, Keeper, Quorum};

/// How often the age of the governance state is looked at.
const REFRESH_LOOK: Duration = Duration::from_secs(2);

/// Arguments of `verifier serve`.
#[derive(Args, Debug)]
pub struct ServeArgs {
    /// State folder of the verifier.
    #[arg(long, env = "VERIFIER_STATE", value_name = "DIR", default_value = "/var/lib/verifier")]
    state: PathBuf,
    /// What to write to stderr: error, warn, info, debug, or a tracing filter.
    #[arg(long, env = "VERIFIER_LOG", value_name = "FILTER", default_value = "info")]
    log: String,
    /// How to print the line that says where it listens.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl ServeArgs {
    /// Serves until SIGTERM or SIGINT.
    #[must_use]
    pub fn run(self) -> ExitCode {
        let outcome = self.started();
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => error.report(self.format),
        }
    }

    fn started(&self) -> Result<(), CommandError> {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log).map_err(CommandError::usage)?;
        // Colours are for people: a journal or a file gets plain text.
        let ansi = std::io::stderr().is_terminal();
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(ansi).with_writer(std::io::stderr).init();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| CommandError::fault("fault.runtime", error))?;
        runtime.block_on(self.serve())
    }

    async fn serve(&self) -> Result<(), CommandError> {
        let refused = |error: &dyn std::fmt::Display| CommandError::fault("fault.start", error);
        let stop = stop_signal().map_err(|error| refused(&error))?;
        let state = StateFolder::open(&self.state).map_err(|error| refused(&error))?;
        let config = Config::load(&state.config_path(), std::env::vars()).map_err(|error| refused(&error))?;
        for line in config.in_words() {
            tracing::info!("{line}");
        }
        let OpenVerifier { lock, opened } = open_store(&state, &config).await.map_err(|error| refused(&error))?;
        let live = Live::default();
        let parts = parts(&state, &config, live.clone()).map_err(|error| refused(&error))?;
        let wall = super::signing::now()?;
        let governor =
            Governor::open(parts, &opened.store, &opened.log, wall).await.map_err(|error| refused(&error))?;
        let endorsements = endorsement_store(&config, &opened.store).map_err(|error| refused(&error))?;
        let witnessing = Witnessing::restored(&opened).await.map_err(|error| refused(&error))?;
        let quorum = witnessing.quorum(&config, &governor);
        let (stopping, stopped) = watch::channel(false);
        let (gossip, heard) = gossip();
        let desk = desk(&state, &config, &opened, &governor, live, endorsements.clone(), (quorum, gossip)).await?;
        let keeper = witnessing.keeper(&desk, &governor).await.map_err(|error| refused(&error))?;
        let sync = sync(&config, &desk, &governor).map_err(|error| refused(&error))?;
        let gossiped = tokio::spawn(heard.follow(sync.clone(), raised(stopped.clone())));
        let public = public(&config, &state, &desk, &governor, &sync, keeper).map_err(|error| refused(&error))?;
        let bound = Bound::bind(listeners(&config, &state, public)).await.map_err(|error| refused(&error))?;
        let side = side_tasks(&state, &config, &desk, &governor, (endorsements, sync), stopped.clone())?;
        let roots = web_roots(&config).map_err(|error| refused(&error))?;
        let witnessing = witnessing.run(&config, &desk, &governor, roots, || raised(stopped.clone()));
        let outcome = bound
            .serve(
                desk,
                |addresses| match self.format {
                    Format::Json => output::json(&serde_json::json!(addresses)),
                    Format::Text => output::line(&format!(
                        "serving: enrolment on {}, nodes on {}",
                        addresses.enrolment, addresses.nodes
                    )),
                },
                stop,
            )
            .await;
        stopping.send_replace(true);
        drop(governor);
        for task in side.into_iter().chain(witnessing).chain([gossiped]) {
            if let Err(error) = task.await {
                tracing::warn!(%error, "a task ended abnormally");
            }
        }
        opened.close().await;
        drop(lock);
        outcome.map_err(|error| CommandError::fault("fault.serve", error))
    }
}

/// The operators' socket, following partners, and keeping the governance state fresh.
fn side_tasks(
    state: &StateFolder,
    config: &Config,
    desk: &Arc<Desk>,
    governor: &Governor,
    (endorsements, sync): (EndorsementStore, Following),
    stopped: watch::Receiver<bool>,
) -> Result<[tokio::task::JoinHandle<()>; 3], CommandError> {
    let clock = desk.clone();
    let operator = OperatorParts {
        domain: config.domain.clone(),
        store: desk.parts.store.clone(),
        log: desk.parts.log.clone(),
        governor: governor.clone(),
        kek: state.key_encryption_key().map_err(|error| CommandError::fault("fault.start", error))?,
        endorsements,
        sync: sync.clone(),
        quorum: desk.parts.quorum.clone(),
        now: Arc::new(move || clock.clock().now()),
        judgements: Arc::new(DeskJudgements::new(desk.clone(), governor.clone())),
    };
    let socket = state.operator_socket();
    let health = HealthService::new(desk.clone(), operator_server::SERVICE_NAME, stopped.clone());
    let until = raised(stopped.clone());
    let operators = tokio::spawn(async move {
        if let Err(error) = operator::serve(&socket, operator, health, until).await {
            tracing::error!(%error, "operators cannot be served");
        }
    });
    let following = tokio::spawn(sync.run(raised(stopped.clone())));
    Ok([operators, following, tokio::spawn(keep_fresh(governor.clone(), desk.clone(), raised(stopped)))])
}

async fn keep_fresh(governor: Governor, desk: Arc<Desk>, stopped: impl Future<Output = ()>) {
    let mut look = tokio::time::interval(REFRESH_LOOK);
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = look.tick() => {}
        }
        let refreshed = match desk.clock().now() {
            Ok(now) => governor.refresh(now).await.map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = refreshed {
            // It grows stale, and then everything is refused: failing closed needs nothing more here.
            tracing::error!(error, "the governance state could not be refreshed");
        }
    }
}

async fn raised(mut flag: watch::Receiver<bool>) {
    flag.wait_for(|flag| *flag).await.map(drop).unwrap_or_default();
}

/// Follows the partners, by the desk's clock.
fn sync(config: &Config, desk: &Arc<Desk>, governor: &Governor) -> Result<Following, OpenError> {
    let clock = desk.clone();
    Ok(Following::new(
        config.domain.clone(),
        governor.clone(),
        Arc::new(move || clock.clock().now()),
        web_roots(config)?,
    ))
}

/// CA certificates by which partners with a certificate of the web's PKI are known.
fn web_roots(config: &Config) -> Result<Vec<Vec<u8>>, OpenError> {
    let roots = config.federation.iter().flat_map(|federation| &federation.web_roots).map(|path| certificates(path));
    Ok(roots.collect::<Result<Vec<_>, _>>()?.concat())
}

/// What is published for everybody. Other modules' routes are merged here.
fn public(
    config: &Config,
    state: &StateFolder,
    desk: &Arc<Desk>,
    governor: &Governor,
    sync: &Following,
    keeper: Arc<Keeper>,
) -> Result<Option<PublicListener>, OpenError> {
    let Some(federation) = &config.federation else { return Ok(None) };
    let (store, log) = (desk.parts.store.clone(), desk.parts.log.clone());
    let (governor, sync) = (governor.clone(), sync.clone());
    let routes = surface::routes(Surface { governor, store, log, tiles: state.tiles(), sync })
        .merge(witness::serve::routes(keeper))
        .merge(witness::serve::cosigned_routes(desk.parts.quorum.clone()));
    let web = federation.web.as_ref().map(web_key).transpose()?;
    let (at, names) = (federation.listen, federation.names.clone());
    Ok(Some(PublicListener { at, names, web, routes: surface::guarded(routes) }))
}

fn listeners(config: &Config, state: &StateFolder, public: Option<PublicListener>) -> Listeners {
    Listeners {
        enrolment: config.listen.enrolment,
        nodes: config.listen.nodes,
        admin: config.listen.admin,
        public,
        names: config.listen.names.clone(),
        caps: ConnectionCaps { total: config.limits.connections, per_address: config.limits.connections_per_address },
        state: state.path().to_owned(),
    }
}

async fn desk(
    state: &StateFolder,
    config: &Config,
    opened: &Opened,
    governor: &Governor,
    live: Live,
    endorsements: EndorsementStore,
    (quorum, gossip): (Quorum, Gossip),
) -> Result<Arc<Desk>, CommandError> {
    let refused = |error: &dyn std::fmt::Display| CommandError::fault("fault.start", error);
    let floor = floor(&opened.log, governor).await.map_err(|error| refused(&error))?;
    Ok(Arc::new(Desk::new(DeskParts {
        domain: config.domain.clone(),
        store: opened.store.clone(),
        log: opened.log.clone(),
        issuer: governor.keys().issuer.clone(),
        ear: state.ear_key().map_err(|error| refused(&error))?,
        jwt: governor.keys().jwt.clone(),
        kek: state.key_encryption_key().map_err(|error| refused(&error))?,
        ca: governor.keys().ca.clone(),
        trust: trust_source(governor.clone(), config.lab).with_partners({
            let governor = governor.clone();
            move || governor.partners()
        }),
        clock: Clock::starting_at(floor),
        live,
        lease: LeaseLengths {
            duration_ms: config.lease.length_ms,
            renew_after_ms: config.lease.length_ms / LEASE_PARTS,
        },
        admission: config.nodes.admission,
        endorsements,
        quorum,
        gossip,
        appraisals: config.limits.appraisals,
    })))
}

/// The latest time that anything durable speaks of: the clock starts there and never goes below it (SECURITY.md P8).
async fn floor(log: &crate::log::Log, governor: &Governor) -> Result<UnixSeconds, StoreError> {
    let issued_at = governor.current().state.state().issued_at;
    let Some(index) = log.size().checked_sub(1) else { return Ok(issued_at) };
    let entry = log.entry(index).await?;
    let payload = entry.and_then(|entry| evidence::cose::claimed_payload(&entry.bytes).ok());
    let record =
        payload.and_then(|payload| cbor::from_slice::<LineageRecord>(&payload, Caps::bytes(payload.len())).ok());
    Ok(record.map_or(issued_at, |record| record.at.max(issued_at)))
}

/// A lease is renewed at this part of its length.
const LEASE_PARTS: u64 = 3;

/// Turns each snapshot of the rules into what requests are judged by, once.
fn trust_source(governor: Governor, lab: bool) -> TrustSource {
    let made: Mutex<Option<(Arc<Snapshot>, Arc<Trust>)>> = Mutex::new(None);
    TrustSource::new(move || {
        let snapshot = governor.current();
        let mut made = made.lock().unwrap_or_else(PoisonError::into_inner);
        match &*made {
            Some((of, trust)) if Arc::ptr_eq(of, &snapshot) => Ok(trust.clone()),
            Some(_) | None => {
                let trust = Arc::new(trust_of(&snapshot, &governor, lab)?);
                *made = Some((snapshot, trust.clone()));
                Ok(trust)
            }
        }
    })
}

fn trust_of(snapshot: &Snapshot, governor: &Governor, lab: bool) -> Result<Trust, Fault> {
    let absent = |what: &str| Fault::TrustUnavailable { what: what.to_owned() };
    Ok(Trust::of(TrustParts {
        anchors: snapshot.anchors.clone().ok_or_else(|| absent("no TPM root is configured and no EK is admitted"))?,
        lab,
        references: snapshot.references.clone(),
        policy: snapshot.policy.clone().ok_or_else(|| absent("no policy set is active"))?,
        revocations: snapshot.revocations.clone(),
        state: snapshot.state.clone(),
        state_cose: snapshot.state_cose.clone(),
        bundle: snapshot.bundle.signatures.clone(),
        witnesses: snapshot.witnesses.as_ref().map(|held| held.signatures.clone()).unwrap_or_default(),
        authority: governor.authority().clone(),
    }))
}
