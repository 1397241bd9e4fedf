//! The store, on both engines, by the same code.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stderr
)]

mod bed;
mod endorsing;
mod scenarios;

use bed::{Bed, Postgres};

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                crate::scenarios::$name(&crate::Bed::sqlite().await).await;
            })+
        }

        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn the_same_on_postgresql() {
            let Some(server) = Postgres::start() else {
                eprintln!("PostgreSQL is not installed: its half of the store suite is not run");
                return;
            };
            $(
                eprintln!("postgresql: {}", stringify!($name));
                scenarios::$name(&Bed::postgres(&server, stringify!($name)).await).await;
            )+
        }
    };
}

scenarios! {
    entries_are_numbered_proven_and_found,
    refused_work_leaves_nothing_behind,
    sixty_four_writers_lose_nothing,
    a_reopened_log_goes_on,
    an_audit_whose_checkpoint_was_overtaken_reads_the_full_tile,
    another_instance_is_refused_until_the_lease_is_let_go,
    a_newer_schema_and_a_missing_one_are_refused,
    a_changed_row_stops_the_start,
    a_log_cut_short_is_refused,
    a_crash_before_the_signature_is_made_good,
    nothing_is_answered_while_its_files_cannot_be_written,
    a_node_is_its_ek_and_ak_for_good,
    a_tee_is_its_platform_and_record_key_for_good,
    a_lineage_moves_by_one_and_never_forks,
    a_lease_needs_its_epoch_and_its_sequence,
    a_key_opens_only_under_its_kek_and_name,
    endorsements_are_found_by_key_newest_first_and_their_history_is_bounded,
    a_changed_endorsement_row_is_as_good_as_absent,
    all_endorsements_are_paged_through_once,
}
