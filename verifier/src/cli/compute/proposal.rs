//! Writing calculated values as a set.

use std::path::PathBuf;

use clap::Args;
use evidence::names::ItemName;
use firmware_refs::compute::proposal::{ComputedValue, Earlier, MeasuredBuffer, MeasuredFile, Proposal};
use firmware_refs::compute::snp::{IdAuth, IdBlock};
use firmware_refs::document::SetDocument;
use firmware_refs::set::ReferenceValueSet;
use firmware_refs::text::Text;

use super::super::signing::{now, read_text, write_file};
use super::CommandError;
use super::artifact::Artifacts;

/// Which set to write.
#[derive(Args, Debug)]
pub(super) struct SetArgs {
    /// Write a set of this name with the values, to be read, signed and staged with `refs import`.
    #[arg(long, value_name = "NAME", requires_all = ["base", "out"])]
    set: Option<String>,
    /// Set (TOML) to start from: captured, or written by hand. It says what no artifact can say: which platforms, which
    /// firmware of theirs, which policy, for how long.
    #[arg(long, value_name = "FILE", requires = "set")]
    base: Option<PathBuf>,
    /// Where to write the set.
    #[arg(long, value_name = "FILE", requires = "set")]
    out: Option<PathBuf>,
    /// Accept the values of the base too, instead of replacing them.
    #[arg(long, requires = "set")]
    keep: bool,
    /// Why the set exists.
    #[arg(long, value_name = "TEXT", requires = "set", default_value = "computed from its artifacts")]
    reason: String,
}

/// Everything that a calculation has to say.
pub(super) struct Calculated {
    /// The verb that calculated it.
    pub(super) verb: &'static str,
    pub(super) parameters: Vec<String>,
    pub(super) artifacts: Artifacts,
    pub(super) values: Vec<ComputedValue>,
    pub(super) id_block: Option<(IdBlock, IdAuth)>,
    pub(super) files: Vec<MeasuredFile>,
    pub(super) buffers: Vec<MeasuredBuffer>,
    pub(super) exclude: Vec<String>,
}

impl Calculated {
    /// Values of registers, and nothing else.
    pub(super) fn of_registers(
        verb: &'static str,
        parameters: Vec<String>,
        artifacts: Artifacts,
        values: Vec<ComputedValue>,
    ) -> Self {
        let (files, buffers, exclude) = (Vec::new(), Vec::new(), Vec::new());
        Self { verb, parameters, artifacts, values, id_block: None, files, buffers, exclude }
    }
}

impl SetArgs {
    /// Writes the set, if one is asked for; says under which name and version.
    pub(super) fn write(&self, calculated: Calculated) -> Result<Option<serde_json::Value>, CommandError> {
        let (Some(name), Some(base), Some(out)) = (&self.set, &self.base, &self.out) else { return Ok(None) };
        let text = read_text(base)?;
        let document: SetDocument =
            toml::from_str(&text).map_err(|error| CommandError::Usage(format!("{}: {error}", base.display())))?;
        let method = format!("verifier {} refs compute {}", env!("CARGO_PKG_VERSION"), calculated.verb);
        let proposal = Proposal {
            id: ItemName::new(name.as_str()).map_err(CommandError::usage)?,
            reason: Text::try_from(self.reason.clone()).map_err(CommandError::Usage)?,
            now: now()?,
            earlier: if self.keep { Earlier::Kept } else { Earlier::Replaced },
            method: Text::lossy(&method),
            parameters: calculated.parameters.iter().map(|parameter| Text::lossy(parameter)).collect(),
            artifacts: calculated.artifacts.into_list(),
            values: calculated.values,
            id_block: calculated.id_block,
            files: calculated.files,
            buffers: calculated.buffers,
            exclude: calculated.exclude,
        };
        let set = proposal.on(document).map_err(|error| CommandError::Usage(format!("{}: {error}", base.display())))?;
        let text = set.to_toml().map_err(CommandError::usage)?;
        ReferenceValueSet::from_toml(&text).map_err(CommandError::usage)?;
        write_file(out, text.as_bytes())?;
        let out = out.display().to_string();
        Ok(Some(serde_json::json!({"name": set.id().as_str(), "version": set.version(), "file": out})))
    }
}
