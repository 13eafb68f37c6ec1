//! A pod template keeps what its author put into it, whatever else the options demand.
#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped here fails the test")]

use std::collections::BTreeMap;

use flink_k8s_core::cluster_descriptor::{ClientFiles, ClusterSpecification};
use flink_k8s_core::configuration::{FlinkConfiguration, Origin};
use flink_k8s_core::job_manager::JobManagerSpecification;
use flink_k8s_core::pod_name::PodName;
use flink_k8s_core::task_manager::{TaskManagerFactory, WorkerRequest};
use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, HostPathVolumeSource, PersistentVolumeClaimVolumeSource, Pod, PodSpec,
    Volume, VolumeMount,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use proptest::prelude::*;

const MAIN_CONTAINER: &str = "flink-main-container";

fn configuration(resource_manager: &str, mounts: bool) -> FlinkConfiguration {
    let mut configuration = FlinkConfiguration::new();
    let mut settings = vec![
        ("kubernetes.cluster-id", "orders"),
        ("jobmanager.memory.process.size", "1600m"),
        ("taskmanager.memory.process.size", "1728m"),
        ("taskmanager.rpc.port", "6122"),
        ("flink-k8s.resource-manager", resource_manager),
    ];
    if mounts {
        settings.extend([
            ("kubernetes.secrets", "credentials:/opt/credentials"),
            ("kubernetes.hadoop.conf.config-map.name", "hadoop"),
            ("security.kerberos.login.keytab", "/home/flink.keytab"),
            ("security.kerberos.login.principal", "flink"),
            ("kubernetes.jobmanager.tolerations", "key:a,operator:Exists"),
            ("kubernetes.taskmanager.node-selector", "disk:ssd"),
        ]);
    }
    for (key, text) in settings {
        configuration.set(key, text, Origin::CommandLine);
    }
    configuration
}

fn job_manager(template: &str, configuration: FlinkConfiguration) -> PodSpec {
    let files = ClientFiles {
        job_manager_pod_template: Some(template.to_owned()),
        task_manager_pod_template: Some(template.to_owned()),
        ..ClientFiles::default()
    };
    let built = JobManagerSpecification::session(&ClusterSpecification { configuration, files }).unwrap();
    built.deployment.spec.unwrap().template.spec.unwrap()
}

fn task_manager(template: &str, configuration: &FlinkConfiguration) -> PodSpec {
    let factory = TaskManagerFactory::new(configuration.clone(), Some(template), &[]).unwrap();
    let name = PodName::of_task_manager(&"orders".parse().unwrap(), 1, 1);
    let request = WorkerRequest::from_configuration(name, configuration).unwrap();
    factory.pod_without_owner(&request).unwrap().spec.unwrap()
}

fn container(name: String) -> Container {
    Container {
        image: Some(format!("registry.example/{name}")),
        command: Some(vec!["run".to_owned(), name.clone()]),
        name,
        ..Container::default()
    }
}

fn volume((name, kind): (String, u8)) -> Volume {
    let mut volume = Volume {
        name: format!("users-{name}"),
        ..Volume::default()
    };
    match kind % 3 {
        0 => volume.empty_dir = Some(EmptyDirVolumeSource::default()),
        1 => {
            volume.host_path = Some(HostPathVolumeSource {
                path: format!("/data/{name}"),
                type_: None,
            });
        }
        _ => {
            volume.persistent_volume_claim = Some(PersistentVolumeClaimVolumeSource {
                claim_name: name,
                read_only: Some(true),
            });
        }
    }
    volume
}

prop_compose! {
    fn names()(names in prop::collection::btree_set("[a-z][a-z0-9]{0,8}", 0..4)) -> Vec<String> {
        names.into_iter().collect()
    }
}

prop_compose! {
    /// Sidecars before and after the main container, if there is one, and volumes that it mounts.
    fn template()(
        sidecars in names(),
        init_containers in names(),
        volumes in prop::collection::btree_map("[a-z][a-z0-9]{0,8}", any::<u8>(), 0..5),
        position in prop::option::of(0..4_usize),
    ) -> Pod {
        let volumes: Vec<Volume> = volumes.into_iter().map(volume).collect();
        let mut containers: Vec<Container> = sidecars.into_iter().map(container).collect();
        if let Some(position) = position {
            let mounts = volumes.iter().map(|volume| VolumeMount {
                name: volume.name.clone(),
                mount_path: format!("/mnt/{}", volume.name),
                ..VolumeMount::default()
            });
            let main = Container {
                name: MAIN_CONTAINER.to_owned(),
                volume_mounts: Some(mounts.collect()),
                ..Container::default()
            };
            containers.insert(position.min(containers.len()), main);
        }
        Pod {
            metadata: ObjectMeta::default(),
            spec: Some(PodSpec {
                containers,
                init_containers: Some(init_containers.into_iter().map(container).collect()),
                volumes: Some(volumes),
                ..PodSpec::default()
            }),
            status: None,
        }
    }
}

fn by_name(containers: Option<&Vec<Container>>) -> BTreeMap<String, Container> {
    let containers = containers.into_iter().flatten().cloned();
    containers
        .map(|container| (container.name.clone(), container))
        .collect()
}

/// Whether the container is what the template says, but for rights that it is denied, of which the template says nothing.
fn is_kept(wanted: &Container, built: Option<&Container>) -> bool {
    let built = built.map(|built| Container {
        security_context: wanted.security_context.clone(),
        ..built.clone()
    });
    built.as_ref() == Some(wanted)
}

fn lost(template: &PodSpec, built: &PodSpec) -> Vec<String> {
    let mut lost = Vec::new();
    let (containers, init) = (
        by_name(Some(&built.containers)),
        by_name(built.init_containers.as_ref()),
    );
    for sidecar in template
        .containers
        .iter()
        .filter(|container| container.name != MAIN_CONTAINER)
    {
        if !is_kept(sidecar, containers.get(&sidecar.name)) {
            lost.push(format!("sidecar {}", sidecar.name));
        }
    }
    for container in template.init_containers.iter().flatten() {
        if !is_kept(container, init.get(&container.name)) {
            lost.push(format!("init container {}", container.name));
        }
    }
    for volume in template.volumes.iter().flatten() {
        if !built.volumes.iter().flatten().any(|other| other == volume) {
            lost.push(format!("volume {}", volume.name));
        }
    }
    let main = |spec: &PodSpec| {
        by_name(Some(&spec.containers))
            .remove(MAIN_CONTAINER)
            .unwrap_or_default()
    };
    let mounts = main(built).volume_mounts.unwrap_or_default();
    for mount in main(template).volume_mounts.into_iter().flatten() {
        if !mounts.contains(&mount) {
            lost.push(format!("mount {}", mount.mount_path));
        }
    }
    lost
}

proptest! {
    #[test]
    fn no_sidecar_init_container_volume_or_mount_of_the_template_is_lost(
        template in template(),
        rust in any::<bool>(),
        mounts in any::<bool>(),
    ) {
        let configuration = configuration(if rust { "rust" } else { "flink" }, mounts);
        let text = serde_saphyr::to_string(&template).unwrap();
        let wanted = template.spec.unwrap();
        for built in [task_manager(&text, &configuration), job_manager(&text, configuration.clone())] {
            prop_assert_eq!(lost(&wanted, &built), Vec::<String>::new());
            let mains = built.containers.iter().filter(|container| container.name == MAIN_CONTAINER);
            prop_assert_eq!(mains.count(), 1);
        }
    }
}
