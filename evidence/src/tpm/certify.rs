//! The node key: an object of the AK's TPM, certified by the AK, usable only in the quoted state (T10).

use super::{
    pcr::{PcrSet, PcrValues, policy_pcr_digest},
    public::{Name, Public},
    signature::VerifyingKey,
    template::node_key_template,
};
use crate::{
    EvidenceDenial, cose,
    digest::{Digest, Sha256Digest},
};

/// A node key with the template required, certified by one AK. Made only by [`CertifiedNodeKey::verify`].
///
/// It says nothing about the present: the quote does, by naming the key in its binding. So it may be kept and
/// spares a signature verification while the node sends the same bytes.
#[derive(Clone, Debug)]
pub struct CertifiedNodeKey {
    /// Over AK Name, public area, certification and signature.
    digest: Sha256Digest,
    name: Name,
    point: Vec<u8>,
    cose_key: Vec<u8>,
    policy: Digest,
}

impl CertifiedNodeKey {
    /// Verifies that the AK of this Name and key certified `public` (TPM2B_PUBLIC), and its template.
    ///
    /// # Errors
    /// Denials of the structures and of the signature; [`EvidenceDenial::NodeKeyTemplate`];
    /// [`EvidenceDenial::NodeKeyNotCertified`] when another object was certified.
    pub fn verify(
        public: &[u8],
        attest: &[u8],
        signature: &[u8],
        ak_name: &Name,
        ak: &VerifyingKey,
    ) -> Result<Self, EvidenceDenial> {
        let digest = Self::digest_of(public, attest, signature, ak_name);
        let signed = ak.verify(attest, signature)?;
        let certified = signed.attest().certification()?;
        let public = Public::read(public)?;
        let name = public.name();
        if !name.is(certified.name) {
            let certified = hex::encode(certified.name);
            return Err(EvidenceDenial::NodeKeyNotCertified { certified, got: name.to_string() });
        }
        node_key_template(&public)?;
        let unusable = EvidenceDenial::KeyUnusable { what: "not a point of the curve" };
        let point = public.key.uncompressed_point().ok_or_else(|| unusable.clone())?;
        // parsing as a verification key proves the point to be on the curve before anything is sealed to it
        cose::PublicKey::p256(&point).map_err(|_| unusable.clone())?;
        let cose_key = cose::p256_cose_key(&point).map_err(|_| unusable)?;
        let policy = Digest::from_bytes(public.name_alg, public.auth_policy)
            .ok_or(EvidenceDenial::NodeKeyTemplate { what: "authPolicy of nameAlg's length" })?;
        Ok(Self { digest, name, point, cose_key, policy })
    }

    /// Was this made from exactly these bytes and this AK?
    #[must_use]
    pub fn is_of(&self, public: &[u8], attest: &[u8], signature: &[u8], ak_name: &Name) -> bool {
        self.digest == Self::digest_of(public, attest, signature, ak_name)
    }

    fn digest_of(public: &[u8], attest: &[u8], signature: &[u8], ak_name: &Name) -> Sha256Digest {
        Sha256Digest::labelled("attestd/node-key/1", &[&ak_name.to_bytes(), public, attest, signature])
    }

    /// Judges that the key opens only while the PCRs `pcrs` have the quoted `values`.
    ///
    /// # Errors
    /// [`EvidenceDenial::NodeKeyPolicy`] when its policy is another.
    pub fn opens_only_at(&self, values: &PcrValues, pcrs: PcrSet) -> Result<(), EvidenceDenial> {
        let expected = policy_pcr_digest(values, pcrs, self.policy.alg());
        if expected == Some(self.policy) {
            return Ok(());
        }
        let expected =
            expected.map_or_else(|| "none: a PCR of its policy was not quoted".to_owned(), |d| d.to_string());
        Err(EvidenceDenial::NodeKeyPolicy { got: self.policy.to_string(), expected })
    }

    /// Its Name.
    #[must_use]
    pub const fn name(&self) -> &Name {
        &self.name
    }

    /// Its point, uncompressed: the HPKE recipient key of DHKEM(P-256) (RFC 9180 §7.1.1).
    #[must_use]
    pub fn point(&self) -> &[u8] {
        &self.point
    }

    /// Its deterministic COSE_Key: the form it has in the binding.
    #[must_use]
    pub fn cose_key(&self) -> &[u8] {
        &self.cose_key
    }
}
