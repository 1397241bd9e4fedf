//! The model with every rule in place.

use governance::{federation_grant::STALENESS_CAP_S, trust_bundle::FEDERATION_LIFETIME_CAP_S};

use super::{
    Config, FederationModel,
    universe::{NEW_KEY_FROM, OLD_KEY_UNTIL, STALENESS_UNITS, UNIT_S},
    world::Misfortunes,
};

const SAMPLE_STEPS: usize = 300_000;

pub(crate) fn alone(misfortunes: Misfortunes) -> Config {
    Config { verifiers: 1, begins: 0, horizon: 6, quorum: false, misfortunes }
}

pub(crate) fn attacked() -> Config {
    alone(Misfortunes { replays: 1, rollbacks: 1, equivocations: 1, thefts: 1, crashes: 1, ..Misfortunes::default() })
}

pub(crate) fn restored() -> Config {
    alone(Misfortunes { replays: 1, restores: 1, rows_restored: 1, distrusts: 1, ..Misfortunes::default() })
}

pub(crate) fn witnessed() -> Config {
    let misfortunes = Misfortunes { equivocations: 2, witness_crashes: 1, ..Misfortunes::default() };
    Config { verifiers: 2, begins: 2, horizon: 4, quorum: true, misfortunes }
}

#[test]
fn an_honest_partner_is_followed_through_its_rotations_and_never_condemned() {
    let config = alone(Misfortunes { crashes: 2, ..Misfortunes::default() });
    models::clean("federation, honest", FederationModel::new(config, None), SAMPLE_STEPS);
}

#[test]
fn a_partner_that_is_replayed_rolled_back_forked_or_robbed_is_never_relied_on_wrongly() {
    models::clean("federation, attacked", FederationModel::new(attacked(), None), SAMPLE_STEPS);
}

#[test]
fn a_partner_that_shows_a_state_beside_another_bundle_than_its_own_is_not_relied_on() {
    let config = alone(Misfortunes { tears: 2, crashes: 1, ..Misfortunes::default() });
    models::clean("federation, torn", FederationModel::new(config, None), SAMPLE_STEPS);
}

#[test]
fn a_verifier_on_an_old_database_or_row_relies_on_nobody() {
    models::clean("federation, restored", FederationModel::new(restored(), None), SAMPLE_STEPS);
}

#[test]
fn a_witness_cosigns_one_history_and_two_verifiers_rely_on_no_other() {
    models::clean("federation, witnessed", FederationModel::new(witnessed(), None), 1_500_000);
}

#[test]
fn figures_of_the_model_are_within_those_of_the_code() {
    const {
        assert!(STALENESS_UNITS * UNIT_S <= STALENESS_CAP_S);
        assert!(100 * UNIT_S <= FEDERATION_LIFETIME_CAP_S, "no bundle of the model lives longer than one may");
        // Prepared at unit 0, active before the old key is retired: the windows overlap.
        assert!(0 < NEW_KEY_FROM && NEW_KEY_FROM < OLD_KEY_UNTIL);
    }
}
