//! Configuration files and `-Dkey=value`: reading and writing a [`FlinkConfiguration`].

use std::collections::BTreeMap;

use super::yaml::{BlockNode, Yaml, YamlSyntaxError, parse_yaml, write_block};
use super::{FlinkConfiguration, Origin, Setting};

/// Why a text is not a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseConfigurationError {
    /// The text is not YAML.
    #[error("the configuration is not valid YAML")]
    NotYaml(#[source] YamlSyntaxError),
    /// The text is YAML, but a list or a single value.
    #[error("the configuration is not a YAML map: expected lines such as `key: value`")]
    NotAMap,
    /// A key has no value; Flink refuses to start with such a file.
    #[error("key {0} has no value: give it one, write '' for an empty text, or remove the key")]
    NoValue(String),
    /// A key is a number, a truth value or a collection.
    #[error("key {0} is not a text: put it in quotes")]
    KeyIsNotText(String),
}

/// Why a configuration cannot be written as nested YAML.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteConfigurationError {
    /// A key has a value and keys below it, for which nested YAML has no place.
    #[error(
        "keys {leaf} and {longer} cannot both be set: in Flink's configuration file a key with a value can have \
         no keys below it; remove one of them"
    )]
    ValueAndKeysBelow {
        /// The key with a value.
        leaf: String,
        /// A key below it.
        longer: String,
    },
    /// A key would be nested deeper than readers of YAML follow.
    #[error(
        "key {key} has more than {MAX_DEPTH} parts between its dots, too many for Flink's configuration file"
    )]
    TooDeep {
        /// The key.
        key: String,
    },
}

/// How deep keys may be nested. Readers of YAML stop somewhere; no option of Flink has ten parts.
const MAX_DEPTH: usize = 100;

/// A line of a flat configuration file that says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IgnoredLine {
    /// Number of the line, from 1.
    pub number: usize,
    /// The line without its comment.
    pub text: String,
}

/// Why a text is not `key=value`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a setting has no key: expected -Dkey=value")]
pub struct InvalidDynamicProperty {
    /// What follows `-D`.
    pub text: String,
}

/// Old keys that are also the beginning of newer ones, with the key that replaced each of them. Every
/// Flink that we support reads the new ones.
const RENAMED: [(&str, &str); 6] = [
    ("env.java.opts", "env.java.opts.all"),
    ("high-availability", "high-availability.type"),
    ("kubernetes.container.image", "kubernetes.container.image.ref"),
    ("kubernetes.jobmanager.cpu", "kubernetes.jobmanager.cpu.amount"),
    (
        "kubernetes.pod-template-file",
        "kubernetes.pod-template-file.default",
    ),
    ("kubernetes.taskmanager.cpu", "kubernetes.taskmanager.cpu.amount"),
];

impl FlinkConfiguration {
    /// Reads Flink's `config.yaml`, whose keys may be nested, written with dots, or both.
    ///
    /// Values become the text that Flink would pass on: `0x1F` is `31`, `1e3` is `1000.0`, `[a,b]` is
    /// `[a, b]`, and `yes` stays `yes`.
    ///
    /// ```
    /// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
    /// let text = "taskmanager:\n  memory.process.size: 2g\n  numberOfTaskSlots: 0x4\n";
    /// let configuration = FlinkConfiguration::from_yaml(text, &Origin::File("config.yaml".to_owned()))?;
    /// assert_eq!(configuration.setting("taskmanager.memory.process.size").unwrap().text, "2g");
    /// assert_eq!(configuration.setting("taskmanager.numberOfTaskSlots").unwrap().text, "4");
    /// # Ok::<(), flink_k8s_core::configuration::ParseConfigurationError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ParseConfigurationError`] where Flink itself would refuse the file.
    pub fn from_yaml(text: &str, origin: &Origin) -> Result<Self, ParseConfigurationError> {
        let mut configuration = Self::new();
        match parse_yaml(text).map_err(ParseConfigurationError::NotYaml)? {
            Yaml::Null => {}
            Yaml::Map(entries) => configuration.add_entries("", &entries, origin)?,
            _ => return Err(ParseConfigurationError::NotAMap),
        }
        Ok(configuration)
    }

    fn add_entries(
        &mut self,
        prefix: &str,
        entries: &[(Yaml, Yaml)],
        origin: &Origin,
    ) -> Result<(), ParseConfigurationError> {
        for (key, value) in entries {
            let key = match key {
                Yaml::Text(key) => format!("{prefix}{key}"),
                Yaml::Null => format!("{prefix}null"),
                other => {
                    return Err(ParseConfigurationError::KeyIsNotText(format!(
                        "{prefix}{}",
                        other.flow()
                    )));
                }
            };
            match value {
                Yaml::Map(below) => self.add_entries(&format!("{key}."), below, origin)?,
                value => {
                    let Some(text) = value.text() else {
                        return Err(ParseConfigurationError::NoValue(key));
                    };
                    let is_list = matches!(value, Yaml::List(_));
                    self.settings.insert(
                        key,
                        Setting {
                            text,
                            origin: origin.clone(),
                            is_list,
                        },
                    );
                }
            }
        }
        Ok(())
    }

    /// Reads the flat `flink-conf.yaml` of Flink 1.x: lines of `key: value`, nothing of YAML. Lines that
    /// Flink ignores with a warning are returned.
    pub fn from_flat_lines(text: &str, origin: &Origin) -> (Self, Vec<IgnoredLine>) {
        let mut configuration = Self::new();
        let mut ignored = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().map_or("", str::trim);
            if line.is_empty() {
                continue;
            }
            match line
                .split_once(": ")
                .map(|(key, value)| (key.trim(), value.trim()))
            {
                Some((key, value)) if !key.is_empty() && !value.is_empty() => {
                    configuration.set(key, value, origin.clone());
                }
                _ => ignored.push(IgnoredLine {
                    number: index + 1,
                    text: line.to_owned(),
                }),
            }
        }
        (configuration, ignored)
    }

    /// Writes Flink's `config.yaml`: nested, sorted, one key a line, always the same for the same settings.
    ///
    /// Old keys which cannot stand beside newer ones are written under their new names, for example
    /// `kubernetes.container.image` as `kubernetes.container.image.ref`.
    ///
    /// # Errors
    ///
    /// [`WriteConfigurationError`] names two keys that nested YAML cannot hold both.
    pub fn to_yaml(&self) -> Result<String, WriteConfigurationError> {
        let mut tree = BTreeMap::new();
        for (key, setting) in self.iter() {
            let renamed = RENAMED.iter().find(|(old, _)| *old == key).map(|(_, new)| *new);
            if renamed.is_some_and(|new| self.settings.contains_key(new)) {
                continue;
            }
            insert(&mut tree, renamed.unwrap_or(key), node_of(setting))?;
        }
        Ok(write_block(&tree))
    }
}

/// Reads what follows `-D`: `key=value`, or a key alone, which sets it to `true`.
///
/// ```
/// # use flink_k8s_core::configuration::parse_dynamic_property;
/// let (key, value) = parse_dynamic_property("env.java.opts.all=-Dx=1")?;
/// assert_eq!((key.as_str(), value.as_str()), ("env.java.opts.all", "-Dx=1"));
/// assert_eq!(parse_dynamic_property("execution.attached")?.1, "true");
/// # Ok::<(), flink_k8s_core::configuration::InvalidDynamicProperty>(())
/// ```
///
/// # Errors
///
/// [`InvalidDynamicProperty`] if there is no key.
pub fn parse_dynamic_property(text: &str) -> Result<(String, String), InvalidDynamicProperty> {
    let (key, value) = text.split_once('=').unwrap_or((text, "true"));
    if key.trim().is_empty() {
        return Err(InvalidDynamicProperty {
            text: text.to_owned(),
        });
    }
    Ok((key.to_owned(), value.to_owned()))
}

fn node_of(setting: &Setting) -> BlockNode {
    if setting.is_list
        && let Ok(list @ Yaml::List(_)) = parse_yaml(&setting.text)
    {
        return BlockNode::Value(list);
    }
    BlockNode::Text(setting.text.clone())
}

fn insert(
    tree: &mut BTreeMap<String, BlockNode>,
    key: &str,
    node: BlockNode,
) -> Result<(), WriteConfigurationError> {
    if key.split('.').count() > MAX_DEPTH {
        return Err(WriteConfigurationError::TooDeep { key: key.to_owned() });
    }
    let mut map = tree;
    let mut rest = key;
    while let Some((segment, below)) = rest.split_once('.') {
        let parent = &key[..key.len() - below.len() - 1];
        match map
            .entry(segment.to_owned())
            .or_insert_with(|| BlockNode::Map(BTreeMap::new()))
        {
            BlockNode::Map(children) => map = children,
            _ => return Err(value_and_keys_below(parent, key)),
        }
        rest = below;
    }
    if let Some(BlockNode::Map(below)) = map.get(rest) {
        return Err(value_and_keys_below(key, &format!("{key}.{}", first_leaf(below))));
    }
    map.insert(rest.to_owned(), node);
    Ok(())
}

fn value_and_keys_below(leaf: &str, longer: &str) -> WriteConfigurationError {
    WriteConfigurationError::ValueAndKeysBelow {
        leaf: leaf.to_owned(),
        longer: longer.to_owned(),
    }
}

fn first_leaf(map: &BTreeMap<String, BlockNode>) -> String {
    match map.iter().next() {
        Some((key, BlockNode::Map(below))) => format!("{key}.{}", first_leaf(below)),
        Some((key, _)) => key.clone(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn file() -> Origin {
        Origin::File("config.yaml".to_owned())
    }

    #[test]
    fn a_key_that_no_reader_would_follow_is_not_written() {
        let mut configuration = FlinkConfiguration::new();
        let key = |parts: usize| vec!["a"; parts].join(".");
        configuration.set(key(MAX_DEPTH), "x", Origin::CommandLine);
        let written = configuration.to_yaml().unwrap();
        assert!(FlinkConfiguration::from_yaml(&written, &file()).is_ok());
        configuration.set(key(MAX_DEPTH + 1), "x", Origin::CommandLine);
        configuration.remove_key(&key(MAX_DEPTH));
        assert!(configuration.to_yaml().unwrap_err().to_string().contains("a.a.a"));
    }

    fn settings(configuration: &FlinkConfiguration) -> Vec<(String, String)> {
        configuration
            .iter()
            .map(|(key, setting)| (key.to_owned(), setting.text.clone()))
            .collect()
    }

    fn of(entries: &[(&str, &str)]) -> FlinkConfiguration {
        let mut configuration = FlinkConfiguration::new();
        for (key, text) in entries {
            configuration.set(*key, *text, Origin::CommandLine);
        }
        configuration
    }

    #[test]
    fn nested_and_dotted_keys_mix_and_the_last_one_wins() {
        let configuration =
            FlinkConfiguration::from_yaml("a:\n  b: 1\na.b: 2\n'a.c':\n  d: 3", &file()).unwrap();
        let expected = [("a.b", "2"), ("a.c.d", "3")].map(|(key, text)| (key.to_owned(), text.to_owned()));
        assert_eq!(settings(&configuration), expected);
    }

    #[test]
    fn a_file_that_flink_refuses_is_refused_and_the_key_is_named() {
        for (text, part) in [
            ("a:\n  b:\n", "a.b has no value"),
            ("a:\n  1: x", "a.1 is not a text"),
            ("- a", "not a YAML map"),
            ("text", "not a YAML map"),
        ] {
            let refusal = FlinkConfiguration::from_yaml(text, &file())
                .unwrap_err()
                .to_string();
            assert!(refusal.contains(part), "{text}: {refusal}");
        }
        let ParseConfigurationError::NotYaml(refusal) =
            FlinkConfiguration::from_yaml("a: 1\na: 2", &file()).unwrap_err()
        else {
            panic!("expected a syntax error");
        };
        assert_eq!(refusal.to_string(), "the key a occurs twice (line 2, column 1)");
    }

    #[test]
    fn flat_lines_know_neither_quotes_nor_nesting() {
        let text = "# comment\njobmanager.rpc.port: 6123 # why\nenv.java.opts: '-Dx: 1'\nbad:1\n  empty: \n";
        let (configuration, ignored) = FlinkConfiguration::from_flat_lines(text, &file());
        let expected = [("env.java.opts", "'-Dx: 1'"), ("jobmanager.rpc.port", "6123")];
        assert_eq!(
            settings(&configuration),
            expected.map(|(key, text)| (key.to_owned(), text.to_owned()))
        );
        assert_eq!(ignored.iter().map(|line| line.number).collect::<Vec<_>>(), [4, 5]);
    }

    #[test]
    fn the_file_is_nested_and_quotes_what_would_be_read_as_something_else() {
        let mut configuration = of(&[
            ("jobmanager.rpc.port", "6123"),
            ("jobmanager.memory.process.size", "1600m"),
            ("a.null", "null"),
            ("a.octal", "017"),
            ("a.float", "1.50"),
            ("a.exact", "1.5"),
            ("a.text", "yes: no"),
            ("a.empty", ""),
            ("a.lines", "x\ny"),
            ("a.looks-like-a-list", "[x]"),
        ]);
        configuration.set_list(
            "pipeline.jars",
            &["local:///opt/job.jar".to_owned()],
            Origin::CommandLine,
        );
        configuration.set_list("pipeline.classpaths", &[], Origin::CommandLine);
        insta::assert_snapshot!(configuration.to_yaml().unwrap(), @r#"
        a:
          empty: ''
          exact: 1.5
          float: '1.50'
          lines: "x\ny"
          looks-like-a-list: '[x]'
          'null': 'null'
          octal: '017'
          text: 'yes: no'
        jobmanager:
          memory:
            process:
              size: 1600m
          rpc:
            port: 6123
        pipeline:
          classpaths: []
          jars:
          - local:///opt/job.jar
        "#);
    }

    #[test]
    fn an_old_key_is_written_under_its_new_name() {
        let configuration = of(&[
            ("kubernetes.container.image", "flink:k8s"),
            ("kubernetes.container.image.pull-policy", "Always"),
            ("env.java.opts", "-Da"),
            ("env.java.opts.all", "-Db"),
        ]);
        insta::assert_snapshot!(configuration.to_yaml().unwrap(), @"
        env:
          java:
            opts:
              all: -Db
        kubernetes:
          container:
            image:
              pull-policy: Always
              ref: flink:k8s
        ");
    }

    #[test]
    fn a_key_with_a_value_and_keys_below_it_is_an_error_that_names_both() {
        for entries in [[("a.b", "1"), ("a.b.c.d", "2")], [("a.b.c.d", "2"), ("a.b", "1")]] {
            let refusal = of(&entries).to_yaml().unwrap_err();
            assert_eq!(refusal, value_and_keys_below("a.b", "a.b.c.d"));
        }
        // `a.b-c` sorts between the two.
        let refusal = of(&[("a.b", "1"), ("a.b-c", "1"), ("a.b.d", "2")])
            .to_yaml()
            .unwrap_err();
        assert_eq!(refusal, value_and_keys_below("a.b", "a.b.d"));
    }

    #[test]
    fn a_dynamic_property_needs_a_key() {
        for text in ["", "=x", " =x"] {
            assert!(parse_dynamic_property(text).is_err(), "{text}");
        }
        assert_eq!(
            parse_dynamic_property("a=b=c").unwrap(),
            ("a".to_owned(), "b=c".to_owned())
        );
        assert_eq!(
            parse_dynamic_property("a=").unwrap(),
            ("a".to_owned(), String::new())
        );
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_the_same_settings(
            entries in proptest::collection::btree_map("[a-z]{1,3}(\\.[a-z\\-#:']{1,3}){0,2}", "\\PC{0,12}|[-0-9.exn ]{0,5}|true|null|~", 0..6)
        ) {
            let configuration: FlinkConfiguration = entries
                .into_iter()
                .map(|(key, text)| (key, Setting { text, origin: file(), is_list: false }))
                .collect();
            if let Ok(text) = configuration.to_yaml() {
                prop_assert_eq!(FlinkConfiguration::from_yaml(&text, &file()), Ok(configuration), "{}", text);
            }
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "([-a-z0-9:\\[\\]{}&*#!|>'\"%@` ,?\\n\\t.]|\\PC){0,40}") {
            let _ = FlinkConfiguration::from_yaml(&text, &file());
        }
    }
}
