//! Logs that go on: one task lists the pods, one for each pod reads its log.

use std::collections::HashMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::api::LogParams;
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::task::AbortOnDropHandle;

use super::line::Resumption;
use super::{LogEvent, LogOptions, LogsOf, PodLogs, main_container};

/// How often it is looked for new pods.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Pause before a stream that was cut is taken up again.
const RESUME_AFTER: Duration = Duration::from_secs(1);
/// How many events wait for whoever reads them; then the streams wait.
const WAITING_EVENTS: usize = 256;

/// Logs that are followed; dropping it ends the following.
pub struct FollowedLogs {
    events: mpsc::Receiver<LogEvent>,
    _task: AbortOnDropHandle<()>,
}

impl FollowedLogs {
    pub(super) fn start(logs: PodLogs, options: LogOptions) -> Self {
        let (sender, events) = mpsc::channel(WAITING_EVENTS);
        let task = AbortOnDropHandle::new(tokio::spawn(follow_all(logs, options, sender)));
        Self { events, _task: task }
    }

    /// What happens next; `None` when a single TaskManager was followed to its end.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe.
    pub async fn next(&mut self) -> Option<LogEvent> {
        self.events.recv().await
    }
}

async fn follow_all(logs: PodLogs, options: LogOptions, events: mpsc::Sender<LogEvent>) {
    let mut tasks = JoinSet::new();
    let mut followed: HashMap<String, AbortHandle> = HashMap::new();
    let mut is_first_look = true;
    let mut trouble = None;
    loop {
        match logs.pods(&options.of).await {
            Ok(pods) => {
                trouble = None;
                for pod in pods.into_iter().filter(has_started) {
                    let uid = pod.metadata.uid.clone().unwrap_or_default();
                    if followed.contains_key(&uid) {
                        continue;
                    }
                    let name = pod.metadata.name.clone().unwrap_or_default();
                    let mut wanted = options.clone();
                    if !is_first_look {
                        // All that a new one writes is new.
                        (wanted.tail, wanted.since) = (None, None);
                        if events.send(LogEvent::Began { pod: name.clone() }).await.is_err() {
                            return;
                        }
                    }
                    let one = FollowedPod {
                        logs: logs.clone(),
                        name,
                        uid: uid.clone(),
                        events: events.clone(),
                    };
                    followed.insert(uid, tasks.spawn(one.follow(wanted)));
                }
                is_first_look = false;
            }
            Err(error) => {
                let reason = error.to_string();
                let event = LogEvent::Interrupted {
                    what: "the list of the pods".to_owned(),
                    reason: reason.clone(),
                };
                if trouble.as_ref() != Some(&reason) && events.send(event).await.is_err() {
                    return;
                }
                trouble = Some(reason);
            }
        }
        let is_over = matches!(options.of, LogsOf::TaskManager(_))
            && !followed.is_empty()
            && followed.values().all(AbortHandle::is_finished);
        if is_over {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = events.closed() => return,
            Some(_) = tasks.join_next() => {}
        }
    }
}

/// Whether there is a log to read.
fn has_started(pod: &Pod) -> bool {
    main_container(pod).is_some_and(|status| {
        let state = status.state.clone().unwrap_or_default();
        state.running.is_some() || state.terminated.is_some() || status.restart_count > 0
    })
}

/// What became of the run whose stream ended.
enum Now {
    /// It goes on.
    Running,
    /// It ended, and the pod may start the container again.
    Ended(String),
    /// Another run has begun since, after one that ended like this.
    NextRun(String),
    /// There will be no other run.
    Over(String),
    /// It is not known.
    Unknown(String),
}

struct FollowedPod {
    logs: PodLogs,
    name: String,
    uid: String,
    events: mpsc::Sender<LogEvent>,
}

impl FollowedPod {
    async fn follow(self, options: LogOptions) {
        let mut run = self.present_run().await;
        let mut resumption = Resumption::default();
        let mut parameters = LogParams {
            follow: true,
            ..options.parameters()
        };
        let mut said = None;
        loop {
            let Some(reason) = self.read(&parameters, &mut resumption).await else {
                return;
            };
            // Only what follows the last line is wanted from now on.
            if let Some(last) = resumption.resume() {
                parameters.since_time = Some(last);
                (parameters.since_seconds, parameters.tail_lines) = (None, None);
            }
            let news = match self.now(run).await {
                Now::Running => self.interrupted(reason, &mut said),
                Now::Unknown(reason) => self.interrupted(reason, &mut said),
                Now::Ended(why) => self.ended(why, &mut said),
                Now::NextRun(why) => {
                    run = self.present_run().await;
                    resumption = Resumption::default();
                    (parameters.since_time, parameters.since_seconds) = (None, None);
                    parameters.tail_lines = None;
                    // Unless its end was seen while it waited for the next run.
                    if said.take().is_none()
                        && let Some(event) = self.ended(why, &mut None)
                        && !self.tell(event).await
                    {
                        return;
                    }
                    Some(LogEvent::Began {
                        pod: self.name.clone(),
                    })
                }
                Now::Over(why) => {
                    if let Some(event) = self.ended(why, &mut said) {
                        self.tell(event).await;
                    }
                    return;
                }
            };
            if let Some(event) = news
                && !self.tell(event).await
            {
                return;
            }
            tokio::time::sleep(RESUME_AFTER).await;
        }
    }

    async fn tell(&self, event: LogEvent) -> bool {
        self.events.send(event).await.is_ok()
    }

    /// The same reason is said once.
    fn interrupted(&self, reason: String, said: &mut Option<String>) -> Option<LogEvent> {
        if said.as_ref() == Some(&reason) {
            return None;
        }
        *said = Some(reason.clone());
        Some(LogEvent::Interrupted {
            what: self.name.clone(),
            reason,
        })
    }

    /// The same end is said once.
    fn ended(&self, why: String, said: &mut Option<String>) -> Option<LogEvent> {
        if said.as_ref() == Some(&why) {
            return None;
        }
        *said = Some(why.clone());
        Some(LogEvent::Ended {
            pod: self.name.clone(),
            why,
        })
    }

    /// Reads to the end of the stream and says why it ended; `None` when nobody listens any more.
    async fn read(&self, parameters: &LogParams, resumption: &mut Resumption) -> Option<String> {
        let mut reader = match self.logs.open(&self.name, parameters).await {
            Ok(reader) => reader,
            Err(reason) => return Some(reason),
        };
        loop {
            match reader.next().await {
                Ok(Some(line)) if !resumption.is_new(&line) => {}
                Ok(Some(line)) => {
                    let (pod, line) = (self.name.clone(), line.text);
                    if !self.tell(LogEvent::Line { pod, line }).await {
                        return None;
                    }
                }
                Ok(None) => return Some("the stream ended".to_owned()),
                Err(error) => return Some(error.to_string()),
            }
        }
    }

    async fn pod(&self) -> Result<Option<Pod>, kube::Error> {
        let found = self.logs.api().get_opt(&self.name).await?;
        Ok(found.filter(|pod| pod.metadata.uid.as_deref() == Some(self.uid.as_str())))
    }

    async fn present_run(&self) -> i32 {
        match self.pod().await {
            Ok(Some(pod)) => main_container(&pod).map_or(0, |status| status.restart_count),
            _ => 0,
        }
    }

    async fn now(&self, run: i32) -> Now {
        let pod = match self.pod().await {
            Ok(Some(pod)) => pod,
            Ok(None) => return Now::Over("its pod is gone".to_owned()),
            Err(error) => return Now::Unknown(error.to_string()),
        };
        let Some(status) = main_container(&pod) else {
            return Now::Unknown("the pod has no status".to_owned());
        };
        let state = status.state.clone().unwrap_or_default();
        let last = status.last_state.clone().unwrap_or_default().terminated;
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        let is_over = matches!(phase, Some("Failed" | "Succeeded"));
        match (state.terminated, state.running) {
            (Some(ended), _) if is_over => Now::Over(how(Some(&ended))),
            (Some(ended), _) => Now::Ended(how(Some(&ended))),
            (None, Some(_)) if status.restart_count == run => Now::Running,
            (None, Some(_)) => Now::NextRun(how(last.as_ref())),
            (None, None) => Now::Ended(how(last.as_ref())),
        }
    }
}

/// How a container ended, in a few words.
fn how(ended: Option<&ContainerStateTerminated>) -> String {
    let Some(ended) = ended else {
        return "it ended".to_owned();
    };
    let reason = ended
        .reason
        .as_deref()
        .filter(|reason| !matches!(*reason, "Error" | "Completed"));
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("exit code {}{reason}", ended.exit_code)
}
