//! Registers of a trust domain.
//!
//! What is derivable: MRTD from the firmware image alone; RTMR 1 and RTMR 2 of a kernel that QEMU hands to the firmware
//! and does not change; RTMR 3 as zero, until software extends it. RTMR 0 is not: it holds the memory layout and ACPI
//! tables that the hypervisor makes up for one machine, and the variables of its store. Take that from the event log
//! of a machine, and look at what it measured.

mod metadata;
mod mrtd;
mod rtmr;

pub use self::{
    mrtd::{ExtendOrder, mrtd},
    rtmr::{SeparatorIn, from_cc_log, rtmr1, rtmr2},
};
