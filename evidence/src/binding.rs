//! The binding: what evidence must carry to answer one challenge on one connection with one key.

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
        cbor::inspect(self.node_key, cbor::Caps::bytes(2048))?;
        let sizes = [LABEL.len(), self.node_key.len(), self.audience.len(), self.ak_name.map_or(0, <[u8]>::len)];
        let mut out = Vec::with_capacity(sizes.iter().fold(192, |all, size| all.saturating_add(*size)));
        let bytes = |value: &[u8], out: &mut Vec<u8>| {
            cbor::write_length(cbor::BYTES, value.len(), out);
            out.extend_from_slice(value);
        };
        let text = |value: &str, out: &mut Vec<u8>| {
            cbor::write_length(cbor::TEXT, value.len(), out);
            out.extend_from_slice(value.as_bytes());
        };
        cbor::write_length(cbor::ARRAY, 9, &mut out);
        text(LABEL, &mut out);
        bytes(self.nonce, &mut out);
        out.extend_from_slice(self.node_key);
        bytes(self.channel, &mut out);
        text(self.audience, &mut out);
        cbor::write_head(cbor::UNSIGNED, self.epoch, &mut out);
        bytes(&self.subject.0, &mut out);
        bytes(&self.lineage_head.0, &mut out);
        match self.ak_name {
            Some(name) => bytes(name, &mut out),
            None => out.push(cbor::NULL),
        }
        Ok(out)
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
    use ciborium::Value;

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
    fn the_preimage_is_the_array_that_it_says_it_is() {
        let key = SigningKey::from_seed(&[9; 32]).unwrap().public().cose_key().to_vec();
        let challenge = Challenge { epoch: 70_000, ..challenge() };
        for ak_name in [None, Some(&b"name"[..])] {
            let node_key: Value = cbor::from_slice(&key, cbor::Caps::bytes(2048)).unwrap();
            let array = Value::Array(vec![
                Value::from(LABEL),
                Value::Bytes(vec![1; 32]),
                node_key,
                Value::Bytes(vec![2; 32]),
                Value::from("spiffe://a.example/verifier"),
                Value::from(70_000),
                Value::Bytes(vec![3; 32]),
                Value::Bytes(vec![4; 32]),
                ak_name.map_or(Value::Null, |name| Value::Bytes(name.to_vec())),
            ]);
            let preimage = Binding::answering(&challenge, &key, ak_name).preimage().unwrap();
            assert_eq!(preimage, cbor::to_vec(&array).unwrap());
        }
        for key in [&b""[..], &[0x01, 0x02], &[0xa2, 0x02, 0x01, 0x01, 0x01], &[0x18, 0x01]] {
            assert!(Binding::answering(&challenge, key, None).preimage().is_err(), "{key:?}");
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
