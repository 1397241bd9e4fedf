//! A folder in configfs-tsm's shape, through FUSE: `mkdir` an entry, write its inblob, read its outblob.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use fuser::{
    BackgroundSession, FileAttr, FileType, Filesystem, MountOption, ReplyAttr, ReplyData, ReplyDirectory, ReplyEmpty,
    ReplyEntry, ReplyOpen, ReplyWrite, Request, TimeOrNow, consts::FOPEN_DIRECT_IO, spawn_mount2,
};

use super::{Attribute, Device, Entry, Machine, ProcessError, TsmErrno, doing};

/// Mounts the folder at `at`, which must exist; it is unmounted when the session is dropped.
pub fn mount(device: Arc<Device>, at: &Path) -> Result<BackgroundSession, ProcessError> {
    let options = [
        MountOption::FSName("tsm-simulated".to_owned()),
        MountOption::RW,
        MountOption::NoSuid,
        MountOption::NoDev,
        MountOption::NoExec,
        MountOption::DefaultPermissions,
    ];
    let attributes = device.with_machine(|machine| match machine {
        Machine::Snp { .. } => Attribute::SNP.to_vec(),
        Machine::Tdx { .. } => Attribute::TDX.to_vec(),
    });
    let owner = std::fs::metadata(at).map_err(doing("looking at", at))?;
    let folder = Folder {
        device,
        attributes,
        entries: BTreeMap::new(),
        last: 0,
        owner: (std::os::unix::fs::MetadataExt::uid(&owner), std::os::unix::fs::MetadataExt::gid(&owner)),
        made: SystemTime::now(),
    };
    spawn_mount2(folder, at, &options).map_err(doing("mounting", at))
}

/// Inode 1 is the folder, `n << 8` the n-th entry, and `n << 8 | k` the k-th attribute of it, from 1.
struct Folder {
    device: Arc<Device>,
    attributes: Vec<Attribute>,
    entries: BTreeMap<u32, (String, Entry)>,
    last: u32,
    owner: (u32, u32),
    made: SystemTime,
}

enum Node {
    Root,
    Entry(u32),
    Attribute(u32, Attribute),
}

impl Folder {
    fn node(&self, inode: u64) -> Option<Node> {
        if inode == ROOT {
            return Some(Node::Root);
        }
        let number = u32::try_from(inode >> 8).ok()?;
        self.entries.get(&number)?;
        match usize::try_from(inode & 0xff).ok()? {
            0 => Some(Node::Entry(number)),
            position => Some(Node::Attribute(number, *self.attributes.get(position.saturating_sub(1))?)),
        }
    }

    fn attributes_of(&self, inode: u64) -> Option<FileAttr> {
        let (kind, perm) = match self.node(inode)? {
            Node::Root | Node::Entry(_) => (FileType::Directory, 0o700),
            Node::Attribute(_, attribute) => (FileType::RegularFile, attribute.mode()),
        };
        Some(FileAttr {
            ino: inode,
            size: 0,
            blocks: 0,
            atime: self.made,
            mtime: self.made,
            ctime: self.made,
            crtime: self.made,
            kind,
            perm,
            nlink: 1,
            uid: self.owner.0,
            gid: self.owner.1,
            rdev: 0,
            blksize: 4096,
            flags: 0,
        })
    }

    fn child(&self, parent: u64, name: &OsStr) -> Option<u64> {
        let name = name.to_str()?;
        match self.node(parent)? {
            Node::Root => self
                .entries
                .iter()
                .find(|(_, (entry_name, _))| entry_name == name)
                .map(|(number, _)| u64::from(*number) << 8),
            Node::Entry(number) => {
                let listed = self.files(number);
                listed.into_iter().find(|(_, attribute)| attribute.name() == name).map(|(inode, _)| inode)
            }
            Node::Attribute(..) => None,
        }
    }

    fn files(&self, number: u32) -> Vec<(u64, Attribute)> {
        (1_u64..).zip(&self.attributes).map(|(k, attribute)| (u64::from(number) << 8 | k, *attribute)).collect()
    }

    fn entry(&mut self, inode: u64) -> Option<(Arc<Device>, &mut Entry, Attribute)> {
        match self.node(inode)? {
            Node::Attribute(number, attribute) => {
                let device = Arc::clone(&self.device);
                self.entries.get_mut(&number).map(|(_, entry)| (device, entry, attribute))
            }
            Node::Root | Node::Entry(_) => None,
        }
    }
}

impl Filesystem for Folder {
    fn lookup(&mut self, _request: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEntry) {
        match self.child(parent, name).and_then(|inode| self.attributes_of(inode)) {
            Some(attributes) => reply.entry(&NOT_CACHED, &attributes, 0),
            None => reply.error(errno::ENOENT),
        }
    }

    fn getattr(&mut self, _request: &Request<'_>, inode: u64, _handle: Option<u64>, reply: ReplyAttr) {
        match self.attributes_of(inode) {
            Some(attributes) => reply.attr(&NOT_CACHED, &attributes),
            None => reply.error(errno::ENOENT),
        }
    }

    /// Truncation on opening is accepted and changes nothing.
    fn setattr(
        &mut self,
        _request: &Request<'_>,
        inode: u64,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        _size: Option<u64>,
        _atime: Option<TimeOrNow>,
        _mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _handle: Option<u64>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<u32>,
        reply: ReplyAttr,
    ) {
        match self.attributes_of(inode) {
            Some(_) if mode.is_some() || uid.is_some() || gid.is_some() => reply.error(errno::EPERM),
            Some(attributes) => reply.attr(&NOT_CACHED, &attributes),
            None => reply.error(errno::ENOENT),
        }
    }

    fn mkdir(&mut self, _request: &Request<'_>, parent: u64, name: &OsStr, _mode: u32, _umask: u32, reply: ReplyEntry) {
        let Some(name) = name.to_str().filter(|_| parent == ROOT) else { return reply.error(errno::EPERM) };
        if self.entries.len() >= ENTRIES_CAP {
            return reply.error(errno::ENOSPC);
        }
        if self.child(ROOT, OsStr::new(name)).is_some() {
            return reply.error(errno::EEXIST);
        }
        self.last = self.last.saturating_add(1);
        self.entries.insert(self.last, (name.to_owned(), Entry::default()));
        match self.attributes_of(u64::from(self.last) << 8) {
            Some(attributes) => reply.entry(&NOT_CACHED, &attributes, 0),
            None => reply.error(errno::EIO),
        }
    }

    fn rmdir(&mut self, _request: &Request<'_>, parent: u64, name: &OsStr, reply: ReplyEmpty) {
        let found =
            self.child(parent, name).filter(|_| parent == ROOT).and_then(|inode| u32::try_from(inode >> 8).ok());
        match found.and_then(|number| self.entries.remove(&number)) {
            Some(_) => reply.ok(),
            None => reply.error(errno::ENOENT),
        }
    }

    /// Every read and write reaches the entry: no pages are cached.
    fn open(&mut self, _request: &Request<'_>, inode: u64, _flags: i32, reply: ReplyOpen) {
        match self.node(inode) {
            Some(Node::Attribute(..)) => reply.opened(0, FOPEN_DIRECT_IO),
            Some(Node::Root | Node::Entry(_)) => reply.error(errno::EISDIR),
            None => reply.error(errno::ENOENT),
        }
    }

    fn read(
        &mut self,
        _request: &Request<'_>,
        inode: u64,
        _handle: u64,
        offset: i64,
        size: u32,
        _flags: i32,
        _lock_owner: Option<u64>,
        reply: ReplyData,
    ) {
        let (Ok(offset), Ok(size)) = (usize::try_from(offset), usize::try_from(size)) else {
            return reply.error(errno::EINVAL);
        };
        let Some((device, entry, attribute)) = self.entry(inode) else { return reply.error(errno::ENOENT) };
        match entry.read(&device, attribute, offset, size) {
            Ok(bytes) => reply.data(&bytes),
            Err(why) => reply.error(errno::of(why)),
        }
    }

    fn write(
        &mut self,
        _request: &Request<'_>,
        inode: u64,
        _handle: u64,
        offset: i64,
        data: &[u8],
        _write_flags: u32,
        _flags: i32,
        _lock_owner: Option<u64>,
        reply: ReplyWrite,
    ) {
        let (Ok(offset), Ok(written)) = (usize::try_from(offset), u32::try_from(data.len())) else {
            return reply.error(errno::EINVAL);
        };
        let Some((_, entry, attribute)) = self.entry(inode) else { return reply.error(errno::ENOENT) };
        match entry.write(attribute, offset, data) {
            Ok(()) => reply.written(written),
            Err(why) => reply.error(errno::of(why)),
        }
    }

    fn readdir(&mut self, _request: &Request<'_>, inode: u64, _handle: u64, offset: i64, mut reply: ReplyDirectory) {
        let mut listed =
            vec![(inode, FileType::Directory, ".".to_owned()), (ROOT, FileType::Directory, "..".to_owned())];
        match self.node(inode) {
            Some(Node::Root) => listed.extend(
                self.entries
                    .iter()
                    .map(|(number, (name, _))| (u64::from(*number) << 8, FileType::Directory, name.clone())),
            ),
            Some(Node::Entry(number)) => listed.extend(
                self.files(number)
                    .into_iter()
                    .map(|(file, attribute)| (file, FileType::RegularFile, attribute.name().to_owned())),
            ),
            Some(Node::Attribute(..)) => return reply.error(errno::ENOTDIR),
            None => return reply.error(errno::ENOENT),
        }
        for (next, (file, kind, name)) in (1_i64..).zip(listed) {
            if next > offset && reply.add(file, next, kind, name) {
                break;
            }
        }
        reply.ok();
    }
}

/// Error numbers of Linux (asm-generic).
mod errno {
    use super::TsmErrno;

    pub(super) const EPERM: i32 = 1;
    pub(super) const ENOENT: i32 = 2;
    pub(super) const EIO: i32 = 5;
    pub(super) const EWOULDBLOCK: i32 = 11;
    pub(super) const EACCES: i32 = 13;
    pub(super) const EEXIST: i32 = 17;
    pub(super) const ENOTDIR: i32 = 20;
    pub(super) const EISDIR: i32 = 21;
    pub(super) const EINVAL: i32 = 22;
    pub(super) const ENOSPC: i32 = 28;

    pub(super) fn of(why: TsmErrno) -> i32 {
        match why {
            TsmErrno::Invalid => EINVAL,
            TsmErrno::WouldBlock => EWOULDBLOCK,
            TsmErrno::Denied => EACCES,
            TsmErrno::Io => EIO,
        }
    }
}

const ROOT: u64 = 1;
const ENTRIES_CAP: usize = 256;
const NOT_CACHED: Duration = Duration::ZERO;
