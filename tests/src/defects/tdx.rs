//! Trust domains: their quotes, Intel's collateral, and what they answer (X1 to X9, X11 to X13, E1 and E3 of their
//! logs), by the simulated Intel.

use std::{collections::BTreeSet, sync::Arc};

use der::{Any, Decode as _, Encode as _, Tag};
use evidence::{
    Endorsements, Evidence, EvidenceDenial, TrustAnchors,
    anchors::{AnchorSet, RootPin},
    binding::Binding,
    challenge::{Challenge, Demands},
    denial::EvidenceDenialKind as Kind,
    digest::Sha256Digest,
    ledger::CheckId::{E1, E3, X1, X2, X3, X4, X5, X6, X7, X8, X9, X11, X12, X13},
    node_key::{XWING_PUBLIC_KEY_BYTES, XWingPublicKey},
    tdx::{Collateral, TdxEndorsement, TdxEvidence, TdxParts, VerifiedCollateral, roots::GENUINE_ROOTS},
    tee::{EnrolledPlatform, PlatformId},
    time::UnixSeconds,
    verify,
};
use simulators::{
    intel::{IntelAuthority, IntelKeys, PckChain, SGX_EXTENSIONS, TdxMachine, intel_name, sign_text},
    keys::Signer,
    x509::{self, CertificateFields, RevokedCertificate, certificate_pem},
};

use super::{Case, Defect, cases, defect, ignore};
use crate::genuine_tdx::TdxGuest;

/// Where a defect is put in.
#[derive(Clone, Copy)]
enum Place {
    /// The machine and what Intel says of it, before the guest enrols and answers.
    Machine(fn(&mut TdxMachine)),
    /// The same, after the guest enrolled and before it answers.
    Enrolled(fn(&mut TdxMachine)),
    /// The root, before it is signed. It is pinned as it then is.
    Root(fn(&mut CertificateFields)),
    /// The PCK CA's certificate, before it is signed.
    Ca(fn(&mut CertificateFields)),
    /// The platform's certificate, before it is signed.
    Pck(fn(&mut CertificateFields)),
    /// The certificate of the collateral's key, before it is signed.
    TcbSigning(fn(&mut CertificateFields)),
    /// Everything, after it was signed.
    Signed(fn(&mut Received)),
}

/// What a verifier has at hand, and the machine that it is from.
struct Received {
    machine: TdxMachine,
    quote: Vec<u8>,
    node_key: XWingPublicKey,
    event_log: Option<Vec<u8>>,
    collateral: Collateral,
    pinned: BTreeSet<RootPin>,
    enrolled: EnrolledPlatform,
    challenge: Challenge,
    now: UnixSeconds,
}

pub(super) fn all() -> impl Iterator<Item = Case> {
    cases("TDX", DEFECTS, |place| run(5, Some(place)))
}

pub(super) fn genuine() -> impl Iterator<Item = (String, Result<(), EvidenceDenial>)> {
    [4, 5].into_iter().map(|version| (format!("TDX, quote {version}"), run(version, None)))
}

/// Judges a guest with quotes of `version` with the defect put in, if any.
fn run(version: u16, place: Option<Place>) -> Result<(), EvidenceDenial> {
    let mut guest = TdxGuest::new(version);
    if let Some(Machine(edit)) = place {
        edit(&mut guest.machine);
    }
    let (platform, key) = (PlatformId::IntelPpid(guest.machine.pck.ppid), guest.record_key.public().clone());
    let enrolled = EnrolledPlatform::new(guest.node_id.clone(), platform, key);
    if let Some(Enrolled(edit)) = place {
        edit(&mut guest.machine);
    }
    let mut received = received(guest, enrolled, place);
    if let Some(Signed(edit)) = place {
        edit(&mut received);
    }
    received.judge()
}

/// Signs the certificates anew, each under the name that its issuer then has, and everything by them.
fn received(mut guest: TdxGuest, enrolled: EnrolledPlatform, place: Option<Place>) -> Received {
    let challenge = guest.challenge();
    let chain = certify(&mut guest.machine, place);
    let data = Binding::answering(&challenge, guest.node_key.cose_key(), None).report_data().unwrap();
    Received {
        quote: guest.machine.quote_with(data, &chain).unwrap(),
        event_log: Some(guest.machine.event_log.encode()),
        collateral: collateral(&guest.machine),
        pinned: [RootPin::Certificate(Sha256Digest::of(&guest.machine.authority.root))].into(),
        node_key: guest.node_key,
        enrolled,
        challenge,
        now: guest.now,
        machine: guest.machine,
    }
}

fn certify(machine: &mut TdxMachine, place: Option<Place>) -> PckChain {
    let authority = &mut machine.authority;
    let (keys, ca_kind) = (Arc::clone(&authority.keys), machine.pck.ca);
    let key = keys.derive(&[b"PCK", &machine.pck.ppid]).unwrap();
    let (mut root, mut ca) = (authority.root_fields(), authority.pck_ca_fields(ca_kind));
    let (mut signing, mut pck) = (authority.tcb_signing_fields(), authority.pck_fields(&machine.pck, &key));
    match place {
        Some(Root(edit)) => edit(&mut root),
        Some(Ca(edit)) => edit(&mut ca),
        Some(Pck(edit)) => edit(&mut pck),
        Some(TcbSigning(edit)) => edit(&mut signing),
        Some(Machine(_) | Enrolled(_) | Signed(_)) | None => {}
    }
    for issued in [&mut ca, &mut signing] {
        issued.issuer.clone_from(&root.subject);
    }
    root.issuer.clone_from(&root.subject);
    pck.issuer.clone_from(&ca.subject);
    machine.collateral.root_crl.issuer.clone_from(&root.subject);
    machine.collateral.pck_crl.issuer.clone_from(&ca.subject);
    let by_root = Signer::Ec(&keys.root);
    authority.root = root.sign(by_root).unwrap();
    authority.platform_ca = ca.sign(by_root).unwrap();
    authority.tcb_signing = signing.sign(by_root).unwrap();
    let certificate = pck.sign(Signer::Ec(authority.pck_ca_key(ca_kind))).unwrap();
    let pem = [&certificate, &authority.platform_ca, &authority.root].map(|der| certificate_pem(der)).concat();
    PckChain { key, certificate, pem }
}

fn collateral(machine: &TdxMachine) -> Collateral {
    Collateral::from_json(machine.collateral().unwrap().to_json().unwrap().as_bytes()).unwrap()
}

impl Received {
    /// As a verifier does: decode, verify the collateral, then the evidence by it.
    fn judge(self) -> Result<(), EvidenceDenial> {
        let (quote, event_log) = (&self.quote[..], self.event_log.as_deref());
        let assembled = TdxEvidence::assemble(TdxParts { quote, node_key: self.node_key.cose_key(), event_log })?;
        let evidence = Evidence::decode(assembled.bytes().to_vec())?;
        // an operator's EK, so that a set without roots is one at all
        let pinned_eks = [Sha256Digest::ZERO].into();
        let set = AnchorSet { simulated_tdx_roots: self.pinned, pinned_eks, ..AnchorSet::default() };
        let anchors = TrustAnchors::lab_accepting_simulated(set).unwrap();
        let collateral = VerifiedCollateral::verify(&self.collateral, &anchors.tdx_roots(), self.now)?;
        let (collateral, enrolled) = (collateral.into(), self.enrolled.into());
        let endorsements = Endorsements::Tdx(TdxEndorsement { collateral, pck: None, enrolled });
        verify(&evidence, &endorsements, &anchors, self.now)?.bind(&self.challenge, self.now).map(|_| ())
    }

    /// Another text of the TCB info, signed.
    fn tcb_info(&mut self, edit: impl FnOnce(&str) -> String) {
        self.collateral.tcb_info = edit(&self.collateral.tcb_info);
        let signature = sign_text(&self.machine.authority.keys.tcb_signing, &self.collateral.tcb_info).unwrap();
        self.collateral.tcb_info_signature = hex::decode(signature).unwrap();
    }

    /// The same machine under another root of the same names.
    fn foreign(&self) -> TdxMachine {
        let keys = Arc::new(IntelKeys::from_seed(b"foreign").unwrap());
        TdxMachine::with_authority(5, IntelAuthority::new(keys, self.now.0).unwrap()).unwrap()
    }
}

fn replace(fields: &mut CertificateFields, extension: x509::Extension) {
    fields.remove_extension(extension.oid);
    fields.extensions.push(extension);
}

fn revoked(serial: &[u8]) -> RevokedCertificate {
    RevokedCertificate { serial: serial.to_vec(), at: NOW - 10, reason: 1 }
}

/// The members of a SEQUENCE, edited.
fn members(der: &mut Vec<u8>, edit: impl FnOnce(&mut Vec<Any>)) {
    let mut parts = Vec::<Any>::from_der(der).unwrap();
    edit(&mut parts);
    *der = parts.to_der().unwrap();
}

fn nested(part: &mut Any, edit: impl FnOnce(&mut Vec<Any>)) {
    let mut der = part.to_der().unwrap();
    members(&mut der, edit);
    *part = Any::from_der(&der).unwrap();
}

/// SGX Extensions of a PCK certificate: PPID, TCB, PCE-ID, FMSPC, ...; each an identifier and a value.
fn sgx(pck: &mut CertificateFields, edit: impl FnOnce(&mut Vec<Any>)) {
    members(&mut pck.extension_mut(SGX_EXTENSIONS).unwrap().value, edit);
}

/// The components in it.
fn components(pck: &mut CertificateFields, edit: impl FnOnce(&mut Vec<Any>)) {
    sgx(pck, |parts| nested(&mut parts[1], |tcb| nested(&mut tcb[1], edit)));
}

/// A module that was out of date when the domain started and has been updated since, to this version.
fn updated(machine: &mut TdxMachine, version: u8) {
    machine.quote.body.tee_tcb_svn[0] = 4;
    machine.quote.body.tee_tcb_svn_2[1] = version;
}

const NOW: u64 = crate::NOW.0;
const YESTERDAY: &str = "2026-11-21T00:00:00Z";
const TOMORROW: &str = "2026-11-23T12:00:00Z";
/// Where things lie in a quote of version 5 with a body of TDX 1.5: header and body, then the length of the signature
/// data; signature and attestation key, type and length of the QE's certification; QE report and its signature.
const BODY_AT: usize = 48 + 6;
const SIGNATURE_LENGTH_AT: usize = BODY_AT + 648;
const SIGNATURE_AT: usize = SIGNATURE_LENGTH_AT + 4;
const QE_REPORT_AT: usize = SIGNATURE_AT + 128 + 6;
const QE_AUTHENTICATION_AT: usize = QE_REPORT_AT + 384 + 64 + 2;

use Place::{Ca, Enrolled, Machine, Pck, Root, Signed, TcbSigning};

#[rustfmt::skip]
const DEFECTS: &[Defect<Place>] = &[
    // X1: the form of a quote
    defect(X1, Kind::QuoteField, "version 6", Machine(|m| m.quote.version = 6)),
    defect(X1, Kind::QuoteField, "attestation key on P-384", Machine(|m| m.quote.attestation_key_type = 3)),
    defect(X1, Kind::QuoteField, "unknown TEE type", Machine(|m| m.quote.tee_type = 0x80)),
    defect(X1, Kind::QuoteField, "TD body of an enclave", Machine(|m| m.quote.tee_type = 0)),
    defect(X1, Kind::QuoteField, "unknown body type", Machine(|m| m.quote.claimed_body_type = Some(4))),
    defect(X1, Kind::Malformed, "body size of another type", Machine(|m| m.quote.claimed_body_size = Some(584))),
    defect(X1, Kind::Malformed, "another QE vendor", Machine(|m| m.quote.qe_vendor_id[0] ^= 1)),
    defect(X1, Kind::QuoteField, "outer certification data type", Machine(|m| m.quote.outer_type = 5)),
    defect(X1, Kind::QuoteField, "inner certification data type", Machine(|m| m.quote.inner_type = 1)),
    defect(X1, Kind::TrailingBytes, "a byte after the quote", Machine(|m| m.quote.trailing = vec![0])),
    defect(X1, Kind::TrailingBytes, "bytes after the quote that are no zeros", Machine(|m| m.quote.trailing = vec![7; 39])),
    defect(X1, Kind::Malformed, "a byte short", Signed(|c| ignore(c.quote.pop()))),
    defect(X1, Kind::Malformed, "empty", Signed(|c| c.quote.clear())),
    defect(X1, Kind::TrailingBytes, "signature data a byte too long", Signed(|c| {
        c.quote.push(0);
        let length = u32::try_from(c.quote.len() - SIGNATURE_AT).unwrap();
        c.quote[SIGNATURE_LENGTH_AT..SIGNATURE_AT].copy_from_slice(&length.to_le_bytes());
    })),
    defect(X1, Kind::TooLarge, "a quote beyond its cap", Signed(|c| c.quote.resize(1 << 20, 0))),
    // X2: from a pinned root to the platform
    defect(X2, Kind::ChainUnanchored, "no root is pinned", Signed(|c| c.pinned.clear())),
    defect(X2, Kind::ChainUnanchored, "only Intel's root is pinned", Signed(|c| c.pinned = GENUINE_ROOTS.clone())),
    defect(X2, Kind::ChainUnanchored, "PCK under another root of the same name", Signed(|c| {
        let foreign = c.foreign();
        let data = Binding::answering(&c.challenge, c.node_key.cose_key(), None).report_data().unwrap();
        c.quote = foreign.quote(data).unwrap();
    })),
    defect(X2, Kind::CertificateConstraint, "PCK of another name", Pck(|p| p.subject = intel_name("Intel SGX TCB Signing"))),
    defect(X2, Kind::CertificateConstraint, "root of another name", Root(|r| r.subject = intel_name("Another Root"))),
    defect(X2, Kind::CertificateConstraint, "PCK CA is no authority", Ca(|c| replace(c, x509::basic_constraints(None)))),
    defect(X2, Kind::CertificateConstraint, "PCK is an authority", Pck(|p| replace(p, x509::basic_constraints(Some(Some(0)))))),
    defect(X2, Kind::CertificateConstraint, "root allows no intermediate", Root(|r| replace(r, x509::basic_constraints(Some(Some(0)))))),
    defect(X2, Kind::CertificateValidity, "PCK is over", Machine(|m| m.pck.not_after = NOW - 1)),
    defect(X2, Kind::CertificateValidity, "PCK CA is to come", Ca(|c| c.not_before = NOW + 1)),
    defect(X2, Kind::Missing, "PCK without a PPID", Pck(|p| sgx(p, |parts| ignore(parts.remove(0))))),
    defect(X2, Kind::Malformed, "PCK with two PPIDs", Pck(|p| sgx(p, |parts| parts.insert(0, parts[0].clone())))),
    defect(X2, Kind::Malformed, "PCK with a short FMSPC", Pck(|p| sgx(p, |parts| nested(&mut parts[3], |pair| {
        pair[1] = Any::new(Tag::OctetString, &pair[1].value()[..5]).unwrap();
    })))),
    defect(X2, Kind::Missing, "PCK without a component", Pck(|p| components(p, |parts| ignore(parts.remove(0))))),
    defect(X2, Kind::Malformed, "PCK with a component twice", Pck(|p| components(p, |parts| parts.push(parts[0].clone())))),
    defect(X2, Kind::Revoked, "PCK is revoked", Machine(|m| m.collateral.pck_crl.revoked.push(revoked(&m.pck.serial)))),
    defect(X2, Kind::Revoked, "PCK CA is revoked", Machine(|m| {
        let serial = m.authority.pck_ca_fields(m.pck.ca).serial;
        m.collateral.root_crl.revoked.push(revoked(&serial));
    })),
    defect(X2, Kind::Revoked, "TCB signing certificate is revoked", Machine(|m| {
        let serial = m.authority.tcb_signing_fields().serial;
        m.collateral.root_crl.revoked.push(revoked(&serial));
    })),
    defect(X2, Kind::CertificateListValidity, "root's list is over", Machine(|m| m.collateral.root_crl.next_update = NOW - 1)),
    defect(X2, Kind::CertificateListValidity, "PCK list is to come", Machine(|m| m.collateral.pck_crl.this_update = NOW + 1)),
    defect(X2, Kind::CertificateListSignature, "PCK list by the root", Signed(|c| {
        c.collateral.pck_crl = c.machine.collateral.pck_crl.sign(Signer::Ec(&c.machine.authority.keys.root)).unwrap();
    })),
    defect(X2, Kind::CertificateListSignature, "signature of the root's list", Signed(|c| *c.collateral.root_ca_crl.last_mut().unwrap() ^= 1)),
    defect(X2, Kind::Malformed, "no PCK list", Signed(|c| c.collateral.pck_crl.clear())),
    defect(X2, Kind::Malformed, "no root's list", Signed(|c| c.collateral.root_ca_crl.clear())),
    // X3: the quoting enclave vouches for the attestation key
    defect(X3, Kind::AttestationKeyUnbound, "QE vouches for nothing", Machine(|m| m.quote.qe.report_data = Some([0; 64]))),
    defect(X3, Kind::AttestationKeyUnbound, "bytes after the digest", Machine(|m| m.quote.qe.overlay.push((383, vec![1])))),
    defect(X3, Kind::AttestationKeyUnbound, "other authentication data", Signed(|c| c.quote[QE_AUTHENTICATION_AT] ^= 1)),
    defect(X3, Kind::SignatureInvalid, "QE report changed after signing", Signed(|c| c.quote[QE_REPORT_AT] ^= 1)),
    // X4: the quoting enclave is Intel's
    defect(X4, Kind::CollateralSignature, "QE identity changed", Signed(|c| c.collateral.qe_identity = c.collateral.qe_identity.replace("DC9E", "DD9E"))),
    defect(X4, Kind::CollateralValidity, "QE identity is over", Machine(|m| m.collateral.qe_identity.next_update = YESTERDAY.into())),
    defect(X4, Kind::CollateralValidity, "QE identity is to come", Machine(|m| m.collateral.qe_identity.issue_date = TOMORROW.into())),
    defect(X4, Kind::CollateralField, "QE identity of enclaves", Machine(|m| m.collateral.qe_identity.id = "QE".into())),
    defect(X4, Kind::CollateralField, "QE identity of the verification enclave", Machine(|m| m.collateral.qe_identity.id = "QVE".into())),
    defect(X4, Kind::CollateralField, "QE identity of version 1", Machine(|m| m.collateral.qe_identity.version = 1)),
    defect(X4, Kind::QeIdentityMismatch, "another signer", Machine(|m| m.quote.qe.mr_signer[0] ^= 1)),
    defect(X4, Kind::QeIdentityMismatch, "another product", Machine(|m| m.quote.qe.isv_prod_id = 1)),
    defect(X4, Kind::QeIdentityMismatch, "another MISCSELECT", Machine(|m| m.quote.qe.misc_select = 1)),
    defect(X4, Kind::QeIdentityMismatch, "debug, which the mask covers", Machine(|m| m.quote.qe.attributes[0] |= 2)),
    defect(X4, Kind::DebugEnabled, "debug, which no mask covers", Machine(|m| {
        m.collateral.qe_identity.attributes_mask = format!("F9{}{}", "FF".repeat(7), "00".repeat(8));
        m.quote.qe.attributes[0] |= 2;
    })),
    defect(X4, Kind::TcbLevelMissing, "QE below every level", Machine(|m| m.quote.qe.isv_svn = 0)),
    defect(X4, Kind::TcbRevoked, "QE of a revoked level", Machine(|m| m.collateral.qe_identity.tcb_levels[0].tcb_status = "Revoked".into())),
    // X5: the attestation key signed the quote
    defect(X5, Kind::SignatureInvalid, "MRTD changed after signing", Signed(|c| c.quote[BODY_AT + 136] ^= 1)),
    defect(X5, Kind::SignatureInvalid, "report data changed after signing", Signed(|c| c.quote[BODY_AT + 520] ^= 1)),
    defect(X5, Kind::SignatureInvalid, "header changed after signing", Signed(|c| c.quote[30] ^= 1)),
    defect(X5, Kind::SignatureInvalid, "signature of zeros", Signed(|c| c.quote[SIGNATURE_AT..][..64].fill(0))),
    // X6: the collateral is Intel's, new, and of this kind of platform
    defect(X6, Kind::CollateralSignature, "TCB info changed", Signed(|c| c.collateral.tcb_info = c.collateral.tcb_info.replace("OutOfDate", "UpToDate"))),
    defect(X6, Kind::CollateralSignature, "TCB info written anew", Signed(|c| c.collateral.tcb_info.push(' '))),
    defect(X6, Kind::ChainUnanchored, "TCB info under another root", Signed(|c| c.collateral.tcb_info_issuer_chain = collateral(&c.foreign()).tcb_info_issuer_chain)),
    defect(X6, Kind::CollateralValidity, "TCB info is over", Machine(|m| m.collateral.tcb_info.next_update = YESTERDAY.into())),
    defect(X6, Kind::CollateralValidity, "TCB info is to come", Machine(|m| m.collateral.tcb_info.issue_date = TOMORROW.into())),
    defect(X6, Kind::CollateralField, "TCB info of version 2", Machine(|m| m.collateral.tcb_info.version = 2)),
    defect(X6, Kind::CollateralField, "TCB info of another type", Machine(|m| m.collateral.tcb_info.tcb_type = 1)),
    defect(X6, Kind::CollateralField, "TCB info of nothing", Machine(|m| m.collateral.tcb_info.id = "TDY".into())),
    defect(X6, Kind::CollateralMismatch, "another FMSPC", Machine(|m| m.collateral.tcb_info.fmspc = "90c06f000001".into())),
    defect(X6, Kind::CollateralMismatch, "another PCEID", Machine(|m| m.collateral.tcb_info.pce_id = "0001".into())),
    defect(X6, Kind::CertificateConstraint, "signed by a certificate of another name", TcbSigning(|t| t.subject = intel_name("Intel SGX PCK Certificate"))),
    defect(X6, Kind::CertificateValidity, "signing certificate is over", TcbSigning(|t| t.not_after = NOW - 1)),
    defect(X6, Kind::Malformed, "TCB info without its date", Signed(|c| c.tcb_info(|text| text.replace("issueDate", "issuedDate")))),
    // X7: the TDX module and the level of the platform
    defect(X7, Kind::TdxModuleUnknown, "a module without an identity", Machine(|m| m.quote.body.tee_tcb_svn[1] = 2)),
    defect(X7, Kind::TdxModuleMismatch, "a module of another signer", Machine(|m| m.quote.body.mr_signer_seam[0] = 1)),
    defect(X7, Kind::TdxModuleMismatch, "a module with attributes", Machine(|m| m.quote.body.seam_attributes = 1)),
    defect(X7, Kind::TcbLevelMissing, "a module below every level", Machine(|m| m.quote.body.tee_tcb_svn[0] = 0)),
    defect(X7, Kind::TcbLevelMissing, "a platform below every level", Machine(|m| m.pck.components[7] = 0)),
    defect(X7, Kind::TcbLevelMissing, "a PCE below every level", Machine(|m| m.pck.pcesvn = 4)),
    defect(X7, Kind::TcbLevelMissing, "a TD below every level", Machine(|m| m.quote.body.tee_tcb_svn[2] = 1)),
    defect(X7, Kind::TcbLevelMissing, "module 0 is judged with the platform", Machine(|m| m.quote.body.tee_tcb_svn[..2].fill(0))),
    defect(X7, Kind::Malformed, "one level twice", Machine(|m| m.collateral.tcb_info.tcb_levels[1].tcb = m.collateral.tcb_info.tcb_levels[0].tcb.clone())),
    defect(X7, Kind::Malformed, "no level", Machine(|m| m.collateral.tcb_info.tcb_levels.clear())),
    defect(X7, Kind::Malformed, "fifteen components", Machine(|m| ignore(m.collateral.tcb_info.tcb_levels[0].tcb.sgxtcbcomponents.pop()))),
    // X8: what Intel says of such levels
    defect(X8, Kind::TcbStatusUnknown, "a status that is none", Machine(|m| m.collateral.tcb_info.tcb_levels[0].tcb_status = "Fine".into())),
    defect(X8, Kind::TcbStatusUnknown, "a status of the QE that is none", Machine(|m| m.collateral.qe_identity.tcb_levels[0].tcb_status.clear())),
    defect(X8, Kind::TcbRevoked, "a revoked platform", Machine(|m| m.collateral.tcb_info.tcb_levels[0].tcb_status = "Revoked".into())),
    defect(X8, Kind::TcbRevoked, "a revoked module", Machine(|m| m.collateral.tcb_info.tdx_module_identities[1].tcb_levels[0].tcb_status = "Revoked".into())),
    // X9: what no trust domain may be
    defect(X9, Kind::DebugEnabled, "debug", Machine(|m| m.quote.body.td_attributes |= 1)),
    defect(X9, Kind::TdAttributes, "profiling", Machine(|m| m.quote.body.td_attributes |= 1 << 4)),
    defect(X9, Kind::TdAttributes, "a reserved bit", Machine(|m| m.quote.body.td_attributes |= 1 << 40)),
    defect(X9, Kind::TdAttributes, "#VE of pending pages", Machine(|m| m.quote.body.td_attributes = 0)),
    defect(X9, Kind::TdAttributes, "migration", Machine(|m| m.quote.body.td_attributes |= 1 << 29)),
    defect(X9, Kind::TdAttributes, "no SSE in XFAM", Machine(|m| m.quote.body.xfam &= !2)),
    // X11: what the quote answers
    defect(X11, Kind::BindingMismatch, "another nonce", Signed(|c| c.challenge.nonce[31] ^= 1)),
    defect(X11, Kind::BindingMismatch, "another connection", Signed(|c| c.challenge.channel[0] ^= 1)),
    defect(X11, Kind::BindingMismatch, "another audience", Signed(|c| c.challenge.audience.push('x'))),
    defect(X11, Kind::BindingMismatch, "another epoch", Signed(|c| c.challenge.epoch += 1)),
    defect(X11, Kind::BindingMismatch, "another subject", Signed(|c| c.challenge.subject = Sha256Digest::ZERO)),
    defect(X11, Kind::BindingMismatch, "another lineage", Signed(|c| c.challenge.lineage_head = Sha256Digest([1; 32]))),
    defect(X11, Kind::BindingMismatch, "another node key", Signed(|c| c.node_key = XWingPublicKey::new(&[8; XWING_PUBLIC_KEY_BYTES]).unwrap())),
    defect(X11, Kind::ChallengeExpired, "answered late", Signed(|c| c.now = c.challenge.expires_at.plus(1))),
    defect(X11, Kind::KindUnexpected, "an SNP guest was asked", Signed(|c| c.challenge.demands = Demands::SevSnp)),
    // X12: the platform that the guest enrolled on
    defect(X12, Kind::PlatformMismatch, "moved to another platform", Enrolled(|m| m.pck.ppid[0] ^= 1)),
    defect(X12, Kind::PlatformMismatch, "enrolled as an SNP guest", Signed(|c| {
        let id = PlatformId::AmdChip(Box::new([9; 64]));
        c.enrolled = EnrolledPlatform::new(c.enrolled.node_id().clone(), id, c.enrolled.record_key().clone());
    })),
    defect(X12, Kind::PlatformMismatch, "PPID of zeros", Enrolled(|m| m.pck.ppid = [0; 16])),
    // X13: the module that runs, where only the one at launch was old
    defect(X13, Kind::TdxModuleUnknown, "started on an old module, runs on one that Intel does not list", Machine(|m| updated(m, 9))),
    defect(X13, Kind::TdxModuleUnknown, "the same, next to a listed one", Machine(|m| updated(m, 2))),
    defect(X13, Kind::TdxModuleUnknown, "the same, of the highest version", Machine(|m| updated(m, 255))),
    // the log beside the quote
    defect(E1, Kind::Missing, "event log asked for and absent", Signed(|c| c.event_log = None)),
    defect(E1, Kind::UnexpectedPart, "event log not asked for", Signed(|c| {
        let Demands::Tdx(demands) = &mut c.challenge.demands else { panic!("not of TDX") };
        demands.event_log = false;
    })),
    defect(E1, Kind::TrailingBytes, "padding after the log", Machine(|m| m.event_log.padding = 16)),
    defect(E3, Kind::RtmrReplayMismatch, "an event left out", Machine(|m| ignore(m.event_log.events.pop()))),
    defect(E3, Kind::RtmrReplayMismatch, "an event invented", Machine(|m| m.event_log.events.push(m.event_log.events[0].clone()))),
    defect(E3, Kind::RtmrReplayMismatch, "another RTMR", Machine(|m| m.quote.body.rtmrs[2][0] ^= 1)),
];
