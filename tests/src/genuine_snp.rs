//! A whole SNP guest on a fake AMD chip and its verifier's view of it: from here a test changes one thing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use evidence::{
    Endorsements, Evidence, TrustAnchors,
    anchors::{AnchorSet, RootPin},
    binding::Binding,
    challenge::{Challenge, Demands},
    cose::SigningKey,
    digest::Sha256Digest,
    names::NodeId,
    node_key::{XWING_PUBLIC_KEY_BYTES, XWingPublicKey},
    sev_snp::{Launch, Revocation, SnpEndorsement, SnpEvidence, SnpParts, VerifiedVek},
    tee::EnrolledPlatform,
    time::UnixSeconds,
};
pub use simulators::amd::Product;
use simulators::amd::SnpMachine;

use crate::NOW;

/// A guest, and the machine that it runs on.
pub struct SnpGuest {
    /// The machine: change its fields, then let the guest answer.
    pub machine: SnpMachine,
    /// Whether the chip's provider key signs.
    pub vlek: bool,
    /// The node key.
    pub node_key: XWingPublicKey,
    /// The record key.
    pub record_key: SigningKey,
    /// Its name.
    pub node_id: NodeId,
    /// The verifier's time.
    pub now: UnixSeconds,
    /// The fake AMD's root is pinned as AMD's own.
    pub is_pinned_as_amds: bool,
}

impl Default for SnpGuest {
    fn default() -> Self {
        Self::new(Product::Genoa)
    }
}

impl SnpGuest {
    /// A guest on an up-to-date machine.
    pub fn new(product: Product) -> Self {
        let now = NOW;
        Self {
            machine: SnpMachine::new(product, now.0).unwrap(),
            vlek: false,
            node_key: XWingPublicKey::new(&[7; XWING_PUBLIC_KEY_BYTES]).unwrap(),
            record_key: SigningKey::from_seed(&[7; 32]).unwrap(),
            node_id: NodeId::new("guest-1").unwrap(),
            now,
            is_pinned_as_amds: false,
        }
    }

    /// Has its reports signed by a provider's key from now on.
    pub fn use_vlek(&mut self, csp_id: &str) {
        self.machine.use_vlek(csp_id);
        self.vlek = true;
    }

    /// Anchors of a lab that pinned the fake AMD's root, or of a domain that takes it for AMD's own.
    pub fn anchors(&self) -> TrustAnchors {
        let authority = &self.machine.authority;
        let pins = BTreeSet::from([RootPin::Certificate(Sha256Digest::of(&authority.ark))]);
        let roots = BTreeMap::from([(authority.line.name().to_owned(), pins)]);
        if self.is_pinned_as_amds {
            return TrustAnchors::new(AnchorSet { snp_roots: roots, ..AnchorSet::default() }).unwrap();
        }
        let simulated_snp_roots = roots;
        TrustAnchors::lab_accepting_simulated(AnchorSet { simulated_snp_roots, ..AnchorSet::default() }).unwrap()
    }

    /// What the verifier holds about it, REPORT_ID included.
    pub fn endorsement(&self) -> SnpEndorsement {
        let (authority, vek) = (&self.machine.authority, self.machine.vek().unwrap());
        let intermediate = if self.vlek { &authority.asvk } else { &authority.ask };
        let (anchors, list) = (self.anchors(), Revocation::List(&authority.crl));
        let roots = anchors.snp_roots();
        let (leaf, ark) = (&vek.certificate, Some(&authority.ark[..]));
        let vek = VerifiedVek::verify(leaf, Some(intermediate), ark, list, &roots, self.now).unwrap();
        let enrolled = EnrolledPlatform::new(self.node_id.clone(), vek.platform(), self.record_key.public().clone());
        let launch = Launch::Same(self.machine.fields.report_id);
        SnpEndorsement { vek: Arc::new(vek), enrolled: Arc::new(enrolled), launch }
    }

    /// The same, as appraisal takes it.
    pub fn endorsements(&self) -> Endorsements {
        Endorsements::SevSnp(self.endorsement())
    }

    /// A challenge.
    pub fn challenge(&self) -> Challenge {
        Challenge {
            nonce: [0x33; 32],
            channel: [0x44; 32],
            audience: "spiffe://a.example/verifier".into(),
            epoch: 5,
            subject: Sha256Digest([0x55; 32]),
            lineage_head: Sha256Digest::ZERO,
            issued_at: self.now,
            expires_at: self.now.plus(10),
            demands: Demands::SevSnp,
        }
    }

    /// Its answer to `challenge`.
    pub fn evidence(&self, challenge: &Challenge) -> Evidence {
        let binding = Binding::answering(challenge, self.node_key.cose_key(), None).report_data().unwrap();
        let report = self.machine.report(binding).unwrap().report;
        let parts = SnpParts { report: &report, certificates: None, node_key: self.node_key.cose_key() };
        Evidence::SevSnp(SnpEvidence::assemble(parts).unwrap())
    }
}
