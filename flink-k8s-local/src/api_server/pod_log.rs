//! `pods/log`: what the node agent wrote down of a container's output.
//!
//! The agent writes plain lines to `<log directory>/<namespace>_<pod>_<uid>/<container>/<restart>.log`. Lines carry no
//! times: `sinceSeconds` looks at the time of the last write, and `timestamps` shows it.

use std::{
    io::{self, SeekFrom},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures::stream;
use http::{HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
    time::{Instant, sleep},
};

use super::{
    Server, kinds, read,
    request::{Query, Target},
    status::{ApiError, bytes_response},
    write::text,
};

/// How often a followed file is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(100);
/// How long a followed file may still grow after its container has ended.
const SETTLE: Duration = Duration::from_millis(300);
const CHUNK: usize = 64 * 1024;

/// Answers with the log of one container.
pub(crate) fn serve(
    server: &Arc<Server>,
    target: &Target,
    query: &Query,
    method: &Method,
) -> Result<Response, ApiError> {
    if method != Method::GET && method != Method::HEAD {
        return Err(ApiError::method_not_allowed());
    }
    let pod = read::get(server, target)?;
    let container = container_of(&pod.value, query)?;
    let log = Log::find(server, &pod.value, &container, query)?;
    let mut response = bytes_response(StatusCode::OK, Body::from_stream(log.into_stream()));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

fn container_of(pod: &Value, query: &Query) -> Result<String, ApiError> {
    let name = text(pod, "/metadata/name");
    let names_in = |list: &str| -> Vec<String> {
        let containers = pod["spec"][list].as_array().into_iter().flatten();
        containers
            .map(|container| text(container, "/name").to_owned())
            .collect()
    };
    let (containers, init_containers) = (names_in("containers"), names_in("initContainers"));
    if let Some(wanted) = query.get("container") {
        if containers
            .iter()
            .chain(&init_containers)
            .any(|container| container == wanted)
        {
            return Ok(wanted.to_owned());
        }
        return Err(ApiError::bad_request(format!(
            "container {wanted} is not valid for pod {name}"
        )));
    }
    let default = pod["metadata"]["annotations"]["kubectl.kubernetes.io/default-container"].as_str();
    match (default, containers.as_slice()) {
        (Some(default), _) => Ok(default.to_owned()),
        (None, [only]) if init_containers.is_empty() => Ok(only.clone()),
        _ => {
            let mut message = format!(
                "a container name must be specified for pod {name}, choose one of: [{}]",
                containers.join(" ")
            );
            if !init_containers.is_empty() {
                message = format!(
                    "{message} or one of the init containers: [{}]",
                    init_containers.join(" ")
                );
            }
            Err(ApiError::bad_request(message))
        }
    }
}

/// One log and how it shall be read.
struct Log {
    server: Arc<Server>,
    path: PathBuf,
    namespace: String,
    pod: String,
    uid: String,
    container: String,
    restart: i64,
    follow: bool,
    timestamps: bool,
    tail_lines: Option<u64>,
    since_seconds: Option<u64>,
    remaining: Option<u64>,
    file: Option<File>,
    at_line_start: bool,
    ended: Option<Instant>,
}

impl Log {
    fn find(server: &Arc<Server>, pod: &Value, container: &str, query: &Query) -> Result<Self, ApiError> {
        let (namespace, name, uid) = (
            text(pod, "/metadata/namespace"),
            text(pod, "/metadata/name"),
            text(pod, "/metadata/uid"),
        );
        let status = container_status(pod, container);
        let restart = status.and_then(|status| status["restartCount"].as_i64());
        let directory = server
            .log_directory
            .join(format!("{namespace}_{name}_{uid}"))
            .join(container);
        let follow = query.is_set("follow");
        let restart = match (query.is_set("previous"), restart) {
            (true, Some(restart)) if restart > 0 => restart - 1,
            (true, _) => {
                let message =
                    format!("previous terminated container {container:?} in pod {name:?} not found");
                return Err(ApiError::bad_request(message));
            }
            (false, restart) => restart.unwrap_or(0),
        };
        let path = directory.join(format!("{restart}.log"));
        // A container that has not started yet has no file, one that waits for its restart has an earlier one.
        let earlier = directory.join(format!("{}.log", restart - 1));
        let (path, restart) = match (path.is_file(), earlier.is_file()) {
            (false, true) => (earlier, restart - 1),
            (true, _) => (path, restart),
            (false, false) => {
                let has_started = status.is_some_and(|status| {
                    status["state"].get("running").is_some() || status["state"].get("terminated").is_some()
                });
                if !has_started {
                    let reason = status.map_or("ContainerCreating", |status| {
                        text(status, "/state/waiting/reason")
                    });
                    let message =
                        format!("container {container:?} in pod {name:?} is waiting to start: {reason}");
                    return Err(ApiError::bad_request(message));
                }
                (path, restart)
            }
        };
        Ok(Self {
            server: Arc::clone(server),
            path,
            namespace: namespace.to_owned(),
            pod: name.to_owned(),
            uid: uid.to_owned(),
            container: container.to_owned(),
            restart,
            follow,
            timestamps: query.is_set("timestamps"),
            tail_lines: query.number("tailLines")?,
            since_seconds: query.number("sinceSeconds")?,
            remaining: query.number("limitBytes")?,
            file: None,
            at_line_start: true,
            ended: None,
        })
    }

    fn into_stream(self) -> impl futures::Stream<Item = io::Result<Bytes>> {
        stream::unfold(Some(self), |log| async {
            let mut log = log?;
            match log.next_chunk().await {
                Ok(Some(chunk)) => Some((Ok(chunk), Some(log))),
                Ok(None) => None,
                Err(error) => Some((Err(error), None)),
            }
        })
    }

    async fn next_chunk(&mut self) -> io::Result<Option<Bytes>> {
        if self.remaining == Some(0) {
            return Ok(None);
        }
        loop {
            if self.file.is_none() {
                self.file = self.open().await?;
            }
            // Asked before reading: what was written before the end is then read.
            let is_over = self.is_over();
            if let Some(file) = &mut self.file {
                let mut chunk = vec![0; CHUNK];
                let length = file.read(&mut chunk).await?;
                if length > 0 {
                    chunk.truncate(length);
                    return Ok(Some(self.finish(chunk).await));
                }
            }
            if !self.follow || is_over {
                return Ok(None);
            }
            tokio::select! {
                () = sleep(POLL_INTERVAL) => {}
                () = self.server.shutdown.cancelled() => return Ok(None),
            }
        }
    }

    /// Whether nothing more will come.
    fn is_over(&mut self) -> bool {
        let pod = self.server.store.get(kinds::POD, &self.namespace, &self.pod);
        let pod = pod.filter(|pod| text(&pod.value, "/metadata/uid") == self.uid);
        let lives = pod.is_some_and(|pod| {
            container_status(&pod.value, &self.container).is_none_or(|status| self.may_still_write(status))
        });
        if lives {
            self.ended = None;
            return false;
        }
        self.ended.get_or_insert_with(Instant::now).elapsed() >= SETTLE
    }

    /// Whether this run of the container goes on or has yet to start.
    fn may_still_write(&self, status: &Value) -> bool {
        let is_same_run = status["restartCount"].as_i64().unwrap_or(0) == self.restart;
        let is_running = status["state"].get("running").is_some();
        // A container that waits after a run waits for the next one.
        let has_ended =
            status["state"].get("terminated").is_some() || status["lastState"].get("terminated").is_some();
        is_same_run && (is_running || !has_ended)
    }

    async fn open(&self) -> io::Result<Option<File>> {
        let mut file = match File::open(&self.path).await {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let metadata = file.metadata().await?;
        let is_old = self.since_seconds.is_some_and(|seconds| {
            let age = metadata
                .modified()
                .ok()
                .and_then(|time| SystemTime::now().duration_since(time).ok());
            age.is_some_and(|age| age > Duration::from_secs(seconds))
        });
        if is_old {
            file.seek(SeekFrom::End(0)).await?;
        } else if let Some(lines) = self.tail_lines {
            let start = start_of_tail(&self.path, &mut file, metadata.len(), lines).await?;
            file.seek(SeekFrom::Start(start)).await?;
        }
        Ok(Some(file))
    }

    async fn finish(&mut self, chunk: Vec<u8>) -> Bytes {
        let mut chunk = if self.timestamps {
            self.with_times(&chunk).await
        } else {
            chunk
        };
        if let Some(remaining) = &mut self.remaining {
            let length = usize::try_from(*remaining).unwrap_or(usize::MAX).min(chunk.len());
            chunk.truncate(length);
            *remaining -= length as u64;
        }
        chunk.into()
    }

    async fn with_times(&mut self, chunk: &[u8]) -> Vec<u8> {
        let modified = tokio::fs::metadata(&self.path)
            .await
            .and_then(|metadata| metadata.modified());
        let time = modified
            .ok()
            .and_then(|time| jiff::Timestamp::try_from(time).ok())
            .unwrap_or_else(jiff::Timestamp::now);
        let time = time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ ").to_string();
        let mut marked = Vec::with_capacity(chunk.len() * 2);
        for byte in chunk {
            if self.at_line_start {
                marked.extend_from_slice(time.as_bytes());
            }
            marked.push(*byte);
            self.at_line_start = *byte == b'\n';
        }
        marked
    }
}

fn container_status<'a>(pod: &'a Value, container: &str) -> Option<&'a Value> {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let mut statuses = lists
        .iter()
        .filter_map(|list| pod["status"][*list].as_array())
        .flatten();
    statuses.find(|status| text(status, "/name") == container)
}

/// Where the last lines of a file start, found by reading it backwards.
async fn start_of_tail(path: &Path, file: &mut File, length: u64, lines: u64) -> io::Result<u64> {
    if lines == 0 {
        return Ok(length);
    }
    let mut end = length;
    let mut newlines = 0;
    while end > 0 {
        let start = end.saturating_sub(CHUNK as u64);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(CHUNK)];
        file.seek(SeekFrom::Start(start)).await?;
        file.read_exact(&mut block).await.map_err(|error| {
            io::Error::new(error.kind(), format!("cannot read {}: {error}", path.display()))
        })?;
        for (index, byte) in block.iter().enumerate().rev() {
            let position = start + index as u64;
            // The newline at the very end closes the last line and starts none.
            if *byte == b'\n' && position + 1 < length {
                newlines += 1;
                if newlines == lines {
                    return Ok(position + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}
