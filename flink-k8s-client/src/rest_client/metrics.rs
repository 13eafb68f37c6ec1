//! What a job counts: accumulators of its program, metrics of its own and of its vertices.

use flink_k8s_core::job_id::JobId;
use serde::Deserialize;

use super::{RestClient, RestError};

/// How many metrics are asked for at once: their names are in the URL, whose length is limited.
const METRICS_PER_REQUEST: usize = 20;

/// An accumulator that the job's program keeps.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Accumulator {
    /// The name that the program gave it.
    pub name: String,
    /// Its class, such as `IntCounter`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its value as text.
    pub value: String,
}

/// A metric and its value at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Metric {
    /// Its name, such as `numRestarts`; one of a vertex begins with the number of the subtask.
    pub id: String,
    /// Its value as text.
    pub value: String,
}

/// Whose metrics are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricScope<'a> {
    /// The job as a whole: times, restarts, checkpoints.
    Job,
    /// The subtasks of the vertex with this id.
    Vertex(&'a str),
}

#[derive(Deserialize)]
struct MetricName {
    id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct AccumulatorsAnswer {
    #[serde(default)]
    user_task_accumulators: Vec<Accumulator>,
}

impl RestClient {
    /// The accumulators of a job's program, as far as TaskManagers have reported them.
    ///
    /// # Errors
    ///
    /// [`RestError::Refused`] with status 404 when the JobManager does not know the job.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only asks.
    pub async fn accumulators(&self, job_id: &JobId) -> Result<Vec<Accumulator>, RestError> {
        let answer: AccumulatorsAnswer = self.get(&format!("jobs/{job_id}/accumulators")).await?;
        Ok(answer.user_task_accumulators)
    }

    /// The names of the metrics that there are, sorted. Flink collects them when it is asked, in the background, so the
    /// first answers may have few or none.
    ///
    /// # Errors
    ///
    /// See [`RestError`]. For a job or a vertex that the JobManager does not know the list is empty.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only asks.
    pub async fn metric_names(
        &self,
        job_id: &JobId,
        scope: MetricScope<'_>,
    ) -> Result<Vec<String>, RestError> {
        let names: Vec<MetricName> = self.get(&path(job_id, scope)).await?;
        let mut names: Vec<String> = names.into_iter().map(|name| name.id).collect();
        names.sort();
        Ok(names)
    }

    /// The values of these metrics; those that Flink does not have are missing.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: it only asks.
    pub async fn metrics(
        &self,
        job_id: &JobId,
        scope: MetricScope<'_>,
        names: &[String],
    ) -> Result<Vec<Metric>, RestError> {
        let mut metrics = Vec::with_capacity(names.len());
        for names in names.chunks(METRICS_PER_REQUEST) {
            let call = self.request(reqwest::Method::GET, &path(job_id, scope));
            let call = call.map(|builder| builder.query(&[("get", names.join(","))]));
            metrics.extend(call.send::<Vec<Metric>>().await?);
        }
        Ok(metrics)
    }
}

fn path(job_id: &JobId, scope: MetricScope<'_>) -> String {
    match scope {
        MetricScope::Job => format!("jobs/{job_id}/metrics"),
        MetricScope::Vertex(vertex) => format!("jobs/{job_id}/vertices/{vertex}/metrics"),
    }
}
