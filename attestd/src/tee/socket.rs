//! A simulator's Unix socket: one request and one answer a connection, each a length (u32, big-endian) and JSON.

use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::TeeError;
use super::reports::{REPORT_DATA_BYTES, RawReport, TeeReports};

/// Longest answer.
pub const ANSWER_CAP_BYTES: usize = 256 * 1024;

/// A simulator, reached anew for each request.
#[derive(Debug)]
pub struct Simulator {
    path: PathBuf,
    privlevel: Option<u32>,
    deadline: Duration,
}

#[derive(Serialize)]
struct Ask {
    inblob: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    privlevel: Option<u32>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Answer {
    Refused {
        error: String,
    },
    Report {
        provider: String,
        outblob: String,
        #[serde(default)]
        auxblob: String,
        #[serde(default)]
        manifestblob: String,
    },
}

impl Simulator {
    /// The simulator at `path`; one that takes longer than `deadline` hangs.
    #[must_use]
    pub const fn new(path: PathBuf, privlevel: Option<u32>, deadline: Duration) -> Self {
        Self { path, privlevel, deadline }
    }

    fn connect(&self) -> Result<UnixStream, TeeError> {
        let stream = UnixStream::connect(&self.path).map_err(|error| self.failed("reaching", &error))?;
        // The thread must not stay behind for ever, either; who waits is told by the clock outside it.
        let timeout = Some(self.deadline.saturating_mul(2));
        stream.set_read_timeout(timeout).map_err(|error| self.failed("reaching", &error))?;
        stream.set_write_timeout(timeout).map_err(|error| self.failed("reaching", &error))?;
        Ok(stream)
    }

    fn failed(&self, doing: &'static str, error: &io::Error) -> TeeError {
        let place = self.path.display().to_string();
        if [io::ErrorKind::WouldBlock, io::ErrorKind::TimedOut].contains(&error.kind()) {
            let deadline_ms = u64::try_from(self.deadline.as_millis()).unwrap_or(u64::MAX);
            return TeeError::Hung { doing: "a report", deadline_ms };
        }
        if error.kind() == io::ErrorKind::UnexpectedEof {
            // It went away in the middle of an answer.
            return TeeError::Lost { place, why: error.to_string() };
        }
        TeeError::of_io(doing, place, error)
    }
}

impl TeeReports for Simulator {
    fn report(&mut self, data: &[u8; REPORT_DATA_BYTES]) -> Result<RawReport, TeeError> {
        let malformed = |why: String| TeeError::Malformed { what: "answer", why };
        let ask = Ask { inblob: hex::encode(data), privlevel: self.privlevel };
        let ask = serde_json::to_vec(&ask).map_err(|error| malformed(error.to_string()))?;
        let mut stream = self.connect()?;
        let length = u32::try_from(ask.len()).map_err(|error| malformed(error.to_string()))?;
        let framed = [length.to_be_bytes().as_slice(), &ask].concat();
        stream.write_all(&framed).map_err(|error| self.failed("asking", &error))?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).map_err(|error| self.failed("reading from", &error))?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length > ANSWER_CAP_BYTES {
            return Err(TeeError::TooLarge { what: "answer", cap_bytes: ANSWER_CAP_BYTES });
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).map_err(|error| self.failed("reading from", &error))?;
        let blob = |text: &str| hex::decode(text).map_err(|error| malformed(error.to_string()));
        match serde_json::from_slice(&answer).map_err(|error| malformed(error.to_string()))? {
            Answer::Refused { error } => Err(TeeError::Refused { why: error.escape_debug().take(256).collect() }),
            Answer::Report { provider, outblob, auxblob, manifestblob } => Ok(RawReport {
                provider: provider.escape_debug().take(64).collect(),
                outblob: blob(&outblob)?,
                auxblob: blob(&auxblob)?,
                manifestblob: blob(&manifestblob)?,
            }),
        }
    }

    fn probe(&mut self) -> Result<(), TeeError> {
        self.connect().map(drop)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::path::Path;
    use std::thread::JoinHandle;

    use super::super::reports::TeeKind;
    use super::super::reports::TeeReport;
    use super::*;

    /// Serves one connection with whatever `answer` makes of the request.
    fn serve(path: &Path, answer: impl FnOnce(serde_json::Value) -> Vec<u8> + Send + 'static) -> JoinHandle<()> {
        let listener = UnixListener::bind(path).unwrap();
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).unwrap();
            let mut ask = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
            stream.read_exact(&mut ask).unwrap();
            let _ = stream.write_all(&answer(serde_json::from_slice(&ask).unwrap()));
        })
    }

    fn framed(document: &serde_json::Value) -> Vec<u8> {
        let text = document.to_string().into_bytes();
        [u32::try_from(text.len()).unwrap().to_be_bytes().as_slice(), &text].concat()
    }

    fn genuine(ask: &serde_json::Value) -> serde_json::Value {
        let mut report = vec![0u8; 1184];
        report[0x50..0x90].copy_from_slice(&hex::decode(ask["inblob"].as_str().unwrap()).unwrap());
        serde_json::json!({
            "provider": "sev_guest", "outblob": hex::encode(report), "auxblob": "", "manifestblob": "", "generation": 1
        })
    }

    fn asked(answer: impl FnOnce(serde_json::Value) -> Vec<u8> + Send + 'static) -> Result<RawReport, TeeError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("simulator.sock");
        let server = serve(&path, answer);
        let outcome = Simulator::new(path, Some(1), Duration::from_millis(200)).report(&[7; 64]);
        server.join().unwrap();
        outcome
    }

    #[test]
    fn a_report_is_read() {
        let raw = asked(|ask| {
            assert_eq!(ask["privlevel"], 1);
            framed(&genuine(&ask))
        })
        .unwrap();
        TeeReport::accept(TeeKind::SevSnp, raw, &[7; 64]).unwrap();
    }

    #[test]
    fn one_defect_each_is_a_fault_of_its_own() {
        type Answering = fn(serde_json::Value) -> Vec<u8>;
        let defects: [(Answering, &str); 6] = [
            (|_| framed(&serde_json::json!({ "error": "no" })), "fault.tee_refused"),
            (|_| vec![0xff; 4], "fault.tee_malformed"),
            (|_| framed(&serde_json::json!([])), "fault.tee_malformed"),
            (|_| framed(&serde_json::json!({ "provider": "sev_guest", "outblob": "zz" })), "fault.tee_malformed"),
            (|_| vec![0, 0, 1, 0, b'{'], "fault.tee_lost"),
            (|_| Vec::new(), "fault.tee_lost"),
        ];
        for (n, (answer, code)) in defects.into_iter().enumerate() {
            assert_eq!(asked(answer).unwrap_err().code(), code, "defect {n}");
        }
    }

    #[test]
    fn nobody_there_and_nobody_answering_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("simulator.sock");
        let mut simulator = Simulator::new(path.clone(), None, Duration::from_millis(20));
        assert_eq!(simulator.probe().unwrap_err().code(), "fault.tee_lost");
        let listener = UnixListener::bind(&path).unwrap();
        simulator.probe().unwrap();
        assert_eq!(simulator.report(&[7; 64]).unwrap_err().code(), "fault.tee_hung");
        drop(listener);
        assert_eq!(simulator.probe().unwrap_err().code(), "fault.tee_lost");
    }
}
