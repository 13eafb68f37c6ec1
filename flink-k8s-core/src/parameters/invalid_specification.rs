//! Why a configuration does not describe a cluster.

use std::time::Duration;

use crate::cluster_id::InvalidClusterId;
use crate::configuration::kubernetes_options::{CLUSTER_ID, NAMESPACE};
use crate::configuration::{
    FlinkConfiguration, InvalidOptionValue, OptionRow, WriteConfigurationError, duration_text,
};
use crate::job_id::InvalidJobId;
use crate::kube_client::BoxError;
use crate::memory::InvalidMemoryConfiguration;
use crate::namespace::InvalidNamespace;

/// Why no objects can be built from a configuration and its files.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidSpecification {
    /// A value cannot be read.
    #[error(transparent)]
    Option(#[from] InvalidOptionValue),
    /// An option that has no default is not set.
    #[error("option {key} is not set; set it with -D{key}=...")]
    MissingOption {
        /// The option.
        key: &'static str,
    },
    /// `kubernetes.cluster-id` cannot name objects.
    #[error("kubernetes.cluster-id is invalid")]
    ClusterId(#[from] InvalidClusterId),
    /// `kubernetes.namespace` cannot name a namespace.
    #[error("kubernetes.namespace is invalid")]
    Namespace(#[from] InvalidNamespace),
    /// A text that must not be blank is.
    #[error("option {key} is blank")]
    Blank {
        /// The option.
        key: &'static str,
    },
    /// A port must be one number, because Services and container ports refer to it.
    #[error(
        "option {key} is {value:?}, but must be one fixed port; ranges and lists are not supported on Kubernetes"
    )]
    PortNotFixed {
        /// The option.
        key: String,
        /// Its value.
        value: String,
    },
    /// A container port cannot be chosen at random.
    #[error("option {key} is 0, but must be a fixed port on Kubernetes unless the host network is used")]
    PortZero {
        /// The option.
        key: &'static str,
    },
    /// There must be a JobManager.
    #[error("option {key} is {value}, but must be at least 1")]
    TooFewReplicas {
        /// The option.
        key: &'static str,
        /// Its value.
        value: u32,
    },
    /// JobManagers that do not elect a leader would all act.
    #[error(
        "option {key} is {value}, but more than one JobManager needs high availability; \
         set high-availability.type, for example to kubernetes"
    )]
    ReplicasWithoutHighAvailability {
        /// The option.
        key: &'static str,
        /// Its value.
        value: u32,
    },
    /// A JobManager that takes over would find nothing, or nobody could be elected.
    #[error("high availability needs {key}, {what}")]
    HighAvailabilityNeeds {
        /// The option that is not set.
        key: &'static str,
        /// What it says.
        what: &'static str,
    },
    /// What jobs want cannot be read from REST in such a cluster.
    #[error("flink-k8s.demand-source=rest needs {need}")]
    RestDemand {
        /// What it needs.
        need: &'static str,
    },
    /// The value can be read, and what it asks for cannot be had.
    #[error("option {key} is {value:?}, but must be {need}")]
    Unsuitable {
        /// The option.
        key: &'static str,
        /// Its value.
        value: String,
        /// What it must be.
        need: String,
    },
    /// TaskManagers cannot be scheduled together without it.
    #[error("gang scheduling needs {key}, {what}")]
    GangSchedulingNeeds {
        /// The option that is not set.
        key: &'static str,
        /// What it says.
        what: &'static str,
    },
    /// A limit below the request is refused by Kubernetes.
    #[error("option {key} is {value}, but must be at least 1")]
    LimitBelowRequest {
        /// The option.
        key: &'static str,
        /// Its value.
        value: f64,
    },
    /// The time-out of a probe leaves no time to answer.
    #[error("option {key} is {}, but must be at least 1 s", duration_text(*value))]
    TimeoutTooShort {
        /// The option.
        key: &'static str,
        /// Its value.
        value: Duration,
    },
    /// The seconds of a toleration are not a number.
    #[error("tolerationSeconds {value:?} in option {key} is not a whole number")]
    TolerationSeconds {
        /// The option.
        key: &'static str,
        /// The seconds as written.
        value: String,
    },
    /// A claim cannot be mounted.
    #[error("persistent volume claim {name:?} cannot be mounted at {path:?} (option {key})")]
    PersistentVolumeClaim {
        /// The option.
        key: &'static str,
        /// The name of the claim.
        name: String,
        /// Where it should be mounted.
        path: String,
        /// What is wrong.
        source: InvalidPersistentVolumeClaim,
    },
    /// A login needs both.
    #[error("option {set} is set without {missing}: a Kerberos login needs both or neither")]
    HalfOfKerberosLogin {
        /// The option that is set.
        set: &'static str,
        /// The option that is not.
        missing: &'static str,
    },
    /// An application has one jar.
    #[error("option {key} names {count} jars, but an application cluster runs exactly one")]
    NotOneJar {
        /// The option.
        key: &'static str,
        /// How many it names.
        count: usize,
    },
    /// The jar's address is not one.
    #[error(
        "option {key} is {jar:?}, which is not an address such as local:///opt/flink/usrlib/job.jar; \
         blanks are written as %20"
    )]
    JarAddress {
        /// The option.
        key: &'static str,
        /// The address as written.
        jar: String,
    },
    /// A jar on the user's machine is too large to be staged in the cluster.
    #[error(
        "{name} has {} KiB, but a jar of this machine is staged in the cluster only up to {} KiB{why}; put it into the image, \
         or where the JobManager can fetch it from",
        size.div_ceil(1024),
        limit / 1024,
        why = if *is_joined { "" } else { " with flink-k8s.resource-manager=flink" }
    )]
    JarTooLarge {
        /// Its file name.
        name: String,
        /// Its size in bytes.
        size: usize,
        /// The largest size in bytes.
        limit: usize,
        /// Whether our entrypoint joins parts.
        is_joined: bool,
    },
    /// Flink fetches a jar without encryption only if it is told to.
    #[error(
        "option {key} is {jar:?}, which Flink fetches only with {needed}=true, because nobody can tell what arrives over plain HTTP"
    )]
    PlainHttp {
        /// The option.
        key: &'static str,
        /// The address.
        jar: String,
        /// The option that allows it.
        needed: &'static str,
    },
    /// Flink ignores what stands before the host in an address. The address is not shown.
    #[error(
        "an address in option {key} has a user or password before its host, which Flink does not send; \
         a header does: {instead}=Authorization:..., whose value is not shown"
    )]
    CredentialsInAddress {
        /// The option.
        key: &'static str,
        /// The option for headers.
        instead: &'static str,
    },
    /// Flink keeps what it fetches by file name, and takes the first for the second.
    #[error(
        "option {key} has a second artifact of the file name {name:?}, for which Flink would take the first; rename one of them"
    )]
    ArtifactsOfOneName {
        /// The option of the second.
        key: &'static str,
        /// The file name.
        name: String,
    },
    /// Two options say when an application cluster ends.
    #[error("options {ours} and {flinks} both say when the cluster ends; set only one of them")]
    TwoEnds {
        /// Our option.
        ours: &'static str,
        /// Flink's option.
        flinks: &'static str,
    },
    /// The job's id is not one.
    #[error("option {key} is not the id of a job")]
    JobId {
        /// The option.
        key: &'static str,
        /// What is wrong with it.
        source: InvalidJobId,
    },
    /// Arguments cannot be split into words.
    #[error("option {key} is {value:?}, whose quotes do not match")]
    Unquotable {
        /// The option.
        key: &'static str,
        /// Its value.
        value: String,
    },
    /// The parts of a process' memory do not fit together.
    #[error("the memory of the {process} cannot be divided as configured")]
    Memory {
        /// `JobManager` or `TaskManager`.
        process: &'static str,
        /// What does not fit.
        source: InvalidMemoryConfiguration,
    },
    /// A worker's size does not follow from its request.
    #[error("the settings of worker {worker} do not say how large it is")]
    WorkerSize {
        /// The worker's pod.
        worker: String,
        /// What is missing.
        source: InvalidMemoryConfiguration,
    },
    /// A pod template is not a pod.
    #[error("the pod template of option {key} is not a Pod in YAML or JSON")]
    PodTemplate {
        /// The option that names the file.
        key: &'static str,
        /// What the parser says.
        source: BoxError,
    },
    /// The configuration cannot be written as YAML.
    #[error("the configuration cannot be written as {file}", file = super::CONFIGURATION_FILE)]
    ConfigurationFile(#[from] WriteConfigurationError),
    /// The Deployment that shall own objects is not one that the API server has stored.
    #[error(
        "Deployment {name} has no uid yet: owner references need the Deployment as the API server stored it"
    )]
    OwnerNotStored {
        /// The Deployment.
        name: String,
    },
}

impl InvalidSpecification {
    /// The key of the one option whose value is wrong; `None` where several options together are.
    pub fn option(&self) -> Option<&str> {
        match self {
            Self::Option(refusal) => Some(&refusal.key),
            Self::ClusterId(_) => Some(CLUSTER_ID.key),
            Self::Namespace(_) => Some(NAMESPACE.key),
            Self::PortNotFixed { key, .. } => Some(key),
            Self::MissingOption { key }
            | Self::Blank { key }
            | Self::HighAvailabilityNeeds { key, .. }
            | Self::PortZero { key }
            | Self::TooFewReplicas { key, .. }
            | Self::ReplicasWithoutHighAvailability { key, .. }
            | Self::LimitBelowRequest { key, .. }
            | Self::Unsuitable { key, .. }
            | Self::GangSchedulingNeeds { key, .. }
            | Self::TimeoutTooShort { key, .. }
            | Self::TolerationSeconds { key, .. }
            | Self::PersistentVolumeClaim { key, .. }
            | Self::HalfOfKerberosLogin { set: key, .. }
            | Self::NotOneJar { key, .. }
            | Self::JarAddress { key, .. }
            | Self::PlainHttp { key, .. }
            | Self::CredentialsInAddress { key, .. }
            | Self::ArtifactsOfOneName { key, .. }
            | Self::Unquotable { key, .. }
            | Self::JobId { key, .. }
            | Self::PodTemplate { key, .. } => Some(key),
            Self::Memory { .. }
            | Self::WorkerSize { .. }
            | Self::TwoEnds { .. }
            | Self::JarTooLarge { .. }
            | Self::ConfigurationFile(_)
            | Self::RestDemand { .. }
            | Self::OwnerNotStored { .. } => None,
        }
    }

    /// That this option, as it is written, must be something else.
    pub(super) fn unsuitable(
        configuration: &FlinkConfiguration,
        option: &'static dyn OptionRow,
        need: impl Into<String>,
    ) -> Self {
        let setting = configuration.setting(option.key());
        Self::Unsuitable {
            key: option.key(),
            value: setting.map(|setting| setting.text.clone()).unwrap_or_default(),
            need: need.into(),
        }
    }

    pub(crate) fn job_manager_memory(source: InvalidMemoryConfiguration) -> Self {
        Self::Memory {
            process: "JobManager",
            source,
        }
    }

    pub(crate) fn task_manager_memory(source: InvalidMemoryConfiguration) -> Self {
        Self::Memory {
            process: "TaskManager",
            source,
        }
    }
}

/// Why a persistent volume claim cannot be mounted (upstream's rules).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidPersistentVolumeClaim {
    /// Not a name that a claim can have.
    #[error(
        "the name must have 1 to 253 lowercase letters, digits, '-' or '.', \
         and start and end with a letter or digit"
    )]
    Name,
    /// The path is relative or blank.
    #[error("the mount path must start with '/'")]
    Path,
    /// Two claims would hide each other.
    #[error("another claim has the same mount path")]
    PathTaken,
    /// The volume's name would be too long.
    #[error("its volume would be named {0:?}, which is longer than 63 characters")]
    VolumeNameTooLong(String),
    /// The volume's name is used by another volume of the pod.
    #[error("its volume would be named {0:?}, as another volume of the pod is")]
    VolumeNameTaken(String),
}
