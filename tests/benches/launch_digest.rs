//! What the launch digest of a guest costs beyond hashing its pages.

mod measure;

use criterion::Criterion;
use evidence::digest::HashAlg;
use firmware_refs::compute::{
    ovmf::Ovmf,
    snp::{CpuSignature, Launch, Vmm},
};
use tests::firmware_image::FirmwareImage;

const PAGE_BYTES: usize = 4096;
const VCPUS: u32 = 64;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let image = FirmwareImage::with_everything((4 << 20) / PAGE_BYTES).build();
    let bare = measure::best_us(&mut criterion, "launch_digest/bare", || {
        // the image's pages, and one for each vCPU
        let pages = image.chunks(PAGE_BYTES).chain(image.chunks(PAGE_BYTES).take(VCPUS as usize));
        pages.fold(0u8, |kept, page| kept ^ HashAlg::Sha384.hash(&[page]).as_bytes()[0])
    });
    let vcpu = CpuSignature::of_type("EPYC-v4").expect("known");
    let launch = Launch { vcpus: VCPUS, vmm: Vmm::Qemu { vcpu }, guest_features: 1, kernel: None };
    let whole = measure::best_us(&mut criterion, "launch_digest/computed", || {
        Ovmf::parse(&image).and_then(|ovmf| launch.digest(&ovmf)).expect("well-formed")
    });
    let what = format!("launch digest of 4 MiB and {VCPUS} vCPUs over SHA-384 of the pages ({:.1} ms)", bare / 1e3);
    measure::report(&what, whole / bare, " ×", 1.5);
}
