//! Launch digests and ID blocks against `sev-snp-measure`, over the images of Debian's package `ovmf` and images made
//! here. Where the program (`pip install sev-snp-measure`) or the package is not installed, says so in one line.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use evidence::digest::Sha256Digest;
use firmware_refs::compute::{
    ArtifactError,
    ovmf::Ovmf,
    snp::{CpuSignature, IdAuth, IdBlock, KernelHashes, Launch, VCPU_TYPES, Vmm},
};
use tests::firmware_image::FirmwareImage;

const DEBIAN: [&str; 10] = [
    "/usr/share/ovmf/OVMF.fd",
    "/usr/share/OVMF/OVMF_CODE.fd",
    "/usr/share/OVMF/OVMF_CODE.secboot.fd",
    "/usr/share/OVMF/OVMF_CODE_4M.fd",
    "/usr/share/OVMF/OVMF_CODE_4M.secboot.fd",
    "/usr/share/OVMF/OVMF_VARS.fd",
    "/usr/share/OVMF/OVMF_VARS.ms.fd",
    "/usr/share/OVMF/OVMF_VARS_4M.fd",
    "/usr/share/OVMF/OVMF_VARS_4M.ms.fd",
    "/usr/share/OVMF/OVMF_VARS_4M.snakeoil.fd",
];

/// Names that this version of the program knows; later QEMU models are ours alone.
const SHARED_TYPES: [&str; 5] = ["EPYC-v4", "EPYC-Rome", "EPYC-Milan-v2", "EPYC-Genoa", "EPYC-Turin"];

fn sev_snp_measure(arguments: &[&str]) -> Option<String> {
    let output = Command::new("sev-snp-measure").args(["--mode", "snp"]).args(arguments).output().ok()?;
    let stdout = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    Some(if output.status.success() { stdout } else { "refused".to_owned() })
}

fn is_installed() -> bool {
    let there = Command::new("sev-snp-measure").arg("--version").output().is_ok();
    if !there {
        println!("skipped: sev-snp-measure is not installed");
    }
    there
}

/// Kernel, initrd and command line of one launch, by file.
struct Boot {
    kernel: PathBuf,
    initrd: Option<PathBuf>,
    append: &'static str,
}

fn boots(folder: &Path) -> Vec<Option<Boot>> {
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let kernel = file("vmlinuz", &[0x4d; 70_001]);
    let initrd = file("initrd", b"an initrd");
    vec![
        None,
        Some(Boot { kernel: kernel.clone(), initrd: None, append: "" }),
        Some(Boot { kernel: kernel.clone(), initrd: Some(initrd.clone()), append: "" }),
        Some(Boot { kernel: kernel.clone(), initrd: Some(initrd), append: "console=ttyS0 root=/dev/vda " }),
        Some(Boot { kernel, initrd: None, append: "ro quiet" }),
    ]
}

fn ours(image: &Path, launch: &Launch) -> String {
    let bytes = fs::read(image).unwrap();
    let digest = Ovmf::parse(&bytes).and_then(|ovmf| launch.digest(&ovmf));
    digest.map_or_else(|_| "refused".to_owned(), |digest| digest.hex())
}

fn theirs(image: &Path, launch: &Launch, vcpu_type: &str, vmm: &str, boot: Option<&Boot>) -> String {
    let (vcpus, features) = (launch.vcpus.to_string(), format!("{:#x}", launch.guest_features));
    let mut arguments = vec!["--ovmf", image.to_str().unwrap(), "--vcpus", &vcpus, "--vcpu-type", vcpu_type];
    arguments.extend(["--vmm-type", vmm, "--guest-features", &features]);
    if let Some(boot) = boot {
        arguments.extend(["--kernel", boot.kernel.to_str().unwrap(), "--append", boot.append]);
        if let Some(initrd) = &boot.initrd {
            arguments.extend(["--initrd", initrd.to_str().unwrap()]);
        }
    }
    sev_snp_measure(&arguments).expect("installed")
}

fn compare(image: &Path, launch: &Launch, names: (&str, &str), boot: Option<&Boot>) -> String {
    let hash = |path: &PathBuf| Sha256Digest::of(&fs::read(path).unwrap());
    let kernel = boot.map(|boot| KernelHashes::new(hash(&boot.kernel), boot.initrd.as_ref().map(hash), boot.append));
    let launch = Launch { kernel, ..launch.clone() };
    let ours = ours(image, &launch);
    let append = boot.map(|boot| boot.append);
    assert_eq!(ours, theirs(image, &launch, names.0, names.1, boot), "{image:?} {launch:?} {append:?}");
    ours
}

fn qemu(vcpu_type: &str, vcpus: u32) -> Launch {
    let vcpu = CpuSignature::of_type(vcpu_type).unwrap();
    Launch { vcpus, vmm: Vmm::Qemu { vcpu }, guest_features: 1, kernel: None }
}

#[test]
fn launch_digests_are_those_of_sev_snp_measure() {
    if !is_installed() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("made.fd");
    fs::write(&image, FirmwareImage::with_everything(16).build()).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for boot in boots(folder.path()) {
        for (vcpus, vcpu_type) in [1, 2, 3, 8, 64].into_iter().zip(SHARED_TYPES) {
            seen.insert(compare(&image, &qemu(vcpu_type, vcpus), (vcpu_type, "QEMU"), boot.as_ref()));
        }
        for (vmm, name) in [(Vmm::Ec2, "ec2"), (Vmm::Gce, "gce")] {
            let launch = Launch { vmm, guest_features: 0x21, ..qemu("EPYC", 4) };
            seen.insert(compare(&image, &launch, ("EPYC", name), boot.as_ref()));
        }
    }
    assert_eq!((seen.len(), seen.contains("refused")), (35, false));
    println!("equal: {} launch digests of an image with every section", seen.len());
}

#[test]
fn launch_digests_of_debians_images_are_those_of_sev_snp_measure() {
    if !is_installed() {
        return;
    }
    let images = DEBIAN.map(Path::new);
    if !images.iter().any(|image| image.exists()) {
        println!("skipped: Debian's package ovmf is not installed");
        return;
    }
    let (mut equal, mut refused) = (0, 0);
    for image in images.into_iter().filter(|image| image.exists()) {
        for (vcpus, vcpu_type) in [1, 2, 5, 16, 64].into_iter().zip(SHARED_TYPES) {
            let launch = qemu(vcpu_type, vcpus);
            if ours(image, &launch) == "refused" {
                // D9: without SEV metadata there is nothing to put a guest's secrets and CPUID page
                let bytes = fs::read(image).unwrap();
                let missing = Ovmf::parse(&bytes).and_then(|ovmf| launch.digest(&ovmf)).unwrap_err();
                assert!(matches!(missing, ArtifactError::Missing { .. }), "{image:?}: {missing}");
                refused += 1;
            } else {
                compare(image, &launch, (vcpu_type, "QEMU"), None);
                equal += 1;
            }
        }
    }
    assert!(equal >= 5, "one image has the metadata");
    println!("equal: {equal} launch digests of Debian's images, {refused} refused for want of metadata");
}

#[test]
fn vcpu_types_have_the_signatures_that_sev_snp_measure_gives_them() {
    let Ok(output) = Command::new("sev-snp-measure").arg("--help").output() else {
        println!("skipped: sev-snp-measure is not installed");
        return;
    };
    let help = String::from_utf8(output.stdout).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("made.fd");
    fs::write(&image, FirmwareImage::with_everything(2).build()).unwrap();
    let words: Vec<&str> = help.split(|c: char| !c.is_alphanumeric() && c != '-').collect();
    let shared: Vec<_> = VCPU_TYPES.into_iter().filter(|(name, _)| words.contains(name)).collect();
    assert!(shared.len() >= 15, "{shared:?}");
    for (name, signature) in shared {
        let launch = Launch { vmm: Vmm::Qemu { vcpu: signature }, ..qemu("EPYC", 1) };
        compare(&image, &launch, (name, "QEMU"), None);
    }
}

#[test]
fn id_blocks_are_those_of_snp_create_id_block() {
    if Command::new("snp-create-id-block").arg("--help").output().is_err() {
        println!("skipped: snp-create-id-block (of sev-snp-measure) is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let key = |name: &str| {
        let path = folder.path().join(name);
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        fs::write(&path, pair.serialize_pem()).unwrap();
        path
    };
    let image = FirmwareImage::with_everything(2).build();
    let launch_digest = qemu("EPYC-v4", 2).digest(&Ovmf::parse(&image).unwrap()).unwrap();
    let output = Command::new("snp-create-id-block")
        .args(["--measurement", &STANDARD.encode(launch_digest.as_bytes())])
        .arg("--idkey")
        .arg(key("id.pem"))
        .arg("--authorkey")
        .arg(key("author.pem"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let field = |name: &str| {
        let (_, rest) = text.split_once(name).unwrap();
        STANDARD.decode(rest.split([',', '\n']).next().unwrap().trim()).unwrap()
    };
    let block = IdBlock::parse(&field("id-block=")).unwrap();
    let expected = IdBlock { launch_digest, family_id: [0; 16], image_id: [0; 16], guest_svn: 0, policy: 0x3_0000 };
    assert_eq!((block, block.to_bytes()), (expected, field("id-block=")));
    let auth = field("id-auth=");
    let signers = IdAuth::verify(&auth, &block).unwrap();
    assert_eq!(signers.id_key.as_bytes(), field("id_key_hash: "));
    assert_eq!(signers.author_key.unwrap().as_bytes(), field("author_key: "));
    // a signature, a key, and the block: each is covered
    for at in [0x40, 0x240 + 5, 0x680, 0x880 + 5] {
        let mut forged = auth.clone();
        forged[at] ^= 1;
        assert!(IdAuth::verify(&forged, &block).is_err(), "{at:#x}");
    }
    assert!(IdAuth::verify(&auth, &IdBlock { guest_svn: 1, ..block }).is_err());
}
