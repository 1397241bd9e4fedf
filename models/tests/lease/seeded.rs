//! The model with one rule left out: each time, the property that the rule is for breaks.

use super::{
    Bug, Config, HOLDERS, I1_EPOCH, I1_LEASE, I1_VERDICTS, I2, I3, I4, I6, I7, LeaseModel,
    clean::{cloned, readmitting, recorded, restored, revoked, several, unheard},
    world::Misfortunes,
};

fn found(bug: Bug, config: Config, property: &'static str) {
    models::finds(&format!("lease, {bug:?}"), LeaseModel::new(config, Some(bug)), property);
}

macro_rules! found {
    ($($name:ident: $bug:ident in $config:expr => $property:ident;)*) => {
        $(#[test] fn $name() { found(Bug::$bug, $config, $property); })*
    };
}

fn pausing() -> Config {
    several(2, 2, 6, Misfortunes { pauses: 1, ..Misfortunes::default() })
}

fn losing_one() -> Config {
    several(2, 1, 3, Misfortunes { revocations: 1, ..Misfortunes::default() })
}

found! {
    a_lease_counted_from_the_answer_is_found: CountedFromReceipt in revoked() => I1_VERDICTS;
    a_clock_that_stops_in_suspend_is_found: ClockStopsInSuspend in revoked() => I1_VERDICTS;
    an_answer_taken_for_another_request_is_found: AnswerToAnotherRequest in revoked() => I1_VERDICTS;
    an_issuer_that_is_not_compared_is_found: IssuerNotCompared in pausing() => I1_VERDICTS;
    a_fault_taken_for_a_grant_is_found: FaultTakenForGrant in revoked() => I1_VERDICTS;
    a_supervisor_that_keeps_an_old_deadline_is_found: SupervisorKeepsOldDeadline in losing_one() => I1_VERDICTS;
    a_halt_forgotten_at_restart_is_found: HaltForgottenAtRestart in readmitting() => I6;
    a_readmission_by_one_signature_is_found: OneSignatureReadmits in readmitting() => I6;
    a_replayed_readmission_is_found: ReadmissionReplayed in readmitting() => I6;
    a_renewal_after_revocation_is_found: RenewalAfterRevocation in unheard() => I2;
    an_answer_before_its_commit_is_found: AnswerBeforeCommit in recorded() => I3;
    an_answer_before_its_witness_is_found: AnswerBeforeWitness in recorded() => I3;
    an_epoch_that_is_not_read_again_is_found: EpochNotReadAgain in recorded() => I1_EPOCH;
    a_database_from_before_that_serves_is_found: OldDatabaseServes in restored() => I4;
    a_window_that_is_not_compared_is_found: WindowIgnored in unheard() => I1_LEASE;
    an_equal_seq_of_another_holder_is_found: EqualSeqOfAnother in cloned() => HOLDERS;
    a_high_water_mark_that_is_forgotten_is_found: HighWaterForgotten in cloned() => HOLDERS;
    a_stale_view_that_serves_is_found: StaleViewServes in revoked() => I7;
}
