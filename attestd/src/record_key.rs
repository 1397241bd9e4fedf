//! The record key: Ed25519 in the state directory. It signs intents, halt and end records and is the key of the TLS
//! client certificate; the AK vouches for it at enrolment. It outlives a lost TPM, so that a halt can still be reported.

use aws_lc_rs::rand::{SecureRandom as _, SystemRandom};
use evidence::cose::SigningKey;
use zeroize::Zeroizing;

use crate::state::{StateDir, StateError};

const FILE: &str = "record.key";

/// Loads the record key, `None` before the first enrolment.
///
/// # Errors
/// [`StateError`], also if others could have read it.
pub fn load(state: &StateDir) -> Result<Option<SigningKey>, StateError> {
    let Some(document) = state.read_secret(FILE)? else { return Ok(None) };
    SigningKey::from_pkcs8(&document).map(Some).map_err(|denial| malformed(state, &denial))
}

/// Loads the record key, or makes and saves one.
///
/// # Errors
/// [`StateError`].
pub fn load_or_create(state: &StateDir) -> Result<SigningKey, StateError> {
    if let Some(key) = load(state)? {
        return Ok(key);
    }
    let mut seed = Zeroizing::new([0u8; 32]);
    SystemRandom::new().fill(seed.as_mut_slice()).map_err(|_| malformed(state, &"the system gives no randomness"))?;
    let key = SigningKey::from_seed(&seed).map_err(|denial| malformed(state, &denial))?;
    state.write(FILE, &key.to_pkcs8().map_err(|denial| malformed(state, &denial))?)?;
    Ok(key)
}

fn malformed(state: &StateDir, why: &dyn std::fmt::Display) -> StateError {
    StateError::Malformed { path: state.join(FILE), why: why.to_string() }
}
