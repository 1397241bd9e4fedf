//! One domain's verifier.
#![cfg_attr(
    test,
    allow(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects,
        clippy::as_conversions
    )
)]

pub mod admin;
pub mod admission;
pub mod anchors;
mod appraise;
pub mod backtest;
pub mod ca;
pub mod challenges;
pub mod cli;
pub mod clock;
pub mod config;
mod conversation;
pub mod decision;
mod denials;
mod descent;
pub mod desk;
mod duties;
pub mod ear_key;
pub mod endorsements;
pub mod enrolment;
pub mod es256;
pub mod evidence_cli;
pub mod evidence_store;
pub mod fault;
pub mod federation;
pub mod governance_state;
pub mod governor;
mod grant;
pub mod health;
pub mod init;
pub mod intake;
mod issuer;
pub mod judge;
pub mod judgements;
mod jwt_svids;
mod key_table;
pub mod keys;
pub mod leases;
mod lineage;
mod lineage_export;
pub mod listen;
pub mod live;
pub mod log;
pub mod metrics;
mod node_records;
pub mod node_shown;
pub mod nodes;
pub mod online_keys;
pub mod open;
pub mod operator;
mod passport;
pub mod payloads;
pub mod pin;
pub mod platforms;
pub mod proof;
pub mod random;
pub mod rate;
pub mod refusal;
pub mod serve;
pub mod service;
pub mod signatures;
pub mod state;
pub mod store;
mod svids;
mod systemd;
pub mod tls;
pub mod trust;
pub mod witness;
pub mod wrap;
