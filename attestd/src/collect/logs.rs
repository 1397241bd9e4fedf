//! Measurement logs, read whole and capped.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use evidence::event_log::CcEventLog;
use evidence::tpm::evidence::{EVENT_LOG_CAP_BYTES, IMA_LOG_CAP_BYTES};

use super::fault::CollectFault;

/// A log that may have to go with Evidence.
pub(super) struct Log {
    name: &'static str,
    /// Configuration key.
    key: &'static str,
    cap_bytes: usize,
}

pub(super) const EVENT_LOG: Log = Log { name: "event log", key: "logs.event_log", cap_bytes: EVENT_LOG_CAP_BYTES };
pub(super) const IMA_LOG: Log = Log { name: "IMA log", key: "logs.ima_log", cap_bytes: IMA_LOG_CAP_BYTES };
pub(super) const CCEL: Log = Log { name: "event log of the TD", key: "tee.ccel", cap_bytes: EVENT_LOG_CAP_BYTES };

/// Before anything is quoted: is each log that is wanted configured?
pub(super) fn require(logs: &[(bool, &Log, Option<&Path>)]) -> Result<(), CollectFault> {
    match logs.iter().find(|(wanted, _, path)| *wanted && path.is_none()) {
        Some((_, log, _)) => Err(CollectFault::LogNotConfigured { log: log.name, key: log.key }),
        None => Ok(()),
    }
}

/// The log, if it is wanted.
pub(super) async fn read(
    wanted: bool,
    log: &'static Log,
    path: Option<&Path>,
) -> Result<Option<Vec<u8>>, CollectFault> {
    let Some(path) = path.filter(|_| wanted) else { return Ok(None) };
    let path = path.to_owned();
    // securityfs files block while they are produced.
    let read = tokio::task::spawn_blocking(move || read_capped(log, &path)).await;
    read.map_err(|error| CollectFault::Assembly(error.to_string()))?.map(Some)
}

/// A TD's event log without the padding of its ACPI table.
pub(super) fn without_padding(mut bytes: Vec<u8>) -> Result<Vec<u8>, CollectFault> {
    let malformed = |why| CollectFault::LogMalformed { log: CCEL.name, why };
    let length = CcEventLog::trimmed(&bytes).map_err(malformed)?.len();
    bytes.truncate(length);
    Ok(bytes)
}

/// Reads to the end and not by size: securityfs says 0.
fn read_capped(log: &Log, path: &Path) -> Result<Vec<u8>, CollectFault> {
    let unreadable = |source| CollectFault::LogUnreadable { log: log.name, path: path.display().to_string(), source };
    let limit = u64::try_from(log.cap_bytes).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(limit).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() > log.cap_bytes {
        return Err(CollectFault::LogTooLarge { log: log.name, cap_bytes: log.cap_bytes });
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tds_log_is_sent_without_its_padding_and_what_is_none_is_a_fault() {
        // TCG_PCClientPCREvent with a TCG_EfiSpecIDEvent of one algorithm, SHA-384 (PFP, section 10.4.5.1)
        let mut log = [1_u32.to_le_bytes(), 3_u32.to_le_bytes()].concat();
        log.extend([0; 20]);
        log.extend(33_u32.to_le_bytes());
        log.extend(b"Spec ID Event03\0\0\0\0\0\0\x02\0\x02\x01\0\0\0\x0c\0\x30\0\0");
        let padded = [log.as_slice(), &[0xff; 4096]].concat();
        assert_eq!(without_padding(padded).unwrap(), log);
        assert_eq!(without_padding(log.clone()).unwrap(), log);
        let fault = without_padding(log[1..].to_vec()).unwrap_err();
        assert_eq!(fault.code(), "fault.log_malformed");
    }

    #[test]
    fn a_log_above_its_cap_is_not_sent() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("log");
        File::create(&path).unwrap().set_len(u64::try_from(EVENT_LOG_CAP_BYTES).unwrap() + 1).unwrap();
        assert!(matches!(read_capped(&EVENT_LOG, &path), Err(CollectFault::LogTooLarge { .. })));
        assert!(matches!(read_capped(&EVENT_LOG, &dir.path().join("no")), Err(CollectFault::LogUnreadable { .. })));
    }
}
