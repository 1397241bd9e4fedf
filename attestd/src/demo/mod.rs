//! What `attestd demo` is made of; tests start the same parts.

pub mod event_log;
pub mod swtpm;
