//! An entry of configfs-tsm (Linux, Documentation/ABI/testing/configfs-tsm): its attributes and their semantics.

use super::device::{Blobs, Device, INBLOB_CAP, PRIVLEVEL_MAX};

/// Why an access failed, as the kernel's driver answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TsmErrno {
    /// No inblob yet, or a value out of range.
    Invalid,
    /// The attributes changed while a report was being read.
    WouldBlock,
    /// No such attribute may be accessed that way.
    Denied,
    /// The device failed.
    Io,
}

/// A file of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attribute {
    /// Report data, write only.
    Inblob,
    /// Report or quote.
    Outblob,
    /// Certificate table.
    Auxblob,
    /// SVSM manifest.
    Manifestblob,
    /// Counts writes.
    Generation,
    /// `sev_guest` or `tdx_guest`.
    Provider,
    /// VMPL, write only.
    Privlevel,
    /// Lowest VMPL.
    PrivlevelFloor,
    /// Service to ask instead of the firmware, write only.
    ServiceProvider,
}

impl Attribute {
    /// Those of an SNP guest.
    pub const SNP: [Self; 9] = [
        Self::Inblob,
        Self::Outblob,
        Self::Auxblob,
        Self::Manifestblob,
        Self::Generation,
        Self::Provider,
        Self::Privlevel,
        Self::PrivlevelFloor,
        Self::ServiceProvider,
    ];
    /// Those of a trust domain.
    pub const TDX: [Self; 4] = [Self::Inblob, Self::Outblob, Self::Generation, Self::Provider];

    /// The file's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Inblob => "inblob",
            Self::Outblob => "outblob",
            Self::Auxblob => "auxblob",
            Self::Manifestblob => "manifestblob",
            Self::Generation => "generation",
            Self::Provider => "provider",
            Self::Privlevel => "privlevel",
            Self::PrivlevelFloor => "privlevel_floor",
            Self::ServiceProvider => "service_provider",
        }
    }

    /// The file's mode.
    pub fn mode(self) -> u16 {
        match self {
            Self::Inblob | Self::Privlevel | Self::ServiceProvider => 0o200,
            Self::Outblob
            | Self::Auxblob
            | Self::Manifestblob
            | Self::Generation
            | Self::Provider
            | Self::PrivlevelFloor => 0o400,
        }
    }
}

/// One entry that a guest made.
#[derive(Debug, Default)]
pub struct Entry {
    inblob: Vec<u8>,
    privlevel: u32,
    write_generation: u64,
    report: Option<Cached>,
}

#[derive(Debug)]
struct Cached {
    generation: u64,
    blobs: Blobs,
}

impl Entry {
    /// Writes `data` at `offset`.
    pub fn write(&mut self, attribute: Attribute, offset: usize, data: &[u8]) -> Result<(), TsmErrno> {
        match attribute {
            Attribute::Inblob => {
                if offset > self.inblob.len() || offset.saturating_add(data.len()) > INBLOB_CAP || data.is_empty() {
                    return Err(TsmErrno::Invalid);
                }
                self.inblob.truncate(offset);
                self.inblob.extend_from_slice(data);
            }
            Attribute::Privlevel => {
                let text = std::str::from_utf8(data).map_err(|_| TsmErrno::Invalid)?;
                let level: u32 = text.trim_end_matches('\n').parse().map_err(|_| TsmErrno::Invalid)?;
                if level > PRIVLEVEL_MAX {
                    return Err(TsmErrno::Invalid);
                }
                self.privlevel = level;
            }
            // There is no SVSM to ask.
            Attribute::ServiceProvider => return Err(TsmErrno::Invalid),
            Attribute::Outblob
            | Attribute::Auxblob
            | Attribute::Manifestblob
            | Attribute::Generation
            | Attribute::Provider
            | Attribute::PrivlevelFloor => return Err(TsmErrno::Denied),
        }
        self.write_generation = self.write_generation.saturating_add(1);
        Ok(())
    }

    /// Reads up to `len` bytes at `offset`. A read from the start makes the report anew where an attribute was written
    /// since; one that goes on in a report whose attributes changed meanwhile has lost the race.
    pub fn read(
        &mut self,
        device: &Device,
        attribute: Attribute,
        offset: usize,
        len: usize,
    ) -> Result<Vec<u8>, TsmErrno> {
        let whole: Vec<u8> = match attribute {
            Attribute::Outblob => self.blobs(device, offset)?.outblob.clone(),
            Attribute::Auxblob => self.blobs(device, offset)?.auxblob.clone(),
            Attribute::Manifestblob => {
                self.blobs(device, offset)?;
                vec![]
            }
            Attribute::Generation => format!("{}\n", self.write_generation).into_bytes(),
            Attribute::Provider => format!("{}\n", device.provider()).into_bytes(),
            Attribute::PrivlevelFloor => b"0\n".to_vec(),
            Attribute::Inblob | Attribute::Privlevel | Attribute::ServiceProvider => return Err(TsmErrno::Denied),
        };
        Ok(whole.into_iter().skip(offset).take(len).collect())
    }

    fn blobs(&mut self, device: &Device, offset: usize) -> Result<&Blobs, TsmErrno> {
        if self.inblob.is_empty() {
            return Err(TsmErrno::Invalid);
        }
        let current = self.report.take().filter(|cached| cached.generation == self.write_generation);
        let cached = match current {
            Some(cached) => cached,
            None if offset > 0 => return Err(TsmErrno::WouldBlock),
            None => Cached {
                generation: self.write_generation,
                blobs: device.report(&self.inblob, Some(self.privlevel)).map_err(|_| TsmErrno::Io)?,
            },
        };
        Ok(&self.report.insert(cached).blobs)
    }
}
