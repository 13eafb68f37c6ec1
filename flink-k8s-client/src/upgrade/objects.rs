//! The objects of a cluster, taken from what runs, and made ready to be created from a snapshot.

use flink_k8s_core::application_outcome::JOB_ID_ANNOTATION;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, Origin, deployment_options};
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::job_manager::JobManagerSpecification;
use flink_k8s_core::kube_client::{AccompanyingObject, BoxError, ObjectKind, ObjectReference};
use flink_k8s_core::manifest::{ObjectDifferences, differences};
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::upgrade::{BEING_UPGRADED_ANNOTATION, START_ANNOTATION, Snapshot};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::kubernetes_cluster_descriptor::ATTEMPT_ANNOTATION;

/// Flink's configuration file in the cluster's ConfigMap.
pub(super) const CONFIGURATION_FILE: &str = "config.yaml";
/// What a cluster consists of besides its Deployment.
pub(super) const PARTS: [ObjectKind; 9] = [
    ObjectKind::Service,
    ObjectKind::ConfigMap,
    ObjectKind::Secret,
    ObjectKind::Ingress,
    ObjectKind::HttpRoute,
    ObjectKind::NetworkPolicy,
    ObjectKind::PodDisruptionBudget,
    ObjectKind::CoschedulingPodGroup,
    ObjectKind::VolcanoPodGroup,
];
const OF_THIS_START: Origin = Origin::Derived("this start of an upgrade");
/// Annotations of a Deployment that are about its own life, not about what it is.
const PASSING_ANNOTATIONS: [&str; 8] = [
    ATTEMPT_ANNOTATION,
    BEING_UPGRADED_ANNOTATION,
    START_ANNOTATION,
    "flink-k8s/job-state",
    "flink-k8s/job-ended",
    "flink-k8s/job-failure",
    "deployment.kubernetes.io/revision",
    "kubectl.kubernetes.io/last-applied-configuration",
];

/// Why objects of a record cannot be created.
#[derive(Debug, thiserror::Error)]
#[error("the {what} in the record of the upgrade cannot be used")]
pub(super) struct UnusableObjects {
    what: &'static str,
    source: BoxError,
}

/// What differs from one start to the next.
pub(super) struct Start<'a> {
    pub(super) cluster_id: &'a ClusterId,
    pub(super) job_id: JobId,
    pub(super) snapshot: Option<&'a Snapshot>,
    pub(super) mark: &'a str,
}

/// An object as it can be created once more: without what the API server, or its own life, added.
pub(super) fn creatable(mut object: Value, kind: ObjectKind) -> Value {
    object["kind"] = kind.as_str().into();
    if let Some(object) = object.as_object_mut() {
        object.remove("status");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.retain(|field, _| match field.as_str() {
            "name" | "labels" | "annotations" => true,
            // Those of other objects name the Deployment that goes.
            "ownerReferences" => kind == ObjectKind::Deployment,
            _ => false,
        });
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        let annotations = metadata.get_mut("annotations").and_then(Value::as_object_mut);
        let is_empty = annotations.is_none_or(|annotations| {
            annotations.retain(|key, _| !PASSING_ANNOTATIONS.contains(&key.as_str()));
            annotations.is_empty()
        });
        if is_empty {
            metadata.remove("annotations");
        }
    }
    if kind == ObjectKind::Service {
        creatable_service(&mut object["spec"]);
    }
    object
}

/// Addresses are given anew; that a Service has none is no address.
fn creatable_service(spec: &mut Value) {
    let is_headless = spec["clusterIP"] == "None";
    if let Some(spec) = spec.as_object_mut() {
        spec.retain(|field, _| match field.as_str() {
            "clusterIP" | "clusterIPs" => is_headless,
            "healthCheckNodePort" | "ipFamilies" => false,
            _ => true,
        });
    }
}

/// What the objects say that Flink is configured with.
pub(super) fn configuration(
    objects: &[Value],
    cluster_id: &ClusterId,
) -> Result<FlinkConfiguration, UnusableObjects> {
    let name = cluster_id.config_map_name();
    let is_it =
        |object: &&Value| object["kind"] == "ConfigMap" && object["metadata"]["name"] == name.as_str();
    let found = objects.iter().find(is_it);
    let text = found.and_then(|object| object["data"][CONFIGURATION_FILE].as_str());
    let text = text.ok_or_else(|| {
        unusable(
            "configuration",
            format!("ConfigMap {name} has no {CONFIGURATION_FILE}"),
        )
    })?;
    FlinkConfiguration::from_yaml(text, &Origin::File(format!("ConfigMap {name}")))
        .map_err(|source| unusable("configuration", source))
}

/// The objects with what is special of this start.
pub(super) fn prepared(objects: &[Value], start: &Start<'_>) -> Result<Vec<Value>, UnusableObjects> {
    let mut configuration = configuration(objects, start.cluster_id)?;
    while configuration
        .remove(&deployment_options::SAVEPOINT_PATH)
        .is_some()
    {}
    while configuration
        .remove(&deployment_options::SAVEPOINT_CLAIM_MODE)
        .is_some()
    {}
    let mut settings = vec![(deployment_options::FIXED_JOB_ID.key, start.job_id.to_string())];
    if let Some(snapshot) = start.snapshot {
        settings.push((deployment_options::SAVEPOINT_PATH.key, snapshot.to_string()));
        // Whatever happens to this job, the next one can start from the same snapshot.
        let claim_mode = &deployment_options::SAVEPOINT_CLAIM_MODE;
        settings.push((claim_mode.key, claim_mode.default.to_owned()));
    }
    for (key, value) in settings {
        configuration.set(key, value, OF_THIS_START);
    }
    let text = configuration
        .to_yaml()
        .map_err(|source| unusable("configuration", source))?;
    let name = start.cluster_id.config_map_name();
    let mut objects = objects.to_vec();
    for object in &mut objects {
        if object["kind"] == "ConfigMap" && object["metadata"]["name"] == name.as_str() {
            object["data"][CONFIGURATION_FILE] = text.clone().into();
        } else if object["kind"] == "Deployment" {
            let annotations = &mut object["metadata"]["annotations"];
            annotations[JOB_ID_ANNOTATION] = start.job_id.to_string().into();
            annotations[START_ANNOTATION] = start.mark.into();
        }
    }
    Ok(objects)
}

/// The objects as typed ones, ready for a deploy.
pub(super) fn specification(objects: Vec<Value>) -> Result<JobManagerSpecification, UnusableObjects> {
    let (mut deployment, mut accompanying) = (None, Vec::new());
    for object in objects {
        match object["kind"].as_str() {
            Some("Deployment") => deployment = Some(typed(object)?),
            _ => accompanying.push(part(object)?),
        }
    }
    // There has to be a group before a JobManager can ask for its members.
    accompanying.sort_by_key(|part| !part.is_group());
    Ok(JobManagerSpecification {
        deployment: deployment.ok_or_else(|| unusable("objects", "there is no Deployment".to_owned()))?,
        accompanying,
        configuration: FlinkConfiguration::new(),
    })
}

fn part(object: Value) -> Result<AccompanyingObject, UnusableObjects> {
    Ok(match kind_of(&object) {
        Some(ObjectKind::Service) => AccompanyingObject::Service(Box::new(typed(object)?)),
        Some(ObjectKind::ConfigMap) => AccompanyingObject::ConfigMap(Box::new(typed(object)?)),
        Some(ObjectKind::Secret) => AccompanyingObject::Secret(Box::new(typed(object)?)),
        Some(ObjectKind::Ingress) => AccompanyingObject::Ingress(Box::new(typed(object)?)),
        Some(ObjectKind::HttpRoute) => AccompanyingObject::HttpRoute(Box::new(typed(object)?)),
        Some(ObjectKind::NetworkPolicy) => AccompanyingObject::NetworkPolicy(Box::new(typed(object)?)),
        Some(ObjectKind::PodDisruptionBudget) => {
            AccompanyingObject::PodDisruptionBudget(Box::new(typed(object)?))
        }
        Some(ObjectKind::CoschedulingPodGroup) => {
            AccompanyingObject::CoschedulingPodGroup(Box::new(typed(object)?))
        }
        Some(ObjectKind::VolcanoPodGroup) => AccompanyingObject::VolcanoPodGroup(Box::new(typed(object)?)),
        _ => {
            let kind = &object["kind"];
            return Err(unusable("objects", format!("{kind} is part of no cluster")));
        }
    })
}

/// Which of the kinds that belong to clusters it is.
fn kind_of(object: &Value) -> Option<ObjectKind> {
    let mut kinds = PARTS.into_iter().chain([ObjectKind::Deployment]);
    kinds.find(|kind| kind.is_kind_of(object))
}

/// How the objects of the new cluster differ from those of the old one.
pub(super) fn compared(old: &[Value], new: &[Value], namespace: &Namespace) -> Vec<ObjectDifferences> {
    let mut found = Vec::new();
    for wanted in new {
        let Some(object) = reference(wanted, namespace) else {
            continue;
        };
        let is_same = |running: &&Value| reference(running, namespace).as_ref() == Some(&object);
        let running = old.iter().find(is_same);
        let differences = running.map(|running| differences(running, wanted));
        if differences
            .as_ref()
            .is_none_or(|differences| !differences.is_empty())
        {
            found.push(ObjectDifferences { object, differences });
        }
    }
    found
}

/// Objects of the old cluster that the new one has no more.
pub(super) fn dropped(old: &[Value], new: &[Value], namespace: &Namespace) -> Vec<ObjectReference> {
    let references = |objects: &[Value]| -> Vec<ObjectReference> {
        objects
            .iter()
            .filter_map(|object| reference(object, namespace))
            .collect()
    };
    let kept = references(new);
    let mut dropped = references(old);
    dropped.retain(|object| !kept.contains(object));
    dropped
}

fn reference(object: &Value, namespace: &Namespace) -> Option<ObjectReference> {
    Some(ObjectReference {
        kind: kind_of(object)?,
        namespace: namespace.clone(),
        name: object["metadata"]["name"].as_str()?.to_owned(),
    })
}

fn typed<T: DeserializeOwned>(object: Value) -> Result<T, UnusableObjects> {
    serde_json::from_value(object).map_err(|source| unusable("objects", source))
}

fn unusable(what: &'static str, source: impl Into<BoxError>) -> UnusableObjects {
    UnusableObjects {
        what,
        source: source.into(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn objects(configuration: &str) -> Vec<Value> {
        vec![
            json!({"kind": "ConfigMap", "metadata": {"name": "flink-config-orders"}, "data": {"config.yaml": configuration}}),
            json!({"kind": "Deployment", "metadata": {"name": "orders", "annotations": {"flink-k8s/job-id": "old"}}}),
        ]
    }

    fn start(snapshot: Option<&Snapshot>) -> Vec<Value> {
        let cluster_id = "orders".parse().unwrap();
        let start = Start {
            cluster_id: &cluster_id,
            job_id: JobId::from_bytes([7; 16]),
            snapshot,
            mark: "a/1",
        };
        let before =
            "execution:\n  savepoint:\n    path: s3://bucket/before\n  savepoint-restore-mode: CLAIM\n";
        prepared(&objects(before), &start).unwrap()
    }

    #[test]
    fn a_start_goes_on_from_its_snapshot_alone_and_never_owns_it() {
        let prepared = start(Some(&Snapshot::new("s3://bucket/last")));
        let configuration = configuration(&prepared, &"orders".parse().unwrap()).unwrap();
        let text = |key| configuration.setting(key).map(|setting| setting.text.as_str());
        assert_eq!(text("execution.state-recovery.path"), Some("s3://bucket/last"));
        assert_eq!(text("execution.state-recovery.claim-mode"), Some("NO_CLAIM"));
        assert_eq!(text("execution.savepoint.path"), None);
        assert_eq!(
            text("$internal.pipeline.job-id"),
            Some("07070707070707070707070707070707")
        );
        let annotations = &prepared[1]["metadata"]["annotations"];
        assert_eq!(
            annotations["flink-k8s/job-id"],
            "07070707070707070707070707070707"
        );
        assert_eq!(annotations["flink-k8s/upgrade-start"], "a/1");
    }

    #[test]
    fn a_start_without_a_snapshot_forgets_the_one_before() {
        let configuration = configuration(&start(None), &"orders".parse().unwrap()).unwrap();
        assert!(!configuration.is_configured(&deployment_options::SAVEPOINT_PATH));
    }

    #[test]
    fn what_opens_a_cluster_or_protects_it_stays_what_it_is() {
        let deployment = json!({"kind": "Deployment", "metadata": {"name": "orders"}, "spec": {"selector": {}, "template": {}}});
        let object = |kind: &str| json!({"kind": kind, "metadata": {"name": "orders"}, "spec": {}});
        let objects = vec![object("PodDisruptionBudget"), deployment, object("Ingress")];
        let built = specification(objects).unwrap();
        let kinds: Vec<_> = built.accompanying.iter().map(AccompanyingObject::kind).collect();
        assert_eq!(kinds, [ObjectKind::PodDisruptionBudget, ObjectKind::Ingress]);
        let refusal = specification(vec![object("Lease")]).unwrap_err();
        let source = std::error::Error::source(&refusal).unwrap().to_string();
        assert!(source.contains("\"Lease\" is part of no cluster"), "{source}");
    }

    #[test]
    fn groups_of_two_schedulers_are_told_apart_and_come_before_what_starts_their_members() {
        let group = |version: &str| {
            json!({
                "apiVersion": version, "kind": "PodGroup", "metadata": {"name": "orders"}, "spec": {"minMember": 2},
            })
        };
        let of_plugin = group("scheduling.x-k8s.io/v1alpha1");
        let of_volcano = group("scheduling.volcano.sh/v1beta1");
        let namespace = "team-a".parse().unwrap();
        let (old, new) = ([of_plugin.clone()], [of_volcano.clone()]);
        let found = compared(&old, &new, &namespace);
        assert_eq!(
            (found[0].object.kind, &found[0].differences),
            (ObjectKind::VolcanoPodGroup, &None)
        );
        assert_eq!(
            dropped(&old, &new, &namespace)[0].kind,
            ObjectKind::CoschedulingPodGroup
        );
        assert!(compared(&old, &old, &namespace).is_empty() && dropped(&old, &old, &namespace).is_empty());

        let deployment = json!({"kind": "Deployment", "metadata": {"name": "orders"}, "spec": {"selector": {}, "template": {}}});
        let config_map = json!({"kind": "ConfigMap", "metadata": {"name": "flink-config-orders"}});
        for group in [of_plugin, of_volcano] {
            let built = specification(vec![deployment.clone(), config_map.clone(), group.clone()]).unwrap();
            assert_eq!(built.accompanying[0].to_value().unwrap(), group);
            assert_eq!(built.accompanying[1].kind(), ObjectKind::ConfigMap);
        }
    }

    #[test]
    fn what_the_api_server_added_is_left_out_and_a_headless_service_stays_headless() {
        let service = json!({
            "metadata": {"name": "orders", "uid": "1", "resourceVersion": "2", "ownerReferences": [{"uid": "3"}]},
            "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": []},
            "status": {},
        });
        let expected = json!({
            "kind": "Service",
            "metadata": {"name": "orders"},
            "spec": {"clusterIP": "None", "clusterIPs": ["None"], "ports": []},
        });
        assert_eq!(creatable(service, ObjectKind::Service), expected);
        let rest = json!({"metadata": {"name": "orders-rest"}, "spec": {"clusterIP": "10.0.0.7"}});
        assert_eq!(creatable(rest, ObjectKind::Service)["spec"], json!({}));
    }
}
