//! What a pod says of itself that was made before anybody asked for it.

use std::sync::Arc;

use flink_k8s_core::labels;
use flink_k8s_core::pod_name::{InvalidPodName, PodName};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::runner_client::Assignment;

/// What is known of a pod that was made as a spare.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpareMark {
    /// The name of the pod itself.
    pub pod: PodName,
    /// What the pod is like ([`labels::SPARE`]).
    pub shape: String,
    /// What it became, if it is used, and as which worker.
    pub used_as: Option<(PodName, Arc<Assignment>)>,
}

/// Why it cannot be told what became of a spare.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotASpare {
    /// The annotation is not what we write.
    #[error("its annotation {key} is malformed: {0}", key = labels::SPARE_ASSIGNMENT)]
    Malformed(String),
    /// It names an impossible worker.
    #[error("its annotation {key} names no worker", key = labels::SPARE_ASSIGNMENT)]
    Name(#[from] InvalidPodName),
}

impl SpareMark {
    /// Reads label and annotation; `None` for a pod that was made for a request.
    pub(super) fn read(pod: &PodName, metadata: &ObjectMeta) -> Result<Option<Self>, NotASpare> {
        let label = metadata.labels.as_ref().and_then(|all| all.get(labels::SPARE));
        let Some(shape) = label else {
            return Ok(None);
        };
        let annotations = metadata.annotations.as_ref();
        let text = annotations.and_then(|all| all.get(labels::SPARE_ASSIGNMENT));
        let used_as = match text {
            None => None,
            Some(text) => {
                let assignment: Assignment =
                    serde_json::from_str(text).map_err(|error| NotASpare::Malformed(error.to_string()))?;
                let worker: PodName = assignment.id.parse()?;
                Some((worker, Arc::new(assignment)))
            }
        };
        Ok(Some(Self {
            pod: pod.clone(),
            shape: shape.clone(),
            used_as,
        }))
    }

    /// The worker that it became; `None` while it is a spare.
    pub fn worker(&self) -> Option<&PodName> {
        self.used_as.as_ref().map(|(worker, _)| worker)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{NotAWorkerPod, PodObservation};

    fn read(annotation: Option<&str>) -> Result<PodObservation, NotAWorkerPod> {
        let annotations = annotation.map(|text| json!({"flink-k8s/spare-assignment": text}));
        let pod = json!({"metadata": {"name": "orders-taskmanager-spare-00000007-1", "uid": "u",
            "labels": {"flink-k8s/spare": "abc"}, "annotations": annotations}});
        PodObservation::read(&serde_json::from_value(pod).unwrap())
    }

    #[test]
    fn a_spare_is_itself_until_it_says_which_worker_it_became() {
        let spare = read(None).unwrap();
        assert_eq!(spare.name.as_str(), "orders-taskmanager-spare-00000007-1");
        assert_eq!(spare.spare.as_ref().unwrap().shape, "abc");
        let used = read(Some(
            r#"{"id": "orders-taskmanager-1-3", "arguments": ["-Da=b"]}"#,
        ))
        .unwrap();
        assert_eq!(used.name.as_str(), "orders-taskmanager-1-3");
        assert_eq!(used.pod_name(), spare.pod_name());
    }

    #[test]
    fn what_is_no_assignment_is_refused_with_the_reason() {
        for (text, words) in [
            ("{", "is malformed"),
            (r#"{"id": "A", "arguments": []}"#, "names no worker"),
        ] {
            let NotAWorkerPod::Spare { source, .. } = read(Some(text)).unwrap_err() else {
                panic!("not refused as a spare: {text}")
            };
            assert!(source.to_string().contains(words), "{source}");
        }
        let foreign = read(Some(r#"{"id": "debug-copy", "arguments": []}"#));
        assert!(matches!(foreign, Err(NotAWorkerPod::ForeignName(_))));
    }
}
