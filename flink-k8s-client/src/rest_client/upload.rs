//! Uploading files from disk in constant memory.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, Stream, StreamExt as _};
use reqwest::Method;
use reqwest::multipart::{Form, Part};
use serde::Deserialize;
use tokio::sync::mpsc;
use tokio::time;

use super::{JarId, RestClient, RestError, authorized, decode};

/// How much of a file is read at a time, and how many such chunks are read before they can be sent.
const CHUNK_BYTES: usize = 256 * 1024;
const CHUNKS_AHEAD: usize = 2;
/// An upload during which nothing moves for so long has failed.
const STALL_LIMIT: Duration = Duration::from_secs(60);
/// What file names must end in.
const JAR_SUFFIX: &str = ".jar";
/// The content type that Flink's documentation uses.
const JAR_CONTENT_TYPE: &str = "application/x-java-archive";

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadProgress {
    /// Bytes of the file that were handed to the connection.
    pub sent: u64,
    /// Length of the file.
    pub total: u64,
}

/// Why a jar was not uploaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    /// The file cannot be read.
    #[error("cannot read jar {}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The failure below.
        source: std::io::Error,
    },
    /// Flink accepts only files with this ending.
    #[error("{} is not a jar: Flink accepts only file names that end in .jar", .path.display())]
    NotAJar {
        /// The file.
        path: PathBuf,
    },
    /// It is a directory or a device, or it is empty.
    #[error("{} is not a jar: it is {what}", .path.display())]
    NotAFile {
        /// The file.
        path: PathBuf,
        /// What it is instead.
        what: &'static str,
    },
    /// Nothing moved for a while.
    #[error("the upload of {} stalled after {sent} of {total} bytes", .path.display())]
    Stalled {
        /// The file.
        path: PathBuf,
        /// Bytes that were handed to the connection.
        sent: u64,
        /// Length of the file.
        total: u64,
    },
    /// Flink refused the jar or the connection failed.
    #[error("cannot upload {}", .path.display())]
    Rest {
        /// The file.
        path: PathBuf,
        /// The failure below.
        source: RestError,
    },
}

impl UploadError {
    /// Whether the same upload may succeed later although nobody changes anything. Repeating is harmless:
    /// at worst the JobManager has the jar twice.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreadable { .. } | Self::NotAJar { .. } | Self::NotAFile { .. } => false,
            Self::Stalled { .. } => true,
            Self::Rest { source, .. } => source.is_transient(),
        }
    }
}

#[derive(Deserialize)]
struct UploadAnswer {
    filename: String,
}

impl RestClient {
    /// Uploads a jar. It is read while it is sent, so its size does not matter for memory; `progress` is
    /// called for every chunk.
    ///
    /// # Errors
    ///
    /// See [`UploadError`].
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the JobManager may have the jar; it deletes its jars when it ends.
    pub async fn upload_jar(
        &self,
        path: &Path,
        progress: impl FnMut(UploadProgress) + Send + 'static,
    ) -> Result<JarId, UploadError> {
        self.upload_jar_as(path, jar_file_name(path)?, progress).await
    }

    /// As [`RestClient::upload_jar`], under this file name, which ends in `.jar`.
    pub(crate) async fn upload_jar_as(
        &self,
        path: &Path,
        file_name: String,
        mut progress: impl FnMut(UploadProgress) + Send + 'static,
    ) -> Result<JarId, UploadError> {
        let file = OpenFile::open(path).await.map_err(|problem| {
            let path = path.to_owned();
            match problem {
                FileProblem::Unreadable(source) => UploadError::Unreadable { path, source },
                FileProblem::NotAFile(what) => UploadError::NotAFile { path, what },
            }
        })?;
        let total = file.length();
        let moved = Arc::new(AtomicU64::new(0));
        let content = file.into_body(Arc::clone(&moved), move |sent| {
            progress(UploadProgress { sent, total });
        });
        let part = jar_part(content, total, file_name);

        let failed = |source| UploadError::Rest {
            path: path.to_owned(),
            source,
        };
        let url = self.request(Method::POST, "jars/upload").url;
        let exchange = async {
            // Without the limit of ordinary requests: an upload may take long as long as it moves.
            let request = self
                .http
                .post(url.clone())
                .multipart(Form::new().part("jarfile", part));
            let answer = authorized(request, &self.security)?.send().await;
            let answer = answer.map_err(|source| RestError::from_transport(&Method::POST, &url, source))?;
            decode::<UploadAnswer>(&Method::POST, &url, answer).await
        };
        tokio::select! {
            answer = exchange => Ok(JarId::from_path(&answer.map_err(failed)?.filename)),
            () = stalled(&moved, total, STALL_LIMIT) => {
                let sent = moved.load(Ordering::Relaxed);
                Err(UploadError::Stalled { path: path.to_owned(), sent, total })
            }
        }
    }
}

fn jar_part(content: reqwest::Body, length: u64, file_name: String) -> Part {
    let part = Part::stream_with_length(content, length).file_name(file_name);
    part.mime_str(JAR_CONTENT_TYPE)
        .expect("the content type is a constant that parses")
}

/// A file that is going to be sent.
pub(super) struct OpenFile {
    file: File,
    length: u64,
}

/// Why a file cannot be sent.
pub(super) enum FileProblem {
    Unreadable(io::Error),
    /// What it is instead of a file with content.
    NotAFile(&'static str),
}

impl OpenFile {
    pub(super) async fn open(path: &Path) -> Result<Self, FileProblem> {
        // Opening a pipe would wait for its other end.
        let metadata = tokio::fs::metadata(path).await.map_err(FileProblem::Unreadable)?;
        let length = content_length(&metadata)?;
        let file = tokio::fs::File::open(path)
            .await
            .map_err(FileProblem::Unreadable)?;
        let file = file.into_std().await;
        Ok(Self { file, length })
    }

    pub(super) fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn into_file(self) -> File {
        self.file
    }

    /// The content, read while it is sent. Each chunk is added to `moved`, and `progress` called with the sum.
    pub(super) fn into_body(
        self,
        moved: Arc<AtomicU64>,
        mut progress: impl FnMut(u64) + Send + 'static,
    ) -> reqwest::Body {
        // A file that grows meanwhile is sent as long as it was; one that shrinks breaks the request.
        let content = self.file.take(self.length);
        let chunks = read_ahead(content).inspect(move |chunk| {
            if let Ok(chunk) = chunk {
                let length = chunk.len() as u64;
                progress(moved.fetch_add(length, Ordering::Relaxed) + length);
            }
        });
        reqwest::Body::wrap_stream(chunks)
    }
}

/// The chunks of a file, of which the next ones are read while one is being sent: a thread reads until nobody takes
/// them any more.
fn read_ahead(mut content: io::Take<File>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(CHUNKS_AHEAD);
    tokio::task::spawn_blocking(move || {
        loop {
            let mut chunk = Vec::with_capacity(CHUNK_BYTES);
            let read = Read::by_ref(&mut content)
                .take(CHUNK_BYTES as u64)
                .read_to_end(&mut chunk);
            let is_last = !matches!(read, Ok(length) if length > 0);
            if read.is_ok() && is_last {
                return;
            }
            let taken = sender.blocking_send(read.map(|_| chunk.into()));
            if is_last || taken.is_err() {
                return;
            }
        }
    });
    stream::unfold(receiver, async |mut receiver| {
        let chunk = receiver.recv().await?;
        Some((chunk, receiver))
    })
}

/// Returns when the count has not changed for [`STALL_LIMIT`], or, once all of `total` is sent, when no answer has come
/// for `answer_limit`.
pub(crate) async fn stalled(moved: &AtomicU64, total: u64, answer_limit: Duration) {
    let mut before = moved.load(Ordering::Relaxed);
    while before < total {
        time::sleep(STALL_LIMIT).await;
        let now = moved.load(Ordering::Relaxed);
        if now == before {
            return;
        }
        before = now;
    }
    time::sleep(answer_limit).await;
}

/// The name that the JobManager gets to see: what cannot stand in a header without tricks is replaced.
pub(crate) fn jar_file_name(path: &Path) -> Result<String, UploadError> {
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    // Flink compares with the case.
    if name.strip_suffix(JAR_SUFFIX).is_none_or(str::is_empty) {
        return Err(UploadError::NotAJar {
            path: path.to_owned(),
        });
    }
    Ok(plain_name(&name))
}

/// A name with what cannot stand in a header replaced.
pub(super) fn plain_name(name: &str) -> String {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "._-+ ".contains(letter);
    name.chars()
        .map(|letter| if plain(letter) { letter } else { '_' })
        .collect()
}

fn content_length(metadata: &Metadata) -> Result<u64, FileProblem> {
    Err(FileProblem::NotAFile(match metadata {
        directory if directory.is_dir() => "a directory",
        other if !other.is_file() => "not a regular file",
        empty if empty.len() == 0 => "empty",
        file => return Ok(file.len()),
    }))
}
