//! `verifier evidence inspect|verify`: saved evidence, judged for authenticity alone, offline.
//!
//! Genuinely signed and consistent is authentic here, whatever a policy would say of it: a SHA-1 bank or a log
//! that breaks the boot grammar is authentic with a note, for appraisal to refuse. What is asked for and
//! cannot be checked is a fault, never a pass. Batches may hold checkpoints, tiles and proofs of logs too.

mod ak;
mod args;
mod azure;
mod batch;
mod case;
mod ccel;
mod classes;
mod dcap_quote;
mod ek_chain;
mod event_log;
mod files;
mod ima;
mod inspect;
mod known;
mod outcome;
mod pcr_file;
mod snp;
mod tlog;
mod tpm_quote;
mod tsm;

use std::{io::Write, process::ExitCode};

pub(crate) use args::parse_time;
pub use args::{EvidenceArgs, EvidenceCommand, Format, InspectArgs, VerifyArgs};
pub use batch::judge_lines;
pub use case::{Case, Kind};
pub(crate) use files::pem_block;
pub use known::Known;
pub use outcome::{Denial, Fault, Outcome};

/// Exit code for command lines that cannot be meant (DESIGN: done 0, usage 2, denied 3, fault 4).
const EXIT_USAGE: u8 = 2;
const EXIT_DENIED: u8 = 3;
const EXIT_FAULT: u8 = 4;

/// Runs `verifier evidence …` and answers on stdout.
#[must_use]
pub fn run(args: EvidenceArgs) -> ExitCode {
    let result = match args.command {
        EvidenceCommand::Verify(verify) if verify.batch => batch::run(),
        EvidenceCommand::Verify(verify) => match verify.into_case() {
            Ok((case, format)) => outcome::print(&case.judge(), &case, format),
            Err(usage) => return usage_error(&usage),
        },
        EvidenceCommand::Inspect(inspect) => match inspect.into_case() {
            Ok((case, format)) => inspect::run(&case, format),
            Err(usage) => return usage_error(&usage),
        },
    };
    result.unwrap_or_else(|error| {
        // A reader that went away is the only way to fail here; there is nobody left to tell on stdout.
        let _ = writeln!(std::io::stderr(), "error: cannot write the answer: {error}");
        ExitCode::from(EXIT_FAULT)
    })
}

fn usage_error(what: &str) -> ExitCode {
    let _ = writeln!(std::io::stderr(), "error: {what}\n\nFor more information, try 'verifier evidence --help'.");
    ExitCode::from(EXIT_USAGE)
}
