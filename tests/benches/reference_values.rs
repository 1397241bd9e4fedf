//! What it costs to look a machine up among a hundred thousand reference values, and to import ten thousand of them.

mod measure;

use ciborium::Value;
use criterion::Criterion;
use evidence::{
    Claims,
    cose::SigningKey,
    digest::{Digest, HashAlg, Sha256Digest},
    names::DomainName,
    threshold::Authority,
    verify,
};
use firmware_refs::{
    InForce, ReferenceValues,
    capture::{CaptureHeader, capture},
    document::{Accepted, EventReference, Platforms, SetDocument, TpmDocument},
    exchange::corim,
    observed::{Observed, ObservedTpm},
    set::ReferenceValueSet,
    signed::{SignedSet, sign},
    text::Text,
};
use tests::genuine::Machine;

/// Values among which a machine is looked up. A set takes some megabytes, so they stand in several.
const VALUES: usize = 100_000;
const SETS: usize = 5;
const TRIPLES: u32 = 10_000;
/// Most that looking into one set may cost, in microseconds.
const LOOKUP_US: f64 = 20.0;
const IMPORT_MS: f64 = 1_000.0;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let machine = Machine::default();
    let mut challenge = machine.challenge();
    challenge.demands.tpm_mut().expect("a TPM's challenge").ima_log = false;
    let (evidence, held) = (machine.answer(&challenge).evidence(), machine.endorsements());
    let bound = verify(&evidence, &held, &machine.anchors(), machine.now).expect("genuine");
    let bound = bound.bind(&challenge, machine.now).expect("an answer");
    let Claims::Tpm(claims) = bound.claims() else { panic!("not of a TPM") };
    let observed = Observed::Tpm(ObservedTpm::of(claims));
    let known = known(&observed, &machine);

    for (what, fill) in [("PCR values", registers as Fill), ("events", events), ("EKs", eks)] {
        let values = sets(&known, fill);
        let compare =
            || values.compare_observed(&observed, machine.now).expect("the last set knows it").by.name().version;
        assert_eq!(compare(), SETS as u64, "every other set was looked into before");
        let found = measure::best_us(&mut criterion, &format!("reference-values/{what}"), compare);
        let what = format!("a machine among {VALUES} {what}, a lookup set");
        measure::report(&what, found / SETS as f64, " µs", LOOKUP_US);
    }

    let (base, file) = (known.clone(), triples(&known));
    let import = || corim::import_unsigned(&file, base.clone(), machine.now).expect("a CoRIM").set.digest();
    let took = measure::best_us(&mut criterion, "reference-values/corim", import);
    measure::report(&format!("import of {TRIPLES} CoRIM triples"), took / 1e3, " ms", IMPORT_MS);
}

type Fill = fn(&mut TpmDocument, std::ops::Range<usize>, bool);

/// The set that knows exactly this machine.
fn known(observed: &Observed<'_>, machine: &Machine) -> SetDocument {
    let header = CaptureHeader {
        id: "set-1".parse().expect("a name"),
        version: 1,
        domain: domain(),
        environment: "lab".parse().expect("a name"),
        node: "node-1".to_owned(),
        now: machine.now.minus(60),
        lifetime_s: 86_400,
    };
    let mut document = capture(observed, header).expect("usable").set().document().clone();
    let ek = vec![observed.tpm().expect("of a TPM").ek];
    document.tpm.as_mut().expect("of a TPM").platforms = Platforms::Listed { ek, ak: None };
    document
}

/// Sets of as many values together, of which the last that is looked into knows the machine.
fn sets(known: &SetDocument, fill: Fill) -> ReferenceValues {
    let each = VALUES / SETS;
    let sets = (0..SETS).map(|at| {
        let mut document = known.clone();
        document.id = format!("set-{at}").parse().expect("a name");
        document.version = at as u64 + 1;
        let knows = at + 1 == SETS;
        fill(document.tpm.as_mut().expect("of a TPM"), at * each..(at + 1) * each, knows);
        InForce::active(signed(document))
    });
    ReferenceValues::new(sets.collect()).expect("together in force")
}

/// PCR 4 may have any of these values.
fn registers(tpm: &mut TpmDocument, others: std::ops::Range<usize>, knows: bool) {
    (tpm.require_event_log, tpm.event) = (false, Vec::new());
    let pcr = tpm.pcr.iter_mut().find(|pcr| pcr.index == 4).expect("captured");
    if !knows {
        pcr.accept.clear();
    }
    pcr.accept.extend(others.map(accepted));
}

/// PCR 4 is judged by its log, which may hold any of these events.
fn events(tpm: &mut TpmDocument, others: std::ops::Range<usize>, knows: bool) {
    tpm.pcr.retain(|pcr| pcr.index != 4);
    if !knows {
        // the first event alone: the kernel's is unknown
        let kernel = tpm.event.iter().rposition(|event| event.pcr == 4).expect("captured");
        tpm.event.remove(kernel);
    }
    let optional = |at| EventReference {
        pcr: 4,
        kind: Text::lossy("EV_IPL"),
        description: Text::lossy("other"),
        accept: vec![accepted(at)],
        optional: true,
    };
    tpm.event.extend(others.map(optional));
}

/// The TPM has one of these EKs.
fn eks(tpm: &mut TpmDocument, others: std::ops::Range<usize>, knows: bool) {
    let Platforms::Listed { ek, ak } = &mut tpm.platforms else { panic!("the TPM is listed") };
    if !knows {
        ek.clear();
    }
    ek.extend(others.map(|at| Sha256Digest::of(&at.to_le_bytes())));
    *ak = None;
}

fn accepted(at: usize) -> Accepted {
    Accepted { digest: other(at), source: Text::lossy("bench"), from: None }
}

fn other(at: usize) -> Digest {
    HashAlg::Sha256.hash(&[&at.to_le_bytes()])
}

/// A CoRIM of one triple, its triple as often as wanted, each with another value.
fn triples(known: &SetDocument) -> Vec<u8> {
    let mut document = known.clone();
    let tpm = document.tpm.as_mut().expect("of a TPM");
    tpm.platforms = Platforms::Enrolled;
    (tpm.require_event_log, tpm.event, tpm.pcrs) = (false, Vec::new(), vec![4]);
    tpm.pcr.retain(|pcr| pcr.index == 4);
    let exported = corim::export(&ReferenceValueSet::from_document(document).expect("usable")).expect("a CoRIM");
    let mut file: Value = ciborium::from_reader(exported.bytes.as_slice()).expect("CBOR");
    let tag = entry(untagged(&mut file), 1).as_array_mut().expect("tags").first_mut().expect("one");
    let bytes = untagged(tag).as_bytes_mut().expect("a CoMID");
    let mut comid: Value = ciborium::from_reader(bytes.as_slice()).expect("CBOR");
    let list = entry(entry(&mut comid, 4), 0).as_array_mut().expect("triples");
    let one = list.pop().expect("a triple");
    list.extend((0..TRIPLES).map(|at| {
        let mut triple = one.clone();
        replace_digest(&mut triple, &other(at as usize));
        triple
    }));
    *bytes = written(&comid);
    written(&file)
}

fn untagged(value: &mut Value) -> &mut Value {
    match value {
        Value::Tag(_, inner) => inner,
        other => other,
    }
}

fn entry(map: &mut Value, label: i64) -> &mut Value {
    let pairs = map.as_map_mut().expect("a map").iter_mut();
    let mut found = pairs.filter(|(key, _)| *key == Value::from(label)).map(|(_, value)| value);
    found.next().expect("the label")
}

/// The digest is the only byte string of 32 bytes in a triple.
fn replace_digest(value: &mut Value, digest: &Digest) {
    match value {
        Value::Bytes(bytes) if bytes.len() == 32 => *bytes = digest.as_bytes().to_vec(),
        Value::Array(items) => items.iter_mut().for_each(|item| replace_digest(item, digest)),
        Value::Map(pairs) => pairs.iter_mut().for_each(|(_, value)| replace_digest(value, digest)),
        Value::Tag(_, inner) => replace_digest(inner, digest),
        _ => {}
    }
}

fn written(value: &Value) -> Vec<u8> {
    let mut bytes = Vec::new();
    ciborium::into_writer(value, &mut bytes).expect("written");
    bytes
}

fn domain() -> DomainName {
    DomainName::new("a.example").expect("a name")
}

fn signed(document: SetDocument) -> SignedSet {
    let key = SigningKey::from_seed(&[1; 32]).expect("a key");
    let set = ReferenceValueSet::from_document(document).expect("usable");
    let authority = Authority::new(vec![key.public().clone()], 1).expect("an authority");
    SignedSet::open(&[sign(&set, &key).expect("signed")], &domain(), &authority).expect("within its cap")
}
