//! How a story is told: heads, and sentences with the time since it began.

use std::fmt::Display;
use std::io::Write;
use std::time::Instant;

use super::stage::DemoFault;

/// Prints what was seen.
pub(super) struct Teller<'a> {
    out: &'a mut (dyn Write + Send),
    begun: Instant,
}

impl<'a> Teller<'a> {
    pub(super) fn beginning(out: &'a mut (dyn Write + Send)) -> Self {
        Self { out, begun: Instant::now() }
    }

    /// What follows is about this.
    pub(super) fn head(&mut self, text: impl Display) -> Result<(), DemoFault> {
        self.line(format_args!("\n== {text}"))
    }

    /// This was seen now.
    pub(super) fn say(&mut self, text: impl Display) -> Result<(), DemoFault> {
        let at_s = self.begun.elapsed().as_secs_f32();
        self.line(format_args!("{at_s:5.2} s  {text}"))
    }

    /// As it is.
    pub(super) fn line(&mut self, text: impl Display) -> Result<(), DemoFault> {
        let written = writeln!(self.out, "{text}").and_then(|()| self.out.flush());
        written.map_err(|error| DemoFault::new("printing", error))
    }
}
