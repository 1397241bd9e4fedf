//! `verifier refs compute` from the outside: what it prints, what it writes, what it refuses. No state folder exists.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::print_stdout
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use firmware_refs::compute::ovmf::Ovmf;
use firmware_refs::compute::snp::{CpuSignature, Launch, Vmm};
use firmware_refs::set::ReferenceValueSet;
use serde_json::Value;
use tests::firmware_image::FirmwareImage;
use tests::pe_image::EfiImage;

fn compute(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_verifier"));
    command.current_dir(folder).args(["refs", "compute"]).args(arguments).args(["--format", "json"]);
    command.env("VERIFIER_STATE", folder.join("no-such-state")).output().unwrap()
}

fn computed(folder: &Path, arguments: &[&str]) -> Value {
    let output = compute(folder, arguments);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// Why it is refused; with the exit code of a file or a command line that cannot be used.
fn refused(folder: &Path, arguments: &[&str]) -> String {
    let output = compute(folder, arguments);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn file(folder: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

const SNP: [&str; 7] = ["snp", "--ovmf", "ovmf.fd", "--vcpus", "2", "--vcpu-type", "EPYC-v4"];

#[test]
fn a_launch_digest_is_printed_and_written_as_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let image = FirmwareImage::with_everything(4).build();
    file(folder.path(), "ovmf.fd", &image);
    let launch = Launch {
        vcpus: 2,
        vmm: Vmm::Qemu { vcpu: CpuSignature::of_type("EPYC-v4").unwrap() },
        guest_features: 1,
        kernel: None,
    };
    let digest = launch.digest(&Ovmf::parse(&image).unwrap()).unwrap();
    assert_eq!(computed(folder.path(), &SNP)["measurement"], digest.hex());
    let base = include_str!("../../firmware-refs/base-snp.toml");
    file(folder.path(), "unfinished.toml", base.as_bytes());
    let tcb = "{ boot_loader = 9, tee = 0, snp = 23, microcode = 72 }";
    let mitigations = "{ launch = \"0x0000000000000000\", current = \"0x0000000000000000\" }";
    let product = format!(
        "product = [{{ product = \"Genoa\", source = \"bulletin\", firmware = \"1.55.22\", mitigations = {mitigations}, \
         reported = {tcb}, committed = {tcb}, current = {tcb}, launch = {tcb} }}]"
    );
    file(folder.path(), "base.toml", base.replace("product = []", &product).as_bytes());
    let with_set = |base| [&SNP[..], &["--set", "guests", "--base", base, "--out", "guests.toml"]].concat();
    assert!(refused(folder.path(), &with_set("unfinished.toml")).contains("no product is accepted"));
    assert!(!folder.path().join("guests.toml").exists());
    let printed = computed(folder.path(), &with_set("base.toml"));
    assert_eq!((&printed["set"]["name"], &printed["set"]["version"]), (&"guests".into(), &1.into()));
    let text = std::fs::read_to_string(folder.path().join("guests.toml")).unwrap();
    let set = ReferenceValueSet::from_toml(&text).unwrap();
    assert_eq!(set.document().snp.as_ref().unwrap().measurement[0].digest, digest);
    let derivation = &set.document().derivation[0];
    assert_eq!((derivation.artifact[0].file.as_str(), derivation.artifact[0].bytes), ("ovmf.fd", 4 * 4096));
    // nothing that exists is overwritten
    assert!(refused(folder.path(), &with_set("base.toml")).contains("guests.toml"));
}

#[test]
fn what_cannot_be_calculated_is_a_usage_error_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    file(folder.path(), "ovmf.fd", &FirmwareImage::with_everything(4).build());
    file(folder.path(), "short.fd", &[0; 100]);
    let with = |words: &[&'static str]| [&SNP[..3], words].concat();
    let vcpus = &["--vcpus", "2"][..];
    let cases: [(Vec<&str>, &str); 8] = [
        (with(vcpus), "--vcpu-type"),
        (with(&["--vcpus", "2", "--vcpu-type", "Xeon"]), "known are EPYC"),
        (with(&["--vcpus", "0", "--vmm-type", "ec2"]), "0 vCPUs"),
        (with(&["--vcpus", "1", "--vmm-type", "ec2", "--kernel", "missing"]), "cannot read missing"),
        (with(&["--vcpus", "1", "--vmm-type", "ec2", "--initrd", "ovmf.fd"]), "--kernel"),
        (with(&["--vcpus", "1", "--vmm-type", "ec2", "--set", "x"]), "--base"),
        (vec!["snp", "--ovmf", "short.fd", "--vcpus", "1", "--vmm-type", "gce"], "whole pages"),
        (vec!["snp", "--ovmf", ".", "--vcpus", "1", "--vmm-type", "gce"], "not a regular file"),
    ];
    for (arguments, words) in cases {
        let said = refused(folder.path(), &arguments);
        assert!(said.contains(words), "{arguments:?}: {said}");
    }
    assert!(refused(folder.path(), &["tpm"]).contains("--uki"));
    assert!(refused(folder.path(), &["tpm", "--uki", "ovmf.fd"]).contains("--secure-boot"));
    assert!(refused(folder.path(), &["tdx"]).contains("--ovmf"));
}

#[test]
fn registers_are_printed_with_what_they_consist_of_and_what_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let kernel = EfiImage::new(&[(".text", &[7; 5000])]).build();
    let sections: [(&str, &[u8]); 4] =
        [(".linux", &kernel), (".cmdline", b"quiet"), (".initrd", b"initrd"), (".pcrpkey", b"key")];
    file(folder.path(), "uki.efi", &EfiImage::unified("252", &sections).build());
    file(folder.path(), "ovmf.fd", &FirmwareImage::with_everything(4).build());
    let registers = |document: &Value, rows: &str| -> Vec<String> {
        let rows = document[rows].as_array().unwrap().iter();
        rows.map(|row| row["register"].as_str().unwrap().to_owned()).collect()
    };
    let tpm = computed(folder.path(), &["tpm", "--uki", "uki.efi", "--secure-boot", "off", "--bank", "sha384"]);
    assert_eq!(registers(&tpm, "registers"), ["pcr.4", "pcr.7", "pcr.11"]);
    assert_eq!(registers(&tpm, "not_derivable"), ["pcr.9"]);
    assert!(tpm["registers"][0]["value"].as_str().unwrap().starts_with("sha384:"));
    assert_eq!(tpm["artifacts"][0]["role"], "unified kernel image");
    file(folder.path(), "vmlinuz", &kernel);
    let arguments = ["tdx", "--ovmf", "ovmf.fd", "--kernel", "vmlinuz", "--append", "-- quiet"];
    let tdx = computed(folder.path(), &arguments);
    assert_eq!(registers(&tdx, "registers"), ["mrtd", "rtmr.1", "rtmr.2"]);
    assert_eq!(registers(&tdx, "not_derivable"), ["rtmr.0", "rtmr.3"]);
}

#[test]
fn files_of_a_tree_become_a_set() {
    use std::os::unix::fs::{PermissionsExt as _, symlink};
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("root");
    for path in ["usr/bin", "usr/lib/firmware", "var/cache"] {
        std::fs::create_dir_all(root.join(path)).unwrap();
    }
    let script = file(&root, "usr/bin/script", b"#!/bin/sh\n");
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    file(&root, "usr/lib/libc.so.6", b"\x7fELF library");
    file(&root, "usr/lib/firmware/chip.bin", b"firmware");
    file(&root, "usr/lib/read-me", b"text");
    file(&root, "var/cache/program", b"\x7fELF program");
    symlink("usr/bin", root.join("bin")).unwrap();
    symlink(&root, root.join("usr/loop")).unwrap();
    let paths = |document: &Value| -> Vec<String> {
        document["file"].as_array().unwrap().iter().map(|row| row["path"].as_str().unwrap().to_owned()).collect()
    };
    let judged = ["ima", "--root", "root", "--exclude", "/var/"];
    let loaded = ["/usr/bin/script", "/usr/lib/firmware/chip.bin", "/usr/lib/libc.so.6"];
    assert_eq!(paths(&computed(folder.path(), &judged)), loaded);
    assert_eq!(paths(&computed(folder.path(), &["ima", "--root", "root", "--all"])).len(), 5);
    file(folder.path(), "base.toml", include_bytes!("../../firmware-refs/example.toml"));
    let key = rcgen::generate_simple_self_signed(vec!["a builder of modules".to_owned()]).unwrap().cert;
    file(folder.path(), "key.pem", key.pem().as_bytes());
    let keyed = [&judged[..], &["--key", ".ima=key.pem"]].concat();
    let with_set = [&keyed[..], &["--set", "rack", "--base", "base.toml", "--out", "rack.toml"]].concat();
    computed(folder.path(), &with_set);
    let text = std::fs::read_to_string(folder.path().join("rack.toml")).unwrap();
    let set = ReferenceValueSet::from_toml(&text).unwrap();
    let ima = set.document().tpm.as_ref().unwrap().ima.as_ref().unwrap();
    assert_eq!((set.version(), ima.file.len(), &ima.exclude[..]), (4, 3, &["/var/".to_owned()][..]));
    let expected = evidence::digest::HashAlg::Sha256.hash(&[b"#!/bin/sh\n"]);
    assert_eq!(ima.file[0].accept[0].digest, expected);
    let of_key = evidence::digest::HashAlg::Sha256.hash(&[key.der().as_ref()]);
    assert_eq!((ima.buffer[0].name.as_str(), ima.buffer[0].accept[0].digest), (".ima", of_key));
    file(folder.path(), "no.pem", b"no key");
    assert!(refused(folder.path(), &["ima", "--root", "root", "--key", ".ima=no.pem"]).contains("no.pem"));
    assert!(refused(folder.path(), &["ima", "--root", "root", "--key", "key.pem"]).contains("KEYRING=FILE"));
    assert!(refused(folder.path(), &["ima", "--root", "root", "--exclude", "/"]).contains("whole machine"));
    assert!(refused(folder.path(), &["ima", "--root", "missing"]).contains("cannot read missing"));
}

#[test]
fn files_of_debian_packages_become_a_set() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let package = |version: &str, program: &[u8]| {
        let root = folder.path().join(version);
        for path in ["DEBIAN", "bin", "usr/share/doc/tool"] {
            std::fs::create_dir_all(root.join(path)).unwrap();
        }
        let control =
            format!("Package: tool\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@b>\nDescription: a\n");
        file(&root, "DEBIAN/control", control.as_bytes());
        let program = file(&root, "bin/tool", program);
        std::fs::set_permissions(program, std::fs::Permissions::from_mode(0o755)).unwrap();
        file(&root, "usr/share/doc/tool/copyright", b"text");
        let name = format!("tool_{version}.deb");
        let built = Command::new("dpkg-deb").arg("--build").arg(&root).arg(folder.path().join(&name)).output();
        built.map(|output| assert!(output.status.success(), "{output:?}")).map(|()| name)
    };
    let (old, new) = match (package("1", b"old"), package("2", b"new")) {
        (Ok(old), Ok(new)) => (old, new),
        (Err(error), _) | (_, Err(error)) => return println!("skipped: dpkg-deb: {error}"),
    };
    let document = computed(folder.path(), &["ima", "--deb", &old, "--deb", &new]);
    let rows = document["file"].as_array().unwrap().iter();
    let rows: Vec<_> = rows.map(|row| [&row["path"], &row["digest"]].map(|text| text.as_str().unwrap())).collect();
    let mut digests = [b"old", b"new"].map(|text| evidence::digest::HashAlg::Sha256.hash(&[text]).to_string());
    digests.sort();
    assert_eq!(rows, digests.each_ref().map(|digest| ["/usr/bin/tool", digest]));
    file(folder.path(), "none.deb", b"no package");
    assert!(refused(folder.path(), &["ima", "--deb", "none.deb"]).contains("none.deb"));
}

#[test]
fn completions_know_the_verbs() {
    let output = Command::new(env!("CARGO_BIN_EXE_verifier")).args(["completions", "bash"]).output().unwrap();
    let script = String::from_utf8(output.stdout).unwrap();
    for words in ["compute", "--guest-features", "--secure-boot", "--ccel"] {
        assert!(script.contains(words), "{words}");
    }
}
