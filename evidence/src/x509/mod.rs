//! X.509 certificates of hardware vendors, and chains of fixed shape made of them.
//!
//! Vendors ship certificates that strict parsers refuse (RDNs not in DER order, padding after the certificate in
//! the TPM's NV). So names are kept as the bytes they are and never rebuilt, while everything that decides is
//! read strictly: `der` for the frame, `x509-cert` for the extensions. Signatures are over the bytes as received.

mod certificate;
mod chain;
mod crl;
mod extension;
mod name;
mod signed;

pub use self::crl::CRL_CAP_BYTES;
pub(crate) use self::{
    certificate::{CURVE_P256, CURVE_P384, Certificate, SubjectKey},
    chain::walk,
    crl::Crl,
    name::{Attribute, directory_name_attributes, name_attributes},
};

/// Longest certificate.
pub const CERTIFICATE_CAP_BYTES: usize = 16 * 1024;
/// Most certificates in a chain, leaf and root included.
pub const CHAIN_CAP: usize = 6;
