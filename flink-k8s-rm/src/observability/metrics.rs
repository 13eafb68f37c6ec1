//! The numbers of `/metrics`.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use flink_k8s_client::kube_rs::ApiCalls;
use flink_k8s_client::workers_report::WorkerState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use tracing::warn;

use crate::workers::FailureCause;

/// The beginning of every name.
const PREFIX: &str = "flink_k8s";
/// How long the stations on a worker's way take, in seconds: from a quick API server to a node that must
/// be bought first.
const STATION_SECONDS: [f64; 12] = [
    0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 180.0, 600.0,
];
/// How long one event is handled, in seconds.
const ROUND_SECONDS: [f64; 10] = [
    0.000_01, 0.000_025, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.05, 0.25,
];

/// The numbers of one resource manager; clones are the same numbers.
///
/// ```
/// # use flink_k8s_rm::observability::Metrics;
/// let text = Metrics::new().encode();
/// assert!(text.contains("# TYPE flink_k8s_workers gauge"));
/// ```
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    workers: Family<StateLabel, Gauge>,
    requests: Counter,
    releases: Counter,
    held_back: Counter,
    spares_used: Counter,
    creates: Family<ResultLabel, Counter>,
    deletes: Family<ResultLabel, Counter>,
    failures: Family<CauseLabel, Counter>,
    creation: Histogram,
    scheduling: Histogram,
    startup: Histogram,
    round: Histogram,
    relists: Counter,
    watch_interruptions: Counter,
    leading: Gauge,
    terms: Counter,
    forwarded: Family<StatusLabel, Counter>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabel {
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ResultLabel {
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StatusLabel {
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ApiCallLabels {
    verb: &'static str,
    resource: &'static str,
    status: u16,
}

/// How a call to the API server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CallResult {
    /// It was carried out.
    Success,
    /// It may be repeated.
    TransientFailure,
    /// It was refused for good.
    Refusal,
}

impl CallResult {
    fn label(self) -> ResultLabel {
        ResultLabel {
            result: match self {
                Self::Success => "success",
                Self::TransientFailure => "transient-failure",
                Self::Refusal => "refusal",
            },
        }
    }
}

/// A station on a worker's way from the request to a running TaskManager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Station {
    /// From the request to the stored pod.
    Created,
    /// From there to a node.
    Scheduled,
    /// From there to the running container.
    Running,
}

impl Metrics {
    /// All numbers at zero.
    pub fn new() -> Self {
        Self::with_api_calls(None)
    }

    /// All numbers at zero, and besides them the calls that this client makes.
    pub fn of_client(api_calls: ApiCalls) -> Self {
        Self::with_api_calls(Some(api_calls))
    }

    fn with_api_calls(api_calls: Option<ApiCalls>) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let mut inner = Inner {
            workers: Family::default(),
            requests: Counter::default(),
            releases: Counter::default(),
            held_back: Counter::default(),
            spares_used: Counter::default(),
            creates: Family::default(),
            deletes: Family::default(),
            failures: Family::default(),
            creation: Histogram::new(STATION_SECONDS),
            scheduling: Histogram::new(STATION_SECONDS),
            startup: Histogram::new(STATION_SECONDS),
            round: Histogram::new(ROUND_SECONDS),
            relists: Counter::default(),
            watch_interruptions: Counter::default(),
            leading: Gauge::default(),
            terms: Counter::default(),
            forwarded: Family::default(),
            registry: Registry::default(),
        };
        inner.register(&mut registry);
        if let Some(calls) = api_calls {
            registry.register_collector(Box::new(ApiCallCollector(calls)));
        }
        inner.registry = registry;
        let metrics = Self(Arc::new(inner));
        metrics.show_what_has_not_happened();
        metrics
    }

    /// The numbers in the text format of `OpenMetrics`, which Prometheus reads.
    pub fn encode(&self) -> String {
        let mut out = String::new();
        if let Err(error) = text::encode(&mut out, &self.0.registry) {
            warn!(%error, "the numbers could not be written");
        }
        out
    }

    /// A series that exists before its first event lets an alert see the first one.
    fn show_what_has_not_happened(&self) {
        for result in [
            CallResult::Success,
            CallResult::TransientFailure,
            CallResult::Refusal,
        ] {
            drop(self.0.creates.get_or_create(&result.label()));
            drop(self.0.deletes.get_or_create(&result.label()));
        }
        self.set_workers(|_| 0);
    }

    pub(crate) fn set_workers(&self, count: impl Fn(WorkerState) -> usize) {
        for state in WorkerState::ALL {
            let label = StateLabel {
                state: state.as_str(),
            };
            let count = i64::try_from(count(state)).unwrap_or(i64::MAX);
            self.0.workers.get_or_create(&label).set(count);
        }
    }

    pub(crate) fn worker_requested(&self) {
        self.0.requests.inc();
    }

    pub(crate) fn worker_released(&self) {
        self.0.releases.inc();
    }

    pub(crate) fn worker_held_back(&self) {
        self.0.held_back.inc();
    }

    pub(crate) fn spare_used(&self) {
        self.0.spares_used.inc();
    }

    pub(crate) fn create_ended(&self, result: CallResult) {
        self.0.creates.get_or_create(&result.label()).inc();
    }

    pub(crate) fn delete_ended(&self, result: CallResult) {
        self.0.deletes.get_or_create(&result.label()).inc();
    }

    pub(crate) fn failures_seen(&self, cause: FailureCause, more: u64) {
        let cause = cause.name();
        self.0.failures.get_or_create(&CauseLabel { cause }).inc_by(more);
    }

    pub(crate) fn leads(&self, leads: bool) {
        if self.0.leading.set(i64::from(leads)) == 0 && leads {
            self.0.terms.inc();
        }
    }

    pub(crate) fn station_reached(&self, station: Station, after: Duration) {
        let histogram = match station {
            Station::Created => &self.0.creation,
            Station::Scheduled => &self.0.scheduling,
            Station::Running => &self.0.startup,
        };
        histogram.observe(after.as_secs_f64());
    }

    pub(crate) fn event_handled(&self, took: Duration) {
        self.0.round.observe(took.as_secs_f64());
    }

    pub(crate) fn pods_listed(&self) {
        self.0.relists.inc();
    }

    pub(crate) fn watch_interrupted(&self) {
        self.0.watch_interruptions.inc();
    }

    pub(crate) fn request_forwarded(&self, status: u16) {
        self.0.forwarded.get_or_create(&StatusLabel { status }).inc();
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Metrics")
    }
}

impl Inner {
    /// Counters get `_total` at the end of their names when they are written.
    fn register(&self, registry: &mut Registry) {
        registry.register("workers", "Workers by state", self.workers.clone());
        registry.register(
            "worker_requests",
            "Workers that the JobManager asked for",
            self.requests.clone(),
        );
        registry.register(
            "worker_releases",
            "Workers that the JobManager gave back",
            self.releases.clone(),
        );
        registry.register(
            "held_back_requests",
            "Requests that were held back when they came",
            self.held_back.clone(),
        );
        registry.register(
            "spares_used",
            "Requests for which a spare pod was there",
            self.spares_used.clone(),
        );
        registry.register("pod_creates", "Attempts to create a pod", self.creates.clone());
        registry.register("pod_deletes", "Attempts to delete a pod", self.deletes.clone());
        registry.register(
            "worker_failures",
            "Failures of workers and of calls for them, by cause",
            self.failures.clone(),
        );
        let seconds = |registry: &mut Registry, name: &str, help: &str, histogram: &Histogram| {
            registry.register_with_unit(name, help, Unit::Seconds, histogram.clone());
        };
        let creation = "Time from a worker's request to its stored pod";
        seconds(registry, "worker_creation", creation, &self.creation);
        let scheduling = "Time from a worker's stored pod to its node";
        seconds(registry, "worker_scheduling", scheduling, &self.scheduling);
        let startup = "Time from a worker's node to its running container";
        seconds(registry, "worker_startup", startup, &self.startup);
        let round = "Time to decide what follows from one event";
        seconds(registry, "event_handling", round, &self.round);
        registry.register(
            "pod_lists",
            "Complete lists of the pods that were taken in",
            self.relists.clone(),
        );
        registry.register(
            "watch_interruptions",
            "Times that the watch of the pods was interrupted",
            self.watch_interruptions.clone(),
        );
        registry.register(
            "leading",
            "Whether this resource manager acts: 1, or 0 while another one may",
            self.leading.clone(),
        );
        registry.register(
            "leader_terms",
            "Times that this resource manager began to lead",
            self.terms.clone(),
        );
        registry.register(
            "forwarded_requests",
            "Requests of the JobManager that went on to the API server, by the status of the answer; 0 if there was none",
            self.forwarded.clone(),
        );
    }
}

/// The calls of the Kubernetes client, whose counts live there.
#[derive(Debug)]
struct ApiCallCollector(ApiCalls);

impl Collector for ApiCallCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let help = "Calls to the API server by verb, resource and status; 0 if there was no answer.";
        let counter = ConstCounter::new(0_u64);
        let mut family = encoder.encode_descriptor("api_calls", help, None, counter.metric_type())?;
        for (call, count) in self.0.counts() {
            let labels = ApiCallLabels {
                verb: call.verb,
                resource: call.resource,
                status: call.status,
            };
            ConstCounter::new(count).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads the text as a scraper does: every sample belongs to a metric that was described, by a name of
    /// the form that Prometheus wants, and has a number.
    fn samples(text: &str) -> Vec<(String, f64)> {
        let mut described: Option<(String, String)> = None;
        let mut samples = Vec::new();
        let body = text
            .strip_suffix("# EOF\n")
            .expect("the text ends as OpenMetrics wants");
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, help) = rest.split_once(' ').unwrap();
                assert!(help.ends_with('.') && help.len() > 10, "{line}");
                described = Some((name.to_owned(), String::new()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                let described = described.as_mut().unwrap();
                assert_eq!(described.0, name);
                kind.clone_into(&mut described.1);
            } else if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').unwrap();
                assert!(name.ends_with(unit), "{line}");
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let name = series.split('{').next().unwrap();
                let (family, kind) = described.as_ref().unwrap();
                let suffix = name
                    .strip_prefix(family.as_str())
                    .unwrap_or_else(|| panic!("{line}"));
                let allowed: &[&str] = match kind.as_str() {
                    "counter" => &["_total"],
                    "gauge" => &[""],
                    "histogram" => &["_bucket", "_sum", "_count"],
                    other => panic!("{other}"),
                };
                assert!(allowed.contains(&suffix), "{line}");
                assert!(name.starts_with("flink_k8s_"), "{line}");
                assert!(
                    name.chars()
                        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'),
                    "{line}"
                );
                assert_eq!(series.contains('{'), series.ends_with('}'), "{line}");
                samples.push((series.to_owned(), value.parse().unwrap()));
            }
        }
        samples
    }

    #[test]
    fn the_text_is_what_a_scraper_reads() {
        let metrics = Metrics::of_client(ApiCalls::default());
        metrics.set_workers(|state| usize::from(state == WorkerState::Running) * 3);
        metrics.failures_seen(FailureCause::OutOfMemory, 1);
        for leads in [true, true, false, true] {
            metrics.leads(leads);
        }
        metrics.request_forwarded(200);
        metrics.create_ended(CallResult::Refusal);
        metrics.station_reached(Station::Created, Duration::from_millis(300));
        let samples = samples(&metrics.encode());
        let value = |series: &str| {
            samples
                .iter()
                .find(|(name, _)| name == series)
                .map(|(_, value)| *value)
        };
        assert_eq!(value("flink_k8s_workers{state=\"running\"}"), Some(3.0));
        assert_eq!(value("flink_k8s_workers{state=\"held-back\"}"), Some(0.0));
        assert_eq!(
            value("flink_k8s_worker_failures_total{cause=\"out-of-memory\"}"),
            Some(1.0)
        );
        assert_eq!(value("flink_k8s_leading"), Some(1.0));
        assert_eq!(value("flink_k8s_leader_terms_total"), Some(2.0));
        assert_eq!(
            value("flink_k8s_pod_creates_total{result=\"refusal\"}"),
            Some(1.0)
        );
        assert_eq!(
            value("flink_k8s_forwarded_requests_total{status=\"200\"}"),
            Some(1.0)
        );
        assert_eq!(value("flink_k8s_worker_creation_seconds_count"), Some(1.0));
        assert_eq!(
            value("flink_k8s_worker_creation_seconds_bucket{le=\"0.25\"}"),
            Some(0.0)
        );
        assert_eq!(
            value("flink_k8s_worker_creation_seconds_bucket{le=\"0.5\"}"),
            Some(1.0)
        );
    }
}
