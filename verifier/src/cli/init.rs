//! `verifier init`: the only verb that makes keys.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use evidence::names::DomainName;

use super::signing::now;
use super::{CommandError, Format, output};
use crate::config::{FederationConfig, ListenConfig, SnpConfig, TdxConfig};
use crate::init::{InitError, InitOptions, init};
use crate::state::StateFolder;

/// Arguments of `verifier init`.
#[derive(Args, Debug)]
pub struct InitArgs {
    /// Folder to make the state in; must not exist, or be empty and private.
    #[arg(long, env = "VERIFIER_STATE", value_name = "DIR")]
    state: PathBuf,
    /// Name of the domain, as in spiffe://DOMAIN/….
    #[arg(long, value_name = "DOMAIN", required_unless_present = "ear_key")]
    domain: Option<DomainName>,
    /// Make nothing but the key of results as JWT, in a state folder that an earlier version made without it.
    #[arg(long, conflicts_with_all = ["domain", "lab", "authority_dir"])]
    ear_key: bool,
    /// A lab: one authority key, made in the state folder, and software TPMs may be trusted. Never for production.
    #[arg(long, conflicts_with = "authority_dir")]
    lab: bool,
    /// Folder, outside the state folder, to make the policy authority's keys in; take it offline afterwards.
    #[arg(long, value_name = "DIR", required_unless_present_any = ["lab", "ear_key"])]
    authority_dir: Option<PathBuf>,
    /// How many of the authority's keys must sign (one more than that are made).
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    threshold: u8,
    /// How many partners' witnesses must have cosigned the log before anything is released. Without it: 1, in a lab 0.
    #[arg(long, value_name = "COUNT")]
    witness_quorum: Option<usize>,
    /// Where nodes enrol.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7440")]
    listen_enrolment: SocketAddr,
    /// Where nodes attest.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7441")]
    listen_nodes: SocketAddr,
    /// Where health, metrics and the keys of results as JWT (/jwks.json) are served; nowhere without it.
    #[arg(long, value_name = "ADDRESS")]
    listen_admin: Option<SocketAddr>,
    /// Where bundle, states and log are published for other domains; nowhere without it.
    #[arg(long, value_name = "ADDRESS")]
    listen_federation: Option<SocketAddr>,
    /// DNS name or address in the server's certificate; repeatable.
    #[arg(long = "name", value_name = "NAME", default_values_t = ["localhost".to_owned(), "127.0.0.1".to_owned()])]
    names: Vec<String>,
    /// Database to use instead of an SQLite file in the state folder (postgres://…).
    #[arg(long, value_name = "URL")]
    store: Option<String>,
    /// Root certificate of a TPM manufacturer (PEM or DER); repeatable.
    #[arg(long = "tpm-root", value_name = "FILE")]
    tpm_roots: Vec<PathBuf>,
    /// Root certificate of software TPMs (PEM or DER); needs --lab; repeatable.
    #[arg(long = "simulated-root", value_name = "FILE", requires = "lab")]
    simulated_roots: Vec<PathBuf>,
    /// Product line of AMD's whose SNP guests may be trusted (Milan, Genoa, Turin); repeatable.
    #[arg(long = "snp", value_name = "LINE")]
    snp_lines: Vec<String>,
    /// Root certificate (ARK) of simulated processors of a product line; needs --lab; repeatable.
    #[arg(long = "simulated-snp-root", value_name = "LINE=FILE", requires = "lab", value_parser = line_and_file)]
    simulated_snp_roots: Vec<(String, PathBuf)>,
    /// Trust Intel's root, so that trust domains (TDX) on Intel's platforms may be trusted.
    #[arg(long)]
    tdx: bool,
    /// Root certificate of simulated Intel platforms (PEM or DER); needs --lab; repeatable.
    #[arg(long = "simulated-tdx-root", value_name = "FILE", requires = "lab")]
    simulated_tdx_roots: Vec<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl InitArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.format, self.answer())
    }

    fn snp(&self) -> SnpConfig {
        let mut simulated_roots: BTreeMap<String, Vec<PathBuf>> = BTreeMap::new();
        for (line, file) in &self.simulated_snp_roots {
            simulated_roots.entry(line.clone()).or_default().push(file.clone());
        }
        SnpConfig { product_lines: self.snp_lines.iter().cloned().collect(), simulated_roots }
    }

    async fn answer(&self) -> Result<(), CommandError> {
        // The configuration names the store by this path, whatever folder the service starts in.
        let state = std::path::absolute(&self.state).map_err(CommandError::usage)?;
        let Some(domain) = self.domain.clone() else { return self.add_ear_key(&state) };
        let options = InitOptions {
            domain,
            state,
            lab: self.lab,
            store: self.store.clone(),
            authority_folder: self.authority_dir.clone(),
            threshold: self.threshold,
            witness_quorum: self.witness_quorum.unwrap_or(usize::from(!self.lab)),
            listen: ListenConfig {
                enrolment: self.listen_enrolment,
                nodes: self.listen_nodes,
                admin: self.listen_admin,
                names: self.names.clone(),
            },
            federation: self.listen_federation.map(|listen| FederationConfig {
                listen,
                names: self.names.clone(),
                web: None,
                web_roots: Vec::new(),
            }),
            tpm_roots: self.tpm_roots.clone(),
            simulated_roots: self.simulated_roots.clone(),
            snp: self.snp(),
            tdx: TdxConfig { intel: self.tdx, simulated_roots: self.simulated_tdx_roots.clone() },
        };
        match init(options, now()?).await {
            Ok(made) => {
                output::document(&serde_json::json!(made), self.format);
                Ok(())
            }
            Err(InitError::Usage(what)) => Err(CommandError::Usage(what)),
            Err(error) => Err(CommandError::fault("fault.init", error)),
        }
    }
}

impl InitArgs {
    /// The one thing that is made in a folder that is there already.
    fn add_ear_key(&self, state: &Path) -> Result<(), CommandError> {
        let fault = |error| CommandError::fault("fault.init", error);
        let file = StateFolder::open(state).and_then(|state| state.make_ear_key()).map_err(fault)?;
        output::document(&serde_json::json!({ "state": state, "ear_key": file }), self.format);
        Ok(())
    }
}

fn line_and_file(text: &str) -> Result<(String, PathBuf), String> {
    let (line, file) = text.split_once('=').ok_or("must be LINE=FILE")?;
    Ok((line.to_owned(), PathBuf::from(file)))
}
