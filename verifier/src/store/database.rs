//! The database behind the store: SQLite or PostgreSQL, told apart by URL
//! alone. Schema versions live here; queries live with the tables.

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyConnection, AnyPool, Connection, Executor, Row};
use std::str::FromStr;
use std::sync::Once;
use std::time::Duration;

use super::error::{StoreError, While};

/// The two engines. There is one schema and one set of queries for both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// An SQLite file: `sqlite:///path`.
    Sqlite,
    /// A PostgreSQL server or what speaks its protocol: `postgres://…`.
    Postgres,
}

impl Engine {
    /// Reads the engine from the scheme of a URL.
    pub fn of(url: &str) -> Option<Self> {
        match url.split(':').next() {
            Some("sqlite") => Some(Self::Sqlite),
            Some("postgres" | "postgresql") => Some(Self::Postgres),
            _ => None,
        }
    }

    fn session_statements(self) -> &'static str {
        match self {
            // WAL keeps readers off the writer's back; FULL makes every commit
            // reach the disk before it returns (sqlite.org/pragma.html). An index by digest changes about one page an
            // entry: the cache holds the pages of many entries, and the WAL (32 MiB at most, read at the next start) each
            // page many times before it is copied once.
            Self::Sqlite => {
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 8192; \
                 PRAGMA cache_size = -8192; PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON;"
            }
            // A server may default to asynchronous commits; we never do.
            Self::Postgres => {
                "SET synchronous_commit = on; SET statement_timeout = '10s'; \
                 SET lock_timeout = '5s'; SET default_transaction_isolation = 'read committed'"
            }
        }
    }
}

/// A place to connect to.
#[derive(Debug, Clone)]
pub struct Database {
    url: String,
    engine: Engine,
    max_pages: Option<u32>,
}

impl Database {
    /// Accepts `sqlite:` and `postgres:` URLs.
    pub fn at(url: &str) -> Result<Self, StoreError> {
        static DRIVERS: Once = Once::new();
        DRIVERS.call_once(sqlx::any::install_default_drivers);
        let engine = Engine::of(url).ok_or_else(|| StoreError::Unavailable {
            doing: "reading the store URL",
            reason: "only sqlite: and postgres: are known".to_owned(),
        })?;
        Ok(Self { url: url.to_owned(), engine, max_pages: None })
    }

    /// Caps the SQLite file at a number of pages, as a quota does.
    #[must_use]
    pub fn with_max_pages(mut self, pages: u32) -> Self {
        self.max_pages = Some(pages);
        self
    }

    /// The engine behind this URL.
    #[must_use]
    pub fn engine(&self) -> Engine {
        self.engine
    }

    /// One connection; `create` lets SQLite make its file.
    pub(crate) async fn connect(&self, create: bool) -> Result<AnyConnection, StoreError> {
        let options = self.options(create)?;
        let mut connection = AnyConnection::connect_with(&options).await.doing("connecting to the store")?;
        self.prepare(&mut connection).await.doing("preparing a store connection")?;
        Ok(connection)
    }

    /// A few connections for reads, opened when first needed.
    pub(crate) fn reads(&self) -> Result<AnyPool, StoreError> {
        let this = self.clone();
        let pool = AnyPoolOptions::new()
            .max_connections(READ_CONNECTIONS)
            .acquire_timeout(READ_TIMEOUT)
            .after_connect(move |connection, _| {
                let this = this.clone();
                Box::pin(async move { this.prepare(connection).await })
            })
            .connect_lazy_with(self.options(false)?);
        Ok(pool)
    }

    fn options(&self, create: bool) -> Result<AnyConnectOptions, StoreError> {
        let url = match (self.engine, create) {
            (Engine::Sqlite, true) if self.url.contains('?') => format!("{}&mode=rwc", self.url),
            (Engine::Sqlite, true) => format!("{}?mode=rwc", self.url),
            (Engine::Sqlite | Engine::Postgres, _) => self.url.clone(),
        };
        AnyConnectOptions::from_str(&url).doing("reading the store URL")
    }

    async fn prepare(&self, connection: &mut AnyConnection) -> Result<(), sqlx::Error> {
        connection.execute(sqlx::raw_sql(self.engine.session_statements())).await?;
        if let (Engine::Sqlite, Some(pages)) = (self.engine, self.max_pages) {
            let statement = format!("PRAGMA max_page_count = {pages}");
            connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(statement))).await?;
        }
        Ok(())
    }
}

/// Makes the schema in an empty database, for one domain and instance.
pub async fn create(database: &Database, domain: &str, instance: &str) -> Result<(), StoreError> {
    let mut connection = database.connect(true).await?;
    if version(&mut connection).await?.is_some() {
        return Err(StoreError::AlreadyInitialised);
    }
    apply(&mut connection, 0, MIGRATIONS).await?;
    sqlx::query("INSERT INTO log_head (id, size, root) VALUES (1, 0, $1)")
        .bind(audit::tlog::empty_root().0.to_vec())
        .execute(&mut connection)
        .await
        .doing("writing the empty log head")?;
    for (name, value) in [("domain", domain), ("instance", instance)] {
        sqlx::query("INSERT INTO settings (name, value) VALUES ($1, $2)")
            .bind(name)
            .bind(value)
            .execute(&mut connection)
            .await
            .doing("writing the store's settings")?;
    }
    connection.close().await.doing("closing the store")
}

/// What a store was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSettings {
    /// Name of the domain.
    pub domain: String,
    /// The state folder that made it.
    pub instance: String,
}

/// Reads what a store was made for.
pub(crate) async fn read_settings(connection: &mut AnyConnection) -> Result<StoreSettings, StoreError> {
    let doing = "reading the store's settings";
    let mut found = [const { String::new() }; 2];
    for (value, name) in found.iter_mut().zip(["domain", "instance"]) {
        let row = sqlx::query("SELECT value FROM settings WHERE name = $1")
            .bind(name)
            .fetch_optional(&mut *connection)
            .await
            .doing(doing)?
            .ok_or(StoreError::Uninitialised)?;
        *value = row.try_get("value").doing(doing)?;
    }
    let [domain, instance] = found;
    Ok(StoreSettings { domain, instance })
}

/// Brings an existing schema to the newest version; refuses a newer one.
pub(crate) async fn migrate(connection: &mut AnyConnection, migrations: &[&'static str]) -> Result<(), StoreError> {
    let known = count(migrations);
    match version(connection).await? {
        None => Err(StoreError::Uninitialised),
        Some(found) if found > known => Err(StoreError::SchemaNewer { found, known }),
        Some(found) if found == known => Ok(()),
        Some(found) => apply(connection, found, migrations).await,
    }
}

/// Schema version, or nothing when there is no schema.
pub(crate) async fn version(connection: &mut AnyConnection) -> Result<Option<i64>, StoreError> {
    // Asking for the table in a transaction of its own: a failed statement
    // would poison a surrounding one on PostgreSQL.
    let row = sqlx::query("SELECT MAX(version) AS version FROM schema_version").fetch_one(&mut *connection).await;
    match row {
        Ok(row) => row.try_get::<Option<i64>, _>("version").doing("reading the schema version"),
        Err(sqlx::Error::Database(error)) if is_missing_table(error.as_ref()) => Ok(None),
        Err(error) => Err(StoreError::from_sqlx("reading the schema version", &error)),
    }
}

fn is_missing_table(error: &dyn sqlx::error::DatabaseError) -> bool {
    // PostgreSQL: 42P01 undefined_table. SQLite has one code for every bad
    // statement (1), so its message decides.
    error.code().as_deref() == Some("42P01") || error.message().starts_with("no such table")
}

async fn apply(connection: &mut AnyConnection, from: i64, migrations: &[&'static str]) -> Result<(), StoreError> {
    let doing = "migrating the store's schema";
    for (version, script) in (1_i64..).zip(migrations).filter(|(version, _)| *version > from) {
        let mut transaction = connection.begin().await.doing(doing)?;
        if version == 1 {
            let table = "CREATE TABLE schema_version (version BIGINT PRIMARY KEY)";
            transaction.execute(sqlx::raw_sql(table)).await.doing(doing)?;
        }
        transaction.execute(sqlx::raw_sql(*script)).await.doing(doing)?;
        sqlx::query("INSERT INTO schema_version (version) VALUES ($1)")
            .bind(version)
            .execute(&mut *transaction)
            .await
            .doing(doing)?;
        transaction.commit().await.doing(doing)?;
    }
    Ok(())
}

fn count(migrations: &[&str]) -> i64 {
    i64::try_from(migrations.len()).unwrap_or(i64::MAX)
}

/// Every schema change, oldest first; version = position, counted from 1.
pub(crate) const MIGRATIONS: &[&str] = &[
    include_str!("../../migrations/0001_first.sql"),
    include_str!("../../migrations/0002_platforms.sql"),
    include_str!("../../migrations/0003_endorsements.sql"),
    include_str!("../../migrations/0004_partners.sql"),
    include_str!("../../migrations/0005_witness.sql"),
    include_str!("../../migrations/0006_rotation.sql"),
    include_str!("../../migrations/0007_lease_intents.sql"),
];

const READ_CONNECTIONS: u32 = 4;
const READ_TIMEOUT: Duration = Duration::from_secs(5);
