//! Predicted PCRs: what they consist of, and images that have none.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use evidence::digest::{Digest, HashAlg};
use firmware_refs::compute::{
    ArtifactError,
    proposal::ComputedValue,
    tdx::{SeparatorIn, rtmr1},
    tpm::{
        Boot, Image, InnerKernel, PHASES, PeImage, SecureBoot, SecureBootVariables, SignatureDatabase, Uki,
        load_options, pcr4, pcr7, pcr9,
    },
};
use proptest::prelude::*;
use tests::pe_image::{CERTIFICATES_ENTRY, EfiImage, HEADER_BYTES, OPTIONAL, PE, SECTION_TABLE};

const ALG: HashAlg = HashAlg::Sha256;

fn kernel() -> EfiImage {
    EfiImage::new(&[(".setup", &[1; 600]), (".text", &[2; 5000])])
}

fn authenticode(image: &[u8]) -> Result<Digest, ArtifactError> {
    PeImage::parse(image)?.authenticode(ALG)
}

/// A register that these digests are extended into, one after the other.
fn folded(digests: &[Digest]) -> Digest {
    digests.iter().fold(Digest::zero(ALG), |value, digest| value.extend(digest.as_bytes()))
}

#[test]
fn an_images_hash_leaves_out_checksum_and_signatures_alone() {
    let plain = EfiImage { trailer: vec![3; 40], ..kernel() };
    let image = plain.build();
    let hash = authenticode(&image).unwrap();
    let without: Vec<u8> =
        [&image[..OPTIONAL + 64], &image[OPTIONAL + 68..CERTIFICATES_ENTRY], &image[CERTIFICATES_ENTRY + 8..]].concat();
    assert_eq!(hash, ALG.hash(&[&without]));
    let signed = EfiImage { certificates: vec![9; 64], ..plain.clone() };
    assert_eq!(authenticode(&signed.build()), Ok(hash));
    let mut other_checksum = image.clone();
    other_checksum[OPTIONAL + 64] ^= 1;
    assert_eq!(authenticode(&other_checksum), Ok(hash));
    for at in [0x40, PE + 8, OPTIONAL + 16, SECTION_TABLE + 36, HEADER_BYTES - 1, HEADER_BYTES, image.len() - 1] {
        let mut changed = image.clone();
        changed[at] ^= 1;
        assert_ne!(authenticode(&changed), Ok(hash), "{at:#x}");
    }
    assert!(PeImage::parse(&image).unwrap().authenticode(HashAlg::Sha1).is_err());
}

#[test]
fn images_that_have_two_hashes_or_none_are_refused() {
    let signed = EfiImage { certificates: vec![9; 64], ..kernel() }.build();
    let refusal = |at: usize, bytes: &[u8]| {
        let mut image = signed.clone();
        image[at..at + bytes.len()].copy_from_slice(bytes);
        authenticode(&image).unwrap_err().to_string()
    };
    let cases = [
        (refusal(0, b"XX"), "does not begin with MZ"),
        (refusal(PE, b"PF"), "does not begin with PE"),
        (refusal(0x3c, &[0xff; 4]), "ends early"),
        (refusal(PE + 6, &[0, 0]), "0 sections"),
        (refusal(PE + 6, &[0xff, 0xff]), "65535 sections"),
        (refusal(OPTIONAL, &[0x0c]), "neither PE32"),
        (refusal(PE + 20, &[0, 0]), "within SizeOfHeaders"),
        (refusal(OPTIONAL + 60, &[0x10, 0, 0, 0]), "within SizeOfHeaders"),
        (refusal(OPTIONAL + 60, &[0xff; 4]), "within SizeOfHeaders"),
        (refusal(OPTIONAL + 60, &[0, 6, 0, 0]), "two hashes"),
        (refusal(CERTIFICATES_ENTRY, &[0, 0, 0, 0]), "not the end of the file"),
        (refusal(CERTIFICATES_ENTRY + 4, &[63]), "not the end of the file"),
        (refusal(CERTIFICATES_ENTRY + 4, &[0xff; 4]), "not the end of the file"),
        (refusal(SECTION_TABLE + 16, &[0xff; 4]), "outside the image"),
        (refusal(SECTION_TABLE + 16, &[0, 2, 0, 0]), "two hashes"),
        (refusal(SECTION_TABLE + 20, &[0, 0, 0, 0]), "two hashes"),
        (refusal(SECTION_TABLE + 40 + 16, &[0x40, 0x14, 0, 0]), "two hashes"),
    ];
    for (error, words) in cases {
        assert!(error.contains(words), "{error} / {words}");
    }
    for length in [0, 1, 0x40, PE + 4, OPTIONAL, SECTION_TABLE, HEADER_BYTES, signed.len() - 1] {
        assert!(PeImage::parse(&signed[..length]).is_err(), "{length}");
    }
}

#[test]
fn pcr4_holds_the_attempt_and_every_image() {
    let (loader, kernel) = (EfiImage::new(&[(".text", b"loader")]).build(), kernel().build());
    let images = [&loader, &kernel].map(|image| PeImage::parse(image).unwrap());
    let hashes = [&loader, &kernel].map(|image| authenticode(image).unwrap());
    let action = ALG.hash(&[b"Calling EFI Application from Boot Option"]);
    let separator = ALG.hash(&[&[0; 4]]);
    let images = [Image { name: "loader", image: &images[0] }, Image { name: "kernel", image: &images[1] }];
    let from_disk = pcr4(ALG, Boot::Disk, &images).unwrap();
    assert_eq!(from_disk.value, folded(&[action, separator, hashes[0], hashes[1]]));
    assert_eq!(from_disk.events.len(), 4);
    let direct = pcr4(ALG, Boot::Direct, &images[1..]).unwrap();
    assert_eq!(direct.value, folded(&[hashes[1], action, separator]));
}

#[test]
fn pcr9_holds_the_load_options_and_the_initrd() {
    let initrd = ALG.hash(&[b"initrd"]);
    let utf16 = |text: &str| ALG.hash(&[&text.encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>()]);
    let direct = load_options(Boot::Direct, "quiet", true);
    assert_eq!(pcr9(ALG, Some(&direct), Some(initrd)).value, folded(&[utf16("quiet initrd=initrd\0"), initrd]));
    let disk = load_options(Boot::Disk, "quiet", true);
    assert_eq!(pcr9(ALG, Some(&disk), Some(initrd)).value, folded(&[utf16("quiet\0"), initrd]));
    assert_eq!(load_options(Boot::Direct, "quiet", false), load_options(Boot::Disk, "quiet", false));
    assert_eq!(pcr9(ALG, None, None).value, Digest::zero(ALG));
}

fn unified(version: &str) -> Vec<u8> {
    let kernel = kernel().build();
    let sections: [(&str, &[u8]); 6] = [
        (".sbat", b"sbat,1"),
        (".initrd", b"an initrd"),
        (".cmdline", b"quiet"),
        (".uname", b"6.1"),
        (".osrel", b"ID=x"),
        (".linux", &kernel),
    ];
    EfiImage::unified(version, &sections).build()
}

#[test]
fn pcr11_holds_the_sections_in_the_stubs_order_whatever_the_images() {
    let kernel = kernel().build();
    let measured = |sections: &[(&str, &[u8])]| {
        let digests =
            sections.iter().flat_map(|(name, contents)| [ALG.hash(&[name.as_bytes(), &[0]]), ALG.hash(&[contents])]);
        folded(&digests.collect::<Vec<_>>())
    };
    let old: [(&str, &[u8]); 4] =
        [(".linux", &kernel), (".osrel", b"ID=x"), (".cmdline", b"quiet"), (".initrd", b"an initrd")];
    let image = unified("252.39-1");
    let uki = Uki::parse(&image).unwrap();
    assert_eq!((uki.version(), uki.kernel()), (252, Ok(&*kernel)));
    let inner = [SecureBoot::Off, SecureBoot::Absent, SecureBoot::On].map(|state| uki.inner_kernel(state));
    assert_eq!(inner, [InnerKernel::Measured, InnerKernel::Measured, InnerKernel::Unmeasured]);
    assert_eq!((uki.cmdline(), uki.initrd()), (Ok("quiet"), Ok(Some(&b"an initrd"[..]))));
    assert_eq!(uki.pcr11(ALG, &[]).value, measured(&old));
    let phases =
        PHASES.iter().fold(measured(&old), |value, phase| value.extend(ALG.hash(&[phase.as_bytes()]).as_bytes()));
    assert_eq!(uki.pcr11(ALG, &PHASES).value, phases);
    // later stubs measure more, and the kernel is theirs to start
    let new: Vec<(&str, &[u8])> = [&old[..], &[(".uname", b"6.1"), (".sbat", b"sbat,1")]].concat();
    let image = unified("258~rc1");
    let uki = Uki::parse(&image).unwrap();
    let inner = uki.inner_kernel(SecureBoot::Off);
    assert_eq!((uki.pcr11(ALG, &[]).value, inner), (measured(&new), InnerKernel::Unmeasured));
    assert!(uki.initrd().is_err(), "the stub hands on more than .initrd");
}

#[test]
fn unified_images_that_are_not_understood_are_refused() {
    let refusal = |version: &str, sections: &[(&'static str, &[u8])]| {
        Uki::parse(&EfiImage::unified(version, sections).build()).unwrap_err().to_string()
    };
    let kernel: (&str, &[u8]) = (".linux", b"kernel");
    assert!(refusal("251.4", &[kernel]).contains("\"251.4\" is not known"));
    assert!(refusal("254.5-1", &[kernel]).contains("\"254.5-1\" is not known"));
    assert!(refusal("", &[kernel]).contains("is not known"));
    assert!(refusal("99999999999", &[kernel]).contains("is not known"));
    assert!(refusal("257", &[]).contains("no .linux section"));
    assert!(refusal("257", &[kernel, (".cmdline", b"a"), (".cmdline", b"b")]).contains("second section"));
    assert!(refusal("257", &[kernel, (".dtbauto", b"d")]).contains(".dtbauto"));
    // a kernel of which the file has not all
    let mut short = EfiImage::unified("252", &[kernel]).build();
    short[SECTION_TABLE + 80 + 8..][..4].copy_from_slice(&[0xff; 4]);
    assert!(Uki::parse(&short).unwrap_err().to_string().contains("longer in memory than in the file"));
    let plain = EfiImage::new(&[kernel]).build();
    assert!(Uki::parse(&plain).unwrap_err().to_string().contains("no systemd-stub"));
    let with = |cmdline: &'static [u8], further: &[(&'static str, &[u8])]| {
        EfiImage::unified("252", &[&[kernel, (".cmdline", cmdline)], further].concat()).build()
    };
    for cmdline in [&b"quiet\n"[..], b" quiet", b"a\tb", b"\xff", b"quiet\0"] {
        assert!(Uki::parse(&with(cmdline, &[])).unwrap().cmdline().is_err(), "{cmdline:?}");
    }
    assert!(Uki::parse(&with(b"quiet", &[(".pcrpkey", b"key")])).unwrap().initrd().is_err());
}

/// An EFI_SIGNATURE_LIST of certificates of one length, all of one owner.
fn list(certificates: &[&[u8]]) -> Vec<u8> {
    const X509: [u8; 16] = *b"\xa1\x59\xc0\xa5\xe4\x94\xa7\x4a\x87\xb5\xab\x15\x5c\x2b\xf0\x72";
    let size = u32::try_from(certificates[0].len() + 16).unwrap();
    let length = 28 + size * u32::try_from(certificates.len()).unwrap();
    let header = [X509.as_slice(), &length.to_le_bytes(), &[0; 4], &size.to_le_bytes()].concat();
    let signatures = certificates.iter().flat_map(|certificate| [&[7; 16], *certificate].concat());
    header.into_iter().chain(signatures).collect()
}

fn secure(db: &[u8], authorities: &[&[u8]]) -> Result<ComputedValue, ArtifactError> {
    let variables = SecureBootVariables { db: SignatureDatabase::parse(db)?, ..SecureBootVariables::default() };
    pcr7(ALG, SecureBoot::On, &variables, authorities)
}

#[test]
fn pcr7_holds_variables_and_each_authority_once() {
    let (first, second) = (&[0xa1; 60][..], &[0xa2; 60][..]);
    let db = list(&[first, second]);
    let none = secure(&db, &[]).unwrap();
    let one = secure(&db, &[first]).unwrap();
    assert_eq!((none.events.len(), one.events.len()), (6, 7));
    assert_eq!(secure(&db, &[first, first]).unwrap(), one);
    assert_ne!(secure(&db, &[first, second]).unwrap().value, secure(&db, &[second, first]).unwrap().value);
    assert!(matches!(secure(&db, &[&[0xa3; 60]]), Err(ArtifactError::Missing { .. })));
    // a file of efivarfs is the same variable
    assert_eq!(secure(&[&[0x27, 0, 0, 0], &db[..]].concat(), &[first]).unwrap(), one);
    for states in [(SecureBoot::On, SecureBoot::Off), (SecureBoot::Off, SecureBoot::Absent)] {
        let value = |state| pcr7(ALG, state, &SecureBootVariables::default(), &[]).unwrap().value;
        assert_ne!(value(states.0), value(states.1));
    }
}

#[test]
fn variables_that_are_no_signature_lists_are_refused() {
    let db = list(&[&[0xa1; 60]]);
    for length in [1, 3, 15, 27, 28, db.len() - 1] {
        assert!(SignatureDatabase::parse(&db[..length]).is_err(), "{length}");
    }
    for (at, bytes) in
        [(16, [0; 4]), (16, [0xff; 4]), (20, [0xff; 4]), (24, [0; 4]), (24, [16, 0, 0, 0]), (24, [61, 0, 0, 0])]
    {
        let mut db = db.clone();
        db[at..at + 4].copy_from_slice(&bytes);
        assert!(SignatureDatabase::parse(&db).is_err(), "{at} {bytes:?}");
    }
    assert!(matches!(SignatureDatabase::parse(&vec![0; (1 << 20) + 1]), Err(ArtifactError::TooLarge { .. })));
    assert!(SignatureDatabase::parse(&[]).is_ok());
}

#[test]
fn rtmr1_tells_where_the_separator_went() {
    let kernel = HashAlg::Sha384.hash(&[b"kernel"]);
    let (old, new) = (rtmr1(kernel, SeparatorIn::Rtmr0), rtmr1(kernel, SeparatorIn::Rtmr1));
    assert_eq!((old.events.len(), new.events.len()), (4, 5));
    assert_ne!(old.value, new.value);
}

proptest! {
    #[test]
    fn no_change_of_an_image_panics(changes in prop::collection::vec((0usize..HEADER_BYTES, any::<u8>()), 1..12)) {
        let mut image = unified("256");
        for (at, byte) in changes {
            image[at] = byte;
        }
        if let Ok(uki) = Uki::parse(&image) {
            let _ = (uki.pcr11(ALG, &PHASES), uki.initrd(), uki.cmdline(), uki.image().authenticode(ALG));
        }
    }

    #[test]
    fn no_variable_panics(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = SignatureDatabase::parse(&bytes);
    }
}
