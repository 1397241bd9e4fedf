//! One case to judge: a kind, files by role, and what is expected.

use std::{collections::BTreeMap, path::PathBuf};

use evidence::time::UnixSeconds;

use super::{
    azure, ccel, dcap_quote, ek_chain, event_log, ima,
    known::Known,
    outcome::{Fault, Outcome, Refusal},
    snp, tlog, tpm_quote,
};

/// Kinds of case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A TPM 2.0 quote with what hangs on it.
    TpmQuote,
    /// A TCG event log, against PCR values if they are given.
    TcgEventLog,
    /// An IMA measurement list.
    ImaLog,
    /// An EK certificate with its chain.
    TpmEkChain,
    /// A DCAP quote of a TDX trust domain or an SGX enclave.
    DcapQuote,
    /// The event log of a confidential VM, against registers or a quote if they are given.
    CcelLog,
    /// An SEV-SNP report with the certificates of its key.
    SnpReport,
    /// A table of AMD's certificates, as a host hands it to its guests.
    SnpCertTable,
    /// A quote of Azure's vTPM with the hardware report that its key is bound to.
    AzureVtpm,
    /// A checkpoint of a log, signed by the key of that log.
    Checkpoint,
    /// A log as a folder of tiles.
    Tlog,
    /// A proof file of a log.
    TlogProof,
    /// Vectors of Merkle proofs.
    MerkleProofs,
}

/// Role of a file in a case, whether the kind needs it, and what else it is called.
struct Role {
    name: &'static str,
    is_required: bool,
    also: &'static [&'static str],
}

const fn required(name: &'static str, also: &'static [&'static str]) -> Role {
    Role { name, is_required: true, also }
}

const fn optional(name: &'static str, also: &'static [&'static str]) -> Role {
    Role { name, is_required: false, also }
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 13] = [
        Self::TpmQuote,
        Self::TcgEventLog,
        Self::ImaLog,
        Self::TpmEkChain,
        Self::DcapQuote,
        Self::CcelLog,
        Self::SnpReport,
        Self::SnpCertTable,
        Self::AzureVtpm,
        Self::Checkpoint,
        Self::Tlog,
        Self::TlogProof,
        Self::MerkleProofs,
    ];

    /// Its name in batches.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TpmQuote => "tpm-quote",
            Self::TcgEventLog => "tcg-event-log",
            Self::ImaLog => "ima-log",
            Self::TpmEkChain => "tpm-ek-chain",
            Self::DcapQuote => "dcap-quote",
            Self::CcelLog => "ccel-log",
            Self::SnpReport => "snp-report",
            Self::SnpCertTable => "snp-cert-table",
            Self::AzureVtpm => "azure-vtpm",
            Self::Checkpoint => "checkpoint",
            Self::Tlog => "tlog",
            Self::TlogProof => "tlog-proof",
            Self::MerkleProofs => "merkle-proofs",
        }
    }

    const fn roles(self) -> &'static [Role] {
        match self {
            Self::TpmQuote => {
                const ROLES: [Role; 9] = [
                    required("message", &["quote"]),
                    required("signature", &[]),
                    required("ak", &[]),
                    optional("ak_cert", &[]),
                    optional("ak_roots", &["ak_root", "ak_intermediates"]),
                    optional("pcrs", &[]),
                    optional("event_log", &["log"]),
                    optional("ima_log", &[]),
                    optional("keys", &[]),
                ];
                &ROLES
            }
            Self::TcgEventLog => {
                const ROLES: [Role; 2] = [required("event_log", &["log"]), optional("pcrs", &[])];
                &ROLES
            }
            Self::ImaLog => {
                const ROLES: [Role; 3] = [required("ima_log", &["log"]), optional("pcrs", &[]), optional("keys", &[])];
                &ROLES
            }
            Self::TpmEkChain => {
                const ROLES: [Role; 3] = [
                    required("ek_cert", &[]),
                    optional("intermediate", &["intermediates"]),
                    required("root", &["roots"]),
                ];
                &ROLES
            }
            Self::DcapQuote => {
                const ROLES: [Role; 3] = [required("quote", &[]), optional("collateral", &[]), optional("root", &[])];
                &ROLES
            }
            Self::CcelLog => {
                const ROLES: [Role; 3] =
                    [required("event_log", &["log"]), optional("pcrs", &[]), optional("quote", &[])];
                &ROLES
            }
            Self::SnpReport => {
                const ROLES: [Role; 8] = [
                    required("report", &[]),
                    optional("vek", &["vcek", "vlek"]),
                    optional("intermediate", &["ask", "asvk"]),
                    optional("root", &["ark"]),
                    optional("crl", &[]),
                    optional("cert_table", &[]),
                    optional("tsm_json", &[]),
                    optional("tsm_cbor", &[]),
                ];
                &ROLES
            }
            Self::SnpCertTable => {
                const ROLES: [Role; 6] = [
                    required("cert_table", &[]),
                    optional("report", &[]),
                    optional("vek", &["vcek", "vlek"]),
                    optional("intermediate", &["ask", "asvk"]),
                    optional("root", &["ark"]),
                    optional("crl", &[]),
                ];
                &ROLES
            }
            Self::AzureVtpm => {
                const ROLES: [Role; 11] = [
                    required("hcl_report", &[]),
                    required("message", &["quote"]),
                    required("signature", &[]),
                    optional("pcrs", &[]),
                    optional("ak", &[]),
                    optional("vek", &["vcek", "vlek"]),
                    optional("intermediate", &["ask", "asvk"]),
                    optional("root", &["ark"]),
                    optional("crl", &[]),
                    optional("td_quote", &[]),
                    optional("collateral", &[]),
                ];
                &ROLES
            }
            Self::Checkpoint => {
                const ROLES: [Role; 2] = [required("checkpoint", &[]), required("verifier_key", &[])];
                &ROLES
            }
            Self::Tlog => {
                const ROLES: [Role; 2] = [required("folder", &[]), required("verifier_key", &[])];
                &ROLES
            }
            Self::TlogProof => {
                const ROLES: [Role; 3] =
                    [required("proof", &[]), required("verifier_key", &[]), optional("entry", &[])];
                &ROLES
            }
            Self::MerkleProofs => {
                const ROLES: [Role; 1] = [required("vectors", &[])];
                &ROLES
            }
        }
    }

    /// The name under which this kind knows a role.
    fn role(self, name: &str) -> Option<&'static str> {
        self.roles().iter().find(|role| role.name == name || role.also.contains(&name)).map(|role| role.name)
    }
}

/// What to judge.
#[derive(Clone, Debug)]
pub struct Case {
    /// Kind of evidence.
    pub kind: Kind,
    /// Time to judge at; now if `None`.
    pub at: Option<UnixSeconds>,
    /// Qualifying data that a quote must carry.
    pub expect_nonce: Option<Vec<u8>>,
    /// Report data that a hardware report must carry.
    pub expect_report_data: Option<Vec<u8>>,
    /// Measurement that a hardware report must carry.
    pub expect_measurement: Option<Vec<u8>>,
    files: BTreeMap<&'static str, Vec<PathBuf>>,
}

impl Case {
    /// A case of `kind` without files.
    #[must_use]
    pub const fn new(kind: Kind) -> Self {
        let (expect_nonce, expect_report_data, expect_measurement) = (None, None, None);
        Self { kind, at: None, expect_nonce, expect_report_data, expect_measurement, files: BTreeMap::new() }
    }

    /// Adds files in a role that is given by `flag`.
    ///
    /// # Errors
    /// When the kind has no such role.
    pub fn add(&mut self, role: &str, flag: &str, paths: Vec<PathBuf>) -> Result<(), String> {
        if paths.is_empty() {
            return Ok(());
        }
        let known = self.kind.role(role).ok_or_else(|| format!("{flag} does not go with {}", self.kind.name()))?;
        self.files.entry(known).or_default().extend(paths);
        Ok(())
    }

    /// Refuses a case that lacks a file its kind needs.
    ///
    /// # Errors
    /// Which role is missing.
    pub fn require_roles(&self) -> Result<(), String> {
        let missing = self.kind.roles().iter().find(|role| role.is_required && self.files(role.name).is_empty());
        match missing {
            Some(role) => Err(format!("{} needs a file in the role {}", self.kind.name(), role.name)),
            None => Ok(()),
        }
    }

    /// All files in a role.
    pub(super) fn files(&self, role: &str) -> &[PathBuf] {
        self.files.get(role).map_or(&[], Vec::as_slice)
    }

    /// The only file in a role, if there is one.
    pub(super) fn file(&self, role: &'static str) -> Result<Option<&PathBuf>, Fault> {
        match self.files(role) {
            [] => Ok(None),
            [one] => Ok(Some(one)),
            [..] => Err(Fault::Request { what: format!("more than one file in the role {role}") }),
        }
    }

    /// The only file in a role that the kind needs.
    pub(super) fn required_file(&self, role: &'static str) -> Result<&PathBuf, Fault> {
        self.file(role)?.ok_or_else(|| Fault::Request { what: format!("no file in the role {role}") })
    }

    /// The time to judge at.
    pub(super) fn now(&self) -> Result<UnixSeconds, Fault> {
        if let Some(at) = self.at {
            return Ok(at);
        }
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        since.map(|since| UnixSeconds(since.as_secs())).map_err(|_| Fault::Clock)
    }

    /// Judges the case by itself.
    #[must_use]
    pub fn judge(&self) -> Outcome {
        self.judge_beside(&Known::default())
    }

    /// Judges the case, and keeps in `known` what of it others may share. The outcome is that of [`Case::judge`].
    #[must_use]
    pub fn judge_beside(&self, known: &Known) -> Outcome {
        let judged = match self.kind {
            Kind::TpmQuote => tpm_quote::judge(self),
            Kind::TcgEventLog => event_log::judge(self),
            Kind::ImaLog => ima::judge(self),
            Kind::TpmEkChain => ek_chain::judge(self),
            Kind::DcapQuote => dcap_quote::judge(self, known),
            Kind::CcelLog => ccel::judge(self),
            Kind::SnpReport => snp::judge(self, known),
            Kind::SnpCertTable => snp::judge_table(self, known),
            Kind::AzureVtpm => azure::judge(self, known),
            Kind::Checkpoint => tlog::judge_checkpoint(self),
            Kind::Tlog => tlog::judge_folder(self),
            Kind::TlogProof => tlog::judge_proof(self),
            Kind::MerkleProofs => tlog::judge_vectors(self),
        };
        match judged {
            Ok(report) => Outcome::Authentic(report),
            Err(Refusal::Denied(denial)) => Outcome::Denied(denial),
            Err(Refusal::Fault(fault)) => Outcome::Fault(fault),
        }
    }
}
