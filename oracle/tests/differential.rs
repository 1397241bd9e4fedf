//! Both sides judge the same mutants: each difference is reviewed, and each review is still needed.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use oracle::{
    Verdict,
    divergence::{self, Kind, Stricter},
    snp, tdx,
};

/// Mutants of each kind.
const MUTANTS: usize = 24_000;

/// One judged mutant: field, how, ours, theirs.
type Judged = (String, String, Verdict, Verdict);

#[test]
fn snp_differences_are_the_reviewed_ones() {
    let world = snp::World::new();
    for (number, base) in world.bases.iter().enumerate() {
        let (ours, theirs) = world.judge(number, true, &base.genuine);
        // a masked chip id in version 2 hides the generation from sev
        assert!(matches!(ours, Verdict::Accepted(_)), "{ours:?}");
        assert_eq!(ours, theirs);
    }
    compare(Kind::Snp, |number| {
        let (base, is_chain, mutant) = world.mutant(number);
        let (ours, theirs) = world.judge(base, is_chain, &mutant.evidence);
        (mutant.field, mutant.how, ours, theirs)
    });
}

#[test]
fn tdx_differences_are_the_reviewed_ones() {
    let world = tdx::World::new();
    for base in &world.bases {
        let (ours, theirs) = world.judge(&base.genuine);
        assert!(matches!(ours, Verdict::Accepted(_)), "{ours:?} {theirs:?}");
        assert_eq!(ours, theirs);
    }
    compare(Kind::Tdx, |number| {
        let mutant = world.mutant(number);
        let (ours, theirs) = world.judge(&mutant.evidence);
        (mutant.field, mutant.how, ours, theirs)
    });
}

#[test]
fn the_table_in_the_document_is_the_one_in_the_code() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/DIVERGENCES.md");
    if std::env::var_os("ORACLE_WRITE_TABLE").is_some() {
        std::fs::write(path, divergence::table()).expect("a table");
    }
    assert_eq!(std::fs::read_to_string(path).expect("a document"), divergence::table());
    let rules: BTreeSet<_> = divergence::all().map(|of| of.rule).collect();
    assert_eq!(rules.len(), divergence::all().count(), "a rule has one row");
}

/// Judges all mutants on all cores, and holds the differences against the table.
fn compare(kind: Kind, judge: impl Fn(usize) -> Judged + Sync) {
    let next = AtomicUsize::new(0);
    let hits = Mutex::new(BTreeMap::<&str, usize>::new());
    let unexplained = Mutex::new(BTreeMap::<String, (usize, String)>::new());
    let counts = [const { AtomicUsize::new(0) }; 3];
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= MUTANTS {
                        break;
                    }
                    let (field, how, ours, theirs) = judge(number);
                    let Some((stricter, words)) = divergence::between(&ours, &theirs) else {
                        let at = usize::from(matches!(ours, Verdict::Refused(_)));
                        counts[at].fetch_add(1, Ordering::Relaxed);
                        continue;
                    };
                    counts[2].fetch_add(1, Ordering::Relaxed);
                    match divergence::all().find(|of| of.explains(kind, &field, stricter, &words)) {
                        Some(of) => *hits.lock().unwrap().entry(of.rule).or_default() += 1,
                        None => note(&unexplained, &field, &how, stricter, &words),
                    }
                }
            });
        }
    });
    let (hits, unexplained) = (hits.into_inner().unwrap(), unexplained.into_inner().unwrap());
    let [accepted, refused, parted] = counts.map(AtomicUsize::into_inner);
    println!("{kind:?}: {MUTANTS} mutants, both accept {accepted}, both refuse {refused}, part {parted}");
    for (rule, count) in &hits {
        println!("{count:6} {rule}");
    }
    let listed: String =
        unexplained.iter().map(|(what, (count, how))| format!("{count:6} {what}\n       {how}\n")).collect();
    assert!(unexplained.is_empty(), "differences that nobody reviewed:\n{listed}");
    let unreached: Vec<_> = divergence::all().filter(|of| of.kind == kind && !hits.contains_key(of.rule)).collect();
    assert!(unreached.is_empty(), "reviewed, but no mutant gets there: {unreached:?}");
    assert!(accepted > MUTANTS / 20 && refused > MUTANTS / 4, "mutants reach all parts of the verifiers");
}

fn note(
    unexplained: &Mutex<BTreeMap<String, (usize, String)>>,
    field: &str,
    how: &str,
    stricter: Stricter,
    words: &str,
) {
    let words: String = words.chars().take(160).collect();
    let key = format!("{field} | {} | {}", stricter.name(), words.split(['{', ':']).next().unwrap_or_default());
    let mut unexplained = unexplained.lock().unwrap();
    unexplained.entry(key).or_insert_with(|| (0, format!("{how}: {words}"))).0 += 1;
}
