//! MRTD: against the same calls written out one after the other, and images that have none.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::disallowed_methods,
    clippy::print_stdout
)]

use evidence::digest::{Digest, HashAlg};
use firmware_refs::compute::{
    ArtifactError,
    ovmf::Ovmf,
    tdx::{ExtendOrder, mrtd},
};
use proptest::prelude::*;
use tests::firmware_image::{FirmwareImage, TDX_BEFORE_END, TdxSection};

fn computed(image: &[u8], order: ExtendOrder) -> Result<Digest, ArtifactError> {
    mrtd(&Ovmf::parse(image)?, order)
}

/// One call to the TDX module: its name, the address, zeros to 128 bytes, and what it measures.
fn call(name: &str, gpa: u64, contents: &[u8]) -> Vec<u8> {
    let mut call = name.as_bytes().to_vec();
    call.resize(16, 0);
    call.extend(gpa.to_le_bytes());
    call.resize(128, 0);
    [&call, contents].concat()
}

/// The calls of an image's sections, written out.
fn written_out(sections: &[TdxSection], image: &[u8], order: ExtendOrder) -> Digest {
    let mut calls = Vec::new();
    for section in sections {
        let (gpa, bytes) = section.memory;
        let pages = || (0..bytes).step_by(4096);
        let add = |page: u64| call("MEM.PAGE.ADD", gpa + page, &[]);
        let extend = |page: u64| -> Vec<u8> {
            let chunks = (page..page + 4096).step_by(256).filter(|_| section.attributes == 1);
            chunks
                .flat_map(|chunk| {
                    let at = usize::try_from(u64::from(section.data.0) + chunk).unwrap();
                    let contents = if section.data.1 == 0 { &[0; 256] } else { &image[at..at + 256] };
                    call("MR.EXTEND", gpa + chunk, contents)
                })
                .collect()
        };
        match order {
            ExtendOrder::AfterPage => pages().for_each(|page| calls.extend([add(page), extend(page)])),
            ExtendOrder::AfterSection => {
                calls.extend(pages().map(add));
                calls.extend(pages().map(extend));
            }
        }
    }
    HashAlg::Sha384.hash(&[&calls.concat()])
}

#[test]
fn mrtd_is_the_hash_of_the_calls() {
    let mut with_zeros = FirmwareImage::with_everything(8);
    with_zeros.tdx_sections[2].attributes = 1;
    for image in [FirmwareImage::with_everything(8), with_zeros] {
        let bytes = image.build();
        for order in [ExtendOrder::AfterPage, ExtendOrder::AfterSection] {
            assert_eq!(computed(&bytes, order), Ok(written_out(&image.tdx_sections, &bytes, order)), "{order:?}");
        }
        assert_ne!(computed(&bytes, ExtendOrder::AfterPage), computed(&bytes, ExtendOrder::AfterSection));
    }
}

#[test]
fn memory_that_is_added_at_run_time_is_not_measured() {
    let mut image = FirmwareImage::with_everything(8);
    let before = computed(&image.build(), ExtendOrder::AfterPage).unwrap();
    let late = TdxSection { data: (0, 0), memory: (0x100_0000, 0x1_0000), kind: 4, attributes: 2 };
    image.tdx_sections.insert(0, late);
    // the metadata is itself part of the measured image: written out anew, without the section
    let bytes = image.build();
    let expected = written_out(&image.tdx_sections[1..], &bytes, ExtendOrder::AfterPage);
    assert_eq!(computed(&bytes, ExtendOrder::AfterPage), Ok(expected));
    assert_ne!(before, expected);
}

/// The figure is from a script of twenty lines in Python's hashlib, after the TDX module's specification.
#[test]
fn debians_image_has_a_known_mrtd() {
    const SHA256: &str = "7b456907dd0786d415999e801a1ac4637b8ed4d7cf5378cfc6edbe5e574dd773";
    let Ok(bytes) = std::fs::read("/usr/share/ovmf/OVMF.fd") else {
        println!("skipped: Debian's package ovmf is not installed");
        return;
    };
    if HashAlg::Sha256.hash(&[&bytes]).hex() != SHA256 {
        println!("skipped: another version of Debian's package ovmf is installed than 2022.11-6+deb12u2");
        return;
    }
    let known = [
        (
            ExtendOrder::AfterPage,
            "4c7206f0f483c524f12c366c711e9049030a8d47c471ee5aa9c4999a08de4057fb887fed0744d5631a212967fb231c47",
        ),
        (
            ExtendOrder::AfterSection,
            "acccbcc870a381adab0d3919d90a7f268ac3b0364771f202ed4bb4e892d045b33db3b32e6924cba830a724eed443f7e1",
        ),
    ];
    for (order, mrtd) in known {
        assert_eq!(computed(&bytes, order).unwrap().hex(), mrtd, "{order:?}");
    }
}

#[test]
fn sections_that_could_be_measured_in_two_ways_are_refused() {
    let refusal = |change: &dyn Fn(&mut Vec<TdxSection>)| {
        let mut image = FirmwareImage::with_everything(4);
        change(&mut image.tdx_sections);
        computed(&image.build(), ExtendOrder::AfterPage).unwrap_err().to_string()
    };
    let cases = [
        (refusal(&|sections| sections.clear()), "no TDX metadata"),
        (refusal(&|sections| sections[0].memory.0 = 0x80_9000), "overlap"),
        (refusal(&|sections| sections[0].memory.0 += 1), "whole pages"),
        (refusal(&|sections| sections[2].memory.1 = 0), "whole pages"),
        (refusal(&|sections| sections[2].memory.1 = 0x800), "whole pages"),
        (refusal(&|sections| sections[2].memory.1 = 1 << 40), "more memory than firmware needs"),
        (refusal(&|sections| sections[2].memory.0 = u64::MAX - 0xfff), "beyond all addresses"),
        (refusal(&|sections| sections[0].data.0 = 0x2000), "outside the image"),
        (refusal(&|sections| sections[0].data.0 = u32::MAX), "outside the image"),
        (refusal(&|sections| sections[0].data.1 -= 0x1000), "not as long as its memory"),
        (refusal(&|sections| sections[2].data.1 = 0x1000), "has contents"),
        (refusal(&|sections| sections[3].attributes = 1), "what the hypervisor writes"),
        (refusal(&|sections| sections[0].attributes = 2), "do not go with its type"),
        (refusal(&|sections| sections[2].attributes = 3), "do not go with its type"),
        (refusal(&|sections| sections[0].kind = 5), "section type 0x5"),
        (refusal(&|sections| *sections = vec![sections[2]; 65]), "65 sections of TDX metadata"),
    ];
    for (error, words) in cases {
        assert!(error.contains(words), "{error} / {words}");
    }
    let refusal_of_bytes = |before_end: usize, bytes: &[u8]| {
        let mut image = FirmwareImage::with_everything(4).build();
        let start = image.len() - before_end;
        image[start..start + bytes.len()].copy_from_slice(bytes);
        computed(&image, ExtendOrder::AfterPage).unwrap_err().to_string()
    };
    assert!(refusal_of_bytes(TDX_BEFORE_END, b"TDVG").contains("signature is not TDVF"));
    assert!(refusal_of_bytes(TDX_BEFORE_END - 4, &[143, 0]).contains("shorter than its sections"));
    assert!(refusal_of_bytes(TDX_BEFORE_END - 8, &[2]).contains("only version 1"));
    assert!(refusal_of_bytes(TDX_BEFORE_END - 12, &[0xff; 4]).contains("4294967295 sections"));
}

proptest! {
    #[test]
    fn no_change_of_an_image_panics(changes in prop::collection::vec((0usize..0xc20, any::<u8>()), 1..12)) {
        let mut image = FirmwareImage::with_everything(2).build();
        let length = image.len();
        for (before_end, byte) in changes {
            image[length - before_end - 1] = byte;
        }
        let _ = computed(&image, ExtendOrder::AfterSection);
    }
}
