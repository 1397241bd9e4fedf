//! OCI image layouts of a test's own making (OCI Image Format 1.1).
#![allow(dead_code, reason = "each test program uses its own part")]

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use evidence::digest::Sha256Digest;
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";

/// An archive under construction.
pub(crate) struct Layer(Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    pub(crate) fn with_shell() -> Self {
        Self::new().and_shell()
    }

    /// What a shell needs to run, and `cat` and `ls`, at the paths where they are here.
    pub(crate) fn and_shell(self) -> Self {
        self.and_programs(&["/bin/sh", "/bin/cat", "/bin/ls"])
    }

    /// Programs and their libraries at the paths where they are here.
    pub(crate) fn and_programs(self, programs: &[&str]) -> Self {
        let mut layer = self;
        let mut files: Vec<PathBuf> = programs.iter().map(PathBuf::from).collect();
        let listed = Command::new("ldd").args(programs).output().unwrap();
        let words = String::from_utf8(listed.stdout).unwrap();
        files.extend(
            words.split_whitespace().filter(|word| word.starts_with('/') && !word.ends_with(':')).map(PathBuf::from),
        );
        files.sort();
        files.dedup();
        for file in files {
            layer = layer.file_of(&file.to_string_lossy(), 0o755, &std::fs::read(&file).unwrap());
        }
        layer
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.file_of(path, 0o644, content.as_bytes())
    }

    pub(crate) fn program(self, path: &str, content: &str) -> Self {
        self.file_of(path, 0o755, content.as_bytes())
    }

    fn file_of(self, path: &str, mode: u32, content: &[u8]) -> Self {
        self.entry(EntryType::Regular, path, mode, "", content)
    }

    pub(crate) fn folder(self, path: &str) -> Self {
        self.entry(EntryType::Directory, path, 0o755, "", &[])
    }

    pub(crate) fn link(self, path: &str, to: &str) -> Self {
        self.entry(EntryType::Symlink, path, 0o777, to, &[])
    }

    /// The path is written as it is, whatever it is.
    pub(crate) fn entry(mut self, kind: EntryType, path: &str, mode: u32, to: &str, content: &[u8]) -> Self {
        let path = path.trim_start_matches('/').as_bytes();
        let mut header = Header::new_gnu();
        // A name field holds 100 bytes; a longer name goes ahead of its entry (GNU tar's @LongLink).
        if path.len() > 100 {
            self = self.entry(EntryType::GNULongName, "././@LongLink", 0o644, "", path);
        }
        let short = &path[..path.len().min(100)];
        header.as_old_mut().name[..short.len()].copy_from_slice(short);
        header.as_old_mut().linkname[..to.len()].copy_from_slice(to.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(u64::try_from(content.len()).unwrap());
        header.set_cksum();
        self.0.append(&header, content).unwrap();
        self
    }

    pub(crate) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layout with one image, every part of which can be bent before it is written.
pub(crate) struct Layout {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) configuration: Value,
    pub(crate) manifest: Value,
}

impl Layout {
    /// An image of these archives, lowest first; every second one compressed.
    pub(crate) fn new(layers: Vec<Vec<u8>>) -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        std::fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#).unwrap();
        let diffs: Vec<_> = layers.iter().map(|layer| format!("sha256:{}", Sha256Digest::of(layer))).collect();
        let layout = Self {
            dir,
            configuration: json!({
                "os": "linux", "architecture": architecture(), "created": "1970-01-01T00:00:00Z",
                "config": { "Env": ["PATH=/usr/bin:/bin:/app", "GREETING=hello"], "WorkingDir": "/app", "Entrypoint": ["greet"] },
                "rootfs": { "type": "layers", "diff_ids": diffs }, "history": [],
            }),
            manifest: Value::Null,
        };
        let described = layers.into_iter().enumerate().map(|(number, layer)| match number % 2 {
            0 => layout.blob(LAYER, &layer),
            _ => layout.blob(GZIP, &gzip(&layer)),
        });
        let manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": null, "layers": described.collect::<Vec<_>>() });
        Self { manifest, ..layout }
    }

    pub(crate) fn path(&self) -> &str {
        self.dir.path().to_str().unwrap()
    }

    /// Where a descriptor's blob is.
    pub(crate) fn blob_path(&self, descriptor: &Value) -> PathBuf {
        let digest = descriptor["digest"].as_str().unwrap().trim_start_matches("sha256:");
        self.dir.path().join("blobs/sha256").join(digest)
    }

    /// Writes a blob; its descriptor.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Sha256Digest::of(bytes).to_string();
        std::fs::write(self.dir.path().join("blobs/sha256").join(&digest), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{digest}"), "size": bytes.len() })
    }

    /// Writes configuration and manifest as they are now; the manifest's descriptor.
    pub(crate) fn described(&mut self) -> Value {
        if self.manifest["config"].is_null() {
            self.manifest["config"] = self.blob(CONFIGURATION, self.configuration.to_string().as_bytes());
        }
        let mut descriptor = self.blob(MANIFEST, self.manifest.to_string().as_bytes());
        descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": "v1" });
        descriptor
    }

    /// Writes all of it.
    pub(crate) fn write(mut self) -> Self {
        let manifest = self.described();
        self.index(&[manifest]);
        self
    }

    pub(crate) fn index(&self, manifests: &[Value]) {
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        std::fs::write(self.dir.path().join("index.json"), index.to_string()).unwrap();
    }
}

/// This machine's, as images name it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Changes one byte of a file.
pub(crate) fn flip(path: &Path) {
    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
}
