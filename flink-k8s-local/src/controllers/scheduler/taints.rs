//! Which taints of a node a pod tolerates.

use k8s_openapi::api::core::v1::{NodeSpec, PodSpec, Taint, Toleration};

/// The taint that stands for `kubectl cordon`.
const CORDONED: &str = "node.kubernetes.io/unschedulable";
const NO_SCHEDULE: &str = "NoSchedule";
const NO_EXECUTE: &str = "NoExecute";

/// The first taint that keeps the pod off the node.
pub(super) fn untolerated<'a>(node: &'a NodeSpec, pod: &PodSpec) -> Option<&'a Taint> {
    node.taints
        .iter()
        .flatten()
        .filter(|taint| matches!(taint.effect.as_str(), NO_SCHEDULE | NO_EXECUTE))
        .find(|taint| !is_tolerated(taint, pod))
}

/// Whether the pod may start on a node that takes no new pods.
pub(super) fn tolerates_cordon(pod: &PodSpec) -> bool {
    let taint = Taint {
        key: CORDONED.to_owned(),
        effect: NO_SCHEDULE.to_owned(),
        ..Taint::default()
    };
    is_tolerated(&taint, pod)
}

fn is_tolerated(taint: &Taint, pod: &PodSpec) -> bool {
    pod.tolerations
        .iter()
        .flatten()
        .any(|toleration| tolerates(toleration, taint))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let is_unset = |text: &Option<String>| text.as_deref().is_none_or(str::is_empty);
    let effect_matches =
        is_unset(&toleration.effect) || toleration.effect.as_deref() == Some(taint.effect.as_str());
    let key_matches = is_unset(&toleration.key) || toleration.key.as_deref() == Some(taint.key.as_str());
    let value_matches = match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => {
            // Without a key only `Exists` is meaningful.
            !is_unset(&toleration.key)
                && toleration.value.as_deref().unwrap_or_default()
                    == taint.value.as_deref().unwrap_or_default()
        }
        Some(_) => false,
    };
    effect_matches && key_matches && value_matches
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Toleration {
            key: text(key),
            operator: text(operator),
            value: text(value),
            effect: text(effect),
            toleration_seconds: None,
        }
    }

    #[test]
    fn tolerations_match_by_key_value_and_effect() {
        let taint = Taint {
            key: "dedicated".to_owned(),
            value: Some("flink".to_owned()),
            effect: NO_SCHEDULE.to_owned(),
            time_added: None,
        };
        for (toleration, expected) in [
            (toleration("dedicated", "Equal", "flink", NO_SCHEDULE), true),
            (toleration("dedicated", "", "flink", ""), true),
            (toleration("dedicated", "Exists", "", ""), true),
            (toleration("", "Exists", "", ""), true),
            (toleration("dedicated", "Equal", "spark", ""), false),
            (toleration("dedicated", "Equal", "flink", NO_EXECUTE), false),
            (toleration("other", "Exists", "", ""), false),
            (toleration("", "Equal", "", ""), false),
        ] {
            assert_eq!(tolerates(&toleration, &taint), expected, "{toleration:?}");
        }
    }

    #[test]
    fn a_preference_keeps_no_pod_away() {
        let taint = Taint {
            key: "a".to_owned(),
            effect: "PreferNoSchedule".to_owned(),
            ..Taint::default()
        };
        let node = NodeSpec {
            taints: Some(vec![taint]),
            ..NodeSpec::default()
        };
        assert!(untolerated(&node, &PodSpec::default()).is_none());
    }
}
