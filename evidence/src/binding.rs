//! The binding: what evidence must carry to answer one challenge on one connection with one key.

use ciborium::Value;

use crate::{
    cbor,
    cbor::CborError,
    challenge::Challenge,
    digest::{HashAlg, Sha256Digest},
};

/// First element of the preimage: names this construction and its version.
pub const LABEL: &str = "attestd/binding/1";

/// Everything that one piece of evidence is tied to.
#[derive(Clone, Copy, Debug)]
pub struct Binding<'a> {
    /// The verifier's nonce.
    pub nonce: &'a [u8; 32],
    /// Deterministic COSE_Key of the node key.
    pub node_key: &'a [u8],
    /// TLS 1.3 exporter value of the connection.
    pub channel: &'a [u8; 32],
    /// The verifier's SPIFFE ID.
    pub audience: &'a str,
    /// The verifier's governance epoch.
    pub epoch: u64,
    /// Digest of the intent or of the sorted live artifact digests.
    pub subject: &'a Sha256Digest,
    /// Newest record of the node's lineage.
    pub lineage_head: &'a Sha256Digest,
    /// Name of the AK for TPM evidence; none for a TEE without a TPM.
    pub ak_name: Option<&'a [u8]>,
}

impl<'a> Binding<'a> {
    /// The binding that answers `challenge` with this node key and AK.
    #[must_use]
    pub fn answering(challenge: &'a Challenge, node_key: &'a [u8], ak_name: Option<&'a [u8]>) -> Self {
        Self {
            nonce: &challenge.nonce,
            node_key,
            channel: &challenge.channel,
            audience: &challenge.audience,
            epoch: challenge.epoch,
            subject: &challenge.subject,
            lineage_head: &challenge.lineage_head,
            ak_name,
        }
    }

    /// Deterministic CBOR array `["attestd/binding/1", nonce, node_key, channel, audience, epoch, subject,
    /// lineage_head, ak_name or null]`. The node key stands as its COSE_Key map.
    ///
    /// # Errors
    /// [`CborError`] when the node key is not deterministic CBOR.
    pub fn preimage(&self) -> Result<Vec<u8>, CborError> {
        let node_key: Value = cbor::from_slice(self.node_key, cbor::Caps::bytes(2048))?;
        cbor::to_vec(&Value::Array(vec![
            Value::from(LABEL),
            Value::Bytes(self.nonce.to_vec()),
            node_key,
            Value::Bytes(self.channel.to_vec()),
            Value::from(self.audience),
            Value::from(self.epoch),
            Value::Bytes(self.subject.0.to_vec()),
            Value::Bytes(self.lineage_head.0.to_vec()),
            self.ak_name.map_or(Value::Null, |name| Value::Bytes(name.to_vec())),
        ]))
    }

    /// The qualifying data of a TPM quote: SHA-256 of the preimage.
    ///
    /// # Errors
    /// [`CborError`] as for [`Binding::preimage`].
    pub fn qualifying_data(&self) -> Result<[u8; 32], CborError> {
        Ok(Sha256Digest::of(&self.preimage()?).0)
    }

    /// The report data of an SNP report or a TDX quote: SHA-512 of the preimage, all 64 bytes.
    ///
    /// # Errors
    /// [`CborError`] as for [`Binding::preimage`].
    pub fn report_data(&self) -> Result<[u8; 64], CborError> {
        let digest = HashAlg::Sha512.hash(&[&self.preimage()?]);
        let mut out = [0u8; 64];
        out.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
        Ok(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        challenge::{Demands, TpmDemands},
        cose::SigningKey,
        time::UnixSeconds,
    };

    fn challenge() -> Challenge {
        Challenge {
            nonce: [1; 32],
            channel: [2; 32],
            audience: "spiffe://a.example/verifier".into(),
            epoch: 7,
            subject: Sha256Digest([3; 32]),
            lineage_head: Sha256Digest([4; 32]),
            issued_at: UnixSeconds(100),
            expires_at: UnixSeconds(110),
            demands: Demands::Tpm(TpmDemands {
                pcr_bank: HashAlg::Sha256,
                pcrs: vec![0],
                node_key_pcrs: vec![0],
                event_log: true,
                ima_log: false,
            }),
        }
    }

    #[test]
    fn every_part_changes_the_binding() {
        let key = SigningKey::from_seed(&[9; 32]).unwrap().public().cose_key().to_vec();
        let other_key = SigningKey::from_seed(&[8; 32]).unwrap().public().cose_key().to_vec();
        let base = challenge();
        let reference = Binding::answering(&base, &key, Some(b"name")).qualifying_data().unwrap();
        let variants = [
            Challenge { nonce: [9; 32], ..base.clone() },
            Challenge { channel: [9; 32], ..base.clone() },
            Challenge { audience: "spiffe://b.example/verifier".into(), ..base.clone() },
            Challenge { epoch: 8, ..base.clone() },
            Challenge { subject: Sha256Digest([9; 32]), ..base.clone() },
            Challenge { lineage_head: Sha256Digest([9; 32]), ..base.clone() },
        ];
        for (n, variant) in variants.iter().enumerate() {
            assert_ne!(Binding::answering(variant, &key, Some(b"name")).qualifying_data().unwrap(), reference, "{n}");
        }
        assert_ne!(Binding::answering(&base, &other_key, Some(b"name")).qualifying_data().unwrap(), reference);
        assert_ne!(Binding::answering(&base, &key, None).qualifying_data().unwrap(), reference);
        assert_ne!(Binding::answering(&base, &key, Some(b"nam")).report_data().unwrap()[..32], reference);
    }
}
