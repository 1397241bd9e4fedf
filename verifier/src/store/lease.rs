//! The writer lease: one row that says which process may write, proved again
//! inside every commit. The lock file keeps a second process off the same state
//! folder; the row keeps a second folder off the same database.

use sqlx::{AnyConnection, Row};

use super::error::{StoreError, While};

/// The lease held by this process.
#[derive(Debug, Clone)]
pub(crate) struct WriterLease {
    instance: String,
    holder: String,
}

impl WriterLease {
    /// A lease wanted by `holder`, a fresh random name, for this instance.
    pub(crate) fn wanted(instance: &str, holder: String) -> Self {
        Self { instance: instance.to_owned(), holder }
    }

    /// Takes the lease. A holder of the same instance is a dead process, since
    /// we hold that instance's lock file; another instance must have let its
    /// lease run out.
    pub(crate) async fn take(&self, connection: &mut AnyConnection, now: i64) -> Result<(), StoreError> {
        for _ in 0..TAKE_ATTEMPTS {
            if self.try_take(connection, now).await? {
                return Ok(());
            }
        }
        Err(StoreError::InUse { holder: "another process, just now".to_owned() })
    }

    /// False when the row changed between reading and swapping it.
    async fn try_take(&self, connection: &mut AnyConnection, now: i64) -> Result<bool, StoreError> {
        let doing = "taking the writer lease";
        let row = sqlx::query("SELECT instance, holder, renewed_at FROM writer_lease WHERE id = 1")
            .fetch_optional(&mut *connection)
            .await
            .doing(doing)?;
        let done = match row {
            None => {
                sqlx::query(
                    "INSERT INTO writer_lease (id, instance, holder, renewed_at) \
                     VALUES (1, $1, $2, $3) ON CONFLICT (id) DO NOTHING",
                )
                .bind(&self.instance)
                .bind(&self.holder)
                .bind(now)
                .execute(connection)
                .await
            }
            Some(row) => {
                let instance: String = row.try_get("instance").doing(doing)?;
                let holder: String = row.try_get("holder").doing(doing)?;
                let renewed_at: i64 = row.try_get("renewed_at").doing(doing)?;
                if instance != self.instance && now < renewed_at.saturating_add(LEASE_S) {
                    return Err(StoreError::InUse { holder: format!("instance {instance}") });
                }
                sqlx::query(
                    "UPDATE writer_lease SET instance = $1, holder = $2, renewed_at = $3 \
                     WHERE id = 1 AND holder = $4 AND renewed_at = $5",
                )
                .bind(&self.instance)
                .bind(&self.holder)
                .bind(now)
                .bind(holder)
                .bind(renewed_at)
                .execute(connection)
                .await
            }
        };
        Ok(done.doing(doing)?.rows_affected() == 1)
    }

    /// First statement of every commit: renews the lease, or learns that it is
    /// lost before anything else is written.
    pub(crate) async fn prove(&self, connection: &mut AnyConnection, now: i64) -> Result<(), StoreError> {
        let done = sqlx::query("UPDATE writer_lease SET renewed_at = $1 WHERE id = 1 AND holder = $2")
            .bind(now)
            .bind(&self.holder)
            .execute(connection)
            .await
            .doing("renewing the writer lease")?;
        if done.rows_affected() == 1 { Ok(()) } else { Err(StoreError::LeaseLost) }
    }

    /// Lets go, so that another instance need not wait.
    pub(crate) async fn release(&self, connection: &mut AnyConnection) -> Result<(), StoreError> {
        self.prove(connection, 0).await
    }
}

/// A lease not renewed for this long may be taken by another instance.
const LEASE_S: i64 = 15;

/// An idle writer renews this often.
pub(crate) const RENEW_AFTER: std::time::Duration = std::time::Duration::from_secs(5);

/// A holder that is just letting go changes the row under us once or twice.
const TAKE_ATTEMPTS: u8 = 4;
