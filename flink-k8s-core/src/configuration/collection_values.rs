//! Lists and maps as option values: as YAML, in Flink's own notation, maps also as keys of their own.

use std::collections::BTreeMap;

use super::legacy_splitter::split_quoted;
use super::option_value::{MalformedValue, OptionValue};
use super::yaml::{Yaml, parse_yaml};

/// Text becomes YAML if it can; what is no YAML list or map is read in the older notation.
fn yaml_value(text: &str) -> Option<Yaml> {
    parse_yaml(text).ok()
}

impl OptionValue for Vec<String> {
    const EXPECTED: &'static str = "list such as a;b or [a, b]";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        if let Some(Yaml::List(items)) = yaml_value(text)
            && let Some(items) = items.iter().map(Yaml::text).collect()
        {
            return Ok(items);
        }
        split_quoted(text, ';').map_err(|cause| in_a("list such as a;b or [a, b]", &cause))
    }
}

impl OptionValue for BTreeMap<String, String> {
    const EXPECTED: &'static str = "map such as k1:v1,k2:v2 or {k1: v1, k2: v2}";
    const HAS_PREFIX_FORM: bool = true;

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        if let Some(Yaml::Map(entries)) = yaml_value(text)
            && let Some(entries) = text_map(&entries)
        {
            return Ok(entries);
        }
        legacy_map(text).map_err(|cause| in_a(Self::EXPECTED, &cause))
    }

    fn from_prefix_form(entries: BTreeMap<String, String>) -> Option<Self> {
        Some(entries)
    }
}

impl OptionValue for Vec<BTreeMap<String, String>> {
    const EXPECTED: &'static str = "list of maps such as k1:v1,k2:v2;k1:v3 or [{k1: v1, k2: v2}, {k1: v3}]";

    fn parse(text: &str) -> Result<Self, MalformedValue> {
        if let Some(Yaml::List(items)) = yaml_value(text)
            && let Some(maps) = items.iter().map(as_text_map).collect()
        {
            return Ok(maps);
        }
        split_quoted(text, ';')
            .and_then(|items| items.iter().map(|item| BTreeMap::parse(item)).collect())
            .map_err(|cause| in_a(Self::EXPECTED, &cause))
    }
}

fn in_a(expected: &str, cause: &MalformedValue) -> MalformedValue {
    if cause.0.contains(expected) {
        return cause.clone();
    }
    MalformedValue(format!("expected a {expected}, but {cause}"))
}

fn as_text_map(value: &Yaml) -> Option<BTreeMap<String, String>> {
    match value {
        Yaml::Map(entries) => text_map(entries),
        _ => None,
    }
}

fn text_map(entries: &[(Yaml, Yaml)]) -> Option<BTreeMap<String, String>> {
    entries
        .iter()
        .map(|(key, value)| Some((key.text()?, value.text()?)))
        .collect()
}

fn legacy_map(text: &str) -> Result<BTreeMap<String, String>, MalformedValue> {
    let mut map = BTreeMap::new();
    for item in split_quoted(text, ',')? {
        let [key, value] = <[String; 2]>::try_from(split_quoted(&item, ':')?).map_err(|_| {
            MalformedValue(format!(
                "{item:?} is not one key and one value with a colon between"
            ))
        })?;
        if map.contains_key(&key) {
            return Err(MalformedValue(format!("the key {key:?} occurs twice")));
        }
        map.insert(key, value);
    }
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn a_list_is_yaml_or_separated_by_semicolons() {
        for (text, items) in [
            ("[a, 8081, true]", &["a", "8081", "true"][..]),
            ("- a\n- b", &["a", "b"]),
            ("a;b", &["a", "b"]),
            ("[a", &["[a"]),
            ("", &[]),
            ("[{k: v}, [1, 2]]", &["{k: v}", "[1, 2]"]),
        ] {
            assert_eq!(Vec::<String>::parse(text).unwrap(), items, "{text}");
        }
    }

    #[test]
    fn a_map_is_yaml_or_pairs_with_colons() {
        for (text, expected) in [
            ("{a: 1, b: 'x'}", map(&[("a", "1"), ("b", "x")])),
            ("a: b", map(&[("a", "b")])),
            ("a:b,c:d", map(&[("a", "b"), ("c", "d")])),
            ("a1:'http://x'", map(&[("a1", "http://x")])),
            ("", map(&[])),
        ] {
            assert_eq!(BTreeMap::parse(text).unwrap(), expected, "{text}");
        }
        for text in ["a", "a:b:c", "a:b,a:c", "a:'b"] {
            let refusal = BTreeMap::parse(text).unwrap_err().to_string();
            assert!(refusal.contains("k1:v1,k2:v2"), "{text}: {refusal}");
        }
    }

    #[test]
    fn a_list_of_maps_nests_the_two() {
        let expected = vec![
            map(&[("key", "a"), ("effect", "NoSchedule")]),
            map(&[("key", "b")]),
        ];
        for text in [
            "key:a,effect:NoSchedule;key:b",
            "[{key: a, effect: NoSchedule}, {key: b}]",
        ] {
            assert_eq!(
                Vec::<BTreeMap<String, String>>::parse(text).unwrap(),
                expected,
                "{text}"
            );
        }
    }
}
