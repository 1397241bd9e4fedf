//! What a verifier needs of a machine once it is affirmed, whatever its kind.

use std::collections::BTreeMap;

use evidence::{
    Bound, Claims, EvidenceKind,
    cose::PublicKey,
    digest::{Digest, HashAlg, Sha256Digest},
    names::NodeId,
    node_key::AttestedNodeKey,
    register::Register,
    sev_snp::SnpClaims,
    tdx::TdxClaims,
    tee::PlatformId,
    time::UnixSeconds,
    tpm::{ClockState, Name, PcrValues, appraisal::TpmClaims, ek::EkEndorser},
};
use firmware_refs::{document::MakerName, observed::maker, text::FirmwareVersion};

/// An affirmed machine.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Its name.
    pub node: NodeId,
    /// The kind of evidence that it gives.
    pub kind: EvidenceKind,
    /// The key that execution keys are wrapped to; keep a TPM's to spare verifying it again.
    pub node_key: AttestedNodeKey,
    /// The key that signs its intents and halt records.
    pub record_key: PublicKey,
    /// Every measured register with its value.
    pub measurements: BTreeMap<Register, Digest>,
    /// Digest over them: the quote's own of a TPM, SHA-256 over their names and values otherwise.
    pub register_digest: Digest,
    /// Its TPM, of kinds that have one.
    pub tpm: Option<TpmMachine>,
    /// The platform of its TEE, of kinds that have one.
    pub platform: Option<PlatformId>,
    /// REPORT_ID of its SNP guest: the baseline that later evidence must repeat while leases live.
    pub report_id: Option<[u8; 32]>,
}

/// The TPM of an affirmed machine.
#[derive(Clone, Debug)]
pub struct TpmMachine {
    /// SHA-256 of the EK's TPM2B_PUBLIC.
    pub ek: Sha256Digest,
    /// Whether an operator pinned the EK, without a certificate.
    pub ek_pinned: bool,
    /// SHA-256 and notBefore of the EK's certificate, where it is one that vouches for it.
    pub ek_certificate: Option<(Sha256Digest, UnixSeconds)>,
    /// Name of the AK.
    pub ak_name: Name,
    /// Manufacturer of the TPM.
    pub manufacturer: MakerName,
    /// firmwareVersion of the quote.
    pub firmware: FirmwareVersion,
    /// Name of the node key.
    pub node_key_name: Name,
    /// The clock state to keep.
    pub clock: ClockState,
    /// The quoted values.
    pub pcrs: PcrValues,
}

impl Machine {
    /// The machine that bound evidence is of.
    pub(crate) fn of(bound: &Bound<'_>) -> Self {
        let claims = bound.claims();
        let measurements = measurements(claims);
        Self {
            node: claims.node_id().clone(),
            kind: claims.kind(),
            node_key: bound.node_key().clone(),
            record_key: claims.record_key().clone(),
            register_digest: register_digest(claims, &measurements),
            measurements,
            tpm: claims.tpm().map(TpmMachine::of),
            platform: claims.platform().cloned(),
            report_id: claims.snp().map(|snp| *snp.report().report_id),
        }
    }
}

impl TpmMachine {
    fn of(tpm: &TpmClaims<'_>) -> Self {
        Self {
            ek: tpm.ek_digest(),
            ek_pinned: matches!(tpm.endorsement().endorser(), EkEndorser::Operator),
            ek_certificate: tpm.endorsement().make().map(|make| (make.certificate, make.issued_at)),
            ak_name: *tpm.ak_name(),
            manufacturer: maker(tpm.endorsement().endorser()),
            firmware: FirmwareVersion(tpm.firmware_version()),
            node_key_name: *tpm.node_key().name(),
            clock: tpm.clock(),
            pcrs: tpm.pcrs().clone(),
        }
    }
}

fn measurements(claims: &Claims<'_>) -> BTreeMap<Register, Digest> {
    let pcrs = claims.tpm().into_iter().flat_map(|tpm| tpm.pcrs().iter());
    let pcrs = pcrs.map(|(pcr, value)| (Register::Pcr(pcr), *value));
    let snp = claims.snp().into_iter().flat_map(of_snp);
    let tdx = claims.tdx().into_iter().flat_map(of_tdx);
    pcrs.chain(snp).chain(tdx).collect()
}

fn of_snp(snp: &SnpClaims<'_>) -> impl Iterator<Item = (Register, Digest)> + use<> {
    let report = snp.report();
    let values: [(Register, HashAlg, &[u8]); 4] = [
        (Register::Measurement, HashAlg::Sha384, report.measurement),
        (Register::HostData, HashAlg::Sha256, report.host_data),
        (Register::IdKeyDigest, HashAlg::Sha384, report.id_key_digest),
        (Register::AuthorKeyDigest, HashAlg::Sha384, report.author_key_digest),
    ];
    values.map(read).into_iter().flatten()
}

fn of_tdx(tdx: &TdxClaims<'_>) -> impl Iterator<Item = (Register, Digest)> + use<> {
    let report = tdx.report();
    let [rtmr0, rtmr1, rtmr2, rtmr3] = report.rtmrs;
    let values: [(Register, HashAlg, &[u8]); 8] = [
        (Register::MrTd, HashAlg::Sha384, report.mr_td),
        (Register::Rtmr(0), HashAlg::Sha384, rtmr0),
        (Register::Rtmr(1), HashAlg::Sha384, rtmr1),
        (Register::Rtmr(2), HashAlg::Sha384, rtmr2),
        (Register::Rtmr(3), HashAlg::Sha384, rtmr3),
        (Register::MrConfigId, HashAlg::Sha384, report.mr_config_id),
        (Register::MrOwner, HashAlg::Sha384, report.mr_owner),
        (Register::MrOwnerConfig, HashAlg::Sha384, report.mr_owner_config),
    ];
    let service =
        tdx.td_report15().map(|report| (Register::MrServiceTd, HashAlg::Sha384, report.mr_service_td.as_slice()));
    values.map(read).into_iter().flatten().chain(service.and_then(read))
}

fn read((register, alg, value): (Register, HashAlg, &[u8])) -> Option<(Register, Digest)> {
    Digest::from_bytes(alg, value).map(|digest| (register, digest))
}

/// Of a TPM alone, what its quote signs; of a TEE, SHA-256 over a line for each register, so that one digest names
/// the state.
fn register_digest(claims: &Claims<'_>, measurements: &BTreeMap<Register, Digest>) -> Digest {
    match claims {
        Claims::Tpm(tpm) => tpm.pcr_digest(),
        Claims::SevSnp(_) | Claims::Tdx(_) | Claims::TpmOnSevSnp(..) | Claims::TpmOnTdx(..) => {
            let lines: String = measurements.iter().map(|(register, value)| format!("{register} {value}\n")).collect();
            HashAlg::Sha256.hash(&[b"attestd/registers/1\n", lines.as_bytes()])
        }
    }
}
