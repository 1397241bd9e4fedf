//! What a lookup answers with.

use evidence::digest::Sha256Digest;
use policy::ear::EndorsementUsed;

use super::document::Document;
use super::key::EndorsementKey;
use super::recognise::{Recognised, Window};
use super::table::{Provenance, Stored};

/// One endorsement, as it is offered to appraisal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endorsement {
    /// What it is about.
    pub key: EndorsementKey,
    /// Certificate or list (DER), or signed text with its chain.
    pub document: Document,
    /// SHA-256 of [`Endorsement::bytes`].
    pub digest: Sha256Digest,
    /// The bytes that it is stored, exchanged and named by.
    pub bytes: Vec<u8>,
    /// When it speaks.
    pub window: Window,
    /// How it was come by.
    pub provenance: Provenance,
    /// Seconds from its issue to the time judged at.
    pub age_s: u64,
}

impl Endorsement {
    /// DER of a certificate or a list; nothing for signed text.
    #[must_use]
    pub fn der(&self) -> &[u8] {
        match &self.document {
            Document::Der(der) => der,
            Document::Signed(_) => &[],
        }
    }

    /// What the decision record and the Attestation Result say of it.
    #[must_use]
    pub fn used(&self) -> EndorsementUsed {
        EndorsementUsed { kind: self.key.kind().to_owned(), digest: self.digest, age_s: self.age_s }
    }
}

/// What an SNP report is judged by.
#[derive(Debug, Clone)]
pub struct SnpDocuments {
    /// VCEK or VLEK.
    pub leaf: Endorsement,
    /// ASK or ASVK.
    pub intermediate: Endorsement,
    /// ARK.
    pub root: Endorsement,
    /// Revocation list of the ARK.
    pub crl: Endorsement,
}

impl SnpDocuments {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> [&Endorsement; 4] {
        [&self.leaf, &self.intermediate, &self.root, &self.crl]
    }
}

/// What a TD quote is judged by.
#[derive(Debug, Clone)]
pub struct TdxDocuments {
    /// TCB info.
    pub tcb_info: Endorsement,
    /// Identity of the quoting enclave.
    pub qe_identity: Endorsement,
    /// Intel's root.
    pub root: Endorsement,
    /// Revocation list of the root.
    pub root_crl: Endorsement,
    /// Issuer of the PCK certificate.
    pub pck_ca: Endorsement,
    /// Revocation list of that issuer.
    pub pck_crl: Endorsement,
}

impl TdxDocuments {
    /// All of them.
    #[must_use]
    pub fn all(&self) -> [&Endorsement; 6] {
        [&self.tcb_info, &self.qe_identity, &self.root, &self.root_crl, &self.pck_ca, &self.pck_crl]
    }
}

impl Stored {
    pub(super) fn offered(&self, age_s: u64) -> Option<Endorsement> {
        let Recognised { key, window, digest, bytes } = self.endorsement.clone();
        let document = Document::from_bytes(&bytes).ok()?;
        Some(Endorsement { key, document, digest, bytes, window, provenance: self.provenance.clone(), age_s })
    }
}
