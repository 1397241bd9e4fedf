//! What the command line does beyond the library: print, and turn outcomes into exit codes.

pub(crate) mod client;
pub(crate) mod daemon;
pub(crate) mod tpm;
