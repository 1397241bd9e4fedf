//! OCI images: which one an intent runs in, read from an image layout (OCI Image Format 1.1), and unpacked for one execution.
//!
//! An image is known by the digest of its manifest, and the manifest names everything else by digest. What is read here is
//! small and looked at before anything is signed; the layers are hashed as they are unpacked (`supervise::unpack`), into
//! memory that only the execution can reach.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use evidence::digest::Sha256Digest;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::OwnedSemaphorePermit;

use super::open_file;
use super::standby::Standby;
use crate::supervise::UNPACK;
use crate::supervise::confine::Unavailable;
use crate::supervise::control::{self, ControlError, StartFault};
use crate::supervise::unpack::{Layer, Unpack, Unpacked};

/// An image whose manifest and configuration were read and are what their digests say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    layout: PathBuf,
    digest: Sha256Digest,
    layers: Vec<Layer>,
    /// Program and arguments that the image names.
    pub argv: Vec<String>,
    /// Variables that the image sets, in its order.
    pub environment: Vec<(String, String)>,
    /// Absolute; `/` unless the image says otherwise.
    pub directory: PathBuf,
}

/// An image in memory: a mount namespace of its own, and the executable in it. It is gone when this and every process in it
/// are.
#[derive(Debug)]
pub struct Root {
    image: Sha256Digest,
    pub(super) user_namespace: OwnedFd,
    pub(super) mount_namespace: OwnedFd,
    /// Until its execution has started, or will not.
    _place: Option<OwnedSemaphorePermit>,
}

impl Root {
    pub(super) fn in_place(self, place: OwnedSemaphorePermit) -> Self {
        Self { _place: Some(place), ..self }
    }

    /// Digest of the image's manifest.
    #[must_use]
    pub const fn image(&self) -> Sha256Digest {
        self.image
    }
}

/// Why an image cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// Something of the layout cannot be read.
    #[error("image: read {}: {source}", path.display())]
    Unreadable {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It, or a layer, is not what it has to be.
    #[error("image: {what}")]
    Unfit {
        /// What is wrong, and what would be right.
        what: String,
    },
    /// A document is not what its digest says.
    #[error("image: {what} is {got}, its descriptor says {expected}")]
    Digest {
        /// `manifest`, `configuration`, …
        what: &'static str,
        /// SHA-256 of what was read.
        got: Sha256Digest,
        /// What was expected.
        expected: Sha256Digest,
    },
    /// The machine cannot keep it apart.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// It could not be unpacked here.
    #[error("unpack the image: {what}")]
    NotUnpacked {
        /// Why.
        what: String,
    },
}

fn unfit(what: impl Into<String>) -> ImageError {
    ImageError::Unfit { what: what.into() }
}

impl Image {
    /// Reads `LAYOUT[@sha256:HEX]`: the image of that digest, or the only one there is for this machine.
    ///
    /// # Errors
    /// [`ImageError`].
    pub fn open(named: &str) -> Result<Self, ImageError> {
        let (layout, wanted) = match named.rsplit_once('@') {
            Some((layout, digest)) => (layout, Some(digest_of(digest)?)),
            None => (named, None),
        };
        let layout = Path::new(layout);
        if !layout.is_absolute() {
            return Err(unfit(format!("the layout's path is not absolute: {}", layout.display())));
        }
        let version: LayoutVersion = read(&layout.join("oci-layout"))?;
        if version.image_layout_version != "1.0.0" {
            return Err(unfit(format!("layout version {:?}, expected 1.0.0", version.image_layout_version)));
        }
        let index: Index = read(&layout.join("index.json"))?;
        let digest = select(layout, index, wanted)?;
        let manifest: Manifest = blob(layout, "manifest", digest, None)?;
        Self::of(layout, digest, manifest)
    }

    fn of(layout: &Path, digest: Sha256Digest, manifest: Manifest) -> Result<Self, ImageError> {
        if manifest.config.media_type != CONFIGURATION {
            return Err(unfit(format!(
                "a configuration of type {:?}, expected {CONFIGURATION}",
                manifest.config.media_type
            )));
        }
        let config = &manifest.config;
        let configuration: Configuration =
            blob(layout, "configuration", digest_of(&config.digest)?, Some(config.size))?;
        if !configuration.platform.is_this() {
            let Platform { os, architecture } = configuration.platform;
            return Err(unfit(format!("is for {os}/{architecture}, this machine is linux/{ARCHITECTURE}")));
        }
        let (layers, diffs) = (manifest.layers, configuration.rootfs.diff_ids);
        if layers.is_empty() || layers.len() > LAYERS_CAP || layers.len() != diffs.len() {
            let what =
                format!("{} layers and {} diff_ids, expected as many, 1 to {LAYERS_CAP}", layers.len(), diffs.len());
            return Err(unfit(what));
        }
        let layers = layers.into_iter().zip(&diffs).map(|(layer, diff)| as_layer(&layer, diff));
        let wishes = configuration.config;
        let argv = [wishes.entrypoint.unwrap_or_default(), wishes.cmd.unwrap_or_default()].concat();
        let pairs = wishes.env.unwrap_or_default().into_iter().map(|pair| match pair.split_once('=') {
            Some((name, value)) if !name.is_empty() && !pair.contains('\0') => Ok((name.to_owned(), value.to_owned())),
            _ => Err(unfit(format!("a variable that is not NAME=VALUE: {pair:?}"))),
        });
        let directory = match wishes.working_dir.unwrap_or_default() {
            none if none.is_empty() => PathBuf::from("/"),
            named if named.starts_with('/') && !named.contains('\0') => PathBuf::from(named),
            named => return Err(unfit(format!("the working directory is no absolute path: {named:?}"))),
        };
        Ok(Self {
            layout: layout.to_owned(),
            digest,
            layers: layers.collect::<Result<_, _>>()?,
            argv,
            environment: pairs.collect::<Result<_, _>>()?,
            directory,
        })
    }

    /// SHA-256 of its manifest: its name.
    #[must_use]
    pub const fn digest(&self) -> Sha256Digest {
        self.digest
    }

    /// Unpacks it and finds `program` in it, which it opens. Blocks for as long as that takes.
    ///
    /// `supervisor` is this program; `sockets` are the machine's, by where they are to be found in the image.
    pub(super) fn unpack(
        &self,
        supervisor: &Path,
        (program, search_path, directory): (&str, &str, &Path),
        sockets: &[(PathBuf, &'static str)],
        cap_bytes: u64,
    ) -> Result<(Root, File, PathBuf), ImageError> {
        let text = |path: &Path| {
            path.to_str().map(str::to_owned).ok_or_else(|| unfit(format!("not UTF-8: {}", path.display())))
        };
        let sockets = sockets.iter().map(|(path, within)| Ok((text(path)?, (*within).to_owned())));
        let order = Unpack {
            blobs: text(&self.layout.join("blobs").join("sha256"))?,
            layers: self.layers.clone(),
            cap_bytes,
            program: program.to_owned(),
            search_path: search_path.to_owned(),
            directory: text(directory)?,
            sockets: sockets.collect::<Result<_, ImageError>>()?,
        };
        let failed = |error: ControlError| ImageError::NotUnpacked { what: error.to_string() };
        let system = |error: io::Error| ImageError::NotUnpacked { what: error.to_string() };
        let helper = Standby::start(supervisor, UNPACK).map_err(system)?;
        control::send(&helper.orders, &order, &[]).map_err(failed)?;
        let Some((report, descriptors)) = control::receive::<Unpacked>(&helper.orders).map_err(failed)? else {
            return Err(ImageError::NotUnpacked { what: "what unpacked it died; it may need more memory".to_owned() });
        };
        match report {
            Unpacked::Done { program } => {
                let mut descriptors = descriptors.into_iter();
                let (Some(executable), Some(user_namespace), Some(mount_namespace)) =
                    (descriptors.next(), descriptors.next(), descriptors.next())
                else {
                    return Err(ImageError::NotUnpacked { what: "descriptors are missing".to_owned() });
                };
                let root = Root { image: self.digest, user_namespace, mount_namespace, _place: None };
                Ok((root, File::from(executable), PathBuf::from(program)))
            }
            Unpacked::Refused { what } => Err(unfit(what)),
            Unpacked::Failed(StartFault::Unavailable(lacks)) => Err(lacks.into()),
            Unpacked::Failed(StartFault::Failed { what }) => Err(ImageError::NotUnpacked { what }),
        }
    }
}

/// Where a workload in an image finds the workload socket.
pub const WORKLOAD_SOCKET: &str = "/run/attestd/spiffe@workload.sock";
/// Where it asks for its keys.
pub const KEYS_SOCKET: &str = "/run/attestd/keys.sock";

/// The one image that is meant.
fn select(layout: &Path, index: Index, wanted: Option<Sha256Digest>) -> Result<Sha256Digest, ImageError> {
    let mut found = BTreeMap::new();
    for descriptor in index.bounded()? {
        match descriptor.media_type.as_str() {
            MANIFEST => drop(found.insert(digest_of(&descriptor.digest)?, descriptor)),
            // One image for several machines: one level, as tools write it.
            INDEX => {
                let nested: Index = blob(layout, "index", digest_of(&descriptor.digest)?, Some(descriptor.size))?;
                for descriptor in nested.bounded()?.into_iter().filter(|descriptor| descriptor.media_type == MANIFEST) {
                    found.insert(digest_of(&descriptor.digest)?, descriptor);
                }
            }
            _ => {} // something else than an image
        }
    }
    if let Some(wanted) = wanted {
        return match found.contains_key(&wanted) {
            true => Ok(wanted),
            false => Err(unfit(format!("no image sha256:{wanted}; there is {}", listed(&found)))),
        };
    }
    let ours = |descriptor: &Descriptor| descriptor.platform.as_ref().is_none_or(Platform::is_this);
    let mut fitting = found.iter().filter(|(_, descriptor)| ours(descriptor)).map(|(digest, _)| *digest);
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Ok(only),
        (Some(_), Some(_)) => Err(unfit(format!("which of them? Name one behind an @: {}", listed(&found)))),
        (None, _) => Err(unfit(format!("none for linux/{ARCHITECTURE}; there is {}", listed(&found)))),
    }
}

fn listed(found: &BTreeMap<Sha256Digest, Descriptor>) -> String {
    let each = found.iter().map(|(digest, descriptor)| {
        let name = descriptor.annotations.get(REFERENCE_NAME).map(|name| format!(" {name:?}")).unwrap_or_default();
        let platform =
            descriptor.platform.as_ref().map(|platform| format!(" {}/{}", platform.os, platform.architecture));
        format!("sha256:{digest}{name}{}", platform.unwrap_or_default())
    });
    match each.collect::<Vec<_>>() {
        none if none.is_empty() => "none".to_owned(),
        some => some.join(", "),
    }
}

fn as_layer(layer: &Descriptor, diff: &str) -> Result<Layer, ImageError> {
    let gzip = match layer.media_type.as_str() {
        LAYER => false,
        LAYER_GZIP => true,
        other => return Err(unfit(format!("a layer of type {other:?}; {LAYER}, plain or +gzip, is what can be read"))),
    };
    Ok(Layer { digest: digest_of(&layer.digest)?, size: layer.size, gzip, diff: digest_of(diff)? })
}

fn digest_of(text: &str) -> Result<Sha256Digest, ImageError> {
    let encoded = text.strip_prefix("sha256:").filter(|encoded| !encoded.bytes().any(|byte| byte.is_ascii_uppercase()));
    let digest = encoded.and_then(|encoded| encoded.parse().ok());
    digest.ok_or_else(|| unfit(format!("{text:?} is no digest of the form sha256:64 lower-case hexadecimal digits")))
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<T, ImageError> {
    parse(path, &bytes(path)?)
}

/// A document that is what its digest says.
fn blob<T: DeserializeOwned>(
    layout: &Path,
    what: &'static str,
    expected: Sha256Digest,
    size: Option<u64>,
) -> Result<T, ImageError> {
    let path = layout.join("blobs").join("sha256").join(expected.to_string());
    let bytes = bytes(&path)?;
    let got = Sha256Digest::of(&bytes);
    if got != expected {
        return Err(ImageError::Digest { what, got, expected });
    }
    if size.is_some_and(|size| u64::try_from(bytes.len()).ok() != Some(size)) {
        return Err(unfit(format!("{what} of {} bytes, its descriptor says otherwise", bytes.len())));
    }
    parse(&path, &bytes)
}

fn bytes(path: &Path) -> Result<Vec<u8>, ImageError> {
    let unreadable = |source| ImageError::Unreadable { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = open_file(path).map_err(unreadable)?;
    file.take(DOCUMENT_CAP_BYTES.saturating_add(1)).read_to_end(&mut bytes).map_err(unreadable)?;
    if u64::try_from(bytes.len()).is_ok_and(|length| length <= DOCUMENT_CAP_BYTES) {
        return Ok(bytes);
    }
    Err(unfit(format!("{} is longer than {DOCUMENT_CAP_BYTES} bytes", path.display())))
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| unfit(format!("{}: {error}", path.display())))
}

/// Longest index, manifest or configuration (OCI Distribution 1.1 asks registries for 4 MiB; ours are of this machine).
const DOCUMENT_CAP_BYTES: u64 = 1024 * 1024;
/// Most layers; Docker makes no more than 127.
const LAYERS_CAP: usize = 128;
/// Most images in one index.
const IMAGES_CAP: usize = 256;

const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const REFERENCE_NAME: &str = "org.opencontainers.image.ref.name";

/// This machine's, as images name it (GOARCH).
const ARCHITECTURE: &str = match std::env::consts::ARCH.as_bytes() {
    b"x86_64" => "amd64",
    b"aarch64" => "arm64",
    _ => std::env::consts::ARCH,
};

/// OCI Image Format 1.1, "oci-layout file". Fields that are not known are left alone, in all of these: so the format says.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

/// OCI Image Format 1.1, "Image Index".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    manifests: Vec<Descriptor>,
}

impl Index {
    fn bounded(self) -> Result<Vec<Descriptor>, ImageError> {
        if self.manifests.len() > IMAGES_CAP {
            return Err(unfit(format!(
                "an index of {} images, at most {IMAGES_CAP} are looked at",
                self.manifests.len()
            )));
        }
        Ok(self.manifests)
    }
}

/// OCI Image Format 1.1, "Content Descriptors".
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
}

impl Platform {
    fn is_this(&self) -> bool {
        self.os == "linux" && self.architecture == ARCHITECTURE
    }
}

/// OCI Image Format 1.1, "Image Manifest".
#[derive(Deserialize)]
struct Manifest {
    config: Descriptor,
    layers: Vec<Descriptor>,
}

/// OCI Image Format 1.1, "Image Configuration".
#[derive(Deserialize)]
struct Configuration {
    #[serde(flatten)]
    platform: Platform,
    #[serde(default)]
    config: Wishes,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// What an image asks of whoever runs it. Its user is not among them: a workload runs as its node's daemon does.
#[derive(Deserialize, Default)]
#[serde(rename_all = "PascalCase")]
struct Wishes {
    env: Option<Vec<String>>,
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    working_dir: Option<String>,
}
