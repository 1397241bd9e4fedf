//! A measured boot: events, the logs that tell of them, and the registers that they lead to.

use evidence::{
    digest::{Digest, HashAlg},
    tpm::PcrValues,
};

/// Event types (TCG PC Client Platform Firmware Profile §10.4.1).
pub mod kind {
    #![allow(missing_docs, reason = "the profile's own names")]
    pub const NO_ACTION: u32 = 3;
    pub const SEPARATOR: u32 = 4;
    pub const S_CRTM_VERSION: u32 = 8;
    pub const IPL: u32 = 13;
    pub const VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
    pub const BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
    pub const EFI_ACTION: u32 = 0x8000_0007;
    pub const PLATFORM_FIRMWARE_BLOB: u32 = 0x8000_0008;
}

/// One event of the boot.
#[derive(Clone, Debug)]
pub struct BootEvent {
    /// Register.
    pub pcr: u32,
    /// Type.
    pub kind: u32,
    /// Event data, as in the log.
    pub data: Vec<u8>,
    /// What is hashed into the register.
    pub measured: Vec<u8>,
}

impl BootEvent {
    /// An event whose data is what was measured.
    pub fn of_data(pcr: u32, kind: u32, data: &[u8]) -> Self {
        Self { pcr, kind, data: data.to_vec(), measured: data.to_vec() }
    }

    /// An event that names something else that was measured.
    pub fn of_image(pcr: u32, kind: u32, data: &[u8], image: &[u8]) -> Self {
        Self { pcr, kind, data: data.to_vec(), measured: image.to_vec() }
    }
}

/// A boot, to be changed before its log and registers are taken.
#[derive(Clone, Debug)]
pub struct Boot {
    /// Events in order.
    pub events: Vec<BootEvent>,
    /// Files that IMA measured, after boot_aggregate: path and content.
    pub files: Vec<(String, Vec<u8>)>,
    /// Buffers that IMA measured after them: name and content.
    pub buffers: Vec<(String, Vec<u8>)>,
    /// Banks of the log.
    pub banks: Vec<HashAlg>,
}

impl Default for Boot {
    fn default() -> Self {
        let global = [0x61, 0xdf, 0xe4, 0x8b, 0xca, 0x93, 0xd2, 0x11, 0xaa, 0x0d, 0x00, 0xe0, 0x98, 0x03, 0x2b, 0x8c];
        let security = [0xcb, 0xb2, 0x19, 0xd7, 0x3a, 0x3d, 0x96, 0x45, 0xa3, 0xbc, 0xda, 0xd0, 0x0e, 0x67, 0x65, 0x6f];
        let mut events = vec![
            BootEvent::of_data(0, kind::S_CRTM_VERSION, &utf16("1.42")),
            BootEvent::of_image(0, kind::PLATFORM_FIRMWARE_BLOB, &[0; 16], b"firmware volume"),
            BootEvent::of_data(7, kind::VARIABLE_DRIVER_CONFIG, &variable(&global, "SecureBoot", &[1])),
            BootEvent::of_data(
                7,
                kind::VARIABLE_DRIVER_CONFIG,
                &variable(&global, "PK", &signature_list(b"platform key")),
            ),
            BootEvent::of_data(
                7,
                kind::VARIABLE_DRIVER_CONFIG,
                &variable(&global, "KEK", &signature_list(b"exchange key")),
            ),
            BootEvent::of_data(
                7,
                kind::VARIABLE_DRIVER_CONFIG,
                &variable(&security, "db", &signature_list(b"allowed")),
            ),
            BootEvent::of_data(
                7,
                kind::VARIABLE_DRIVER_CONFIG,
                &variable(&security, "dbx", &signature_list(b"denied")),
            ),
        ];
        events.extend((0..8).map(|pcr| BootEvent::of_data(pcr, kind::SEPARATOR, &[0; 4])));
        events.push(BootEvent::of_image(4, kind::BOOT_SERVICES_APPLICATION, &[0; 32], b"boot loader"));
        events.push(BootEvent::of_image(4, kind::BOOT_SERVICES_APPLICATION, &[0; 32], b"kernel"));
        events.push(BootEvent::of_data(8, kind::IPL, b"kernel_cmdline: /vmlinuz ro quiet\0"));
        events.push(BootEvent::of_image(9, kind::IPL, b"/initrd.img\0", b"initial ram disk"));
        events.push(BootEvent::of_data(5, kind::EFI_ACTION, b"Exit Boot Services Invocation"));
        events.push(BootEvent::of_data(5, kind::EFI_ACTION, b"Exit Boot Services Returned with Success"));
        let files = vec![
            ("/usr/bin/init".to_owned(), b"init".to_vec()),
            ("/usr/bin/workload".to_owned(), b"workload".to_vec()),
        ];
        Self { events, files, buffers: Vec::new(), banks: vec![HashAlg::Sha1, HashAlg::Sha256, HashAlg::Sha384] }
    }
}

impl Boot {
    /// The crypto-agile log (PFP §10.2).
    pub fn event_log(&self) -> Vec<u8> {
        let mut spec = b"Spec ID Event03\0".to_vec();
        spec.extend(0u32.to_le_bytes());
        spec.extend([0, 2, 0, 2]);
        spec.extend((self.banks.len() as u32).to_le_bytes());
        for bank in &self.banks {
            spec.extend(bank.tpm_id().to_le_bytes());
            spec.extend((bank.len() as u16).to_le_bytes());
        }
        spec.push(0);
        let mut log = Vec::new();
        log.extend(0u32.to_le_bytes());
        log.extend(kind::NO_ACTION.to_le_bytes());
        log.extend([0; 20]);
        log.extend((spec.len() as u32).to_le_bytes());
        log.extend(spec);
        for event in &self.events {
            log.extend(event.pcr.to_le_bytes());
            log.extend(event.kind.to_le_bytes());
            log.extend((self.banks.len() as u32).to_le_bytes());
            for bank in &self.banks {
                log.extend(bank.tpm_id().to_le_bytes());
                log.extend(bank.hash(&[&event.measured]).as_bytes());
            }
            log.extend((event.data.len() as u32).to_le_bytes());
            log.extend(&event.data);
        }
        log
    }

    /// Value of one register in `bank`, IMA's register apart.
    fn register(&self, pcr: u8, bank: HashAlg) -> Digest {
        let events = self.events.iter().filter(|event| event.pcr == u32::from(pcr));
        events.fold(Digest::zero(bank), |value, event| value.extend(bank.hash(&[&event.measured]).as_bytes()))
    }

    /// IMA entries: template data, and the rest of their line from the template on. Files are of ima-ng, buffers of
    /// ima-buf.
    fn ima_entries(&self) -> Vec<(Vec<u8>, String)> {
        let registers: Vec<_> = (0..10).map(|pcr| self.register(pcr, HashAlg::Sha256)).collect();
        let registers: Vec<&[u8]> = registers.iter().map(Digest::as_bytes).collect();
        let aggregate = (HashAlg::Sha256.hash(&registers), "boot_aggregate".to_owned());
        let files = self.files.iter().map(|(path, content)| (HashAlg::Sha256.hash(&[content]), path.clone()));
        let field = |bytes: &[u8]| [&(bytes.len() as u32).to_le_bytes()[..], bytes].concat();
        let data = |digest: &Digest, name: &str| {
            let hash = [b"sha256:\0", digest.as_bytes()].concat();
            [field(&hash), field(&[name.as_bytes(), b"\0"].concat())].concat()
        };
        let file = |(digest, path): (Digest, String)| (data(&digest, &path), format!("ima-ng {digest} {path}"));
        let buffer = |(name, content): &(String, Vec<u8>)| {
            let digest = HashAlg::Sha256.hash(&[content]);
            let line = format!("ima-buf {digest} {name} {}", hex::encode(content));
            ([data(&digest, name), field(content)].concat(), line)
        };
        std::iter::once(aggregate).chain(files).map(file).chain(self.buffers.iter().map(buffer)).collect()
    }

    /// The IMA measurement list, ascii, template ima-ng.
    pub fn ima_log(&self) -> Vec<u8> {
        let line = |(data, rest): (Vec<u8>, String)| format!("10 {} {rest}\n", HashAlg::Sha1.hash(&[&data]).hex());
        self.ima_entries().into_iter().map(line).collect::<String>().into_bytes()
    }

    /// The registers `pcrs` of `bank` after this boot.
    pub fn pcrs(&self, bank: HashAlg, pcrs: &[u8]) -> PcrValues {
        let value = |pcr: u8| match pcr {
            10 => self
                .ima_entries()
                .iter()
                .fold(Digest::zero(bank), |value, (data, _)| value.extend(bank.hash(&[data]).as_bytes())),
            _ => self.register(pcr, bank),
        };
        PcrValues::new(bank, pcrs.iter().map(|pcr| (*pcr, value(*pcr))).collect()).unwrap()
    }
}

fn utf16(text: &str) -> Vec<u8> {
    text.encode_utf16().chain([0]).flat_map(u16::to_le_bytes).collect()
}

/// UEFI_VARIABLE_DATA (PFP §10.2.6).
pub fn variable(vendor: &[u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let name_units: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let mut out = vendor.to_vec();
    out.extend((name.encode_utf16().count() as u64).to_le_bytes());
    out.extend((value.len() as u64).to_le_bytes());
    out.extend(name_units);
    out.extend(value);
    out
}

/// An EFI_SIGNATURE_LIST (UEFI §32.4.1) with one SHA-256 entry.
pub fn signature_list(content: &[u8]) -> Vec<u8> {
    let sha256_type = [0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28];
    let mut out = sha256_type.to_vec();
    out.extend((28u32 + 48).to_le_bytes());
    out.extend(0u32.to_le_bytes());
    out.extend(48u32.to_le_bytes());
    out.extend([7; 16]);
    out.extend(HashAlg::Sha256.hash(&[content]).as_bytes());
    out
}
