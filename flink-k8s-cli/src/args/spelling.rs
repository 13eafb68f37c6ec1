//! Spellings that Flink's users know and clap does not.

use std::ffi::{OsStr, OsString};

use clap::{Arg, Command};

/// What Flink's users write as `-sae`.
const SHUTDOWN_ON_ATTACHED_EXIT: &str = "shutdown-on-attached-exit";

/// What Flink's users write as `-cm`, and as `-rm` before Flink 1.20.
const CLAIM_MODE: &str = "claim-mode";

/// Rewrites long names with one dash, which Flink takes, to two, `-cm` and `-rm` to `--claim-mode`, `-sae` to `--shutdown-on-attached-exit`, `-jc CLASS` to `--job-classname CLASS` and `--on-finish keep-for 10min` to one word, in front of the first
/// argument without a dash: what follows belongs to the job. A `--` there says that no jar follows, where the command
/// could do without one.
pub(crate) fn understood(command: &Command, arguments: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut arguments = arguments.into_iter();
    let mut understood: Vec<OsString> = arguments.next().into_iter().collect();
    let mut command = command;
    while let Some(argument) = arguments.next() {
        let text = argument.to_str().unwrap_or_default();
        if let Some(class) = text.strip_prefix("-jc") {
            understood.push("--job-classname".into());
            let attached = class.strip_prefix('=').unwrap_or(class);
            if attached.is_empty() {
                understood.extend(arguments.next());
            } else {
                understood.push(attached.into());
            }
            continue;
        }
        let name = match text {
            "-sae" => SHUTDOWN_ON_ATTACHED_EXIT,
            "-cm" | "-rm" => CLAIM_MODE,
            _ => text
                .strip_prefix('-')
                .filter(|name| name.len() > 1)
                .unwrap_or_default(),
        };
        let argument = if command.get_arguments().any(|known| is_called(known, name)) {
            OsString::from(format!("--{name}"))
        } else {
            argument
        };
        let text = argument.to_str().unwrap_or_default();
        if !text.starts_with('-') {
            let Some(subcommand) = command.find_subcommand(text) else {
                understood.push(argument);
                break;
            };
            command = subcommand;
            understood.push(argument);
            continue;
        }
        let takes_next = takes_next(command, text);
        if text == "--" {
            if command
                .get_arguments()
                .any(|known| known.get_long() == Some("without-jar"))
            {
                understood.push("--without-jar".into());
            }
            understood.push(argument);
            break;
        }
        let is_on_finish = text == "--on-finish";
        understood.push(argument);
        if !takes_next {
            continue;
        }
        let Some(value) = arguments.next() else { break };
        if is_on_finish && value == OsStr::new("keep-for") {
            let duration = arguments.next().unwrap_or_default();
            understood.push(joined(&value, &duration));
        } else {
            understood.push(value);
        }
    }
    understood.extend(arguments);
    understood
}

fn joined(word: &OsStr, duration: &OsStr) -> OsString {
    [word, OsStr::new("="), duration].into_iter().collect()
}

/// Whether this is one of the option's long names.
fn is_called(argument: &Arg, long: &str) -> bool {
    argument.get_long() == Some(long)
        || argument
            .get_all_aliases()
            .is_some_and(|aliases| aliases.contains(&long))
}

/// Whether the value of this option is the next argument.
fn takes_next(command: &Command, text: &str) -> bool {
    let takes_value = |argument: &&Arg| argument.get_action().takes_values();
    if let Some(long) = text.strip_prefix("--") {
        return command
            .get_arguments()
            .find(|argument| is_called(argument, long))
            .is_some_and(|found| takes_value(&found));
    }
    let mut letters = text.chars().skip(1);
    let (Some(letter), None) = (letters.next(), letters.next()) else {
        return false;
    };
    let is_named = |argument: &&Arg| {
        argument.get_short() == Some(letter)
            || argument
                .get_all_short_aliases()
                .is_some_and(|aliases| aliases.contains(&letter))
    };
    command
        .get_arguments()
        .find(is_named)
        .is_some_and(|found| takes_value(&found))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;
    use crate::args::Arguments;

    fn words(line: &[&str]) -> Vec<String> {
        let arguments = line.iter().map(OsString::from);
        understood(&Arguments::command(), arguments)
            .into_iter()
            .map(|word| word.into_string().unwrap())
            .collect()
    }

    const START: [&str; 3] = ["flink-k8s", "application", "start"];

    fn start(line: &[&str]) -> Vec<String> {
        words(&[&START, line].concat()).split_off(3)
    }

    #[test]
    fn the_two_spellings_are_understood_in_front_of_the_jar() {
        assert_eq!(
            start(&[
                "-jc",
                "org.Main",
                "--on-finish",
                "keep-for",
                "10min",
                "local:///a.jar"
            ]),
            [
                "--job-classname",
                "org.Main",
                "--on-finish",
                "keep-for=10min",
                "local:///a.jar"
            ]
        );
        assert_eq!(start(&["--on-finish", "keep", "x"]), ["--on-finish", "keep", "x"]);
        assert_eq!(start(&["-jc=org.Main"]), ["--job-classname", "org.Main"]);
    }

    #[test]
    fn names_are_taken_as_flink_takes_them() {
        for (line, expected) in [
            (
                &["-rm", "claim", "a.jar", "-rm"][..],
                &["--claim-mode", "claim", "a.jar", "-rm"][..],
            ),
            (
                &["-fromSavepoint", "-n", "a.jar"],
                &["--fromSavepoint", "-n", "a.jar"],
            ),
            (&["-restoreMode", "legacy"], &["--restoreMode", "legacy"]),
            (&["-p", "2", "-d", "-s", "x"], &["-p", "2", "-d", "-s", "x"]),
            (&["-p2", "-Dclass=x", "-sae"], &["-p2", "-Dclass=x", "-sae"]),
        ] {
            assert_eq!(start(line), expected);
        }
        let run = words(&["flink-k8s", "run", "-sae", "-class", "A", "a.jar"]);
        assert_eq!(run[2..], ["--shutdown-on-attached-exit", "--class", "A", "a.jar"]);
    }

    #[test]
    fn nothing_behind_the_jar_or_in_a_value_is_touched() {
        for line in [
            &["local:///a.jar", "-jc", "x", "--on-finish", "keep-for", "1s"][..],
            &["-D", "-jc", "-p", "2", "a.jar", "-jc"],
            &["--class", "-jc", "a.jar"],
        ] {
            assert_eq!(start(line), line);
        }
        assert_eq!(
            start(&["-d", "--", "-jc", "x"]),
            ["-d", "--without-jar", "--", "-jc", "x"]
        );
        let run = ["flink-k8s", "run", "-c", "A", "job.jar", "-jc"];
        assert_eq!(words(&run), run);
    }
}
