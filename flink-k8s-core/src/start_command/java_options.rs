//! The Java options that users configure, as words.
//!
//! Upstream's scripts put the options into a shell variable, evaluate it once and let the shell split the
//! result at blanks. Here quotes keep blanks together, which the user who wrote them meant (upstream's second
//! splitting tears them apart), `$NAME` and `${NAME}` stand for variables, and nothing is ever executed: a
//! command substitution stays the text that it is.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::str::Chars;

use super::StartCommandError;
use crate::configuration::{ConfigOption, FlinkConfiguration, common_options};

/// Whose options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    JobManager,
    TaskManager,
    /// Flink's own command line.
    Client,
}

/// All configured options in upstream's order. `FLINK_ENV_JAVA_OPTS` of the environment stands in for the
/// options of all processes.
pub(super) fn words(
    configuration: &FlinkConfiguration,
    role: Role,
    java_major_version: u32,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<String>, StartCommandError> {
    let read = |option: &ConfigOption<String>| -> Result<Vec<String>, StartCommandError> {
        split(&configuration.get(option)?, option.key, variables)
    };
    let preset = variables.get(PRESET).filter(|text| !text.is_empty());
    let mut words = if let Some(preset) = preset {
        split(preset, PRESET, variables)?
    } else {
        let mut words = vec!["-XX:+IgnoreUnrecognizedVMOptions".to_owned()];
        words.extend(read(&common_options::JAVA_DEFAULT_OPTS_ALL)?);
        if configuration.is_configured(&common_options::JAVA_OPTS_ALL) {
            words.extend(read(&common_options::JAVA_OPTS_ALL)?);
        } else if java_major_version >= 9 {
            words.extend(STOCK_OPTIONS.iter().map(|option| (*option).to_owned()));
        }
        if SECURITY_MANAGER_TO_BE_ALLOWED.contains(&java_major_version) {
            words.push("-Djava.security.manager=allow".to_owned());
        }
        words
    };
    let own: &[&ConfigOption<String>] = match role {
        Role::JobManager => &[
            &common_options::JAVA_DEFAULT_OPTS_JOB_MANAGER,
            &common_options::JAVA_OPTS_JOB_MANAGER,
        ],
        Role::TaskManager => &[
            &common_options::JAVA_DEFAULT_OPTS_TASK_MANAGER,
            &common_options::JAVA_OPTS_TASK_MANAGER,
        ],
        Role::Client => &[&common_options::JAVA_OPTS_CLIENT],
    };
    for option in own {
        words.extend(read(option)?);
    }
    Ok(words)
}

const PRESET: &str = "FLINK_ENV_JAVA_OPTS";

/// Between these versions Flink needs leave to install a security manager; from 24 on, Java refuses to start
/// when it is asked for.
const SECURITY_MANAGER_TO_BE_ALLOWED: std::ops::Range<u32> = 18..24;

/// `env.java.opts.all` of the stock configuration files of 1.20 and 2.x together: what the libraries in Flink
/// need of the JVM's internals since Java 9.
const STOCK_OPTIONS: [&str; 20] = [
    "--add-exports=java.base/sun.net.util=ALL-UNNAMED",
    "--add-exports=java.rmi/sun.rmi.registry=ALL-UNNAMED",
    "--add-exports=jdk.compiler/com.sun.tools.javac.api=ALL-UNNAMED",
    "--add-exports=jdk.compiler/com.sun.tools.javac.file=ALL-UNNAMED",
    "--add-exports=jdk.compiler/com.sun.tools.javac.parser=ALL-UNNAMED",
    "--add-exports=jdk.compiler/com.sun.tools.javac.tree=ALL-UNNAMED",
    "--add-exports=jdk.compiler/com.sun.tools.javac.util=ALL-UNNAMED",
    "--add-exports=java.security.jgss/sun.security.krb5=ALL-UNNAMED",
    "--add-opens=java.base/java.lang=ALL-UNNAMED",
    "--add-opens=java.base/java.net=ALL-UNNAMED",
    "--add-opens=java.base/java.io=ALL-UNNAMED",
    "--add-opens=java.base/java.nio=ALL-UNNAMED",
    "--add-opens=java.base/sun.nio.ch=ALL-UNNAMED",
    "--add-opens=java.base/java.lang.reflect=ALL-UNNAMED",
    "--add-opens=java.base/java.text=ALL-UNNAMED",
    "--add-opens=java.base/java.time=ALL-UNNAMED",
    "--add-opens=java.base/java.util=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED",
    "--add-opens=java.base/java.util.concurrent.locks=ALL-UNNAMED",
];

/// The words of `value`; double quotes around the whole of it do not count.
fn split(
    value: &str,
    origin: &'static str,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<String>, StartCommandError> {
    let unmatched = || StartCommandError::UnmatchedQuote {
        origin,
        value: value.to_owned(),
    };
    let mut characters = without_outer_quotes(value).chars().peekable();
    let mut words = Vec::new();
    // `None` between words: an empty pair of quotes is a word too.
    let mut word: Option<String> = None;
    while let Some(character) = characters.next() {
        match character {
            blank if blank.is_whitespace() => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or_else(unmatched)? {
                        '\'' => break,
                        inside => word.push(inside),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next().ok_or_else(unmatched)? {
                        '"' => break,
                        '\\' if matches!(characters.peek(), Some('"' | '\\' | '$' | '`')) => {
                            word.extend(characters.next());
                        }
                        '$' => word.push_str(&variable(&mut characters, variables)),
                        inside => word.push(inside),
                    }
                }
            }
            '\\' => word.get_or_insert_default().extend(characters.next()),
            '$' => {
                let value = variable(&mut characters, variables);
                word.get_or_insert_default().push_str(&value);
            }
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Ok(words)
}

/// The value between double quotes that enclose all of it.
fn without_outer_quotes(value: &str) -> &str {
    let inner = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.filter(|inner| !inner.contains('"')).unwrap_or(value)
}

/// The value of the variable whose name follows a `$`, nothing if it is not set; the `$` itself if no name
/// follows.
fn variable(characters: &mut Peekable<Chars<'_>>, variables: &BTreeMap<String, String>) -> String {
    let is_name = |character: &char| character.is_ascii_alphanumeric() || *character == '_';
    let braced = characters.peek() == Some(&'{');
    let mut ahead = characters.clone();
    if braced {
        ahead.next();
    }
    let mut name = String::new();
    while let Some(character) = ahead.next_if(is_name) {
        name.push(character);
    }
    let closed = !braced || ahead.next_if_eq(&'}').is_some();
    if name.is_empty() || !closed {
        return "$".to_owned();
    }
    *characters = ahead;
    variables.get(&name).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_of(value: &str) -> Vec<String> {
        let variables = [("FLINK_LOG_PREFIX".to_owned(), "/log/a b".to_owned())].into();
        split(value, "env.java.opts.all", &variables).unwrap()
    }

    #[test]
    fn options_are_split_at_blanks_and_quotes_keep_blanks_together() {
        assert_eq!(words_of("-Xmx1g  -Da=b\n-Dc=d"), ["-Xmx1g", "-Da=b", "-Dc=d"]);
        assert_eq!(words_of("-XX:+UseG1GC -Dk='v w'"), ["-XX:+UseG1GC", "-Dk=v w"]);
        assert_eq!(words_of(r#"-Dk="v \"w\" \n" ''"#), ["-Dk=v \"w\" \\n", ""]);
        assert_eq!(words_of(r"a\ b"), ["a b"]);
        assert!(words_of("  ").is_empty());
    }

    #[test]
    fn double_quotes_around_the_whole_value_do_not_make_it_one_word() {
        assert_eq!(words_of(r#""-Da=b -Dc=d""#), ["-Da=b", "-Dc=d"]);
        assert_eq!(words_of(r#""-Da=b" "-Dc=d""#), ["-Da=b", "-Dc=d"]);
    }

    #[test]
    fn variables_are_replaced_but_nothing_is_executed() {
        assert_eq!(
            words_of("-Xlog:gc:${FLINK_LOG_PREFIX}.gc"),
            ["-Xlog:gc:/log/a b.gc"]
        );
        assert_eq!(
            words_of("-Da=$NONE-x '$FLINK_LOG_PREFIX'"),
            ["-Da=-x", "$FLINK_LOG_PREFIX"]
        );
        assert_eq!(
            words_of("-Da=$(id) -Db=`id` -Dc=$ -Dd=${x"),
            ["-Da=$(id)", "-Db=`id`", "-Dc=$", "-Dd=${x"]
        );
    }

    #[test]
    fn an_unmatched_quote_is_refused_with_the_option() {
        let refusal = split("-Dk='v", "env.java.opts.all", &BTreeMap::new())
            .unwrap_err()
            .to_string();
        assert_eq!(
            refusal,
            "the quotes in env.java.opts.all do not match: \"-Dk='v\""
        );
    }
}
