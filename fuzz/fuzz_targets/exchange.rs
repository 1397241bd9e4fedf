//! Reference values in others' formats: CoRIM, Keylime's runtime policies, outputs of sev-snp-measure.
#![no_main]

use std::sync::LazyLock;

use evidence::{cose::SigningKey, time::UnixSeconds};
use firmware_refs::{
    document::SetDocument,
    exchange::{
        corim, keylime,
        signers::{AllowedSigner, Hardware},
        snp_measure,
    },
};
use libfuzzer_sys::fuzz_target;

const NOW: UnixSeconds = UnixSeconds(1_700_000_000);

/// What imports fill in: one set of each kind of hardware.
static BASES: LazyLock<[SetDocument; 3]> = LazyLock::new(|| {
    [
        include_str!("../../firmware-refs/tests/exchange/tpm.toml"),
        include_str!("../../firmware-refs/tests/exchange/snp.toml"),
        include_str!("../../firmware-refs/tests/exchange/tdx.toml"),
    ]
    .map(|set| toml::from_str(&set.replace("MEASURED", &"a".repeat(96)).replace("ZERO", &"0".repeat(96))).unwrap())
});

static SIGNERS: LazyLock<[AllowedSigner; 1]> = LazyLock::new(|| {
    let key = SigningKey::from_seed(&[7; 32]).unwrap().public().clone();
    [AllowedSigner { key, environment: "lab".parse().unwrap(), hardware: Hardware::ALL.to_vec() }]
});

fuzz_target!(|bytes: &[u8]| {
    for base in BASES.iter() {
        let _ = corim::import_unsigned(bytes, base.clone(), NOW);
        let _ = keylime::import_unsigned(bytes, base.clone(), NOW);
        let _ = snp_measure::import_unsigned(bytes, base.clone(), NOW);
        assert!(corim::import(bytes, base.clone(), SIGNERS.as_slice(), NOW).is_err(), "nothing is signed");
        assert!(keylime::import(bytes, base.clone(), SIGNERS.as_slice(), NOW).is_err(), "nothing is signed");
    }
});
