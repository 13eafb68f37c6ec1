//! Where tabs may stand: Flink's YAML parser takes blanks alone for space between values, ours tabs as well.

use granit_parser::{Event, ScalarStyle, Span};

/// Looks at the text between the events of a document, which come in the order of the text.
#[derive(Debug)]
pub(super) struct TabCheck<'text> {
    text: &'text str,
    /// Up to where everything is fine.
    checked: usize,
    follows_plain_scalar: bool,
}

impl<'text> TabCheck<'text> {
    pub(super) fn new(text: &'text str) -> Self {
        Self {
            text,
            checked: 0,
            follows_plain_scalar: false,
        }
    }

    /// The position of a tab that must not be where it is, before or in this event.
    pub(super) fn next_forbidden(&mut self, event: &Event<'_>, span: &Span) -> Option<usize> {
        let range = span.byte_range()?;
        let tab = self.forbidden_before(range.start);
        if tab.is_some() {
            return tab;
        }
        let inner = self.text.get(range.clone()).unwrap_or_default();
        if range.end > self.checked {
            self.checked = range.end;
            self.follows_plain_scalar = matches!(event, Event::Scalar(_, ScalarStyle::Plain, ..));
        }
        let inside = match event {
            Event::Scalar(_, ScalarStyle::Plain, ..) => in_continuation_lines(inner),
            Event::Scalar(_, ScalarStyle::Literal | ScalarStyle::Folded, ..) => in_header(inner),
            _ => None,
        };
        inside.map(|at| range.start + at)
    }

    /// The position of a forbidden tab in the rest of the text.
    pub(super) fn forbidden_at_end(&mut self) -> Option<usize> {
        self.forbidden_before(self.text.len())
    }

    fn forbidden_before(&mut self, end: usize) -> Option<usize> {
        let gap = self.text.get(self.checked..end).unwrap_or_default();
        let trailing = if self.follows_plain_scalar {
            gap.len() - gap.trim_start_matches([' ', '\t']).len()
        } else {
            0
        };
        outside_of_comments(&gap[trailing..]).map(|at| self.checked + trailing + at)
    }
}

fn outside_of_comments(gap: &str) -> Option<usize> {
    let mut is_comment = false;
    let mut previous = ' ';
    for (at, character) in gap.char_indices() {
        match character {
            '\n' | '\r' => is_comment = false,
            '#' if previous.is_whitespace() => is_comment = true,
            '\t' if !is_comment => return Some(at),
            _ => {}
        }
        previous = character;
    }
    None
}

/// A plain text of several lines is indented with blanks.
fn in_continuation_lines(text: &str) -> Option<usize> {
    let breaks = text.match_indices(['\n', '\r']);
    breaks.into_iter().find_map(|(at, _)| {
        let line = &text[at + 1..];
        let indentation = line.len() - line.trim_start_matches(' ').len();
        line[indentation..]
            .starts_with('\t')
            .then_some(at + 1 + indentation)
    })
}

/// The line of `|` or `>`.
fn in_header(text: &str) -> Option<usize> {
    let header = text.split(['\n', '\r']).next()?;
    text.starts_with(['|', '>'])
        .then(|| outside_of_comments(header))
        .flatten()
}
