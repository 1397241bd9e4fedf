//! TPM structures: attestations, signatures, public areas, PCR values, enrolments.
#![no_main]

use evidence::tpm::{
    Enrolment,
    attest::Attest,
    pcr::PcrValues,
    public::Public,
    signature::Signature,
    template::{ak_template, ek_template, node_key_template},
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(attest) = Attest::read(bytes) {
        let _ = attest.quote();
        let _ = attest.certification();
    }
    let _ = Signature::read(bytes);
    if let Ok(public) = Public::read(bytes) {
        let _ = (ak_template(&public), ek_template(&public), node_key_template(&public), public.name());
    }
    if let Ok(values) = PcrValues::from_cbor(bytes) {
        assert_eq!(values.to_cbor().unwrap(), bytes, "values have one encoding");
    }
    if let Ok(enrolment) = Enrolment::from_cbor(bytes) {
        assert_eq!(enrolment.to_cbor().unwrap(), bytes, "an enrolment has one encoding");
    }
});
