//! What the service manager hears of us (sd_notify(3)); nothing where none listens.

use std::convert::Infallible;
use std::future::{Future, pending};

use sd_notify::NotifyState;

/// Everything is accepting.
pub(crate) fn ready() {
    tell(&NotifyState::Ready);
}

/// An orderly end has begun.
pub(crate) fn stopping() {
    tell(&NotifyState::Stopping);
}

/// Twice in each period that the service manager's watchdog allows, once `answers` has; never ends. One that hangs is
/// restarted.
pub(crate) async fn alive<F: Future>(answers: impl Fn() -> F) -> Infallible {
    let beat = sd_notify::watchdog_enabled().and_then(|period| period.checked_div(2)).filter(|beat| !beat.is_zero());
    let Some(beat) = beat else { return pending().await };
    let mut beats = tokio::time::interval(beat);
    loop {
        beats.tick().await;
        drop(answers().await);
        tell(&NotifyState::Watchdog);
    }
}

/// That it did not hear ends nothing: it judges by what it hears.
fn tell(state: &NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(std::slice::from_ref(state)) {
        tracing::warn!(%error, "the service manager was not told");
    }
}
