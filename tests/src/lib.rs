//! What tests share: machines made of software that send evidence of genuine form, so that a test can change
//! one thing and expect one denial. Nothing but tests links this.
#![warn(missing_docs)]

pub mod activation;
pub mod authority;
pub mod boot;
pub mod defects;
pub mod firmware_image;
pub mod genuine;
pub mod genuine_hcl;
pub mod genuine_snp;
pub mod genuine_tdx;
pub mod genuine_vtpm;
pub mod pe_image;
pub mod soft_tpm;
pub mod subject;

/// When guests of TEEs answer: 2026-11-22.
pub const NOW: evidence::time::UnixSeconds = evidence::time::UnixSeconds(1_795_324_500);
