//! The model with one rule left out: each time, the property that the rule is for breaks.

use super::{
    Bug, CONDEMNED, CONTRADICTED, COSIGNED, Config, FederationModel, HEADS, I4, I5, I7, KEYS, SPLIT,
    clean::{alone, witnessed},
    world::Misfortunes,
};

fn found(bug: Bug, config: Config, property: &'static str) {
    models::finds(&format!("federation, {bug:?}"), FederationModel::new(config, Some(bug)), property);
}

macro_rules! found {
    ($($name:ident: $bug:ident in $config:expr => $property:ident;)*) => {
        $(#[test] fn $name() { found(Bug::$bug, $config, $property); })*
    };
}

fn replayed() -> Config {
    alone(Misfortunes { replays: 1, crashes: 1, ..Misfortunes::default() })
}

fn restored() -> Config {
    alone(Misfortunes { replays: 1, restores: 1, ..Misfortunes::default() })
}

fn row_restored() -> Config {
    alone(Misfortunes { replays: 1, rows_restored: 1, ..Misfortunes::default() })
}

fn forked() -> Config {
    alone(Misfortunes { equivocations: 1, ..Misfortunes::default() })
}

fn robbed() -> Config {
    alone(Misfortunes { thefts: 1, ..Misfortunes::default() })
}

fn torn() -> Config {
    alone(Misfortunes { tears: 1, ..Misfortunes::default() })
}

fn split() -> Config {
    let misfortunes = Misfortunes { equivocations: 1, ..Misfortunes::default() };
    Config { horizon: 2, misfortunes, ..witnessed() }
}

fn distrusted() -> Config {
    alone(Misfortunes { distrusts: 1, crashes: 1, ..Misfortunes::default() })
}

found! {
    a_rollback_that_is_pinned_anew_is_found: TrustedAnewWhenRefused in replayed() => I4;
    marks_that_a_restart_forgets_are_found: MarksForgottenAtRestart in replayed() => I4;
    use_before_storing_is_found: UsedBeforeStored in replayed() => I4;
    a_verdict_that_is_not_stored_is_found: VerdictNotStored in distrusted() => CONDEMNED;
    an_old_store_that_serves_is_found: OldStoreServes in restored() => I4;
    a_row_that_is_trusted_is_found: RowsTrusted in row_restored() => CONDEMNED;
    a_stale_partner_that_serves_is_found: StaleServes in forked() => I7;
    a_contradiction_that_serves_is_found: ContradictionServes in torn() => CONTRADICTED;
    a_log_that_is_not_proven_to_go_on_is_found: ConsistencyNotProven in forked() => HEADS;
    a_retired_key_that_counts_is_found: RetiredKeysCount in robbed() => KEYS;
    a_head_without_a_witness_is_found: QuorumNotNeeded in split() => SPLIT;
    a_name_that_is_not_compared_is_found: NamesNotCompared in forked() => I5;
    a_witness_that_signs_first_is_found: WitnessSignsFirst in witnessed() => COSIGNED;
    a_witness_that_forgets_is_found: WitnessForgets in witnessed() => COSIGNED;
    a_witness_that_needs_no_proof_is_found: WitnessProvesNothing in witnessed() => COSIGNED;
    a_witness_that_swaps_blindly_is_found: WitnessSwapsBlindly in witnessed() => COSIGNED;
}
