//! The shell's clocks; everything below is given the time as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use evidence::time::UnixSeconds;
use rustix::time::{ClockId, clock_gettime};

/// CLOCK_BOOTTIME in milliseconds: it never jumps and goes on while the machine is suspended. Leases are measured by it.
#[must_use]
pub fn boottime_ms() -> u64 {
    milliseconds(ClockId::Boottime)
}

/// CLOCK_MONOTONIC in milliseconds: as [`boottime_ms`], but it stands still while the machine is suspended.
#[must_use]
pub fn monotonic_ms() -> u64 {
    milliseconds(ClockId::Monotonic)
}

fn milliseconds(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let milliseconds = u64::try_from(now.tv_nsec).unwrap_or(0) / 1_000_000;
    seconds.saturating_mul(1_000).saturating_add(milliseconds)
}

/// The wall clock: certificates and signed windows are judged by it, leases never are. Before 1970 it is 1970, when nothing
/// signed is in force yet.
#[must_use]
pub fn unix_now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    UnixSeconds(since.map_or(0, |since| since.as_secs()))
}
