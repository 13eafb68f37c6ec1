//! How many replicas the old and the present ReplicaSet of a Deployment should have next.

use std::{collections::BTreeMap, sync::Arc};

use k8s_openapi::{
    api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet, ReplicaSetSpec},
    apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::{
    revisions::REVISION,
    template_hash::{POD_TEMPLATE_HASH, template_hash, without_hash},
};
use crate::controllers::owners::{controller_reference, is_controlled_by};

const DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
const MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
/// Annotations of a Deployment that its ReplicaSets do not inherit.
const NOT_INHERITED: [&str; 5] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    DESIRED_REPLICAS,
    MAX_REPLICAS,
];
const DEFAULT_SURGE: &str = "25%";

/// A Deployment and its ReplicaSets, of which at most one has the present template.
pub(super) struct Rollout<'a> {
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    pub(super) new: Option<Arc<ReplicaSet>>,
    /// Oldest first.
    pub(super) old: Vec<Arc<ReplicaSet>>,
    hash: String,
}

impl<'a> Rollout<'a> {
    pub(super) fn new(
        deployment: &'a Deployment,
        spec: &'a DeploymentSpec,
        mut sets: Vec<Arc<ReplicaSet>>,
    ) -> Self {
        let collisions = deployment
            .status
            .as_ref()
            .and_then(|status| status.collision_count)
            .unwrap_or_default();
        let hash = template_hash(&without_hash(&spec.template), collisions);
        let mut rollout = Self {
            deployment,
            spec,
            new: None,
            old: Vec::new(),
            hash,
        };
        sets.sort_by_key(|set| {
            (
                set.metadata.creation_timestamp.as_ref().map(|time| time.0),
                set.name_any(),
            )
        });
        for set in sets {
            if rollout.new.is_none() && rollout.is_of_present_template(&set) {
                rollout.new = Some(set);
            } else {
                rollout.old.push(set);
            }
        }
        rollout
    }

    /// Whether the ReplicaSet was made from the Deployment's present template.
    pub(super) fn is_of_present_template(&self, set: &ReplicaSet) -> bool {
        let same_template = set
            .spec
            .as_ref()
            .and_then(|spec| spec.template.as_ref())
            .is_some_and(|template| without_hash(template) == without_hash(&self.spec.template));
        // The server may have filled in defaults of one object and, after an update, not yet of
        // the other; our own hash still tells.
        same_template || set.labels().get(POD_TEMPLATE_HASH) == Some(&self.hash)
    }

    pub(super) fn controls(&self, set: &ReplicaSet) -> bool {
        is_controlled_by(&set.metadata, &self.deployment.uid().unwrap_or_default())
    }

    /// How many replicas the Deployment wants.
    pub(super) fn wanted(&self) -> i32 {
        self.spec.replicas.unwrap_or(1)
    }

    pub(super) fn is_recreate(&self) -> bool {
        self.spec
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.type_.as_deref())
            == Some("Recreate")
    }

    /// All ReplicaSets, the present one last.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<ReplicaSet>> {
        self.old.iter().chain(&self.new)
    }

    /// How many replicas may be missing during the rollout.
    pub(super) fn max_unavailable(&self) -> i32 {
        self.limits().1
    }

    /// The resolved surge and unavailability. Both zero would never make progress.
    fn limits(&self) -> (i32, i32) {
        let replicas = self.wanted();
        if self.is_recreate() {
            return (0, 0);
        }
        let rolling = self
            .spec
            .strategy
            .as_ref()
            .and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
        let surge = share(surge, replicas, Rounding::Up);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let unavailable = share(unavailable, replicas, Rounding::Down);
        if surge == 0 && unavailable == 0 {
            (0, 1)
        } else {
            (surge, unavailable.min(replicas))
        }
    }

    /// The next size of the present ReplicaSet, which has `current` replicas.
    pub(super) fn new_target(&self, current: i32) -> i32 {
        let wanted = self.wanted();
        if self.is_recreate() || current >= wanted {
            return wanted;
        }
        let room =
            wanted + self.limits().0 - self.old.iter().map(|set| self::wanted(set)).sum::<i32>() - current;
        if room <= 0 {
            current
        } else {
            wanted.min(current + room)
        }
    }

    /// The next sizes of those old ReplicaSets that shrink, oldest first.
    pub(super) fn old_targets(&self) -> Vec<(&Arc<ReplicaSet>, i32)> {
        let Some(new) = &self.new else { return Vec::new() };
        if self.is_recreate() {
            return Vec::new();
        }
        let minimum = self.wanted() - self.limits().1;
        let total: i32 = self.all().map(|set| self::wanted(set)).sum();
        let new_unavailable = (self::wanted(new) - available(new)).max(0);
        let mut may_go = total - minimum - new_unavailable;
        let mut sizes: Vec<i32> = self.old.iter().map(|set| self::wanted(set)).collect();
        // What is broken anyway goes first: it costs no availability.
        for (set, size) in self.old.iter().zip(&mut sizes) {
            let goes = may_go.min(*size - available(set)).max(0);
            *size -= goes;
            may_go -= goes;
        }
        let mut spare = self.all().map(|set| available(set)).sum::<i32>() - minimum;
        for size in &mut sizes {
            let goes = spare.min(*size).max(0);
            *size -= goes;
            spare -= goes;
        }
        self.old
            .iter()
            .zip(sizes)
            .filter(|(set, size)| *size != self::wanted(set))
            .collect()
    }

    /// A change of size is followed even while paused, if it is clear which ReplicaSet is meant.
    pub(super) fn resize_while_paused(&self) -> Option<(&Arc<ReplicaSet>, i32)> {
        let mut active = self.all().filter(|set| self::wanted(set) > 0);
        let only = match (active.next(), active.next()) {
            (Some(only), None) => only,
            (None, _) => self.new.as_ref().or(self.old.last())?,
            (Some(_), Some(_)) => return None,
        };
        (self::wanted(only) != self.wanted()).then(|| (only, self.wanted()))
    }

    /// Annotations that tell other tools how large the rollout may become.
    pub(super) fn size_annotations(&self) -> BTreeMap<String, String> {
        let wanted = self.wanted();
        BTreeMap::from([
            (DESIRED_REPLICAS.to_owned(), wanted.to_string()),
            (MAX_REPLICAS.to_owned(), (wanted + self.limits().0).to_string()),
        ])
    }

    fn inherited_annotations(&self) -> BTreeMap<String, String> {
        self.deployment
            .annotations()
            .iter()
            .filter(|(key, _)| !NOT_INHERITED.contains(&key.as_str()))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }

    /// The ReplicaSet of the present template.
    pub(super) fn new_replica_set(&self, replicas: i32, revision: String) -> ReplicaSet {
        let hash = (POD_TEMPLATE_HASH.to_owned(), self.hash.clone());
        let mut template = self.spec.template.clone();
        let template_meta = template.metadata.get_or_insert_default();
        let labels = template_meta.labels.get_or_insert_default();
        labels.extend([hash.clone()]);
        let labels = labels.clone();
        let mut selector = self.spec.selector.clone();
        selector.match_labels.get_or_insert_default().extend([hash]);
        let mut annotations = self.inherited_annotations();
        annotations.extend(self.size_annotations());
        annotations.insert(REVISION.to_owned(), revision);
        ReplicaSet {
            metadata: ObjectMeta {
                name: Some(format!("{}-{}", self.deployment.name_any(), self.hash)),
                namespace: self.deployment.namespace(),
                labels: Some(labels),
                annotations: Some(annotations),
                owner_references: controller_reference(self.deployment).map(|owner| vec![owner]),
                ..ObjectMeta::default()
            },
            spec: Some(ReplicaSetSpec {
                replicas: Some(replicas),
                min_ready_seconds: self.spec.min_ready_seconds,
                selector,
                template: Some(template),
            }),
            status: None,
        }
    }

    /// A merge patch with what the present ReplicaSet lacks, or `None` when it lacks nothing.
    pub(super) fn missing_on_present_set(&self, set: &ReplicaSet, revision: &str) -> Option<Value> {
        let mut annotations = self.inherited_annotations();
        annotations.extend(self.size_annotations());
        annotations.insert(REVISION.to_owned(), revision.to_owned());
        annotations.retain(|key, value| set.annotations().get(key) != Some(value));
        let min_ready = |seconds: Option<i32>| seconds.unwrap_or_default();
        let wanted = min_ready(self.spec.min_ready_seconds);
        let mut patch = json!({});
        if !annotations.is_empty() {
            patch["metadata"] = json!({"annotations": annotations});
        }
        if wanted != min_ready(set.spec.as_ref().and_then(|spec| spec.min_ready_seconds)) {
            patch["spec"] = json!({"minReadySeconds": wanted});
        }
        (patch != json!({})).then_some(patch)
    }
}

/// The size that a ReplicaSet was given.
pub(super) fn wanted(set: &ReplicaSet) -> i32 {
    set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

pub(super) fn available(set: &ReplicaSet) -> i32 {
    set.status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or_default()
}

#[derive(Clone, Copy)]
enum Rounding {
    Up,
    Down,
}

/// A count or a percentage of `whole`; 25% when not given or not readable.
fn share(value: Option<&IntOrString>, whole: i32, rounding: Rounding) -> i32 {
    let text = match value {
        Some(IntOrString::Int(count)) => return (*count).max(0),
        Some(IntOrString::String(text)) => text.as_str(),
        None => DEFAULT_SURGE,
    };
    let percent: i64 = text
        .strip_suffix('%')
        .and_then(|percent| percent.parse().ok())
        .unwrap_or(25)
        .max(0);
    let hundredths = i64::from(whole) * percent;
    let share = match rounding {
        Rounding::Up => (hundredths + 99) / 100,
        Rounding::Down => hundredths / 100,
    };
    i32::try_from(share).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::{
        api::{
            apps::v1::{DeploymentStrategy, ReplicaSetStatus, RollingUpdateDeployment},
            core::v1::{PodSpec, PodTemplateSpec},
        },
        apimachinery::pkg::apis::meta::v1::Time,
    };

    use super::*;

    fn template(host: &str) -> PodTemplateSpec {
        let spec = PodSpec {
            hostname: Some(host.to_owned()),
            ..PodSpec::default()
        };
        PodTemplateSpec {
            metadata: None,
            spec: Some(spec),
        }
    }

    fn deployment(replicas: i32, surge: i32, unavailable: i32) -> Deployment {
        let strategy = DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(RollingUpdateDeployment {
                max_surge: Some(IntOrString::Int(surge)),
                max_unavailable: Some(IntOrString::Int(unavailable)),
            }),
        };
        let mut deployment = Deployment::default();
        deployment.metadata.name = Some("session".to_owned());
        deployment.spec = Some(DeploymentSpec {
            replicas: Some(replicas),
            strategy: Some(strategy),
            template: template("new"),
            ..DeploymentSpec::default()
        });
        deployment
    }

    fn set(host: &str, wanted: i32, available: i32, created: i64) -> Arc<ReplicaSet> {
        let mut set = ReplicaSet::default();
        set.metadata.name = Some(format!("session-{host}"));
        set.metadata.creation_timestamp = Some(Time(jiff::Timestamp::from_second(created).unwrap()));
        set.spec = Some(ReplicaSetSpec {
            replicas: Some(wanted),
            template: Some(template(host)),
            ..ReplicaSetSpec::default()
        });
        set.status = Some(ReplicaSetStatus {
            available_replicas: Some(available),
            ..ReplicaSetStatus::default()
        });
        Arc::new(set)
    }

    /// The next sizes of the old ReplicaSets and of the new one.
    fn next(deployment: &Deployment, sets: Vec<Arc<ReplicaSet>>) -> (Vec<i32>, i32) {
        let rollout = Rollout::new(deployment, deployment.spec.as_ref().unwrap(), sets);
        let current = rollout.new.as_ref().map_or(0, |set| wanted(set));
        let old = rollout.old_targets().into_iter().map(|(_, size)| size).collect();
        (old, rollout.new_target(current))
    }

    #[test]
    fn a_new_rollout_may_surge_but_takes_nothing_from_the_old_yet() {
        let deployment = deployment(4, 1, 0);
        assert_eq!(next(&deployment, vec![set("old", 4, 4, 1)]), (vec![], 1));
        assert_eq!(
            next(&deployment, vec![set("old", 4, 4, 1), set("new", 1, 0, 2)]),
            (vec![], 1)
        );
    }

    #[test]
    fn an_old_replica_goes_for_each_new_one_that_is_available() {
        let deployment = deployment(4, 1, 0);
        assert_eq!(
            next(&deployment, vec![set("old", 4, 4, 1), set("new", 1, 1, 2)]),
            (vec![3], 1)
        );
        assert_eq!(
            next(&deployment, vec![set("old", 3, 3, 1), set("new", 1, 1, 2)]),
            (vec![], 2)
        );
    }

    #[test]
    fn broken_old_replicas_go_first() {
        let deployment = deployment(4, 1, 1);
        let sets = vec![set("older", 1, 1, 1), set("old", 3, 1, 2), set("new", 1, 0, 3)];
        let rollout = Rollout::new(&deployment, deployment.spec.as_ref().unwrap(), sets);
        let targets: Vec<(String, i32)> = rollout
            .old_targets()
            .into_iter()
            .map(|(set, size)| (set.name_any(), size))
            .collect();
        assert_eq!(targets, [("session-old".to_owned(), 2)]);
    }

    #[test]
    fn scaling_without_a_rollout_resizes_the_present_set() {
        assert_eq!(next(&deployment(5, 1, 0), vec![set("new", 3, 3, 1)]), (vec![], 5));
        assert_eq!(next(&deployment(0, 1, 0), vec![set("new", 3, 3, 1)]), (vec![], 0));
    }

    #[test]
    fn limits_of_zero_do_not_stop_the_rollout() {
        let deployment = deployment(1, 0, 0);
        assert_eq!(
            next(&deployment, vec![set("old", 1, 1, 1), set("new", 0, 0, 2)]),
            (vec![0], 0)
        );
    }

    #[test]
    fn percentages_are_rounded_in_favour_of_availability() {
        let quarter = IntOrString::String("25%".to_owned());
        assert_eq!(share(Some(&quarter), 3, Rounding::Up), 1);
        assert_eq!(share(Some(&quarter), 3, Rounding::Down), 0);
        assert_eq!(share(None, 8, Rounding::Down), 2);
    }

    #[test]
    fn the_present_set_is_recognized_by_our_hash_even_if_defaults_differ() {
        let deployment = deployment(1, 1, 0);
        let rollout = Rollout::new(&deployment, deployment.spec.as_ref().unwrap(), vec![]);
        let mut made = rollout.new_replica_set(1, "1".to_owned());
        assert!(rollout.is_of_present_template(&made));
        let template = made
            .spec
            .as_mut()
            .and_then(|spec| spec.template.as_mut())
            .unwrap();
        template.spec.get_or_insert_default().restart_policy = Some("Always".to_owned());
        assert!(rollout.is_of_present_template(&made));
        assert!(!rollout.is_of_present_template(&set("old", 1, 1, 1)));
    }
}
