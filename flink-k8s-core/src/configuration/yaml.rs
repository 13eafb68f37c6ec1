//! YAML as Flink reads and writes it: version 1.2 with the core schema.
//!
//! The parser of events is a library's; what a scalar means, and when one is quoted, is decided here,
//! because Flink's text for a value (`0x1F` is `31`, `1e3` is `1000.0`, `yes` stays `yes`) depends on it.

mod block;
mod quoting;
mod scalar;
mod tabs;

use std::collections::HashMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

pub(crate) use block::{BlockNode, write_block};
use quoting::quoted_for_flow;
pub(crate) use scalar::java_double_text;
use scalar::resolve;
use tabs::TabCheck;

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Yaml {
    /// `null`, `~` or nothing.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number of any size, in decimal.
    Int(String),
    /// Any other number.
    Float(f64),
    /// Text.
    Text(String),
    /// A sequence.
    List(Vec<Yaml>),
    /// A mapping, in the order in which it is written.
    Map(Vec<(Yaml, Yaml)>),
}

/// The text is not one YAML document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem} (line {line}, column {column})")]
pub struct YamlSyntaxError {
    /// What is wrong.
    pub problem: String,
    /// Line of the text, from 1.
    pub line: usize,
    /// Column in the line, from 1.
    pub column: usize,
}

impl Yaml {
    /// The value as Flink passes it on: text as it is, everything else as YAML in one line. Nothing for
    /// null, which Flink takes for a mistake.
    pub(crate) fn text(&self) -> Option<String> {
        match self {
            Self::Null => None,
            Self::Text(text) => Some(text.clone()),
            other => Some(other.flow()),
        }
    }

    /// The value as YAML in one line.
    pub(crate) fn flow(&self) -> String {
        match self {
            Self::Null => "null".to_owned(),
            Self::Bool(value) => value.to_string(),
            Self::Int(digits) => digits.clone(),
            Self::Float(number) => scalar::float_text(*number),
            Self::Text(text) => quoted_for_flow(text),
            Self::List(items) => {
                let items: Vec<_> = items.iter().map(Self::flow).collect();
                format!("[{}]", items.join(", "))
            }
            Self::Map(entries) => {
                let entries: Vec<_> = entries
                    .iter()
                    .map(|(key, value)| format!("{}: {}", key.flow(), value.flow()))
                    .collect();
                format!("{{{}}}", entries.join(", "))
            }
        }
    }
}

/// Reads the one document in `text`; an empty text is null.
///
/// # Errors
///
/// [`YamlSyntaxError`] also for what Flink refuses beyond the grammar: a second document, a key twice,
/// a tag that it does not know.
pub(crate) fn parse_yaml(text: &str) -> Result<Yaml, YamlSyntaxError> {
    if let Some(at) = text.find(|character| !is_allowed(character)) {
        let forbidden = text[at..].chars().next().unwrap_or_default();
        return Err(error_in(
            text,
            at,
            format!("the character {forbidden:?} is not allowed in YAML"),
        ));
    }
    let Some(stand_in) = stand_in_for_dash(text) else {
        return load(text, None);
    };
    match load(text, None) {
        Err(_) => load(&text.replace("-}", &format!("{stand_in}}}")), Some(stand_in)),
        document => document,
    }
}

fn load(text: &str, stand_in: Option<char>) -> Result<Yaml, YamlSyntaxError> {
    let mut options = granit_parser::Options::default();
    options.emit_comments = false;
    Loader {
        text,
        stand_in,
        events: Parser::new_from_str_with_options(text, options),
        tabs: TabCheck::new(text),
        anchors: HashMap::new(),
        nodes_left: NODES,
    }
    .document()
}

/// A character that can take the place of the dash in `{key: -}`, which Flink reads as text and our parser
/// does not; nothing if there is no such dash.
fn stand_in_for_dash(text: &str) -> Option<char> {
    let occurs = text.contains("-}");
    occurs
        .then(|| ('\u{e000}'..='\u{f8ff}').find(|character| !text.contains(*character)))
        .flatten()
}

/// Characters that may stand in YAML text at all.
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | '\u{85}' | ' '..='~' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}

/// How many values a document may have, so that a few aliases cannot fill the memory.
const NODES: usize = 1_000_000;

struct Loader<'text, I: Iterator<Item = Result<(Event<'text>, Span), ScanError>>> {
    text: &'text str,
    stand_in: Option<char>,
    events: I,
    tabs: TabCheck<'text>,
    anchors: HashMap<usize, Yaml>,
    nodes_left: usize,
}

impl<'text, I: Iterator<Item = Result<(Event<'text>, Span), ScanError>>> Loader<'text, I> {
    fn document(mut self) -> Result<Yaml, YamlSyntaxError> {
        let mut document = None;
        while let Some((event, span)) = self.next()? {
            match event {
                Event::DocumentStart(..) if document.is_some() => {
                    return Err(error_at(
                        &span,
                        "a second document starts here; expected only one".to_owned(),
                    ));
                }
                Event::StreamStart | Event::StreamEnd | Event::DocumentStart(..) | Event::DocumentEnd => {}
                node => document = Some(self.node(node, &span)?),
            }
        }
        if let Some(at) = self.tabs.forbidden_at_end() {
            return Err(tab_at(self.text, at));
        }
        Ok(document.unwrap_or(Yaml::Null))
    }

    fn next(&mut self) -> Result<Option<(Event<'text>, Span)>, YamlSyntaxError> {
        let next = self
            .events
            .next()
            .transpose()
            .map_err(|refusal| YamlSyntaxError {
                problem: refusal.info(),
                line: refusal.marker().line(),
                column: refusal.marker().col() + 1,
            })?;
        if let Some((event, span)) = &next
            && let Some(at) = self.tabs.next_forbidden(event, span)
        {
            return Err(tab_at(self.text, at));
        }
        Ok(next)
    }

    fn next_node(&mut self) -> Result<(Event<'text>, Span), YamlSyntaxError> {
        let end = || YamlSyntaxError {
            problem: "the text ends early".to_owned(),
            line: 1,
            column: 1,
        };
        self.next()?.ok_or_else(end)
    }

    fn node(&mut self, event: Event<'text>, span: &Span) -> Result<Yaml, YamlSyntaxError> {
        self.count(1, span)?;
        let (value, anchor) = match event {
            Event::Scalar(text, style, anchor, tag) => {
                let is_plain = style == ScalarStyle::Plain;
                let text = self.as_flink_reads(&text, style, span);
                let value = resolve(&text, is_plain, core_tag(tag.as_deref(), span)?.as_deref());
                (value.map_err(|problem| error_at(span, problem))?, anchor)
            }
            Event::SequenceStart(_, anchor, tag) => {
                known_collection_tag(tag.as_deref(), "seq", span)?;
                (self.list()?, anchor)
            }
            Event::MappingStart(_, anchor, tag) => {
                known_collection_tag(tag.as_deref(), "map", span)?;
                (self.map()?, anchor)
            }
            Event::Alias(anchor) => {
                let value = self.anchors.get(&anchor).cloned();
                let value = value
                    .ok_or_else(|| error_at(span, "an alias stands inside of what it names".to_owned()))?;
                self.count(size(&value), span)?;
                return Ok(value);
            }
            other => return Err(error_at(span, format!("expected a value, found {other:?}"))),
        };
        if anchor != 0 {
            self.anchors.insert(anchor, value.clone());
        }
        Ok(value)
    }

    /// The text of a scalar, with the dash that we hid, and without the line break that our parser adds to a block
    /// at the very end of the file.
    fn as_flink_reads(&self, text: &str, style: ScalarStyle, span: &Span) -> String {
        let text = match self.stand_in {
            Some(stand_in) => text.replace(stand_in, "-"),
            None => text.to_owned(),
        };
        let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
        let last_line = self.text.rsplit('\n').next().unwrap_or_default();
        let is_cut_off = !last_line.trim().is_empty();
        let reaches_the_end = span
            .byte_range()
            .is_some_and(|range| self.text[range.end.min(self.text.len())..].trim().is_empty());
        if is_block && is_cut_off && reaches_the_end {
            return text.strip_suffix('\n').unwrap_or(&text).to_owned();
        }
        text
    }

    fn list(&mut self) -> Result<Yaml, YamlSyntaxError> {
        let mut items = Vec::new();
        loop {
            let (event, span) = self.next_node()?;
            if event == Event::SequenceEnd {
                return Ok(Yaml::List(items));
            }
            items.push(self.node(event, &span)?);
        }
    }

    fn map(&mut self) -> Result<Yaml, YamlSyntaxError> {
        let mut entries: Vec<(Yaml, Yaml)> = Vec::new();
        let mut seen = std::collections::HashSet::new();
        loop {
            let (event, span) = self.next_node()?;
            if event == Event::MappingEnd {
                return Ok(Yaml::Map(entries));
            }
            let key = self.node(event, &span)?;
            if !seen.insert((matches!(key, Yaml::Text(_)), key.flow())) {
                return Err(error_at(&span, format!("the key {} occurs twice", key.flow())));
            }
            let (event, span) = self.next_node()?;
            let value = self.node(event, &span)?;
            entries.push((key, value));
        }
    }

    fn count(&mut self, nodes: usize, span: &Span) -> Result<(), YamlSyntaxError> {
        let left = self.nodes_left.checked_sub(nodes);
        self.nodes_left =
            left.ok_or_else(|| error_at(span, format!("there are more than {NODES} values")))?;
        Ok(())
    }
}

fn size(value: &Yaml) -> usize {
    match value {
        Yaml::List(items) => 1 + items.iter().map(size).sum::<usize>(),
        Yaml::Map(entries) => {
            1 + entries
                .iter()
                .map(|(key, value)| size(key) + size(value))
                .sum::<usize>()
        }
        _ => 1,
    }
}

fn tab_at(text: &str, at: usize) -> YamlSyntaxError {
    let problem = "a tab stands where Flink allows only blanks".to_owned();
    error_in(text, at, problem)
}

fn error_in(text: &str, at: usize, problem: String) -> YamlSyntaxError {
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |line_break| line_break + 1);
    YamlSyntaxError {
        problem,
        line: before.matches('\n').count() + 1,
        column: before[line_start..].chars().count() + 1,
    }
}

fn error_at(span: &Span, problem: String) -> YamlSyntaxError {
    YamlSyntaxError {
        problem,
        line: span.start.line(),
        column: span.start.col() + 1,
    }
}

/// The tag's name in the core schema; `None` without a tag, `str` for the tag `!`.
fn core_tag(tag: Option<&Tag>, span: &Span) -> Result<Option<String>, YamlSyntaxError> {
    let Some(tag) = tag else {
        return Ok(None);
    };
    match tag.core_suffix() {
        Some(suffix) => Ok(Some(suffix.to_owned())),
        None if tag.to_string() == "!" => Ok(Some("str".to_owned())),
        None => Err(error_at(span, format!("the tag {tag} is not known"))),
    }
}

fn known_collection_tag(tag: Option<&Tag>, expected: &str, span: &Span) -> Result<(), YamlSyntaxError> {
    match core_tag(tag, span)? {
        Some(name) if name != expected => Err(error_at(
            span,
            format!("the tag {name} does not fit a {expected}"),
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
