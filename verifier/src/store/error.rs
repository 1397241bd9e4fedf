//! What can go wrong with the store, as facts a caller can act on.

/// A fault of the store. Nothing that met one was acknowledged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database or the state folder cannot be reached, or its answer to a
    /// commit was lost: the outcome is unknown and counts as "not done".
    #[error("store unavailable while {doing}: {reason}")]
    Unavailable {
        /// What was being done.
        doing: &'static str,
        /// What the driver said.
        reason: String,
    },
    /// No space left, in the database or for the published tiles.
    #[error("store full while {doing}")]
    DiskFull {
        /// What was being done.
        doing: &'static str,
    },
    /// A compare-and-swap or a uniqueness rule refused the change.
    #[error("store conflict while {doing}")]
    Conflict {
        /// What was being done.
        doing: &'static str,
    },
    /// Another process holds this state.
    #[error("this state is in use by {holder}")]
    InUse {
        /// The lock file or the instance that holds the writer lease.
        holder: String,
    },
    /// This process held the writer lease and lost it; it must stop.
    #[error("the writer lease was taken over by another process")]
    LeaseLost,
    /// The store was written by a newer program.
    #[error("store schema version {found} is newer than {known}, the newest this program knows")]
    SchemaNewer {
        /// Version in the store.
        found: i64,
        /// Newest version known here.
        known: i64,
    },
    /// There is no schema: `verifier init` has not been run.
    #[error("the store holds no schema; run `verifier init` first")]
    Uninitialised,
    /// There is a schema already: `verifier init` never overwrites.
    #[error("the store is already initialised")]
    AlreadyInitialised,
    /// A row contradicts its own digest, or a figure is out of range.
    #[error("store corrupt: {what}")]
    Corrupt {
        /// The contradiction.
        what: String,
    },
    /// The store is older than what was already published from it.
    #[error("store rolled back: {what} is {found}, but {published} was already published")]
    RolledBack {
        /// The figure that went back.
        what: String,
        /// What the store says.
        found: u64,
        /// What the other place says.
        published: u64,
    },
    /// An entry is longer than an entry bundle can hold (C2SP tlog-tiles).
    #[error("log entry of {bytes} bytes is over the cap of 65535")]
    EntryTooLarge {
        /// Its length.
        bytes: usize,
    },
    /// The writer has stopped; its last fault was reported when it happened.
    #[error("the store's writer has stopped")]
    Stopped,
}

impl StoreError {
    /// Stable code of the fault, as told to peers.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unavailable { .. } | Self::Stopped => "fault.store_unavailable",
            Self::DiskFull { .. } => "fault.disk_full",
            Self::Conflict { .. } => "fault.store_conflict",
            Self::InUse { .. } | Self::LeaseLost => "fault.store_in_use",
            Self::SchemaNewer { .. } | Self::Uninitialised | Self::AlreadyInitialised => "fault.store_schema",
            Self::Corrupt { .. } => "fault.store_corrupt",
            Self::RolledBack { .. } => "fault.store_rolled_back",
            Self::EntryTooLarge { .. } => "fault.log_entry_too_large",
        }
    }

    /// Reads a driver's error. `doing` ends the sentence "while …".
    pub(crate) fn from_sqlx(doing: &'static str, error: &sqlx::Error) -> Self {
        if let sqlx::Error::Database(inner) = error {
            let code = inner.code();
            // SQLite: 13 SQLITE_FULL. PostgreSQL: 53100 disk_full.
            if matches!(code.as_deref(), Some("13" | "53100")) {
                return Self::DiskFull { doing };
            }
            // PostgreSQL: 40001 serialization_failure, 40P01 deadlock_detected.
            if inner.is_unique_violation() || matches!(code.as_deref(), Some("40001" | "40P01")) {
                return Self::Conflict { doing };
            }
        }
        Self::Unavailable { doing, reason: error.to_string() }
    }

    /// Reads a file system error.
    pub(crate) fn from_io(doing: &'static str, error: &std::io::Error) -> Self {
        use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
        if matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge) {
            Self::DiskFull { doing }
        } else {
            Self::Unavailable { doing, reason: error.to_string() }
        }
    }
}

/// Names what was being done when a driver or file system error came back.
pub(crate) trait While<T> {
    /// `doing` ends the sentence "while …".
    fn doing(self, doing: &'static str) -> Result<T, StoreError>;
}

impl<T> While<T> for Result<T, sqlx::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::from_sqlx(doing, &error))
    }
}

impl<T> While<T> for Result<T, std::io::Error> {
    fn doing(self, doing: &'static str) -> Result<T, StoreError> {
        self.map_err(|error| StoreError::from_io(doing, &error))
    }
}
