//! What the user reads: data on standard output, talk on standard error.

use std::io::{IsTerminal as _, Write as _, stderr, stdout};

use anstream::{AutoStream, ColorChoice};

/// Writes to the user's terminal. A reader that went away (a closed pipe) is not an error.
#[derive(Debug)]
pub(crate) struct Printer {
    data_colors: ColorChoice,
    talk_colors: ColorChoice,
    is_watched: bool,
}

impl Printer {
    /// The printer of this process.
    pub(crate) fn new() -> Self {
        Self {
            data_colors: AutoStream::choice(&stdout()),
            talk_colors: AutoStream::choice(&stderr()),
            is_watched: stderr().is_terminal(),
        }
    }

    /// One line of the result, on standard output.
    pub(crate) fn data(&self, line: impl AsRef<str>) {
        drop(writeln!(
            AutoStream::new(stdout(), self.data_colors),
            "{}",
            line.as_ref()
        ));
    }

    /// One line of what is going on, on standard error.
    pub(crate) fn talk(&self, line: impl AsRef<str>) {
        drop(writeln!(
            AutoStream::new(stderr(), self.talk_colors),
            "{}",
            line.as_ref()
        ));
    }

    /// Whether a person watches standard error, so that a progress bar makes sense.
    pub(crate) fn is_watched(&self) -> bool {
        self.is_watched
    }
}

/// A number of things, each a word that takes an `s` in the plural.
pub(crate) fn counted(count: usize, thing: &str) -> String {
    format!("{count} {thing}{}", if count == 1 { "" } else { "s" })
}

/// A table without lines, as kubectl prints them.
pub(crate) fn table<const N: usize>(
    header: [&str; N],
    rows: impl IntoIterator<Item = [String; N]>,
) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header);
    for row in rows {
        table.add_row(row);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 3));
    }
    table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect::<Vec<_>>()
        .join("\n")
}
