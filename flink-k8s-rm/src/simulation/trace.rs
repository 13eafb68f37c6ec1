//! What happened in a simulated world, as lines for people.

use std::time::Duration;

/// Lines of a trace, if somebody wants them; most worlds are only asked whether all went well.
#[derive(Debug, Default)]
pub(super) struct Trace {
    lines: Option<Vec<String>>,
}

impl Trace {
    pub(super) fn new(is_wanted: bool) -> Self {
        Self {
            lines: is_wanted.then(Vec::new),
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.lines.is_some()
    }

    pub(super) fn push(&mut self, at: Duration, line: &str) {
        if let Some(lines) = &mut self.lines {
            lines.push(format!("{:>10.3} {line}", at.as_secs_f64()));
        }
    }

    pub(super) fn into_lines(self) -> Vec<String> {
        self.lines.unwrap_or_default()
    }
}

/// Adds a line to the trace of a world; its words are not even put together when nobody wants them.
macro_rules! note {
    ($world:expr, $($words:tt)*) => {
        if $world.trace.is_wanted() {
            let line = format!($($words)*);
            $world.trace.push($world.now, &line);
        }
    };
}

pub(super) use note;
