//! The objects of an application cluster: one JobManager that runs one program and ends with it.

mod artifacts;
mod life_cycle;
mod staged_jar;

use k8s_openapi::api::apps::v1::Deployment;

use super::{DEPLOYED, JobManagerSpecification};
use crate::application_outcome::JOB_ID_ANNOTATION;
use crate::cluster_descriptor::ClusterSpecification;
use crate::configuration::flink_k8s_options::{self, ResourceManagerKind};
use crate::configuration::{
    FlinkConfiguration, InvalidOptionValue, Origin, deployment_options, kubernetes_options,
};
use crate::decorators::MAIN_CONTAINER;
use crate::flink_version::FlinkVersion;
use crate::parameters::{InvalidSpecification, cluster_id};

pub use staged_jar::{
    LARGEST_STAGED_JAR, STAGED_JAR_DIRECTORY, STAGED_JAR_KEY, is_staged_jar, staged_jar_parts,
};

pub(super) use staged_jar::StagedJar;

/// Main class of an application cluster's JobManager.
pub const APPLICATION_ENTRYPOINT_CLASS: &str =
    "org.apache.flink.kubernetes.entrypoint.KubernetesApplicationClusterEntrypoint";
const STAGED: Origin = Origin::Derived("the jar is staged in the cluster");
/// Value of `execution.target` of application clusters.
pub const APPLICATION_TARGET: &str = "kubernetes-application";

/// The program of an application cluster, beside the jar that `pipeline.jars` names.
///
/// ```
/// # use flink_k8s_core::job_manager::ApplicationConfiguration;
/// let application = ApplicationConfiguration::new()
///     .with_main_class("org.example.Orders")
///     .with_arguments(["--input".to_owned(), "s3://bucket/in".to_owned()]);
/// assert_eq!(application.main_class.as_deref(), Some("org.example.Orders"));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApplicationConfiguration {
    /// The class with the main method; without it, the jar's manifest says.
    pub main_class: Option<String>,
    /// Arguments of the main method.
    pub arguments: Vec<String>,
}

impl ApplicationConfiguration {
    /// The main class of the jar's manifest, without arguments.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs this class.
    #[must_use]
    pub fn with_main_class(mut self, class: impl Into<String>) -> Self {
        self.main_class = Some(class.into());
        self
    }

    /// Passes these arguments to the main method.
    #[must_use]
    pub fn with_arguments(mut self, arguments: impl IntoIterator<Item = String>) -> Self {
        self.arguments = arguments.into_iter().collect();
        self
    }

    /// What the configuration of a JobManager says that it runs.
    ///
    /// # Errors
    ///
    /// [`InvalidOptionValue`] when the arguments are no list.
    pub fn read(configuration: &FlinkConfiguration) -> Result<Self, InvalidOptionValue> {
        Ok(Self {
            main_class: configuration.find(&deployment_options::APPLICATION_MAIN_CLASS)?,
            arguments: configuration
                .find(&deployment_options::APPLICATION_ARGUMENTS)?
                .unwrap_or_default(),
        })
    }

    /// Whether Flink runs it with Python, so that no jar is needed.
    pub fn is_python(&self) -> bool {
        const DRIVERS: [&str; 2] = [
            "org.apache.flink.client.python.PythonDriver",
            "org.apache.flink.client.python.PythonGatewayServer",
        ];
        const OPTIONS: [&str; 4] = ["-py", "-pym", "--python", "--pyModule"];
        self.main_class
            .as_deref()
            .is_some_and(|class| DRIVERS.contains(&class))
            || self
                .arguments
                .iter()
                .any(|argument| OPTIONS.contains(&argument.as_str()))
    }
}

impl JobManagerSpecification {
    /// The objects of an application cluster. The jar of `pipeline.jars` is opened in the pod: `local://` is
    /// a file of the image, other addresses are fetched by the JobManager. [`ClientFiles::job_jar`] takes its place, and is
    /// staged in ConfigMaps.
    ///
    /// # Errors
    ///
    /// [`InvalidSpecification`] names the option and its value.
    pub fn application(
        specification: &ClusterSpecification,
        application: &ApplicationConfiguration,
    ) -> Result<Self, InvalidSpecification> {
        let mut configuration = specification.configuration.clone();
        let is_ours = configuration.get(&flink_k8s_options::RESOURCE_MANAGER)? == ResourceManagerKind::Rust;
        let cluster_id = cluster_id(&configuration)?;
        let staged = match &specification.files.job_jar {
            Some(file) => Some(StagedJar::new(&cluster_id, file, is_ours)?),
            None => None,
        };
        if let Some(staged) = &staged {
            name_staged(&mut configuration, staged)?;
        }
        artifacts::check(&configuration, application)?;
        if is_ours {
            life_cycle::set(&mut configuration)?;
        }
        configuration.set(deployment_options::TARGET.key, APPLICATION_TARGET, DEPLOYED);
        configuration.set(
            kubernetes_options::ENTRYPOINT_CLASS.key,
            APPLICATION_ENTRYPOINT_CLASS,
            DEPLOYED,
        );
        if let Some(class) = &application.main_class {
            configuration.set(deployment_options::APPLICATION_MAIN_CLASS.key, class, DEPLOYED);
        }
        // Only 1.x writes an empty list.
        let version = configuration.get(&flink_k8s_options::FLINK_VERSION)?;
        if !application.arguments.is_empty() || version <= FlinkVersion::V1_20 {
            let key = deployment_options::APPLICATION_ARGUMENTS.key;
            configuration.set_list(key, &application.arguments, DEPLOYED);
        }
        let mut built = Self::build(
            configuration,
            APPLICATION_TARGET,
            &specification.files,
            staged.as_ref(),
        )?;
        if is_ours && let Some(job_id) = built.configuration.find(&deployment_options::FIXED_JOB_ID)? {
            let annotations = built.deployment.metadata.annotations.get_or_insert_default();
            annotations.insert(JOB_ID_ANNOTATION.to_owned(), job_id);
        }
        Ok(built)
    }
}

/// Tells Flink where it finds a staged jar, and our entrypoint what it has to join.
fn name_staged(
    configuration: &mut FlinkConfiguration,
    staged: &StagedJar<'_>,
) -> Result<(), InvalidSpecification> {
    let joined_in = configuration.get(&deployment_options::USER_ARTIFACTS_BASE_DIR)?;
    let key = deployment_options::PIPELINE_JARS.key;
    configuration.set_list(key, &[staged.address(&joined_in)], STAGED);
    if let Some(digest) = staged.digest_of_parts() {
        configuration.set(flink_k8s_options::STAGED_JAR_DIGEST.key, digest, STAGED);
    }
    Ok(())
}

/// Whether this is the Deployment of an application cluster, whoever made it: its main container runs our program for
/// such clusters, or upstream's script with their target.
pub fn is_application(deployment: &Deployment) -> bool {
    let pod = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.template.spec.as_ref());
    let containers = pod.map(|pod| pod.containers.as_slice()).unwrap_or_default();
    let main = containers
        .iter()
        .find(|container| container.name == MAIN_CONTAINER);
    main.is_some_and(|main| {
        let words = main.command.iter().chain(main.args.iter()).flatten();
        words
            .flat_map(|word| word.split_ascii_whitespace())
            .any(|word| word == APPLICATION_TARGET || word.ends_with("/flink-k8s-job"))
    })
}
