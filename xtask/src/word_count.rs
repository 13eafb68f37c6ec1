//! The words of a text, counted in Rust: what the `WordCount` job's result is compared with.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, bail, ensure};

/// How often each word occurs.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Counts runs of ASCII letters and digits; upper case counts as lower case.
pub(crate) fn count_words(text: &[u8]) -> Counts {
    let mut counts = Counts::new();
    let words = text
        .split(|byte| !byte.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty());
    for word in words {
        let word: String = word
            .iter()
            .map(|byte| char::from(byte.to_ascii_lowercase()))
            .collect();
        *counts.entry(word).or_default() += 1;
    }
    counts
}

/// Reads what the job wrote: lines `word count` in the files `part-*` of a directory.
///
/// # Errors
///
/// The directory has no such file, a line has another form, or a word occurs twice: the job must write
/// each word once.
pub(crate) fn read_result(directory: &Path) -> anyhow::Result<Counts> {
    let mut counts = Counts::new();
    let mut files = 0;
    let entries = std::fs::read_dir(directory)
        .with_context(|| format!("the job left no result in {}", directory.display()))?;
    for entry in entries {
        let entry = entry.with_context(|| format!("cannot list {}", directory.display()))?;
        // Names that begin with a dot are files that the sink has not committed.
        if !entry.file_name().to_string_lossy().starts_with("part-") {
            continue;
        }
        files += 1;
        let file = entry.path();
        let text =
            std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        for line in text.lines() {
            let parsed = line
                .split_once(' ')
                .and_then(|(word, count)| Some((word, count.parse().ok()?)));
            let Some((word, count)) = parsed else {
                bail!(
                    "{} has the line {line:?} where a word and its count should be",
                    file.display()
                );
            };
            ensure!(
                counts.insert(word.to_owned(), count).is_none(),
                "the job wrote the word {word:?} twice, a second time in {}",
                file.display()
            );
        }
    }
    ensure!(
        files > 0,
        "the job left no result in {}: no file is named part-*",
        directory.display()
    );
    Ok(counts)
}

/// Fails with the first differences unless both counts are the same.
pub(crate) fn ensure_equal(expected: &Counts, actual: &Counts) -> anyhow::Result<()> {
    let mut words: Vec<&String> = expected.keys().chain(actual.keys()).collect();
    words.sort();
    words.dedup();
    let differences: Vec<String> = words
        .into_iter()
        .filter(|word| expected.get(*word) != actual.get(*word))
        .map(|word| {
            let times = |counts: &Counts| {
                counts
                    .get(word)
                    .map_or("not at all".to_owned(), |count| format!("{count} times"))
            };
            format!(
                "{word:?} is there {}, the job says {}",
                times(expected),
                times(actual)
            )
        })
        .collect();
    ensure!(
        differences.is_empty(),
        "the job's result is wrong for {} words of {}: {}",
        differences.len(),
        expected.len(),
        differences
            .iter()
            .take(5)
            .map(String::as_str)
            .collect::<Vec<_>>()
            .join("; ")
    );
    Ok(())
}

/// The most frequent words, the most frequent first, equally frequent ones in alphabetical order.
pub(crate) fn most_frequent(counts: &Counts, number: usize) -> Vec<(&str, u64)> {
    let mut words: Vec<(&str, u64)> = counts
        .iter()
        .map(|(word, count)| (word.as_str(), *count))
        .collect();
    words.sort_by_key(|&(word, count)| (std::cmp::Reverse(count), word));
    words.truncate(number);
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts<const N: usize>(words: [(&str, u64); N]) -> Counts {
        words.map(|(word, count)| (word.to_owned(), count)).into()
    }

    #[test]
    fn words_are_runs_of_ascii_letters_and_digits_in_lower_case() {
        let text = "Flink, flink-k8s: FLINK 2.1!\r\nna\u{ef}ve caf\u{e9} \u{212a}elvin".as_bytes();
        let expected = counts([
            ("1", 1),
            ("2", 1),
            ("caf", 1),
            ("elvin", 1),
            ("flink", 3),
            ("k8s", 1),
            ("na", 1),
            ("ve", 1),
        ]);
        assert_eq!(count_words(text), expected);
        assert!(count_words(b"").is_empty());
    }

    #[test]
    fn a_result_is_read_from_all_committed_files_and_from_no_others() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("part-a-0"), "flink 3\nk8s 1\n").unwrap();
        std::fs::write(directory.path().join("part-b-0"), "two 2\n").unwrap();
        std::fs::write(directory.path().join(".part-c-0.inprogress"), "two 7\n").unwrap();
        let result = read_result(directory.path()).unwrap();
        assert_eq!(result, counts([("flink", 3), ("k8s", 1), ("two", 2)]));
    }

    #[test]
    fn a_result_with_a_word_twice_or_a_broken_line_or_nothing_is_refused() {
        for (content, message) in [
            (Some("a 1\na 1\n"), "the job wrote the word \"a\" twice"),
            (
                Some("a one\n"),
                "has the line \"a one\" where a word and its count should be",
            ),
            (None, "no file is named part-*"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            if let Some(content) = content {
                std::fs::write(directory.path().join("part-0"), content).unwrap();
            }
            let error = read_result(directory.path()).unwrap_err().to_string();
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn a_difference_names_the_word_and_both_counts() {
        let expected = counts([("a", 1), ("b", 2)]);
        assert!(ensure_equal(&expected, &expected).is_ok());
        let error = ensure_equal(&expected, &counts([("a", 1), ("b", 3), ("c", 1)]))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "the job's result is wrong for 2 words of 2: \"b\" is there 2 times, the job says 3 times; \
             \"c\" is there not at all, the job says 1 times"
        );
    }

    #[test]
    fn equally_frequent_words_come_in_alphabetical_order() {
        let counts = counts([("b", 2), ("a", 2), ("c", 5), ("d", 1)]);
        assert_eq!(most_frequent(&counts, 3), [("c", 5), ("a", 2), ("b", 2)]);
    }
}
