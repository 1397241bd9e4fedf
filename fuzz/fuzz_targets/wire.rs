//! Protocol messages of both sides, from bytes to bounded types.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use wire::bounded::enrolment::{EnrolGrant, EnrolRequest};
use wire::bounded::local::ExecRequest;
use wire::bounded::node::NodeRequest;
use wire::bounded::verifier::VerifierAnswer;
use wire::proto;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(message) = proto::NodeMessage::decode(bytes) {
        let _ = NodeRequest::try_from(message);
    }
    if let Ok(message) = proto::VerifierMessage::decode(bytes) {
        let _ = VerifierAnswer::try_from(message);
    }
    if let Ok(message) = proto::EnrolRequest::decode(bytes) {
        let _ = EnrolRequest::try_from(message);
    }
    if let Ok(message) = proto::EnrolGrant::decode(bytes) {
        let _ = EnrolGrant::try_from(message);
    }
    if let Ok(message) = proto::ExecRequest::decode(bytes) {
        let _ = ExecRequest::try_from(message);
    }
});
