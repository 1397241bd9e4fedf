//! Layers of an image, applied to the root of this process (OCI Image Format 1.1, "Image Layer Filesystem Changeset").
//!
//! A blob is read once: hashed, decompressed, hashed again and unpacked on the way. Nothing of it runs before both digests
//! were found right.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Component, Path, PathBuf};

use aws_lc_rs::digest::{Context, SHA256};
use evidence::digest::Sha256Digest;
use flate2::read::MultiGzDecoder;
use tar::{Archive, Entry};

use super::{Failure, Layer};

/// Unpacks a layer over what is there.
pub(super) fn apply(layer: &Layer, blob: File, cap_bytes: u64) -> Result<(), Failure> {
    let mut blob = Hashed::new(blob.take(layer.size.saturating_add(1)));
    let unpacked = match layer.gzip {
        true => unpack(MultiGzDecoder::new(&mut blob), cap_bytes),
        false => unpack(&mut blob, cap_bytes),
    };
    // What is wrong with a blob that is not the one named does not matter.
    let rest = io::copy(&mut blob, &mut io::sink());
    rest.map_err(|error| Failure::Image(format!("read layer sha256:{}: {error}", layer.digest)))?;
    let (got, length) = blob.finish();
    if got != layer.digest || length != layer.size {
        let Layer { digest, size, .. } = layer;
        return Err(Failure::Image(format!("layer sha256:{digest} of {size} bytes is sha256:{got} of {length} bytes")));
    }
    let diff = unpacked?;
    if diff != layer.diff {
        return Err(Failure::Image(format!(
            "layer sha256:{} holds {diff}, its diff_id is {}",
            layer.digest, layer.diff
        )));
    }
    Ok(())
}

/// Unpacks an archive; its digest, with whatever follows it.
fn unpack(archive: impl Read, cap_bytes: u64) -> Result<Sha256Digest, Failure> {
    let mut archive = Hashed::new(archive.take(cap_bytes.saturating_add(1)));
    let extracted = extract(&mut archive);
    let bad = |error: io::Error| Failure::Image(format!("a layer that is no archive: {error}"));
    io::copy(&mut archive, &mut io::sink()).map_err(bad)?;
    let (digest, length) = archive.finish();
    if length > cap_bytes {
        return Err(format!("a layer of more than {cap_bytes} bytes; gateway.image_cap_bytes bounds them").into());
    }
    extracted.map(|()| digest)
}

fn extract(archive: impl Read) -> Result<(), Failure> {
    let bad = |error: io::Error| Failure::Image(format!("a layer that is no archive: {error}"));
    let mut archive = Archive::new(archive);
    archive.set_preserve_permissions(true);
    archive.set_mask(SET_ID_BITS); // they would have no effect, and may not be had at all
    let mut written = BTreeSet::new();
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let path = within(&entry.path().map_err(bad)?)?;
        put(&mut entry, &path, &mut written).map_err(|error| {
            if error.kind() == io::ErrorKind::StorageFull {
                return "larger than gateway.image_cap_bytes, or of too many files".to_owned().into();
            }
            Failure::Image(format!("{}: {error}", path.display()))
        })?;
    }
    Ok(())
}

/// Does what one entry says.
fn put(entry: &mut Entry<'_, impl Read>, path: &Path, written: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    let (Some(name), Some(folder)) = (path.file_name(), path.parent()) else { return Ok(()) }; // the root itself
    if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
        return match hidden {
            OPAQUE => hide_lower(folder, written),
            b"" | b"." | b".." => Err(io::Error::other("hides nothing")),
            aufs if aufs.starts_with(WHITEOUT) => Ok(()), // its own bookkeeping
            lower => remove(&folder.join(OsStr::from_bytes(lower))),
        };
    }
    let kind = entry.header().entry_type();
    if kind.is_pax_global_extensions() {
        return Ok(());
    }
    let of_a_file = kind.is_file() || kind.is_contiguous() || kind.is_gnu_sparse();
    if !(of_a_file || kind.is_dir() || kind.is_symlink() || kind.is_hard_link()) {
        return Err(io::Error::other(format!("is a device or the like ({kind:?})")));
    }
    fs::create_dir_all(folder)?;
    make_way(path, kind.is_dir())?;
    // The kind of an error is the system's; the library's words around it say no more than the path.
    if !entry.unpack_in("/").map_err(|error| error.kind())? {
        return Err(io::Error::other("leads out of the image"));
    }
    written.insert(path.to_owned());
    Ok(())
}

/// An entry's path from the root on.
fn within(path: &Path) -> Result<PathBuf, Failure> {
    let mut absolute = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => absolute.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(Failure::Image(format!("{} leads out of the image", path.display())));
            }
        }
    }
    Ok(absolute)
}

/// Removes what is in an entry's place; a folder makes way for anything but a folder.
pub(super) fn make_way(path: &Path, for_folder: bool) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() && for_folder => Ok(()),
        Ok(_) => remove(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(there) if there.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()), // hidden, or never there
        Err(error) => Err(error),
    }
}

/// Removes what lower layers have put into a folder, and leaves what this one has.
fn hide_lower(folder: &Path, written: &BTreeSet<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    for entry in entries {
        let path = entry?.path();
        // What was written stands with all that leads to it; sorted, what is below a path follows it.
        let kept = written.range(path.clone()..).next().is_some_and(|next| next.starts_with(&path));
        match kept {
            false => remove(&path)?,
            true if fs::symlink_metadata(&path)?.is_dir() => hide_lower(&path, written)?,
            true => {}
        }
    }
    Ok(())
}

/// Bytes and their digest.
struct Hashed<R> {
    inner: R,
    context: Context,
    length: u64,
}

impl<R: Read> Hashed<R> {
    fn new(inner: R) -> Self {
        Self { inner, context: Context::new(&SHA256), length: 0 }
    }

    fn finish(self) -> (Sha256Digest, u64) {
        let digest = self.context.finish();
        let bytes = <[u8; 32]>::try_from(digest.as_ref()).unwrap_or_default();
        (Sha256Digest(bytes), self.length)
    }
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.context.update(buffer.get(..count).unwrap_or_default());
        self.length = self.length.saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(count)
    }
}

/// chmod(2): S_ISUID and S_ISGID.
const SET_ID_BITS: u32 = 0o6000;
const WHITEOUT: &[u8] = b".wh.";
/// What follows it for a folder that hides all that lower layers have in it.
const OPAQUE: &[u8] = b".wh..opq";
