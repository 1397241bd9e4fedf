//! A node with a software TPM of its own.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use attestd::config::{Tcti, TpmConfig};
use attestd::demo::swtpm::Swtpm;
use attestd::state::StateDir;
use attestd::tpm::{HandleCounts, Tpm};
use evidence::digest::HashAlg;
use evidence::tpm::pcr::{PcrSelection, PcrSet};

pub(crate) struct Node {
    pub(crate) tpm: Tpm,
    pub(crate) state: Arc<StateDir>,
    pub(crate) swtpm: Swtpm,
    pub(crate) dir: tempfile::TempDir,
}

impl Node {
    pub(crate) fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        for sub in ["tpm", "state"] {
            let path = dir.path().join(sub);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        }
        let swtpm = Swtpm::start(&dir.path().join("tpm")).unwrap();
        let state = Arc::new(StateDir::open(&dir.path().join("state")).unwrap());
        Self { tpm: client(&swtpm), state, swtpm, dir }
    }

    /// Another owner of the same TPM.
    pub(crate) fn second_client(&self) -> Tpm {
        client(&self.swtpm)
    }

    /// One that gives up early.
    pub(crate) fn client_with_deadline(&self, deadline_ms: u64) -> Tpm {
        Tpm::open(&config(&self.swtpm.tcti().to_string(), deadline_ms)).unwrap()
    }

    pub(crate) async fn expect_no_handles(&self) {
        assert_eq!(self.tpm.handles().await.unwrap(), HandleCounts::default());
    }

    /// Starts sessions and forgets them, as a client that crashed.
    pub(crate) fn leak_sessions(&self, count: usize) {
        let Tcti::Swtpm { host, port } = self.swtpm.tcti() else { panic!("swtpm expected") };
        for _ in 0..count {
            // TPM2_StartAuthSession, unsalted and unbound, HMAC, no encryption, SHA-256 (Part 3, 11.1).
            let mut command = vec![0x80, 0x01, 0, 0, 0, 0, 0, 0, 0x01, 0x76];
            command.extend(0x4000_0007u32.to_be_bytes()); // tpmKey: TPM_RH_NULL
            command.extend(0x4000_0007u32.to_be_bytes()); // bind: TPM_RH_NULL
            command.extend([0, 16]);
            command.extend([7; 16]); // nonceCaller
            command.extend([0, 0]); // encryptedSalt
            command.push(0); // TPM_SE_HMAC
            command.extend([0x00, 0x10]); // symmetric: TPM_ALG_NULL
            command.extend([0x00, 0x0b]); // authHash: SHA-256
            let length = u32::try_from(command.len()).unwrap();
            command[2..6].copy_from_slice(&length.to_be_bytes());
            let mut answer = [0u8; 10];
            let mut stream = std::net::TcpStream::connect((host, port)).unwrap();
            std::io::Write::write_all(&mut stream, &command).unwrap();
            std::io::Read::read_exact(&mut stream, &mut answer).unwrap();
            assert_eq!(answer[6..10], [0; 4], "StartAuthSession");
        }
    }
}

fn client(swtpm: &Swtpm) -> Tpm {
    let config = config(&swtpm.tcti().to_string(), 5_000);
    Tpm::open(&config).unwrap()
}

pub(crate) fn config(tcti: &str, deadline_ms: u64) -> TpmConfig {
    let text = format!("tcti = \"{tcti}\"\nek = \"ecc-p256\"\ncommand_deadline_ms = {deadline_ms}\n");
    toml::from_str(&text).unwrap()
}

pub(crate) fn selection(pcrs: &[u8]) -> PcrSelection {
    PcrSelection { bank: HashAlg::Sha256, pcrs: PcrSet::of(pcrs).unwrap() }
}
