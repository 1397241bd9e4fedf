//! Whose signature counts for which files: keys given by the caller, each for an environment and kinds of hardware.

use std::fmt;

use evidence::{
    cose::{Alg, KeyId, PublicKey},
    names::ItemName,
};

use super::denial::{HardwareText, ImportDenial};
use crate::text::Text;

/// Kind of hardware that values are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hardware {
    /// AMD SEV-SNP.
    SevSnp,
    /// Intel TDX.
    Tdx,
    /// A TPM 2.0, and the files that IMA measures into it.
    Tpm,
}

impl Hardware {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::SevSnp, Self::Tdx, Self::Tpm];
}

impl fmt::Display for Hardware {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SevSnp => "sev-snp",
            Self::Tdx => "tdx",
            Self::Tpm => "tpm",
        })
    }
}

/// A key whose signature counts.
#[derive(Clone, Debug)]
pub struct AllowedSigner {
    /// The key.
    pub key: PublicKey,
    /// The only environment of sets that it may sign values for.
    pub environment: ItemName,
    /// The only kinds of hardware.
    pub hardware: Vec<Hardware>,
}

/// The signature over a file, and the key it is by.
pub(super) struct By<'s> {
    signer: &'s AllowedSigner,
}

impl By<'_> {
    pub(super) const fn kid(&self) -> KeyId {
        self.signer.key.kid()
    }

    /// That the signer may speak of this hardware: known only after the signed bytes were read.
    pub(super) fn may_speak_of(&self, hardware: Hardware) -> Result<(), ImportDenial> {
        if self.signer.hardware.contains(&hardware) {
            Ok(())
        } else {
            Err(absent(&self.signer.environment, Some(hardware)))
        }
    }
}

fn absent(environment: &ItemName, hardware: Option<Hardware>) -> ImportDenial {
    ImportDenial::SignerAbsent { environment: Text::lossy(environment.as_str()), hardware: HardwareText(hardware) }
}

/// The first allowed signer of `environment` whose signature (64 bytes, by `alg`) is over `message`. Key ids in files
/// are their authors' choice and are not looked at: every allowed key is tried.
pub(super) fn verified<'s>(
    signers: &'s [AllowedSigner],
    environment: &ItemName,
    alg: Option<Alg>,
    message: &[u8],
    signatures: &[Vec<u8>],
) -> Result<By<'s>, ImportDenial> {
    let here: Vec<&AllowedSigner> = signers.iter().filter(|s| s.environment == *environment).collect();
    if here.is_empty() {
        return Err(absent(environment, None));
    }
    let fitting = here.iter().filter(|s| alg.is_none_or(|alg| s.key.alg() == alg));
    let found = fitting.copied().find(|s| signatures.iter().any(|signature| s.key.verifies(message, signature)));
    found.map(|signer| By { signer }).ok_or(ImportDenial::SignatureInvalid { tried: here.len() })
}
