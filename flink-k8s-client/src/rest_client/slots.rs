//! Who holds which slots, what of finished subtasks they hold, and with which settings the JobManager runs.

use std::collections::{BTreeMap, BTreeSet};

use flink_k8s_core::job_id::JobId;
use serde::Deserialize;

use super::jobs::job_id;
use super::{RestClient, RestError, TaskManagerInfo};

/// `GET /taskmanagers/:id`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct TaskManagerDetails {
    /// What the list says of it, too.
    #[serde(flatten)]
    pub info: TaskManagerInfo,
    /// The slots that jobs hold.
    #[serde(default)]
    pub allocated_slots: Vec<AllocatedSlot>,
}

impl TaskManagerDetails {
    /// Whether its slots are known and no job holds any of them.
    pub fn is_idle(&self) -> bool {
        self.info.slots_number > 0
            && self.info.free_slots == self.info.slots_number
            && self.allocated_slots.is_empty()
    }
}

/// A slot that a job holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AllocatedSlot {
    /// The job.
    #[serde(deserialize_with = "job_id")]
    pub job_id: JobId,
}

#[derive(Deserialize)]
struct Setting {
    key: String,
    value: String,
}

#[derive(Deserialize)]
struct VertexTaskManagers {
    taskmanagers: Vec<VertexTaskManager>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct VertexTaskManager {
    #[serde(default)]
    taskmanager_id: Option<String>,
}

impl RestClient {
    /// A TaskManager with the slots that jobs hold of it; `None` if it is not registered.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn task_manager(&self, id: &str) -> Result<Option<TaskManagerDetails>, RestError> {
        match self.get(&format!("taskmanagers/{id}")).await {
            Ok(details) => Ok(Some(details)),
            Err(RestError::Refused { status: 404, .. }) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// The TaskManagers on which subtasks of a vertex run or ran.
    ///
    /// # Errors
    ///
    /// [`RestError::Refused`] with status 404 when the JobManager does not know the job or the vertex.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn vertex_task_managers(
        &self,
        job_id: &JobId,
        vertex: &str,
    ) -> Result<BTreeSet<String>, RestError> {
        let path = format!("jobs/{job_id}/vertices/{vertex}/taskmanagers");
        let answer: VertexTaskManagers = self.get(&path).await?;
        let ids = answer.taskmanagers.into_iter();
        // Subtasks without a TaskManager are under a name in brackets.
        Ok(ids
            .filter_map(|entry| entry.taskmanager_id)
            .filter(|id| !id.starts_with('('))
            .collect())
    }

    /// The settings with which the JobManager runs, as far as they differ from Flink's defaults; secrets are
    /// hidden by it.
    ///
    /// # Errors
    ///
    /// See [`RestError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn job_manager_settings(&self) -> Result<BTreeMap<String, String>, RestError> {
        let settings: Vec<Setting> = self.get("jobmanager/config").await?;
        Ok(settings
            .into_iter()
            .map(|setting| (setting.key, setting.value))
            .collect())
    }
}
