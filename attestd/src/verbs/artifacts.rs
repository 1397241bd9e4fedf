//! `attestd artifacts`: what a workload shows to services, and to whoever starts a child of it elsewhere.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::Context as _;
use attestd::cli::{ArtifactsArgs, Common, Format, Outcome};
use evidence::names::DomainName;
use serde_json::json;
use wire::proto::{Standing, WatchRequest};

use super::client;

/// Writes the newest artifacts, once or until the execution is over.
///
/// # Errors
/// The daemon cannot be reached, or a file cannot be written.
pub(crate) async fn artifacts(common: &Common, arguments: ArtifactsArgs) -> anyhow::Result<Outcome> {
    let mut workload = client::workload(&common.state).await?;
    let mut standings = match workload.watch(WatchRequest {}).await {
        Ok(standings) => standings.into_inner(),
        Err(status) => return client::rejected(common.format, &status),
    };
    while let Some(standing) = standings.message().await.context("the daemon broke off")? {
        if !standing.over.is_empty() {
            break;
        }
        write(&arguments.out, &standing)?;
        told(common.format, &standing)?;
        if !arguments.follow {
            break;
        }
    }
    Ok(Outcome::Done)
}

/// Each in a file of its domain's name. A reader finds the old one or the new one, never a part.
fn write(folder: &Path, standing: &Standing) -> anyhow::Result<()> {
    for in_force in &standing.artifacts {
        let domain = DomainName::new(in_force.domain.as_str()).context("the daemon named a domain")?;
        let (path, new) = (folder.join(format!("{domain}.cose")), folder.join(format!(".{domain}.cose.new")));
        let written = File::options().write(true).create(true).truncate(true).mode(0o600).open(&new);
        let written = written.and_then(|mut file| file.write_all(&in_force.artifact));
        written.and_then(|()| fs::rename(&new, &path)).with_context(|| format!("writing {}", path.display()))?;
    }
    Ok(())
}

fn told(format: Format, standing: &Standing) -> io::Result<()> {
    let domains: Vec<&str> = standing.artifacts.iter().map(|in_force| in_force.domain.as_str()).collect();
    let mut out = io::stdout();
    match format {
        Format::Text => writeln!(out, "{}: in force for {} ms unless renewed", domains.join(", "), standing.ends_in_ms),
        Format::Json => writeln!(out, "{}", json!({ "domains": domains, "ends_in_ms": standing.ends_in_ms })),
    }
}
