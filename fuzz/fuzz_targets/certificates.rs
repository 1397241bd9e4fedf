//! Certificates and chains of strangers.
#![no_main]

use std::sync::LazyLock;

use evidence::anchors::{AnchorSet, RootPin, TrustAnchors};
use evidence::digest::Sha256Digest;
use evidence::time::UnixSeconds;
use evidence::tpm::ek::EkCertificate;
use libfuzzer_sys::fuzz_target;

static ANCHORS: LazyLock<TrustAnchors> = LazyLock::new(|| {
    let roots = [RootPin::Certificate(Sha256Digest([1; 32]))].into();
    TrustAnchors::new(AnchorSet { tpm_roots: roots, ..AnchorSet::default() }).unwrap()
});

fuzz_target!(|bytes: &[u8]| {
    // one certificate, or two of which the first has a 16-bit length before it
    let split = bytes.split_first_chunk::<2>().map(|(length, rest)| (usize::from(u16::from_be_bytes(*length)), rest));
    assert!(EkCertificate::verify(&[bytes], &ANCHORS, UnixSeconds(1_700_000_000)).is_err(), "nothing is pinned");
    if let Some((leaf, issuer)) = split.and_then(|(at, rest)| rest.split_at_checked(at)) {
        assert!(EkCertificate::verify(&[leaf, issuer], &ANCHORS, UnixSeconds(1_700_000_000)).is_err());
    }
});
