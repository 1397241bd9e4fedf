//! One defect at a time: a log of genuine form, one thing changed, exactly one denial.

mod cc;
mod hostile;
mod parse;
mod policy;
mod replay;

use super::*;
use crate::denial::EvidenceDenialKind as Kind;

/// Builds logs of genuine form.
#[derive(Clone)]
struct Builder {
    banks: Vec<HashAlg>,
    events: Vec<(u32, EventType, Vec<u8>)>,
}

const GLOBAL: uefi::Guid = uefi::Guid::GLOBAL;
const SECURITY: uefi::Guid = uefi::Guid::IMAGE_SECURITY;

fn variable(guid: uefi::Guid, name: &str, data: &[u8]) -> Vec<u8> {
    let name: Vec<u8> = name.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let lengths = [(name.len() as u64 / 2).to_le_bytes(), (data.len() as u64).to_le_bytes()].concat();
    [&guid.0[..], &lengths, &name, data].concat()
}

/// One EFI_SIGNATURE_LIST of `count` SHA-256 hashes with a header of `header` bytes.
fn signature_list(count: usize, header: usize) -> Vec<u8> {
    let kind = [0x26, 0x16, 0xc4, 0xc1, 0x4c, 0x50, 0x92, 0x40, 0xac, 0xa9, 0x41, 0xf9, 0x36, 0x93, 0x43, 0x28];
    let sizes = [28 + header + 48 * count, header, 48].map(|size| (size as u32).to_le_bytes()).concat();
    [&kind[..], &sizes, &vec![0xaa; header], &vec![0x55; 48 * count]].concat()
}

impl Builder {
    fn genuine() -> Self {
        let mut events = vec![
            (0, EventType::SCrtmVersion, b"v1".to_vec()),
            (0, EventType::EfiPlatformFirmwareBlob, vec![1; 16]),
            (7, EventType::EfiVariableDriverConfig, variable(GLOBAL, "SecureBoot", &[1])),
            (7, EventType::EfiVariableDriverConfig, variable(GLOBAL, "PK", &signature_list(1, 0))),
            (7, EventType::EfiVariableDriverConfig, variable(GLOBAL, "KEK", &signature_list(2, 0))),
            (7, EventType::EfiVariableDriverConfig, variable(SECURITY, "db", &signature_list(1, 7))),
            (
                7,
                EventType::EfiVariableDriverConfig,
                variable(SECURITY, "dbx", &[signature_list(3, 0), signature_list(1, 0)].concat()),
            ),
            (1, EventType::EfiVariableBoot, variable(GLOBAL, "BootOrder", &[0, 0])),
            (4, EventType::EfiAction, b"Calling EFI Application from Boot Option".to_vec()),
        ];
        events.extend((0..=7).map(|pcr| (pcr, EventType::Separator, vec![0; 4])));
        events.extend([
            (7, EventType::EfiVariableAuthority, variable(SECURITY, "db", &[7; 60])),
            (4, EventType::EfiBootServicesApplication, vec![2; 40]),
            (8, EventType::Ipl, b"grub_cmd: set timeout=0\0".to_vec()),
        ]);
        Self { banks: vec![HashAlg::Sha1, HashAlg::Sha256], events }
    }

    fn position(&self, wanted: EventType, pcr: u32) -> usize {
        self.events.iter().position(|(index, kind, _)| (*index, *kind) == (pcr, wanted)).unwrap()
    }

    fn spec_id(&self) -> Vec<u8> {
        let mut data = b"Spec ID Event03\0".to_vec();
        data.extend([0, 0, 0, 0, 0, 2, 0, 2]);
        data.extend((self.banks.len() as u32).to_le_bytes());
        for bank in &self.banks {
            data.extend(bank.tpm_id().to_le_bytes());
            data.extend((bank.len() as u16).to_le_bytes());
        }
        data.push(0);
        data
    }

    fn bytes(&self) -> Vec<u8> {
        let mut out = sha1_event(0, EventType::NoAction, &[0; 20], &self.spec_id());
        for (pcr, kind, data) in &self.events {
            out.extend(agile_event(*pcr, *kind, &self.banks, data));
        }
        out
    }
}

fn sha1_event(pcr: u32, kind: EventType, digest: &[u8], data: &[u8]) -> Vec<u8> {
    let head = [pcr.to_le_bytes(), kind.number().to_le_bytes()].concat();
    [&head[..], digest, &(data.len() as u32).to_le_bytes(), data].concat()
}

fn agile_event(pcr: u32, kind: EventType, banks: &[HashAlg], data: &[u8]) -> Vec<u8> {
    let mut out = [pcr.to_le_bytes(), kind.number().to_le_bytes(), (banks.len() as u32).to_le_bytes()].concat();
    for bank in banks {
        out.extend(bank.tpm_id().to_le_bytes());
        let digest = if kind == EventType::NoAction { Digest::zero(*bank) } else { bank.hash(&[data]) };
        out.extend(digest.as_bytes());
    }
    out.extend((data.len() as u32).to_le_bytes());
    out.extend(data);
    out
}

/// What parsing, E5 and the boot grammar say, in this order.
fn judge(bytes: &[u8]) -> Result<BootFacts, EvidenceDenial> {
    let log = EventLog::parse(bytes)?;
    log.banks().into_iter().try_for_each(|alg| log.verify_event_data(alg))?;
    log.verify_boot_grammar()
}

#[track_caller]
fn denied(bytes: &[u8], kind: Kind) {
    let denial = judge(bytes).expect_err("one defect");
    assert_eq!(Kind::from(&denial), kind, "{denial}");
}

#[track_caller]
fn defect(kind: Kind, change: impl FnOnce(&mut Builder)) {
    let mut builder = Builder::genuine();
    change(&mut builder);
    denied(&builder.bytes(), kind);
}

#[track_caller]
fn byte_defect(kind: Kind, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = Builder::genuine().bytes();
    change(&mut bytes);
    denied(&bytes, kind);
}
