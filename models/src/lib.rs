//! Models of the protocol that stateright walks through, state by state, around the project's own state machines.
//!
//! A model's state holds the real machine (`governance::lease::Lease`, say); around it stands the least that the shells
//! do, and a world that loses, reorders, repeats, stops, copies and restarts. Each model is run clean, where no property
//! may break and each good thing must be possible, and with one seeded bug at a time, each of which must be found. Here
//! is how a model is run; each of `tests/` is one.

use std::time::Instant;

use stateright::{Checker as _, HasDiscoveries, Model};

/// Steps within which a seeded bug must show.
const HUNT_CAP: usize = 8_000_000;

/// The model, breadth first, whole or up to so many steps (it says which): no `always` property breaks, and every
/// `sometimes` property has an example. Returns how many states there were.
///
/// # Panics
/// When a property does not hold.
pub fn clean<M>(name: &str, model: M, steps_cap: usize) -> usize
where
    M: Model + Send + Sync + 'static,
    M::State: std::hash::Hash + PartialEq + std::fmt::Debug + Clone + Send + Sync,
    M::Action: std::fmt::Debug + Clone + PartialEq + Send + Sync,
{
    let begun = Instant::now();
    let checker = model
        .checker()
        .threads(2)
        .finish_when(HasDiscoveries::AnyFailures)
        .target_state_count(steps_cap)
        .spawn_bfs()
        .join();
    let (steps, unique) = (checker.state_count(), checker.unique_state_count());
    let whole = if steps < steps_cap { "the whole model" } else { "cut there" };
    println!("{name}: {unique} states, {steps} steps, {whole}, {:.1} s", begun.elapsed().as_secs_f64());
    checker.assert_properties();
    unique
}

/// The model with a bug in it: a counterexample to `property` is found.
///
/// # Panics
/// When none is.
pub fn finds<M>(name: &str, model: M, property: &'static str)
where
    M: Model + Send + Sync + 'static,
    M::State: std::hash::Hash + PartialEq + std::fmt::Debug + Clone + Send + Sync,
    M::Action: std::fmt::Debug + Clone + PartialEq + Send + Sync,
{
    let begun = Instant::now();
    let checker = model.checker().threads(2).target_state_count(HUNT_CAP);
    let checker = checker.finish_when(HasDiscoveries::AnyOf([property].into()));
    let checker = checker.spawn_bfs().join();
    let unique = checker.unique_state_count();
    let path = checker.discovery(property).unwrap_or_else(|| {
        let others: Vec<_> = checker.discoveries().into_keys().collect();
        panic!("{name}: not found within {unique} states; found: {others:?}")
    });
    let actions = path.into_actions();
    let (steps, took_s) = (actions.len(), begun.elapsed().as_secs_f64());
    println!("{name}: \"{property}\" broken after {steps} steps, {unique} states, {took_s:.1} s");
    println!("  {actions:?}");
}
