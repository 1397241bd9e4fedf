//! `verifier lineage`: where executions come from and what came of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use audit::bundle::{AttachmentKind, ProofBundle};
use audit::note::NoteKey;
use audit::proof::{Pins, Step, verify_bundle};
use audit::record::LineageRecord;
use audit::tree::Tree;
use clap::{Args, Subcommand};
use evidence::cbor::{self, Caps};
use evidence::cose;
use evidence::digest::Sha256Digest;
use governance::artifact::Artifact;
use governance::intent::Intent;
use wire::proto::{LineageShow, operator_command::Command};

use self::drawing::Drawing;
use super::proof::read_pin;
use super::service::Service;
use super::signing::{now, read_file, write_file};
use super::{CommandError, Common, Format, output};
use crate::lineage_export::LineageExport;
use crate::payloads::GovernancePayloads;

mod dot;
mod drawing;
mod svg;

/// Arguments of `verifier lineage`.
#[derive(Args, Debug)]
pub struct LineageArgs {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand, Debug)]
enum Verb {
    /// Draw the lineage of a record, execution, artifact or node: from its origin to everything that came of it.
    ///
    /// A step hangs from its intent; an intent from the grant of the parent that it names, else from the enrolment of its
    /// node; a halt from each execution that it ended. Renewals with nothing between them share a line. Asked of the
    /// running service, or of a proof bundle that is verified first.
    Show {
        /// Log index, digest of a record, intent or artifact, artifact id, or node name.
        id: String,
        /// Draw from this proof bundle instead, offline.
        #[arg(long, value_name = "FILE", requires = "pin")]
        proof: Option<PathBuf>,
        /// Public keys of the domains that may appear in the bundle (TOML, as `init` writes to pin.toml).
        #[arg(long, value_name = "FILE", requires = "proof")]
        pin: Vec<PathBuf>,
        /// A witness that may have cosigned the bundle's checkpoints: NAME+ID+KEY (C2SP signed-note); repeatable.
        #[arg(long, value_name = "VKEY", requires = "proof")]
        witness: Vec<String>,
        /// How many witnesses must have cosigned each checkpoint of the bundle.
        #[arg(long, value_name = "COUNT", default_value_t = 0, requires = "proof")]
        quorum: usize,
        /// Print it in Graphviz's language.
        #[arg(long)]
        dot: bool,
        /// Also write it as SVG; a file that exists is not overwritten.
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
}

/// Where a tree is read from.
struct Source {
    steps: Vec<Step>,
    /// Records that were asked about, by digest, where the service said which.
    starts: Option<BTreeSet<Sha256Digest>>,
    /// By which record an artifact was granted, by the artifact's digest.
    artifacts: BTreeMap<Sha256Digest, Sha256Digest>,
    intents: BTreeMap<Sha256Digest, Intent>,
}

impl LineageArgs {
    /// Runs the verb.
    #[must_use]
    pub fn run(self) -> ExitCode {
        super::run(self.common.format, self.answer())
    }

    async fn answer(&self) -> Result<(), CommandError> {
        let Verb::Show { id, proof, pin, witness, quorum, dot, svg } = &self.verb;
        if *dot && self.common.format == Format::Json {
            return Err(CommandError::Usage("--dot or --format json, not both".to_owned()));
        }
        let source = match proof {
            Some(file) => proved(file, pin, witness, *quorum)?,
            None => logged(&self.common.state, id).await?,
        };
        let drawing = drawn(source, id)?;
        if let Some(path) = svg {
            write_file(path, svg::written(&drawing).as_bytes())?;
        }
        match (self.common.format, *dot) {
            (Format::Json, _) => output::json(&drawing.document()),
            (Format::Text, true) => output::line(&dot::written(&drawing)),
            (Format::Text, false) => output::line(&drawing.text()),
        }
        Ok(())
    }
}

fn drawn(source: Source, id: &str) -> Result<Drawing, CommandError> {
    let Source { steps, starts, artifacts, intents } = source;
    let tree = Tree::of(steps);
    let about = match starts {
        Some(starts) => {
            let leaves = tree.leaves().iter().enumerate();
            leaves.filter(|(_, leaf)| starts.contains(&leaf.step.digest)).map(|(at, _)| at).collect()
        }
        None => {
            let granted = id.parse::<Sha256Digest>().ok().and_then(|digest| artifacts.get(&digest));
            tree.about(granted.map_or_else(|| id.to_owned(), ToString::to_string).as_str())
        }
    };
    if about.is_empty() {
        let detail = format!("no record is named {}", id.chars().take(128).collect::<String>().escape_debug());
        return Err(CommandError::Denied { code: "governance.unknown".to_owned(), detail: detail.into() });
    }
    let taken = tree.lineage(&about);
    Ok(Drawing { tree, taken, about, intents })
}

/// What the running service has in its log.
async fn logged(state: &Path, id: &str) -> Result<Source, CommandError> {
    let fault = |error: &dyn std::fmt::Display| CommandError::fault("fault.service", error);
    let mut service = Service::connect(state).await?;
    let answer = service.ask(Command::LineageShow(LineageShow { id: id.to_owned() })).await?;
    let caps = Caps::bytes(answer.attachment.len()).items(answer.attachment.len());
    let export: LineageExport = cbor::from_slice(&answer.attachment, caps).map_err(|error| fault(&error))?;
    let mut starts = BTreeSet::new();
    let mut steps = Vec::with_capacity(export.entries.len());
    for (index, entry) in &export.entries {
        let digest = Sha256Digest::of(entry);
        // The service's own log, over its own socket: `log audit` is what verifies it.
        let payload = cose::claimed_payload(entry).map_err(|error| fault(&error))?;
        let record: LineageRecord =
            cbor::from_slice(&payload, Caps::bytes(payload.len())).map_err(|error| fault(&error))?;
        if export.starts.contains(index) {
            starts.insert(digest);
        }
        steps.push(Step { index: *index, digest, record });
    }
    let intents = export.intents.iter().filter_map(|cose| intent(cose)).collect();
    Ok(Source { steps, starts: Some(starts), artifacts: BTreeMap::new(), intents })
}

/// What a proof bundle proves.
fn proved(file: &Path, pin: &[PathBuf], witness: &[String], quorum: usize) -> Result<Source, CommandError> {
    let domains = pin.iter().map(|path| read_pin(path)).collect::<Result<Vec<_>, _>>()?;
    let unusable = |error| CommandError::Usage(format!("--witness: {error}"));
    let witnesses = witness.iter().map(|vkey| NoteKey::from_vkey(vkey)).collect::<Result<Vec<_>, _>>();
    let pins = Pins { domains, witnesses: witnesses.map_err(unusable)?, quorum };
    let bytes = read_file(file)?;
    let report = verify_bundle(&bytes, &pins, &GovernancePayloads, now()?).map_err(|failure| CommandError::Denied {
        code: failure.denial.code().to_owned(),
        detail: failure.to_string().into(),
    })?;
    let bundle = ProofBundle::decode(&bytes).map_err(CommandError::usage)?;
    let of_kind = |kind: AttachmentKind| {
        let attached = bundle.attachments.iter().filter(move |attachment| attachment.kind == kind);
        attached.flat_map(|attachment| attachment.signatures.iter())
    };
    let artifacts = of_kind(AttachmentKind::Artifact).filter_map(|cose| {
        let artifact = Artifact::decode(&cose::claimed_payload(cose).ok()?).ok()?;
        Some((Sha256Digest::of(cose), artifact.into_parts().1.entry))
    });
    let artifacts = artifacts.collect();
    let intents = of_kind(AttachmentKind::Intent).filter_map(|cose| intent(cose)).collect();
    Ok(Source { steps: report.steps().to_vec(), starts: None, artifacts, intents })
}

fn intent(cose: &[u8]) -> Option<(Sha256Digest, Intent)> {
    let payload = cose::claimed_payload(cose).ok()?;
    Some((Sha256Digest::of(&payload), Intent::decode(&payload).ok()?))
}
