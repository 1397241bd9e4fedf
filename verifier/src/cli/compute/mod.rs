//! `verifier refs compute`: reference values from the artifacts themselves. Offline: neither a service nor a state
//! folder is asked.

mod artifact;
mod ima;
mod proposal;
mod registers;
mod snp;
mod tdx;
mod tpm;

use clap::Subcommand;

use super::{CommandError, Format, output};

/// What to calculate.
#[derive(Subcommand, Debug)]
pub(super) enum ComputeVerb {
    /// Launch digest of an SEV-SNP guest, from its firmware (OVMF) and, with -kernel, what is booted.
    Snp(Box<snp::SnpArgs>),
    /// MRTD of a TDX trust domain from its firmware (TDVF), RTMRs from its kernel or its event log.
    Tdx(Box<tdx::TdxArgs>),
    /// PCRs of a machine with a TPM: PCR 4, 7, 9 and 11 from what boots, PCR 0 to 7 from its event log.
    Tpm(Box<tpm::TpmArgs>),
    /// Files that IMA measures, from a tree that holds them.
    Ima(Box<ima::ImaArgs>),
}

impl ComputeVerb {
    /// Calculates, prints, and writes the set that was asked for.
    pub(super) fn run(&self, format: Format) -> Result<(), CommandError> {
        let document = match self {
            Self::Snp(args) => args.answer()?,
            Self::Tdx(args) => args.answer()?,
            Self::Tpm(args) => args.answer()?,
            Self::Ima(args) => args.answer()?,
        };
        output::document(&document, format);
        Ok(())
    }
}
