//! The service from start to stop: listeners, readiness, signals, draining.
//!
//! Everything listens on loopback unless the configuration says otherwise. Ports may be 0: what
//! was bound stands in `DIR/addresses.json`, written once everything is listening and removed at the end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use serde::Serialize;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::Server;
use tracing::{info, warn};
use wire::proto::attestation_server::{self, AttestationServer};
use wire::proto::enrolment_server::EnrolmentServer;

use crate::admin;
use crate::ca::{CaError, SERVER_CERTIFICATE_LIFETIME};
use crate::clock::ClockWentBack;
use crate::desk::Desk;
use crate::enrolment::{self, EnrolmentService};
use crate::federation::PublicListener;
use crate::federation::listener as public;
use crate::health::HealthService;
use crate::listen::{ConnectionCaps, Door, accepted};
use crate::random::{self, NoRandomness};
use crate::service::{self, AttestationService};
use crate::systemd;
use crate::tls::{ServingCertificate, TlsError, enrolment_config, nodes_config, unchanging};

/// File in the state directory that says where the service listens.
pub const ADDRESSES_FILE: &str = "addresses.json";
/// Conversations get this long to end when the service stops.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection that answers no HTTP/2 ping for this long is closed.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// A node needs one stream; a few more are let pass while an old one dies.
const STREAMS_PER_CONNECTION: u32 = 4;
const HEADER_LIST_CAP_BYTES: u32 = 8 * 1024;
/// What one stream may send ahead of being read; bounds the memory of a connection before anything is judged.
const STREAM_WINDOW_BYTES: u32 = 256 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 512 * 1024;

/// Where to listen, and as whom.
#[derive(Clone, Debug)]
pub struct Listeners {
    /// First contact: server certificate only.
    pub enrolment: SocketAddr,
    /// Enrolled nodes: client certificates mandatory.
    pub nodes: SocketAddr,
    /// `/healthz`, `/metrics` and `/jwks.json`; served nowhere without it.
    pub admin: Option<SocketAddr>,
    /// What is published for everybody; nothing without it.
    pub public: Option<PublicListener>,
    /// Host names and addresses by which nodes reach us, for the server certificate.
    pub names: Vec<String>,
    /// Connections at once, on each of the two TLS listeners.
    pub caps: ConnectionCaps,
    /// The state directory.
    pub state: PathBuf,
}

/// What was bound, as written to [`ADDRESSES_FILE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Addresses {
    /// First contact.
    pub enrolment: SocketAddr,
    /// Enrolled nodes.
    pub nodes: SocketAddr,
    /// Health, metrics and the JWK Set, when served.
    pub admin: Option<SocketAddr>,
    /// What is published for everybody, when it is.
    pub public: Option<SocketAddr>,
}

/// Why the service did not start, or did not stop as it should.
#[derive(Debug, Error)]
pub enum ServeError {
    /// A socket or file could not be used.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// The system's reason.
        source: io::Error,
    },
    /// The serving certificate could not be made.
    #[error(transparent)]
    Certificate(#[from] CaError),
    /// TLS could not be configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The clock contradicts durable state.
    #[error(transparent)]
    Clock(#[from] ClockWentBack),
    /// There is no randomness.
    #[error(transparent)]
    Randomness(#[from] NoRandomness),
    /// A server ended although nobody stopped it.
    #[error("{what} ended: {reason}")]
    Ended {
        /// Which.
        what: &'static str,
        /// Why.
        reason: String,
    },
}

/// Listeners that are bound but do not serve yet.
pub struct Bound {
    enrolment: TcpListener,
    nodes: TcpListener,
    admin: Option<TcpListener>,
    public: Option<TcpListener>,
    addresses: Addresses,
    options: Listeners,
}

impl Bound {
    /// Binds all listeners; nothing is accepted yet.
    pub async fn bind(options: Listeners) -> Result<Self, ServeError> {
        let (enrolment, enrolment_at) = listen("enrolment", options.enrolment).await?;
        let (nodes, nodes_at) = listen("nodes", options.nodes).await?;
        let (admin, admin_at) = match options.admin {
            Some(at) => listen("admin", at).await.map(|(admin, at)| (Some(admin), Some(at)))?,
            None => (None, None),
        };
        let (public, public_at) = match &options.public {
            Some(public) => listen("everybody", public.at).await.map(|(public, at)| (Some(public), Some(at)))?,
            None => (None, None),
        };
        let addresses = Addresses { enrolment: enrolment_at, nodes: nodes_at, admin: admin_at, public: public_at };
        Ok(Self { enrolment, nodes, admin, public, addresses, options })
    }

    /// What was bound.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Serves until `stop` resolves, then drains. `ready` is called once everything is accepting.
    pub async fn serve(
        self,
        desk: Arc<Desk>,
        ready: impl FnOnce(&Addresses),
        stop: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let serving = ServingCertificate::new(desk.ca().server_key(
            &self.options.names,
            random::bytes()?,
            desk.clock().now()?,
        )?);
        let enrolment_tls = enrolment_config(serving.clone())?;
        let authorities = desk.parts.ca.watch();
        let nodes_tls = nodes_config(serving.clone(), &authorities.borrow().trusted)?;
        let (nodes_tls, served_tls) = watch::channel(nodes_tls);
        let (stopping, stopped) = watch::channel(false);
        let caps = self.options.caps;
        let enrolment = EnrolmentServer::new(EnrolmentService::new(desk.clone(), stopped.clone()))
            .max_decoding_message_size(enrolment::REQUEST_CAP_BYTES);
        let nodes = AttestationServer::new(AttestationService::new(desk.clone(), stopped.clone()))
            .max_decoding_message_size(service::MESSAGE_CAP_BYTES);
        let mut tasks = JoinSet::new();
        let incoming = accepted(self.enrolment, unchanging(enrolment_tls), Door::Strangers, caps);
        let server = server().add_service(enrolment).serve_with_incoming_shutdown(incoming, true_in(stopped.clone()));
        tasks.spawn(async move { ("enrolment listener", server.await.map_err(|error| error.to_string())) });
        let incoming = accepted(self.nodes, served_tls, Door::NodesOf(Arc::new(desk.domain().clone())), caps);
        let health = HealthService::new(desk.clone(), attestation_server::SERVICE_NAME, stopped.clone());
        let server = server_with_streams()
            .add_service(nodes)
            .add_service(health)
            .serve_with_incoming_shutdown(incoming, true_in(stopped.clone()));
        tasks.spawn(async move { ("nodes listener", server.await.map_err(|error| error.to_string())) });
        if let Some(listener) = self.admin {
            let admin = admin::serve(listener, desk.clone(), true_in(stopped.clone()));
            tasks.spawn(async move { ("admin listener", admin.await.map_err(|error| error.to_string())) });
        }
        if let (Some(listener), Some(published)) = (self.public, self.options.public.clone()) {
            spawn_public(&mut tasks, listener, published, &desk, caps, &stopped)?;
        }
        let names = self.options.names.clone();
        let renewal = renew_certificate(desk.clone(), serving.clone(), names, true_in(stopped.clone()));
        let following = follow_authorities(desk.clone(), serving, nodes_tls, true_in(stopped.clone()));
        tasks.spawn(async move {
            following.await;
            ("following the authorities", Ok(()))
        });
        tasks.spawn(async move {
            ("certificate renewal", {
                renewal.await;
                Ok(())
            })
        });
        let watched = desk.clone();
        let duties = desk.clone().duties(true_in(stopped));
        tasks.spawn(async move {
            ("duties", {
                duties.await;
                Ok(())
            })
        });

        let file = self.options.state.join(ADDRESSES_FILE);
        write_addresses(&file, &self.addresses)?;
        ready(&self.addresses);
        systemd::ready();
        let outcome = tokio::select! {
            () = stop => Ok(()),
            never = systemd::alive(|| watched.health()) => match never {},
            ended = tasks.join_next() => Err(ended_early(ended)),
        };
        systemd::stopping();
        stopping.send_replace(true);
        drain(&mut tasks).await;
        // Whoever reads the file must not find an address that nobody serves.
        std::fs::remove_file(&file).unwrap_or_else(|error| warn!(%error, "removing {ADDRESSES_FILE}"));
        outcome
    }
}

/// Starts the public listener, and the renewal of its certificate where our own CA makes it.
fn spawn_public(
    tasks: &mut JoinSet<(&'static str, Result<(), String>)>,
    listener: TcpListener,
    published: PublicListener,
    desk: &Arc<Desk>,
    caps: ConnectionCaps,
    stopped: &watch::Receiver<bool>,
) -> Result<(), ServeError> {
    let serving = match &published.web {
        Some(key) => ServingCertificate::new(key.clone()),
        None => {
            let key = desk.ca().server_key(&published.names, random::bytes()?, desk.clock().now()?)?;
            let serving = ServingCertificate::new(key);
            let renewed = serving.clone();
            let renewal = renew_certificate(desk.clone(), renewed, published.names, true_in(stopped.clone()));
            tasks.spawn(async move {
                renewal.await;
                ("public certificate renewal", Ok(()))
            });
            serving
        }
    };
    let served = public::serve(listener, serving, caps, published.routes, true_in(stopped.clone()));
    tasks.spawn(async move { ("public listener", served.await.map_err(|error| error.to_string())) });
    Ok(())
}

/// Resolves on SIGTERM or SIGINT. Installed before anything is announced as ready.
pub fn stop_signal() -> Result<impl Future<Output = ()>, ServeError> {
    let doing = |source| ServeError::Io { doing: "installing signal handlers".to_owned(), source };
    let mut terminate = signal(SignalKind::terminate()).map_err(doing)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(doing)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
        }
    })
}

async fn listen(name: &str, at: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let doing = |source| ServeError::Io { doing: format!("listening for {name} on {at}"), source };
    let listener = TcpListener::bind(at).await.map_err(doing)?;
    let bound = listener.local_addr().map_err(doing)?;
    Ok((listener, bound))
}

fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        .http2_max_header_list_size(HEADER_LIST_CAP_BYTES)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(1)
}

fn server_with_streams() -> Server {
    server().max_concurrent_streams(STREAMS_PER_CONNECTION)
}

async fn true_in(mut flag: watch::Receiver<bool>) {
    flag.wait_for(|flag| *flag).await.map(drop).unwrap_or_default();
}

async fn renew_certificate(
    desk: Arc<Desk>,
    serving: Arc<ServingCertificate>,
    names: Vec<String>,
    stopped: impl Future<Output = ()>,
) {
    let mut due =
        tokio::time::interval(SERVER_CERTIFICATE_LIFETIME.checked_div(2).unwrap_or(SERVER_CERTIFICATE_LIFETIME));
    // The first tick is now, and the certificate is new.
    due.tick().await;
    let mut authorities = desk.parts.ca.watch();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            _ = due.tick() => {}
            changed = authorities.changed() => if changed.is_err() { return },
        }
        let key = desk.clock().now().map_err(|error| error.to_string()).and_then(|now| {
            let serial = random::bytes().map_err(|error| error.to_string())?;
            desk.ca().server_key(&names, serial, now).map_err(|error| error.to_string())
        });
        match key {
            Ok(key) => serving.replace(key),
            Err(reason) => warn!(reason, "serving certificate not renewed"),
        }
    }
}

/// Lets nodes in by the certificates that count now, and gives those that are connected new ones when that changes.
async fn follow_authorities(
    desk: Arc<Desk>,
    serving: Arc<ServingCertificate>,
    nodes_tls: watch::Sender<Arc<ServerConfig>>,
    stopped: impl Future<Output = ()>,
) {
    let mut authorities = desk.parts.ca.watch();
    tokio::pin!(stopped);
    loop {
        tokio::select! {
            () = &mut stopped => return,
            changed = authorities.changed() => if changed.is_err() { return },
        }
        let trusted = authorities.borrow_and_update().trusted.clone();
        match nodes_config(serving.clone(), &trusted) {
            Ok(config) => drop(nodes_tls.send_replace(config)),
            Err(error) => warn!(%error, "nodes are let in as before"),
        }
        desk.renew_client_certificates().await;
    }
}

/// Written beside and renamed, so that a reader finds all of it or nothing.
fn write_addresses(file: &Path, addresses: &Addresses) -> Result<(), ServeError> {
    let doing = |source| ServeError::Io { doing: format!("writing {}", file.display()), source };
    let mut text = serde_json::to_string(addresses).map_err(io::Error::from).map_err(doing)?;
    text.push('\n');
    let beside = file.with_extension("json.new");
    std::fs::write(&beside, text).map_err(doing)?;
    std::fs::rename(&beside, file).map_err(doing)
}

type Outcome = Result<(&'static str, Result<(), String>), tokio::task::JoinError>;

fn ended_early(ended: Option<Outcome>) -> ServeError {
    match ended {
        Some(Ok((what, Ok(())))) => ServeError::Ended { what, reason: "nobody stopped it".to_owned() },
        Some(Ok((what, Err(reason)))) => ServeError::Ended { what, reason },
        Some(Err(error)) => ServeError::Ended { what: "a task", reason: error.to_string() },
        None => ServeError::Ended { what: "every task", reason: "nothing is left".to_owned() },
    }
}

async fn drain(tasks: &mut JoinSet<(&'static str, Result<(), String>)>) {
    let all = async {
        while let Some(ended) = tasks.join_next().await {
            if let Ok((what, Err(reason))) = ended {
                warn!(what, reason, "ended with an error");
            }
        }
    };
    if tokio::time::timeout(DRAIN_TIMEOUT, all).await.is_err() {
        warn!("connections left open after {DRAIN_TIMEOUT:?} are cut");
        tasks.shutdown().await;
    }
}
