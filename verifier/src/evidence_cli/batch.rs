//! `--batch`: a stream of cases, judged over all cores in bounded memory; one bad line is one fault.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read as _, Write},
    path::PathBuf,
    process::ExitCode,
    sync::{Mutex, MutexGuard, PoisonError, atomic::AtomicBool, atomic::Ordering},
    thread,
};

use serde::Deserialize;
use serde_json::Value;

use super::{
    EXIT_FAULT,
    args::{parse_hex, parse_time},
    case::{Case, Kind},
    known::Known,
    outcome::{Fault, Outcome},
};

/// Longest request.
const LINE_CAP_BYTES: usize = 256 * 1024;

/// One line of the stream. Fields that a kind does not use are not errors: a corpus sends them to all alike.
#[derive(Deserialize)]
struct Request {
    #[serde(default)]
    id: Value,
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
    let is_judged = judge_lines(BufReader::new(std::io::stdin()), std::io::stdout(), cores)?;
    Ok(if is_judged { ExitCode::SUCCESS } else { ExitCode::from(EXIT_FAULT) })
}

/// Answers every line of `input` by one line of `output`, in the order in which `threads` threads get done with them.
/// Holds one line for each thread, and what [`Known`] keeps. Whether every line could be judged.
///
/// # Errors
/// When `input` or `output` fails; no further line is read then.
pub fn judge_lines(input: impl BufRead + Send, output: impl Write + Send, threads: usize) -> std::io::Result<bool> {
    let (input, output, known) = (Mutex::new(input), Mutex::new(output), Known::default());
    let (failed, had_fault) = (Mutex::new(None), AtomicBool::new(false));
    let answer_next = || {
        if lock(&failed).is_some() {
            return Ok(false);
        }
        let Some(line) = next_line(&mut *lock(&input))? else { return Ok(false) };
        let (id, outcome) = answer(line, &known);
        had_fault.fetch_or(matches!(outcome, Outcome::Fault(_)), Ordering::Relaxed);
        let mut answer = outcome.to_batch_answer(&id)?;
        answer.push(b'\n');
        let mut output = lock(&output);
        output.write_all(&answer)?;
        output.flush()?;
        Ok(true)
    };
    thread::scope(|scope| {
        for _ in 0..threads.max(1) {
            scope.spawn(|| {
                loop {
                    match answer_next() {
                        Ok(true) => {}
                        Ok(false) => return,
                        Err(error) => {
                            lock(&failed).get_or_insert(error);
                            return;
                        }
                    }
                }
            });
        }
    });
    match failed.into_inner().unwrap_or_else(PoisonError::into_inner) {
        Some(error) => Err(error),
        None => Ok(!had_fault.into_inner()),
    }
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A line as it came, or that it was too long.
#[derive(Debug, PartialEq, Eq)]
enum Line {
    Whole(Vec<u8>),
    TooLong,
}

/// The next line that is not blank; `None` at the end. Holds one line in memory.
fn next_line(input: &mut impl BufRead) -> std::io::Result<Option<Line>> {
    let cap = u64::try_from(LINE_CAP_BYTES).unwrap_or(u64::MAX);
    loop {
        let mut line = Vec::new();
        if input.by_ref().take(cap).read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let is_whole = line.last() == Some(&b'\n') || line.len() < LINE_CAP_BYTES;
        if !is_whole {
            input.skip_until(b'\n')?;
            return Ok(Some(Line::TooLong));
        }
        if !line.trim_ascii().is_empty() {
            return Ok(Some(Line::Whole(line)));
        }
    }
}

fn answer(line: Line, known: &Known) -> (Value, Outcome) {
    let malformed = |what: String| Outcome::Fault(Fault::Request { what });
    let Line::Whole(bytes) = line else {
        return (Value::Null, malformed(format!("line longer than {LINE_CAP_BYTES} bytes")));
    };
    match serde_json::from_slice::<Request>(&bytes) {
        Ok(mut request) => {
            let id = request.id.take();
            let judged = case_of(request).map(|case| case.judge_beside(known));
            (id, judged.unwrap_or_else(Outcome::Fault))
        }
        Err(error) => {
            // no request, but perhaps one that says which
            let document: Option<Value> = serde_json::from_slice(&bytes).ok();
            let id = document.and_then(|document| document.get("id").cloned());
            (id.unwrap_or_default(), malformed(error.to_string()))
        }
    }
}

fn case_of(request: Request) -> Result<Case, Fault> {
    let malformed = |what: String| Fault::Request { what };
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

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(input: &[u8]) -> Vec<Line> {
        let mut input = input;
        std::iter::from_fn(|| next_line(&mut input).unwrap()).collect()
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
        let code = |line: &str| match answer(Line::Whole(line.into()), &Known::default()).1 {
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
        let (id, _) = answer(Line::Whole(br#"{"id":"case-7","kind":"x","files":{}}"#.to_vec()), &Known::default());
        assert_eq!(id, Value::from("case-7"));
        let (id, _) = answer(Line::Whole(br#"{"id":["case", 8],"kind":9}"#.to_vec()), &Known::default());
        assert_eq!(id, serde_json::json!(["case", 8]));
    }
}
