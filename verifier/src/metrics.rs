//! What this process counts. Labels come from closed sets (codes, outcomes), never from peers.

use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// A stable code: of a denial or of a fault.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodeLabel {
    /// For example `evidence.signature_invalid`.
    pub code: &'static str,
}

/// All counters of one process, and their registry.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    /// Challenges sent.
    pub challenges: Counter,
    /// Executions authorized.
    pub authorizations: Counter,
    /// Leases renewed.
    pub renewals: Counter,
    /// JWT-SVIDs signed.
    pub jwt_svids: Counter,
    /// Nodes enrolled, or enrolled again.
    pub enrolments: Counter,
    /// Refusals that were judgements, by code.
    pub denials: Family<CodeLabel, Counter>,
    /// Refusals because we could not judge, by code.
    pub faults: Family<CodeLabel, Counter>,
    /// Halt records received.
    pub halts: Counter,
    /// Nodes that owe us a halt or end record.
    pub halt_records_missing: Gauge<i64>,
    /// Nodes connected now.
    pub streams: Gauge<i64>,
    /// Entries in the log.
    pub log_size: Gauge<u64, AtomicU64>,
    /// Witnesses that must cosign before anything is released.
    pub witness_quorum: Gauge<u64, AtomicU64>,
    /// How many of these do not cosign now.
    pub cosignatures_missing: Gauge<u64, AtomicU64>,
    /// Entries under the newest head that enough witnesses cosigned.
    pub cosigned_size: Gauge<u64, AtomicU64>,
    /// Time from evidence received to verdict, without storage.
    pub appraisal: Histogram,
    /// Time from evidence received to answer ready.
    pub answer: Histogram,
}

impl Metrics {
    /// Registers everything under the prefix `verifier`.
    pub fn new() -> Self {
        let seconds = || Histogram::new(exponential_buckets(50e-6, 2.0, 18));
        let mut metrics = Self {
            registry: Registry::with_prefix("verifier"),
            challenges: Counter::default(),
            authorizations: Counter::default(),
            renewals: Counter::default(),
            jwt_svids: Counter::default(),
            enrolments: Counter::default(),
            denials: Family::default(),
            faults: Family::default(),
            halts: Counter::default(),
            halt_records_missing: Gauge::default(),
            streams: Gauge::default(),
            log_size: Gauge::default(),
            witness_quorum: Gauge::default(),
            cosignatures_missing: Gauge::default(),
            cosigned_size: Gauge::default(),
            appraisal: seconds(),
            answer: seconds(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let registry = &mut self.registry;
        registry.register("challenges", "Challenges sent", self.challenges.clone());
        registry.register("authorizations", "Executions authorized", self.authorizations.clone());
        registry.register("renewals", "Leases renewed", self.renewals.clone());
        registry.register("jwt_svids", "JWT-SVIDs signed", self.jwt_svids.clone());
        registry.register("enrolments", "Nodes enrolled", self.enrolments.clone());
        registry.register("denials", "Judged and refused, by code", self.denials.clone());
        registry.register("faults", "Could not judge, by code", self.faults.clone());
        registry.register("halts", "Halt records received", self.halts.clone());
        registry.register("halt_records_missing", "Nodes that owe a halt record", self.halt_records_missing.clone());
        registry.register("streams", "Nodes connected", self.streams.clone());
        registry.register("log_size", "Entries in the log", self.log_size.clone());
        registry.register("witness_quorum", "Witnesses that must cosign", self.witness_quorum.clone());
        registry.register("cosignatures_missing", "Of these, how many do not", self.cosignatures_missing.clone());
        registry.register("cosigned_size", "Entries that enough cosigned", self.cosigned_size.clone());
        registry.register_with_unit("appraisal", "Evidence to verdict", Unit::Seconds, self.appraisal.clone());
        registry.register_with_unit("answer", "Evidence to answer", Unit::Seconds, self.answer.clone());
    }

    /// Counts one denial.
    pub fn denied(&self, code: &'static str) {
        self.denials.get_or_create(&CodeLabel { code }).inc();
    }

    /// Counts one fault.
    pub fn faulted(&self, code: &'static str) {
        self.faults.get_or_create(&CodeLabel { code }).inc();
    }

    /// OpenMetrics text.
    pub fn to_text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail; an empty page would show at once if it did.
        encode(&mut text, &self.registry).unwrap_or_default();
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_show_under_their_codes() {
        let metrics = Metrics::new();
        metrics.denied("evidence.signature_invalid");
        metrics.denied("evidence.signature_invalid");
        metrics.appraisal.observe(0.000_2);
        let text = metrics.to_text();
        assert!(text.contains("verifier_denials_total{code=\"evidence.signature_invalid\"} 2"), "{text}");
        assert!(text.contains("verifier_appraisal_seconds_count 1"), "{text}");
    }
}
