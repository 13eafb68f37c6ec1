//! The id of the job in a serialized graph, found without a Java.

use std::io::{self, Read};

use flink_k8s_core::job_id::JobId;

/// How every stream of Java's object serialization begins.
const STREAM: [u8; 4] = [0xac, 0xed, 0x00, 0x05];
const OBJECT: u8 = 0x73;
const CLASS: u8 = 0x72;
const REFERENCE: u8 = 0x71;
const NULL: u8 = 0x70;
const END_OF_CLASS: u8 = 0x78;
/// The class of the id, which has no field of its own.
const JOB_ID: &str = "org.apache.flink.api.common.JobID";
/// Its superclass, whose fields are the id's 16 bytes in order.
const ABSTRACT_ID: &str = "org.apache.flink.util.AbstractID";
const FIELDS: [&str; 2] = ["lowerPart", "upperPart"];
/// Bytes of a class's `serialVersionUID`, and of its flags and the number of its fields.
const VERSION: usize = 8;
const FLAGS: usize = 3;
/// Bytes of a reference to a class that the stream had before.
const HANDLE: usize = 4;
/// More than the description of both classes and the id take.
const LONGEST: usize = 256;
/// How much is read at a time.
const CHUNK: u64 = 64 * 1024;

/// The id of the job, or what is missing to make the stream a job graph. The stream is read up to the id.
pub(super) fn job_id(stream: &mut impl Read) -> io::Result<Result<JobId, &'static str>> {
    let mut chunk = Vec::new();
    Read::by_ref(stream).take(CHUNK).read_to_end(&mut chunk)?;
    if !chunk.starts_with(&STREAM) {
        return Ok(Err("it is not what Java's ObjectOutputStream writes"));
    }
    let mut search = JobIdSearch::default();
    loop {
        if let Some(job_id) = search.feed(&chunk) {
            return Ok(Ok(job_id));
        }
        chunk.clear();
        if search.is_over() || Read::by_ref(stream).take(CHUNK).read_to_end(&mut chunk)? == 0 {
            return Ok(Err(if search.is_begun() {
                "the id of its job is written in an unknown way"
            } else {
                "there is no id of a job in it"
            }));
        }
    }
}

/// Looks for the id of a job in a stream that comes in pieces, and may have other things before and after it.
#[derive(Debug, Default)]
pub(crate) struct JobIdSearch {
    /// What the id may begin in; from the beginning of its class on, once that is found.
    window: Vec<u8>,
    state: State,
}

#[derive(Clone, Copy, Debug, Default)]
enum State {
    #[default]
    Looking,
    /// The class is there, but not yet all that follows.
    Begun,
    Found(JobId),
    /// It is written in an unknown way.
    GivenUp,
}

impl JobIdSearch {
    /// Looks at the next piece; the id, once it is known.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Option<JobId> {
        if !self.is_over() {
            self.window.extend_from_slice(piece);
            self.look();
        }
        match self.state {
            State::Found(job_id) => Some(job_id),
            State::Looking | State::Begun | State::GivenUp => None,
        }
    }

    /// Whether more pieces make no difference.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.state, State::Found(_) | State::GivenUp)
    }

    fn is_begun(&self) -> bool {
        !matches!(self.state, State::Looking)
    }

    fn look(&mut self) {
        let mut wanted = vec![OBJECT, CLASS];
        wanted.extend(name(JOB_ID));
        if matches!(self.state, State::Looking) {
            let found = self
                .window
                .windows(wanted.len())
                .position(|bytes| bytes == wanted);
            // The next piece may have the other half.
            let passed = found.unwrap_or_else(|| (self.window.len() + 1).saturating_sub(wanted.len()));
            self.window.drain(..passed);
            if found.is_none() {
                return;
            }
            self.state = State::Begun;
        }
        let rest = &self.window[wanted.len()..];
        if let Some(job_id) = id_after(rest) {
            self.state = State::Found(job_id);
        } else if rest.len() >= LONGEST {
            self.state = State::GivenUp;
        } else {
            return;
        }
        self.window = Vec::new();
    }
}

/// The rest of the class's description, that of its superclass, and the fields.
fn id_after(bytes: &[u8]) -> Option<JobId> {
    let rest = bytes.get(VERSION + FLAGS..)?;
    let rest = rest.strip_prefix(&[END_OF_CLASS])?;
    let values = match rest.split_first()? {
        (&REFERENCE, rest) => rest.get(HANDLE..)?,
        (&CLASS, rest) => {
            let rest = rest
                .strip_prefix(&name(ABSTRACT_ID)[..])?
                .get(VERSION + FLAGS..)?;
            let fields: Vec<u8> = FIELDS
                .iter()
                .flat_map(|field| std::iter::once(b'J').chain(name(field)))
                .collect();
            rest.strip_prefix(&fields[..])?
                .strip_prefix(&[END_OF_CLASS, NULL])?
        }
        _ => return None,
    };
    Some(JobId::from_bytes(values.get(..16)?.try_into().ok()?))
}

/// A name as Java writes it: its length in two bytes, and its letters.
fn name(name: &str) -> Vec<u8> {
    let length = u16::try_from(name.len()).expect("our names are short");
    [&length.to_be_bytes(), name.as_bytes()].concat()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    const ID: [u8; 16] = [
        0x80, 0x99, 0xc1, 0xd8, 0xe3, 0xa2, 0xb4, 0xf5, 0x06, 0x17, 0x28, 0x38, 0x39, 0x40, 0xa1, 0xb2,
    ];

    /// A stream with such an id behind so many other bytes, as Java writes it.
    pub(crate) fn graph(id: [u8; 16], before: usize) -> Vec<u8> {
        let mut stream = STREAM.to_vec();
        stream.extend(vec![b'x'; before]);
        stream.extend([OBJECT, CLASS]);
        stream.extend(name(JOB_ID));
        stream.extend([1; VERSION]);
        stream.extend([2, 0, 0, END_OF_CLASS, CLASS]);
        stream.extend(name(ABSTRACT_ID));
        stream.extend([1; VERSION]);
        stream.extend([2, 0, 2]);
        for field in FIELDS {
            stream.push(b'J');
            stream.extend(name(field));
        }
        stream.extend([END_OF_CLASS, NULL]);
        stream.extend(id);
        stream.extend(b"and so on");
        stream
    }

    fn found(stream: &[u8]) -> Result<String, &'static str> {
        job_id(&mut &stream[..]).unwrap().map(|id| id.to_string())
    }

    #[test]
    fn the_id_is_found_wherever_it_is_in_the_stream() {
        let chunk = usize::try_from(CHUNK).unwrap();
        for before in [
            0,
            1000,
            chunk - 100,
            chunk - 40,
            chunk - 6,
            chunk - 5,
            chunk - 1,
            chunk,
            3 * chunk,
        ] {
            let id = found(&graph(ID, before));
            assert_eq!(id.as_deref(), Ok("8099c1d8e3a2b4f5061728383940a1b2"), "{before}");
        }
    }

    #[test]
    fn a_superclass_that_was_described_before_is_a_reference() {
        let mut stream = [&STREAM[..], &[OBJECT, CLASS], &name(JOB_ID), &[1; VERSION]].concat();
        stream.extend([2, 0, 0, END_OF_CLASS, REFERENCE, 0, 0x7e, 0, 5]);
        stream.extend(ID);
        assert_eq!(found(&stream).as_deref(), Ok("8099c1d8e3a2b4f5061728383940a1b2"));
    }

    #[test]
    fn what_is_no_graph_is_told_from_one_that_is_written_otherwise() {
        assert_eq!(
            found(b"PK"),
            Err("it is not what Java's ObjectOutputStream writes")
        );
        assert_eq!(found(&STREAM), Err("there is no id of a job in it"));
        let mut cut = graph(ID, 0);
        cut.truncate(cut.len() - 20);
        assert_eq!(found(&cut), Err("the id of its job is written in an unknown way"));
    }
}
