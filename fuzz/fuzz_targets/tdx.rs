//! TDX quotes, their PCK chains, and the event logs of trust domains.
#![no_main]

use std::sync::LazyLock;

use evidence::{
    event_log::{CcEventLog, TdxJsonLog},
    tdx::{Quote, VerifiedPck, td_attributes},
    time::UnixSeconds,
};
use fuzz::{NOW, Roots, patched};
use libfuzzer_sys::fuzz_target;
use simulators::{
    intel::{SGX_EXTENSIONS, TdxMachine},
    keys::Signer,
    x509::certificate_pem,
};

struct Genuine {
    machine: TdxMachine,
    quotes: [Vec<u8>; 2],
    roots: Roots,
}

static GENUINE: LazyLock<Genuine> = LazyLock::new(|| {
    let machine = TdxMachine::new(5, NOW).unwrap();
    let roots = Roots::of("", &machine.authority.root);
    // both of one authority, so that one root is pinned
    let older = TdxMachine::with_authority(4, machine.authority.clone()).unwrap();
    let quotes = [older.quote([7; 64]).unwrap(), machine.quote([7; 64]).unwrap()];
    Genuine { machine, quotes, roots }
});

fuzz_target!(|bytes: &[u8]| {
    let Some((way, bytes)) = bytes.split_first() else { return };
    let Genuine { machine, quotes, roots } = &*GENUINE;
    match way % 6 {
        way @ (0 | 1) => {
            let genuine = &quotes[usize::from(way)];
            judge(&patched(genuine, bytes), &roots.tdx());
        }
        2 => judge(bytes, &roots.tdx()),
        // the platform's extensions are what was given, and signed
        3 => {
            let authority = &machine.authority;
            let key = authority.keys.derive(&[b"PCK", &machine.pck.ppid]).unwrap();
            let mut fields = authority.pck_fields(&machine.pck, &key);
            fields.extension_mut(SGX_EXTENSIONS).unwrap().value = bytes.to_vec();
            let leaf = fields.sign(Signer::Ec(authority.pck_ca_key(machine.pck.ca))).unwrap();
            let chain = [&leaf, authority.pck_ca(machine.pck.ca), &authority.root].map(certificate_pem).concat();
            let _ = VerifiedPck::verify(chain.as_bytes(), &roots.tdx(), UnixSeconds(NOW));
        }
        4 => {
            let Ok(log) = CcEventLog::parse(bytes) else { return };
            let _ = (log.replay(), log.verify_event_data(), log.verify_boot_grammar());
            let _ = log.measured(1).count();
        }
        _ => {
            let Ok(log) = TdxJsonLog::parse(bytes) else { return };
            let _ = log.replay();
        }
    }
});

fn judge(bytes: &[u8], roots: &evidence::tdx::TdxRoots<'_>) {
    let Ok((quote, rest)) = Quote::parse_prefix(bytes) else { return };
    assert_eq!(Quote::parse(bytes).is_ok(), rest.is_empty());
    if let Ok(report) = quote.td_report() {
        let _ = td_attributes::judge(report);
    }
    if let Ok(pck) = VerifiedPck::verify(quote.pck_chain(), roots, UnixSeconds(NOW)) {
        let _ = pck.authenticate(&quote);
    }
}
