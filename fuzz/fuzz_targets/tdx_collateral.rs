//! Intel's collateral: its JSON frame, lists and chains of strangers, and texts that Intel would have signed.
#![no_main]

use std::sync::LazyLock;

use evidence::{
    tdx::{Collateral, Quote, VerifiedCollateral, VerifiedPck},
    time::UnixSeconds,
};
use fuzz::{NOW, Roots, patched};
use libfuzzer_sys::fuzz_target;
use simulators::intel::TdxMachine;

struct Genuine {
    machine: TdxMachine,
    quote: Vec<u8>,
    collateral: Collateral,
    json: Vec<u8>,
    roots: Roots,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let machine = TdxMachine::new(5, NOW).unwrap();
    let json = machine.collateral().unwrap().to_json().unwrap().into_bytes();
    let collateral = Collateral::from_json(&json).unwrap();
    let roots = Roots::of("", &machine.authority.root);
    Genuine { quote: machine.quote([7; 64]).unwrap(), collateral, json, roots, machine }
});

fuzz_target!(|bytes: &[u8]| {
    let Some((way, bytes)) = bytes.split_first() else { return };
    let Genuine { machine, collateral, json, .. } = &*GENUINE;
    let mut collateral = collateral.clone();
    let text = |genuine: &str, bytes: &[u8]| {
        let text = if way & 0x80 == 0 { patched(genuine.as_bytes(), bytes) } else { bytes.to_vec() };
        String::from_utf8_lossy(&text).into_owned()
    };
    let sign = |text: &str| machine.authority.keys.tcb_signing.sign_fixed(text.as_bytes()).unwrap();
    match way % 6 {
        0 => {
            let frame = if way & 0x80 == 0 { patched(json, bytes) } else { bytes.to_vec() };
            match Collateral::from_json(&frame) {
                Ok(read) => collateral = read,
                Err(_) => return,
            }
            assert_eq!(Collateral::from_json(&collateral.to_json()).as_ref(), Ok(&collateral));
        }
        1 => {
            collateral.tcb_info = text(&collateral.tcb_info, bytes);
            collateral.tcb_info_signature = sign(&collateral.tcb_info);
        }
        2 => {
            collateral.qe_identity = text(&collateral.qe_identity, bytes);
            collateral.qe_identity_signature = sign(&collateral.qe_identity);
        }
        3 => collateral.root_ca_crl = patched(&collateral.root_ca_crl, bytes),
        4 => collateral.pck_crl = if way & 0x80 == 0 { patched(&collateral.pck_crl, bytes) } else { bytes.to_vec() },
        _ => collateral.tcb_info_issuer_chain = text(&collateral.tcb_info_issuer_chain, bytes),
    }
    judge(&collateral);
});

fn judge(collateral: &Collateral) {
    let Genuine { quote, roots, .. } = &*GENUINE;
    let Ok(verified) = VerifiedCollateral::verify(collateral, &roots.tdx(), UnixSeconds(NOW)) else { return };
    let quote = Quote::parse(quote).unwrap();
    let pck = VerifiedPck::verify(quote.pck_chain(), &roots.tdx(), UnixSeconds(NOW)).unwrap();
    let _ = pck.authenticate(&quote).unwrap().judge(&verified);
}
