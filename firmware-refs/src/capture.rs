//! A proposal for a set, captured from a machine. It is a draft for people to
//! read and sign: a machine that was already wrong would be captured wrong.

mod snp;
mod tdx;
mod tpm;

use evidence::{
    digest::Digest,
    names::{DomainName, ItemName},
    time::UnixSeconds,
};

use crate::document::{Accepted, SetDocument};
use crate::observed::Observed;
use crate::set::{ReferenceValueSet, SetError};
use crate::text::{Moment, Text};

/// What a captured set is called, and how long it is to hold.
#[derive(Clone, Debug)]
pub struct CaptureHeader {
    /// Name of the set.
    pub id: ItemName,
    /// Its version.
    pub version: u64,
    /// Domain that will sign it.
    pub domain: DomainName,
    /// What the values are for.
    pub environment: ItemName,
    /// Where they were captured: the node's id.
    pub node: String,
    /// When.
    pub now: UnixSeconds,
    /// How long they are to hold, in seconds.
    pub lifetime_s: u64,
}

/// A proposed set. Its sources say for every value whether it could be derived from what was measured
/// (`derived`), or was only seen (`observed`): look at the latter first.
#[derive(Clone, Debug)]
pub struct Capture {
    set: ReferenceValueSet,
    observed_only: usize,
}

impl Capture {
    /// The proposed set.
    #[must_use]
    pub fn set(&self) -> &ReferenceValueSet {
        &self.set
    }

    /// How many values were only seen.
    #[must_use]
    pub fn observed_only(&self) -> usize {
        self.observed_only
    }

    /// The proposal as TOML, with a word to its reader.
    ///
    /// # Errors
    /// [`SetError::Toml`] when it cannot be written.
    pub fn to_toml(&self) -> Result<String, SetError> {
        let body = self.set.to_toml()?;
        let document = self.set.document();
        Ok(format!(
            "# {}\n# {} of its values were only observed (source \"observed ...\"): nothing but this machine vouches\n\
             # for them. Compare them with what you meant to install, then sign and stage the set.\n\n{body}",
            document.reason, self.observed_only
        ))
    }
}

/// Proposes a set that knows exactly this machine.
///
/// # Errors
/// [`SetError::Unusable`] when no usable set can be made of what was observed.
pub fn capture(observed: &Observed<'_>, header: CaptureHeader) -> Result<Capture, SetError> {
    let mut draft = Draft { node: header.node.clone(), observed_only: 0 };
    let document = SetDocument {
        id: header.id,
        version: header.version,
        domain: header.domain,
        environment: header.environment,
        issued_at: Moment::from(header.now),
        not_before: Moment::from(header.now),
        not_after: Moment::from(header.now.plus(header.lifetime_s)),
        reason: Text::lossy(&format!("captured from node {}", header.node)),
        tpm: observed.tpm().map(|tpm| draft.tpm(tpm)),
        snp: observed.snp().map(|snp| draft.snp(snp)),
        tdx: observed.tdx().map(|tdx| draft.tdx(tdx)),
        derivation: Vec::new(),
        tag: Vec::new(),
    };
    Ok(Capture { observed_only: draft.observed_only, set: ReferenceValueSet::from_document(document)? })
}

struct Draft {
    node: String,
    observed_only: usize,
}

impl Draft {
    fn accepted(&mut self, digest: Digest, derived: Option<&str>) -> Vec<Accepted> {
        let source = match derived {
            Some(how) => format!("derived {how}, on {}", self.node),
            None => {
                self.observed_only = self.observed_only.saturating_add(1);
                format!("observed on {}", self.node)
            }
        };
        vec![Accepted { digest, source: Text::lossy(&source), from: None }]
    }
}
