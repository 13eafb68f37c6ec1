//! From a pod's image to the mapping that stands for it.

use crate::local_cluster::ImageMapping;

/// No mapping stands for an image.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "no directory of this machine stands for image {image:?}: a local cluster pulls nothing, \
     it runs programs of this machine. Map the image when starting the cluster \
     (mapped are: {known})"
)]
pub(super) struct UnknownImage {
    image: String,
    known: String,
}

/// The first mapping that matches.
pub(super) fn find_image<'a>(
    mappings: &'a [ImageMapping],
    image: &str,
) -> Result<&'a ImageMapping, UnknownImage> {
    mappings
        .iter()
        .find(|mapping| mapping.matches(image))
        .ok_or_else(|| {
            let known: Vec<&str> = mappings
                .iter()
                .flat_map(|m| &m.patterns)
                .map(String::as_str)
                .collect();
            let known = if known.is_empty() {
                "none".to_owned()
            } else {
                known.join(", ")
            };
            UnknownImage {
                image: image.to_owned(),
                known,
            }
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_image_is_refused_with_the_mappings_there_are() {
        let error = find_image(&[ImageMapping::host("busybox:*")], "postgres:17").unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("postgres:17") && text.contains("busybox:*"),
            "{text}"
        );
    }
}
