//! Unpacks an image into memory that nobody but one execution can reach.
//!
//! `attestd __unpack` (not for operators) makes a user and a mount namespace, in it an empty tmpfs that becomes the root, and
//! lets go of the machine's files before it reads the first layer: wherever a layer's paths and links lead, they end within
//! the image. Only then, with the executable already open, does it add what the machine gives: /proc, a few devices and the
//! workload socket. What it hands over are the executable and the two namespaces; the memory is freed with the last of them
//! and of the processes in them. It runs as the daemon's user, holds no key and is killed with the daemon.

mod layers;

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::ExitCode;

use evidence::digest::Sha256Digest;
use nix::sched::{CloneFlags, unshare};
use rustix::fs::{CWD, Mode};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountPropagationFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
    fsconfig_create, fsconfig_set_string, fsmount, fsopen, mount_change, move_mount, open_tree, unmount,
};
use rustix::process::{Pid, Resource, Rlimit, Signal, getegid, geteuid, getppid, pivot_root};
use serde::{Deserialize, Serialize};

use super::close_inherited;
use super::confine::Unavailable;
use super::control::{self, StartFault};
use crate::gateway::{find, open_file};

/// What to unpack.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Unpack {
    /// Folder of blobs, named by their SHA-256.
    pub blobs: String,
    /// Lowest first.
    pub layers: Vec<Layer>,
    /// How much memory it may take.
    pub cap_bytes: u64,
    /// Program to be opened: a path within the image, or a name.
    pub program: String,
    /// Where a name is looked for.
    pub search_path: String,
    /// Working directory; made if the image has none of that name.
    pub directory: String,
    /// Sockets: the machine's paths, and the image's.
    pub sockets: Vec<(String, String)>,
}

/// A layer, by what its manifest and its configuration say of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Layer {
    /// SHA-256 of the blob.
    pub digest: Sha256Digest,
    /// Its length in bytes.
    pub size: u64,
    /// Whether it is compressed.
    pub gzip: bool,
    /// SHA-256 of the archive in it.
    pub diff: Sha256Digest,
}

/// What came of it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "snake_case")]
pub(crate) enum Unpacked {
    /// The executable and the user and mount namespaces come with it.
    Done {
        /// Where the executable was found.
        program: String,
    },
    /// The image is not what it should be.
    Refused {
        /// Why.
        what: String,
    },
    /// It could not be unpacked here.
    Failed(StartFault),
}

/// Why there is nothing to hand over.
enum Failure {
    /// The image is not what it should be.
    Image(String),
    /// It could not be unpacked here.
    System(StartFault),
}

impl From<String> for Failure {
    fn from(what: String) -> Self {
        Self::System(what.into())
    }
}

/// The helper's whole life. What it has to say goes over the channel.
pub(super) fn unpack(daemon: Option<Pid>) -> ExitCode {
    let stdin = io::stdin();
    let channel = stdin.as_fd();
    let (report, descriptors) = match unpack_for(channel, daemon) {
        Ok((program, descriptors)) => (Unpacked::Done { program }, Some(descriptors)),
        Err(Failure::Image(what)) => (Unpacked::Refused { what }, None),
        Err(Failure::System(fault)) => (Unpacked::Failed(fault), None),
    };
    let descriptors: Vec<BorrowedFd<'_>> = descriptors.iter().flatten().map(OwnedFd::as_fd).collect();
    match control::send(channel, &report, &descriptors) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE, // nobody to tell
    }
}

fn unpack_for(channel: BorrowedFd<'_>, daemon: Option<Pid>) -> Result<(String, [OwnedFd; 3]), Failure> {
    close_inherited().map_err(|error| format!("close what was left open: {error}"))?;
    let received = control::receive::<Unpack>(channel).map_err(|error| error.to_string())?;
    let (order, _) = received.ok_or_else(|| "the daemon is gone".to_owned())?;
    let blobs = order.layers.iter().map(|layer| {
        let path = Path::new(&order.blobs).join(layer.digest.to_string());
        open_file(&path).map_err(|error| Failure::Image(format!("read {}: {error}", path.display())))
    });
    let blobs = blobs.collect::<Result<Vec<_>, _>>()?;
    bound_memory()?;
    rustix::process::umask(Mode::from_raw_mode(0o022)); // folders that no layer names
    let [user, mount] = leave(&order).map_err(Failure::System)?;
    // Asked for again: who changes namespaces may lose it.
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))
        .map_err(|errno| format!("PDEATHSIG: {errno}"))?;
    if getppid() != daemon {
        return Err("the daemon is gone".to_owned().into());
    }
    let given = Given::of(&order.sockets)?;
    empty_root(order.cap_bytes).map_err(|error| format!("make an empty root: {error}"))?;
    for (layer, blob) in order.layers.iter().zip(blobs) {
        layers::apply(layer, blob, order.cap_bytes)?;
    }
    let directory = Path::new(&order.directory);
    fs::create_dir_all(directory).map_err(|error| Failure::Image(format!("{}: {error}", directory.display())))?;
    let lacks = || Failure::Image(format!("holds no {:?} on the search path {}", order.program, order.search_path));
    let program = find(&order.program, &order.search_path, directory).ok_or_else(lacks)?;
    let unreadable = |error: io::Error| Failure::Image(format!("{}: {error}", program.display()));
    let executable = open_file(&program).map_err(unreadable)?;
    given.place().map_err(|error| Failure::Image(format!("cannot be given what the machine gives: {error}")))?;
    let found = program.to_str().ok_or_else(|| Failure::Image("the program's path is not UTF-8".to_owned()))?;
    Ok((found.to_owned(), [executable.into(), user, mount]))
}

/// An archive's names are read into memory: who needs more than this for them is up to no good.
fn bound_memory() -> Result<(), String> {
    let limit = Rlimit { current: Some(MEMORY_CAP_BYTES), maximum: Some(MEMORY_CAP_BYTES) };
    rustix::process::setrlimit(Resource::Data, limit).map_err(|errno| format!("bound the memory: {errno}"))
}

/// Moves into a user namespace, in which this user alone exists, and a mount namespace of its own.
fn leave(order: &Unpack) -> Result<[OwnedFd; 2], StartFault> {
    let lacks = |what: &str, error: String| {
        StartFault::Unavailable(Unavailable::new(
            "user_namespaces",
            format!("an image of its own files: {what}"),
            error,
        ))
    };
    let (user, group) = (geteuid().as_raw(), getegid().as_raw());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS)
        .map_err(|errno| lacks("unshare(2)", errno.to_string()))?;
    // user_namespaces(7): no groups can be taken on, so that a single one may be named.
    for (file, says) in [
        ("setgroups", "deny".to_owned()),
        ("uid_map", format!("{user} {user} 1")),
        ("gid_map", format!("{group} {group} 1")),
    ] {
        fs::write(Path::new("/proc/self").join(file), says).map_err(|error| lacks(file, error.to_string()))?;
    }
    mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
        .map_err(|errno| lacks("mounts of its own", errno.to_string()))?;
    let opened = |name: &str| File::open(Path::new("/proc/self/ns").join(name)).map(OwnedFd::from);
    let [user, mount] = ["user", "mnt"].map(opened);
    let failed = |error: io::Error| StartFault::from(format!("the namespaces of {}: {error}", order.program));
    Ok([user.map_err(failed)?, mount.map_err(failed)?])
}

/// What the machine gives to every image, taken along before its files are let go of.
struct Given {
    proc: OwnedFd,
    /// Devices and sockets, by their paths in the image.
    files: Vec<(String, OwnedFd)>,
}

impl Given {
    fn of(sockets: &[(String, String)]) -> Result<Self, String> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let take = |path: &str, flags| open_tree(CWD, path, flags).map_err(|errno| format!("take {path}: {errno}"));
        let devices = DEVICES.iter().map(|path| (*path, *path));
        let sockets = sockets.iter().map(|(path, within)| (path.as_str(), within.as_str()));
        let files = devices.chain(sockets).map(|(path, within)| Ok((within.to_owned(), take(path, flags)?)));
        Ok(Self {
            files: files.collect::<Result<_, String>>()?,
            proc: take("/proc", flags | OpenTreeFlags::AT_RECURSIVE)?,
        })
    }

    /// Puts it where workloads look for it, whatever the image has there.
    fn place(self) -> io::Result<()> {
        let put = |tree: OwnedFd, path: &str| {
            move_mount(tree, "", CWD, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH).map_err(io::Error::from)
        };
        for (path, file) in self.files {
            fs::create_dir_all(Path::new(&path).parent().unwrap_or(Path::new("/")))?;
            empty_file(&path)?;
            put(file, &path)?;
        }
        if !fs::exists("/tmp")? {
            fs::create_dir("/tmp")?;
            fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777))?;
        }
        // Last: a link of the image could lead through it to files of the machine.
        layers::make_way(Path::new("/proc"), true)?;
        fs::create_dir_all("/proc")?;
        put(self.proc, "/proc")
    }
}

fn empty_file(path: &str) -> io::Result<()> {
    layers::make_way(Path::new(path), false)?;
    File::create_new(path).map(drop)
}

/// Replaces every file of the machine by an empty folder in memory: pivot_root(2), "pivot_root(".", ".")".
fn empty_root(cap_bytes: u64) -> rustix::io::Result<()> {
    let tmpfs = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(tmpfs.as_fd(), "size", cap_bytes.to_string())?;
    fsconfig_set_string(tmpfs.as_fd(), "nr_inodes", FILES_CAP.to_string())?;
    fsconfig_set_string(tmpfs.as_fd(), "mode", "0755")?;
    fsconfig_create(tmpfs.as_fd())?;
    let no_privileges = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    let root = fsmount(tmpfs.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, no_privileges)?;
    // Any folder serves; this one is there.
    move_mount(root.as_fd(), "", CWD, "/proc", MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
    rustix::process::fchdir(&root)?;
    pivot_root(".", ".")?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// What programs expect of any machine.
const DEVICES: [&str; 5] = ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"];
/// Most files of an image; each takes about a KiB of the kernel's memory beside its content.
const FILES_CAP: u32 = 262_144;
const MEMORY_CAP_BYTES: u64 = 128 * 1024 * 1024;
