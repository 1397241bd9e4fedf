//! Where calculated values come from: the artifacts that they were calculated from, and with which parameters.

use evidence::{digest::Sha256Digest, names::ItemName};
use serde::{Deserialize, Serialize};

use super::{Accepted, SetDocument, snp::IdBlock};
use crate::text::Text;

/// One calculation. Values that came out of it name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Derivation {
    /// What values call it.
    pub id: ItemName,
    /// What calculated them (`verifier refs compute snp`, with its version).
    pub method: Text,
    /// Parameters beside the artifacts, each as `name value`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<Text>,
    /// The artifacts.
    pub artifact: Vec<Artifact>,
}

/// A file that values were calculated from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// What it is to the calculation (`ovmf`, `kernel`).
    pub role: Text,
    /// Its name, without folder.
    pub file: Text,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of its contents.
    pub sha256: Sha256Digest,
}

/// A tag of somebody else's, by which its author says that one content replaces another. One id and version is one
/// content for ever, in every set of a domain.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImportedTag {
    /// Tag id.
    pub id: Text,
    /// Tag version.
    pub version: u64,
    /// SHA-256 of the tag.
    pub sha256: Sha256Digest,
}

impl ImportedTag {
    /// Whether two tags claim to be one and are not.
    #[must_use]
    pub fn collides(&self, other: &Self) -> bool {
        (&self.id, self.version) == (&other.id, other.version) && self.sha256 != other.sha256
    }
}

impl SetDocument {
    /// Every accepted value of the set, wherever it stands.
    pub fn accepted(&self) -> impl Iterator<Item = &Accepted> {
        let tpm = self.tpm.iter().flat_map(|tpm| {
            let registers = tpm.pcr.iter().flat_map(|pcr| &pcr.accept);
            let events = tpm.event.iter().flat_map(|event| &event.accept);
            let files = tpm.ima.iter().flat_map(|ima| &ima.file).flat_map(|file| &file.accept);
            let buffers = tpm.ima.iter().flat_map(|ima| &ima.buffer).flat_map(|buffer| &buffer.accept);
            registers.chain(events).chain(files).chain(buffers)
        });
        let snp = self.snp.iter().flat_map(|snp| {
            let keys: [&[Accepted]; 2] = match &snp.id_block {
                IdBlock::None => [&[], &[]],
                IdBlock::Signed { id_key, author_key } => [id_key, author_key],
            };
            snp.measurement.iter().chain(&snp.host_data).chain(keys.into_iter().flatten())
        });
        let tdx = self.tdx.iter().flat_map(|tdx| {
            let fields = [&tdx.mrtd, &tdx.mrconfigid, &tdx.mrowner, &tdx.mrownerconfig, &tdx.mrservicetd];
            let registers = tdx.rtmr.iter().flat_map(|rtmr| &rtmr.accept);
            let events = tdx.event.iter().flat_map(|event| &event.accept);
            fields.into_iter().flatten().chain(registers).chain(events)
        });
        tpm.chain(snp).chain(tdx)
    }
}
