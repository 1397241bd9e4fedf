//! Reading of this crate's own forms: deterministic CBOR that is the only encoding of its value.

use evidence::cbor::{self, Caps};
use serde::{Serialize, de::DeserializeOwned};

/// Reads a value and refuses any other encoding of it: serde takes a byte string for a field name, say, and a file that
/// can be written in two ways has bytes that nobody vouches for.
pub(crate) fn read<T: Serialize + DeserializeOwned>(bytes: &[u8], caps: Caps) -> Result<T, String> {
    let value: T = cbor::from_slice(bytes, caps).map_err(|cause| cause.to_string())?;
    let again = cbor::to_vec(&value).map_err(|cause| cause.to_string())?;
    if again == bytes { Ok(value) } else { Err("not the encoding of its own value".to_owned()) }
}
