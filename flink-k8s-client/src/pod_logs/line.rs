//! Lines with the time at which the node read them.

use std::io;
use std::pin::Pin;

use futures::{AsyncBufRead, AsyncBufReadExt as _};
use jiff::Timestamp;

/// A line, and when it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) at: Option<Timestamp>,
    pub(super) text: String,
}

impl Line {
    /// Reads `2026-11-22T17:00:00.123456789Z text`; a line of any other form has no time.
    pub(super) fn parse(bytes: &[u8]) -> Self {
        let line = String::from_utf8_lossy(bytes);
        let line = line.trim_end_matches(['\n', '\r']);
        let stamped = line.split_once(' ').unwrap_or((line, ""));
        match stamped.0.parse() {
            Ok(at) => Self {
                at: Some(at),
                text: stamped.1.to_owned(),
            },
            Err(_) => Self {
                at: None,
                text: line.to_owned(),
            },
        }
    }
}

/// Reads lines off a log's stream.
pub(super) struct LineReader {
    stream: Pin<Box<dyn AsyncBufRead + Send>>,
}

impl LineReader {
    pub(super) fn new(stream: impl AsyncBufRead + Send + 'static) -> Self {
        Self {
            stream: Box::pin(stream),
        }
    }

    /// The next line; `None` at the end of the stream.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        let mut bytes = Vec::new();
        let read = self.stream.read_until(b'\n', &mut bytes).await?;
        Ok((read > 0).then(|| Line::parse(&bytes)))
    }
}

/// Tells which lines of a stream that was taken up again are new: Kubernetes repeats those of the second in which it
/// was cut.
#[derive(Debug, Default)]
pub(super) struct Resumption {
    last: Option<Timestamp>,
    /// How many lines of that very time are told.
    told: usize,
    /// How many of them are still to be repeated; `None` while nothing is repeated.
    repeated: Option<usize>,
}

impl Resumption {
    /// From when on the log is to be read; the next lines repeat some.
    pub(super) fn resume(&mut self) -> Option<Timestamp> {
        self.repeated = self.last.map(|_| 0);
        self.last
    }

    pub(super) fn is_new(&mut self, line: &Line) -> bool {
        let (Some(at), Some(last)) = (line.at, self.last) else {
            self.last = line.at;
            self.told = 1;
            return true;
        };
        match self.repeated {
            Some(_) if at < last => return false,
            Some(repeated) if at == last && repeated < self.told => {
                self.repeated = Some(repeated + 1);
                return false;
            }
            _ => self.repeated = None,
        }
        if at == last {
            self.told += 1;
        } else {
            // Two streams of one container may swap places; what counts is what was read last.
            self.last = Some(at.max(last));
            self.told = 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: i64, text: &str) -> Line {
        Line {
            at: Some(Timestamp::from_second(1_800_000_000 + second).unwrap()),
            text: text.to_owned(),
        }
    }

    #[test]
    fn a_line_is_parted_from_its_time() {
        let parsed = Line::parse(b"2026-11-22T17:00:00.5Z  INFO a b\r\n");
        assert_eq!((parsed.at.is_some(), parsed.text.as_str()), (true, " INFO a b"));
        let empty = Line::parse(b"2026-11-22T17:00:00.5Z \n");
        assert_eq!((empty.at.is_some(), empty.text.as_str()), (true, ""));
        assert_eq!(Line::parse(b"unable to retrieve \xff").at, None);
    }

    #[test]
    fn a_stream_that_is_taken_up_again_repeats_nothing_and_loses_nothing() {
        let mut resumption = Resumption::default();
        let mut told = Vec::new();
        let mut read = |resumption: &mut Resumption, lines: &[(i64, &'static str)]| {
            for (second, text) in lines {
                if resumption.is_new(&line(*second, text)) {
                    told.push(*text);
                }
            }
        };
        assert_eq!(resumption.resume(), None);
        read(&mut resumption, &[(1, "a"), (2, "b"), (2, "c")]);
        assert_eq!(resumption.resume(), line(2, "").at);
        // Cut between two lines of one time.
        read(
            &mut resumption,
            &[(1, "a"), (2, "b"), (2, "c"), (2, "d"), (3, "e")],
        );
        resumption.resume();
        read(&mut resumption, &[(3, "e"), (4, "f"), (4, "g"), (3, "late")]);
        assert_eq!(told, ["a", "b", "c", "d", "e", "f", "g", "late"]);
    }
}
