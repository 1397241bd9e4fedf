//! What `attestd demo` is made of; tests start the same parts.

pub mod swtpm;
