//! Flink's own notation for lists and maps, older than its YAML: `a;b`, `k:v,k:v`, with quotes.

use super::option_value::MalformedValue;

/// What a text is made of.
#[derive(Debug, PartialEq)]
enum Token {
    Delimiter,
    Unquoted(String),
    Quoted(String),
}

/// Splits at `delimiter`. A part may stand in single or double quotes, which are doubled inside of it.
///
/// Blanks around a part do not count, two delimiters in a row enclose an empty part, and a delimiter at
/// either end encloses nothing.
///
/// # Errors
///
/// [`MalformedValue`] when a quote is not closed or something other than a delimiter follows it.
pub(crate) fn split_quoted(text: &str, delimiter: char) -> Result<Vec<String>, MalformedValue> {
    let mut parts = Vec::new();
    let mut tokens = tokens(text, delimiter)?.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match (token, tokens.peek()) {
            (Token::Quoted(_), Some(Token::Unquoted(_) | Token::Quoted(_))) => {
                return Err(MalformedValue(format!(
                    "expected {delimiter:?} or the end after a closing quote"
                )));
            }
            (Token::Quoted(part) | Token::Unquoted(part), _) => parts.push(part),
            (Token::Delimiter, Some(Token::Delimiter)) => parts.push(String::new()),
            (Token::Delimiter, _) => {}
        }
    }
    Ok(parts)
}

fn tokens(text: &str, delimiter: char) -> Result<Vec<Token>, MalformedValue> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let after_first = &rest[first.len_utf8()..];
        rest = if first == '\'' || first == '"' {
            let (part, after) = quoted(after_first, first)?;
            tokens.push(Token::Quoted(part));
            after
        } else if first == delimiter {
            tokens.push(Token::Delimiter);
            after_first
        } else if first.is_whitespace() {
            after_first
        } else {
            let (part, after) = rest.split_at(rest.find(delimiter).unwrap_or(rest.len()));
            tokens.push(Token::Unquoted(super::trim_like_java(part).to_owned()));
            after
        };
    }
    Ok(tokens)
}

/// Reads up to the closing quote; returns what it encloses and what follows.
fn quoted(text: &str, quote: char) -> Result<(String, &str), MalformedValue> {
    let mut part = String::new();
    let mut rest = text;
    loop {
        let Some((inside, after)) = rest.split_once(quote) else {
            return Err(MalformedValue(format!("expected a closing {quote}")));
        };
        part.push_str(inside);
        match after.strip_prefix(quote) {
            Some(after_escaped) => {
                part.push(quote);
                rest = after_escaped;
            }
            None => return Ok((part, after)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_trimmed_and_empty_ones_count_only_between_delimiters() {
        for (text, parts) in [
            ("", &[][..]),
            (" a ;b", &["a", "b"]),
            (";a;", &["a"]),
            ("a;;b", &["a", "", "b"]),
            ("a; ;b", &["a", "", "b"]),
            ("'a;b';\"c\"\"d\"", &["a;b", "c\"d"]),
            ("it's", &["it's"]),
            ("''", &[""]),
        ] {
            assert_eq!(split_quoted(text, ';').unwrap(), parts, "{text}");
        }
    }

    #[test]
    fn a_quote_must_be_closed_and_followed_by_a_delimiter() {
        for text in ["'a", "'a'b", "a;\"b", "'a' 'b'"] {
            assert!(split_quoted(text, ';').is_err(), "{text}");
        }
    }
}
