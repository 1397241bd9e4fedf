//! The kinds of evidence, by name.

use serde::{Deserialize, Serialize};
use strum::{EnumIter, IntoEnumIterator as _};

/// A kind of evidence: which hardware vouches, by which statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, EnumIter)]
#[serde(rename_all = "kebab-case")]
pub enum EvidenceKind {
    /// A TPM 2.0 quote.
    Tpm,
    /// An AMD SEV-SNP attestation report.
    SevSnp,
    /// An Intel TDX quote.
    Tdx,
    /// A vTPM's quote and the SNP report that its AK is bound to.
    TpmOnSevSnp,
    /// A vTPM's quote and the TDX quote that its AK is bound to.
    TpmOnTdx,
}

impl EvidenceKind {
    /// Its name in claims, configuration and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tpm => "tpm",
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
            Self::TpmOnSevSnp => "tpm-on-sev-snp",
            Self::TpmOnTdx => "tpm-on-tdx",
        }
    }

    /// The kind with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::all().find(|kind| kind.name() == name)
    }

    /// Type of its collection (RFC 9999 `__cmwc_t`).
    #[must_use]
    pub const fn collection_type(self) -> &'static str {
        match self {
            Self::Tpm => "tag:attestd.dev,2026:evidence/tpm/1",
            Self::SevSnp => "tag:attestd.dev,2026:evidence/sev-snp/1",
            Self::Tdx => "tag:attestd.dev,2026:evidence/tdx/1",
            Self::TpmOnSevSnp => "tag:attestd.dev,2026:evidence/tpm-on-sev-snp/1",
            Self::TpmOnTdx => "tag:attestd.dev,2026:evidence/tpm-on-tdx/1",
        }
    }

    /// The kind whose collections have this type.
    #[must_use]
    pub fn of_collection(collection_type: &str) -> Option<Self> {
        Self::all().find(|kind| kind.collection_type() == collection_type)
    }

    /// Whether a TPM with an EK and an AK is part of it.
    #[must_use]
    pub const fn has_tpm(self) -> bool {
        match self {
            Self::Tpm | Self::TpmOnSevSnp | Self::TpmOnTdx => true,
            Self::SevSnp | Self::Tdx => false,
        }
    }

    /// All kinds.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::iter()
    }
}

impl std::fmt::Display for EvidenceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_and_a_type_of_its_own() {
        for kind in EvidenceKind::all() {
            assert_eq!(EvidenceKind::from_name(kind.name()), Some(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.name());
            assert!(kind.collection_type().ends_with(&format!("/{}/1", kind.name())));
        }
        assert_eq!(EvidenceKind::from_name("snp"), None);
    }
}
