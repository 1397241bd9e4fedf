//! AMD's certificates and revocation lists: as strangers make them, and with contents that AMD would have signed.
#![no_main]

use std::sync::LazyLock;

use evidence::{
    sev_snp::{Revocation, VerifiedVek},
    time::UnixSeconds,
};
use fuzz::{NOW, Roots, patched};
use libfuzzer_sys::fuzz_target;
use simulators::{
    amd::{Product, SnpMachine, Vek},
    keys::Signer,
};

struct Genuine {
    machine: SnpMachine,
    vek: Vek,
    roots: Roots,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let machine = SnpMachine::new(Product::Milan, NOW).unwrap();
    let roots = Roots::of("Milan", &machine.authority.ark);
    Genuine { vek: machine.vek().unwrap(), roots, machine }
});

fuzz_target!(|bytes: &[u8]| {
    let Some(([way, at], bytes)) = bytes.split_first_chunk::<2>() else { return };
    let Genuine { machine, vek, roots } = &*GENUINE;
    let authority = &machine.authority;
    let verify = |leaf: &[u8], ask: &[u8], list: &[u8]| {
        let list = Revocation::List(list);
        VerifiedVek::verify(leaf, Some(ask), Some(&authority.ark), list, &roots.snp(), UnixSeconds(NOW))
    };
    match way % 5 {
        0 => drop(verify(&patched(&vek.certificate, bytes), &authority.ask, &authority.crl)),
        1 => drop(verify(&vek.certificate, &patched(&authority.ask, bytes), &authority.crl)),
        2 => {
            let list = patched(&authority.crl, bytes);
            let is_verified = verify(&vek.certificate, &authority.ask, &list).is_ok();
            assert!(!is_verified || list == authority.crl, "nothing of a list is free");
        }
        3 => drop(verify(&vek.certificate, &authority.ask, bytes)),
        // one extension of the leaf is what was given, and signed
        _ => {
            let mut fields = machine.vek_fields().certificate_fields(authority, &vek.key);
            let count = fields.extensions.len();
            fields.extensions[usize::from(*at) % count].value = bytes.to_vec();
            let leaf = fields.sign(Signer::RsaPss(&authority.keys.ask)).unwrap();
            drop(verify(&leaf, &authority.ask, &authority.crl));
        }
    }
});
