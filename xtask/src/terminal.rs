//! What the tasks say to the person who started them.
//!
//! Plain lines that also read well in a log file; on a terminal headings are bold and a line of progress
//! is redrawn in place.

use std::fmt::Display;
use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

/// The one place that writes to standard output. A closed output is no reason to stop: the clean-up at
/// the end matters more than the text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terminal {
    progress: Progress,
}

#[derive(Clone, Copy, Debug)]
enum Progress {
    Redrawn,
    Silent,
}

impl Terminal {
    /// Standard output as it is now.
    pub(crate) fn new() -> Self {
        let progress = if std::io::stdout().is_terminal() {
            Progress::Redrawn
        } else {
            Progress::Silent
        };
        Self { progress }
    }

    /// Begins a section.
    pub(crate) fn heading(self, text: impl Display) {
        self.line(format_args!("\n\u{1b}[1m{text}\u{1b}[0m"));
    }

    /// Says one thing within a section.
    pub(crate) fn note(self, text: impl Display) {
        self.line(format_args!("  {text}"));
    }

    /// Shows a command in the form in which it can be repeated by hand.
    pub(crate) fn command(self, text: impl Display) {
        self.line(format_args!("  \u{1b}[2m$\u{1b}[0m {text}"));
    }

    /// Writes a text of one or more lines as it is.
    #[expect(
        clippy::unused_self,
        reason = "who has no terminal should not be able to write to it"
    )]
    pub(crate) fn line(self, text: impl Display) {
        let mut output = anstream::stdout().lock();
        let _closed_output_is_fine = writeln!(output, "{text}").and_then(|()| output.flush());
    }

    /// Redraws the line of progress; does nothing where output is not a terminal.
    pub(crate) fn progress(self, text: impl Display) {
        if matches!(self.progress, Progress::Redrawn) {
            redraw(format_args!("  {text}"));
        }
    }

    /// Removes the line of progress.
    pub(crate) fn end_progress(self) {
        if matches!(self.progress, Progress::Redrawn) {
            redraw("");
        }
    }
}

fn redraw(text: impl Display) {
    let mut output = anstream::stdout().lock();
    let _closed_output_is_fine = write!(output, "\r\u{1b}[2K{text}").and_then(|()| output.flush());
}

/// A duration for people: `0.4 s`, `12.3 s`, `2 min 05 s`.
pub(crate) fn seconds(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 100 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

/// A size for people, in the units of package registries: `310 MB`.
pub(crate) fn megabytes(bytes: u64) -> String {
    format!("{} MB", bytes.div_ceil(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well_from_tenths_of_seconds_to_minutes() {
        assert_eq!(seconds(Duration::from_millis(430)), "0.4 s");
        assert_eq!(seconds(Duration::from_millis(12_340)), "12.3 s");
        assert_eq!(seconds(Duration::from_secs(125)), "2 min 05 s");
    }
}
