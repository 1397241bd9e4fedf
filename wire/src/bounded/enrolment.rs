//! First contact.

use std::num::NonZeroU8;

use evidence::{digest::Sha256Digest, names::NodeId, threshold::Authority};

use super::{
    BUNDLE_CAP_BYTES, FieldDenial, SIGNATURES_CAP, bytes,
    demand::{EvidenceKind, kind},
    digest, list, node_id, refuse, spiffe_id,
};
use crate::proto::{self, enrol_request::Message};

/// Longest TPM2B_PUBLIC, TPMS_ATTEST, TPMT_SIGNATURE, TPM2B_ID_OBJECT or encrypted secret, in bytes.
pub const TPM_STRUCTURE_CAP_BYTES: usize = 2048;
/// Most EK certificates.
pub const CHAIN_CAP: usize = 6;
/// Longest certificate, in bytes of DER.
pub const CERTIFICATE_CAP_BYTES: usize = 16 * 1024;
/// Longest COSE_Key of a record or authority key, in bytes.
pub const COSE_KEY_CAP_BYTES: usize = 256;
/// Longest certificate request, in bytes of DER.
pub const CSR_CAP_BYTES: usize = 4096;
/// Longest Evidence of a stranger, which carries no logs: report or quote with certificates, and a TPM's quote, in bytes.
pub const ENROL_EVIDENCE_CAP_BYTES: usize = 96 * 1024;
/// Longest activation secret (TPM2B_DIGEST), in bytes.
pub const SECRET_CAP_BYTES: usize = 64;
/// Longest PEM chain of a client certificate, in bytes.
pub const PEM_CAP_BYTES: usize = 64 * 1024;

/// One message of a node that enrols.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnrolRequest {
    /// Who it says it is.
    Identity(EnrolIdentity),
    /// What proves it.
    Proof(EnrolProof),
    /// Which TEE it says it is, without a TPM.
    Platform(EnrolPlatform),
    /// What proves that.
    Evidence {
        /// CMW collection.
        cmw: Vec<u8>,
    },
}

/// What a machine with a TPM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TpmKind {
    /// A TPM and nothing more.
    Tpm,
    /// A vTPM in an SEV-SNP guest.
    OnSevSnp,
    /// A vTPM in a TDX guest.
    OnTdx,
}

/// What a TEE without a TPM is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TeeKind {
    /// An AMD SEV-SNP guest.
    SevSnp,
    /// An Intel TDX guest.
    Tdx,
}

/// Who the node says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolIdentity {
    /// The id it wants.
    pub node_id: NodeId,
    /// What it is besides a TPM.
    pub kind: TpmKind,
    /// TPM2B_PUBLIC of the EK.
    pub ek_public: Vec<u8>,
    /// EK certificate first; empty when an operator pinned the EK.
    pub ek_chain: Vec<Vec<u8>>,
    /// TPM2B_PUBLIC of the AK.
    pub ak_public: Vec<u8>,
    /// COSE_Key of the record key.
    pub record_key: Vec<u8>,
    /// PKCS#10 request by the record key.
    pub csr: Vec<u8>,
}

/// Who a TEE without a TPM says it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolPlatform {
    /// The id it wants.
    pub node_id: NodeId,
    /// Which TEE it is.
    pub kind: TeeKind,
    /// COSE_Key of the record key.
    pub record_key: Vec<u8>,
    /// PKCS#10 request by the record key.
    pub csr: Vec<u8>,
}

/// What proves it. The secret is not printed.
#[derive(Clone, PartialEq, Eq)]
pub struct EnrolProof {
    /// What ActivateCredential gave.
    pub secret: Vec<u8>,
    /// TPMS_ATTEST over the record key.
    pub record_key_certify: Vec<u8>,
    /// TPMT_SIGNATURE over it.
    pub record_key_signature: Vec<u8>,
}

impl std::fmt::Debug for EnrolProof {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnrolProof").finish_non_exhaustive()
    }
}

/// What the verifier asks of the TPM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolChallenge {
    /// TPM2B_ID_OBJECT.
    pub credential_blob: Vec<u8>,
    /// TPM2B_ENCRYPTED_SECRET.
    pub encrypted_secret: Vec<u8>,
}

/// What an enrolled node takes home.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnrolGrant {
    /// PEM chain for the client certificate.
    pub client_certificate: Vec<u8>,
    /// COSE_Sign1 over one trust bundle, by distinct keys.
    pub trust_bundle: Vec<Vec<u8>>,
    /// Digest of the enrolment record.
    pub lineage_head: Sha256Digest,
    /// The verifier's SPIFFE ID.
    pub audience: String,
    /// The policy authority that the node pins.
    pub authority: Authority,
    /// Whether the domain is a lab, in which nobody need have witnessed anything.
    pub lab: bool,
}

impl TryFrom<proto::EnrolRequest> for EnrolRequest {
    type Error = FieldDenial;

    fn try_from(given: proto::EnrolRequest) -> Result<Self, FieldDenial> {
        match given.message.ok_or(refuse("message", "absent"))? {
            Message::Identity(identity) => Ok(Self::Identity(EnrolIdentity {
                node_id: node_id(identity.node_id)?,
                kind: tpm_kind(identity.kind)?,
                ek_public: bytes("ek_public", identity.ek_public, TPM_STRUCTURE_CAP_BYTES)?,
                ek_chain: list("ek_chain", identity.ek_chain, 0..=CHAIN_CAP, CERTIFICATE_CAP_BYTES)?,
                ak_public: bytes("ak_public", identity.ak_public, TPM_STRUCTURE_CAP_BYTES)?,
                record_key: bytes("record_key", identity.record_key, COSE_KEY_CAP_BYTES)?,
                csr: bytes("csr", identity.csr, CSR_CAP_BYTES)?,
            })),
            Message::Proof(proof) => Ok(Self::Proof(EnrolProof {
                secret: bytes("secret", proof.secret, SECRET_CAP_BYTES)?,
                record_key_certify: bytes("record_key_certify", proof.record_key_certify, TPM_STRUCTURE_CAP_BYTES)?,
                record_key_signature: bytes(
                    "record_key_signature",
                    proof.record_key_signature,
                    TPM_STRUCTURE_CAP_BYTES,
                )?,
            })),
            Message::Platform(platform) => Ok(Self::Platform(EnrolPlatform {
                node_id: node_id(platform.node_id)?,
                kind: tee_kind(platform.kind)?,
                record_key: bytes("record_key", platform.record_key, COSE_KEY_CAP_BYTES)?,
                csr: bytes("csr", platform.csr, CSR_CAP_BYTES)?,
            })),
            Message::Evidence(evidence) => {
                Ok(Self::Evidence { cmw: bytes("cmw", evidence.cmw, ENROL_EVIDENCE_CAP_BYTES)? })
            }
        }
    }
}

fn tpm_kind(given: i32) -> Result<TpmKind, FieldDenial> {
    match kind(given)? {
        EvidenceKind::Tpm => Ok(TpmKind::Tpm),
        EvidenceKind::TpmOnSevSnp => Ok(TpmKind::OnSevSnp),
        EvidenceKind::TpmOnTdx => Ok(TpmKind::OnTdx),
        EvidenceKind::SevSnp | EvidenceKind::Tdx => Err(refuse("kind", "has no TPM")),
    }
}

fn tee_kind(given: i32) -> Result<TeeKind, FieldDenial> {
    match kind(given)? {
        EvidenceKind::SevSnp => Ok(TeeKind::SevSnp),
        EvidenceKind::Tdx => Ok(TeeKind::Tdx),
        EvidenceKind::Tpm | EvidenceKind::TpmOnSevSnp | EvidenceKind::TpmOnTdx => Err(refuse("kind", "has a TPM")),
    }
}

impl TryFrom<proto::EnrolChallenge> for EnrolChallenge {
    type Error = FieldDenial;

    fn try_from(given: proto::EnrolChallenge) -> Result<Self, FieldDenial> {
        Ok(Self {
            credential_blob: bytes("credential_blob", given.credential_blob, TPM_STRUCTURE_CAP_BYTES)?,
            encrypted_secret: bytes("encrypted_secret", given.encrypted_secret, TPM_STRUCTURE_CAP_BYTES)?,
        })
    }
}

impl TryFrom<proto::EnrolGrant> for EnrolGrant {
    type Error = FieldDenial;

    fn try_from(given: proto::EnrolGrant) -> Result<Self, FieldDenial> {
        let denied = || refuse("policy_authority", "not distinct keys and a threshold they can meet");
        let keys = list("policy_authority_keys", given.policy_authority_keys, 1..=SIGNATURES_CAP, COSE_KEY_CAP_BYTES)?;
        let keys: Option<Vec<_>> = keys.iter().map(|key| evidence::cose::PublicKey::from_cose_key(key).ok()).collect();
        let threshold = u8::try_from(given.policy_authority_threshold).ok().and_then(NonZeroU8::new);
        let (Some(keys), Some(threshold)) = (keys, threshold) else { return Err(denied()) };
        let first = std::iter::once(given.trust_bundle);
        let trust_bundle = first.chain(given.further_trust_bundle).collect();
        Ok(Self {
            client_certificate: bytes("client_certificate", given.client_certificate, PEM_CAP_BYTES)?,
            trust_bundle: list("trust_bundle", trust_bundle, 1..=SIGNATURES_CAP, BUNDLE_CAP_BYTES)?,
            lineage_head: digest("lineage_head", &given.lineage_head)?,
            audience: spiffe_id("audience", given.audience)?,
            authority: Authority::new(keys, threshold.get()).map_err(|_| denied())?,
            lab: given.lab,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_bounded() {
        let identity = || proto::EnrolIdentity {
            node_id: "n1".into(),
            ek_public: vec![1],
            ek_chain: vec![],
            ak_public: vec![1],
            record_key: vec![1],
            csr: vec![1],
            kind: i32::from(proto::Kind::Tpm),
        };
        let read =
            |identity| EnrolRequest::try_from(proto::EnrolRequest { message: Some(Message::Identity(identity)) });
        read(identity()).unwrap();
        for (bent, field) in [
            (proto::EnrolIdentity { node_id: "a b".into(), ..identity() }, "node_id"),
            (proto::EnrolIdentity { ek_public: vec![], ..identity() }, "ek_public"),
            (proto::EnrolIdentity { ek_chain: vec![vec![1]; 7], ..identity() }, "ek_chain"),
            (proto::EnrolIdentity { ek_chain: vec![vec![0; CERTIFICATE_CAP_BYTES + 1]], ..identity() }, "ek_chain"),
            (proto::EnrolIdentity { ek_chain: vec![vec![]], ..identity() }, "ek_chain"),
            (proto::EnrolIdentity { ak_public: vec![0; 2049], ..identity() }, "ak_public"),
            (proto::EnrolIdentity { record_key: vec![0; 257], ..identity() }, "record_key"),
            (proto::EnrolIdentity { csr: vec![0; 4097], ..identity() }, "csr"),
            (proto::EnrolIdentity { kind: 0, ..identity() }, "kind"),
            (proto::EnrolIdentity { kind: i32::from(proto::Kind::Tdx), ..identity() }, "kind"),
        ] {
            assert_eq!(read(bent).unwrap_err().field, field);
        }
    }

    #[test]
    fn every_field_of_a_tee_is_bounded() {
        let read = |message| EnrolRequest::try_from(proto::EnrolRequest { message: Some(message) });
        let kind = i32::from(proto::Kind::SevSnp);
        let platform = || proto::EnrolPlatform { node_id: "n1".into(), kind, record_key: vec![1], csr: vec![1] };
        read(Message::Platform(platform())).unwrap();
        for (bent, field) in [
            (proto::EnrolPlatform { node_id: String::new(), ..platform() }, "node_id"),
            (proto::EnrolPlatform { kind: 0, ..platform() }, "kind"),
            (proto::EnrolPlatform { kind: i32::from(proto::Kind::TpmOnTdx), ..platform() }, "kind"),
            (proto::EnrolPlatform { record_key: vec![], ..platform() }, "record_key"),
            (proto::EnrolPlatform { record_key: vec![0; 257], ..platform() }, "record_key"),
            (proto::EnrolPlatform { csr: vec![0; 4097], ..platform() }, "csr"),
        ] {
            assert_eq!(read(Message::Platform(bent)).unwrap_err().field, field);
        }
        let evidence = |bytes| Message::Evidence(proto::Evidence { cmw: vec![0; bytes] });
        read(evidence(ENROL_EVIDENCE_CAP_BYTES)).unwrap();
        assert_eq!(read(evidence(0)).unwrap_err().field, "cmw");
        assert_eq!(read(evidence(ENROL_EVIDENCE_CAP_BYTES + 1)).unwrap_err().field, "cmw");
    }

    #[test]
    fn a_grant_pins_an_authority_that_can_act() {
        let key = evidence::cose::SigningKey::from_seed(&[1; 32]).unwrap().public().cose_key().to_vec();
        let grant = || proto::EnrolGrant {
            client_certificate: vec![1],
            trust_bundle: vec![1],
            lineage_head: vec![1; 32],
            audience: "spiffe://a.example/verifier".into(),
            policy_authority_keys: vec![key.clone()],
            policy_authority_threshold: 1,
            further_trust_bundle: vec![],
            lab: false,
        };
        EnrolGrant::try_from(grant()).unwrap();
        for bent in [
            proto::EnrolGrant { policy_authority_threshold: 0, ..grant() },
            proto::EnrolGrant { policy_authority_threshold: 2, ..grant() },
            proto::EnrolGrant { policy_authority_threshold: 257, ..grant() },
            proto::EnrolGrant { policy_authority_keys: vec![key.clone(), key.clone()], ..grant() },
            proto::EnrolGrant { policy_authority_keys: vec![vec![1]], ..grant() },
        ] {
            assert_eq!(EnrolGrant::try_from(bent).unwrap_err().field, "policy_authority");
        }
    }
}
