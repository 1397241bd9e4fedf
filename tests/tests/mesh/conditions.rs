//! Each condition under which an execution is denied or halted has a test across domains, which names its code; and so has
//! each fault that may befall domains and what is between them.

const DENIED: &str = include_str!("denied.rs");
const CONFLICT: &str = include_str!("conflict.rs");
const LINEAGE: &str = include_str!("lineage.rs");
const PARTNERS: &str = include_str!("partners.rs");
const TOGETHER: &str = include_str!("together.rs");
const FAULTS: &str = include_str!("faults.rs");
const PAGE: &str = include_str!("../../../docs/denials.md");

/// The condition as `docs/denials.md` has it, its test, and the code or the beginning of the codes that the test expects.
const CONDITIONS: [(&str, &str, &str, &str); 12] = [
    ("missing authorization", DENIED, "a_missing_authorization_denies", "governance.missing_authorization"),
    (
        "invalid signature",
        DENIED,
        "an_artifact_that_no_key_of_its_domain_signed_is_worth_nothing",
        "governance.signature_invalid",
    ),
    (
        "runtime identity inconsistent",
        DENIED,
        "another_identity_under_a_known_name_is_denied_in_each_domain",
        "governance.node_identity",
    ),
    (
        "environment integrity fails",
        DENIED,
        "an_environment_that_is_not_what_the_domains_know_is_denied_by_each",
        "reference.",
    ),
    (
        "lineage discontinuous",
        DENIED,
        "a_lineage_that_one_domain_does_not_know_is_denied_there_and_halts_what_needs_it",
        "governance.lineage_discontinuous",
    ),
    (
        "governance state mismatch",
        DENIED,
        "an_artifact_under_another_governance_state_than_the_domain_shows_is_worth_nothing",
        "governance.state_mismatch",
    ),
    (
        "policy conflict",
        CONFLICT,
        "what_one_domain_permits_and_another_forbids_is_a_conflict_though_enough_others_permit",
        "policy.conflict",
    ),
    ("revocation", DENIED, "what_one_domain_revokes_is_halted_and_every_domain_hears_of_it", "halt.revoked"),
    (
        "governance synchronization broken or stale",
        DENIED,
        "a_partner_that_falls_silent_is_denied_once_it_is_stale",
        "governance.partner_stale",
    ),
    (
        "trust between domains inconsistent",
        DENIED,
        "a_partner_whose_bundle_is_not_the_one_that_its_state_names_is_relied_on_by_nobody",
        "governance.trust_inconsistent",
    ),
    (
        "trust unverifiable",
        DENIED,
        "a_verifier_that_cannot_prove_to_be_the_domains_is_not_spoken_with",
        "fault.verifier_unproven",
    ),
    (
        "operational proof invalid",
        LINEAGE,
        "a_proof_across_the_domains_verifies_and_neither_a_part_of_it_nor_a_changed_byte_does",
        "audit.parent_missing",
    ),
];

/// The fault, its test, and what the test expects to be told, or to be so.
const MATRIX: [(&str, &str, &str, &str); 14] = [
    ("partner down", DENIED, "a_partner_that_falls_silent_is_denied_once_it_is_stale", "\"governance.partner_stale\""),
    (
        "partner silent while something runs",
        PARTNERS,
        "what_runs_with_a_partner_that_falls_silent_ends_at_its_next_renewal_and_its_node_is_free_to_begin_anew",
        "WITHDRAWN",
    ),
    (
        "verifier slow, and partition in one direction",
        TOGETHER,
        "a_slow_domain_is_waited_for_and_a_silent_or_one_way_one_ends_what_needs_it",
        "\"halt.lease_ended\"",
    ),
    (
        "partition longer than the lease",
        TOGETHER,
        "an_execution_starts_with_two_of_three_and_ends_when_one_of_the_two_is_gone",
        "\"halt.lease_ended\"",
    ),
    (
        "partition shorter than the others' leases",
        TOGETHER,
        "a_domain_that_was_away_joins_what_runs_without_it_and_carries_it_on",
        "phase() == Some(6)",
    ),
    (
        "partner with an old database",
        PARTNERS,
        "a_partner_that_comes_back_with_an_old_database_is_denied_at_once_and_for_good",
        "governance.partner_",
    ),
    (
        "own domain with an old database",
        DENIED,
        "governance_that_went_back_in_one_domain_is_not_spoken_with",
        "\"fault.store_rolled_back\"",
    ),
    (
        "partner equivocates",
        PARTNERS,
        "a_partner_that_signs_two_histories_is_denied_at_once_and_for_good",
        "governance.partner_",
    ),
    (
        "bundle replayed",
        DENIED,
        "a_partner_that_shows_a_bundle_from_before_is_denied_for_good",
        "\"governance.partner_rolled_back\"",
    ),
    (
        "clock ahead",
        FAULTS,
        "a_verifier_a_month_ahead_authorizes_nothing_and_holds_up_nobody_else",
        "\"fault.trust_unavailable\"",
    ),
    (
        "clock behind",
        FAULTS,
        "a_verifier_a_month_behind_authorizes_nothing_until_its_clock_is_right",
        "\"fault.clock_went_back\"",
    ),
    (
        "witness rolled back",
        FAULTS,
        "a_witness_whose_memory_went_back_does_not_start_and_vouches_for_nobody",
        "\"governance.partner_stale\"",
    ),
    (
        "own verifier killed at every step of an authorization",
        FAULTS,
        "a_verifier_killed_at_any_step_of_an_authorization_leaves_no_key_that_is_not_on_the_record",
        "releases()",
    ),
    ("network healed", FAULTS, "a_network_that_is_whole_again_is_noticed_by_all_without_an_operator", "HEALED_WITHIN"),
];

/// What stands in a file from this test on to the next.
fn source_of<'f>(file: &'f str, test: &str) -> Option<&'f str> {
    let begins = format!("#[tokio::test(flavor = \"multi_thread\")]\nasync fn {test}() {{");
    let (_, from) = file.split_once(&begins)?;
    from.split("#[tokio::test").next()
}

#[test]
fn every_condition_of_denial_has_its_test_and_its_row() {
    for (condition, file, test, code) in CONDITIONS {
        let source = source_of(file, test).unwrap_or_else(|| panic!("{condition}: no test {test}"));
        assert!(source.contains(&format!("\"{code}")), "{condition}: {test} does not expect {code}");
        let row = PAGE.lines().find(|line| line.starts_with(&format!("| {condition} |")));
        assert!(row.is_some_and(|row| row.contains(code)), "{condition}: no row in docs/denials.md names {code}");
    }
    let rows = PAGE.lines().skip_while(|line| !line.starts_with("| condition |")).skip(2);
    assert_eq!(rows.take_while(|line| line.starts_with('|')).count(), CONDITIONS.len(), "as many rows as conditions");
}

#[test]
fn every_fault_has_its_test() {
    for (fault, file, test, expected) in MATRIX {
        let source = source_of(file, test).unwrap_or_else(|| panic!("{fault}: no test {test}"));
        assert!(source.contains(expected), "{fault}: {test} does not expect {expected}");
    }
}
