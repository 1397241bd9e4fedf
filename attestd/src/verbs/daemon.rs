//! `attestd run`: the daemon from its configuration and state to an orderly end.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context as _;
use attestd::cli::{Common, Outcome};
use attestd::config::Config;
use attestd::gateway::{Gateway, GatewaySettings, KEYS_SOCKET, WORKLOAD_SOCKET};
use attestd::machine::Machine;
use attestd::node::{DomainIdentity, Node, Parts};
use attestd::state::StateDir;
use attestd::supervise::forbid_core_dumps;
use attestd::{grants, record_key};
use std::io::Write as _;
use tokio::signal::unix::{SignalKind, signal};

/// Runs the daemon until SIGTERM or SIGINT.
///
/// # Errors
/// It cannot start, or its local socket failed.
pub(crate) fn run(common: &Common) -> anyhow::Result<Outcome> {
    // Before any secret is in memory (SECURITY.md P21).
    forbid_core_dumps().context("forbidding core dumps")?;
    let config = match Config::load(&common.config_path(), std::env::vars()) {
        Ok(config) => config,
        Err(error) => {
            writeln!(std::io::stderr(), "attestd: {error}")?;
            return Ok(Outcome::Usage);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build()?;
    runtime.block_on(async move {
        let parts = parts(config, StateDir::open(&common.state)?)?;
        Node::serve(parts, stop_signal()?).await?;
        Ok(Outcome::Done)
    })
}

fn parts(config: Config, state: StateDir) -> anyhow::Result<Parts> {
    let state = Arc::new(state);
    let enrol = "run `attestd enrol` first";
    let record_key = record_key::load(&state)?.context(enrol)?;
    let mut domains = Vec::new();
    for domain in &config.domains {
        let grant = grants::load(&state, &domain.name).with_context(|| format!("grant of {}", domain.name))?;
        let grant = grant.with_context(|| format!("not enrolled with {}: {enrol}", domain.name))?;
        domains.push(DomainIdentity {
            config: domain.clone(),
            certificate_pem: grant.certificate_pem,
            bundle: grant.bundle,
            authority: grant.authority,
            lab: grant.lab,
        });
    }
    let machine = Machine::open(&config.identity)?;
    let collector = machine.with_saved_keys(&config, &state)?;
    let watch = collector.watch(&config).context("watch.pcrs")?;
    let gateway = Gateway::new(GatewaySettings {
        // The very binary that runs, also after an upgrade replaced its file.
        program: PathBuf::from("/proc/self/exe"),
        cgroup: config.halt.cgroup.clone(),
        sockets: vec![(state.spiffe_socket_path(), WORKLOAD_SOCKET), (state.keys_socket_path(), KEYS_SOCKET)],
        image_cap_bytes: config.gateway.image_cap_bytes,
    })?;
    Ok(Parts { config, state, record_key, collector, gateway, domains, watch })
}

fn stop_signal() -> std::io::Result<impl Future<Output = ()>> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}

/// The daemon mostly waits.
const WORKERS: usize = 2;
