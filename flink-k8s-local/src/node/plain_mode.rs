//! Running a container as an ordinary process: paths that would be mounted are named where they really are.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::volumes::SERVICE_ACCOUNT_DIRECTORY;
use crate::sandbox::container_process::ContainerSpec;
use crate::sandbox::file_system::ContainerMount;

/// Variable that Java adds to its command line.
const JAVA_OPTIONS: &str = "JDK_JAVA_OPTIONS";

/// Lets the pod's programs find the API server although they cannot see their credentials where they expect
/// them: clients look at the variable `KUBECONFIG` first.
///
/// # Errors
///
/// When the file cannot be written.
pub(super) fn add_kubeconfig(
    spec: &mut ContainerSpec,
    mounts: &[ContainerMount],
    path: &Path,
) -> io::Result<()> {
    let variable = |wanted: &str| {
        spec.environment
            .iter()
            .find(|(name, _)| name == wanted)
            .map(|(_, v)| v.clone())
    };
    let credentials = mounts
        .iter()
        .find(|mount| mount.target() == Path::new(SERVICE_ACCOUNT_DIRECTORY));
    let (Some(credentials), None) = (credentials, variable("KUBECONFIG")) else {
        return Ok(());
    };
    let (host, port) = (
        variable("KUBERNETES_SERVICE_HOST"),
        variable("KUBERNETES_SERVICE_PORT"),
    );
    let source = credentials.source();
    let namespace = std::fs::read_to_string(source.join("namespace"))?;
    let kubeconfig = serde_json::json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "pod",
        "clusters": [{"name": "pod", "cluster": {
            "server": format!("https://{}:{}", host.unwrap_or_default(), port.unwrap_or_default()),
            "certificate-authority": source.join("ca.crt"),
        }}],
        "users": [{"name": "pod", "user": {"tokenFile": source.join("token")}}],
        "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod", "namespace": namespace}}],
    });
    std::fs::write(path, serde_json::to_vec_pretty(&kubeconfig)?)?;
    spec.environment
        .push(("KUBECONFIG".to_owned(), path.to_string_lossy().into_owned()));
    Ok(())
}

/// Lets a TaskManager of Flink listen on the pod's own address. Every pod would otherwise listen on all
/// addresses of the one network that plain mode has, where a port is free only once.
pub(super) fn bind_task_manager(spec: &mut ContainerSpec, address: IpAddr) {
    let settings = ["host", "bind-host"].map(|option| format!("-Dtaskmanager.{option}={address}"));
    let is_ours = spec
        .command
        .first()
        .is_some_and(|program| program.ends_with("/flink-k8s-taskmanager"));
    if is_ours {
        spec.command.extend(settings);
    } else if let Some(script) = spec
        .command
        .iter_mut()
        .find(|word| word.starts_with("kubernetes-taskmanager.sh "))
    {
        *script = format!("{script} {}", settings.join(" "));
    }
}

/// Gives the container a directory for temporary files that goes with the pod.
///
/// # Errors
///
/// When the directory cannot be made.
pub(super) fn add_temporary_directory(spec: &mut ContainerSpec, directory: &Path) -> io::Result<()> {
    std::fs::create_dir_all(directory)?;
    let directory = directory.to_string_lossy().into_owned();
    add_java_option(spec, &format!("-Djava.io.tmpdir={directory}"));
    spec.environment.push(("TMPDIR".to_owned(), directory));
    Ok(())
}

fn add_java_option(spec: &mut ContainerSpec, option: &str) {
    match spec.environment.iter_mut().find(|(name, _)| name == JAVA_OPTIONS) {
        Some((_, value)) => *value = format!("{option} {value}"),
        None => spec
            .environment
            .push((JAVA_OPTIONS.to_owned(), option.to_owned())),
    }
}

/// Rewrites command, environment and working directory so that they name the sources of mounts, and lets Java
/// resolve names with the pod's hosts file.
///
/// Paths inside files stay as they are: that is the limit of plain mode.
pub(super) fn without_mounts(
    mut spec: ContainerSpec,
    mounts: &[ContainerMount],
    hosts: &Path,
) -> ContainerSpec {
    let places = places(mounts);
    for word in &mut spec.command {
        *word = replace_paths(word, &places);
    }
    for (_, value) in &mut spec.environment {
        *value = replace_paths(value, &places);
    }
    spec.working_directory = PathBuf::from(replace_paths(&spec.working_directory.to_string_lossy(), &places));
    add_java_option(&mut spec, &format!("-Djdk.net.hosts.file={}", hosts.display()));
    spec
}

/// The program and the arguments of a probe or hook, named where they really are.
pub(super) fn command_without_mounts(command: &[String], mounts: &[ContainerMount]) -> Vec<String> {
    let places = places(mounts);
    command.iter().map(|word| replace_paths(word, &places)).collect()
}

/// Where the container expects a path, and where it is. The innermost mount wins; of two on one place the later.
/// `/tmp` stays what it is: directories of ours are below it, and temporary files have another place already.
fn places(mounts: &[ContainerMount]) -> Vec<(&Path, &Path)> {
    let mut places: Vec<(&Path, &Path)> = mounts
        .iter()
        .filter(|mount| !mount.target().starts_with("/etc") && mount.target() != Path::new("/tmp"))
        .map(|mount| (mount.target(), mount.source()))
        .collect();
    places.reverse();
    places.sort_by_key(|(target, _)| std::cmp::Reverse(target.as_os_str().len()));
    places
}

/// Replaces every occurrence of a target path that begins and ends at a path's border.
fn replace_paths(text: &str, places: &[(&Path, &Path)]) -> String {
    let mut result = String::with_capacity(text.len());
    let mut rest = text;
    let mut at_border = true;
    while let Some(character) = rest.chars().next() {
        let found = places.iter().find_map(|(target, source)| {
            let after = rest.strip_prefix(target.to_str()?)?;
            let ends = after.chars().next().is_none_or(|next| !is_name_character(next));
            (at_border && ends).then_some((source, after))
        });
        if let Some((source, after)) = found {
            result.push_str(&source.to_string_lossy());
            rest = after;
            at_border = false;
        } else {
            result.push(character);
            rest = &rest[character.len_utf8()..];
            at_border = !is_name_character(character) && character != '/';
        }
    }
    result
}

fn is_name_character(character: char) -> bool {
    character.is_alphanumeric() || matches!(character, '-' | '_' | '.')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replaced(text: &str) -> String {
        let places = [
            (Path::new("/opt/flink/conf"), Path::new("/run/volume")),
            (Path::new("/opt/flink"), Path::new("/srv/flink-2.1")),
        ];
        replace_paths(text, &places)
    }

    #[test]
    fn paths_of_mounts_are_replaced_by_what_is_mounted() {
        assert_eq!(replaced("/opt/flink/bin/x"), "/srv/flink-2.1/bin/x");
        assert_eq!(
            replaced("-Dlog=file:/opt/flink/conf/log4j.properties"),
            "-Dlog=file:/run/volume/log4j.properties"
        );
        assert_eq!(
            replaced("/opt/flink/bin:/opt/flink/lib"),
            "/srv/flink-2.1/bin:/srv/flink-2.1/lib"
        );
    }

    fn bound(command: &[&str]) -> Vec<String> {
        let mut spec = ContainerSpec {
            isolation: None,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            environment: Vec::new(),
            working_directory: PathBuf::from("/"),
            log: PathBuf::from("/dev/null"),
        };
        bind_task_manager(&mut spec, IpAddr::from([127, 0, 5, 7]));
        spec.command
    }

    #[test]
    fn a_task_manager_listens_on_the_address_of_its_pod_and_others_where_they_like() {
        assert_eq!(
            bound(&["/opt/flink-k8s/bin/flink-k8s-taskmanager", "-Da=b"]),
            [
                "/opt/flink-k8s/bin/flink-k8s-taskmanager",
                "-Da=b",
                "-Dtaskmanager.host=127.0.5.7",
                "-Dtaskmanager.bind-host=127.0.5.7"
            ]
        );
        assert_eq!(
            bound(&["bash", "-c", "kubernetes-taskmanager.sh -Da=b"])[2],
            "kubernetes-taskmanager.sh -Da=b -Dtaskmanager.host=127.0.5.7 -Dtaskmanager.bind-host=127.0.5.7"
        );
        assert_eq!(bound(&["bash", "-c", "kubernetes-jobmanager.sh x"]).len(), 3);
    }

    #[test]
    fn paths_that_only_look_alike_stay() {
        for text in ["/opt/flink-k8s/bin", "/data/opt/flink", "/opt/flinker"] {
            assert_eq!(replaced(text), text);
        }
    }
}
