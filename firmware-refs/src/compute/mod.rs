//! Reference values calculated from the artifacts themselves: bytes in, digests out. What is calculated here is what
//! the hardware and the firmware measure while they load those bytes, so that nobody has to trust a first boot.
//!
//! Artifacts are hostile: every offset and count in them is checked before it is used, and a structure that could be
//! read in two ways is refused ([`ArtifactError`]).

mod bytes;
mod error;
pub mod ovmf;
pub mod proposal;
pub mod snp;
pub mod tdx;
pub mod tpm;

pub use error::ArtifactError;
