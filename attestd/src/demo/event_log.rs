//! A TCG event log as firmware would have written it, for machines whose firmware did not.
//!
//! Crypto-agile (TCG PC Client Platform Firmware Profile 1.06, §10): a Spec ID event, firmware, secure boot policy, one
//! separator in each of PCR 0–7, then what was started. What it says is made up; its form, and that it leads to the
//! TPM's registers once [`MeasuredBoot::extensions`] have been extended, is not.

use evidence::digest::{Digest, HashAlg};
use evidence::event_log::EventType;

/// What a made-up machine boots.
#[derive(Clone, Copy, Debug)]
pub struct Boot<'a> {
    /// Firmware version text (EV_S_CRTM_VERSION, PCR 0).
    pub firmware_version: &'a str,
    /// Firmware image (EV_EFI_PLATFORM_FIRMWARE_BLOB, PCR 0).
    pub firmware: &'a [u8],
    /// Whether Secure Boot is on (PCR 7).
    pub secure_boot: bool,
    /// Boot loader image (PCR 4).
    pub boot_loader: &'a [u8],
    /// Kernel image (PCR 4 and, as the loader read it, PCR 9).
    pub kernel: &'a [u8],
    /// Initial file system (PCR 9).
    pub initrd: &'a [u8],
    /// Kernel command line (PCR 8).
    pub command_line: &'a str,
}

impl Boot<'static> {
    /// The machine that the demo and most tests boot.
    pub const DEMO: Self = Self {
        firmware_version: "demo firmware 1.0",
        firmware: b"demo firmware image",
        secure_boot: true,
        boot_loader: b"demo boot loader image",
        kernel: b"demo kernel image",
        initrd: b"demo initial file system",
        command_line: "root=/dev/vda1 ro quiet",
    };
}

/// One event's digests, to be extended into its PCR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extension {
    /// PCR.
    pub pcr: u8,
    /// One digest per bank.
    pub digests: Vec<Digest>,
}

/// A log being written, and what its events extend.
#[derive(Clone, Debug)]
pub struct MeasuredBoot {
    banks: Vec<HashAlg>,
    bytes: Vec<u8>,
    extensions: Vec<Extension>,
}

impl MeasuredBoot {
    /// Writes the log of one boot for these banks.
    #[must_use]
    pub fn of(boot: &Boot<'_>, banks: &[HashAlg]) -> Self {
        let mut log = Self::empty(banks);
        log.firmware(boot);
        log.secure_boot_policy(boot.secure_boot);
        log.boot_variables();
        log.text(4, EventType::EfiAction, b"Calling EFI Application from Boot Option");
        for pcr in 0..=7 {
            log.whole(pcr, EventType::Separator, &[0; 4]);
        }
        if boot.secure_boot {
            log.whole(7, EventType::EfiVariableAuthority, &variable(&IMAGE_SECURITY, "db", &signature(DB_OWNER, 0x11)));
        }
        log.application("\\EFI\\demo\\grubx64.efi", boot.boot_loader);
        log.loader_text("kernel_cmdline: ", &format!("/vmlinuz {}", boot.command_line));
        log.loader_file("/vmlinuz", boot.kernel);
        log.loader_file("/initrd.img", boot.initrd);
        log.application("\\vmlinuz", boot.kernel);
        log.text(5, EventType::EfiAction, b"Exit Boot Services Invocation");
        log.text(5, EventType::EfiAction, b"Exit Boot Services Returned with Success");
        log
    }

    /// A log with nothing but its header.
    #[must_use]
    pub fn empty(banks: &[HashAlg]) -> Self {
        let mut log = Self { banks: banks.to_vec(), bytes: Vec::new(), extensions: Vec::new() };
        log.spec_id();
        log
    }

    /// The log.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What must be extended, in order, for the TPM to agree with the log.
    #[must_use]
    pub fn extensions(&self) -> &[Extension] {
        &self.extensions
    }

    /// Measures a started UEFI application into PCR 4 and returns what to extend for it.
    pub fn application(&mut self, path: &str, image: &[u8]) -> Extension {
        self.event(4, EventType::EfiBootServicesApplication, &[image], &image_load(path, image.len()))
    }

    /// Any event whose digest covers `measured` and whose data is `data`.
    pub fn event(&mut self, pcr: u8, kind: EventType, measured: &[&[u8]], data: &[u8]) -> Extension {
        let digests: Vec<Digest> = self.banks.iter().map(|bank| bank.hash(measured)).collect();
        self.bytes.extend(u32::from(pcr).to_le_bytes());
        self.bytes.extend(kind.number().to_le_bytes());
        self.bytes.extend(le32(digests.len()));
        for digest in &digests {
            self.bytes.extend(digest.alg().tpm_id().to_le_bytes());
            self.bytes.extend(digest.as_bytes());
        }
        self.bytes.extend(le32(data.len()));
        self.bytes.extend(data);
        let extension = Extension { pcr, digests };
        self.extensions.push(extension.clone());
        extension
    }

    /// TCG_PCClientPCREvent with TCG_EfiSpecIdEvent (§10.2.1, §10.4.5.1): the only event in the older form.
    fn spec_id(&mut self) {
        let mut data = b"Spec ID Event03\0".to_vec();
        data.extend(0u32.to_le_bytes()); // platformClass: client
        data.extend([0, 2, 105, 2]); // specVersionMinor, specVersionMajor, specErrata, uintnSize: 64 bits
        data.extend(le32(self.banks.len()));
        for bank in &self.banks {
            data.extend(bank.tpm_id().to_le_bytes());
            data.extend(u16::try_from(bank.len()).unwrap_or(u16::MAX).to_le_bytes());
        }
        data.push(0); // vendorInfoSize
        self.bytes.extend(0u32.to_le_bytes());
        self.bytes.extend(EventType::NoAction.number().to_le_bytes());
        self.bytes.extend([0; 20]);
        self.bytes.extend(le32(data.len()));
        self.bytes.extend(data);
    }

    fn firmware(&mut self, boot: &Boot<'_>) {
        self.whole(0, EventType::SCrtmVersion, &utf16_terminated(boot.firmware_version));
        // UEFI_PLATFORM_FIRMWARE_BLOB (§10.2.5): where the measured image was in memory.
        let blob = [0x0082_0000u64.to_le_bytes(), le64(boot.firmware.len())].concat();
        self.event(0, EventType::EfiPlatformFirmwareBlob, &[boot.firmware], &blob);
    }

    /// §3.3.4.8: the variables of the secure boot policy, in this order.
    fn secure_boot_policy(&mut self, on: bool) {
        let policy = [
            (&GLOBAL, "SecureBoot", vec![u8::from(on)]),
            (&GLOBAL, "PK", signature(DB_OWNER, 0x01)),
            (&GLOBAL, "KEK", signature(DB_OWNER, 0x02)),
            (&IMAGE_SECURITY, "db", signature(DB_OWNER, 0x11)),
            (&IMAGE_SECURITY, "dbx", signature(DB_OWNER, 0xee)),
        ];
        for (guid, name, value) in policy {
            self.whole(7, EventType::EfiVariableDriverConfig, &variable(guid, name, &value));
        }
    }

    fn boot_variables(&mut self) {
        self.whole(1, EventType::EfiVariableBoot2, &variable(&GLOBAL, "BootOrder", &[0, 0]));
    }

    /// GRUB measures what it is told to do into PCR 8, without the prefix that its log entry has.
    fn loader_text(&mut self, prefix: &str, text: &str) {
        let data = [prefix.as_bytes(), text.as_bytes(), &[0]].concat();
        self.event(8, EventType::Ipl, &[text.as_bytes()], &data);
    }

    /// GRUB measures the files that it reads into PCR 9.
    fn loader_file(&mut self, name: &str, contents: &[u8]) {
        let data = [name.as_bytes(), &[0]].concat();
        self.event(9, EventType::Ipl, &[contents], &data);
    }

    fn text(&mut self, pcr: u8, kind: EventType, text: &[u8]) {
        self.whole(pcr, kind, text);
    }

    /// An event whose digest covers its data.
    fn whole(&mut self, pcr: u8, kind: EventType, data: &[u8]) {
        self.event(pcr, kind, &[data], data);
    }
}

/// EFI_GLOBAL_VARIABLE (UEFI §3.3) and EFI_IMAGE_SECURITY_DATABASE (UEFI §32.6) as they stand in memory.
const GLOBAL: [u8; 16] =
    [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
const IMAGE_SECURITY: [u8; 16] =
    [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
/// EFI_CERT_SHA256_GUID (UEFI §32.4.1).
const CERT_SHA256: [u8; 16] =
    [0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28];
const DB_OWNER: [u8; 16] = [0xde; 16];

/// EFI_SIGNATURE_LIST (UEFI §32.4.1) with one SHA-256 signature.
fn signature(owner: [u8; 16], of: u8) -> Vec<u8> {
    const SIGNATURE_BYTES: usize = 48;
    const LIST_BYTES: usize = 28 + SIGNATURE_BYTES;
    let mut list = CERT_SHA256.to_vec();
    list.extend(le32(LIST_BYTES));
    list.extend(le32(0));
    list.extend(le32(SIGNATURE_BYTES));
    list.extend(owner);
    list.extend(HashAlg::Sha256.hash(&[&[of]]).as_bytes());
    list
}

/// UEFI_VARIABLE_DATA (§10.2.6).
fn variable(guid: &[u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let mut data = guid.to_vec();
    data.extend(le64(name.encode_utf16().count()));
    data.extend(le64(value.len()));
    data.extend(name.encode_utf16().flat_map(u16::to_le_bytes));
    data.extend(value);
    data
}

/// UEFI_IMAGE_LOAD_EVENT (§10.2.3) with a media device path of one file (UEFI §10.3.5.4).
fn image_load(path: &str, image_bytes: usize) -> Vec<u8> {
    let path = utf16_terminated(path);
    let mut device_path = vec![0x04, 0x04];
    device_path.extend(u16::try_from(path.len().saturating_add(4)).unwrap_or(u16::MAX).to_le_bytes());
    device_path.extend(path);
    device_path.extend([0x7f, 0xff, 0x04, 0x00]);
    let mut data = 0x7e00_0000u64.to_le_bytes().to_vec();
    data.extend(le64(image_bytes));
    data.extend(0u64.to_le_bytes());
    data.extend(le64(device_path.len()));
    data.extend(device_path);
    data
}

fn utf16_terminated(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// Lengths of made-up images; one beyond the field saturates and the log does not parse.
fn le32(length: usize) -> [u8; 4] {
    u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes()
}

fn le64(length: usize) -> [u8; 8] {
    u64::try_from(length).unwrap_or(u64::MAX).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use evidence::event_log::EventLog;

    use super::*;

    const BANKS: [HashAlg; 3] = [HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384];

    #[test]
    fn the_log_is_in_genuine_form() {
        for secure_boot in [false, true] {
            let built = MeasuredBoot::of(&Boot { secure_boot, ..Boot::DEMO }, &BANKS);
            let log = EventLog::parse(built.bytes()).unwrap();
            log.require_crypto_agile().unwrap();
            for bank in BANKS {
                log.verify_event_data(bank).unwrap();
            }
            assert_eq!(log.verify_boot_grammar().unwrap().secure_boot, secure_boot);
        }
    }

    #[test]
    fn its_extensions_lead_to_what_the_log_replays_to() {
        let mut built = MeasuredBoot::of(&Boot::DEMO, &BANKS);
        built.application("\\EFI\\other.efi", b"another program");
        let log = EventLog::parse(built.bytes()).unwrap();
        for bank in BANKS {
            let replay = log.replay(bank).unwrap();
            let mut registers = vec![Digest::zero(bank); 24];
            for extension in built.extensions() {
                let digest = extension.digests.iter().find(|d| d.alg() == bank).unwrap();
                let register = &mut registers[usize::from(extension.pcr)];
                *register = register.extend(digest.as_bytes());
            }
            for pcr in 0..16u8 {
                assert_eq!(replay.value(pcr).unwrap(), registers[usize::from(pcr)], "PCR {pcr}");
            }
        }
    }
}
