//! One measurement, and the template data that its hash is made over.

use std::borrow::Cow;

use super::{IMA_PCR, replay::ImaBankForm};
use crate::{
    denial::EvidenceDenial,
    digest::{Digest, HashAlg},
};

/// Room for a name in the oldest template (IMA_EVENT_NAME_LEN_MAX and its NUL).
const OLD_NAME_BYTES: usize = 256;
/// Room for a digest in the oldest template (IMA_DIGEST_SIZE).
const OLD_DIGEST_BYTES: usize = 20;

/// Template descriptors of the kernel (ima_template.c) that lists are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Template {
    /// `ima`: d|n, a fixed layout.
    Ima,
    /// `ima-ng`: d-ng|n-ng.
    ImaNg,
    /// `ima-sig`: d-ng|n-ng|sig.
    ImaSig,
    /// `ima-buf`: d-ng|n-ng|buf.
    ImaBuf,
    /// `ima-ngv2`: d-ngv2|n-ng.
    ImaNgV2,
    /// `ima-sigv2`: d-ngv2|n-ng|sig.
    ImaSigV2,
}

impl Template {
    const ALL: [(Self, &'static str); 6] = [
        (Self::Ima, "ima"),
        (Self::ImaNg, "ima-ng"),
        (Self::ImaSig, "ima-sig"),
        (Self::ImaBuf, "ima-buf"),
        (Self::ImaNgV2, "ima-ngv2"),
        (Self::ImaSigV2, "ima-sigv2"),
    ];

    /// The template of this name.
    #[must_use]
    pub fn from_name(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, known)| known.as_bytes() == name).map(|(template, _)| template)
    }

    /// Its name in lists.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ima => "ima",
            Self::ImaNg => "ima-ng",
            Self::ImaSig => "ima-sig",
            Self::ImaBuf => "ima-buf",
            Self::ImaNgV2 => "ima-ngv2",
            Self::ImaSigV2 => "ima-sigv2",
        }
    }

    /// Whether entries have a third field: a signature or the measured buffer.
    pub(super) const fn has_extra(self) -> bool {
        matches!(self, Self::ImaSig | Self::ImaBuf | Self::ImaSigV2)
    }

    /// Whether the digest names its kind (`ima`, `verity`) before its algorithm.
    pub(super) const fn has_digest_kind(self) -> bool {
        matches!(self, Self::ImaNgV2 | Self::ImaSigV2)
    }
}

/// The digest of a measured file as an entry gives it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileDigest<'a> {
    /// What stands before the digest: `sha256`, or `verity:sha256`. Empty in the oldest template.
    pub(super) prefix: &'a str,
    pub(super) bytes: Cow<'a, [u8]>,
}

impl<'a> FileDigest<'a> {
    /// Admits a digest if its algorithm is one of the kernel's (crypto/hash_info.c) and the length is its length.
    pub(super) fn new(template: Template, prefix: &'a str, bytes: Cow<'a, [u8]>) -> Result<Self, &'static str> {
        let expected = match (template, prefix.split_once(':')) {
            (Template::Ima, _) => Some(OLD_DIGEST_BYTES),
            (_, Some(("ima" | "verity", alg))) if template.has_digest_kind() => kernel_hash_bytes(alg),
            (_, None) if !template.has_digest_kind() => kernel_hash_bytes(prefix),
            (_, _) => return Err("digest kind is not known"),
        };
        match expected {
            Some(length) if length == bytes.len() => Ok(Self { prefix, bytes }),
            Some(_) => Err("digest is not of its algorithm's length"),
            None => Err("digest algorithm is not known"),
        }
    }

    /// Name of the algorithm alone.
    pub(super) fn alg_name(&self) -> &'a str {
        match self.prefix.rsplit_once(':') {
            Some((_, alg)) => alg,
            None if self.prefix.is_empty() => "sha1",
            None => self.prefix,
        }
    }
}

fn kernel_hash_bytes(name: &str) -> Option<usize> {
    match name {
        "md4" | "md5" | "rmd128" => Some(16),
        "sha1" | "rmd160" => Some(20),
        "sha224" => Some(28),
        "sha256" | "sm3" | "sm3-256" | "rmd256" | "wp256" | "streebog256" | "sha3-256" | "tgr256" => Some(32),
        "rmd320" => Some(40),
        "sha384" | "wp384" | "sha3-384" => Some(48),
        "sha512" | "wp512" | "streebog512" | "sha3-512" => Some(64),
        _ => None,
    }
}

/// One measurement of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImaEntry<'a> {
    pub(super) index: usize,
    pub(super) pcr: u32,
    pub(super) template_hash: Digest,
    pub(super) template: Template,
    pub(super) digest: FileDigest<'a>,
    pub(super) path: &'a [u8],
    /// Signature or buffer; empty when the entry has none.
    pub(super) extra: Cow<'a, [u8]>,
}

impl ImaEntry<'_> {
    /// Position in the list, from 0.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// The register it was extended into.
    #[must_use]
    pub const fn pcr(&self) -> u32 {
        self.pcr
    }

    /// Its template.
    #[must_use]
    pub const fn template(&self) -> Template {
        self.template
    }

    /// The hash of its template data as the list gives it: SHA-1 unless a list of another bank was read.
    #[must_use]
    pub const fn template_hash(&self) -> &Digest {
        &self.template_hash
    }

    /// The measured file's digest, as `algorithm:hexadecimal`.
    #[must_use]
    pub fn file_digest(&self) -> String {
        let prefix = if self.digest.prefix.is_empty() { self.digest.alg_name() } else { self.digest.prefix };
        format!("{prefix}:{}", hex::encode(&self.digest.bytes))
    }

    /// The measured file's digest, when it is of an algorithm that we compute.
    #[must_use]
    pub fn known_file_digest(&self) -> Option<Digest> {
        Digest::from_bytes(HashAlg::from_name(self.digest.alg_name())?, &self.digest.bytes)
    }

    /// The measured file's name as it stands: any bytes but NUL.
    #[must_use]
    pub const fn path(&self) -> &[u8] {
        self.path
    }

    /// The measured file's name in printable ASCII, for people.
    #[must_use]
    pub fn path_escaped(&self) -> String {
        self.path.escape_ascii().take(200).map(char::from).collect()
    }

    /// The file's signature (security.ima), if the template carries one and the file has one.
    #[must_use]
    pub fn signature(&self) -> Option<&[u8]> {
        let carries = matches!(self.template, Template::ImaSig | Template::ImaSigV2);
        Some(self.extra.as_ref()).filter(|signature| carries && !signature.is_empty())
    }

    /// Whether it is the digest of the boot registers that a kernel measures first.
    #[must_use]
    pub fn is_boot_aggregate(&self) -> bool {
        self.path == b"boot_aggregate"
    }

    /// Whether the kernel recorded that it could not measure what was used (a zero hash; PCR 10 gets all ones).
    #[must_use]
    pub fn is_violation(&self) -> bool {
        self.template_hash == Digest::zero(self.template_hash.alg())
    }

    pub(super) fn verify(&self) -> Result<(), EvidenceDenial> {
        if self.pcr != IMA_PCR {
            return Err(EvidenceDenial::ImaRegister { entry: self.index, got: self.pcr });
        }
        if self.is_violation() {
            return Err(EvidenceDenial::ImaViolation { entry: self.index, path: self.path_escaped() });
        }
        let got = self.template_data_hash(self.template_hash.alg());
        if got != self.template_hash {
            let (got, recorded) = (Box::new(got), Box::new(self.template_hash));
            return Err(EvidenceDenial::ImaTemplateMismatch { entry: self.index, got, recorded });
        }
        Ok(())
    }

    /// PCR 10 after this entry (ima_queue.c, ima_add_template_entry and ima_pcr_extend).
    pub(super) fn extend(&self, value: &Digest, form: ImaBankForm) -> Digest {
        let alg = value.alg();
        if self.is_violation() {
            return value.extend([0xff; 64].get(..alg.len()).unwrap_or(&[]));
        }
        if self.template_hash.alg() == alg {
            return value.extend(self.template_hash.as_bytes());
        }
        match form {
            ImaBankForm::ZeroPadded => {
                let mut padded = [0u8; 64];
                for (to, from) in padded.iter_mut().zip(self.template_hash.as_bytes()) {
                    *to = *from;
                }
                value.extend(padded.get(..alg.len()).unwrap_or(&[]))
            }
            ImaBankForm::Rehashed => value.extend(self.template_data_hash(alg).as_bytes()),
        }
    }

    /// Hash of the template data (ima_crypto.c, ima_calc_field_array_hash_tfm; the little-endian
    /// "canonical" form of lengths).
    pub(super) fn template_data_hash(&self, alg: HashAlg) -> Digest {
        if self.template == Template::Ima {
            let padding = [0u8; OLD_NAME_BYTES];
            let padding = padding.get(self.path.len()..).unwrap_or(&[]);
            return alg.hash(&[&self.digest.bytes, self.path, padding]);
        }
        let digest_field = [self.digest.prefix.len(), 2, self.digest.bytes.len()];
        let digest_length = length_le(&digest_field);
        let path_length = length_le(&[self.path.len(), 1]);
        let extra_length = length_le(&[self.extra.len()]);
        let fields: [&[u8]; 9] = [
            &digest_length,
            self.digest.prefix.as_bytes(),
            b":\0",
            &self.digest.bytes,
            &path_length,
            self.path,
            b"\0",
            &extra_length,
            &self.extra,
        ];
        alg.hash(if self.template.has_extra() { &fields } else { fields.get(..7).unwrap_or(&[]) })
    }
}

fn length_le(parts: &[usize]) -> [u8; 4] {
    let sum = parts.iter().fold(0usize, |sum, part| sum.saturating_add(*part));
    u32::try_from(sum).unwrap_or(u32::MAX).to_le_bytes()
}

/// Most bytes of a path in the oldest template: its NUL must fit too.
pub(super) const OLD_PATH_CAP_BYTES: usize = OLD_NAME_BYTES - 1;
