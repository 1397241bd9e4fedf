//! Times within one run, so that ratios between them mean something on any machine, busy or not.

use std::cell::Cell;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::Criterion;

/// Measures `run` and returns the best time of one call in microseconds: the one least disturbed.
pub(crate) fn best_us<T>(criterion: &mut Criterion, name: &str, mut run: impl FnMut() -> T) -> f64 {
    best_us_given(criterion, name, || (), |()| run())
}

/// The same of a call that takes its argument; making it is not measured.
pub(crate) fn best_us_given<A, T>(
    criterion: &mut Criterion,
    name: &str,
    mut given: impl FnMut() -> A,
    mut run: impl FnMut(A) -> T,
) -> f64 {
    let best = Cell::new(f64::INFINITY);
    criterion.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut took = Duration::ZERO;
            for _ in 0..iterations {
                let argument = given();
                let start = Instant::now();
                black_box(run(argument));
                took += start.elapsed();
            }
            best.set(best.get().min(took.as_secs_f64() * 1e6 / iterations as f64));
            took
        });
    });
    best.get()
}

/// Prints one line: what, how much, how much is allowed.
pub(crate) fn report(what: &str, got: f64, unit: &str, goal: f64) {
    let verdict = if got <= goal { "within" } else { "ABOVE" };
    println!("ratio: {what}: {got:.2}{unit}, {verdict} {goal}{unit}");
}
