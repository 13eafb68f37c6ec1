//! The program and arguments of a container.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Container;

use crate::local_cluster::ImageMapping;

/// Command and arguments as Kubernetes combines them with the image's, variables expanded, and without
/// entrypoints that would only pass on.
pub(super) fn command_line(
    container: &Container,
    image: &ImageMapping,
    environment: &BTreeMap<String, String>,
) -> Vec<String> {
    let command = container.command.as_deref().unwrap_or_default();
    let arguments = container.args.as_deref().unwrap_or_default();
    let mut words: Vec<String> = if command.is_empty() && arguments.is_empty() {
        image.command.clone()
    } else {
        command
            .iter()
            .chain(arguments)
            .map(|word| expand(word, environment))
            .collect()
    };
    if words.len() > 1 && image.pass_through_entrypoints.contains(&words[0]) {
        words.remove(0);
    }
    words
}

/// Replaces `$(NAME)` by the variable's value. `$$(NAME)` stays as `$(NAME)`; unknown names stay untouched.
pub(super) fn expand(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(position) = rest.find('$') {
        expanded.push_str(&rest[..position]);
        rest = &rest[position + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|inner| inner.split_once(')')) {
            match variables.get(name) {
                Some(value) => expanded.push_str(value),
                None => expanded.extend(["$(", name, ")"]),
            }
            rest = after;
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    expanded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_as_kubernetes_does() {
        let variables = BTreeMap::from([
            ("A".to_owned(), "1".to_owned()),
            ("B".to_owned(), "$(A)".to_owned()),
        ]);
        for (text, expected) in [
            ("x$(A)y", "x1y"),
            ("$$(A)", "$(A)"),
            ("$(MISSING)", "$(MISSING)"),
            ("$(B)", "$(A)"),
            ("cost: 5$", "cost: 5$"),
            ("$A ${A} $(A", "$A ${A} $(A"),
            ("$$$$", "$$"),
        ] {
            assert_eq!(expand(text, &variables), expected, "{text}");
        }
    }

    #[test]
    fn an_entrypoint_that_only_passes_on_is_left_out() {
        let image = ImageMapping::flink("/f", None, "/j");
        let container = Container {
            command: Some(vec!["/docker-entrypoint.sh".to_owned()]),
            args: Some(vec!["bash".to_owned(), "-c".to_owned(), "true".to_owned()]),
            ..Container::default()
        };
        assert_eq!(
            command_line(&container, &image, &BTreeMap::new()),
            ["bash", "-c", "true"]
        );
    }

    #[test]
    fn arguments_alone_go_to_the_images_entrypoint_which_passes_them_on() {
        let image = ImageMapping::host("busybox:*");
        let container = Container {
            args: Some(vec!["true".to_owned()]),
            ..Container::default()
        };
        assert_eq!(command_line(&container, &image, &BTreeMap::new()), ["true"]);
    }
}
