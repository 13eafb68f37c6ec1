//! Nested YAML, one key a line.

use std::collections::BTreeMap;

use super::Yaml;
use super::quoting::{is_plain_scalar_of_another_type, quoted_for_block};
use super::scalar::plain;

/// A tree to write.
#[derive(Debug, PartialEq)]
pub(crate) enum BlockNode {
    /// The text of a single value.
    Text(String),
    /// A value of any other form.
    Value(Yaml),
    /// Keys below this one.
    Map(BTreeMap<String, BlockNode>),
}

/// Writes the tree, sorted by key, with two blanks of indentation a level.
pub(crate) fn write_block(tree: &BTreeMap<String, BlockNode>) -> String {
    let mut text = String::new();
    write_map(tree, 0, &mut text);
    text
}

fn write_map(map: &BTreeMap<String, BlockNode>, depth: usize, out: &mut String) {
    for (key, node) in map {
        let key = quoted_for_block(key);
        let indentation = "  ".repeat(depth);
        match node {
            BlockNode::Text(text) => out.extend([&indentation, &key, ": ", &scalar_text(text), "\n"]),
            BlockNode::Value(Yaml::List(items)) if !items.is_empty() => {
                out.extend([&indentation, &key, ":\n"]);
                for item in items {
                    out.extend([&indentation, "- ", &item_text(item), "\n"]);
                }
            }
            BlockNode::Value(value) => out.extend([&indentation, &key, ": ", &value.flow(), "\n"]),
            BlockNode::Map(below) => {
                out.extend([&indentation, &key, ":\n"]);
                write_map(below, depth + 1, out);
            }
        }
    }
}

fn item_text(item: &Yaml) -> String {
    match item {
        Yaml::Text(text) => quoted_for_block(text),
        other => other.flow(),
    }
}

/// A number or a truth value stands without quotes if it is read back as exactly this text.
fn scalar_text(text: &str) -> String {
    if is_plain_scalar_of_another_type(text) {
        let keeps_its_text = matches!(plain(text), Some(value @ (Yaml::Bool(_) | Yaml::Int(_) | Yaml::Float(_)))
            if value.flow() == text);
        // Readers of older YAML do not take every number with an exponent for one.
        if keeps_its_text && !text.contains('E') && !text.contains(".n") && !text.contains(".i") {
            return text.to_owned();
        }
    }
    quoted_for_block(text)
}
