//! Event logs of a trust domain (CCEL: TCG PC Client Platform Firmware Profile crypto-agile format with one SHA-384 bank;
//! UEFI 2.10, 38.4.1: register index 1 is RTMR0, 2 RTMR1, 3 RTMR2, 4 RTMR3).

use aws_lc_rs::digest;

/// EV_NO_ACTION.
pub const EV_NO_ACTION: u32 = 0x3;
/// EV_SEPARATOR.
pub const EV_SEPARATOR: u32 = 0x4;
/// EV_EVENT_TAG.
pub const EV_EVENT_TAG: u32 = 0x6;
/// EV_PLATFORM_CONFIG_FLAGS.
pub const EV_PLATFORM_CONFIG_FLAGS: u32 = 0xa;
/// EV_IPL.
pub const EV_IPL: u32 = 0xd;
/// EV_EFI_VARIABLE_DRIVER_CONFIG.
pub const EV_EFI_VARIABLE_DRIVER_CONFIG: u32 = 0x8000_0001;
/// EV_EFI_VARIABLE_BOOT.
pub const EV_EFI_VARIABLE_BOOT: u32 = 0x8000_0002;
/// EV_EFI_BOOT_SERVICES_APPLICATION.
pub const EV_EFI_BOOT_SERVICES_APPLICATION: u32 = 0x8000_0003;
/// EV_EFI_ACTION.
pub const EV_EFI_ACTION: u32 = 0x8000_0007;
/// EV_EFI_PLATFORM_FIRMWARE_BLOB2.
pub const EV_EFI_PLATFORM_FIRMWARE_BLOB2: u32 = 0x8000_000a;
/// EV_EFI_HANDOFF_TABLES2.
pub const EV_EFI_HANDOFF_TABLES2: u32 = 0x8000_000b;

/// One measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// 1 to 4: RTMR0 to RTMR3.
    pub register: u32,
    /// TCG event type.
    pub event_type: u32,
    /// SHA-384 that was extended.
    pub digest: [u8; 48],
    /// Event data.
    pub data: Vec<u8>,
}

impl Event {
    /// An event whose digest is that of its data.
    pub fn of_data(register: u32, event_type: u32, data: &[u8]) -> Self {
        Self { register, event_type, digest: sha384(&[data]), data: data.to_vec() }
    }

    /// An event that measures something not in the log; `what` stands for it.
    pub fn of_something(register: u32, event_type: u32, what: &[u8], data: &[u8]) -> Self {
        Self { register, event_type, digest: sha384(&[what]), data: data.to_vec() }
    }
}

/// A log. Every part is open.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EventLog {
    /// Events after the Spec ID event, in order.
    pub events: Vec<Event>,
    /// Bytes of 0xff after the last event: the ACPI area is larger than the log.
    pub padding: usize,
}

impl EventLog {
    /// A boot as OVMF and a Linux EFI stub measure it, Secure Boot on.
    pub fn booted() -> Self {
        let mut events = vec![
            Event::of_something(1, EV_EFI_HANDOFF_TABLES2, b"TD HOB", &handoff_tables()),
            Event::of_something(1, EV_EFI_PLATFORM_FIRMWARE_BLOB2, b"CFV", &firmware_blob()),
        ];
        let signatures = signature_list();
        for (vendor, name, value) in [
            (EFI_GLOBAL, "SecureBoot", [1].as_slice()),
            (EFI_GLOBAL, "PK", &signatures),
            (EFI_GLOBAL, "KEK", &signatures),
            (IMAGE_SECURITY, "db", &signatures),
            (IMAGE_SECURITY, "dbx", &[]),
        ] {
            events.push(Event::of_data(1, EV_EFI_VARIABLE_DRIVER_CONFIG, &variable(vendor, name, value)));
        }
        events.push(Event::of_data(1, EV_SEPARATOR, &[0; 4]));
        for table in [b"loader", b"rsdp..", b"tables"] {
            events.push(Event::of_something(1, EV_PLATFORM_CONFIG_FLAGS, table, b"ACPI DATA"));
        }
        events.push(Event::of_something(2, EV_EFI_BOOT_SERVICES_APPLICATION, b"kernel image", &image_load()));
        let order = variable(EFI_GLOBAL, "BootOrder", &[0, 0]);
        events.push(Event::of_something(1, EV_EFI_VARIABLE_BOOT, &[0, 0], &order));
        events.push(Event::of_data(2, EV_EFI_ACTION, b"Calling EFI Application from Boot Option"));
        events.push(Event::of_data(1, EV_SEPARATOR, &[0; 4]));
        events.push(Event::of_something(3, EV_EVENT_TAG, b"console=ttyS0", b"LOADED_IMAGE::LoadOptions\0"));
        events.push(Event::of_data(2, EV_EFI_ACTION, b"Exit Boot Services Invocation"));
        events.push(Event::of_data(2, EV_EFI_ACTION, b"Exit Boot Services Returned with Success"));
        Self { events, padding: 0 }
    }

    /// Appends an event to RTMR3, as a guest does at run time.
    pub fn extend_runtime(&mut self, data: &[u8]) {
        self.events.push(Event::of_data(4, EV_IPL, data));
    }

    /// RTMR0 to RTMR3: each starts at zero and becomes SHA-384(old ‖ digest) with each of its events.
    pub fn rtmrs(&self) -> [[u8; 48]; 4] {
        [1, 2, 3, 4].map(|register| {
            self.events
                .iter()
                .filter(|event| event.register == register && event.event_type != EV_NO_ACTION)
                .fold([0; 48], |old, event| sha384(&[&old, &event.digest]))
        })
    }

    /// The log's bytes: Spec ID event, events, padding.
    pub fn encode(&self) -> Vec<u8> {
        let mut log = [1_u32.to_le_bytes(), EV_NO_ACTION.to_le_bytes()].concat();
        log.extend([0; 20]);
        log.extend(length(SPEC_ID));
        log.extend_from_slice(SPEC_ID);
        for event in &self.events {
            log.extend(event.register.to_le_bytes());
            log.extend(event.event_type.to_le_bytes());
            log.extend(1_u32.to_le_bytes());
            log.extend(TPM_ALG_SHA384.to_le_bytes());
            log.extend_from_slice(&event.digest);
            log.extend(length(&event.data));
            log.extend_from_slice(&event.data);
        }
        log.extend(std::iter::repeat_n(0xff, self.padding));
        log
    }
}

/// UEFI_VARIABLE_DATA: vendor GUID, lengths of name (in characters) and data, name in UTF-16, data.
pub fn variable(vendor: [u8; 16], name: &str, value: &[u8]) -> Vec<u8> {
    let name: Vec<u16> = name.encode_utf16().collect();
    let count = |len: usize| u64::try_from(len).unwrap_or(u64::MAX).to_le_bytes();
    let mut data = vendor.to_vec();
    data.extend(count(name.len()));
    data.extend(count(value.len()));
    data.extend(name.into_iter().flat_map(u16::to_le_bytes));
    data.extend_from_slice(value);
    data
}

/// EFI_SIGNATURE_LIST of one SHA-256 digest (UEFI 32.4.1).
fn signature_list() -> Vec<u8> {
    let mut list = SIGNATURE_SHA256.to_vec();
    list.extend(76_u32.to_le_bytes());
    list.extend(0_u32.to_le_bytes());
    list.extend(48_u32.to_le_bytes());
    list.extend(SIGNATURE_OWNER);
    list.extend([0x11; 32]);
    list
}

/// UEFI_HANDOFF_TABLE_POINTERS2 with one table: its description, then its GUID and address.
fn handoff_tables() -> Vec<u8> {
    let mut data = b"\x09TdxTable\0".to_vec();
    data.extend(1_u64.to_le_bytes());
    data.extend(TDX_TABLE);
    data.extend(0x0080_9000_u64.to_le_bytes());
    data
}

/// UEFI_PLATFORM_FIRMWARE_BLOB2: description, base, length.
fn firmware_blob() -> Vec<u8> {
    let mut data = b"\x29Fv(XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX)\0".to_vec();
    data.extend(0xffc0_0000_u64.to_le_bytes());
    data.extend(0x0008_4000_u64.to_le_bytes());
    data
}

/// UEFI_IMAGE_LOAD_EVENT with a device path of its end alone.
fn image_load() -> Vec<u8> {
    let mut data = Vec::new();
    for word in [0x7a89_6018_u64, 0x00cf_3720, 0, 4] {
        data.extend(word.to_le_bytes());
    }
    data.extend([0x7f, 0xff, 4, 0]);
    data
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes()
}

fn sha384(parts: &[&[u8]]) -> [u8; 48] {
    let mut context = digest::Context::new(&digest::SHA384);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().unwrap_or([0; 48])
}

const TPM_ALG_SHA384: u16 = 0x000c;
/// TCG_EfiSpecIdEvent: version 2.0, 64-bit, one algorithm of 48 bytes, no vendor data.
const SPEC_ID: &[u8] = b"Spec ID Event03\0\x00\x00\x00\x00\x00\x02\x00\x02\x01\x00\x00\x00\x0c\x00\x30\x00\x00";
/// 8be4df61-93ca-11d2-aa0d-00e098032b8c.
pub const EFI_GLOBAL: [u8; 16] = 0x61df_e48b_ca93_d211_aa0d_00e0_9803_2b8c_u128.to_be_bytes();
/// d719b2cb-3d3a-4596-a3bc-dad00e67656f.
pub const IMAGE_SECURITY: [u8; 16] = 0xcbb2_19d7_3a3d_9645_a3bc_dad0_0e67_656f_u128.to_be_bytes();
/// c1c41626-504c-4092-aca9-41f936934328.
const SIGNATURE_SHA256: [u8; 16] = 0x2616_c4c1_4c50_9240_aca9_41f9_3693_4328_u128.to_be_bytes();
/// Any owner.
const SIGNATURE_OWNER: [u8; 16] = [0x22; 16];
/// As real logs have it.
const TDX_TABLE: [u8; 16] = 0xaf96_bb93_f2b9_b84e_9462_e0ba_7456_4236_u128.to_be_bytes();
