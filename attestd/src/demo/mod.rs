//! What `attestd demo` is made of.
