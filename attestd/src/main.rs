//! `attestd`: see the library.

mod verbs;

use std::io::{IsTerminal as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use attestd::cli::{Cli, ConfigVerb, Format, Outcome, Verb};
use attestd::config::Config;
use attestd::gateway::facilities;
use attestd::tee::detect;
use clap::{CommandFactory as _, Parser as _};

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    if let Some(code) = attestd::supervise::run_if_asked(&arguments) {
        return code;
    }
    let cli = Cli::parse();
    quiet_libtss2();
    match perform(cli) {
        Ok(outcome) => outcome.into(),
        Err(error) => {
            // The last words of a failed command; stderr may be closed.
            let _ = writeln!(std::io::stderr(), "attestd: {error:#}");
            Outcome::Fault.into()
        }
    }
}

fn perform(cli: Cli) -> anyhow::Result<Outcome> {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::try_new(&cli.common.log)?)
        // Colours are for people: a journal or a file gets plain text.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    match cli.verb {
        Verb::Config { verb: ConfigVerb::Check } => config_check(&cli.common),
        Verb::Completions { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "attestd", &mut std::io::stdout());
            Ok(Outcome::Done)
        }
        Verb::Man { folder } => {
            clap_mangen::generate_to(Cli::command(), folder)?;
            Ok(Outcome::Done)
        }
        Verb::Evidence(arguments) => block_on(verbs::evidence::evidence(&cli.common, arguments)),
        Verb::Enrol(arguments) => block_on(verbs::enrol::enrol(&cli.common, arguments)),
        Verb::Exec(arguments) => block_on(verbs::client::exec(&cli.common, arguments)),
        Verb::Artifacts(arguments) => block_on(verbs::artifacts::artifacts(&cli.common, arguments)),
        Verb::Status(arguments) => block_on(verbs::client::status(&cli.common, arguments.tree)),
        Verb::Halt(arguments) => block_on(verbs::client::halt(&cli.common, arguments)),
        Verb::Pause(arguments) => block_on(verbs::client::pause(&cli.common, arguments)),
        Verb::Resume(arguments) => block_on(verbs::client::resume(&cli.common, arguments)),
        Verb::Run => verbs::daemon::run(&cli.common),
        Verb::Demo(arguments) => block_on(verbs::demo(arguments)),
    }
}

/// Client verbs wait for one socket: one thread is enough.
fn block_on(verb: impl Future<Output = anyhow::Result<Outcome>>) -> anyhow::Result<Outcome> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(verb)
}

fn config_check(common: &attestd::cli::Common) -> anyhow::Result<Outcome> {
    let mut out = std::io::stdout();
    match Config::load(&common.config_path(), std::env::vars()) {
        Ok(config) => {
            match common.format {
                Format::Text => {
                    write!(out, "{}", config.in_words())?;
                    detect::look(&config).iter().try_for_each(|finding| writeln!(out, "Here: {finding}."))?;
                    let isolation = facilities::in_words(config.halt.cgroup.as_deref());
                    isolation.iter().try_for_each(|sentence| writeln!(out, "Here: {sentence}"))?;
                }
                Format::Json => {
                    let words = config.in_words();
                    let enforced: Vec<&str> = words.lines().collect();
                    let machine: Vec<_> = detect::look(&config).iter().map(detect::Finding::to_json).collect();
                    let document = serde_json::json!({
                        "config": "accepted", "enforced": enforced, "machine": machine,
                        "isolation": facilities::to_json(config.halt.cgroup.as_deref()),
                    });
                    writeln!(out, "{document}")?;
                }
            }
            Ok(Outcome::Done)
        }
        Err(error) => {
            match common.format {
                Format::Text => writeln!(std::io::stderr(), "attestd: {error}")?,
                Format::Json => {
                    writeln!(out, "{}", serde_json::json!({ "config": "refused", "why": error.to_string() }))?
                }
            }
            Ok(Outcome::Usage)
        }
    }
}

/// libtss2 writes every refused command to stderr, also those that we expect and retry. It reads its log level once,
/// from the environment, and changing that in a running process is not safe: so start over with it.
fn quiet_libtss2() {
    if std::env::var_os("TSS2_LOG").is_some() {
        return;
    }
    if let Ok(program) = std::env::current_exe() {
        // Only returns on failure, after which we go on, noisily.
        let _ = Command::new(program).args(std::env::args_os().skip(1)).env("TSS2_LOG", "all+NONE").exec();
    }
}
