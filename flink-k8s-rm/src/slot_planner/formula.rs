//! How many slots a job wants, from what Flink's REST API tells.
//!
//! The API has no number for it. Each scheduler asks for slots by a rule of its own, which was compared with
//! the requirements that the JobManager itself logs.

use std::collections::BTreeMap;

use flink_k8s_client::rest_client::{JobDetails, JobState, JobSummary, JobType, ResourceRequirements};
use flink_k8s_core::configuration::resource_manager_options::Scheduler as ConfiguredScheduler;

use super::SlotDemand;

/// The states of tasks that have a slot or want one.
const ACTIVE: [&str; 5] = ["scheduled", "deploying", "initializing", "running", "canceling"];

/// What decides about a job's slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheduler {
    /// Subtasks of a slot sharing group share slots.
    Default,
    /// Every active subtask has a slot of its own.
    AdaptiveBatch,
    /// The job takes whatever there is, up to its upper bounds.
    Adaptive,
}

impl Scheduler {
    /// The scheduler of a job: as the job says itself (since Flink 2.3), or by its kind and `jobmanager.scheduler`.
    pub fn of(
        summary: &JobSummary,
        details: Option<&JobDetails>,
        configured: Option<ConfiguredScheduler>,
    ) -> Self {
        match summary.scheduler_type.as_deref() {
            Some("Default") => return Self::Default,
            Some("AdaptiveBatch") => return Self::AdaptiveBatch,
            Some("Adaptive") => return Self::Adaptive,
            _ => {}
        }
        let is_batch = details.and_then(|details| details.job_type) == Some(JobType::Batch);
        match (is_batch, configured) {
            (true, Some(ConfiguredScheduler::Default)) => Self::Default,
            (true, _) => Self::AdaptiveBatch,
            (false, Some(ConfiguredScheduler::Adaptive)) => Self::Adaptive,
            (false, _) => Self::Default,
        }
    }
}

/// What a job wants; `None` for one that has ended or is about to.
pub fn demand(
    scheduler: Scheduler,
    summary: &JobSummary,
    details: Option<&JobDetails>,
    requirements: Option<&ResourceRequirements>,
) -> Option<SlotDemand> {
    match summary.state {
        JobState::Failed
        | JobState::Canceled
        | JobState::Finished
        | JobState::Failing
        | JobState::Suspended => None,
        JobState::Restarting | JobState::Initializing | JobState::Reconciling => {
            Some(SlotDemand::BetweenAttempts)
        }
        _ => {
            let slots = match scheduler {
                Scheduler::AdaptiveBatch => active(&summary.tasks),
                Scheduler::Default => {
                    details.map_or(0, |details| by_group(details, |vertex| active(&vertex.tasks)))
                }
                Scheduler::Adaptive => details.map_or(0, |details| {
                    by_group(details, |vertex| {
                        let bounds = requirements.and_then(|requirements| requirements.get(&vertex.id));
                        bounds.map_or(0, |bounds| bounds.upper_bound)
                    })
                }),
            };
            Some(SlotDemand::Wanted(slots))
        }
    }
}

/// Whether who holds which slot matters: while nothing is scheduled, a job holds what it wants.
pub fn waits_for_slots(scheduler: Scheduler, summary: &JobSummary) -> bool {
    scheduler == Scheduler::Adaptive || summary.tasks.get("scheduled").is_some_and(|count| *count > 0)
}

/// A slot holds one subtask of each vertex of a group, so the largest vertex counts.
fn by_group(
    details: &JobDetails,
    subtasks: impl Fn(&flink_k8s_client::rest_client::JobVertex) -> u32,
) -> u32 {
    let mut groups: BTreeMap<&str, u32> = BTreeMap::new();
    for vertex in &details.vertices {
        // A vertex that does not tell its group is counted by itself: rather a slot too many than a job that waits.
        let group = vertex.slot_sharing_group_id.as_deref().unwrap_or(&vertex.id);
        let largest = groups.entry(group).or_default();
        *largest = (*largest).max(subtasks(vertex));
    }
    groups.values().fold(0, |sum, slots| sum.saturating_add(*slots))
}

fn active(tasks: &BTreeMap<String, u32>) -> u32 {
    tasks
        .iter()
        .filter(|(state, _)| ACTIVE.iter().any(|active| state.eq_ignore_ascii_case(active)))
        .fold(0, |sum, (_, count)| sum.saturating_add(*count))
}

#[cfg(test)]
mod tests {
    use super::*;
    use flink_k8s_client::rest_client::ParallelismBounds;
    use serde_json::{Value, json};

    fn summary(state: &str, tasks: &Value) -> JobSummary {
        let job = json!({"jid": "00000000000000000000000000000001", "name": "wc", "state": state,
            "start-time": 1, "end-time": -1, "duration": 1, "tasks": tasks});
        serde_json::from_value(job).unwrap()
    }

    fn vertex(id: &str, group: &str, tasks: &Value) -> Value {
        json!({"id": id, "slotSharingGroupId": group, "name": id, "parallelism": 4, "status": "CREATED",
            "tasks": tasks})
    }

    fn details(kind: &str, vertices: &[Value]) -> JobDetails {
        let job = json!({"jid": "00000000000000000000000000000001", "name": "wc", "state": "RUNNING",
            "start-time": 1, "end-time": -1, "duration": 1, "job-type": kind, "vertices": vertices});
        serde_json::from_value(job).unwrap()
    }

    fn wanted(demand: Option<SlotDemand>) -> u32 {
        match demand {
            Some(SlotDemand::Wanted(slots)) => slots,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_streaming_job_wants_the_largest_vertex_of_each_slot_sharing_group() {
        let details = details(
            "STREAMING",
            &[
                vertex("source", "a", &json!({"SCHEDULED": 4, "RUNNING": 0})),
                vertex("map", "a", &json!({"SCHEDULED": 2, "RUNNING": 1, "FINISHED": 1})),
                vertex(
                    "sink",
                    "b",
                    &json!({"SCHEDULED": 1, "DEPLOYING": 1, "CANCELED": 5}),
                ),
            ],
        );
        let summary = summary("RUNNING", &json!({"scheduled": 7}));
        let scheduler = Scheduler::of(&summary, Some(&details), None);
        assert_eq!(scheduler, Scheduler::Default);
        assert_eq!(wanted(demand(scheduler, &summary, Some(&details), None)), 4 + 2);
        assert!(waits_for_slots(scheduler, &summary));
    }

    #[test]
    fn a_batch_job_wants_a_slot_for_each_active_subtask() {
        let details = details("BATCH", &[]);
        let tasks = json!({"scheduled": 2, "running": 3, "finished": 9, "total": 20, "canceling": 1});
        let summary = summary("RUNNING", &tasks);
        let scheduler = Scheduler::of(&summary, Some(&details), None);
        assert_eq!(scheduler, Scheduler::AdaptiveBatch);
        assert_eq!(wanted(demand(scheduler, &summary, Some(&details), None)), 6);
        let configured = Scheduler::of(&summary, Some(&details), Some(ConfiguredScheduler::Default));
        assert_eq!(configured, Scheduler::Default);
    }

    #[test]
    fn an_adaptive_job_wants_its_upper_bounds_also_before_it_has_tasks() {
        let details = details(
            "STREAMING",
            &[
                vertex("v1", "a", &json!({})),
                vertex("v2", "a", &json!({})),
                vertex("v3", "b", &json!({})),
            ],
        );
        let summary = summary("CREATED", &json!({}));
        let scheduler = Scheduler::of(&summary, Some(&details), Some(ConfiguredScheduler::Adaptive));
        let bounds = |(vertex, upper_bound): (&str, u32)| {
            let bounds = ParallelismBounds {
                lower_bound: 1,
                upper_bound,
            };
            (vertex.to_owned(), bounds)
        };
        let requirements: ResourceRequirements = [("v1", 4), ("v2", 2), ("v3", 1)].map(bounds).into();
        let demand = demand(scheduler, &summary, Some(&details), Some(&requirements));
        assert_eq!(wanted(demand), 5);
        assert!(waits_for_slots(scheduler, &summary));
    }

    #[test]
    fn a_job_says_itself_which_scheduler_it_has_since_flink_2_3() {
        let mut summary = summary("RUNNING", &json!({}));
        summary.scheduler_type = Some("Adaptive".to_owned());
        assert_eq!(Scheduler::of(&summary, None, None), Scheduler::Adaptive);
    }

    #[test]
    fn jobs_that_end_want_nothing_and_jobs_between_attempts_are_told_apart() {
        let demand_in = |state| demand(Scheduler::Default, &summary(state, &json!({})), None, None);
        for state in ["FINISHED", "FAILED", "CANCELED", "FAILING", "SUSPENDED"] {
            assert_eq!(demand_in(state), None, "{state}");
        }
        for state in ["RESTARTING", "INITIALIZING", "RECONCILING"] {
            assert_eq!(demand_in(state), Some(SlotDemand::BetweenAttempts), "{state}");
        }
        assert_eq!(demand_in("CANCELLING"), Some(SlotDemand::Wanted(0)));
    }
}
