//! Several logs as one, in the order of time.

use std::collections::VecDeque;

use super::LogEvent;
use super::line::{Line, LineReader};

/// Logs that end, as one in the order of time. At most one line of each is held.
#[derive(Default)]
pub struct MergedLogs {
    sources: Vec<Source>,
    unreadable: VecDeque<LogEvent>,
}

struct Source {
    pod: String,
    reader: LineReader,
    next: Option<Line>,
    has_ended: bool,
}

impl MergedLogs {
    pub(super) fn add(&mut self, pod: String, reader: LineReader) {
        self.sources.push(Source {
            pod,
            reader,
            next: None,
            has_ended: false,
        });
    }

    pub(super) fn add_unreadable(&mut self, what: String, reason: String) {
        self.unreadable.push_back(LogEvent::Interrupted { what, reason });
    }

    /// The next line, or what is in the way of one; `None` at the end of all logs.
    ///
    /// # Cancel safety
    ///
    /// Not cancel safe: a line that was read in part is lost.
    pub async fn next(&mut self) -> Option<LogEvent> {
        for source in &mut self.sources {
            if source.next.is_none() && !source.has_ended {
                match source.reader.next().await {
                    Ok(Some(line)) => source.next = Some(line),
                    Ok(None) => source.has_ended = true,
                    Err(error) => {
                        source.has_ended = true;
                        self.unreadable.push_back(LogEvent::Interrupted {
                            what: source.pod.clone(),
                            reason: error.to_string(),
                        });
                    }
                }
            }
        }
        if let Some(event) = self.unreadable.pop_front() {
            return Some(event);
        }
        let readable = self.sources.iter_mut().filter(|source| source.next.is_some());
        // The first of equals: pods keep their order.
        let earliest = readable.min_by_key(|source| source.next.as_ref().and_then(|line| line.at))?;
        let line = earliest.next.take()?;
        Some(LogEvent::Line {
            pod: earliest.pod.clone(),
            line: line.text,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn logs_are_merged_by_time_and_what_cannot_be_read_is_said() {
        let mut merged = MergedLogs::default();
        let log = |text: &'static str| LineReader::new(futures::io::Cursor::new(text));
        merged.add(
            "a".to_owned(),
            log("2026-11-22T17:00:00Z one\n2026-11-22T17:00:02Z three\n"),
        );
        merged.add(
            "b".to_owned(),
            log("2026-11-22T17:00:01Z two\n2026-11-22T17:00:03Z four"),
        );
        merged.add_unreadable("c".to_owned(), "waiting to start".to_owned());
        let mut told = Vec::new();
        while let Some(event) = merged.next().await {
            told.push(match event {
                LogEvent::Line { pod, line } => format!("{pod} {line}"),
                LogEvent::Interrupted { what, reason } => format!("{what}: {reason}"),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(
            told,
            ["c: waiting to start", "a one", "b two", "a three", "b four"]
        );
    }
}
