//! The parallelism that a job of the adaptive scheduler may have: read it, and rescale the job with it.

use std::collections::BTreeMap;

use flink_k8s_core::job_id::JobId;
use reqwest::Method;
use serde::{Deserialize, Serialize};

use super::{Ignored, RestClient, RestError};

/// What a job asks for, by vertex id (`GET` and `PUT /jobs/:id/resource-requirements`).
pub type ResourceRequirements = BTreeMap<String, ParallelismBounds>;

/// How parallel a vertex may run: with fewer subtasks than `lower_bound` the job waits, with more than
/// `upper_bound` it never runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParallelismBounds {
    /// The least.
    pub lower_bound: u32,
    /// The most.
    pub upper_bound: u32,
}

/// Flink's form: the bounds are one of several things that a vertex may ask for.
#[derive(Deserialize, Serialize)]
struct VertexRequirements {
    parallelism: WireBounds,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct WireBounds {
    lower_bound: u32,
    upper_bound: u32,
}

impl RestClient {
    /// What a job asks for.
    ///
    /// # Errors
    ///
    /// [`RestError::Refused`] with status 500 for jobs of other schedulers than the adaptive one.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing is changed.
    pub async fn resource_requirements(&self, job_id: &JobId) -> Result<ResourceRequirements, RestError> {
        let answer: BTreeMap<String, VertexRequirements> =
            self.get(&format!("jobs/{job_id}/resource-requirements")).await?;
        let bounds = |wire: WireBounds| ParallelismBounds {
            lower_bound: wire.lower_bound,
            upper_bound: wire.upper_bound,
        };
        Ok(answer
            .into_iter()
            .map(|(vertex, wanted)| (vertex, bounds(wanted.parallelism)))
            .collect())
    }

    /// Rescales a job: Flink asks for the slots, and restarts the job from its last state when it has
    /// them. Every vertex must be named. Setting what is set already changes nothing.
    ///
    /// # Errors
    ///
    /// As [`RestClient::resource_requirements`]; status 400 when a vertex is missing or a bound cannot be.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the requirements may have been set.
    pub async fn set_resource_requirements(
        &self,
        job_id: &JobId,
        requirements: &ResourceRequirements,
    ) -> Result<(), RestError> {
        let wire = |bounds: &ParallelismBounds| VertexRequirements {
            parallelism: WireBounds {
                lower_bound: bounds.lower_bound,
                upper_bound: bounds.upper_bound,
            },
        };
        let body: BTreeMap<&String, VertexRequirements> = requirements
            .iter()
            .map(|(vertex, bounds)| (vertex, wire(bounds)))
            .collect();
        self.request(Method::PUT, &format!("jobs/{job_id}/resource-requirements"))
            .json(&body)
            .send::<Ignored>()
            .await
            .map(|_| ())
    }
}
