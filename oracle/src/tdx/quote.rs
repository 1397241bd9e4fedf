//! Mutants of a quote, field by field (Intel DCAP Quoting Library API, A.3 and A.4).

use super::{Base, TdxCase, World};
use crate::{
    Mutant,
    pick::{Pick, change},
};

/// Who signs a field.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Signer {
    AttestationKey,
    Pck,
    Nobody,
}

struct Field {
    name: &'static str,
    at: usize,
    len: usize,
    signer: Signer,
}

const HEADER: &[(&str, usize, usize)] = &[
    ("header.version", 0, 2),
    ("header.attestation_key_type", 2, 2),
    ("header.tee_type", 4, 4),
    ("header.reserved", 8, 4),
    ("header.qe_vendor_id", 12, 16),
    ("header.user_data", 28, 20),
];
const DESCRIPTOR: &[(&str, usize, usize)] = &[("descriptor.type", 0, 2), ("descriptor.size", 2, 4)];
const BODY: &[(&str, usize, usize)] = &[
    ("body.tee_tcb_svn", 0, 16),
    ("body.tee_tcb_svn.module", 0, 1),
    ("body.tee_tcb_svn.version", 1, 1),
    ("body.tee_tcb_svn.microcode", 2, 1),
    ("body.mr_seam", 16, 48),
    ("body.mr_signer_seam", 64, 48),
    ("body.seam_attributes", 112, 8),
    ("body.td_attributes", 120, 8),
    ("body.td_attributes.tud", 120, 1),
    ("body.td_attributes.security", 122, 2),
    ("body.xfam", 128, 8),
    ("body.mr_td", 136, 48),
    ("body.mr_config_id", 184, 48),
    ("body.mr_owner", 232, 48),
    ("body.mr_owner_config", 280, 48),
    ("body.rtmr0", 328, 48),
    ("body.rtmr3", 472, 48),
    ("body.report_data", 520, 64),
];
const BODY15: &[(&str, usize, usize)] = &[
    ("body.tee_tcb_svn2", 584, 16),
    ("body.tee_tcb_svn2.module", 584, 1),
    ("body.tee_tcb_svn2.version", 585, 1),
    ("body.tee_tcb_svn2.microcode", 586, 1),
    ("body.mr_service_td", 600, 48),
];
/// From the length of the signature data on.
const SIGNATURE: &[(&str, usize, usize)] = &[
    ("signature.length", 0, 4),
    ("signature.r", 4, 32),
    ("signature.s", 36, 32),
    ("signature.attestation_key", 68, 64),
    ("certification.type", 132, 2),
    ("certification.length", 134, 4),
];
const QE: &[(&str, usize, usize)] = &[
    ("qe.cpu_svn", 0, 16),
    ("qe.misc_select", 16, 4),
    ("qe.reserved_20", 20, 28),
    ("qe.attributes", 48, 16),
    ("qe.attributes.flags", 48, 1),
    ("qe.attributes.xfrm", 56, 8),
    ("qe.mr_enclave", 64, 32),
    ("qe.reserved_96", 96, 32),
    ("qe.mr_signer", 128, 32),
    ("qe.reserved_160", 160, 96),
    ("qe.isv_prod_id", 256, 2),
    ("qe.isv_svn", 258, 2),
    ("qe.isv_svn", 258, 1),
    ("qe.reserved_260", 260, 60),
    ("qe.report_data.digest", 320, 32),
    ("qe.report_data.rest", 352, 32),
];
/// From the end of the QE report on.
const AFTER_QE: &[(&str, usize, usize)] = &[
    ("qe_signature.r", 0, 32),
    ("qe_signature.s", 32, 32),
    ("qe_authentication.length", 64, 2),
    ("qe_authentication", 66, 32),
    ("pck.type", 98, 2),
    ("pck.length", 100, 4),
];

fn body_at(base: &Base) -> usize {
    if base.machine.quote.version == 5 { 54 } else { 48 }
}

fn signed_len(base: &Base) -> usize {
    let is_15 = base.machine.quote.version == 5 && base.machine.quote.tdx_1_5;
    body_at(base) + if is_15 { 648 } else { 584 }
}

fn fields(base: &Base) -> Vec<Field> {
    let (body, end) = (body_at(base), signed_len(base));
    let qe = end + 138;
    let mut all = vec![];
    let mut add = |fields: &[(&'static str, usize, usize)], from: usize, signer| {
        all.extend(fields.iter().map(|(name, at, len)| Field { name, at: from + at, len: *len, signer }));
    };
    add(HEADER, 0, Signer::AttestationKey);
    if body == 54 {
        add(DESCRIPTOR, 48, Signer::AttestationKey);
    }
    add(BODY, body, Signer::AttestationKey);
    if end - body == 648 {
        add(BODY15, body, Signer::AttestationKey);
    }
    add(SIGNATURE, end, Signer::Nobody);
    add(QE, qe, Signer::Pck);
    add(AFTER_QE, qe + 384, Signer::Nobody);
    all
}

/// Mutant `at` of the quotes: every field in every way on every base, signed again and not.
pub(super) fn mutant(world: &World, pick: &mut Pick, at: usize) -> Mutant<TdxCase> {
    let base = at % world.bases.len();
    let rest = at / world.bases.len();
    let of = &world.bases[base];
    let all = fields(of);
    let (field, rest) = (rest % (all.len() + 4), rest / (all.len() + 4));
    let (is_resigned, way) = (rest % 3 != 0, rest / 3 * 2 + rest % 3);
    let mut quote = of.genuine.quote.clone();
    let case = |quote| TdxCase { quote, ..of.genuine.clone() };
    let Some(field) = all.get(field) else {
        let (name, how) = whole(world, of, pick, field - all.len(), &mut quote);
        return Mutant { field: name.to_owned(), how, evidence: case(quote) };
    };
    let other = &world.bases[pick.below(world.bases.len())].genuine.quote;
    let other = other.get(field.at..field.at + field.len).unwrap_or(&[]).to_vec();
    let mut how = change(pick, way, &mut quote, field.at, field.len, &other).to_owned();
    if is_resigned && field.signer != Signer::Nobody {
        sign(of, field.signer, &mut quote);
        how.push_str(", signed again");
    }
    Mutant { field: field.name.to_owned(), how, evidence: case(quote) }
}

/// Signs the part again under the key that signed it before.
fn sign(base: &Base, signer: Signer, quote: &mut [u8]) {
    let end = signed_len(base);
    let qe = end + 138;
    let (key, signed, at) = match signer {
        Signer::AttestationKey => (&base.attestation, 0..end, end + 4),
        Signer::Pck => (&base.pck.key, qe..qe + 384, qe + 384),
        Signer::Nobody => return,
    };
    let signature = key.sign_fixed(&quote[signed]).expect("signed");
    quote[at..at + 64].copy_from_slice(&signature);
}

/// Changes that move bytes.
fn whole(world: &World, of: &Base, pick: &mut Pick, which: usize, quote: &mut Vec<u8>) -> (&'static str, String) {
    match which {
        0 => {
            let len = match pick.below(4) {
                0 => quote.len() - 1,
                1 => quote.len() + 1,
                2 => quote.len() + 100,
                _ => pick.below(quote.len()),
            };
            quote.resize(len, pick.below(2) as u8);
            ("quote.length", format!("{len} bytes"))
        }
        1 => {
            // lengths that are right for other authentication data
            let mut machine = of.machine.clone();
            machine.quote.auth_data = vec![7; *pick.one(&[0, 1, 31, 33, 64, 200])];
            let len = machine.quote.auth_data.len();
            *quote = machine.quote_with([0x3c; 64], &of.pck).expect("a quote");
            ("qe_authentication.size", format!("{len} bytes, bound and signed"))
        }
        2 => {
            // the whole signature of another quote, or its certification
            let other = &world.bases[pick.below(world.bases.len())];
            quote.truncate(signed_len(of));
            quote.extend_from_slice(&other.genuine.quote[signed_len(other)..]);
            // the same machine's is no change
            if of.genuine.quote == *quote {
                quote[4 + signed_len(of)] ^= 1;
            }
            ("signature.of_another", "another's".to_owned())
        }
        _ => {
            let mut machine = of.machine.clone();
            let how = match pick.below(3) {
                0 => {
                    machine.quote.outer_type = *pick.one(&[0, 1, 5, 7, 0xffff]);
                    "another outer type"
                }
                1 => {
                    machine.quote.inner_type = *pick.one(&[0, 1, 2, 3, 4, 6, 7]);
                    "another inner type"
                }
                _ => {
                    machine.quote.trailing = vec![0; 1 + pick.below(64)];
                    "zeros after it"
                }
            };
            *quote = machine.quote_with([0x3c; 64], &of.pck).expect("a quote");
            ("quote.framing", how.to_owned())
        }
    }
}
