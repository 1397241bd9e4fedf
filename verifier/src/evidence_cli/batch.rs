//! `--batch`: a stream of cases, judged over all cores in bounded memory; one bad line is one fault.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read as _, Write as _},
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, PoisonError, atomic::AtomicBool, atomic::Ordering, mpsc},
    thread,
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    EXIT_FAULT,
    args::{parse_hex, parse_time},
    case::{Case, Kind},
    outcome::{Fault, Outcome},
};

/// Longest request.
const LINE_CAP_BYTES: usize = 256 * 1024;
/// Requests waiting for a core, per core.
const WAITING_CAP: usize = 4;

/// One line of the stream. Fields that a kind does not use are not errors: a corpus sends them to all alike.
#[derive(Deserialize)]
struct Request {
    kind: String,
    files: BTreeMap<String, OneOrMany>,
    #[serde(default)]
    at: Option<String>,
    #[serde(default)]
    expect_nonce: Option<String>,
    #[serde(default)]
    expect_report_data: Option<String>,
    #[serde(default)]
    expect_measurement: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(PathBuf),
    Many(Vec<PathBuf>),
}

/// Answers every line of stdin. 0 when every line was judged, 4 when one could not be.
pub(super) fn run() -> std::io::Result<ExitCode> {
    let cores = thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (sender, receiver) = mpsc::sync_channel::<Line>(cores.saturating_mul(WAITING_CAP));
    let (receiver, failed, had_fault) = (Mutex::new(receiver), Mutex::new(None), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| {
                loop {
                    let next = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
                    let Ok(line) = next else { return };
                    let (id, outcome) = answer(line);
                    had_fault.fetch_or(matches!(outcome, Outcome::Fault(_)), Ordering::Relaxed);
                    if let Err(error) = write_line(&outcome.to_batch_answer(&id)) {
                        failed.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
                    }
                }
            });
        }
        let input = std::io::stdin().lock();
        let read = read_lines(input, |line| {
            let is_failed = failed.lock().unwrap_or_else(PoisonError::into_inner).is_some();
            !is_failed && sender.send(line).is_ok()
        });
        drop(sender);
        read
    })?;
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None if had_fault.into_inner() => Ok(ExitCode::from(EXIT_FAULT)),
        None => Ok(ExitCode::SUCCESS),
    }
}

/// A line as it came, or that it was too long.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// Gives each non-empty line to `take` until it says no more; holds one line in memory.
fn read_lines(mut input: impl BufRead, mut take: impl FnMut(Line) -> bool) -> std::io::Result<()> {
    let cap = u64::try_from(LINE_CAP_BYTES).unwrap_or(u64::MAX);
    loop {
        let mut line = Vec::new();
        if input.by_ref().take(cap).read_until(b'\n', &mut line)? == 0 {
            return Ok(());
        }
        let is_whole = line.last() == Some(&b'\n') || line.len() < LINE_CAP_BYTES;
        if !is_whole {
            input.skip_until(b'\n')?;
        }
        let line = if is_whole { Line::Whole(line) } else { Line::TooLong };
        let is_blank = matches!(&line, Line::Whole(bytes) if bytes.trim_ascii().is_empty());
        if !is_blank && !take(line) {
            return Ok(());
        }
    }
}

fn answer(line: Line) -> (Value, Outcome) {
    let fault = |what: String| Outcome::Fault(Fault::Request { what });
    let Line::Whole(bytes) = line else {
        return (Value::Null, fault(format!("line longer than {LINE_CAP_BYTES} bytes")));
    };
    let document: Value = match serde_json::from_slice(&bytes) {
        Ok(document) => document,
        Err(error) => return (Value::Null, fault(format!("not JSON: {error}"))),
    };
    let id = document.get("id").cloned().unwrap_or(Value::Null);
    let outcome = match case_of(document) {
        Ok(case) => case.judge(),
        Err(refused) => Outcome::Fault(refused),
    };
    (id, outcome)
}

fn case_of(document: Value) -> Result<Case, Fault> {
    let malformed = |what: String| Fault::Request { what };
    let request: Request = serde_json::from_value(document).map_err(|error| malformed(error.to_string()))?;
    let kind = Kind::ALL.into_iter().find(|kind| kind.name() == request.kind);
    let kind = kind.ok_or_else(|| Fault::Kind { kind: request.kind.escape_default().take(64).collect() })?;
    let mut case = Case::new(kind);
    for (role, paths) in request.files {
        let paths = match paths {
            OneOrMany::One(path) => vec![path],
            OneOrMany::Many(paths) => paths,
        };
        let shown: String = role.escape_default().take(64).collect();
        case.add(&role, &format!("a file in the role {shown}"), paths).map_err(malformed)?;
    }
    case.require_roles().map_err(malformed)?;
    case.at = request.at.as_deref().map(parse_time).transpose().map_err(malformed)?;
    let expected = |hexed: Option<String>| hexed.as_deref().map(parse_hex).transpose().map_err(malformed);
    case.expect_nonce = expected(request.expect_nonce)?;
    case.expect_report_data = expected(request.expect_report_data)?;
    case.expect_measurement = expected(request.expect_measurement)?;
    Ok(case)
}

fn write_line(answer: &Value) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(answer)?;
    line.push(b'\n');
    let mut out = std::io::stdout().lock();
    out.write_all(&line)?;
    out.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Line> {
        let mut out = Vec::new();
        read_lines(input, |line| {
            out.push(line);
            true
        })
        .unwrap();
        out
    }

    #[test]
    fn a_line_beyond_its_cap_is_one_bad_line_and_the_next_is_whole() {
        let long = [vec![b'x'; LINE_CAP_BYTES * 3], b"\n{}\n\nend".to_vec()].concat();
        assert_eq!(lines(&long), [Line::TooLong, Line::Whole(b"{}\n".to_vec()), Line::Whole(b"end".to_vec())]);
        let exact = [vec![b'x'; LINE_CAP_BYTES - 1], b"\nnext\n".to_vec()].concat();
        assert_eq!(lines(&exact).len(), 2);
        assert!(matches!(lines(&exact).first(), Some(Line::Whole(_))));
    }

    #[test]
    fn every_bad_line_is_one_fault_with_its_code() {
        let code = |line: &str| match answer(Line::Whole(line.into())).1 {
            Outcome::Fault(fault) => fault.code(),
            judged @ (Outcome::Authentic(_) | Outcome::Denied(_)) => panic!("{line}: {judged:?}"),
        };
        assert_eq!(code("not json"), "fault.request_malformed");
        assert_eq!(code("[]"), "fault.request_malformed");
        assert_eq!(code(r#"{"id":1}"#), "fault.request_malformed");
        assert_eq!(code(r#"{"id":"a","kind":"arm-cca","files":{}}"#), "fault.kind_unsupported");
        assert_eq!(code(r#"{"id":"a","kind":"ima-log","files":{}}"#), "fault.request_malformed");
        assert_eq!(code(r#"{"id":"a","kind":"ima-log","files":{"vcek":"/x"}}"#), "fault.request_malformed");
        assert_eq!(code(r#"{"id":"a","kind":"ima-log","files":{"log":"/nonexistent"}}"#), "fault.file_unreadable");
        assert_eq!(code(r#"{"id":"a","kind":"ima-log","files":{"log":"/"}}"#), "fault.file_unreadable");
        assert_eq!(code(r#"{"id":"a","kind":"ima-log","files":{"log":["/x","/y"]}}"#), "fault.request_malformed");
        assert_eq!(code(r#"{"id":"a","kind":"ima-log","files":{"log":"/x"},"at":"soon"}"#), "fault.request_malformed");
        let (id, _) = answer(Line::Whole(br#"{"id":"case-7","kind":"x","files":{}}"#.to_vec()));
        assert_eq!(id, Value::from("case-7"));
    }
}
