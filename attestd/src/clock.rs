//! The shell's clocks; everything below is given the time as an argument.

use rustix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME in milliseconds: it never jumps and goes on while the machine is suspended. Leases are measured by it.
#[must_use]
pub fn boottime_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let milliseconds = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1_000).saturating_add(milliseconds)
}
