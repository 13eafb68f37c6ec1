//! Rules of this repository that neither rustfmt nor clippy knows.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

use crate::terminal::Terminal;

/// Lines that a source file may have besides its tests.
const MAX_LINES: usize = 600;
/// Names that say nothing about what is in a file.
const EMPTY_NAMES: [&str; 6] = ["common", "helper", "helpers", "misc", "util", "utils"];
/// What stands for code that is still to be written.
const UNFINISHED: &str = concat!("unimplement", "ed!(");
/// Texts that must not be committed, written so that this file does not contain them.
const FORBIDDEN_TEXTS: [(&str, &str); 7] = [
    (
        concat!("to", "do!("),
        "finish it, or say in an error what does not work",
    ),
    (
        concat!("unimplement", "ed!("),
        "finish it, or say in an error what does not work",
    ),
    (concat!("FIX", "ME"), "fix it, or describe the limit"),
    (concat!("/ro", "ot/"), "this path exists on one machine only"),
    (concat!("/wo", "rk/main"), "this path exists on one machine only"),
    (
        concat!("/wo", "rk/shared"),
        "this path exists on one machine only",
    ),
    (concat!("<<<<", "<<< "), "this is a conflict that nobody resolved"),
];
/// Crates of this workspace, and what they must not depend on outside of tests.
const FORBIDDEN_DEPENDENCIES: [(&str, &[&str]); 5] = [
    (
        "flink-k8s-core",
        &[
            "tokio",
            "kube",
            "reqwest",
            "hyper",
            "flink-k8s-client",
            "flink-k8s-rm",
            "flink-k8s-local",
            "anyhow",
        ],
    ),
    (
        "flink-k8s-client",
        &[
            "clap",
            "anyhow",
            "flink-k8s-rm",
            "flink-k8s-cli",
            "flink-k8s-local",
        ],
    ),
    (
        "flink-k8s-rm",
        &[
            "clap",
            "anyhow",
            "flink-k8s-cli",
            "flink-k8s-local",
            "flink-k8s-entrypoint",
        ],
    ),
    ("flink-k8s-entrypoint", &["flink-k8s-cli", "flink-k8s-local"]),
    (
        "flink-k8s-local",
        &[
            "clap",
            "anyhow",
            "flink-k8s-core",
            "flink-k8s-client",
            "flink-k8s-rm",
            "flink-k8s-cli",
        ],
    ),
];

/// Where errors are part of a library's interface; first that of core.
const ERRORS_OF: [&str; 3] = ["flink-k8s-core/src", "flink-k8s-client/src", "flink-k8s-rm/src"];

/// Checks all files of the workspace.
///
/// # Errors
///
/// Names every place that breaks a rule.
pub(crate) fn run(root: &Path, terminal: Terminal) -> anyhow::Result<()> {
    let mut files = Vec::new();
    collect(root, root, &mut files)?;
    files.sort();
    let mut violations = Vec::new();
    for file in &files {
        let bytes =
            std::fs::read(root.join(file)).with_context(|| format!("cannot read {}", file.display()))?;
        // What is not text has no lines to check.
        if let Ok(text) = String::from_utf8(bytes) {
            check(root, file, &text, &mut violations);
        }
    }
    if violations.is_empty() {
        terminal.note(format_args!("{} files are tidy", files.len()));
        return Ok(());
    }
    bail!("not tidy:\n  {}", violations.join("\n  "))
}

/// All files below the directory but for what cargo and git own.
fn collect(root: &Path, directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let cannot = || format!("cannot list {}", directory.display());
    for entry in std::fs::read_dir(directory).with_context(cannot)? {
        let entry = entry.with_context(cannot)?;
        let (path, name) = (entry.path(), entry.file_name());
        let kind = entry.file_type().with_context(cannot)?;
        let is_generated = ["target", "corpus", "artifacts"]
            .iter()
            .any(|other| name == *other)
            && directory.join("Cargo.toml").is_file();
        // In a linked worktree it is a file.
        if name == ".git" || is_generated {
            continue;
        }
        if kind.is_dir() {
            collect(root, &path, files)?;
        } else if kind.is_file() {
            files.push(path.strip_prefix(root)?.to_owned());
        }
    }
    Ok(())
}

fn check(root: &Path, file: &Path, text: &str, violations: &mut Vec<String>) {
    let extension = file
        .extension()
        .and_then(|extension| extension.to_str())
        .unwrap_or_default();
    let name = file
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    let mut violation = |line: Option<usize>, message: String| {
        let line = line.map_or(String::new(), |line| format!(":{}", line + 1));
        violations.push(format!("{}{line}: {message}", file.display()));
    };
    // Others write these files.
    if name == "Cargo.lock" || name == "LICENSE" || ["snap", "new"].contains(&extension) {
        return;
    }
    let own_lines = lines_without_tests(file, text);
    if !text.is_empty() && !text.ends_with('\n') {
        violation(None, "does not end with a line break".to_owned());
    }
    for (number, line) in text.lines().enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            violation(Some(number), "white space at the end of the line".to_owned());
        }
        for (forbidden, advice) in FORBIDDEN_TEXTS {
            // A fake in a test may leave out what its test does not call.
            let in_test_fake = forbidden == UNFINISHED && number >= own_lines;
            if line.contains(forbidden) && !in_test_fake {
                violation(Some(number), format!("{forbidden:?}: {advice}"));
            }
        }
    }
    match extension {
        "rs" => {
            let stem = name.trim_end_matches(".rs");
            if EMPTY_NAMES.contains(&stem) || stem == "mod" {
                violation(None, "name the file after what is in it".to_owned());
            }
            if ERRORS_OF.iter().any(|source| file.starts_with(source)) {
                for (number, message) in unfinished_errors(file, text) {
                    violation(Some(number), message);
                }
            }
            let lines = lines_without_tests(file, text);
            if lines > MAX_LINES {
                violation(
                    None,
                    format!("{lines} lines without tests, at most {MAX_LINES}: split it by concept"),
                );
            }
        }
        "md" => {
            for (line, target) in broken_links(root, file, text) {
                violation(Some(line), format!("the link to {target} leads nowhere"));
            }
        }
        "toml" if name == "Cargo.toml" => {
            for message in manifest_violations(text) {
                violation(None, message);
            }
        }
        _ => {}
    }
}

/// Lines up to the module of unit tests; none for files that are tests as a whole.
fn lines_without_tests(file: &Path, text: &str) -> usize {
    let is_test = file.components().any(|part| part.as_os_str() == "tests") || file.ends_with("tests.rs");
    if is_test {
        return 0;
    }
    let lines: Vec<&str> = text.lines().collect();
    let tests = lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests"));
    tests.unwrap_or(lines.len())
}

/// Public enums of errors to which no variant can be added, or of which a caller does not learn whether to try again.
///
/// What is wrong with a value (`Invalid...` and the like) will be wrong the next time; other errors are named `...Error`,
/// and those of core, which calls nobody, belong to its ports.
fn unfinished_errors(file: &Path, text: &str) -> Vec<(usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let calls_nobody = file.starts_with(ERRORS_OF[0])
        && !file.starts_with("flink-k8s-core/src/kube_client")
        && !file.ends_with("cluster_descriptor.rs");
    let mut found = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let Some(rest) = line.strip_prefix("pub enum ") else {
            continue;
        };
        let name = rest
            .split(|letter: char| !letter.is_alphanumeric())
            .next()
            .unwrap_or_default();
        let attributes: Vec<&&str> = lines[..number]
            .iter()
            .rev()
            .take_while(|line| line.starts_with('#'))
            .collect();
        if !attributes
            .iter()
            .any(|attribute| attribute.contains("thiserror::Error"))
        {
            continue;
        }
        if !attributes
            .iter()
            .any(|attribute| **attribute == "#[non_exhaustive]")
        {
            found.push((number, format!("{name} is an error: make it #[non_exhaustive]")));
        }
        let implementation = format!("impl {name} {{");
        let own = lines
            .iter()
            .skip_while(|line| **line != implementation)
            .take_while(|line| **line != "}");
        let says = own
            .into_iter()
            .any(|line| line.trim_start().starts_with("pub fn is_transient("));
        if name.ends_with("Error") && !calls_nobody && !says {
            let advice = "say whether the same call may succeed later: pub fn is_transient";
            found.push((number, format!("{name} is an error: {advice}")));
        }
    }
    found
}

/// Links to files that do not exist, with their lines.
fn broken_links(root: &Path, file: &Path, text: &str) -> Vec<(usize, String)> {
    let directory = root.join(file.parent().unwrap_or(Path::new("")));
    let mut broken = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let target = rest.split([')', '#', ' ']).next().unwrap_or_default();
            let leads_to_file =
                !target.is_empty() && !target.contains("://") && !target.starts_with("mailto:");
            if leads_to_file && !directory.join(target).exists() {
                broken.push((number, target.to_owned()));
            }
        }
    }
    broken
}

fn manifest_violations(text: &str) -> Vec<String> {
    let mut violations = Vec::new();
    let mut section = "";
    let mut package = "";
    let mut lints = false;
    let mut is_workspace = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            section = line;
            is_workspace |= line == "[workspace]";
        }
        let (key, value) = line
            .split_once('=')
            .map_or((line, ""), |(key, value)| (key.trim(), value.trim()));
        match section {
            "[package]" if key == "name" => package = value.trim_matches('"'),
            "[lints]" if key == "workspace" && value == "true" => lints = true,
            "[dependencies]" => {
                let dependency = key.split('.').next().unwrap_or(key);
                let forbidden = FORBIDDEN_DEPENDENCIES.iter().find(|(name, _)| *name == package);
                if forbidden.is_some_and(|(_, names)| names.contains(&dependency)) {
                    violations.push(format!("{package} must not depend on {dependency}"));
                }
            }
            _ => {}
        }
    }
    // A package that is a workspace of its own, as fuzz targets are, has nowhere to take them from.
    if !package.is_empty() && !lints && !is_workspace {
        violations.push("takes no lints from the workspace: add [lints] workspace = true".to_owned());
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;

    fn violations(file: &str, text: &str) -> Vec<String> {
        let mut violations = Vec::new();
        check(Path::new("/nowhere"), Path::new(file), text, &mut violations);
        violations
    }

    #[test]
    fn tests_do_not_count_as_lines_of_a_file() {
        let code = "fn f() {}\n".repeat(MAX_LINES);
        let tests = "#[cfg(test)]\nmod tests {\n}\n";
        assert!(violations("a/src/b.rs", &format!("{code}{tests}")).is_empty());
        let long = format!("{code}\n{tests}");
        assert_eq!(
            violations("a/src/b.rs", &long),
            ["a/src/b.rs: 601 lines without tests, at most 600: split it by concept"]
        );
        assert!(violations("a/tests/b.rs", &long).is_empty());
    }

    #[test]
    fn each_rule_names_file_and_line() {
        let machine = concat!("see /wo", "rk/main\n");
        for (file, text, expected) in [
            (
                "a/src/utils.rs",
                "",
                "a/src/utils.rs: name the file after what is in it",
            ),
            ("a.md", "a\nb \n", "a.md:2: white space at the end of the line"),
            ("a.md", "[x](y.md)\n", "a.md:1: the link to y.md leads nowhere"),
            ("a.md", "x", "a.md: does not end with a line break"),
            (
                "a.md",
                machine,
                concat!("a.md:1: \"/wo", "rk/main\": this path exists on one machine only"),
            ),
        ] {
            assert_eq!(violations(file, text), [expected]);
        }
        assert!(violations("a.md", "[x](https://example.org/y) [y](#z)\n").is_empty());
    }

    #[test]
    fn errors_of_the_libraries_can_grow_and_say_whether_to_try_again() {
        let error = "#[derive(Debug, thiserror::Error)]\n#[non_exhaustive]\npub enum CallError {\n}\n";
        let says = "impl CallError {\n    pub fn is_transient(&self) -> bool {\n        false\n    }\n}\n";
        let client = "flink-k8s-client/src/a.rs";
        assert!(violations(client, &format!("{error}\n{says}")).is_empty());
        let silent =
            "a.rs:3: CallError is an error: say whether the same call may succeed later: pub fn is_transient";
        assert_eq!(
            violations(client, error),
            [format!("flink-k8s-client/src/{silent}")]
        );
        assert!(
            violations("flink-k8s-core/src/a.rs", error).is_empty(),
            "core calls nobody"
        );
        let closed = error
            .replace("#[non_exhaustive]\n", "")
            .replace("CallError", "InvalidName");
        assert_eq!(
            violations("flink-k8s-core/src/a.rs", &closed),
            ["flink-k8s-core/src/a.rs:2: InvalidName is an error: make it #[non_exhaustive]"]
        );
        assert!(violations("flink-k8s-cli/src/a.rs", &closed).is_empty());
    }

    #[test]
    fn dependencies_point_one_way() {
        let manifest = "[package]\nname = \"flink-k8s-core\"\n[dependencies]\nkube.workspace = true\n\
            [dev-dependencies]\ntokio.workspace = true\n[lints]\nworkspace = true\n";
        assert_eq!(
            violations("Cargo.toml", manifest),
            ["Cargo.toml: flink-k8s-core must not depend on kube"]
        );
        let manifest = "[package]\nname = \"x\"\n";
        let expected = "Cargo.toml: takes no lints from the workspace: add [lints] workspace = true";
        assert_eq!(violations("Cargo.toml", manifest), [expected]);
        assert!(violations("fuzz/Cargo.toml", "[package]\nname = \"x\"\n[workspace]\n").is_empty());
    }
}
