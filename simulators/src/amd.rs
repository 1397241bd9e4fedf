//! A fake AMD: roots, endorsement keys, CRLs and reports of SEV-SNP (AMD 56860 ABI, AMD 57230 VCEK certificates and KDS).

mod authority;
mod cert_table;
mod machine;
mod product;
mod report;
mod vek;

pub use authority::{AmdAuthority, AmdKeys, amd_name};
pub use cert_table::{CertificateTable, CertificateTableEntry, guid};
pub use machine::{EndorsementKey, SnpEvidence, SnpMachine};
pub use product::{Product, ProductLine, Tcb};
pub use report::{
    KeyInfo, POLICY_DEBUG, POLICY_MIGRATE_MA, POLICY_RESERVED_ONE, POLICY_SMT, REPORT_LEN, SIGNED_LEN, SigningKey,
    SnpReportFields, VMPL_HOST, little_endian_signature,
};
pub use vek::{Vek, VekFields, VekKind, oids};
