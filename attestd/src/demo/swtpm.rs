//! A software TPM of one's own: started, reset and stopped, on free ports, with its own state folder.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};

use crate::config::Tcti;

/// Why a software TPM did not start or obey.
#[derive(Debug, thiserror::Error)]
pub enum SwtpmError {
    /// The state folder must be absolute: swtpm changes its working directory.
    #[error("swtpm state folder {path} is not absolute")]
    RelativeState {
        /// The folder.
        path: PathBuf,
    },
    /// The program could not be started.
    #[error("starting {program}: {source}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// It ended or did not answer in time, on every port tried.
    #[error("swtpm did not come up in {attempts} attempts: {last}")]
    NotUp {
        /// How many.
        attempts: u32,
        /// What happened last.
        last: String,
    },
    /// A conversation with it failed.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// It answered something other than success.
    #[error("swtpm answered 0x{code:08x} to {command}")]
    Refused {
        /// The command.
        command: &'static str,
        /// Its code.
        code: u32,
    },
}

fn io(doing: &'static str) -> impl FnOnce(std::io::Error) -> SwtpmError {
    move |source| SwtpmError::Io { doing, source }
}

const ATTEMPTS: u32 = 8;
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// A running swtpm; killed when dropped.
#[derive(Debug)]
pub struct Swtpm {
    child: Child,
    port: u16,
}

impl Swtpm {
    /// Starts swtpm with its state in `state` (absolute; kept afterwards) and waits until it accepts connections.
    ///
    /// # Errors
    /// [`SwtpmError`].
    pub fn start(state: &Path) -> Result<Self, SwtpmError> {
        if !state.is_absolute() {
            return Err(SwtpmError::RelativeState { path: state.to_owned() });
        }
        let mut last = String::new();
        for _ in 0..ATTEMPTS {
            // Another program may take the data port between our letting go of it and swtpm's binding it.
            let (port, control) = two_free_ports()?;
            let tpm = Self { child: spawn(state, port, control)?, port };
            // Connections wait in the control listener, which is ours, until swtpm serves it; by then it has bound the
            // data port. If it ends instead, so do they.
            match tpm.control("CMD_GET_TPMESTABLISHED", &CMD_GET_TPMESTABLISHED.to_be_bytes()) {
                Ok(()) => return Ok(tpm),
                Err(why) => last = why.to_string(),
            }
        }
        Err(SwtpmError::NotUp { attempts: ATTEMPTS, last })
    }

    /// How `attestd` reaches it.
    #[must_use]
    pub const fn tcti(&self) -> Tcti {
        Tcti::Swtpm { host: IpAddr::V4(Ipv4Addr::LOCALHOST), port: self.port }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resets the TPM as a reboot does: TPM2_Shutdown, _TPM_Init, TPM2_Startup. PCRs start over, resetCount grows.
    ///
    /// # Errors
    /// [`SwtpmError`].
    pub fn reset(&self) -> Result<(), SwtpmError> {
        self.command("TPM2_Shutdown", &SHUTDOWN_CLEAR)?;
        self.control("CMD_INIT", &[CMD_INIT.to_be_bytes(), 0u32.to_be_bytes()].concat())?;
        self.command("TPM2_Startup", &STARTUP_CLEAR)
    }

    /// Stops it in good order, so that its next start does not count as an attack.
    ///
    /// # Errors
    /// [`SwtpmError`]; it is killed in any case.
    pub fn stop(mut self) -> Result<(), SwtpmError> {
        self.command("TPM2_Shutdown", &SHUTDOWN_CLEAR)?;
        self.control("CMD_SHUTDOWN", &CMD_SHUTDOWN.to_be_bytes())?;
        self.child.wait().map(|_| ()).map_err(io("waiting for swtpm to end"))
    }

    /// Kills it, as a crash would.
    ///
    /// # Errors
    /// [`SwtpmError::Io`].
    pub fn kill(&mut self) -> Result<(), SwtpmError> {
        self.child.kill().map_err(io("killing swtpm"))?;
        self.child.wait().map(|_| ()).map_err(io("waiting for swtpm to end"))
    }

    /// One TPM command without libtss2.
    fn command(&self, name: &'static str, bytes: &[u8]) -> Result<(), SwtpmError> {
        // TPM_ST, responseSize, responseCode (Part 1, 18.1); these commands answer nothing more.
        let mut header = [0u8; 10];
        exchange(self.port, bytes, &mut header)?;
        success(name, header.split_at(6).1)
    }

    /// One command on the control channel (swtpm_ioctls(3)).
    fn control(&self, name: &'static str, bytes: &[u8]) -> Result<(), SwtpmError> {
        let mut code = [0u8; 4];
        exchange(self.port.saturating_add(1), bytes, &mut code)?;
        success(name, &code)
    }
}

impl Drop for Swtpm {
    fn drop(&mut self) {
        // Already ended, or nothing more can be done about it.
        let _ = self.kill();
    }
}

/// TPM2_Shutdown(CLEAR) and TPM2_Startup(CLEAR) (Part 3, 9.4 and 9.3).
const SHUTDOWN_CLEAR: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x45, 0, 0];
const STARTUP_CLEAR: [u8; 12] = [0x80, 0x01, 0, 0, 0, 12, 0, 0, 0x01, 0x44, 0, 0];

/// swtpm_ioctls(3)
const CMD_INIT: u32 = 2;
const CMD_SHUTDOWN: u32 = 3;
const CMD_GET_TPMESTABLISHED: u32 = 4;

fn address(port: u16) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

fn exchange(port: u16, bytes: &[u8], answer: &mut [u8]) -> Result<(), SwtpmError> {
    let mut stream = TcpStream::connect_timeout(&address(port), ANSWER_WITHIN).map_err(io("connecting to swtpm"))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN)).map_err(io("connecting to swtpm"))?;
    stream.write_all(bytes).map_err(io("writing to swtpm"))?;
    stream.read_exact(answer).map_err(io("reading from swtpm"))
}

fn success(command: &'static str, code: &[u8]) -> Result<(), SwtpmError> {
    let code = code.iter().fold(0u32, |code, byte| (code << 8) | u32::from(*byte));
    if code == 0 { Ok(()) } else { Err(SwtpmError::Refused { command, code }) }
}

/// A free port, and a listener on its successor.
fn two_free_ports() -> Result<(u16, TcpListener), SwtpmError> {
    let mut last = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    for _ in 0..64 {
        let first = TcpListener::bind(address(0)).map_err(io("finding a free port"))?;
        let port = first.local_addr().map_err(io("finding a free port"))?.port();
        let Some(next) = port.checked_add(1) else { continue };
        match TcpListener::bind(address(next)) {
            Ok(control) => return Ok((port, control)),
            Err(source) => last = source,
        }
    }
    Err(io("finding two free ports")(last))
}

fn spawn(state: &Path, port: u16, control: TcpListener) -> Result<Child, SwtpmError> {
    const PROGRAM: &str = "swtpm";
    const CONTROL_FD: i32 = 3;
    let failed = |source: std::io::Error| SwtpmError::Start { program: PROGRAM.to_owned(), source };
    let mut command = Command::new(PROGRAM);
    command
        .args(["socket", "--tpm2", "--flags", "not-need-init,startup-clear"])
        .arg("--tpmstate")
        .arg(format!("dir={}", state.display()))
        .arg("--server")
        .arg(format!("type=tcp,bindaddr=127.0.0.1,port={port}"))
        .arg("--ctrl")
        .arg(format!("type=tcp,fd={CONTROL_FD}"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
        .fd_mappings(vec![FdMapping { parent_fd: control.into(), child_fd: CONTROL_FD }])
        .map_err(|error| failed(std::io::Error::other(error)))?;
    // The listener goes with `command` at the end of this function: from then on it is swtpm's alone.
    command.spawn().map_err(failed)
}
