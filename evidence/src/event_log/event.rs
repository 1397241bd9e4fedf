//! One event of a log, borrowed from it.

use crate::digest::{Digest, HashAlg};

/// What the digest of a type of event is made over (PFP §10.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DigestOf {
    /// All of the event data.
    Data,
    /// The event data, or the value of the variable in it: firmware of EDK II's line differs here.
    DataOrVariable,
    /// The event data, or all but its last byte: a terminating NUL, or shim's byte too many.
    Text,
    /// Something else: the event data is for display alone.
    Opaque,
}

/// When firmware may measure a type of event into PCR 0-7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the register's separator: firmware measuring itself and its configuration.
    Configuration,
    /// Before and after.
    Any,
}

macro_rules! event_types {
    ($($variant:ident = $number:literal, $name:literal, $digest_of:ident, $phase:ident;)*) => {
        /// Event types of the TCG PC Client Platform Firmware Profile §10.4.1.
        ///
        /// The type is not hashed into any register: an attacker may rename events at will, so it is only ever
        /// used to demand more of an event, never to excuse one.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum EventType {
            $(#[doc = $name] $variant,)*
            /// A number that the specification does not list.
            Unknown(u32),
        }

        impl EventType {
            /// The type of this number.
            #[must_use]
            pub const fn from_number(number: u32) -> Self {
                match number {
                    $($number => Self::$variant,)*
                    other => Self::Unknown(other),
                }
            }

            /// Its number in the log.
            #[must_use]
            pub const fn number(self) -> u32 {
                match self {
                    $(Self::$variant => $number,)*
                    Self::Unknown(number) => number,
                }
            }

            /// The specification's name, `EV_UNKNOWN` for a number it does not list.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Unknown(_) => "EV_UNKNOWN",
                }
            }

            pub(super) const fn digest_of(self) -> DigestOf {
                match self {
                    $(Self::$variant => DigestOf::$digest_of,)*
                    Self::Unknown(_) => DigestOf::Opaque,
                }
            }

            pub(super) const fn phase(self) -> Phase {
                match self {
                    $(Self::$variant => Phase::$phase,)*
                    Self::Unknown(_) => Phase::Any,
                }
            }
        }
    };
}

event_types! {
    PostCode = 0x0000_0001, "EV_POST_CODE", Opaque, Configuration;
    NoAction = 0x0000_0003, "EV_NO_ACTION", Opaque, Any;
    Separator = 0x0000_0004, "EV_SEPARATOR", Data, Any;
    Action = 0x0000_0005, "EV_ACTION", Text, Any;
    EventTag = 0x0000_0006, "EV_EVENT_TAG", Opaque, Any;
    SCrtmContents = 0x0000_0007, "EV_S_CRTM_CONTENTS", Opaque, Configuration;
    SCrtmVersion = 0x0000_0008, "EV_S_CRTM_VERSION", Data, Configuration;
    CpuMicrocode = 0x0000_0009, "EV_CPU_MICROCODE", Opaque, Configuration;
    PlatformConfigFlags = 0x0000_000a, "EV_PLATFORM_CONFIG_FLAGS", Opaque, Configuration;
    TableOfDevices = 0x0000_000b, "EV_TABLE_OF_DEVICES", Opaque, Configuration;
    CompactHash = 0x0000_000c, "EV_COMPACT_HASH", Opaque, Any;
    Ipl = 0x0000_000d, "EV_IPL", Opaque, Any;
    IplPartitionData = 0x0000_000e, "EV_IPL_PARTITION_DATA", Opaque, Any;
    NonhostCode = 0x0000_000f, "EV_NONHOST_CODE", Opaque, Configuration;
    NonhostConfig = 0x0000_0010, "EV_NONHOST_CONFIG", Opaque, Configuration;
    NonhostInfo = 0x0000_0011, "EV_NONHOST_INFO", Opaque, Configuration;
    OmitBootDeviceEvents = 0x0000_0012, "EV_OMIT_BOOT_DEVICE_EVENTS", Data, Any;
    PostCode2 = 0x0000_0013, "EV_POST_CODE2", Opaque, Configuration;
    EfiVariableDriverConfig = 0x8000_0001, "EV_EFI_VARIABLE_DRIVER_CONFIG", Data, Configuration;
    EfiVariableBoot = 0x8000_0002, "EV_EFI_VARIABLE_BOOT", DataOrVariable, Any;
    EfiBootServicesApplication = 0x8000_0003, "EV_EFI_BOOT_SERVICES_APPLICATION", Opaque, Any;
    EfiBootServicesDriver = 0x8000_0004, "EV_EFI_BOOT_SERVICES_DRIVER", Opaque, Any;
    EfiRuntimeServicesDriver = 0x8000_0005, "EV_EFI_RUNTIME_SERVICES_DRIVER", Opaque, Any;
    EfiGptEvent = 0x8000_0006, "EV_EFI_GPT_EVENT", Data, Any;
    EfiAction = 0x8000_0007, "EV_EFI_ACTION", Text, Any;
    EfiPlatformFirmwareBlob = 0x8000_0008, "EV_EFI_PLATFORM_FIRMWARE_BLOB", Opaque, Configuration;
    EfiHandoffTables = 0x8000_0009, "EV_EFI_HANDOFF_TABLES", Opaque, Any;
    EfiPlatformFirmwareBlob2 = 0x8000_000a, "EV_EFI_PLATFORM_FIRMWARE_BLOB2", Opaque, Configuration;
    EfiHandoffTables2 = 0x8000_000b, "EV_EFI_HANDOFF_TABLES2", Opaque, Any;
    EfiVariableBoot2 = 0x8000_000c, "EV_EFI_VARIABLE_BOOT2", Data, Any;
    EfiGptEvent2 = 0x8000_000d, "EV_EFI_GPT_EVENT2", Data, Any;
    EfiHcrtmEvent = 0x8000_0010, "EV_EFI_HCRTM_EVENT", Opaque, Configuration;
    EfiVariableAuthority = 0x8000_00e0, "EV_EFI_VARIABLE_AUTHORITY", Text, Any;
    EfiSpdmFirmwareBlob = 0x8000_00e1, "EV_EFI_SPDM_FIRMWARE_BLOB", Opaque, Any;
    EfiSpdmFirmwareConfig = 0x8000_00e2, "EV_EFI_SPDM_FIRMWARE_CONFIG", Opaque, Any;
    EfiSpdmDevicePolicy = 0x8000_00e3, "EV_EFI_SPDM_DEVICE_POLICY", Opaque, Configuration;
    EfiSpdmDeviceAuthority = 0x8000_00e4, "EV_EFI_SPDM_DEVICE_AUTHORITY", Opaque, Any;
}

impl std::fmt::Display for EventType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Self::Unknown(number) = self {
            return write!(f, "EV_UNKNOWN({number:#010x})");
        }
        f.write_str(self.name())
    }
}

/// Digests of one event as they stand in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digests<'a> {
    /// TCG_PCClientPCREvent: one SHA-1 digest.
    Sha1(&'a [u8]),
    /// TPML_DIGEST_VALUES without its count: pairs of algorithm id and digest, sizes from the log's own table.
    Agile {
        /// The pairs.
        pairs: &'a [u8],
        /// TCG_EfiSpecIdEventAlgorithmSize array of the Spec ID event, already checked.
        table: &'a [u8],
    },
}

/// One measured event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event<'a> {
    pub(super) index: usize,
    pub(super) offset: usize,
    pub(super) pcr: u32,
    pub(super) kind: EventType,
    pub(super) digests: Digests<'a>,
    pub(super) data: &'a [u8],
}

impl<'a> Event<'a> {
    /// Position in the log, from 0.
    #[must_use]
    pub const fn index(&self) -> usize {
        self.index
    }

    /// Byte offset in the log.
    #[must_use]
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// The register it was extended into; 0xffffffff only on events that are not extended.
    #[must_use]
    pub const fn pcr(&self) -> u32 {
        self.pcr
    }

    /// Its type. Not covered by any digest.
    #[must_use]
    pub const fn kind(&self) -> EventType {
        self.kind
    }

    /// Its data. Covered by the digest only as [`Event::data_binding`] says; else for display alone.
    #[must_use]
    pub const fn data(&self) -> &'a [u8] {
        self.data
    }

    /// Whether it was extended: EV_NO_ACTION events never are (PFP §10.4.5).
    #[must_use]
    pub fn is_extended(&self) -> bool {
        self.kind != EventType::NoAction
    }

    /// Its digest in the bank of `alg`, if it has one.
    #[must_use]
    pub fn digest(&self, alg: HashAlg) -> Option<Digest> {
        self.raw_digests().find(|(id, _)| *id == alg.tpm_id()).and_then(|(_, bytes)| Digest::from_bytes(alg, bytes))
    }

    /// Its digests of algorithms that we compute.
    pub fn known_digests(&self) -> impl Iterator<Item = Digest> + use<'a> {
        self.raw_digests().filter_map(|(id, bytes)| Digest::from_bytes(HashAlg::from_tpm(id)?, bytes))
    }

    /// All its digests by TPM_ALG_ID, those of algorithms unknown to us too.
    pub fn raw_digests(&self) -> RawDigests<'a> {
        RawDigests { digests: self.digests }
    }
}

/// Iterator over the digests of one event.
#[derive(Clone, Debug)]
pub struct RawDigests<'a> {
    digests: Digests<'a>,
}

impl<'a> Iterator for RawDigests<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        match self.digests {
            Digests::Sha1(digest) => {
                self.digests = Digests::Agile { pairs: &[], table: &[] };
                Some((HashAlg::Sha1.tpm_id(), digest))
            }
            Digests::Agile { pairs, table } => {
                let (id, rest) = pairs.split_first_chunk::<2>()?;
                let id = u16::from_le_bytes(*id);
                let (digest, rest) = rest.split_at_checked(digest_bytes(table, id)?)?;
                self.digests = Digests::Agile { pairs: rest, table };
                Some((id, digest))
            }
        }
    }
}

/// Digest size that an algorithm table (pairs of id and size, little-endian 16 bits each) gives `id`.
pub(super) fn digest_bytes(table: &[u8], id: u16) -> Option<usize> {
    table.chunks_exact(4).find_map(|row| match row {
        [id_low, id_high, size_low, size_high] if u16::from_le_bytes([*id_low, *id_high]) == id => {
            Some(usize::from(u16::from_le_bytes([*size_low, *size_high])))
        }
        _ => None,
    })
}
