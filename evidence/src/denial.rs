//! Why evidence was not authentic, or not an answer to the challenge: one variant a fact, both sides in it.

mod code;
mod hint;

use strum::{EnumDiscriminants, EnumIter};

use crate::{
    cbor::CborError,
    digest::{Digest, HashAlg, Sha256Digest},
    kind::EvidenceKind,
    sev_snp::{Cpuid, Product, SigningKey},
    tee::PlatformId,
    time::UnixSeconds,
    tpm::{ClockState, public::SignatureScheme},
};

/// The evidence was judged, and refused. `code` is stable; text is for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, EnumDiscriminants)]
#[strum_discriminants(
    name(EvidenceDenialKind),
    derive(EnumIter, Hash, PartialOrd, Ord),
    doc = "The variants of [`EvidenceDenial`], to enumerate them."
)]
pub enum EvidenceDenial {
    /// Bytes do not have the structure they must have.
    #[error("{structure} malformed at offset {offset}: {what}")]
    Malformed {
        /// Which structure, by its name in the specification.
        structure: &'static str,
        /// Byte offset in that structure.
        offset: usize,
        /// Which rule.
        what: &'static str,
    },
    /// Bytes follow the structure.
    #[error("{extra_bytes} bytes after {structure}")]
    TrailingBytes {
        /// Which structure.
        structure: &'static str,
        /// How many bytes.
        extra_bytes: usize,
    },
    /// A part is larger than its cap.
    #[error("{part} of {got_bytes} bytes, at most {cap_bytes} allowed")]
    TooLarge {
        /// Which part.
        part: &'static str,
        /// Length received.
        got_bytes: usize,
        /// Length allowed.
        cap_bytes: usize,
    },
    /// CBOR around the evidence is not acceptable.
    #[error(transparent)]
    Cbor(#[from] CborError),
    /// A required part did not come.
    #[error("{part} is required and absent")]
    Missing {
        /// Which part.
        part: &'static str,
    },
    /// An algorithm, curve or scheme that is not accepted.
    #[error("{what} algorithm {got:#06x} is not accepted")]
    AlgorithmRefused {
        /// What it would be used for.
        what: &'static str,
        /// TPM_ALG_ID or curve id.
        got: u16,
    },
    /// A bank or log that is only SHA-1.
    #[error("{what} uses {alg}, which is not accepted")]
    WeakHash {
        /// What uses it.
        what: &'static str,
        /// Which.
        alg: HashAlg,
    },
    /// A signature does not verify.
    #[error("signature over {over} does not verify")]
    SignatureInvalid {
        /// What was signed.
        over: &'static str,
    },
    /// The evidence answers another challenge, connection, key, audience, epoch, subject or lineage.
    #[error("binding is {got}, expected {expected}")]
    BindingMismatch {
        /// extraData in the quote, hexadecimal.
        got: String,
        /// What the challenge demands, hexadecimal.
        expected: String,
    },
    /// The challenge was over when the evidence came.
    #[error("challenge ended at {expires_at}, evidence came at {now}")]
    ChallengeExpired {
        /// When the challenge ended.
        expires_at: UnixSeconds,
        /// When it was judged.
        now: UnixSeconds,
    },
    /// PCRs other than the required ones were quoted.
    #[error("quoted PCRs {got}, required {required}")]
    PcrSelection {
        /// Bank and PCRs quoted.
        got: String,
        /// Bank and PCRs required.
        required: String,
    },
    /// The PCR values beside the quote are not the quoted ones.
    #[error("PCR values hash to {got}, the quote says {quoted}")]
    PcrDigestMismatch {
        /// Digest of the values received.
        got: String,
        /// Digest in the quote.
        quoted: String,
    },
    /// The event log does not lead to the quoted register.
    #[error("event log replays PCR {pcr} to {got}, the quote says {quoted}")]
    ReplayMismatch {
        /// PCR index.
        pcr: u8,
        /// Value the log leads to.
        got: Box<Digest>,
        /// Value in the quote.
        quoted: Box<Digest>,
    },
    /// A part has more entries than its cap.
    #[error("{part}: more than {cap}")]
    TooMany {
        /// Entries of what.
        part: &'static str,
        /// Entries allowed.
        cap: usize,
    },
    /// The event log has no digest in the bank that must be replayed.
    #[error("event {event} of the log has no {alg} digest")]
    BankMissing {
        /// The bank.
        alg: HashAlg,
        /// Position of the first event without it.
        event: usize,
    },
    /// The event log extends a register whose value is not known.
    #[error("the event log extends PCR {pcr}, of which no {alg} value is given")]
    RegisterUnproven {
        /// PCR index.
        pcr: u8,
        /// The bank.
        alg: HashAlg,
    },
    /// A register that the firmware must close has no separator.
    #[error("register {pcr} has no separator event")]
    SeparatorMissing {
        /// Register as the log numbers it: a PCR, or 1 for RTMR0.
        pcr: u32,
    },
    /// A second separator in one register.
    #[error("event {event}: a separator too many in register {pcr}")]
    SeparatorRepeated {
        /// Register as the log numbers it: a PCR, or 1 for RTMR0.
        pcr: u32,
        /// Position in the log.
        event: usize,
    },
    /// A separator that reports an error, or is not four zero bytes.
    #[error("event {event}: the separator of register {pcr} is not zero")]
    SeparatorNotZero {
        /// Register as the log numbers it: a PCR, or 1 for RTMR0.
        pcr: u32,
        /// Position in the log.
        event: usize,
    },
    /// Firmware configuration measured after the firmware handed over.
    #[error("event {event}: {kind} in register {pcr} after its separator")]
    ConfigurationAfterSeparator {
        /// Register as the log numbers it: a PCR, or 1 for RTMR0.
        pcr: u32,
        /// Position in the log.
        event: usize,
        /// Event type.
        kind: &'static str,
    },
    /// Event data that must hash to the event's digest does not.
    #[error("event {event} ({kind}, register {pcr}): data hashes to {got}, the event says {recorded}")]
    EventDataMismatch {
        /// Position in the log.
        event: usize,
        /// Register as the log numbers it: a PCR, or 1 for RTMR0.
        pcr: u32,
        /// Event type.
        kind: &'static str,
        /// Digest of all the data.
        got: Box<Digest>,
        /// Digest in the event.
        recorded: Box<Digest>,
    },
    /// A type of event that has no place in a register that decisions are read from.
    #[error("event {event}: {kind} has no place in register {pcr}")]
    EventTypeRefused {
        /// Register as the log numbers it: a PCR, or 1 for RTMR0.
        pcr: u32,
        /// Position in the log.
        event: usize,
        /// Event type.
        kind: &'static str,
    },
    /// A secure boot variable was measured twice.
    #[error("event {event}: variable measured a second time: {name}")]
    VariableRepeated {
        /// Position in the log.
        event: usize,
        /// The variable, escaped.
        name: String,
    },
    /// The SecureBoot variable is not one byte of 0 or 1.
    #[error("event {event}: SecureBoot is not a boolean ({got_bytes} bytes)")]
    SecureBootNotBoolean {
        /// Position in the log.
        event: usize,
        /// Length of its value.
        got_bytes: usize,
    },
    /// Firmware reports a debugger or missing DMA protection.
    #[error("event {event}: firmware reports: {action}")]
    ActionRefused {
        /// Position in the log.
        event: usize,
        /// What it reports, escaped.
        action: String,
    },
    /// An IMA entry's template data does not hash to its template hash.
    #[error("IMA entry {entry}: template data hashes to {got}, the entry says {recorded}")]
    ImaTemplateMismatch {
        /// Position in the log.
        entry: usize,
        /// Digest of the template data.
        got: Box<Digest>,
        /// Digest in the entry.
        recorded: Box<Digest>,
    },
    /// IMA recorded a measurement violation.
    #[error("IMA entry {entry} is a violation: {path}")]
    ImaViolation {
        /// Position in the log.
        entry: usize,
        /// The file, escaped.
        path: String,
    },
    /// An IMA entry of a register other than the quoted PCR 10.
    #[error("IMA entry {entry} is of PCR {got}, only PCR 10 is accepted")]
    ImaRegister {
        /// Position in the log.
        entry: usize,
        /// PCR of the entry.
        got: u32,
    },
    /// The IMA log cannot be what a kernel wrote, in this order.
    #[error("IMA entry {entry}: {what}")]
    ImaOrder {
        /// Position in the log.
        entry: usize,
        /// Which rule.
        what: &'static str,
    },
    /// No prefix of the IMA log leads to PCR 10.
    #[error("no prefix of {entries} IMA entries leads to PCR 10 {quoted}")]
    ImaReplayMismatch {
        /// Entries in the log.
        entries: usize,
        /// Value in the quote.
        quoted: Box<Digest>,
    },
    /// The IMA log's boot_aggregate is not of the quoted boot registers.
    #[error("IMA boot_aggregate is {got}, the boot registers give {expected}")]
    ImaBootAggregate {
        /// Digest in the log.
        got: String,
        /// Digest of the quoted registers.
        expected: String,
    },
    /// A file's signature in the IMA log does not verify under a given key.
    #[error("IMA entry {entry}: signature of {path} by key {keyid}: {what}")]
    ImaSignature {
        /// Position in the log.
        entry: usize,
        /// The file, escaped.
        path: String,
        /// Key id in the signature, hexadecimal.
        keyid: String,
        /// What is wrong.
        what: &'static str,
    },
    /// A key cannot be used for what it must be used for.
    #[error("key unusable: {what}")]
    KeyUnusable {
        /// Why.
        what: &'static str,
    },
    /// A signature is by another scheme than its key's.
    #[error("signature by {got}, the key is for {want}")]
    SchemeMismatch {
        /// Of the signature.
        got: SignatureScheme,
        /// Of the key.
        want: SignatureScheme,
    },
    /// Evidence of another kind than the challenge demands.
    #[error("evidence of kind {got}, the challenge demands {demanded}")]
    KindUnexpected {
        /// Kind of the evidence.
        got: EvidenceKind,
        /// Kind demanded.
        demanded: EvidenceKind,
    },
    /// A part came that the challenge did not ask for, so nothing requires its checks.
    #[error("{part} was not asked for")]
    UnexpectedPart {
        /// Which part.
        part: &'static str,
    },
    /// A certificate or key was taken back.
    #[error("{sha256} is revoked")]
    Revoked {
        /// SHA-256 of the certificate, key or EK.
        sha256: Sha256Digest,
    },
    /// Nothing we trust vouches for the EK.
    #[error("EK {ek} is not pinned and its certificates do not lead to a pinned root")]
    EkUnanchored {
        /// SHA-256 of its TPM2B_PUBLIC.
        ek: Sha256Digest,
    },
    /// A chain of certificates ends before any pinned root.
    #[error("certificate {position} ({sha256}) is not pinned and its issuer is not known")]
    ChainUnanchored {
        /// Place in the chain, 0 for the EK's.
        position: usize,
        /// SHA-256 of the last certificate.
        sha256: Sha256Digest,
    },
    /// A certificate is not valid at this time.
    #[error("certificate {position} is valid from {not_before} to {not_after}, judged at {now}")]
    CertificateValidity {
        /// Place in the chain, 0 for the EK's.
        position: usize,
        /// First instant.
        not_before: UnixSeconds,
        /// Last instant.
        not_after: UnixSeconds,
        /// When it was judged.
        now: UnixSeconds,
    },
    /// A certificate is not signed by its issuer, or by an algorithm that is not accepted.
    #[error("certificate {position} is not signed by its issuer: {what}")]
    CertificateSignature {
        /// Place in the chain, 0 for the EK's.
        position: usize,
        /// Why.
        what: &'static str,
    },
    /// A certificate does not have the form or the constraints of its place in the chain.
    #[error("certificate {position} does not fit its place: {what}")]
    CertificateConstraint {
        /// Place in the chain, 0 for the EK's.
        position: usize,
        /// What it must have.
        what: &'static str,
    },
    /// A critical extension that we do not process.
    #[error("certificate {position} has unknown critical extension {oid}")]
    CertificateExtension {
        /// Place in the chain, 0 for the EK's.
        position: usize,
        /// Its object identifier.
        oid: String,
    },
    /// A revocation list is not by the authority that it must be by.
    #[error("revocation list is not signed by its issuer: {what}")]
    CertificateListSignature {
        /// Why.
        what: &'static str,
    },
    /// A revocation list is not the newest at this time.
    #[error("revocation list is of {this_update} to {next_update}, judged at {now}")]
    CertificateListValidity {
        /// When it was issued.
        this_update: UnixSeconds,
        /// When the next one is due at the latest.
        next_update: UnixSeconds,
        /// When it was judged.
        now: UnixSeconds,
    },
    /// The TPM is a software TPM, and this is not a lab.
    #[error("the EK certificate is of a simulated TPM")]
    SimulatedTpm,
    /// The certified key is not the EK.
    #[error("the key in the EK certificate is not the EK")]
    EkKeyMismatch,
    /// The certified key is not the AK.
    #[error("the key in the AK certificate is not the AK")]
    AkKeyMismatch,
    /// The EK has none of the default templates.
    #[error("EK with attributes {attributes:#010x} has no known template")]
    EkTemplate {
        /// objectAttributes.
        attributes: u32,
    },
    /// The AK's public area lacks a requirement.
    #[error("AK must have {what}")]
    AkTemplate {
        /// The requirement.
        what: &'static str,
    },
    /// The activation secret that came back is another.
    #[error("the activation secret is not the one sent")]
    ActivationSecret,
    /// The parts of an enrolment do not belong together.
    #[error("enrolment does not hold together: {what}")]
    ActivationMismatch {
        /// What does not fit.
        what: &'static str,
    },
    /// The enrolment was proven under other anchors or for another time.
    #[error("enrolment proven for {not_before} to {not_after} or under other anchors, judged at {now}")]
    EnrolmentNotCurrent {
        /// First instant.
        not_before: UnixSeconds,
        /// Last instant.
        not_after: UnixSeconds,
        /// When it was judged.
        now: UnixSeconds,
    },
    /// A PCR that software can reset was offered as evidence.
    #[error("PCR {pcr} can be reset while the machine runs")]
    ResettablePcr {
        /// PCR index.
        pcr: u8,
    },
    /// The TPM says its clock may have been higher before.
    #[error("TPM clock {clock_ms} ms is not safe")]
    ClockUnsafe {
        /// Its clock, in milliseconds.
        clock_ms: u64,
    },
    /// The TPM restarted since the baseline and no restart was logged.
    #[error("TPM restarted: {got}, baseline {baseline}")]
    TpmRestarted {
        /// Counters and clock in the quote.
        got: ClockState,
        /// As last accepted.
        baseline: ClockState,
    },
    /// Counters or clock are not later than last seen: a clone, a replay or a restored state.
    #[error("TPM went back: {got}, last {last}")]
    TpmRolledBack {
        /// Counters and clock in the quote.
        got: ClockState,
        /// As last accepted.
        last: ClockState,
    },
    /// A report says that another kind of key signed it than the one that did.
    #[error("the report is signed by a {vek}, it says {report}")]
    SnpSigningKey {
        /// SIGNING_KEY in the report.
        report: SigningKey,
        /// VCEK or VLEK, by the certificate.
        vek: &'static str,
    },
    /// A report is of another processor than the certificate.
    #[error("the report is of {report}, its key is certified for {vek}")]
    SnpProductMismatch {
        /// CPUID in the report.
        report: Cpuid,
        /// productName of the certificate.
        vek: Product,
    },
    /// A report is of another TCB version than the certificate.
    #[error("the report has {component} at level {report}, its key is certified for {vek}")]
    SnpTcbMismatch {
        /// Which patch level.
        component: &'static str,
        /// In REPORTED_TCB.
        report: u8,
        /// In the certificate.
        vek: u8,
    },
    /// A report under a chip's key does not say of which chip it is.
    #[error("CHIP_ID is masked")]
    SnpChipIdMasked,
    /// A report is of another chip than the certificate.
    #[error("the report is of chip {report}, its key is certified for {vek}")]
    SnpChipIdMismatch {
        /// CHIP_ID, hexadecimal.
        report: String,
        /// hwID, hexadecimal.
        vek: String,
    },
    /// A report was asked for by the host, or by a level that does not exist.
    #[error("the report was asked for at VMPL {got:#x}, guests have 0 to 3")]
    SnpVmpl {
        /// VMPL in the report.
        got: u32,
    },
    /// The guest's policy gives the host what no guest may give.
    #[error("the guest policy allows {allows}")]
    SnpGuestPolicy {
        /// What, with its bit in POLICY.
        allows: &'static str,
    },
    /// The platform reports something that is not known here.
    #[error("PLATFORM_INFO has unknown bits {bits:#x}")]
    SnpPlatformInfo {
        /// The unknown ones.
        bits: u64,
    },
    /// Another launch of the guest than the one that holds leases.
    #[error("REPORT_ID is {got}, the guest with live leases has {baseline}")]
    SnpReportId {
        /// In the report, hexadecimal.
        got: String,
        /// As last accepted, hexadecimal.
        baseline: String,
    },
    /// The runtime claims are not the ones that the hardware signed for.
    #[error("runtime claims hash to {got}, the hardware report carries {expected}")]
    RuntimeClaimsMismatch {
        /// Digest of the claims, zero-padded to 64 bytes, hexadecimal.
        got: String,
        /// Report data of the hardware report, hexadecimal.
        expected: String,
    },
    /// A TDREPORT is not the one that was quoted.
    #[error("TDREPORT with TDINFO {got}, quoted was {quoted}")]
    TdReportMismatch {
        /// SHA-256 of TDINFO from ATTRIBUTES to RTMR3, in the TDREPORT.
        got: Sha256Digest,
        /// The same of the quote.
        quoted: Sha256Digest,
    },
    /// The measurement is another than the one expected.
    #[error("measurement is {got}, expected {expected}")]
    MeasurementUnexpected {
        /// In the evidence, hexadecimal.
        got: String,
        /// By whoever asks, hexadecimal.
        expected: String,
    },
    /// Evidence of another platform than the node enrolled on.
    #[error("evidence of {got}, the node enrolled on {enrolled}")]
    PlatformMismatch {
        /// In the evidence.
        got: PlatformId,
        /// In the enrolment.
        enrolled: PlatformId,
    },
    /// The node key's public area lacks a requirement.
    #[error("node key must have {what}")]
    NodeKeyTemplate {
        /// The requirement.
        what: &'static str,
    },
    /// The AK certified another object.
    #[error("the AK certified {certified}, the node key is {got}")]
    NodeKeyNotCertified {
        /// Name in the certification, hexadecimal.
        certified: String,
        /// Name of the key that came, hexadecimal.
        got: String,
    },
    /// The node key opens in another state than the quoted one.
    #[error("node key policy is {got}, over the quoted PCRs it would be {expected}")]
    NodeKeyPolicy {
        /// Its authPolicy.
        got: String,
        /// PolicyPCR over the quoted values.
        expected: String,
    },
    /// A field of a quote is none of those accepted.
    #[error("quote: {field} is {got:#x}, accepted: {accepted}")]
    QuoteField {
        /// Which field.
        field: &'static str,
        /// Its value.
        got: u32,
        /// What it may be.
        accepted: &'static str,
    },
    /// The quoting enclave vouches for another attestation key.
    #[error("QE report data is {got}, the attestation key gives {expected}")]
    AttestationKeyUnbound {
        /// Report data of the QE report, hexadecimal.
        got: String,
        /// SHA-256 of attestation key and authentication data, before 32 zero bytes.
        expected: String,
    },
    /// The quoting enclave is another than Intel's.
    #[error("{field} of the quoting enclave is {got}, its identity says {want}")]
    QeIdentityMismatch {
        /// Which field.
        field: &'static str,
        /// In the QE report, hexadecimal.
        got: String,
        /// In the QE identity, hexadecimal, where its mask is set.
        want: String,
    },
    /// Intel did not sign this text.
    #[error("signature over {over} does not verify")]
    CollateralSignature {
        /// Which text.
        over: &'static str,
    },
    /// A text of Intel's is not the newest at this time.
    #[error("{structure} is of {issued_at} to {next_update}, judged at {now}")]
    CollateralValidity {
        /// Which text.
        structure: &'static str,
        /// When it was issued.
        issued_at: UnixSeconds,
        /// When the next one is due at the latest.
        next_update: UnixSeconds,
        /// When it was judged.
        now: UnixSeconds,
    },
    /// A field of a text of Intel's is none of those accepted.
    #[error("{structure}: {field} is {got}, accepted: {accepted}")]
    CollateralField {
        /// Which text.
        structure: &'static str,
        /// Which field.
        field: &'static str,
        /// Its value, escaped.
        got: String,
        /// What it may be.
        accepted: &'static str,
    },
    /// The collateral is of another kind of platform than the quote.
    #[error("{field} of the collateral is {collateral}, of the quote {pck}")]
    CollateralMismatch {
        /// In what they differ.
        field: &'static str,
        /// In the collateral.
        collateral: String,
        /// In the quote or its PCK certificate.
        pck: String,
    },
    /// A TDX module that Intel lists no identity of.
    #[error("TDX module of version {version} has no identity in the TCB info")]
    TdxModuleUnknown {
        /// TEE_TCB_SVN\[1\].
        version: u8,
    },
    /// The TDX module is another than Intel's.
    #[error("{field} is {got}, the TCB info says {want}")]
    TdxModuleMismatch {
        /// Which field.
        field: &'static str,
        /// In the TD report, hexadecimal.
        got: String,
        /// In the TCB info, hexadecimal.
        want: String,
    },
    /// Security versions below every level that Intel lists.
    #[error("no TCB level is reached by the {of}")]
    TcbLevelMissing {
        /// Of what.
        of: &'static str,
    },
    /// A status that is none of Intel's.
    #[error("{of}: unknown TCB status {got}")]
    TcbStatusUnknown {
        /// Of what.
        of: &'static str,
        /// The text, escaped.
        got: String,
    },
    /// Security versions that Intel took back.
    #[error("TCB level of the {of} is revoked")]
    TcbRevoked {
        /// Of what.
        of: &'static str,
    },
    /// The host may read what should be confidential.
    #[error("debug is enabled in the {what}")]
    DebugEnabled {
        /// In what.
        what: &'static str,
    },
    /// A trust domain that was created with weaker protection, or with bits that are not known.
    #[error("{field} is {got:#018x}, must have {what}")]
    TdAttributes {
        /// Which field of the TD report.
        field: &'static str,
        /// Its value.
        got: u64,
        /// The requirement.
        what: &'static str,
    },
    /// The event log does not lead to the quoted run-time measurement register.
    #[error("event log replays RTMR{rtmr} to {got}, the quote says {quoted}")]
    RtmrReplayMismatch {
        /// Register, 0 to 3.
        rtmr: u8,
        /// Value the log leads to.
        got: Box<Digest>,
        /// Value in the quote.
        quoted: Box<Digest>,
    },
}
