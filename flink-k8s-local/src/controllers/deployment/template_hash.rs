//! The pod-template-hash: tells the ReplicaSets of one Deployment apart.

use k8s_openapi::api::core::v1::PodTemplateSpec;

/// The label that carries the hash.
pub(super) const POD_TEMPLATE_HASH: &str = "pod-template-hash";

/// Kubernetes leaves out vowels, and digits that look like them, so that no words appear.
const ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

const FNV_OFFSET: u32 = 0x811c_9dc5;
const FNV_PRIME: u32 = 0x0100_0193;

/// A short name for a template that is the same whenever the template is.
///
/// The value differs from the one Kubernetes computes, which hashes a dump of Go structures;
/// therefore a ReplicaSet is recognized by its template first.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: i32) -> String {
    let canonical = serde_json::to_vec(template).expect("a pod template has string keys only");
    let hash = canonical
        .iter()
        .chain(&collisions.to_le_bytes())
        .fold(FNV_OFFSET, |hash, byte| {
            (hash ^ u32::from(*byte)).wrapping_mul(FNV_PRIME)
        });
    hash.to_string()
        .bytes()
        .map(|digit| char::from(ALPHABET[usize::from(digit - b'0')]))
        .collect()
}

/// The template without the hash label that the controller added.
pub(super) fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    if let Some(labels) = template.metadata.as_mut().and_then(|meta| meta.labels.as_mut()) {
        labels.remove(POD_TEMPLATE_HASH);
    }
    if let Some(meta) = &mut template.metadata {
        meta.creation_timestamp = None;
    }
    template
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn labelled(key: &str, value: &str) -> PodTemplateSpec {
        let labels = BTreeMap::from([
            ("app".to_owned(), "flink".to_owned()),
            (key.to_owned(), value.to_owned()),
        ]);
        PodTemplateSpec {
            metadata: Some(ObjectMeta {
                labels: Some(labels),
                ..ObjectMeta::default()
            }),
            spec: None,
        }
    }

    #[test]
    fn the_hash_is_stable_and_fits_a_label() {
        let hash = template_hash(&labelled("component", "jobmanager"), 0);
        assert_eq!(hash, template_hash(&labelled("component", "jobmanager"), 0));
        assert!(!hash.is_empty() && hash.len() <= 10);
        assert!(hash.bytes().all(|byte| ALPHABET.contains(&byte)));
    }

    #[test]
    fn another_template_or_collision_gives_another_hash() {
        let template = labelled("component", "jobmanager");
        assert_ne!(
            template_hash(&template, 0),
            template_hash(&labelled("component", "other"), 0)
        );
        assert_ne!(template_hash(&template, 0), template_hash(&template, 1));
    }

    #[test]
    fn the_hash_label_is_no_part_of_the_template() {
        let template = labelled("component", "jobmanager");
        let mut with_hash = template.clone();
        let labels = with_hash
            .metadata
            .as_mut()
            .and_then(|meta| meta.labels.as_mut())
            .unwrap();
        labels.insert(POD_TEMPLATE_HASH.to_owned(), "bcdfg".to_owned());
        assert_eq!(without_hash(&with_hash), template);
    }
}
