//! SNP guests: their reports, the certificates of the keys that sign them, and what they answer (S1 to S6, S8, S9, S11,
//! S13), by the simulated AMD.

use std::collections::{BTreeMap, BTreeSet};

use evidence::{
    Endorsements, Evidence, EvidenceDenial, TrustAnchors,
    anchors::{AnchorSet, RootPin},
    binding::Binding,
    challenge::{Challenge, Demands, TdxDemands},
    denial::EvidenceDenialKind as Kind,
    digest::Sha256Digest,
    ledger::CheckId::{S1, S2, S3, S4, S5, S6, S8, S9, S11, S13},
    node_key::{XWING_PUBLIC_KEY_BYTES, XWingPublicKey},
    sev_snp::{Launch, Revocation, SnpEndorsement, SnpEvidence, SnpParts, VerifiedVek, roots::RootsByLine},
    tee::{CspId, EnrolledPlatform, PlatformId},
    time::UnixSeconds,
    verify,
};
use simulators::{
    amd::{
        AmdAuthority, AmdKeys, EndorsementKey, POLICY_DEBUG, POLICY_MIGRATE_MA, POLICY_RESERVED_ONE, SigningKey,
        SnpMachine, VMPL_HOST, Vek, VekFields, amd_name, oids,
    },
    keys::Signer,
    x509::{self, CertificateFields, CrlFields, Extension, RevokedCertificate},
};

use super::{Case, Defect, cases, defect};
use crate::genuine_snp::{Product, SnpGuest};

/// Where a defect is put in.
#[derive(Clone, Copy)]
enum Place {
    /// The machine, before the guest enrols and answers.
    Machine(fn(&mut SnpMachine)),
    /// The machine, after the guest enrolled and before it answers.
    Enrolled(fn(&mut SnpMachine)),
    /// What the key's certificate says, apart from its form.
    VekOf(fn(&mut VekFields)),
    /// The key's certificate, before it is signed.
    Leaf(fn(&mut CertificateFields)),
    /// The certificate of the ASK or ASVK, before it is signed.
    Issuer(fn(&mut CertificateFields)),
    /// The root, before it is signed. It is pinned as it then is.
    Root(fn(&mut CertificateFields)),
    /// The revocation list, before it is signed.
    List(fn(&mut CrlFields, &AmdAuthority)),
    /// Everything, after it was signed.
    Signed(fn(&mut Received)),
}

/// What a verifier has at hand.
struct Received {
    report: Vec<u8>,
    node_key: XWingPublicKey,
    /// Certificate of the key, DER.
    leaf: Vec<u8>,
    /// Certificate of its issuer, DER.
    issuer: Vec<u8>,
    /// The root, DER.
    root: Vec<u8>,
    /// The root's revocation list, DER.
    list: Vec<u8>,
    /// The list is given to the judge.
    list_is_given: bool,
    pinned: RootsByLine,
    /// SHA-256 of what was taken back.
    revoked: BTreeSet<Sha256Digest>,
    enrolled: EnrolledPlatform,
    launch: Launch,
    challenge: Challenge,
    now: UnixSeconds,
}

pub(super) fn all() -> impl Iterator<Item = Case> {
    let of = |product, vlek| move |place| run(product, vlek, Some(place));
    cases("SNP, VCEK", VCEK_DEFECTS, of(Product::Milan, false))
        .chain(cases("SNP, VLEK", VLEK_DEFECTS, of(Product::Milan, true)))
        .chain(cases("SNP, Turin", TURIN_DEFECTS, of(Product::Turin, false)))
}

pub(super) fn genuine() -> impl Iterator<Item = (String, Result<(), EvidenceDenial>)> {
    let of = |product, vlek| (format!("SNP {product:?}, VLEK: {vlek}"), run(product, vlek, None));
    Product::ALL.into_iter().flat_map(move |product| [false, true].map(|vlek| of(product, vlek)))
}

/// Judges a guest of `product` with the defect put in, if any.
fn run(product: Product, vlek: bool, place: Option<Place>) -> Result<(), EvidenceDenial> {
    let mut guest = SnpGuest::new(product);
    if vlek {
        guest.use_vlek("CN=cc.example");
    }
    if let Some(Machine(edit)) = place {
        edit(&mut guest.machine);
    }
    let enrolled = EnrolledPlatform::new(guest.node_id.clone(), platform(&guest), guest.record_key.public().clone());
    let launch = Launch::Same(guest.machine.fields.report_id);
    if let Some(Enrolled(edit)) = place {
        edit(&mut guest.machine);
    }
    let mut received = received(&guest, enrolled, launch, place);
    if let Some(Signed(edit)) = place {
        edit(&mut received);
    }
    received.judge()
}

fn platform(guest: &SnpGuest) -> PlatformId {
    match &guest.machine.endorsement_key {
        EndorsementKey::Vcek => PlatformId::AmdChip(Box::new(guest.machine.chip_id)),
        EndorsementKey::Vlek { csp_id } => PlatformId::AmdVlek { csp_id: CspId::try_from(csp_id.clone()).unwrap() },
    }
}

fn received(guest: &SnpGuest, enrolled: EnrolledPlatform, launch: Launch, place: Option<Place>) -> Received {
    let (machine, challenge) = (&guest.machine, guest.challenge());
    let authority = &machine.authority;
    let mut vek_fields = machine.vek_fields();
    let key = vek_fields.derive_key().unwrap();
    if let Some(VekOf(edit)) = place {
        edit(&mut vek_fields);
    }
    let mut leaf = vek_fields.certificate_fields(authority, &key);
    let mut issuer = if guest.vlek { authority.asvk_fields() } else { authority.ask_fields() };
    let (mut root, mut list) = (authority.ark_fields(), authority.crl_fields());
    match place {
        Some(Leaf(edit)) => edit(&mut leaf),
        Some(Issuer(edit)) => edit(&mut issuer),
        Some(Root(edit)) => edit(&mut root),
        Some(List(edit)) => edit(&mut list, authority),
        Some(Machine(_) | Enrolled(_) | VekOf(_) | Signed(_)) | None => {}
    }
    let by_root = || Signer::RsaPss(&authority.keys.ark);
    let root = root.sign(by_root()).unwrap();
    let vek = Vek { certificate: leaf.sign(vek_fields.signer(authority)).unwrap(), key };
    let pin = BTreeSet::from([RootPin::Certificate(Sha256Digest::of(&root))]);
    let data = Binding::answering(&challenge, guest.node_key.cose_key(), None).report_data().unwrap();
    Received {
        report: machine.report_with(data, &vek).unwrap().report,
        node_key: guest.node_key.clone(),
        leaf: vek.certificate,
        issuer: issuer.sign(by_root()).unwrap(),
        root,
        list: list.sign(by_root()).unwrap(),
        list_is_given: true,
        pinned: BTreeMap::from([(authority.line.name().to_owned(), pin)]),
        revoked: BTreeSet::new(),
        enrolled,
        launch,
        challenge,
        now: guest.now,
    }
}

impl Received {
    /// As a verifier does: decode, verify the key, then the evidence by it.
    fn judge(self) -> Result<(), EvidenceDenial> {
        let node_key = self.node_key.cose_key();
        let assembled = SnpEvidence::assemble(SnpParts { report: &self.report, certificates: None, node_key })?;
        let evidence = Evidence::decode(assembled.bytes().to_vec())?;
        let (simulated_snp_roots, revoked) = (self.pinned, self.revoked);
        // an operator's EK, so that a set without roots is one at all
        let pinned_eks = [Sha256Digest::ZERO].into();
        let set = AnchorSet { simulated_snp_roots, pinned_eks, revoked, ..AnchorSet::default() };
        let anchors = TrustAnchors::lab_accepting_simulated(set).unwrap();
        let list = if self.list_is_given { Revocation::List(&self.list) } else { Revocation::Unjudged };
        let (issuer, root) = (Some(&self.issuer[..]), Some(&self.root[..]));
        let vek = VerifiedVek::verify(&self.leaf, issuer, root, list, &anchors.snp_roots(), self.now)?;
        assert!(vek.is_simulated());
        let (vek, enrolled) = (vek.into(), self.enrolled.into());
        let endorsements = Endorsements::SevSnp(SnpEndorsement { vek, enrolled, launch: self.launch });
        verify(&evidence, &endorsements, &anchors, self.now)?.bind(&self.challenge, self.now).map(|_| ())
    }

    /// All certificates and the key of another product line.
    fn other_line(&mut self, edit: fn(&mut Self, Self)) {
        let other = SnpGuest::new(Product::Genoa);
        let other = received(&other, self.enrolled.clone(), self.launch, None);
        edit(self, other);
    }
}

fn critical() -> Extension {
    Extension { oid: "1.3.6.1.4.1.99.1".parse().unwrap(), critical: true, value: vec![5, 0] }
}

fn replace(fields: &mut CertificateFields, extension: Extension) {
    fields.remove_extension(extension.oid);
    fields.extensions.push(extension);
}

fn level(fields: &mut CertificateFields, oid: der::asn1::ObjectIdentifier, value: &[u8]) {
    fields.extension_mut(oid).unwrap().value = value.to_vec();
}

const NOW: u64 = crate::NOW.0;

fn overlay(machine: &mut SnpMachine, offset: usize, bytes: &[u8]) {
    machine.fields.overlay.push((offset, bytes.to_vec()));
}

use Place::{Enrolled, Issuer, Leaf, List, Machine, Root, Signed, VekOf};

/// Defects of a machine that signs with its VCEK; Milan.
#[rustfmt::skip]
const VCEK_DEFECTS: &[Defect<Place>] = &[
    // S1: the form of a report
    defect(S1, Kind::Malformed, "a byte short", Signed(|c| c.report.truncate(c.report.len() - 1))),
    defect(S1, Kind::Malformed, "empty", Signed(|c| c.report.clear())),
    defect(S1, Kind::TooLarge, "a byte more", Signed(|c| c.report.push(0))),
    defect(S1, Kind::Malformed, "version 1", Machine(|m| m.fields.version = 1)),
    defect(S1, Kind::Malformed, "version 6", Machine(|m| m.fields.version = 6)),
    defect(S1, Kind::Malformed, "policy bit 17 clear", Machine(|m| m.fields.policy &= !POLICY_RESERVED_ONE)),
    defect(S1, Kind::Malformed, "policy bit 26", Machine(|m| m.fields.policy |= 1 << 26)),
    defect(S1, Kind::Malformed, "policy bit 63", Machine(|m| m.fields.policy |= 1 << 63)),
    defect(S1, Kind::Malformed, "another signature algorithm", Machine(|m| m.fields.signature_algo = 2)),
    defect(S1, Kind::Malformed, "reserved key flags", Machine(|m| overlay(m, 0x48, &[0x20]))),
    defect(S1, Kind::Malformed, "reserved byte 0x4c", Machine(|m| overlay(m, 0x4c, &[1]))),
    defect(S1, Kind::Malformed, "reserved byte 0x18b", Machine(|m| overlay(m, 0x18b, &[1]))),
    defect(S1, Kind::Malformed, "CPUID in version 2", Machine(|m| m.fields.version = 2)),
    defect(S1, Kind::Malformed, "reserved byte 0x1eb", Machine(|m| overlay(m, 0x1eb, &[1]))),
    defect(S1, Kind::Malformed, "reserved byte 0x1ef", Machine(|m| overlay(m, 0x1ef, &[1]))),
    defect(S1, Kind::Malformed, "mitigations in version 4", Machine(|m| { m.fields.version = 4; m.fields.launch_mit_vector = 1; })),
    defect(S1, Kind::Malformed, "reserved byte 0x29f", Machine(|m| overlay(m, 0x29f, &[1]))),
    defect(S1, Kind::Malformed, "reserved TCB byte", Machine(|m| m.fields.current_tcb[3] = 1)),
    defect(S1, Kind::Malformed, "R is zero", Signed(|c| c.report[0x2a0..0x2e8].fill(0))),
    defect(S1, Kind::Malformed, "S is above the order", Signed(|c| c.report[0x2e8..0x318].fill(0xff))),
    defect(S1, Kind::Malformed, "upper bytes of R", Signed(|c| c.report[0x2a0 + 48] = 1)),
    defect(S1, Kind::Malformed, "bytes after S", Signed(|c| c.report[0x49f] = 1)),
    // S2: who asked
    defect(S2, Kind::SnpVmpl, "asked for by the host", Machine(|m| m.fields.vmpl = VMPL_HOST)),
    defect(S2, Kind::SnpVmpl, "VMPL 4", Machine(|m| m.fields.vmpl = 4)),
    defect(S2, Kind::SnpVmpl, "VMPL 256", Machine(|m| m.fields.vmpl = 256)),
    // S3: from a pinned root to the key
    defect(S3, Kind::ChainUnanchored, "no root is pinned", Signed(|c| c.pinned.clear())),
    defect(S3, Kind::ChainUnanchored, "the root of another line", Signed(|c| c.other_line(|c, other| c.root = other.root))),
    defect(S3, Kind::ChainUnanchored, "the same root signed anew", Signed(|c| {
        let authority = AmdAuthority::published(Product::Milan.line(), NOW).unwrap();
        c.root = authority.ark_fields().sign(Signer::RsaPssTrailer(&authority.keys.ark)).unwrap();
    })),
    defect(S3, Kind::ChainUnanchored, "pinned for another line", Signed(|c| {
        let pins = c.pinned.remove("Milan").unwrap();
        c.pinned.insert("Genoa".into(), pins);
    })),
    defect(S3, Kind::CertificateConstraint, "the ASK of another line", Signed(|c| c.other_line(|c, other| c.issuer = other.issuer))),
    defect(S3, Kind::CertificateSignature, "ASK flipped", Signed(|c| *c.issuer.last_mut().unwrap() ^= 1)),
    defect(S3, Kind::CertificateSignature, "leaf flipped", Signed(|c| *c.leaf.last_mut().unwrap() ^= 1)),
    defect(S3, Kind::CertificateSignature, "leaf by another key", Signed(|c| {
        let authority = AmdAuthority::published(Product::Milan.line(), NOW).unwrap();
        let fields = SnpGuest::new(Product::Milan).machine.vek_fields();
        let leaf = fields.certificate_fields(&authority, &fields.derive_key().unwrap());
        c.leaf = leaf.sign(Signer::RsaPss(&AmdKeys::foreign().unwrap())).unwrap();
    })),
    defect(S3, Kind::Malformed, "leaf cut", Signed(|c| c.leaf.truncate(c.leaf.len() - 1))),
    defect(S3, Kind::Malformed, "byte after the leaf", Signed(|c| c.leaf.push(0))),
    defect(S3, Kind::TooLarge, "leaf above its cap", Signed(|c| c.leaf.resize(20_000, 0))),
    defect(S3, Kind::CertificateConstraint, "another organisation", Leaf(|l| l.subject.iter_mut().for_each(|part| part.value = part.value.replace("Advanced", "Retired")))),
    defect(S3, Kind::CertificateConstraint, "ASK under a name of its own", Issuer(|i| i.subject = amd_name("SEV-Genoa"))),
    defect(S3, Kind::CertificateConstraint, "ASK that is no authority", Issuer(|i| replace(i, x509::basic_constraints(None)))),
    defect(S3, Kind::CertificateConstraint, "ASK that may not sign certificates", Issuer(|i| replace(i, x509::key_usage(1, 0x02)))),
    defect(S3, Kind::CertificateConstraint, "root with no room for an ASK", Root(|r| replace(r, x509::basic_constraints(Some(Some(0)))))),
    defect(S3, Kind::CertificateConstraint, "root that is no authority", Root(|r| r.remove_extension(x509::basic_constraints(None).oid))),
    defect(S3, Kind::CertificateConstraint, "leaf that is an authority", Leaf(|l| l.extensions.push(x509::basic_constraints(Some(None))))),
    defect(S3, Kind::CertificateConstraint, "leaf that may sign certificates", Leaf(|l| l.extensions.push(x509::key_usage(2, 0x84)))),
    defect(S3, Kind::CertificateExtension, "unknown critical extension in the leaf", Leaf(|l| l.extensions.push(critical()))),
    defect(S3, Kind::CertificateExtension, "unknown critical extension in the ASK", Issuer(|i| i.extensions.push(critical()))),
    defect(S3, Kind::CertificateValidity, "leaf ended", Leaf(|l| l.not_after = NOW - 1)),
    defect(S3, Kind::CertificateValidity, "leaf not begun", Leaf(|l| l.not_before = NOW + 1)),
    defect(S3, Kind::CertificateValidity, "ASK ended", Issuer(|i| i.not_after = NOW - 1)),
    defect(S3, Kind::CertificateValidity, "root not begun", Root(|r| r.not_before = NOW + 1)),
    defect(S3, Kind::CertificateListSignature, "revocation list flipped", Signed(|c| *c.list.last_mut().unwrap() ^= 1)),
    defect(S3, Kind::CertificateListSignature, "revocation list of another line", Signed(|c| c.other_line(|c, other| c.list = other.list))),
    defect(S3, Kind::CertificateListSignature, "root that may not sign lists", Root(|r| replace(r, x509::key_usage(2, 0x04)))),
    defect(S3, Kind::CertificateListValidity, "revocation list overdue", List(|l, _| l.next_update = NOW - 1)),
    defect(S3, Kind::CertificateListValidity, "revocation list of tomorrow", List(|l, _| l.this_update = NOW + 1)),
    defect(S3, Kind::Malformed, "revocation list that is a delta", List(|l, _| l.extensions.push(critical()))),
    defect(S3, Kind::Revoked, "ASK on the revocation list", List(|l, a| {
        l.revoked.push(RevokedCertificate { serial: a.ask_fields().serial, at: NOW - 10, reason: 1 });
    })),
    defect(S3, Kind::Revoked, "leaf taken back by the operator", Signed(|c| c.revoked.extend([Sha256Digest::of(&c.leaf)]))),
    defect(S3, Kind::Revoked, "root taken back by the operator", Signed(|c| c.revoked.extend([Sha256Digest::of(&c.root)]))),
    defect(S3, Kind::Missing, "no revocation list", Signed(|c| c.list_is_given = false)),
    // S4: the kind of key
    defect(S4, Kind::SnpSigningKey, "says VLEK", Machine(|m| m.fields.key_info.signing_key = SigningKey::Vlek)),
    defect(S4, Kind::SnpSigningKey, "says unsigned", Machine(|m| m.fields.key_info.signing_key = SigningKey::None)),
    defect(S4, Kind::SnpSigningKey, "chip key masked", Machine(|m| m.fields.key_info.mask_chip_key = true)),
    defect(S4, Kind::CertificateConstraint, "VCEK that calls itself VLEK", Leaf(|l| l.subject = amd_name("SEV-VLEK"))),
    // S5: certificate and report agree
    defect(S5, Kind::SnpTcbMismatch, "boot loader level raised", Machine(|m| m.fields.reported_tcb[0] += 1)),
    defect(S5, Kind::SnpTcbMismatch, "SNP level raised", Machine(|m| m.fields.reported_tcb[6] += 1)),
    defect(S5, Kind::SnpTcbMismatch, "microcode lowered", Machine(|m| m.fields.reported_tcb[7] -= 1)),
    defect(S5, Kind::SnpTcbMismatch, "certificate for another TEE level", VekOf(|v| v.tcb.tee += 1)),
    defect(S5, Kind::SnpChipIdMasked, "masked chip", Machine(|m| m.fields.chip_id = [0; 64])),
    defect(S5, Kind::SnpChipIdMismatch, "another chip", Machine(|m| m.fields.chip_id[63] ^= 1)),
    defect(S5, Kind::SnpProductMismatch, "another processor", Machine(|m| m.fields.cpuid = Product::Genoa.cpuid())),
    defect(S5, Kind::SnpProductMismatch, "a processor to come", Machine(|m| m.fields.cpuid = [0x1b, 0, 0])),
    defect(S5, Kind::CertificateConstraint, "no microcode level", Leaf(|l| l.remove_extension(oids::MICROCODE))),
    defect(S5, Kind::CertificateConstraint, "no spare level", Leaf(|l| l.remove_extension(oids::SPL5))),
    defect(S5, Kind::CertificateConstraint, "no chip", Leaf(|l| l.remove_extension(oids::HWID))),
    defect(S5, Kind::CertificateConstraint, "chip of eight bytes", Leaf(|l| level(l, oids::HWID, &[1; 8]))),
    defect(S5, Kind::CertificateConstraint, "spare level used", VekOf(|v| v.spare[0] = 1)),
    defect(S5, Kind::CertificateConstraint, "level of 256", Leaf(|l| level(l, oids::SNP, &[2, 2, 1, 0]))),
    defect(S5, Kind::CertificateConstraint, "level in another type", Leaf(|l| level(l, oids::SNP, &[4, 1, 8]))),
    defect(S5, Kind::CertificateConstraint, "structVersion of Turin", VekOf(|v| v.struct_version = 1)),
    defect(S5, Kind::CertificateConstraint, "product of another line", VekOf(|v| v.product_name = "Genoa".into())),
    defect(S5, Kind::CertificateConstraint, "unknown product", VekOf(|v| v.product_name = "Naples".into())),
    defect(S5, Kind::CertificateConstraint, "provider beside the chip", Leaf(|l| l.extensions.push(Extension { oid: oids::CSP_ID, critical: false, value: vec![0x16, 1, b'a'] }))),
    defect(S5, Kind::CertificateConstraint, "an FMC level", Leaf(|l| l.extensions.push(Extension { oid: oids::FMC, critical: false, value: vec![2, 1, 0] }))),
    // S6: the signature
    defect(S6, Kind::SignatureInvalid, "measurement altered", Signed(|c| c.report[0x90] ^= 1)),
    defect(S6, Kind::SignatureInvalid, "report data altered", Signed(|c| c.report[0x8f] ^= 1)),
    defect(S6, Kind::SignatureInvalid, "signature altered", Signed(|c| c.report[0x2a0] ^= 1)),
    defect(S6, Kind::SignatureInvalid, "by the key of another chip", Signed(|c| {
        let mut other = SnpGuest::new(Product::Milan);
        other.machine.set_chip_id([9; 64]);
        c.report = received(&other, c.enrolled.clone(), c.launch, None).report;
    })),
    // S8, S9: what no guest may be
    defect(S8, Kind::SnpGuestPolicy, "debugging allowed", Machine(|m| m.fields.policy |= POLICY_DEBUG)),
    defect(S8, Kind::SnpGuestPolicy, "migration allowed", Machine(|m| m.fields.policy |= POLICY_MIGRATE_MA)),
    defect(S8, Kind::SnpGuestPolicy, "both allowed", Machine(|m| m.fields.policy |= POLICY_DEBUG | POLICY_MIGRATE_MA)),
    defect(S9, Kind::SnpPlatformInfo, "bit 8", Machine(|m| m.fields.platform_info |= 1 << 8)),
    defect(S9, Kind::SnpPlatformInfo, "bit 32", Machine(|m| m.fields.platform_info |= 1 << 32)),
    defect(S9, Kind::SnpPlatformInfo, "bit 63", Machine(|m| m.fields.platform_info |= 1 << 63)),
    // S5: the platform that the guest enrolled on
    defect(S5, Kind::PlatformMismatch, "moved to another chip", Enrolled(|m| m.set_chip_id([9; 64]))),
    defect(S5, Kind::PlatformMismatch, "signed by a provider's key since", Signed(|c| {
        let id = PlatformId::AmdVlek { csp_id: CspId::try_from("CN=cc.example".to_owned()).unwrap() };
        c.enrolled = EnrolledPlatform::new(c.enrolled.node_id().clone(), id, c.enrolled.record_key().clone());
    })),
    // S11: what the report answers
    defect(S11, Kind::BindingMismatch, "another nonce", Signed(|c| c.challenge.nonce[31] ^= 1)),
    defect(S11, Kind::BindingMismatch, "another connection", Signed(|c| c.challenge.channel[0] ^= 1)),
    defect(S11, Kind::BindingMismatch, "another audience", Signed(|c| c.challenge.audience.push('x'))),
    defect(S11, Kind::BindingMismatch, "another epoch", Signed(|c| c.challenge.epoch += 1)),
    defect(S11, Kind::BindingMismatch, "another subject", Signed(|c| c.challenge.subject = Sha256Digest::ZERO)),
    defect(S11, Kind::BindingMismatch, "another lineage", Signed(|c| c.challenge.lineage_head = Sha256Digest([1; 32]))),
    defect(S11, Kind::BindingMismatch, "another node key", Signed(|c| c.node_key = XWingPublicKey::new(&[8; XWING_PUBLIC_KEY_BYTES]).unwrap())),
    defect(S11, Kind::ChallengeExpired, "answered late", Signed(|c| c.now = c.challenge.expires_at.plus(1))),
    defect(S11, Kind::KindUnexpected, "a trust domain was asked", Signed(|c| {
        c.challenge.demands = Demands::Tdx(TdxDemands { event_log: false });
    })),
    // S13: the launch that holds leases
    defect(S13, Kind::SnpReportId, "launched anew", Enrolled(|m| m.fields.report_id[0] ^= 1)),
    defect(S13, Kind::SnpReportId, "REPORT_ID of zeros", Enrolled(|m| m.fields.report_id = [0; 32])),
    defect(S13, Kind::SnpReportId, "REPORT_ID of ones", Enrolled(|m| m.fields.report_id = [0xff; 32])),
];

/// Defects of a machine that signs with its provider's VLEK.
#[rustfmt::skip]
const VLEK_DEFECTS: &[Defect<Place>] = &[
    defect(S4, Kind::SnpSigningKey, "says VCEK", Machine(|m| m.fields.key_info.signing_key = SigningKey::Vcek)),
    defect(S4, Kind::CertificateConstraint, "VLEK that calls itself VCEK", Leaf(|l| l.subject = amd_name("SEV-VCEK"))),
    defect(S4, Kind::CertificateConstraint, "VLEK with the ASK for its issuer", Signed(|c| c.issuer = SnpGuest::new(Product::Milan).machine.authority.ask)),
    defect(S5, Kind::CertificateConstraint, "no provider", Leaf(|l| l.remove_extension(oids::CSP_ID))),
    defect(S5, Kind::CertificateConstraint, "empty provider", Leaf(|l| level(l, oids::CSP_ID, &[0x16, 0]))),
    defect(S5, Kind::CertificateConstraint, "chip beside the provider", Leaf(|l| l.extensions.push(Extension { oid: oids::HWID, critical: false, value: vec![1; 64] }))),
    defect(S5, Kind::SnpTcbMismatch, "microcode raised", Machine(|m| m.fields.reported_tcb[7] += 1)),
    defect(S5, Kind::PlatformMismatch, "moved to another provider", Enrolled(|m| m.use_vlek("CN=other.example"))),
    defect(S3, Kind::Missing, "no revocation list", Signed(|c| c.list_is_given = false)),
    defect(S11, Kind::BindingMismatch, "another nonce", Signed(|c| c.challenge.nonce[0] ^= 1)),
    defect(S13, Kind::SnpReportId, "launched anew", Enrolled(|m| m.fields.report_id[31] ^= 1)),
];

/// Defects of Turin, whose TCB and chip lie differently.
#[rustfmt::skip]
const TURIN_DEFECTS: &[Defect<Place>] = &[
    defect(S1, Kind::Malformed, "reserved TCB byte 4", Machine(|m| m.fields.launch_tcb[4] = 1)),
    defect(S5, Kind::SnpTcbMismatch, "FMC level raised", Machine(|m| m.fields.reported_tcb[0] += 1)),
    defect(S5, Kind::SnpTcbMismatch, "SNP level raised", Machine(|m| m.fields.reported_tcb[3] += 1)),
    defect(S5, Kind::SnpChipIdMismatch, "chip id of nine bytes", Machine(|m| m.fields.chip_id[8] = 1)),
    defect(S5, Kind::SnpProductMismatch, "processor of Genoa", Machine(|m| m.fields.cpuid = Product::Genoa.cpuid())),
    defect(S5, Kind::CertificateConstraint, "no FMC level", Leaf(|l| l.remove_extension(oids::FMC))),
    defect(S5, Kind::CertificateConstraint, "structVersion of Milan", VekOf(|v| v.struct_version = 0)),
];
