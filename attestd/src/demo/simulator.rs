//! A simulated TEE: `tee-simulator` in a process of its own, as the software TPM is.

use std::path::PathBuf;
use std::time::Duration;

use evidence::sev_snp::SnpReport;
use evidence::tdx::Quote;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::time::timeout;

use super::machine::SOON;
use super::stage::{DemoFault, Stage};
use crate::tee::reports::TeeReports as _;
use crate::tee::{TeeKind, TeeReport, socket};

/// The TEEs that are simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Simulated {
    /// An AMD SEV-SNP guest on a Milan.
    Snp,
    /// An Intel TDX guest.
    Tdx,
}

impl Simulated {
    const fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::Snp => &["--platform", "snp", "--product", "milan"],
            Self::Tdx => &["--platform", "tdx"],
        }
    }

    const fn tee(self) -> TeeKind {
        match self {
            Self::Snp => TeeKind::SevSnp,
            Self::Tdx => TeeKind::Tdx,
        }
    }
}

impl std::fmt::Display for Simulated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.tee().fmt(f)
    }
}

/// A running simulator; it dies with this value.
pub(super) struct Simulator {
    kind: Simulated,
    child: Child,
    control: PathBuf,
    measurement: String,
    tcb: Vec<u8>,
}

impl Simulator {
    /// Makes a vendor and a machine of his, starts it, and writes what others must know of the vendor.
    pub(super) async fn start(stage: &Stage, kind: Simulated) -> Result<Self, DemoFault> {
        let (state, control, served) = (stage.path(STATE), stage.path("tee-control.sock"), stage.path(SOCKET));
        let mut serve = stage.simulator()?;
        serve.arg("serve").args(kind.arguments()).arg("--state").arg(&state);
        serve.arg("--socket").arg(&served).arg("--control").arg(&control);
        let child = stage.start(serve, "tee-simulator.log")?;
        let ready = async || Ok(UnixStream::connect(&served).await.ok().map(drop));
        stage.until("the simulator's start", ready).await?;
        let mut roots = stage.simulator()?;
        roots.arg("roots").args(kind.arguments()).arg("--state").arg(&state).arg("--out").arg(stage.path(VENDOR));
        let made = stage.finish(roots).await?;
        if !made.status.success() {
            return Err(DemoFault::new("writing the simulated vendor's roots", String::from_utf8_lossy(&made.stderr)));
        }
        let (measurement, tcb) = present(kind, served).await?;
        Ok(Self { kind, child, control, measurement, tcb })
    }

    pub(super) const fn kind(&self) -> Simulated {
        self.kind
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id().unwrap_or(0)
    }

    /// What it measured when it was made, in hex.
    pub(super) fn measurement(&self) -> &str {
        &self.measurement
    }

    /// The vendor's root, and the option that names it to `verifier init`.
    pub(super) fn root(&self, stage: &Stage) -> [String; 2] {
        let vendor = stage.path(VENDOR);
        let (option, root) = match self.kind {
            Simulated::Snp => ("--simulated-snp-root", format!("Milan={}", vendor.join("ark.pem").display())),
            Simulated::Tdx => ("--simulated-tdx-root", vendor.join("root.pem").display().to_string()),
        };
        [option.to_owned(), root]
    }

    /// `[tee]` of the node's configuration.
    pub(super) fn toml(&self, stage: &Stage) -> String {
        let mut toml = format!("[tee]\nreports = \"socket:{}\"\ndeadline_ms = {TEE_DEADLINE_MS}\n", stage.text(SOCKET));
        if self.kind == Simulated::Tdx {
            toml.push_str(&format!("ccel = \"{}\"\n", stage.path(VENDOR).join("ccel.bin").display()));
        }
        toml
    }

    /// Puts older firmware into it: its reports say a lower level than they did.
    pub(super) async fn roll_back(&self) -> Result<&'static str, DemoFault> {
        let level = |at: usize| self.tcb.get(at).copied().unwrap_or(0);
        match self.kind {
            Simulated::Snp => {
                // TCB_VERSION of Milan (SEV-SNP Firmware ABI, table 3): boot loader, TEE, four reserved, SNP, microcode.
                let snp = level(6).saturating_sub(1);
                let tcb = json!({ "boot_loader": level(0), "tee": level(1), "snp": snp, "microcode": level(7) });
                self.set(json!({ "tcb": tcb })).await?;
                Ok("the host's SNP firmware is an older one: the reports' TCB is lower, and signed for")
            }
            Simulated::Tdx => {
                // TEE_TCB_SVN (Intel TDX Module ABI): the module's own version comes first. Intel tells few of them apart, and
                // half of a version that is up to date is below what is called so.
                let mut older = self.tcb.clone();
                older.iter_mut().take(1).for_each(|svn| *svn /= 2);
                self.set(json!({ "tdx": { "tee_tcb_svn": hex::encode(older) } })).await?;
                Ok("the host's TDX module is an older one: the quotes' TCB is lower")
            }
        }
    }

    /// Changes what later reports say.
    pub(super) async fn set(&self, change: Value) -> Result<(), DemoFault> {
        let doing = "changing the simulated machine";
        let text = json!({ "set": change }).to_string();
        let exchange = async {
            let mut stream = UnixStream::connect(&self.control).await?;
            stream.write_u32(u32::try_from(text.len()).unwrap_or(u32::MAX)).await?;
            stream.write_all(text.as_bytes()).await?;
            let length = stream.read_u32().await?.min(ANSWER_CAP_BYTES);
            let mut answer = vec![0; usize::try_from(length).unwrap_or(0)];
            stream.read_exact(&mut answer).await?;
            std::io::Result::Ok(answer)
        };
        let answer = timeout(ANSWER_WITHIN, exchange).await.map_err(|_| DemoFault::new(doing, "it hangs"))?;
        let answer = answer.map_err(|error| DemoFault::new(doing, error))?;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        match answer.get("generation") {
            Some(_) => Ok(()),
            None => Err(DemoFault::new(doing, answer)),
        }
    }

    /// Ends it by SIGTERM and waits for it.
    pub(super) async fn stop(mut self) -> Result<(), DemoFault> {
        let doing = "stopping the simulator";
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| DemoFault::new(doing, "it ended by itself"))?;
        kill_process(pid, Signal::TERM).map_err(|errno| DemoFault::new(doing, errno))?;
        let ended = timeout(SOON, self.child.wait()).await.map_err(|_| DemoFault::new(doing, "it does not end"))?;
        let status = ended.map_err(|error| DemoFault::new(doing, error))?;
        if status.success() { Ok(()) } else { Err(DemoFault::new(doing, status)) }
    }
}

/// Measurement and TCB that its reports say now.
async fn present(kind: Simulated, served: PathBuf) -> Result<(String, Vec<u8>), DemoFault> {
    let doing = "asking the simulator for a report";
    let asking = tokio::task::spawn_blocking(move || {
        let data = [0; 64];
        let raw = socket::Simulator::new(served, None, ANSWER_WITHIN).report(&data)?;
        TeeReport::accept(kind.tee(), raw, &data)
    });
    let asked = asking.await.map_err(|error| DemoFault::new(doing, error))?;
    let report = asked.map_err(|error| DemoFault::new(doing, error))?;
    let malformed = |denial: evidence::EvidenceDenial| DemoFault::new(doing, denial);
    match kind {
        Simulated::Snp => {
            let report = SnpReport::parse(report.report()).map_err(malformed)?;
            Ok((hex::encode(report.measurement), report.reported_tcb.to_vec()))
        }
        Simulated::Tdx => {
            let quote = Quote::parse(report.report()).map_err(malformed)?;
            let report = quote.td_report().map_err(malformed)?;
            Ok((hex::encode(report.mr_td), report.tee_tcb_svn.to_vec()))
        }
    }
}

/// Where the simulator keeps its keys, where reports are asked for, and where the vendor's certificates are.
const STATE: &str = "tee-simulator";
const SOCKET: &str = "tee.sock";
pub(super) const VENDOR: &str = "tee-vendor";
const ANSWER_CAP_BYTES: u32 = 64 * 1024;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// A fraction of the lease: the simulator answers in milliseconds, and one that hangs is noticed before the lease ends.
const TEE_DEADLINE_MS: u32 = 500;
