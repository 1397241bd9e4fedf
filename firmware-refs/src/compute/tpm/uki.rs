//! Unified kernel images (UAPI group, Unified Kernel Image specification) and what systemd-stub measures of them
//! (systemd-stub(7); systemd, `src/fundamental/uki.h` for names and order).

use evidence::digest::HashAlg;

use super::{PeImage, SecureBoot, event, extended};
use crate::compute::{ArtifactError, proposal::ComputedValue};

/// Sections that the stub measures, in the order in which it does, with the first version that does. The signature of
/// the expected PCR values (`.pcrsig`) cannot be measured and is not.
const MEASURED: [(&str, u32); 11] = [
    (".linux", 252),
    (".osrel", 252),
    (".cmdline", 252),
    (".initrd", 252),
    (".ucode", 256),
    (".splash", 252),
    (".dtb", 252),
    (".uname", 255),
    (".sbat", 255),
    (".pcrpkey", 252),
    (".profile", 257),
];

/// Sections of which the stub chooses by the machine it runs on.
const CHOSEN_BY_MACHINE: [&str; 3] = [".dtbauto", ".hwids", ".efifw"];

/// Versions that are known. Before 252 the stub measured elsewhere; which sections 253 and 254 measure depends on
/// their distributor's patches.
const KNOWN_VERSIONS: [std::ops::RangeInclusive<u32>; 2] = [252..=252, 255..=299];

/// First version that starts the kernel itself instead of having the firmware load and measure it.
const STARTS_KERNEL_ITSELF: u32 = 258;

/// First version that hands the kernel further initrds of its own making (the image's `.osrel`, its profile).
const HANDS_ON_MORE: u32 = 257;

/// Longest part of `.sdmagic` that is looked at.
const MAGIC_CAP_BYTES: usize = 256;

/// What systemd extends PCR 11 with while it boots, by `systemd-pcrphase` (systemd-pcrphase.service(8)).
pub const PHASES: [&str; 4] = ["enter-initrd", "leave-initrd", "sysinit", "ready"];

/// A unified kernel image of systemd-stub.
#[derive(Clone, Debug)]
pub struct Uki<'a> {
    image: PeImage<'a>,
    version: u32,
    /// The measured sections, in order.
    sections: Vec<(&'static str, &'a [u8])>,
}

/// Whether the firmware measures the kernel inside, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InnerKernel {
    /// It is one more image in PCR 4.
    Measured,
    /// Only the image around it is measured.
    Unmeasured,
}

impl<'a> Uki<'a> {
    /// Reads an image.
    ///
    /// # Errors
    /// [`ArtifactError`], also for a stub whose version is not known, for several profiles, and for sections that the
    /// stub chooses by the machine.
    pub fn parse(image: &'a [u8]) -> Result<Self, ArtifactError> {
        let image = PeImage::parse(image)?;
        let version = stub_version(&image)?;
        for name in CHOSEN_BY_MACHINE {
            if !image.sections(name)?.is_empty() {
                let known = "sections that do not depend on the machine".to_owned();
                return Err(ArtifactError::Unknown { what: "section", got: name.to_owned(), known });
            }
        }
        let mut sections = Vec::new();
        for (name, _) in MEASURED.iter().filter(|(_, since)| *since <= version) {
            match image.sections(name)?[..] {
                [] => {}
                [contents] => sections.push((*name, contents)),
                _ => {
                    let known = "images with one section of each name".to_owned();
                    return Err(ArtifactError::Unknown { what: "second section", got: (*name).to_owned(), known });
                }
            }
        }
        let uki = Self { image, version, sections };
        uki.kernel()?;
        Ok(uki)
    }

    /// Version of systemd that its stub is of.
    #[must_use]
    pub const fn version(&self) -> u32 {
        self.version
    }

    /// The image as the firmware loads it.
    #[must_use]
    pub const fn image(&self) -> &PeImage<'a> {
        &self.image
    }

    /// The kernel inside.
    ///
    /// # Errors
    /// [`ArtifactError::Missing`].
    pub fn kernel(&self) -> Result<&'a [u8], ArtifactError> {
        self.section(".linux").ok_or(ArtifactError::Missing { what: ".linux section: it is no unified kernel image" })
    }

    /// Whether the firmware measures the kernel inside: where the stub has it loaded by the firmware and Secure Boot
    /// is not on. Where it is, the stub vouches for the kernel in the firmware's place, and the firmware's measuring
    /// goes the same way as its verifying (systemd, `src/boot/efi/secure-boot.c`).
    #[must_use]
    pub const fn inner_kernel(&self, secure_boot: SecureBoot) -> InnerKernel {
        match secure_boot {
            SecureBoot::Off | SecureBoot::Absent if self.version < STARTS_KERNEL_ITSELF => InnerKernel::Measured,
            SecureBoot::On | SecureBoot::Off | SecureBoot::Absent => InnerKernel::Unmeasured,
        }
    }

    /// The command line inside, where every stub hands on the same bytes of it.
    ///
    /// # Errors
    /// [`ArtifactError::Unknown`] for blanks around it or control characters in it, which some versions take away.
    pub fn cmdline(&self) -> Result<&'a str, ArtifactError> {
        let bytes = self.section(".cmdline").unwrap_or_default();
        let unclear = || ArtifactError::Unknown {
            what: "command line",
            got: String::from_utf8_lossy(bytes).into_owned(),
            known: "those in ASCII without control characters and without blanks around them".to_owned(),
        };
        let text = std::str::from_utf8(bytes).map_err(|_| unclear())?;
        let is_plain = text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) && text.trim() == text;
        if is_plain { Ok(text) } else { Err(unclear()) }
    }

    /// The initrd that the kernel is handed, where it is nothing but the one inside.
    ///
    /// # Errors
    /// [`ArtifactError::Unknown`] where the stub adds to it.
    pub fn initrd(&self) -> Result<Option<&'a [u8]>, ArtifactError> {
        let mut added = (self.version >= HANDS_ON_MORE).then_some(".osrel");
        for name in [".pcrsig", ".pcrpkey", ".ucode"] {
            added = if self.image.sections(name)?.is_empty() { added } else { Some(name) };
        }
        match added {
            None => Ok(self.section(".initrd")),
            Some(name) => Err(ArtifactError::Unknown {
                what: "initrd that the stub makes of",
                got: name.to_owned(),
                known: "images whose stub hands on .initrd alone".to_owned(),
            }),
        }
    }

    /// PCR 11 after the stub, and after each of the phases of the boot that follow, in order.
    #[must_use]
    pub fn pcr11(&self, alg: HashAlg, phases: &[&str]) -> ComputedValue {
        let mut events = Vec::new();
        for (name, contents) in &self.sections {
            events.push(event("EV_IPL", *name, alg.hash(&[name.as_bytes(), &[0]])));
            events.push(event("EV_IPL", format!("contents of {name}"), alg.hash(&[contents])));
        }
        events.extend(phases.iter().map(|phase| event("phase", *phase, alg.hash(&[phase.as_bytes()]))));
        let mut value = extended(alg, 11, events);
        if !phases.is_empty() {
            // phases are in systemd's log, not in the firmware's
            value.events.clear();
        }
        value
    }

    fn section(&self, name: &str) -> Option<&'a [u8]> {
        self.sections.iter().find(|(known, _)| *known == name).map(|(_, contents)| *contents)
    }
}

/// From the magic that the stub carries: `#### LoaderInfo: systemd-stub 252.39-1 ####`.
fn stub_version(image: &PeImage<'_>) -> Result<u32, ArtifactError> {
    let missing = ArtifactError::Missing { what: "systemd-stub: no .sdmagic section names its version" };
    let magic = image.sections(".sdmagic")?.first().copied().ok_or_else(|| missing.clone())?;
    let text = String::from_utf8_lossy(magic.get(..MAGIC_CAP_BYTES).unwrap_or(magic));
    let (_, rest) = text.split_once("LoaderInfo: systemd-stub ").ok_or(missing)?;
    let digits = rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default();
    let version = digits.parse().ok();
    version.filter(|version| KNOWN_VERSIONS.iter().any(|known| known.contains(version))).ok_or_else(|| {
        let got = rest.split(" ####").next().unwrap_or_default().chars().take(40).collect();
        ArtifactError::Unknown { what: "systemd-stub", got, known: "252, 255 and later".to_owned() }
    })
}
