use super::*;

fn value_of(text: &str) -> Option<String> {
    match parse_yaml(text) {
        Ok(value) => value.text(),
        Err(_) => Some("error".to_owned()),
    }
}

#[test]
fn numbers_are_those_of_the_core_schema_with_javas_digits() {
    for (text, expected) in [
        ("-0", "0"),
        ("007", "7"),
        ("+7", "7"),
        ("1_000", "1_000"),
        ("0x1F", "31"),
        ("-0x1F", "-0x1F"),
        ("0X1F", "0X1F"),
        ("0o17", "15"),
        ("0b11", "0b11"),
        ("1e3", "1000.0"),
        ("1.", "1.0"),
        (".5", "0.5"),
        ("1e7", "1.0E7"),
        ("123456789.0", "1.23456789E8"),
        ("0.0001", "1.0E-4"),
        ("-0.0", "-0.0"),
        ("1e400", ".inf"),
        ("-.INF", "-.inf"),
        ("+.inf", "error"),
        (".NaN", ".nan"),
        ("NaN", "NaN"),
        ("9223372036854775808", "9223372036854775808"),
        ("0xFFFFFFFFFFFFFFFFFF", "4722366482869645213695"),
        ("0o777777777777777777777777", "4722366482869645213695"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
    ] {
        assert_eq!(value_of(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn truth_and_null_have_three_spellings_each() {
    for (text, expected) in [
        ("True", Some("true")),
        ("tRue", Some("tRue")),
        ("yes", Some("yes")),
        ("off", Some("off")),
    ] {
        assert_eq!(value_of(text).as_deref(), expected, "{text}");
    }
    for text in ["", "~", "null", "Null", "NULL", "# nothing"] {
        assert_eq!(value_of(text), None, "{text}");
    }
    assert_eq!(value_of("nUll").as_deref(), Some("nUll"));
}

#[test]
fn tags_decide_over_looks_and_unknown_ones_are_refused() {
    for (text, expected) in [
        ("!!str 12", "12"),
        ("! 12", "12"),
        ("!!int '12'", "12"),
        ("!!float 1", "1.0"),
        ("!!bool 'true'", "true"),
        ("!!seq [1]", "[1]"),
        ("!!int abc", "error"),
        ("!foo bar", "error"),
        ("!!omap [b: 1]", "error"),
    ] {
        assert_eq!(value_of(text).as_deref(), Some(expected), "{text}");
    }
}

#[test]
fn text_in_a_line_is_quoted_only_where_it_must_be() {
    let plain = [
        "a",
        "-a",
        "=",
        "<<",
        "it's",
        "1_000",
        "yes",
        "NaN",
        "2024-01-01",
        "x y",
        "é",
        "😀",
        "back\\slash",
    ];
    for text in plain {
        assert_eq!(quoted_for_flow(text), text);
    }
    let single = [
        "true", "null", "1", "~", "", " x", "x ", "a: b", "a #b", "a,b", "-", "- a", "?a", ":", "a:b", "#a",
        "&a", "*a", "!a", "|a", ">a", "\"a", "%a", "@a", "`a", "a]", "a?b", "---", "...", "0x1f", "017",
        ".nan", "1e3",
    ];
    for text in single {
        assert_eq!(quoted_for_flow(text), format!("'{text}'"));
    }
    assert_eq!(quoted_for_flow("'a"), "'''a'");
    for (text, quoted) in [
        ("a\tb", r#""a\tb""#),
        ("a\n\"b\"", r#""a\n\"b\"""#),
        ("\u{7f}", r#""\x7f""#),
        ("\u{85}\u{2028}", r#""\N\L""#),
    ] {
        assert_eq!(quoted_for_flow(text), quoted);
    }
}

#[test]
fn documents_that_flink_refuses_are_refused_with_a_place() {
    for (text, place) in [
        ("a: 1\n---\nb: 2", "line 2"),
        ("a: 1\nb: 'y", "line 2"),
        ("a: {b: 1, b: 2}", "column 11"),
        ("a: 1\n%bad", "line 2"),
        ("a: *nobody", "column 4"),
        ("a: \u{1}", "column 4"),
        ("a: b: c", "line 1"),
        ("a: [b", "line"),
        ("a: @b", "column 4"),
        ("a: \"\\q\"", "line 1"),
    ] {
        let refusal = parse_yaml(text).unwrap_err().to_string();
        assert!(refusal.contains(place), "{text:?}: {refusal}");
    }
}

#[test]
fn aliases_repeat_values_but_cannot_fill_the_memory() {
    assert_eq!(value_of("[&x {c: 1}, *x]").as_deref(), Some("[{c: 1}, {c: 1}]"));
    let first = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    let others = (1..12).map(|level| {
        let item = format!("*a{}", level - 1);
        format!("a{level}: &a{level} [{}]\n", vec![item; 10].join(", "))
    });
    let bomb: Vec<String> = std::iter::once(first).chain(others).collect();
    assert!(
        parse_yaml(&bomb.concat())
            .unwrap_err()
            .to_string()
            .contains("values")
    );
}

#[test]
fn tabs_are_no_space_between_values_as_flink_has_it() {
    for refused in [
        "a:\tb",
        "a: \"b\"\t",
        "a: b\n\t\nc: d",
        "\t\na: b",
        "a: [b,\tc]",
        "a: {b:\tc}",
        "a:\t# c\n  b: d",
        "a:\n  -\tb",
        "a: b\n  \tc",
        "a: >\t# c\n  x",
        "a: &x\tb",
        "? a\n:\tb",
    ] {
        let error = parse_yaml(refused).unwrap_err();
        assert!(error.to_string().contains("tab"), "{refused:?}: {error}");
    }
    for accepted in [
        "a: b\t",
        "a: b \t# c",
        "a: b # c\td",
        "a: [b\t,c\t]",
        "a: b\tc",
        "a: \"b\tc\"",
        "a: |\n  x\ty\n  \tz\n",
    ] {
        assert!(parse_yaml(accepted).is_ok(), "{accepted:?}");
    }
}

#[test]
fn a_dash_before_a_closing_brace_is_text() {
    assert_eq!(value_of("{b: -}").as_deref(), Some("{b: '-'}"));
    assert_eq!(value_of("[{b: c, d: -}]").as_deref(), Some("[{b: c, d: '-'}]"));
    assert_eq!(
        value_of("{a: 'x-}', b: -}").as_deref(),
        Some("{a: 'x-}', b: '-'}")
    );
    for refused in ["[-]", "{b: -,c: d}", "[- ]"] {
        assert_eq!(value_of(refused).as_deref(), Some("error"), "{refused}");
    }
}

#[test]
fn a_block_at_the_end_of_the_file_has_the_line_breaks_that_are_there() {
    for (text, expected) in [
        ("|\n  x", "x"),
        ("|+\n  x", "x"),
        (">\n  x\n  y", "x y"),
        ("|\n  x\n", "x\n"),
        ("|+\n  x\n\n", "x\n\n"),
        ("|\n  x\n  ", "x\n"),
    ] {
        assert_eq!(value_of(text).as_deref(), Some(expected), "{text:?}");
    }
}
