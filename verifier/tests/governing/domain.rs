//! A domain in a folder of its own, with the keys of its policy authority.

use std::path::{Path, PathBuf};

use evidence::cose::SigningKey;
use evidence::names::{DomainName, ItemName};
use evidence::time::UnixSeconds;
use firmware_refs::set::ReferenceValueSet;
use governance::statement::{Order, STATEMENT_VERSION, Statement};
use governance::text::Text;
use verifier::config::{Config, ListenConfig, SnpConfig, TdxConfig};
use verifier::governor::Governor;
use verifier::init::{InitOptions, init};
use verifier::live::Live;
use verifier::open::{OpenVerifier, open_store, parts};
use verifier::state::{StateFolder, read_signing_key};

pub(crate) const NOW: UnixSeconds = UnixSeconds(1_800_000_000);

pub(crate) fn options(folder: &Path, lab: bool) -> InitOptions {
    let any = "127.0.0.1:0".parse().unwrap();
    InitOptions {
        witness_quorum: usize::from(!lab),
        domain: DomainName::new("a.example").unwrap(),
        state: folder.join("state"),
        lab,
        store: None,
        authority_folder: (!lab).then(|| folder.join("authority")),
        threshold: if lab { 1 } else { 2 },
        listen: ListenConfig { enrolment: any, nodes: any, admin: None, names: vec!["localhost".to_owned()] },
        federation: None,
        tpm_roots: Vec::new(),
        simulated_roots: Vec::new(),
        snp: SnpConfig::default(),
        tdx: TdxConfig::default(),
    }
}

pub(crate) struct Domain {
    folder: tempfile::TempDir,
    pub(crate) keys: Vec<SigningKey>,
}

impl Domain {
    pub(crate) async fn new(lab: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = init(options(folder.path(), lab), NOW).await.unwrap();
        let keys = made.authority_keys.iter().map(|file| read_signing_key(file).unwrap()).collect();
        Self { folder, keys }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    pub(crate) async fn open(&self, now: UnixSeconds) -> (OpenVerifier, Governor) {
        let state = StateFolder::open(&self.state()).unwrap();
        let config = Config::load(&state.config_path(), []).unwrap();
        let open = open_store(&state, &config).await.unwrap();
        let parts = parts(&state, &config, Live::default()).unwrap();
        let governor = Governor::open(parts, &open.opened.store, &open.opened.log, now).await.unwrap();
        (open, governor)
    }

    pub(crate) fn set(&self, version: u64) -> ReferenceValueSet {
        self.named("laptops", version, "lab")
    }

    pub(crate) fn named(&self, id: &str, version: u64, environment: &str) -> ReferenceValueSet {
        ReferenceValueSet::from_toml(&format!(
            r#"
            id = "{id}"
            version = {version}
            domain = "a.example"
            environment = "{environment}"
            issued_at = "2027-01-01T00:00:00Z"
            not_before = "2026-01-01T00:00:00Z"
            not_after = "2036-01-01T00:00:00Z"
            reason = "test"
            [tpm]
            bank = "sha256"
            pcrs = [4]
            require_event_log = false
            require_ima_log = false
            [tpm.platforms]
            accept = "enrolled"
            [[tpm.firmware]]
            manufacturer = "none"
            floor = "0000000000000000"
            source = "test"
            [[tpm.pcr]]
            index = 4
            [[tpm.pcr.accept]]
            digest = "sha256:{}"
            source = "test"
            "#,
            format!("{version:02x}").repeat(32)
        ))
        .unwrap()
    }

    pub(crate) fn statement(&self, sequence: u64, order: Order) -> Vec<Vec<u8>> {
        let statement = Statement {
            version: STATEMENT_VERSION,
            domain: DomainName::new("a.example").unwrap(),
            sequence,
            order,
            reason: Text::new("because").unwrap(),
            issued_at: NOW,
            expires_at: NOW.plus(3600),
        };
        self.keys.iter().map(|key| statement.sign(key).unwrap()).collect()
    }

    /// Signs a set with every key and hands it in.
    pub(crate) async fn stage(&self, governor: &Governor, set: &ReferenceValueSet) {
        for key in &self.keys {
            let cose = firmware_refs::signed::sign(set, key).unwrap();
            governor.import_references(&cose, NOW).await.unwrap();
        }
    }

    pub(crate) fn activation(&self, sequence: u64, version: u64) -> Vec<Vec<u8>> {
        let (name, set) = (ItemName::new("laptops").unwrap(), self.set(version).digest());
        self.statement(sequence, Order::ActivateReferences { name, version, set, grace_s: 0 })
    }
}

pub(crate) async fn close(open: OpenVerifier, governor: Governor) {
    drop(governor);
    open.opened.close().await;
}
