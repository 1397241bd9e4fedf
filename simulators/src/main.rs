//! `tee-simulator`: a simulated SEV-SNP or TDX guest device beside a program under test, as swtpm is one for TPMs.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use simulators::process::{
    Choice, Device, Platform, State, bind, mount, serve_control, serve_reports, write_evidence, write_roots,
};
use tokio::signal::unix::{SignalKind, signal};

/// Simulated TEE evidence: it has the form of the real thing and proves nothing.
#[derive(Debug, Parser)]
#[command(name = "tee-simulator", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve reports until SIGTERM or SIGINT; says `ready` on stdout once it does.
    Serve {
        #[command(flatten)]
        machine: MachineArgs,
        /// Unix socket for reports.
        #[arg(long)]
        socket: PathBuf,
        /// Unix socket for changes.
        #[arg(long)]
        control: PathBuf,
        /// Existing folder to mount a configfs-tsm tree on.
        #[arg(long)]
        mount: Option<PathBuf>,
    },
    /// Write roots, certificates, CRLs and collateral.
    Roots {
        #[command(flatten)]
        machine: MachineArgs,
        /// Folder to write to.
        #[arg(long)]
        out: PathBuf,
    },
    /// Write one report or quote and what comes with it.
    Evidence {
        #[command(flatten)]
        machine: MachineArgs,
        /// Report data in hex, up to 64 bytes.
        #[arg(long)]
        report_data: String,
        /// Folder to write to.
        #[arg(long)]
        out: PathBuf,
    },
}

#[derive(Debug, Args)]
struct MachineArgs {
    /// Folder that holds the machine; made where there is none.
    #[arg(long)]
    state: PathBuf,
    /// Vendor; needed where the state folder is new.
    #[arg(long)]
    platform: Option<PlatformArg>,
    /// milan, genoa, bergamo, siena or turin; for snp.
    #[arg(long, requires = "platform")]
    product: Option<String>,
    /// Make vendor keys of this state folder alone; takes seconds for snp.
    #[arg(long, requires = "platform")]
    fresh_keys: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum PlatformArg {
    /// AMD SEV-SNP.
    Snp,
    /// Intel TDX.
    Tdx,
}

impl MachineArgs {
    fn device(&self) -> anyhow::Result<Device> {
        let choice = self.platform.map(|platform| Choice {
            platform: match platform {
                PlatformArg::Snp => Platform::Snp,
                PlatformArg::Tdx => Platform::Tdx,
            },
            product: self.product.clone(),
            fresh_keys: self.fresh_keys,
        });
        Ok(Device::new(State::open(&self.state, choice.as_ref())?.machine()?))
    }
}

fn main() -> ExitCode {
    match run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::from(FAULT)
        }
    }
}

fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Serve { machine, socket, control, mount } => {
            serve(Arc::new(machine.device()?), &socket, &control, mount.as_deref())
        }
        Command::Roots { machine, out } => list(&write_roots(&machine.device()?, &out)?),
        Command::Evidence { machine, report_data, out } => {
            let report_data = hex::decode(report_data).context("--report-data")?;
            if report_data.is_empty() {
                bail!("--report-data is empty");
            }
            list(&write_evidence(&machine.device()?, &report_data, &out)?)
        }
    }
}

fn serve(device: Arc<Device>, socket: &Path, control: &Path, at: Option<&Path>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        // Before anything exists that a signal should clean up.
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let reports = bind(socket)?;
        let changes = bind(control)?;
        serve_reports(&reports, Arc::clone(&device))?;
        serve_control(&changes, Arc::clone(&device))?;
        let mounted = at.and_then(|at| match mount(Arc::clone(&device), at) {
            Ok(session) => Some(session),
            Err(error) => {
                say(&format!("the socket serves, the folder does not: {error}"));
                None
            }
        });
        writeln!(std::io::stdout(), "ready")?;
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        drop(mounted);
        drop((reports, changes));
        Ok(())
    })
}

fn list(files: &[PathBuf]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    for file in files {
        writeln!(out, "{}", file.display())?;
    }
    Ok(())
}

/// One line on stderr; nothing can be done where that is closed.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "tee-simulator: {line}");
}

/// As for the other programs: could not do it.
const FAULT: u8 = 4;
