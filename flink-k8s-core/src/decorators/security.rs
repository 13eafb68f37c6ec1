//! What the pod may do on its node: no more than the `restricted` Pod Security Standard of Kubernetes allows.
//!
//! What the template says wins, field by field, so that a sidecar which needs a right can have it. What it leaves out
//! is filled in for its containers, too: one that is not restricted is enough for a pod to be refused.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, EmptyDirVolumeSource, PodSecurityContext, SeccompProfile, SecurityContext,
    Volume,
};

use super::FlinkPod;
use crate::parameters::ClusterParameters;

/// User and group `flink` of Flink's images, and the user of ours.
const FLINK_USER: i64 = 9999;
/// Where Flink and the JVM put temporary files unless told otherwise.
const TEMPORARY_FILES: &str = "/tmp";
/// Where Flink's images have the logs.
const LOG_DIRECTORY: &str = "/opt/flink/log";
const WRITTEN_VOLUME: &str = "flink-written-";

/// Restricts the pod; the last step, for it looks at what the others have mounted.
pub(crate) fn decorate(mut pod: FlinkPod, cluster: &ClusterParameters) -> FlinkPod {
    let Some(security) = &cluster.security else {
        return pod;
    };
    let spec = &mut pod.spec;
    restrict_pod(spec.security_context.get_or_insert_default());
    let others = spec.containers.iter_mut();
    for container in others.chain(spec.init_containers.iter_mut().flatten()) {
        restrict(container);
    }
    restrict(&mut pod.main_container);
    if !security.read_only_root {
        return pod;
    }
    let context = pod.main_container.security_context.get_or_insert_default();
    if *context.read_only_root_filesystem.get_or_insert(true) {
        let log_directory = cluster.log_directory.as_deref().unwrap_or(LOG_DIRECTORY);
        let written = [TEMPORARY_FILES, log_directory].into_iter();
        for path in written.chain(security.written_directories.iter().map(String::as_str)) {
            make_writable(&mut pod, path);
        }
    }
    pod
}

fn restrict_pod(context: &mut PodSecurityContext) {
    context.run_as_non_root.get_or_insert(true);
    context.run_as_user.get_or_insert(FLINK_USER);
    context.run_as_group.get_or_insert(FLINK_USER);
    // Volumes belong to it, so that the user may write there.
    context.fs_group.get_or_insert(FLINK_USER);
    context.seccomp_profile.get_or_insert_with(|| SeccompProfile {
        type_: "RuntimeDefault".to_owned(),
        ..SeccompProfile::default()
    });
}

fn restrict(container: &mut Container) {
    let context: &mut SecurityContext = container.security_context.get_or_insert_default();
    context.allow_privilege_escalation.get_or_insert(false);
    let capabilities: &mut Capabilities = context.capabilities.get_or_insert_default();
    capabilities.drop.get_or_insert_with(|| vec!["ALL".to_owned()]);
}

/// A directory of the pod's own at this path, unless something is mounted there or above.
fn make_writable(pod: &mut FlinkPod, path: &str) {
    let mounts = pod.main_container.volume_mounts.iter().flatten();
    let is_below = |above: &str| {
        let above = above.trim_end_matches('/');
        path.strip_prefix(above)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    if mounts.into_iter().any(|mount| is_below(&mount.mount_path)) {
        return;
    }
    let name = format!(
        "{WRITTEN_VOLUME}{}",
        path.trim_matches('/')
            .replace(|c: char| !c.is_ascii_alphanumeric(), "-")
            .to_lowercase()
    );
    pod.add_mount(&name, path);
    pod.add_volume(Volume {
        name,
        empty_dir: Some(EmptyDirVolumeSource::default()),
        ..Volume::default()
    });
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::PodSpec;

    use super::*;
    use crate::decorators::tests::cluster;

    #[test]
    fn a_directory_below_a_mount_is_writable_or_not_as_that_is() {
        let mut pod = FlinkPod::default();
        pod.add_mount("mine", "/data");
        let settings = [
            ("io.tmp.dirs", "/data/tmp,/database"),
            ("flink-k8s.security.read-only-root", "true"),
        ];
        let pod = decorate(pod, &cluster(&settings));
        let mounts = pod.main_container.volume_mounts.unwrap();
        let paths: Vec<&str> = mounts.iter().map(|mount| &*mount.mount_path).collect();
        assert_eq!(paths, ["/data", "/tmp", "/opt/flink/log", "/database"]);
        assert_eq!(mounts[3].name, "flink-written-database");
    }

    #[test]
    fn what_the_template_says_wins_field_by_field() {
        let sidecar = Container {
            security_context: Some(SecurityContext {
                allow_privilege_escalation: Some(true),
                ..SecurityContext::default()
            }),
            ..Container::default()
        };
        let template = FlinkPod {
            spec: PodSpec {
                containers: vec![sidecar],
                security_context: Some(PodSecurityContext {
                    run_as_user: Some(1000),
                    ..PodSecurityContext::default()
                }),
                ..PodSpec::default()
            },
            main_container: Container {
                security_context: Some(SecurityContext {
                    read_only_root_filesystem: Some(false),
                    ..SecurityContext::default()
                }),
                ..Container::default()
            },
            ..FlinkPod::default()
        };
        let pod = decorate(
            template,
            &cluster(&[("flink-k8s.security.read-only-root", "true")]),
        );
        let context = pod.spec.security_context.unwrap();
        assert_eq!(
            (context.run_as_user, context.run_as_non_root),
            (Some(1000), Some(true))
        );
        let sidecar = pod.spec.containers[0].security_context.clone().unwrap();
        assert_eq!(sidecar.allow_privilege_escalation, Some(true));
        assert_eq!(sidecar.capabilities.unwrap().drop.unwrap(), ["ALL"]);
        let main = pod.main_container;
        assert_eq!(main.volume_mounts, None, "its root is writable");
        assert_eq!(
            main.security_context.unwrap().allow_privilege_escalation,
            Some(false)
        );
    }
}
