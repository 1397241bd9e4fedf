//! PCR 4 and PCR 9: what the firmware starts, and what Linux's EFI stub is handed.

use evidence::digest::{Digest, HashAlg};

use super::{PeImage, event, extended, separator};
use crate::compute::{ArtifactError, proposal::ComputedValue};

/// An image that the firmware loads.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// What it is, in words.
    pub name: &'a str,
    /// The image.
    pub image: &'a PeImage<'a>,
}

/// How the kernel is started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boot {
    /// From the first boot option of the firmware, on a disk.
    Disk,
    /// By OVMF, which QEMU handed it (`-kernel`).
    Direct,
}

/// PCR 4 (PFP §3.3.4.5): the attempt to boot and every image that the firmware loads, in order. From a disk the
/// attempt comes first; a kernel that QEMU handed to OVMF is loaded before it.
///
/// QEMU changes the header of a kernel that it hands over (loader type, addresses of command line and initrd), so the
/// value for [`Boot::Direct`] is of a kernel that it leaves as it is.
///
/// # Errors
/// [`ArtifactError::Unknown`] for a bank that no image is hashed for.
pub fn pcr4(alg: HashAlg, boot: Boot, images: &[Image<'_>]) -> Result<ComputedValue, ArtifactError> {
    let action = "Calling EFI Application from Boot Option";
    let attempt = [event("EV_EFI_ACTION", action, alg.hash(&[action.as_bytes()])), separator(alg)];
    let loaded = images
        .iter()
        .map(|Image { name, image }| Ok(event("EV_EFI_BOOT_SERVICES_APPLICATION", *name, image.authenticode(alg)?)))
        .collect::<Result<Vec<_>, ArtifactError>>()?;
    let events = match boot {
        Boot::Disk => attempt.into_iter().chain(loaded).collect(),
        Boot::Direct => loaded.into_iter().chain(attempt).collect(),
    };
    Ok(extended(alg, 4, events))
}

/// What the kernel is handed as its command line: UTF-16 with a NUL, as it is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoadOptions(Vec<u8>);

/// The load options that a command line becomes. OVMF adds the name of the initrd that QEMU handed it.
#[must_use]
pub fn load_options(boot: Boot, cmdline: &str, has_initrd: bool) -> LoadOptions {
    let added = match boot {
        Boot::Direct if has_initrd => " initrd=initrd",
        Boot::Direct | Boot::Disk => "",
    };
    let units = cmdline.encode_utf16().chain(added.encode_utf16()).chain([0]);
    LoadOptions(units.flat_map(u16::to_le_bytes).collect())
}

/// PCR 9 as Linux's EFI stub measures it (Linux, `efi-stub-helper.c`, since 6.1): the load options where there are
/// any, and the initrd as one piece.
#[must_use]
pub fn pcr9(alg: HashAlg, options: Option<&LoadOptions>, initrd: Option<Digest>) -> ComputedValue {
    let options = options.map(|options| event("EV_EVENT_TAG", "LOADED_IMAGE::LoadOptions", alg.hash(&[&options.0])));
    let initrd = initrd.map(|digest| event("EV_EVENT_TAG", "Linux initrd", digest));
    extended(alg, 9, options.into_iter().chain(initrd).collect())
}
