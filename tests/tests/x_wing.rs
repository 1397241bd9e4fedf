//! What a verifier seals for a TEE's node key opens in the node, and nowhere else.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use attestd::tee::node_key::{XWingKey, XWingKeyError};
use attestd::tpm::hpke::SealedMessage;
use evidence::names::ItemName;
use verifier::wrap::{Recipient, to_node_key};
use wire::protocol::{EXECUTION_KEY_INFO, execution_key_aad};

const ARTIFACT: [u8; 16] = [3; 16];
const SECRET: &[u8] = b"a secret of thirty-two bytes....";

fn sealed(to: &XWingKey, artifact: &[u8; 16], name: &str) -> SealedMessage {
    let name = ItemName::new(name).unwrap();
    let wrapped = to_node_key(Recipient::Tee(to.public()), &ARTIFACT, &name, SECRET).unwrap();
    assert_eq!(wrapped.suite(), wire::proto::HpkeSuite::XWing);
    SealedMessage {
        encapsulated: wrapped.encapsulated,
        sealed: wrapped.sealed,
        info: EXECUTION_KEY_INFO.to_vec(),
        aad: execution_key_aad(artifact, name.as_str()),
    }
}

#[test]
fn both_ends_agree() {
    let (key, other) = (XWingKey::generate().unwrap(), XWingKey::generate().unwrap());
    let message = sealed(&key, &ARTIFACT, "ledger");
    assert_eq!(key.open(&message).unwrap().as_slice(), SECRET);
    assert_eq!(other.open(&message), Err(XWingKeyError::NotForThisKey));
    let of_another_artifact = sealed(&key, &[4; 16], "ledger");
    assert_eq!(key.open(&of_another_artifact), Err(XWingKeyError::NotForThisKey));
    let again = sealed(&key, &ARTIFACT, "ledger");
    assert_ne!(again.encapsulated, message.encapsulated, "each sealing draws its own randomness");
}
