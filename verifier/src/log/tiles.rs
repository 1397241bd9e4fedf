//! The published form of the log: a folder of C2SP tiles and the newest
//! checkpoint. All of it is derived from the store and can be made again; the
//! checkpoint is also a high-water mark that an older database cannot pass.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use audit::tile::{self, TILE_WIDTH, TileId, TileKind};
use audit::tlog::TreeHash;

use crate::store::{StoreError, While};

/// The folder.
#[derive(Debug, Clone)]
pub(crate) struct TileFolder {
    root: PathBuf,
}

impl TileFolder {
    /// An existing folder.
    pub(crate) fn at(root: &Path) -> Self {
        Self { root: root.to_owned() }
    }

    /// Writes one tile or bundle. A full one makes its partial forms obsolete.
    pub(crate) fn write(&self, id: &TileId, bytes: &[u8]) -> Result<(), StoreError> {
        let path = self.root.join(id.path());
        replace(&path, bytes, Sync::Never)?;
        if id.width == TILE_WIDTH {
            let partial = path.with_extension("p");
            match fs::remove_dir_all(&partial) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(StoreError::from_io("removing partial tiles", &error));
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Bytes of a tile or bundle; nothing when it is not there.
    pub(crate) fn read(&self, id: &TileId) -> Result<Option<Vec<u8>>, StoreError> {
        read_if_there(&self.root.join(id.path()), "reading a tile")
    }

    /// Hashes of a full tile.
    pub(crate) fn read_full_tile(&self, level: u8, index: u64) -> Result<Option<Vec<TreeHash>>, StoreError> {
        let id = TileId { kind: TileKind::Hashes { level }, index, width: TILE_WIDTH };
        let Some(bytes) = self.read(&id)? else { return Ok(None) };
        let hashes =
            tile::read_hash_tile(&id, &bytes).map_err(|denial| StoreError::Corrupt { what: denial.to_string() })?;
        Ok(Some(hashes))
    }

    /// Replaces the newest checkpoint, durably.
    pub(crate) fn write_checkpoint(&self, note: &str) -> Result<(), StoreError> {
        replace(&self.checkpoint_path(), note.as_bytes(), Sync::Before)
    }

    /// The newest checkpoint; nothing when none was ever published.
    pub(crate) fn read_checkpoint(&self) -> Result<Option<String>, StoreError> {
        let Some(bytes) = read_if_there(&self.checkpoint_path(), "reading the checkpoint")? else {
            return Ok(None);
        };
        String::from_utf8(bytes)
            .map(Some)
            .map_err(|_| StoreError::Corrupt { what: "the published checkpoint is not text".to_owned() })
    }

    fn checkpoint_path(&self) -> PathBuf {
        self.root.join("checkpoint")
    }
}

/// Whether a replacement must reach the disk before it takes its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Never,
    Before,
}

/// Writes a file whole or not at all: under another name, then renamed.
fn replace(path: &Path, bytes: &[u8], sync: Sync) -> Result<(), StoreError> {
    let doing = "publishing the log";
    let fresh = path.with_extension("new");
    let mut file = match File::create(&fresh) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            fs::create_dir_all(path.parent().unwrap_or(path)).doing(doing)?;
            File::create(&fresh).doing(doing)?
        }
        other => other.doing(doing)?,
    };
    file.write_all(bytes).doing(doing)?;
    if sync == Sync::Before {
        file.sync_data().doing(doing)?;
    }
    drop(file);
    fs::rename(&fresh, path).doing(doing)
}

fn read_if_there(path: &Path, doing: &'static str) -> Result<Option<Vec<u8>>, StoreError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(StoreError::from_io(doing, &error)),
    }
}
