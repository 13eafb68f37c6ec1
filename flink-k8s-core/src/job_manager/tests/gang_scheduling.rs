//! The group whose TaskManagers get their nodes together.

use serde_json::{Value, json};

use super::{refusal, session, specification};
use crate::job_manager::JobManagerSpecification;
use crate::kube_client::{AccompanyingObject, ObjectKind};
use crate::permissions::{Permission, of_exposure};

const TYPE: &str = "flink-k8s.taskmanager.gang-scheduling.type";
const MIN_MEMBER: &str = "flink-k8s.taskmanager.gang-scheduling.min-member";
const TIMEOUT: &str = "flink-k8s.taskmanager.gang-scheduling.schedule-timeout";
const QUEUE: &str = "flink-k8s.taskmanager.gang-scheduling.queue";
const SCHEDULER: &str = "flink-k8s.scheduler-name";

/// The group of a cluster with these settings, as Kubernetes gets it.
fn group(kind: ObjectKind, entries: &[(&str, &str)]) -> Value {
    let built = session(entries);
    let kinds: Vec<_> = built.accompanying.iter().map(AccompanyingObject::kind).collect();
    let at = kinds.iter().position(|found| *found == kind).unwrap();
    let first_mounted = kinds.iter().position(|kind| *kind == ObjectKind::ConfigMap);
    assert!(
        Some(at) < first_mounted,
        "no JobManager can start, and ask for TaskManagers, before it: {kinds:?}"
    );
    built.accompanying[at].to_value().unwrap()
}

#[test]
fn a_group_for_the_coscheduling_plugin_has_the_name_of_the_cluster() {
    let entries = [
        (TYPE, "coscheduling"),
        (MIN_MEMBER, "4"),
        (TIMEOUT, "2 min"),
        (SCHEDULER, "scheduler-plugins-scheduler"),
    ];
    let labels = json!({"app": "orders", "type": "flink-native-kubernetes"});
    let expected = json!({
        "apiVersion": "scheduling.x-k8s.io/v1alpha1", "kind": "PodGroup",
        "metadata": {"name": "orders", "labels": labels},
        "spec": {"minMember": 4, "scheduleTimeoutSeconds": 120},
    });
    assert_eq!(group(ObjectKind::CoschedulingPodGroup, &entries), expected);
    let rights = of_exposure(&specification(&entries).configuration).unwrap();
    let create = Permission::new("create", "scheduling.x-k8s.io", "podgroups");
    assert!(rights.contains(&create), "{rights:?}");
}

#[test]
fn a_group_for_volcano_has_the_priority_of_its_pods() {
    let entries = [
        (TYPE, "volcano"),
        (MIN_MEMBER, "4"),
        (QUEUE, "streaming"),
        ("flink-k8s.taskmanager.priority-class", "high"),
        (SCHEDULER, "volcano"),
    ];
    let group = group(ObjectKind::VolcanoPodGroup, &entries);
    assert_eq!(group["apiVersion"], "scheduling.volcano.sh/v1beta1");
    let expected = json!({"minMember": 4, "queue": "streaming", "priorityClassName": "high"});
    assert_eq!(group["spec"], expected);
    let rights = of_exposure(&specification(&entries).configuration).unwrap();
    let create = Permission::new("create", "scheduling.volcano.sh", "podgroups");
    assert!(rights.contains(&create), "{rights:?}");
}

#[test]
fn without_a_number_it_is_that_of_the_task_managers_that_flink_keeps() {
    let volcano = [
        (TYPE, "volcano"),
        (SCHEDULER, "volcano"),
        ("taskmanager.numberOfTaskSlots", "3"),
    ];
    let kept = [&volcano[..], &[("slotmanager.number-of-slots.min", "7")]].concat();
    let group = group(ObjectKind::VolcanoPodGroup, &kept);
    assert_eq!(
        group["spec"],
        json!({"minMember": 3}),
        "7 slots need 3 TaskManagers of 3"
    );
    assert_eq!(
        refusal(&volcano),
        "gang scheduling needs flink-k8s.taskmanager.gang-scheduling.min-member, the number of TaskManagers that start \
         together; without it, it is as many as slotmanager.number-of-slots.min needs, which is not set either"
    );
}

#[test]
fn a_group_of_which_no_member_could_ever_start_is_refused() {
    let coscheduling = [(TYPE, "coscheduling"), (SCHEDULER, "default-scheduler")];
    for (entries, words) in [
        (
            vec![(MIN_MEMBER, "5"), ("flink-k8s.resource-manager.max-workers", "4")],
            "min-member is \"5\", but must be at most flink-k8s.resource-manager.max-workers=4",
        ),
        (
            vec![
                (MIN_MEMBER, "5"),
                ("slotmanager.number-of-slots.max", "9"),
                ("taskmanager.numberOfTaskSlots", "2"),
            ],
            "min-member is \"5\", but must be at most 4: Flink asks for no more TaskManagers of 2 slots",
        ),
        (vec![(MIN_MEMBER, "0")], "min-member is \"0\", but must be from 1"),
        (
            vec![(MIN_MEMBER, "2"), (TIMEOUT, "1500 ms")],
            "schedule-timeout is \"1500 ms\", but must be a number of whole seconds",
        ),
        (
            vec![(MIN_MEMBER, "2"), (QUEUE, "streaming")],
            "queue is \"streaming\", but must be left out: only flink-k8s.taskmanager.gang-scheduling.type=volcano has it",
        ),
        (
            vec![(MIN_MEMBER, "2"), ("flink-k8s.resource-manager", "flink")],
            "type is \"coscheduling\", but must be left out with flink-k8s.resource-manager=flink",
        ),
    ] {
        let refused = refusal(&[&coscheduling[..], &entries].concat());
        assert!(refused.contains(words), "{refused}");
    }
    let volcano = [(TYPE, "volcano"), (SCHEDULER, "volcano"), (MIN_MEMBER, "2")];
    let refused = refusal(&[&volcano[..], &[(TIMEOUT, "1 min")]].concat());
    assert!(
        refused.contains("only flink-k8s.taskmanager.gang-scheduling.type=coscheduling has it"),
        "{refused}"
    );
    let refused = refusal(&[&volcano[..], &[(QUEUE, " ")]].concat());
    assert_eq!(
        refused,
        "option flink-k8s.taskmanager.gang-scheduling.queue is blank"
    );
}

#[test]
fn the_scheduler_that_knows_the_group_has_to_be_named_by_the_option_or_the_template() {
    let entries = [(TYPE, "coscheduling"), (MIN_MEMBER, "2")];
    let refused = refusal(&entries);
    assert!(
        refused.starts_with(
            "gang scheduling needs flink-k8s.scheduler-name, the name of the scheduler that knows the group"
        ),
        "{refused}"
    );
    let mut specification = specification(&entries);
    let template = "spec: {schedulerName: scheduler-plugins-scheduler}";
    specification.files.task_manager_pod_template = Some(template.to_owned());
    JobManagerSpecification::session(&specification).unwrap();
}
