//! The verifier's service over its real listeners, store and log, judged by a node whose TPM is software:
//! enrolment, authorization, renewal, and every way in which they are refused.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::wildcard_enum_match_arm
)]

#[path = "service/bed.rs"]
mod bed;
#[path = "service/domain.rs"]
mod domain;
#[path = "service/guest.rs"]
mod guest;
#[path = "service/node.rs"]
mod node;

#[path = "service/alarms.rs"]
mod alarms;
#[path = "service/anew.rs"]
mod anew;
#[path = "service/appraise.rs"]
mod appraise;
#[path = "service/enrolment.rs"]
mod enrolment;
#[path = "service/health.rs"]
mod health;
#[path = "service/jwt.rs"]
mod jwt;
#[path = "service/jwt_svid.rs"]
mod jwt_svid;
#[path = "service/known.rs"]
mod known;
#[path = "service/life.rs"]
mod life;
#[path = "service/passport.rs"]
mod passport;
#[path = "service/snp.rs"]
mod snp;
#[path = "service/streams.rs"]
mod streams;
#[path = "service/tdx.rs"]
mod tdx;
#[path = "service/tpm_on_tdx.rs"]
mod tpm_on_tdx;
#[path = "service/witness.rs"]
mod witness;
