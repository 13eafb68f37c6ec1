//! What a task did, in order, how long it took, and how to repeat it by hand.

use std::time::{Duration, Instant};

use comfy_table::{CellAlignment, Table, presets};

use crate::terminal::{Terminal, seconds};

/// Prints a heading for each phase as it begins, and keeps what the summary at the end needs.
#[derive(Debug)]
pub(crate) struct Report {
    terminal: Terminal,
    finished: Vec<(String, Duration)>,
    commands: Vec<String>,
}

/// A phase that is going on.
#[must_use]
#[derive(Debug)]
pub(crate) struct Phase {
    name: String,
    begin: Instant,
}

impl Report {
    pub(crate) fn new(terminal: Terminal) -> Self {
        Self {
            terminal,
            finished: Vec::new(),
            commands: Vec::new(),
        }
    }

    /// Prints the heading of a phase and starts its clock.
    pub(crate) fn begin(&self, name: impl Into<String>) -> Phase {
        let name = name.into();
        self.terminal.heading(&name);
        Phase {
            name,
            begin: Instant::now(),
        }
    }

    /// Stops a phase's clock.
    pub(crate) fn end(&mut self, phase: Phase) {
        self.finished.push((phase.name, phase.begin.elapsed()));
    }

    /// Shows a command and keeps it for the summary.
    pub(crate) fn command(&mut self, command: String) {
        self.terminal.command(&command);
        self.commands.push(command);
    }

    /// Keeps a command for the summary that is not run as such.
    pub(crate) fn command_by_hand(&mut self, command: String) {
        self.commands.push(command);
    }

    /// Prints the table of durations.
    pub(crate) fn print_durations(&self) {
        if self.finished.is_empty() {
            return;
        }
        self.terminal.heading("How long it took");
        self.terminal.line(indented(&self.durations()));
    }

    /// Prints all commands, to be repeated by hand.
    pub(crate) fn print_commands(&self) {
        self.terminal.heading("The same by hand");
        for command in &self.commands {
            self.terminal.note(command);
        }
    }

    fn durations(&self) -> String {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        for (name, duration) in &self.finished {
            table.add_row([name.clone(), seconds(*duration)]);
        }
        let total = self.finished.iter().map(|(_, duration)| *duration).sum();
        table.add_row(["in all".to_owned(), seconds(total)]);
        if let Some(column) = table.column_mut(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table.trim_fmt()
    }
}

/// Moves a text of several lines to the right, to where notes stand.
pub(crate) fn indented(text: &str) -> String {
    text.lines()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_stand_in_a_table_with_their_sum() {
        let mut report = Report::new(Terminal::new());
        report
            .finished
            .push(("Java".to_owned(), Duration::from_millis(150)));
        report
            .finished
            .push(("Flink 2.1.3".to_owned(), Duration::from_secs(100)));
        assert_eq!(
            report.durations().lines().map(str::trim_end).collect::<Vec<_>>(),
            [
                " Java              0.1 s",
                " Flink 2.1.3  1 min 40 s",
                " in all       1 min 40 s"
            ]
        );
    }
}
