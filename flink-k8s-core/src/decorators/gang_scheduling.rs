//! The group whose TaskManagers get their nodes together, and what makes a pod one of them.

use super::{FlinkPod, cluster_metadata, pod_template};
use crate::cluster_descriptor::ClientFiles;
use crate::cluster_id::ClusterId;
use crate::configuration::FlinkConfiguration;
use crate::configuration::kubernetes_options::TASK_MANAGER_POD_TEMPLATE_FILE;
use crate::custom_object::CustomObject;
use crate::kube_client::AccompanyingObject;
use crate::parameters::{GangScheduler, GangSchedulingParameters, InvalidSpecification};
use crate::pod_group::{CoschedulingPodGroupSpec, VolcanoPodGroupSpec};

/// The label by which the coscheduling plugin finds the group of a pod.
const COSCHEDULING_LABEL: &str = "scheduling.x-k8s.io/pod-group";
/// The annotation by which Volcano does.
const VOLCANO_ANNOTATION: &str = "scheduling.k8s.io/group-name";

/// The group of the cluster's TaskManagers, if there shall be one: it has the name of the cluster. It has to be there
/// before the first of its pods: the plugin leaves pods of unknown groups waiting, and Volcano has them refused.
///
/// It names no `minResources`: in a group that has fewer pods than it wants, and some that run, Volcano would start what
/// replaces a lost one only when all of these resources are free once more.
pub(crate) fn group(
    configuration: &FlinkConfiguration,
    cluster_id: &ClusterId,
    files: &ClientFiles,
) -> Result<Option<AccompanyingObject>, InvalidSpecification> {
    let Some(parameters) = GangSchedulingParameters::read(configuration)? else {
        return Ok(None);
    };
    let template = files.task_manager_pod_template.as_deref();
    let template = pod_template::load(template, TASK_MANAGER_POD_TEMPLATE_FILE.key)?;
    GangSchedulingParameters::check_scheduler(configuration, template.spec.scheduler_name.as_deref())?;
    let metadata = cluster_metadata(cluster_id.to_string(), cluster_id);
    let min_member = parameters.min_member;
    Ok(Some(match parameters.scheduler {
        GangScheduler::Coscheduling {
            schedule_timeout_seconds,
        } => {
            let spec = CoschedulingPodGroupSpec {
                min_member,
                schedule_timeout_seconds,
            };
            AccompanyingObject::CoschedulingPodGroup(Box::new(CustomObject { metadata, spec }))
        }
        GangScheduler::Volcano {
            queue,
            priority_class,
        } => {
            let spec = VolcanoPodGroupSpec {
                min_member,
                queue,
                priority_class_name: priority_class,
            };
            AccompanyingObject::VolcanoPodGroup(Box::new(CustomObject { metadata, spec }))
        }
    }))
}

/// Makes the pod a member of that group, whatever group the user's labels name.
pub(crate) fn decorate(
    mut pod: FlinkPod,
    cluster_id: &ClusterId,
    parameters: Option<&GangSchedulingParameters>,
) -> FlinkPod {
    let (map, key) = match parameters.map(|parameters| &parameters.scheduler) {
        None => return pod,
        Some(GangScheduler::Coscheduling { .. }) => (&mut pod.metadata.labels, COSCHEDULING_LABEL),
        Some(GangScheduler::Volcano { .. }) => (&mut pod.metadata.annotations, VOLCANO_ANNOTATION),
    };
    map.get_or_insert_default()
        .insert(key.to_owned(), cluster_id.to_string());
    pod
}
