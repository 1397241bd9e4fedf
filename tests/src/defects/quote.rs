//! Quote, binding, registers, clock (T5-T8, T11), and the wrapping.

use evidence::{
    challenge::Demands,
    denial::EvidenceDenialKind as Kind,
    digest::{HashAlg, Sha256Digest},
    ledger::CheckId::{T5, T6, T7, T8, T11},
    tpm::{PcrSelection, PcrSet, PcrValues},
};

use super::{
    Defect,
    Place::{Answer, Challenge, Clock, Demand, Draft, Enrolled, Time, Wire},
    defect, ignore, tpm,
};
use crate::{
    genuine::{Answer as A, Machine as M},
    soft_tpm::{Ak, AkKind, AttestDraft},
};

fn requote(answer: &mut A, machine: &M, edit: impl FnOnce(&mut Vec<u8>)) {
    edit(&mut answer.quote);
    answer.signature = machine.ak.sign(&answer.quote);
}

fn values(bank: HashAlg, pcrs: &[u8]) -> PcrValues {
    PcrValues::new(bank, pcrs.iter().map(|pcr| (*pcr, bank.hash(&[&[*pcr]]))).collect()).unwrap()
}

fn with_value(from: &PcrValues, pcr: u8, keep: bool) -> PcrValues {
    let altered = from
        .iter()
        .filter(|(index, _)| keep || *index != pcr)
        .map(|(index, value)| (index, if index == pcr { from.bank().hash(&[b"other"]) } else { *value }));
    PcrValues::new(from.bank(), altered.collect()).unwrap()
}

/// A quote over other registers than asked for, everything else as it must be.
fn quote_of(draft: &mut crate::genuine::Draft, machine: &M, values: PcrValues) {
    let extra_data = draft.quote.extra_data.clone();
    draft.quote = machine.quote_draft(&extra_data, &values, machine.clock);
    draft.pcrs = values;
}

#[rustfmt::skip]
pub(super) const DEFECTS: &[Defect] = &[
    // T5: the quote
    defect(T5, Kind::Malformed, "magic altered and signed", Draft(|d, _| d.quote.magic ^= 1)),
    defect(T5, Kind::Malformed, "a type of its own", Draft(|d, _| d.quote.kind = 0x8014)),
    defect(T5, Kind::Malformed, "a certification as quote", Draft(|d, m| d.quote = AttestDraft::certification(&m.ak_public.name(), m.clock, 0))),
    defect(T5, Kind::TrailingBytes, "a byte after the quote, signed", Draft(|d, _| d.quote.trailing.push(0))),
    defect(T5, Kind::Malformed, "quote cut and signed", Answer(|a, m| requote(a, m, |quote| ignore(quote.pop())))),
    defect(T5, Kind::Malformed, "empty quote, signed", Answer(|a, m| requote(a, m, Vec::clear))),
    defect(T5, Kind::Malformed, "safe neither yes nor no", Answer(|a, m| requote(a, m, |quote| quote[6 + 36 + 34 + 16] = 2))),
    defect(T5, Kind::TooLarge, "extraData above its cap", Draft(|d, _| d.quote.extra_data = vec![0; 67])),
    defect(T5, Kind::TooLarge, "quote above its cap", Draft(|d, _| d.quote.trailing = vec![0; 1024])),
    defect(T5, Kind::SignatureInvalid, "clock altered after signing", Answer(|a, _| a.quote[83] ^= 1)),
    defect(T5, Kind::SignatureInvalid, "signed by another AK", Answer(|a, _| a.signature = Ak::generate(AkKind::EcdsaP256).sign(&a.quote))),
    defect(T5, Kind::SignatureInvalid, "signature over the certification", Answer(|a, _| a.signature = a.certification_signature.clone())),
    defect(T5, Kind::SignatureInvalid, "signature of zeros", Answer(|a, _| a.signature[6..38].fill(0))),
    defect(T5, Kind::SchemeMismatch, "signature by another scheme", Answer(|a, _| a.signature = Ak::generate(AkKind::RsaSsa).sign(&a.quote))),
    defect(T5, Kind::SchemeMismatch, "signature by another hash", Answer(|a, _| a.signature[3] = 0x0c)),
    defect(T5, Kind::AlgorithmRefused, "signature by SHA-1", Answer(|a, _| a.signature[3] = 0x04)),
    defect(T5, Kind::AlgorithmRefused, "signature by HMAC", Answer(|a, _| a.signature[1] = 0x05)),
    defect(T5, Kind::TrailingBytes, "a byte after the signature", Answer(|a, _| a.signature.push(0))),
    defect(T5, Kind::Malformed, "signature cut", Answer(|a, _| ignore(a.signature.pop()))),
    defect(T5, Kind::TooLarge, "signature longer than any curve", Answer(|a, _| a.signature[4..6].copy_from_slice(&[0, 49]))),
    // T6: the binding
    defect(T6, Kind::BindingMismatch, "another nonce", Challenge(|c| c.nonce[31] ^= 1)),
    defect(T6, Kind::BindingMismatch, "another connection", Challenge(|c| c.channel[0] ^= 1)),
    defect(T6, Kind::BindingMismatch, "another audience", Challenge(|c| c.audience.push('x'))),
    defect(T6, Kind::BindingMismatch, "another epoch", Challenge(|c| c.epoch += 1)),
    defect(T6, Kind::BindingMismatch, "another subject", Challenge(|c| c.subject = Sha256Digest::ZERO)),
    defect(T6, Kind::BindingMismatch, "another lineage", Challenge(|c| c.lineage_head = Sha256Digest([1; 32]))),
    defect(T6, Kind::BindingMismatch, "extraData cut", Draft(|d, _| ignore(d.quote.extra_data.pop()))),
    defect(T6, Kind::BindingMismatch, "extraData with a byte more", Draft(|d, _| d.quote.extra_data.push(0))),
    defect(T6, Kind::BindingMismatch, "no extraData", Draft(|d, _| d.quote.extra_data.clear())),
    defect(T6, Kind::BindingMismatch, "another node key, certified", Draft(|d, m| {
        d.node_key.unique = M::default().node_key(HashAlg::Sha256, &[0]).unique;
        d.certification = AttestDraft::certification(&d.node_key.name(), m.clock, m.firmware_version);
    })),
    defect(T6, Kind::ChallengeExpired, "answered late", Time(|now| now.0 += 11)),
    defect(T6, Kind::ChallengeExpired, "answered before it was asked", Time(|now| now.0 -= 1)),
    // T7: the registers
    defect(T7, Kind::KindUnexpected, "another kind than required", Challenge(|c| c.demands = Demands::SevSnp)),
    defect(T7, Kind::PcrSelection, "a PCR fewer than required", Challenge(|c| tpm(c).pcrs.push(11))),
    defect(T7, Kind::PcrSelection, "a PCR more than required", Challenge(|c| ignore(tpm(c).pcrs.pop()))),
    defect(T7, Kind::PcrSelection, "another bank than required", Challenge(|c| tpm(c).pcr_bank = HashAlg::Sha384)),
    defect(T7, Kind::PcrSelection, "nothing is required", Challenge(|c| tpm(c).pcrs.clear())),
    defect(T7, Kind::PcrSelection, "no such PCR is required", Challenge(|c| tpm(c).pcrs.push(24))),
    defect(T7, Kind::PcrDigestMismatch, "a value altered", Answer(|a, _| a.pcrs = with_value(&a.pcrs, 4, true))),
    defect(T7, Kind::PcrDigestMismatch, "a value missing", Answer(|a, _| a.pcrs = with_value(&a.pcrs, 4, false))),
    defect(T7, Kind::PcrDigestMismatch, "values of another bank", Answer(|a, _| a.pcrs = values(HashAlg::Sha384, &crate::genuine::QUOTED_PCRS))),
    defect(T7, Kind::PcrDigestMismatch, "digest cut", Draft(|d, _| {
        let last = d.quote.attested.len() - 33;
        d.quote.attested[last] = 31;
        d.quote.attested.pop();
    })),
    defect(T7, Kind::Malformed, "no PCR quoted", Draft(|d, m| {
        let selection = PcrSelection { bank: HashAlg::Sha256, pcrs: PcrSet::EMPTY };
        d.quote = AttestDraft::quote(&d.quote.extra_data, m.clock, 0, selection, &[0; 32]);
    })),
    defect(T7, Kind::Malformed, "PCRs of two banks quoted", Draft(|d, _| {
        let mut attested = vec![0, 0, 0, 2, 0x00, 0x0c, 3, 1, 0, 0];
        attested.extend(&d.quote.attested[4..]);
        d.quote.attested = attested;
    })),
    defect(T7, Kind::WeakHash, "SHA-1 bank", Demand(|c| tpm(c).pcr_bank = HashAlg::Sha1)),
    defect(T7, Kind::WeakHash, "SHA-512 bank", Demand(|c| tpm(c).pcr_bank = HashAlg::Sha512)),
    defect(T7, Kind::AlgorithmRefused, "bank of an unknown hash", Draft(|d, _| d.quote.attested[5] = 0x12)),
    // T8: the clock
    defect(T8, Kind::ClockUnsafe, "clock not safe", Draft(|d, _| d.quote.clock.safe = false)),
    defect(T8, Kind::TpmRestarted, "reset since the baseline", Draft(|d, _| d.quote.clock.reset_count += 1)),
    defect(T8, Kind::TpmRestarted, "resumed since the baseline", Draft(|d, _| d.quote.clock.restart_count += 1)),
    defect(T8, Kind::TpmRestarted, "reset since, restarts started over", Clock(|clock| (clock.reset_count, clock.restart_count) = (2, 9))),
    defect(T8, Kind::TpmRolledBack, "fewer resets than the baseline", Draft(|d, _| d.quote.clock.reset_count -= 1)),
    defect(T8, Kind::TpmRolledBack, "fewer restarts than the baseline", Clock(|clock| clock.restart_count += 1)),
    defect(T8, Kind::TpmRolledBack, "clock stands still", Clock(|clock| clock.last_clock_ms = 50_000)),
    defect(T8, Kind::TpmRolledBack, "clock went back", Clock(|clock| clock.last_clock_ms = 50_001)),
    defect(T8, Kind::TpmRestarted, "machine rebooted between enrolment and quote", Enrolled(|m| m.clock.reset_count += 1)),
    // T11: registers that can be reset
    defect(T11, Kind::ResettablePcr, "debug PCR 16", Draft(|d, m| quote_of(d, m, values(HashAlg::Sha256, &[0, 16])))),
    defect(T11, Kind::ResettablePcr, "application PCR 23", Draft(|d, m| quote_of(d, m, values(HashAlg::Sha256, &[0, 23])))),
    defect(T11, Kind::ResettablePcr, "dynamic launch PCR 17", Draft(|d, m| quote_of(d, m, values(HashAlg::Sha256, &[17])))),
    defect(T11, Kind::ResettablePcr, "the verifier asked for PCR 23", Demand(|c| tpm(c).pcrs.push(23))),
    // the wrapping
    defect(T5, Kind::Cbor, "a byte after the collection", Wire(|wire| wire.push(0))),
    defect(T5, Kind::Cbor, "collection cut", Wire(|wire| ignore(wire.pop()))),
    defect(T5, Kind::Cbor, "empty", Wire(Vec::clear)),
    defect(T5, Kind::UnexpectedPart, "a part of unknown label", Wire(|wire| {
        let at = wire.windows(8).position(|w| w == b"node-key").unwrap();
        wire[at + 7] = b'z';
    })),
    defect(T5, Kind::UnexpectedPart, "collection of another kind", Wire(|wire| {
        let at = wire.windows(14).position(|w| w == b"evidence/tpm/1").unwrap();
        wire[at + 13] = b'2';
    })),
    defect(T5, Kind::UnexpectedPart, "a part of another media type", Wire(|wire| {
        let at = wire.windows(10).position(|w| w == b"tpm2b-publ").unwrap();
        wire[at] = b'x';
    })),
];
