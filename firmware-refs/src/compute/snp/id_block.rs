//! The ID block of a guest and what authenticates it (AMD 56860, §8.18 SNP_LAUNCH_FINISH, ID block and ID
//! authentication information): the owner's statement which launch is hers.

use aws_lc_rs::signature::{ECDSA_P384_SHA384_FIXED, UnparsedPublicKey};
use evidence::digest::{Digest, HashAlg};

use crate::compute::{ArtifactError, bytes::Structure};

/// Length of an ID block.
pub const ID_BLOCK_BYTES: usize = 96;
/// Length of the ID authentication information.
pub const ID_AUTH_BYTES: usize = 4096;
/// The only version of an ID block.
const VERSION: u32 = 1;
/// ECDSA P-384 with SHA-384, the only algorithm of ID and author key.
const ALGORITHM: u32 = 1;
/// Curve of a key: P-384.
const P384: u32 = 2;
/// A public key: curve, x, y (72 bytes each, little-endian) and padding.
const KEY_BYTES: usize = 0x404;
/// Of a coordinate or half a signature.
const NUMBER_BYTES: usize = 72;
const P384_BYTES: usize = 48;

/// What the owner of a guest says of its launch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdBlock {
    /// Launch digest; the firmware refuses to start a guest that has another.
    pub launch_digest: Digest,
    /// FAMILY_ID.
    pub family_id: [u8; 16],
    /// IMAGE_ID.
    pub image_id: [u8; 16],
    /// GUEST_SVN.
    pub guest_svn: u32,
    /// POLICY.
    pub policy: u64,
}

impl IdBlock {
    /// Reads a block.
    ///
    /// # Errors
    /// [`ArtifactError::Malformed`].
    pub fn parse(bytes: &[u8]) -> Result<Self, ArtifactError> {
        let block = Structure::new("ID block", 0, bytes);
        if bytes.len() != ID_BLOCK_BYTES {
            return Err(block.malformed(bytes.len(), "is not 96 bytes"));
        }
        if block.u32(80)? != VERSION {
            return Err(block.malformed(80, "only version 1 is known"));
        }
        let launch_digest = Digest::from_bytes(HashAlg::Sha384, block.take(0, 48)?);
        Ok(Self {
            launch_digest: launch_digest.ok_or_else(|| block.malformed(0, "ends early"))?,
            family_id: block.array(48)?,
            image_id: block.array(64)?,
            guest_svn: block.u32(84)?,
            policy: block.u64(88)?,
        })
    }

    /// The block as the firmware takes it, and as it is signed.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbers = [VERSION.to_le_bytes(), self.guest_svn.to_le_bytes()];
        [
            self.launch_digest.as_bytes(),
            &self.family_id,
            &self.image_id,
            numbers.as_flattened(),
            &self.policy.to_le_bytes(),
        ]
        .concat()
    }

    /// The block is for the launch that was calculated.
    ///
    /// # Errors
    /// [`ArtifactError::Differs`].
    pub fn is_for(&self, launch_digest: Digest) -> Result<(), ArtifactError> {
        if self.launch_digest == launch_digest {
            return Ok(());
        }
        let (stated, calculated) = (self.launch_digest.hex(), launch_digest.hex());
        Err(ArtifactError::Differs { what: "the ID block", stated, calculated })
    }
}

/// Who signed an ID block, as reports name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdAuth {
    /// ID_KEY_DIGEST.
    pub id_key: Digest,
    /// AUTHOR_KEY_DIGEST, where an author signed the ID key.
    pub author_key: Option<Digest>,
}

impl IdAuth {
    /// Reads the authentication information and verifies that its ID key signed `block`, and its author key, if there
    /// is one, the ID key.
    ///
    /// # Errors
    /// [`ArtifactError::Malformed`], [`ArtifactError::SignatureInvalid`].
    pub fn verify(bytes: &[u8], block: &IdBlock) -> Result<Self, ArtifactError> {
        let auth = Structure::new("ID authentication information", 0, bytes);
        if bytes.len() != ID_AUTH_BYTES {
            return Err(auth.malformed(bytes.len(), "is not 4096 bytes"));
        }
        if auth.u32(0)? != ALGORITHM {
            return Err(auth.malformed(0, "the ID key is not of ECDSA P-384 with SHA-384"));
        }
        let id_key = auth.part("ID key", 0x240, KEY_BYTES)?;
        verify(&id_key, auth.part("ID block signature", 0x40, 512)?, &block.to_bytes(), "the ID block")?;
        let author_key = auth.part("author key", 0x880, KEY_BYTES)?;
        let author_key = if author_key.bytes().iter().all(|byte| *byte == 0) {
            None
        } else {
            if auth.u32(4)? != ALGORITHM {
                return Err(auth.malformed(4, "the author key is not of ECDSA P-384 with SHA-384"));
            }
            let signature = auth.part("ID key signature", 0x680, 512)?;
            verify(&author_key, signature, id_key.bytes(), "the ID key")?;
            Some(HashAlg::Sha384.hash(&[author_key.bytes()]))
        };
        Ok(Self { id_key: HashAlg::Sha384.hash(&[id_key.bytes()]), author_key })
    }
}

fn verify(
    key: &Structure<'_>,
    signature: Structure<'_>,
    signed: &[u8],
    what: &'static str,
) -> Result<(), ArtifactError> {
    if key.u32(0)? != P384 {
        return Err(key.malformed(0, "is not on P-384"));
    }
    let point = [&[4][..], &big_endian(key, 4)?, &big_endian(key, 76)?].concat();
    let numbers = [big_endian(&signature, 0)?, big_endian(&signature, NUMBER_BYTES)?].concat();
    UnparsedPublicKey::new(&ECDSA_P384_SHA384_FIXED, point)
        .verify(signed, &numbers)
        .map_err(|_| ArtifactError::SignatureInvalid { what })
}

/// A little-endian number of 72 bytes that fits P-384, most significant byte first.
fn big_endian(structure: &Structure<'_>, offset: usize) -> Result<Vec<u8>, ArtifactError> {
    let number = structure.take(offset, NUMBER_BYTES)?;
    let (low, high) = number.split_at_checked(P384_BYTES).unwrap_or((number, &[]));
    if high.iter().any(|byte| *byte != 0) {
        return Err(structure.malformed(offset, "a number is longer than 384 bits"));
    }
    Ok(low.iter().rev().copied().collect())
}
