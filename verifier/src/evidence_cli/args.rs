//! The command line of `verifier evidence`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use evidence::time::UnixSeconds;

use super::{
    case::{Case, Kind},
    snp,
};

/// Arguments of `verifier evidence`.
#[derive(Args, Debug)]
pub struct EvidenceArgs {
    /// What to do with the evidence.
    #[command(subcommand)]
    pub command: EvidenceCommand,
}

/// The verbs.
#[derive(Subcommand, Debug)]
pub enum EvidenceCommand {
    /// Show everything that evidence says, believing none of it.
    Inspect(Box<InspectArgs>),
    /// Judge whether evidence is genuinely signed and consistent.
    Verify(Box<VerifyArgs>),
}

/// How to print.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// One JSON object.
    Json,
}

/// Kinds of evidence on the command line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KindArg {
    /// A TPM 2.0 quote with what hangs on it.
    Tpm,
    /// A TCG event log by itself or against PCR values.
    EventLog,
    /// An IMA measurement list.
    Ima,
    /// An EK certificate and its chain.
    EkChain,
    /// A DCAP quote of a TDX trust domain (or an SGX enclave).
    Tdx,
    /// The event log of a confidential VM (CCEL).
    Ccel,
    /// An SEV-SNP report with the certificates of its key.
    Snp,
    /// A table of AMD's certificates, as a host hands it to its guests.
    SnpCertTable,
    /// A quote of Azure's vTPM with the hardware report that its key is bound to.
    AzureVtpm,
}

/// Files and expectations, by what they are.
#[derive(Args, Debug)]
pub struct Files {
    /// Kind of evidence.
    #[arg(long, required_unless_present = "batch")]
    pub kind: Option<KindArg>,
    /// Quote: TPMS_ATTEST, TPM2B_ATTEST or DCAP quote.
    #[arg(long, value_name = "FILE")]
    pub quote: Option<PathBuf>,
    /// Intel's collateral in JSON: TCB info, QE identity, revocation lists and their issuer chains.
    #[arg(long, value_name = "FILE")]
    pub collateral: Option<PathBuf>,
    /// Report data that the report or quote of a TEE must carry.
    #[arg(long, value_name = "HEX")]
    pub report_data: Option<String>,
    /// Signature over the quote: TPMT_SIGNATURE or raw.
    #[arg(long, value_name = "FILE")]
    pub signature: Option<PathBuf>,
    /// Attestation key: PEM or DER public key or certificate, TPM2B_PUBLIC or TPMT_PUBLIC.
    #[arg(long, value_name = "FILE")]
    pub ak: Option<PathBuf>,
    /// Certificate of the attestation key.
    #[arg(long, value_name = "FILE", requires = "ak_root")]
    pub ak_cert: Option<PathBuf>,
    /// Root that vouches for the attestation key; repeat for intermediates.
    #[arg(long, value_name = "FILE")]
    pub ak_root: Vec<PathBuf>,
    /// PCR values: JSON, tpm2_pcrread's text, or its binary output.
    #[arg(long, value_name = "FILE")]
    pub pcrs: Option<PathBuf>,
    /// Qualifying data that the quote must carry.
    #[arg(long, value_name = "HEX")]
    pub nonce: Option<String>,
    /// TCG event log (binary_bios_measurements).
    #[arg(long, value_name = "FILE")]
    pub event_log: Option<PathBuf>,
    /// IMA measurement list, ascii or binary.
    #[arg(long, value_name = "FILE")]
    pub ima_log: Option<PathBuf>,
    /// Public key (PEM) that file signatures in the IMA log must be made with; repeatable.
    #[arg(long, value_name = "FILE")]
    pub ima_key: Vec<PathBuf>,
    /// EK certificate.
    #[arg(long, value_name = "FILE")]
    pub ek_cert: Option<PathBuf>,
    /// Intermediate certificate of the EK's manufacturer; repeatable.
    #[arg(long, value_name = "FILE")]
    pub intermediate: Vec<PathBuf>,
    /// Manufacturer's root to trust; repeatable.
    #[arg(long, value_name = "FILE")]
    pub root: Vec<PathBuf>,
    /// SNP report, 1184 bytes.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Certificate of the key that signed the report, VCEK or VLEK.
    #[arg(long, value_name = "FILE", visible_alias = "vlek")]
    pub vcek: Option<PathBuf>,
    /// Folder of AMD's certificates: vcek or vlek, ask or asvk, ark, and crl, as .der, .pem, .crt or .cer.
    #[arg(long, value_name = "DIR", conflicts_with = "vcek")]
    pub certs: Option<PathBuf>,
    /// Revocation list of AMD's root.
    #[arg(long, value_name = "FILE")]
    pub crl: Option<PathBuf>,
    /// Table of certificates that came with the report.
    #[arg(long, value_name = "FILE")]
    pub cert_table: Option<PathBuf>,
    /// Report of Azure's paravisor.
    #[arg(long, value_name = "FILE")]
    pub hcl_report: Option<PathBuf>,
    /// Measurement that the hardware report must carry.
    #[arg(long, value_name = "HEX")]
    pub measurement: Option<String>,
    /// Time to judge at (RFC 3339); now if absent.
    #[arg(long, value_name = "RFC3339")]
    pub at: Option<String>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

/// Arguments of `verifier evidence verify`.
#[derive(Args, Debug)]
pub struct VerifyArgs {
    /// Judge many cases: one JSON object a line on stdin, one answer a line on stdout, in any order.
    #[arg(long, conflicts_with_all = ["kind"])]
    pub batch: bool,
    /// What to judge.
    #[command(flatten)]
    pub files: Files,
}

/// Arguments of `verifier evidence inspect`.
#[derive(Args, Debug)]
pub struct InspectArgs {
    /// What to show.
    #[command(flatten)]
    pub files: InspectFiles,
}

/// Like [`Files`], without the alternative of a batch.
#[derive(Args, Debug)]
pub struct InspectFiles {
    /// Kind of evidence.
    #[arg(long)]
    pub kind: KindArg,
    /// Quote: TPMS_ATTEST or TPM2B_ATTEST.
    #[arg(long, value_name = "FILE")]
    pub quote: Option<PathBuf>,
    /// Attestation key: PEM or DER public key or certificate, TPM2B_PUBLIC or TPMT_PUBLIC.
    #[arg(long, value_name = "FILE")]
    pub ak: Option<PathBuf>,
    /// PCR values: JSON, tpm2_pcrread's text, or its binary output.
    #[arg(long, value_name = "FILE")]
    pub pcrs: Option<PathBuf>,
    /// TCG event log (binary_bios_measurements).
    #[arg(long, value_name = "FILE")]
    pub event_log: Option<PathBuf>,
    /// IMA measurement list, ascii or binary.
    #[arg(long, value_name = "FILE")]
    pub ima_log: Option<PathBuf>,
    /// SNP report, 1184 bytes.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    /// Table of AMD's certificates.
    #[arg(long, value_name = "FILE")]
    pub cert_table: Option<PathBuf>,
    /// Report of Azure's paravisor.
    #[arg(long, value_name = "FILE")]
    pub hcl_report: Option<PathBuf>,
    /// Certificates to show.
    #[arg(long, value_name = "FILE")]
    pub ek_cert: Option<PathBuf>,
    /// How to print.
    #[arg(long, value_enum, default_value_t)]
    pub format: Format,
}

impl VerifyArgs {
    /// The case that the command line describes; what is wrong with it otherwise.
    pub(super) fn into_case(self) -> Result<(Case, Format), String> {
        let files = self.files;
        let kind = kind_of(files.kind.ok_or("--kind is required")?);
        let mut case = Case::new(kind);
        case.at = files.at.as_deref().map(parse_time).transpose()?;
        case.expect_nonce = files.nonce.as_deref().map(parse_hex).transpose()?;
        case.expect_report_data = files.report_data.as_deref().map(parse_hex).transpose()?;
        case.expect_measurement = files.measurement.as_deref().map(parse_hex).transpose()?;
        let single = [
            (quote_role(kind), "--quote", files.quote),
            ("collateral", "--collateral", files.collateral),
            ("signature", "--signature", files.signature),
            ("ak", "--ak", files.ak),
            ("ak_cert", "--ak-cert", files.ak_cert),
            ("pcrs", "--pcrs", files.pcrs),
            ("event_log", "--event-log", files.event_log),
            ("ima_log", "--ima-log", files.ima_log),
            ("ek_cert", "--ek-cert", files.ek_cert),
            ("report", "--report", files.report),
            ("vek", "--vcek", files.vcek),
            ("crl", "--crl", files.crl),
            ("cert_table", "--cert-table", files.cert_table),
            ("hcl_report", "--hcl-report", files.hcl_report),
        ];
        for (role, flag, path) in single {
            case.add(role, flag, path.into_iter().collect())?;
        }
        if let Some(folder) = files.certs {
            snp::add_folder(&mut case, &folder)?;
        }
        case.add("ak_roots", "--ak-root", files.ak_root)?;
        case.add("keys", "--ima-key", files.ima_key)?;
        case.add("intermediate", "--intermediate", files.intermediate)?;
        case.add("root", "--root", files.root)?;
        case.require_roles()?;
        Ok((case, files.format))
    }
}

impl InspectArgs {
    /// What the command line asks to see; what is wrong with it otherwise.
    pub(super) fn into_case(self) -> Result<(Case, Format), String> {
        let files = self.files;
        let kind = kind_of(files.kind);
        let mut case = Case::new(kind);
        let single = [
            (quote_role(kind), "--quote", files.quote),
            ("ak", "--ak", files.ak),
            ("pcrs", "--pcrs", files.pcrs),
            ("event_log", "--event-log", files.event_log),
            ("ima_log", "--ima-log", files.ima_log),
            ("ek_cert", "--ek-cert", files.ek_cert),
            ("report", "--report", files.report),
            ("cert_table", "--cert-table", files.cert_table),
            ("hcl_report", "--hcl-report", files.hcl_report),
        ];
        for (role, flag, path) in single {
            case.add(role, flag, path.into_iter().collect())?;
        }
        Ok((case, files.format))
    }
}

const fn kind_of(kind: KindArg) -> Kind {
    match kind {
        KindArg::Tpm => Kind::TpmQuote,
        KindArg::EventLog => Kind::TcgEventLog,
        KindArg::Ima => Kind::ImaLog,
        KindArg::EkChain => Kind::TpmEkChain,
        KindArg::Tdx => Kind::DcapQuote,
        KindArg::Ccel => Kind::CcelLog,
        KindArg::Snp => Kind::SnpReport,
        KindArg::SnpCertTable => Kind::SnpCertTable,
        KindArg::AzureVtpm => Kind::AzureVtpm,
    }
}

/// What the file of `--quote` is to a kind.
const fn quote_role(kind: Kind) -> &'static str {
    match kind {
        Kind::TpmQuote
        | Kind::TcgEventLog
        | Kind::ImaLog
        | Kind::TpmEkChain
        | Kind::SnpReport
        | Kind::SnpCertTable
        | Kind::AzureVtpm
        | Kind::Checkpoint
        | Kind::Tlog
        | Kind::TlogProof
        | Kind::MerkleProofs => "message",
        Kind::DcapQuote | Kind::CcelLog => "quote",
    }
}

/// RFC 3339 to a time after 1970, with any offset.
pub(crate) fn parse_time(text: &str) -> Result<UnixSeconds, String> {
    let refused = |what: &str| format!("not an RFC 3339 time: {what}");
    let (local, offset_s, is_behind) = match text.split_at_checked(text.len().saturating_sub(6)) {
        Some((local, offset)) if offset.starts_with(['+', '-']) => {
            let (hours, minutes) = offset.get(1..).and_then(|o| o.split_once(':')).unwrap_or_default();
            let number = |digits: &str, below: u64| digits.parse::<u64>().ok().filter(|number| *number < below);
            let parts = number(hours, 24).zip(number(minutes, 60)).ok_or_else(|| refused("bad offset"))?;
            let seconds = parts.0.saturating_mul(3600).saturating_add(parts.1.saturating_mul(60));
            (format!("{local}Z"), seconds, offset.starts_with('-'))
        }
        _ => (text.to_owned(), 0, false),
    };
    let time = humantime::parse_rfc3339(&local).map_err(|error| refused(&error.to_string()))?;
    let since = time.duration_since(std::time::UNIX_EPOCH).map_err(|_| refused("before 1970"))?;
    let at = UnixSeconds(since.as_secs());
    Ok(if is_behind { at.plus(offset_s) } else { at.minus(offset_s) })
}

/// Hexadecimal of a nonce.
pub(super) fn parse_hex(text: &str) -> Result<Vec<u8>, String> {
    if text.len() > 256 {
        return Err("a nonce has at most 128 bytes".into());
    }
    hex::decode(text).map_err(|error| format!("not hexadecimal: {error}"))
}
