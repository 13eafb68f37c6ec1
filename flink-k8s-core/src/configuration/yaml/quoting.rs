//! When a text needs quotes in YAML, by the rules of the library that Flink writes with.

use std::fmt::Write as _;

use super::Yaml;
use super::scalar::plain;

/// Where a text stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Inside of brackets or braces.
    Flow,
    /// In a line of its own.
    Block,
}

/// The text as an item inside of `[...]` or `{...}`.
pub(super) fn quoted_for_flow(text: &str) -> String {
    quoted(text, Place::Flow)
}

/// The text as a key, or as the value after a key, in a line of its own.
pub(super) fn quoted_for_block(text: &str) -> String {
    quoted(text, Place::Block)
}

fn quoted(text: &str, place: Place) -> String {
    if text.chars().any(is_special) {
        double_quoted(text)
    } else if is_plain_scalar_of_another_type(text) || needs_quotes(text, place) {
        format!("'{}'", text.replace('\'', "''"))
    } else {
        text.to_owned()
    }
}

/// Whether the text without quotes would be read as a number, a truth value or null.
pub(super) fn is_plain_scalar_of_another_type(text: &str) -> bool {
    !matches!(plain(text), Some(Yaml::Text(_)))
}

/// Characters that only double quotes can hold.
fn is_special(character: char) -> bool {
    let is_line_break = matches!(character, '\n' | '\r' | '\u{85}' | '\u{2028}' | '\u{2029}');
    let is_printable = matches!(character, ' '..='~' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..);
    is_line_break || !is_printable
}

fn needs_quotes(text: &str, place: Place) -> bool {
    let is_flow = place == Place::Flow;
    if text.starts_with(' ') || text.ends_with(' ') || text.starts_with("---") || text.starts_with("...") {
        return true;
    }
    let mut previous = None;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        let is_followed_by_space = characters.peek().is_none_or(|next| *next == ' ');
        let is_indicator = match (previous, character) {
            (None, _) if "#,[]{}&*!|>'\"%@`".contains(character) => true,
            (None, '-') => is_followed_by_space,
            (_, ':') | (None, '?') => is_flow || is_followed_by_space,
            (Some(_), ',' | '?' | '[' | ']' | '{' | '}') => is_flow,
            (Some(before), '#') => before == ' ',
            _ => false,
        };
        if is_indicator {
            return true;
        }
        previous = Some(character);
    }
    false
}

fn double_quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for character in text.chars() {
        match character {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\0' => quoted.push_str("\\0"),
            '\u{7}' => quoted.push_str("\\a"),
            '\u{8}' => quoted.push_str("\\b"),
            '\t' => quoted.push_str("\\t"),
            '\n' => quoted.push_str("\\n"),
            '\u{b}' => quoted.push_str("\\v"),
            '\u{c}' => quoted.push_str("\\f"),
            '\r' => quoted.push_str("\\r"),
            '\u{1b}' => quoted.push_str("\\e"),
            '\u{85}' => quoted.push_str("\\N"),
            '\u{a0}' => quoted.push_str("\\_"),
            '\u{2028}' => quoted.push_str("\\L"),
            '\u{2029}' => quoted.push_str("\\P"),
            ' '..='~' => quoted.push(character),
            character if !is_special(character) => quoted.push(character),
            // Writing to a String cannot fail.
            character if u32::from(character) <= 0xff => {
                let _ = write!(quoted, "\\x{:02x}", u32::from(character));
            }
            character => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(character));
            }
        }
    }
    quoted.push('"');
    quoted
}
