//! Hashes of a kernel, its initrd and its command line, as QEMU puts them into a page of the guest for the firmware to
//! compare with (QEMU, `target/i386/sev.c`, `PaddedSevHashTable`; edk2, `BlobVerifierSevHashes.c`).

use evidence::digest::{HashAlg, Sha256Digest};

use crate::compute::{ArtifactError, ovmf::PAGE_BYTES};

/// 9438d606-4f22-4cc9-b479-a793d411fd21
const TABLE: [u8; 16] =
    [0x06, 0xd6, 0x38, 0x94, 0x22, 0x4f, 0xc9, 0x4c, 0xb4, 0x79, 0xa7, 0x93, 0xd4, 0x11, 0xfd, 0x21];
/// 4de79437-abd2-427f-b835-d5b172d2045b
const KERNEL: [u8; 16] =
    [0x37, 0x94, 0xe7, 0x4d, 0xd2, 0xab, 0x7f, 0x42, 0xb8, 0x35, 0xd5, 0xb1, 0x72, 0xd2, 0x04, 0x5b];
/// 44baf731-3a2f-4bd7-9af1-41e29169781d
const INITRD: [u8; 16] =
    [0x31, 0xf7, 0xba, 0x44, 0x2f, 0x3a, 0xd7, 0x4b, 0x9a, 0xf1, 0x41, 0xe2, 0x91, 0x69, 0x78, 0x1d];
/// 97d02dd8-bd20-4c94-aa78-e7714d36ab2a
const CMDLINE: [u8; 16] =
    [0xd8, 0x2d, 0xd0, 0x97, 0x20, 0xbd, 0x94, 0x4c, 0xaa, 0x78, 0xe7, 0x71, 0x4d, 0x36, 0xab, 0x2a];

/// GUID, length (u16) and SHA-256.
const ENTRY_BYTES: u16 = 50;
/// GUID, length (u16) and three entries.
const UNPADDED_BYTES: u16 = 168;

/// SHA-256 of what is handed to the firmware to boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KernelHashes {
    kernel: Sha256Digest,
    initrd: Sha256Digest,
    cmdline: Sha256Digest,
}

impl KernelHashes {
    /// Length of the table, padded to a multiple of 16.
    pub(super) const TABLE_BYTES: usize = 176;

    /// From the SHA-256 of the kernel's file and of the initrd's, and the command line as it is given to QEMU's
    /// `-append`, to the last blank. No initrd is hashed like an empty one, as QEMU does.
    #[must_use]
    pub fn new(kernel: Sha256Digest, initrd: Option<Sha256Digest>, cmdline: &str) -> Self {
        let initrd = initrd.unwrap_or_else(|| Sha256Digest::of(&[]));
        Self { kernel, initrd, cmdline: Sha256Digest::concat(&[cmdline.as_bytes(), &[0]]) }
    }

    /// A page with the table at `offset`.
    pub(super) fn page(&self, offset: usize) -> Result<Vec<u8>, ArtifactError> {
        let too_far =
            || ArtifactError::Malformed { structure: "area for kernel hashes", offset, what: "leaves its page" };
        let mut page = vec![0; PAGE_BYTES];
        let end = offset.checked_add(Self::TABLE_BYTES).ok_or_else(too_far)?;
        page.get_mut(offset..end).ok_or_else(too_far)?.copy_from_slice(&self.table());
        Ok(page)
    }

    fn table(&self) -> Vec<u8> {
        let mut table = Vec::with_capacity(Self::TABLE_BYTES);
        table.extend(TABLE);
        table.extend(UNPADDED_BYTES.to_le_bytes());
        for (guid, hash) in [(CMDLINE, self.cmdline), (INITRD, self.initrd), (KERNEL, self.kernel)] {
            table.extend(guid);
            table.extend(ENTRY_BYTES.to_le_bytes());
            table.extend(hash.as_bytes());
        }
        table.resize(Self::TABLE_BYTES, 0);
        table
    }
}

const _: () = assert!(HashAlg::Sha256.len() == 32, "an entry has 50 bytes");
