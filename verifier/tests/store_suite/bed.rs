//! A place for one store: an SQLite file, or a database on a PostgreSQL server
//! that this test starts for itself.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use evidence::cose::SigningKey;
use verifier::log::{AuditReport, CheckpointSigner, OpenOptions, Opened, audit_whole_log, open};
use verifier::store::{Database, StoreError, create};

pub(crate) struct Bed {
    pub(crate) folder: Folder,
    pub(crate) url: String,
}

/// A folder that goes away with the bed, or one that does not.
pub(crate) enum Folder {
    Ours(tempfile::TempDir),
    Theirs(PathBuf),
}

impl Folder {
    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Ours(folder) => folder.path(),
            Self::Theirs(folder) => folder,
        }
    }
}

impl Bed {
    pub(crate) async fn sqlite() -> Self {
        Self::new_sqlite(Folder::Ours(tempfile::tempdir().unwrap())).await
    }

    #[allow(dead_code, reason = "used by one of the two test programs")]
    pub(crate) async fn sqlite_in(folder: &Path) -> Self {
        Self::new_sqlite(Folder::Theirs(folder.to_owned())).await
    }

    /// One that another process made.
    #[allow(dead_code, reason = "used by one of the two test programs")]
    pub(crate) fn existing(folder: &Path) -> Self {
        let folder = Folder::Theirs(folder.to_owned());
        Self { url: Self::sqlite_url(&folder), folder }
    }

    async fn new_sqlite(folder: Folder) -> Self {
        let url = Self::sqlite_url(&folder);
        Self::at(folder, url).await
    }

    fn sqlite_url(folder: &Folder) -> String {
        format!("sqlite://{}", folder.path().join("verifier.db").display())
    }

    pub(crate) async fn postgres(server: &Postgres, name: &str) -> Self {
        Self::at(Folder::Ours(tempfile::tempdir().unwrap()), server.database(name)).await
    }

    async fn at(folder: Folder, url: String) -> Self {
        create(&Database::at(&url).unwrap(), "a.example", "instance-1").await.unwrap();
        std::fs::create_dir(folder.path().join("tiles")).unwrap();
        Self { folder, url }
    }

    pub(crate) fn tiles(&self) -> PathBuf {
        self.folder.path().join("tiles")
    }

    pub(crate) fn database(&self) -> Database {
        Database::at(&self.url).unwrap()
    }

    pub(crate) async fn open(&self) -> Opened {
        self.try_open("instance-1").await.unwrap()
    }

    pub(crate) async fn try_open(&self, instance: &str) -> Result<Opened, StoreError> {
        open(self.options(instance)).await
    }

    pub(crate) fn options(&self, instance: &str) -> OpenOptions {
        use std::sync::atomic::{AtomicU64, Ordering};
        static HOLDERS: AtomicU64 = AtomicU64::new(0);
        OpenOptions {
            database: self.database(),
            instance: instance.to_owned(),
            holder: format!("holder-{}", HOLDERS.fetch_add(1, Ordering::Relaxed)),
            tiles: self.tiles(),
            signer: signer(),
        }
    }

    pub(crate) async fn audit(&self) -> AuditReport {
        audit_whole_log(&self.database(), &self.tiles(), &signer(), None, |_, _| {}).await.unwrap()
    }

    /// Runs a statement behind the store's back.
    #[allow(dead_code, reason = "used by one of the two test programs")]
    pub(crate) async fn tamper(&self, statement: &'static str) {
        use sqlx::Connection;
        let mut connection = sqlx::AnyConnection::connect(&self.url).await.unwrap();
        sqlx::raw_sql(statement).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }
}

pub(crate) fn signer() -> CheckpointSigner {
    CheckpointSigner::new("log.a.example", Arc::new(SigningKey::from_seed(&[7; 32]).unwrap())).unwrap()
}

/// A PostgreSQL server of this test's own: data in a temporary folder, a Unix
/// socket and no port, stopped when dropped.
pub(crate) struct Postgres {
    programs: PathBuf,
    folder: tempfile::TempDir,
}

impl Postgres {
    /// Nothing when PostgreSQL is not installed.
    pub(crate) fn start() -> Option<Self> {
        let programs = std::fs::read_dir("/usr/lib/postgresql")
            .ok()?
            .filter_map(|version| Some(version.ok()?.path().join("bin")))
            .find(|programs| programs.join("initdb").exists())?;
        let server = Self { programs, folder: tempfile::tempdir().unwrap() };
        if rustix::process::geteuid().is_root() {
            let nobody = Some(rustix::process::Uid::from_raw(NOBODY));
            rustix::fs::chown(server.folder.path(), nobody, None).unwrap();
        }
        server.run("initdb", &["-D", &server.data(), "-U", "attestd", "-A", "trust", "-N", "-E", "UTF8"]);
        server.go_on();
        Some(server)
    }

    /// Starts the server; its default is asynchronous commits, which we must not inherit.
    pub(crate) fn go_on(&self) {
        let options = format!("-k {} -c listen_addresses= -c synchronous_commit=off", self.folder.path().display());
        let log = self.folder.path().join("log").display().to_string();
        self.run("pg_ctl", &["-D", &self.data(), "-o", &options, "-l", &log, "-w", "start"]);
    }

    /// Stops the server as a crash would: no checkpoint, connections cut.
    pub(crate) fn stop(&self) {
        let data = self.data();
        drop(self.command("pg_ctl").args(["-D", &data, "-m", "immediate", "-w", "stop"]).output());
    }

    pub(crate) fn database(&self, name: &str) -> String {
        let socket = self.folder.path().display().to_string();
        self.run("createdb", &["-h", &socket, "-U", "attestd", name]);
        format!("postgres:///{name}?host={socket}&user=attestd")
    }

    fn data(&self) -> String {
        self.folder.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let output = self.command(program).args(arguments).output().unwrap();
        assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// PostgreSQL refuses to run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.programs.join(program);
        let mut command = if rustix::process::geteuid().is_root() {
            let mut command = Command::new("setpriv");
            command.args(["--reuid", &NOBODY.to_string(), "--regid", &NOBODY.to_string(), "--clear-groups"]);
            command.arg(program);
            command
        } else {
            Command::new(program)
        };
        command.current_dir(Path::new("/")).env_remove("PGHOST");
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

const NOBODY: u32 = 65_534;
