//! The IMA log: does it hold more, or less, than what was judged?
//!
//! Only its length is looked at. What the entries say, and that they are what PCR 10 was extended with, is for a verifier.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;

use governance::halt::{HaltReason, Trigger};

use super::Finding;

/// The end of a log that grows.
#[derive(Debug)]
pub(super) struct ImaTail {
    path: PathBuf,
    open: Option<Open>,
    /// Length that was reported as not judged: it is reported once.
    reported_bytes: u64,
}

#[derive(Debug)]
struct Open {
    file: File,
    read_bytes: u64,
    /// Files of securityfs say that they have no bytes; any other says how many.
    says_its_length: bool,
}

impl ImaTail {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, open: None, reported_bytes: 0 }
    }

    /// Reads on, and compares with how long the log was when evidence with it was last judged; nothing was to be judged if
    /// no verifier asked for it.
    pub(super) async fn look(mut self, judged_bytes: Option<u64>) -> (Self, Option<Finding>) {
        let Some(judged_bytes) = judged_bytes else { return (self, None) };
        // securityfs files may block while they are produced.
        let path = self.path.clone();
        let looked = tokio::task::spawn_blocking(move || {
            let finding = self.compare(judged_bytes);
            (self, finding)
        });
        match looked.await {
            Ok(looked) => looked,
            Err(error) => {
                tracing::error!(%error, "looking at the IMA log failed");
                (Self::new(path), Some(Finding::Halt(HaltReason::ImaRolledBack)))
            }
        }
    }

    fn compare(&mut self, judged_bytes: u64) -> Option<Finding> {
        let length = match self.length() {
            Ok(Some(bytes)) if bytes >= judged_bytes => bytes,
            Ok(found) => {
                tracing::warn!(?found, judged_bytes, "the IMA log is shorter than what was judged, or another one");
                return Some(Finding::Halt(HaltReason::ImaRolledBack));
            }
            Err(error) => {
                tracing::warn!(%error, path = %self.path.display(), "the IMA log cannot be read");
                return Some(Finding::Halt(HaltReason::ImaRolledBack));
            }
        };
        if length > judged_bytes && length > self.reported_bytes {
            self.reported_bytes = length;
            return Some(Finding::Attest(Trigger::ImaAppended));
        }
        None
    }

    /// How long it is now; none if it is another file than before, or was cut.
    fn length(&mut self) -> io::Result<Option<u64>> {
        let there = std::fs::metadata(&self.path)?;
        let open = match &mut self.open {
            Some(open) => open,
            None => self.open.insert(Open { file: File::open(&self.path)?, read_bytes: 0, says_its_length: false }),
        };
        let ours = open.file.metadata()?;
        open.says_its_length |= ours.len() > 0;
        let cut = open.says_its_length && ours.len() < open.read_bytes;
        if cut || (there.dev(), there.ino()) != (ours.dev(), ours.ino()) {
            return Ok(None);
        }
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            let read = open.file.read(&mut chunk)?;
            if read == 0 {
                return Ok(Some(open.read_bytes));
            }
            open.read_bytes = open.read_bytes.saturating_add(u64::try_from(read).unwrap_or(u64::MAX));
        }
    }
}

const CHUNK_BYTES: usize = 64 * 1024;

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    const APPENDED: Option<Finding> = Some(Finding::Attest(Trigger::ImaAppended));
    const ROLLED_BACK: Option<Finding> = Some(Finding::Halt(HaltReason::ImaRolledBack));

    fn log(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[tokio::test]
    async fn a_new_entry_is_shown_once_and_again_only_when_more_came() {
        let mut log = log(b"boot_aggregate\n");
        let tail = ImaTail::new(log.path().to_owned());
        let (tail, nothing) = tail.look(None).await;
        assert_eq!(nothing, None, "no verifier asked for it");
        let (tail, nothing) = tail.look(Some(15)).await;
        assert_eq!(nothing, None);
        log.write_all(b"/usr/bin/new\n").unwrap();
        let (tail, appended) = tail.look(Some(15)).await;
        assert_eq!(appended, APPENDED);
        let (tail, nothing) = tail.look(Some(15)).await;
        assert_eq!(nothing, None, "it is being judged");
        log.write_all(b"x").unwrap();
        let (tail, appended) = tail.look(Some(28)).await;
        assert_eq!(appended, APPENDED);
        let (_, nothing) = tail.look(Some(29)).await;
        assert_eq!(nothing, None);
    }

    #[tokio::test]
    async fn what_came_before_the_first_look_is_noticed_too() {
        let log = log(b"boot_aggregate\n/usr/bin/new\n");
        assert_eq!(ImaTail::new(log.path().to_owned()).look(Some(15)).await.1, APPENDED);
    }

    #[tokio::test]
    async fn a_log_that_was_cut_replaced_or_removed_halts() {
        let path = |log: &tempfile::NamedTempFile| ImaTail::new(log.path().to_owned());
        let short = log(b"boot");
        assert_eq!(path(&short).look(Some(15)).await.1, ROLLED_BACK);
        let log_cut = log(b"boot_aggregate\n");
        let (tail, _) = path(&log_cut).look(Some(15)).await;
        log_cut.as_file().set_len(0).unwrap();
        assert_eq!(tail.look(Some(15)).await.1, ROLLED_BACK);
        let replaced = log(b"boot_aggregate\n");
        let (tail, _) = path(&replaced).look(Some(15)).await;
        let (mut other, replaced) = (log(b"boot_aggregate\n"), replaced.into_temp_path());
        other.write_all(b"longer\n").unwrap();
        other.persist(&replaced).unwrap();
        assert_eq!(tail.look(Some(15)).await.1, ROLLED_BACK);
        let gone = log(b"boot_aggregate\n");
        let (tail, _) = path(&gone).look(Some(15)).await;
        gone.close().unwrap();
        assert_eq!(tail.look(Some(15)).await.1, ROLLED_BACK);
    }
}
