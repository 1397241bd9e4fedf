//! A whole trust domain on a fake Intel platform and its verifier's view of it: from here a test changes one thing.

use std::sync::Arc;

use evidence::{
    Endorsements, Evidence, TrustAnchors,
    anchors::{AnchorSet, RootPin},
    binding::Binding,
    challenge::{Challenge, Demands, TdxDemands},
    cose::SigningKey,
    digest::Sha256Digest,
    names::NodeId,
    node_key::{XWING_PUBLIC_KEY_BYTES, XWingPublicKey},
    tdx::{Collateral, TdxEndorsement, TdxEvidence, TdxParts, VerifiedCollateral},
    tee::{EnrolledPlatform, PlatformId},
    time::UnixSeconds,
};
use simulators::intel::TdxMachine;

use crate::NOW;

/// A trust domain, and the machine that it runs on.
pub struct TdxGuest {
    /// The machine: change its fields, then let the guest answer.
    pub machine: TdxMachine,
    /// The node key.
    pub node_key: XWingPublicKey,
    /// The record key.
    pub record_key: SigningKey,
    /// Its name.
    pub node_id: NodeId,
    /// The verifier's time.
    pub now: UnixSeconds,
    /// The fake Intel's root is pinned as Intel's own.
    pub is_pinned_as_intels: bool,
}

impl Default for TdxGuest {
    fn default() -> Self {
        Self::new(5)
    }
}

impl TdxGuest {
    /// A guest on an up-to-date machine with quotes of `version`.
    pub fn new(version: u16) -> Self {
        let now = NOW;
        Self {
            machine: TdxMachine::new(version, now.0).unwrap(),
            node_key: XWingPublicKey::new(&[7; XWING_PUBLIC_KEY_BYTES]).unwrap(),
            record_key: SigningKey::from_seed(&[7; 32]).unwrap(),
            node_id: NodeId::new("domain-1").unwrap(),
            now,
            is_pinned_as_intels: false,
        }
    }

    /// Anchors of a lab that pinned the fake Intel's root, or of a domain that takes it for Intel's own.
    pub fn anchors(&self) -> TrustAnchors {
        let roots = [RootPin::Certificate(Sha256Digest::of(&self.machine.authority.root))].into();
        if self.is_pinned_as_intels {
            return TrustAnchors::new(AnchorSet { tdx_roots: roots, ..AnchorSet::default() }).unwrap();
        }
        let simulated_tdx_roots = roots;
        TrustAnchors::lab_accepting_simulated(AnchorSet { simulated_tdx_roots, ..AnchorSet::default() }).unwrap()
    }

    /// What the verifier holds about it.
    pub fn endorsement(&self) -> TdxEndorsement {
        let collateral = self.machine.collateral().unwrap().to_json().unwrap();
        let collateral = Collateral::from_json(collateral.as_bytes()).unwrap();
        let anchors = self.anchors();
        let collateral = VerifiedCollateral::verify(&collateral, &anchors.tdx_roots(), self.now).unwrap();
        let (platform, key) = (PlatformId::IntelPpid(self.machine.pck.ppid), self.record_key.public().clone());
        let enrolled = EnrolledPlatform::new(self.node_id.clone(), platform, key);
        TdxEndorsement { collateral: Arc::new(collateral), pck: None, enrolled: Arc::new(enrolled) }
    }

    /// The same, as appraisal takes it.
    pub fn endorsements(&self) -> Endorsements {
        Endorsements::Tdx(self.endorsement())
    }

    /// A challenge that asks for everything.
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
            demands: Demands::Tdx(TdxDemands { event_log: true }),
        }
    }

    /// Its answer to `challenge`.
    pub fn evidence(&self, challenge: &Challenge) -> Evidence {
        let binding = Binding::answering(challenge, self.node_key.cose_key(), None).report_data().unwrap();
        let (quote, log) = (self.machine.quote(binding).unwrap(), self.machine.event_log.encode());
        let parts = TdxParts { quote: &quote, node_key: self.node_key.cose_key(), event_log: Some(&log) };
        Evidence::Tdx(TdxEvidence::assemble(parts).unwrap())
    }
}
