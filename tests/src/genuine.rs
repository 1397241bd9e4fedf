//! A whole machine and its verifier's view of it: from here a test changes one thing.
//!
//! ```
//! use tests::genuine::Machine;
//! let machine = Machine::default();
//! let challenge = machine.challenge();
//! let evidence = machine.answer(&challenge).evidence();
//! let endorsements = machine.endorsements();
//! let bound = evidence::verify(&evidence, &endorsements, &machine.anchors(), machine.now)
//!     .and_then(|authentic| authentic.bind(&challenge, machine.now));
//! assert!(bound.is_ok());
//! ```

use std::sync::Arc;

use aws_lc_rs::signature::{self, EcdsaKeyPair, KeyPair as _};
use evidence::{
    Endorsements, Evidence, EvidenceDenial, TrustAnchors,
    binding::Binding,
    challenge::{Challenge, Demands, TpmDemands},
    cose::{self, SigningKey},
    digest::{HashAlg, Sha256Digest},
    names::NodeId,
    time::UnixSeconds,
    tpm::{
        ClockState, EnrolledTpm, Enrolment, Identity, PcrSelection, PcrSet, PcrValues, PendingActivation,
        TpmEndorsement, TpmEvidence, TpmParts, attest::ClockInfo, enrolment::enrolment_qualifying_data,
        policy_pcr_digest,
    },
};
use serde_bytes::ByteBuf;
use zeroize::Zeroizing;

use crate::{
    authority::{Authority, EkCertificateParams},
    boot::Boot,
    soft_tpm::{Ak, AkKind, AttestDraft, PublicArea, Unique},
};

/// PCRs of the node key's policy unless a test chooses others.
pub const NODE_KEY_PCRS: [u8; 9] = [0, 1, 2, 3, 4, 5, 6, 7, 9];
/// PCRs of the quote unless a test chooses others.
pub const QUOTED_PCRS: [u8; 11] = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

/// A machine with a TPM that has booted, and the authority that certified its TPM.
pub struct Machine {
    /// Who certified the EK.
    pub authority: Authority,
    /// Public area of the EK.
    pub ek: PublicArea,
    /// EK certificate and its chain.
    pub ek_chain: Vec<Vec<u8>>,
    /// The AK.
    pub ak: Ak,
    /// Public area of the AK.
    pub ak_public: PublicArea,
    ek_point: Vec<u8>,
    node_key_point: Vec<u8>,
    /// The record key.
    pub record_key: SigningKey,
    /// Its name.
    pub node_id: NodeId,
    /// How it booted.
    pub boot: Boot,
    /// Clock of its next statement.
    pub clock: ClockInfo,
    /// firmwareVersion of its TPM.
    pub firmware_version: u64,
    /// The verifier's time.
    pub now: UnixSeconds,
    /// The verifier's epoch.
    pub epoch: u64,
}

impl Default for Machine {
    fn default() -> Self {
        Self::new(AkKind::EcdsaP256)
    }
}

fn p256_point() -> Vec<u8> {
    EcdsaKeyPair::generate(&signature::ECDSA_P256_SHA256_FIXED_SIGNING).unwrap().public_key().as_ref().to_vec()
}

/// Public area of an EK by the default template L-2 with this point.
pub fn ek_area(point: &[u8]) -> PublicArea {
    let policy_a = "837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa";
    PublicArea {
        name_alg: HashAlg::Sha256,
        attributes: 0x0003_00b2,
        auth_policy: policy_a.parse::<Sha256Digest>().unwrap().0.to_vec(),
        symmetric: vec![0x00, 0x06, 0x00, 0x80, 0x00, 0x43],
        scheme: vec![0x00, 0x10],
        unique: Unique::point(point),
    }
}

/// SubjectPublicKeyInfo of a P-256 point.
pub fn p256_spki(point: &[u8]) -> Vec<u8> {
    let head = [
        0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
        0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
    ];
    [&head[..], point].concat()
}

impl Machine {
    /// A machine with an AK of this kind and an ECC EK.
    pub fn new(kind: AkKind) -> Self {
        let authority = Authority::default();
        let ek_point = p256_point();
        let ek_chain = authority.chain(authority.certify(&p256_spki(&ek_point), &EkCertificateParams::default()));
        let ak = Ak::generate(kind);
        Self {
            ek: ek_area(&ek_point),
            ek_chain,
            ak_public: ak.public(),
            ak,
            ek_point,
            node_key_point: p256_point(),
            record_key: SigningKey::from_seed(&[7; 32]).unwrap(),
            node_id: NodeId::new("node-1").unwrap(),
            boot: Boot::default(),
            clock: ClockInfo { clock_ms: 50_000, reset_count: 3, restart_count: 0, safe: true },
            firmware_version: 0x2020_0312_0012_0000,
            now: UnixSeconds(1_750_000_000),
            epoch: 5,
            authority,
        }
    }

    /// SubjectPublicKeyInfo of its EK.
    pub fn ek_spki(&self) -> Vec<u8> {
        p256_spki(&self.ek_point)
    }

    /// Has its EK certified anew, by `authority`, as `edit` says.
    pub fn recertify(&mut self, authority: Authority, edit: impl FnOnce(&mut EkCertificateParams)) {
        let mut params = EkCertificateParams::default();
        edit(&mut params);
        self.ek_chain = authority.chain(authority.certify(&self.ek_spki(), &params));
        self.authority = authority;
    }

    /// Anchors that trust this machine's authority.
    pub fn anchors(&self) -> TrustAnchors {
        self.authority.anchors()
    }

    /// What it says it is when it enrols.
    pub fn identity(&self) -> Identity {
        Identity {
            node_id: self.node_id.clone(),
            ek_public: ByteBuf::from(self.ek.write()),
            ek_chain: self.ek_chain.iter().cloned().map(ByteBuf::from).collect(),
            ak_public: ByteBuf::from(self.ak_public.write()),
            record_key: ByteBuf::from(self.record_key.public().cose_key()),
        }
    }

    /// The quote that ends an enrolment with `secret`.
    pub fn enrolment_proof(&self, secret: &[u8]) -> AttestDraft {
        let extra_data = enrolment_qualifying_data(secret, self.record_key.public().cose_key());
        let clock = ClockInfo { clock_ms: self.clock.clock_ms - 1_000, ..self.clock };
        let values = self.boot.pcrs(HashAlg::Sha256, &[0]);
        self.quote_draft(&extra_data, &values, clock)
    }

    /// A completed enrolment with a verifier that trusts this machine's authority.
    pub fn enrol(&self) -> Result<(Enrolment, EnrolledTpm), EvidenceDenial> {
        self.enrol_under(&self.anchors())
    }

    /// A completed enrolment with a verifier of these anchors.
    pub fn enrol_under(&self, anchors: &TrustAnchors) -> Result<(Enrolment, EnrolledTpm), EvidenceDenial> {
        let (secret, randomness) = ([0x11; 32], Zeroizing::new([0x22; 48]));
        let identity = self.identity();
        let (pending, _credential) =
            PendingActivation::start(identity, self.epoch, Zeroizing::new(secret), &randomness, anchors, self.now)?;
        let proof = self.enrolment_proof(&secret).write();
        pending.complete(&secret, &proof, &self.ak.sign(&proof), anchors, self.now)
    }

    /// What the verifier holds about it once enrolled.
    pub fn endorsements(&self) -> Endorsements {
        let (_, enrolled) = self.enrol().unwrap();
        Endorsements::Tpm(self.endorsement(enrolled))
    }

    /// The same from an enrolment, at its clock baseline.
    pub fn endorsement(&self, enrolled: EnrolledTpm) -> TpmEndorsement {
        TpmEndorsement { clock: ClockState::at(enrolled.baseline()), enrolled: Arc::new(enrolled), node_key: None }
    }

    /// A challenge that asks for everything.
    pub fn challenge(&self) -> Challenge {
        Challenge {
            nonce: [0x33; 32],
            channel: [0x44; 32],
            audience: "spiffe://a.example/verifier".into(),
            epoch: self.epoch,
            subject: Sha256Digest([0x55; 32]),
            lineage_head: Sha256Digest::ZERO,
            issued_at: self.now,
            expires_at: self.now.plus(10),
            demands: Demands::Tpm(TpmDemands {
                pcr_bank: HashAlg::Sha256,
                pcrs: QUOTED_PCRS.to_vec(),
                node_key_pcrs: NODE_KEY_PCRS.to_vec(),
                event_log: true,
                ima_log: true,
            }),
        }
    }

    /// Public area of its node key for a policy over `pcrs` of `bank`.
    pub fn node_key(&self, bank: HashAlg, pcrs: &[u8]) -> PublicArea {
        let values = self.boot.pcrs(bank, pcrs);
        let policy = policy_pcr_digest(&values, PcrSet::of(pcrs).unwrap(), HashAlg::Sha256).unwrap();
        PublicArea {
            name_alg: HashAlg::Sha256,
            attributes: 0x0002_0432, // fixedTPM, fixedParent, sensitiveDataOrigin, noDA, decrypt
            auth_policy: policy.as_bytes().to_vec(),
            symmetric: vec![0x00, 0x10],
            scheme: vec![0x00, 0x10],
            unique: Unique::point(&self.node_key_point),
        }
    }

    /// COSE_Key of its node key.
    pub fn node_key_cose(&self) -> Vec<u8> {
        cose::p256_cose_key(&self.node_key_point).unwrap()
    }

    /// A quote over `values`, unsigned.
    pub fn quote_draft(&self, extra_data: &[u8], values: &PcrValues, clock: ClockInfo) -> AttestDraft {
        let selection = PcrSelection { bank: values.bank(), pcrs: values.selected() };
        let digest = values.digest(values.selected(), self.ak.kind.hash()).unwrap();
        AttestDraft::quote(extra_data, clock, self.firmware_version, selection, digest.as_bytes())
    }

    /// Its answer to `challenge`, unsigned.
    pub fn draft(&self, challenge: &Challenge) -> Draft {
        let demands = challenge.demands.tpm().unwrap();
        let node_key = self.node_key(demands.pcr_bank, &demands.node_key_pcrs);
        let cose_key = self.node_key_cose();
        let ak_name = self.ak_public.name().to_bytes();
        let extra_data = Binding::answering(challenge, &cose_key, Some(&ak_name)).qualifying_data().unwrap();
        let pcrs = self.boot.pcrs(demands.pcr_bank, &demands.pcrs);
        Draft {
            quote: self.quote_draft(&extra_data, &pcrs, self.clock),
            certification: AttestDraft::certification(&node_key.name(), self.clock, self.firmware_version),
            node_key,
            pcrs,
            event_log: demands.event_log.then(|| self.boot.event_log()),
            ima_log: demands.ima_log.then(|| self.boot.ima_log()),
        }
    }

    /// Signs a draft.
    pub fn sign(&self, draft: &Draft) -> Answer {
        let (quote, certification) = (draft.quote.write(), draft.certification.write());
        Answer {
            signature: self.ak.sign(&quote),
            quote,
            pcrs: draft.pcrs.clone(),
            node_key: draft.node_key.write(),
            certification_signature: self.ak.sign(&certification),
            certification,
            event_log: draft.event_log.clone(),
            ima_log: draft.ima_log.clone(),
        }
    }

    /// Its genuine answer to `challenge`.
    pub fn answer(&self, challenge: &Challenge) -> Answer {
        self.sign(&self.draft(challenge))
    }
}

/// An answer before it is signed.
#[derive(Clone, Debug)]
pub struct Draft {
    /// The quote.
    pub quote: AttestDraft,
    /// The node key.
    pub node_key: PublicArea,
    /// The certification of the node key.
    pub certification: AttestDraft,
    /// PCR values beside the quote.
    pub pcrs: PcrValues,
    /// Event log.
    pub event_log: Option<Vec<u8>>,
    /// IMA log.
    pub ima_log: Option<Vec<u8>>,
}

/// An answer after signing: bytes.
#[derive(Clone, Debug)]
pub struct Answer {
    /// TPMS_ATTEST.
    pub quote: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub signature: Vec<u8>,
    /// PCR values beside the quote.
    pub pcrs: PcrValues,
    /// TPM2B_PUBLIC.
    pub node_key: Vec<u8>,
    /// TPMS_ATTEST.
    pub certification: Vec<u8>,
    /// TPMT_SIGNATURE.
    pub certification_signature: Vec<u8>,
    /// Event log.
    pub event_log: Option<Vec<u8>>,
    /// IMA log.
    pub ima_log: Option<Vec<u8>>,
}

impl Answer {
    /// As evidence.
    pub fn evidence(&self) -> Evidence {
        self.try_evidence().unwrap()
    }

    /// As evidence, if its parts are within their caps.
    pub fn try_evidence(&self) -> Result<Evidence, EvidenceDenial> {
        TpmEvidence::assemble(self.parts()).map(Evidence::Tpm)
    }

    /// Its parts.
    pub fn parts(&self) -> TpmParts<'_> {
        TpmParts {
            quote: &self.quote,
            signature: &self.signature,
            pcrs: &self.pcrs,
            node_key: &self.node_key,
            certification: &self.certification,
            certification_signature: &self.certification_signature,
            event_log: self.event_log.as_deref(),
            ima_log: self.ima_log.as_deref(),
        }
    }
}
