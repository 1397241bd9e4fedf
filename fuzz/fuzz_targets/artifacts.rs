//! Files that reference values are calculated from: firmware images, EFI images, Secure Boot variables, ID blocks.
#![no_main]

use evidence::digest::HashAlg;
use firmware_refs::compute::{
    ovmf::Ovmf,
    snp::{IdAuth, IdBlock, Launch, Vmm},
    tdx::{ExtendOrder, mrtd},
    tpm::{PHASES, PeImage, SignatureDatabase, Uki},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // whole pages, so that mutants of any length are firmware images
    let mut pages = bytes.to_vec();
    let missing = bytes.len().next_multiple_of(4096) - bytes.len();
    pages.splice(0..0, vec![0; missing]);
    if let Ok(ovmf) = Ovmf::parse(&pages) {
        let launch = Launch { vcpus: 2, vmm: Vmm::Gce, guest_features: 1, kernel: None };
        let _ = (launch.digest(&ovmf), mrtd(&ovmf, ExtendOrder::AfterSection));
    }
    if let Ok(image) = PeImage::parse(bytes) {
        assert!(image.authenticode(HashAlg::Sha256).is_ok(), "what is read can be hashed");
    }
    if let Ok(uki) = Uki::parse(bytes) {
        let _ = (uki.pcr11(HashAlg::Sha256, &PHASES), uki.cmdline(), uki.initrd());
    }
    let _ = SignatureDatabase::parse(bytes);
    if let Ok(block) = IdBlock::parse(bytes) {
        assert_eq!(block.to_bytes(), bytes, "an ID block has one form");
        let _ = IdAuth::verify(bytes, &block);
    }
});
