//! Launch digests: known ones, and images that have none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use evidence::digest::{Digest, Sha256Digest};
use firmware_refs::compute::{
    ArtifactError,
    ovmf::Ovmf,
    snp::{CpuSignature, IdAuth, IdBlock, KernelHashes, Launch, Vmm},
};
use proptest::prelude::*;
use tests::firmware_image::{FirmwareImage, HASHES_GPA, SEV_BEFORE_END, SEV_METADATA};

fn launch() -> Launch {
    let vcpu = CpuSignature::of_type("EPYC-v4").unwrap();
    Launch { vcpus: 2, vmm: Vmm::Qemu { vcpu }, guest_features: 1, kernel: None }
}

fn kernel(cmdline: &str) -> KernelHashes {
    KernelHashes::new(Sha256Digest::of(b"kernel"), Some(Sha256Digest::of(b"initrd")), cmdline)
}

fn digest(image: &[u8], launch: &Launch) -> Result<Digest, ArtifactError> {
    launch.digest(&Ovmf::parse(image)?)
}

/// What an image is refused for.
fn refusal(change: impl FnOnce(&mut FirmwareImage)) -> ArtifactError {
    let mut image = FirmwareImage::with_everything(4);
    change(&mut image);
    digest(&image.build(), &Launch { kernel: Some(kernel("")), ..launch() }).unwrap_err()
}

/// What an image is refused for, of which some bytes before the end are others.
fn refusal_of_bytes(before_end: usize, bytes: &[u8]) -> ArtifactError {
    let mut image = FirmwareImage::with_everything(4).build();
    let start = image.len() - before_end;
    image[start..start + bytes.len()].copy_from_slice(bytes);
    digest(&image, &launch()).unwrap_err()
}

#[test]
fn everything_that_is_measured_changes_the_digest() {
    let image = FirmwareImage::with_everything(4);
    let changed = |change: &dyn Fn(&mut FirmwareImage)| {
        let mut image = image.clone();
        change(&mut image);
        digest(&image.build(), &launch()).unwrap()
    };
    let with = |change: &dyn Fn(&mut Launch)| {
        let mut launch = launch();
        change(&mut launch);
        digest(&image.build(), &launch).unwrap()
    };
    let kernel_of = |kernel, initrd: Option<&[u8]>, cmdline| {
        KernelHashes::new(Sha256Digest::of(kernel), initrd.map(Sha256Digest::of), cmdline)
    };
    let digests = [
        changed(&|_| {}),
        changed(&|image| image.pages = 5),
        changed(&|image| image.sev_sections[0][1] = 0xa000),
        changed(&|image| image.sev_sections[2][0] = 0x70_0000),
        changed(&|image| image.sev_sections.swap(0, 1)),
        changed(&|image| image.reset_block = Some(0x0080_b005)),
        with(&|launch| launch.vcpus = 1),
        with(&|launch| launch.vcpus = 3),
        with(&|launch| launch.guest_features = 0x21),
        with(&|launch| launch.vmm = Vmm::Ec2),
        with(&|launch| launch.vmm = Vmm::Gce),
        with(&|launch| launch.vmm = Vmm::Qemu { vcpu: CpuSignature::new(25, 1, 1) }),
        with(&|launch| launch.kernel = Some(kernel_of(b"kernel", Some(b"initrd"), "a"))),
        with(&|launch| launch.kernel = Some(kernel_of(b"kernel", Some(b"initrd"), "a "))),
        with(&|launch| launch.kernel = Some(kernel_of(b"kernel", None, "a"))),
        with(&|launch| launch.kernel = Some(kernel_of(b"Kernel", Some(b"initrd"), "a"))),
    ];
    for (index, digest) in digests.iter().enumerate() {
        assert!(!digests[..index].contains(digest), "{index}");
    }
}

#[test]
fn images_that_could_be_read_in_two_ways_are_refused() {
    let cases: &[(ArtifactError, &str)] = &[
        (refusal(|image| image.sev_sections[1][0] = 0x80_8000), "memory from 0x800000 to 0x809000"),
        (refusal(|image| image.sev_sections[0][0] = 0xffff_f000), "overlap"),
        (refusal(|image| image.sev_sections[0] = [0x1000, 0xffff_f000, 1]), "overlap"),
        (refusal(|image| image.sev_sections[0][0] = 0x80_0001), "whole pages"),
        (refusal(|image| image.sev_sections[0][1] = 0x800), "whole pages"),
        (refusal(|image| image.sev_sections[0][1] = 0), "whole pages"),
        (refusal(|image| image.sev_sections[2][1] = 0x2000), "is not one page"),
        (refusal(|image| image.sev_sections[0][2] = 0x11), "section type 0x11"),
        (refusal(|image| image.sev_sections.clear()), "no SEV metadata"),
        (refusal(|image| image.sev_sections = vec![[0x1000, 0x1000, 1]; 65]), "65 sections of SEV metadata"),
        (refusal(|image| image.sev_sections[4][2] = 4), "no section for kernel hashes"),
        (refusal(|image| image.reset_block = None), "no reset block"),
        (refusal(|image| image.reset_block = Some(0)), "no reset block"),
        (refusal(|image| image.hash_table = None), "no area for kernel hashes"),
        (refusal(|image| image.hash_table = Some([0, 0x400])), "no area for kernel hashes"),
        (refusal(|image| image.hash_table = Some([HASHES_GPA, 0x80])), "large enough"),
        (refusal(|image| image.hash_table = Some([HASHES_GPA - 16, 0x400])), "inside its section"),
        (refusal(|image| image.hash_table = Some([HASHES_GPA + 0xff0, 0x400])), "leaves its page"),
        (refusal(|image| image.further.push((SEV_METADATA, vec![0; 4]))), "stands twice"),
        // the footer's length and GUID, an entry's length
        (refusal_of_bytes(50, &[0, 0]), "shorter than its footer"),
        (refusal_of_bytes(50, &[19, 0]), "an entry is cut off"),
        (refusal_of_bytes(50, &[0xff, 0xff]), "longer than the image"),
        (refusal_of_bytes(48, &[0]), "no table of GUIDs"),
        (refusal_of_bytes(68, &[17, 0]), "length does not fit"),
        (refusal_of_bytes(68, &[0xff, 0xff]), "length does not fit"),
        // the metadata's signature, length, version and count
        (refusal_of_bytes(SEV_BEFORE_END, b"ASEW"), "signature is not ASEV"),
        (refusal_of_bytes(SEV_BEFORE_END - 4, &[99, 0]), "shorter than its sections"),
        (refusal_of_bytes(SEV_BEFORE_END - 8, &[2]), "only version 1"),
        (refusal_of_bytes(SEV_BEFORE_END - 12, &[0]), "0 sections"),
        (refusal_of_bytes(SEV_BEFORE_END - 12, &[0xff; 4]), "4294967295 sections"),
    ];
    for (error, words) in cases {
        assert!(error.to_string().contains(words), "{error} / {words}");
    }
}

#[test]
fn truncated_images_and_wrong_counts_are_refused() {
    let image = FirmwareImage::with_everything(4).build();
    for length in [0, 1, 32, 49, 4095, 4097, image.len() - 1] {
        assert!(Ovmf::parse(&image[..length]).is_err(), "{length}");
    }
    // whole pages without what is at the end
    assert_eq!(
        Ovmf::parse(&image[..4096]).unwrap_err(),
        ArtifactError::Missing { what: "table of GUIDs (OVMF table footer) at its end" }
    );
    let large = vec![0; (64 << 20) + 4096];
    assert!(matches!(Ovmf::parse(&large), Err(ArtifactError::TooLarge { .. })));
    for vcpus in [0, 4097, u32::MAX] {
        let refused = digest(&image, &Launch { vcpus, ..launch() });
        assert!(matches!(refused, Err(ArtifactError::Count { what: "vCPUs", .. })), "{vcpus}");
    }
}

proptest! {
    #[test]
    fn no_change_of_an_image_panics(changes in prop::collection::vec((0usize..0x620, any::<u8>()), 1..12)) {
        let mut image = FirmwareImage::with_everything(2).build();
        let length = image.len();
        for (before_end, byte) in changes {
            if let Some(at) = length.checked_sub(before_end + 1) {
                image[at] = byte;
            }
        }
        let _ = digest(&image, &Launch { kernel: Some(kernel("quiet")), ..launch() });
    }
}

#[test]
fn an_id_block_is_for_one_launch() {
    let launch_digest = digest(&FirmwareImage::with_everything(4).build(), &launch()).unwrap();
    let block = IdBlock { launch_digest, family_id: [1; 16], image_id: [2; 16], guest_svn: 3, policy: 0x3_0000 };
    let bytes = block.to_bytes();
    assert_eq!(IdBlock::parse(&bytes), Ok(block));
    assert_eq!(block.is_for(launch_digest), Ok(()));
    let other = digest(&FirmwareImage::with_everything(5).build(), &launch()).unwrap();
    assert!(matches!(block.is_for(other), Err(ArtifactError::Differs { .. })));
    assert!(IdBlock::parse(&bytes[..95]).is_err());
    let mut version_2 = bytes.clone();
    version_2[80] = 2;
    assert!(IdBlock::parse(&version_2).is_err());
    assert!(IdAuth::verify(&[0; 4096], &block).is_err());
    assert!(IdAuth::verify(&bytes, &block).is_err());
}
