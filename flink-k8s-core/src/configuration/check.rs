//! Whether a configuration makes a cluster, and what its user should know before trying.

use std::fmt;

use super::catalogue::{Catalogue, KeyMeaning};
use super::{
    FlinkConfiguration, InvalidOptionValue, OldName, Origin, deployment_options, flink_k8s_options,
    high_availability_options, kubernetes_options, memory_options,
};
use crate::cluster_descriptor::{ClientFiles, ClusterSpecification};
use crate::flink_version::FlinkVersion;
use crate::high_availability::check_high_availability;
use crate::job_manager::{APPLICATION_TARGET, ApplicationConfiguration, JobManagerSpecification};
use crate::parameters::InvalidSpecification;
use crate::pod_name::PodName;
use crate::task_manager::{TaskManagerFactory, WorkerRequest};

/// Something that the user of a configuration should know.
#[derive(Debug)]
pub struct Finding {
    /// The key that it is about, unless it is about several.
    pub key: Option<String>,
    /// Where that key is set.
    pub origin: Option<Origin>,
    /// What it is.
    pub problem: Problem,
}

/// What is wrong.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// No version of Flink knows the key, so it does nothing.
    #[error("is not an option of Flink{}", Suggestion(nearest.as_deref()))]
    UnknownKey {
        /// A known key that is much like it.
        nearest: Option<String>,
    },
    /// Other versions know the key.
    #[error("is not an option of Flink {version}, but of {}", listed(known_by))]
    OtherVersion {
        /// The version that the configuration is for.
        version: FlinkVersion,
        /// Those that know it.
        known_by: Vec<FlinkVersion>,
    },
    /// The key is an old name.
    #[error(transparent)]
    OldName(#[from] OldName),
    /// The value cannot be read.
    #[error(transparent)]
    Value(#[from] InvalidOptionValue),
    /// No cluster can be made.
    #[error(transparent)]
    Specification(#[from] InvalidSpecification),
}

impl Problem {
    /// Whether no working cluster comes out of it; else it is only worth knowing.
    pub fn is_fatal(&self) -> bool {
        match self {
            Self::UnknownKey { .. } | Self::OtherVersion { .. } | Self::OldName(_) => false,
            Self::Value(_) | Self::Specification(_) => true,
        }
    }
}

struct Suggestion<'a>(Option<&'a str>);

impl fmt::Display for Suggestion<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(key) => write!(formatter, "; did you mean {key}?"),
            None => Ok(()),
        }
    }
}

fn listed(versions: &[FlinkVersion]) -> String {
    let names: Vec<_> = versions.iter().map(|version| version.as_str()).collect();
    names.join(", ")
}

/// Everything that can be said about a configuration without a cluster, errors before warnings. It is usable if
/// nothing in it [is fatal](Problem::is_fatal). Each mistake is found, not only the first.
///
/// ```
/// # use flink_k8s_core::cluster_descriptor::{ClientFiles, ClusterSpecification};
/// # use flink_k8s_core::configuration::{FlinkConfiguration, Origin, check::check};
/// let mut configuration = FlinkConfiguration::new();
/// configuration.set("jobmanager.memory.process.size", "1600m", Origin::CommandLine);
/// configuration.set("taskmanager.memory.process.size", "lots", Origin::CommandLine);
/// configuration.set("taskmanager.numberOfTaskSlot", "4", Origin::CommandLine);
/// let findings = check(&ClusterSpecification { configuration, files: ClientFiles::default() });
/// assert_eq!(findings[0].key.as_deref(), Some("taskmanager.memory.process.size"));
/// assert!(findings[1].problem.to_string().ends_with("did you mean taskmanager.numberOfTaskSlots?"));
/// assert_eq!(findings.len(), 2);
/// ```
pub fn check(specification: &ClusterSpecification) -> Vec<Finding> {
    let mut configuration = specification.configuration.clone();
    let mut findings = Vec::new();
    let version_option = &flink_k8s_options::FLINK_VERSION;
    let version = configuration.get(version_option).unwrap_or_else(|refusal| {
        findings.push(finding(
            &configuration,
            Some(version_option.key),
            Problem::Value(refusal),
        ));
        FlinkVersion::default()
    });
    configuration.set(version_option.key, version.as_str(), Origin::Default);
    findings.extend(old_names(&mut configuration, version));
    findings.extend(keys_and_values(&mut configuration, version));
    findings.extend(high_availability(&mut configuration));
    findings.extend(objects(configuration, &specification.files));
    findings.sort_by_key(|finding| !finding.problem.is_fatal());
    findings
}

fn finding(configuration: &FlinkConfiguration, key: Option<&str>, problem: Problem) -> Finding {
    let setting = key.and_then(|key| configuration.setting(key));
    Finding {
        origin: setting.map(|setting| setting.origin.clone()),
        key: key.map(ToOwned::to_owned),
        problem,
    }
}

fn old_names(configuration: &mut FlinkConfiguration, version: FlinkVersion) -> Vec<Finding> {
    let before = configuration.clone();
    let old_names = configuration.translate_old_names(version);
    let about = |old_name: OldName| {
        let key = old_name.old().to_owned();
        finding(&before, Some(&key), Problem::OldName(old_name))
    };
    old_names.into_iter().map(about).collect()
}

/// Looks at every setting by itself, and removes those whose value cannot be read, so that they do not hide what
/// else is wrong.
fn keys_and_values(configuration: &mut FlinkConfiguration, version: FlinkVersion) -> Vec<Finding> {
    let catalogue = Catalogue::of(version);
    let mut findings = Vec::new();
    let mut unreadable = Vec::new();
    for (key, setting) in configuration.iter() {
        let problem = match catalogue.meaning(key) {
            KeyMeaning::Option(option) | KeyMeaning::Deprecated(option) => option
                .check(&setting.text, version)
                .err()
                .map(|source| Problem::Value(InvalidOptionValue::new(key, &setting.text, source))),
            KeyMeaning::Entry(_) | KeyMeaning::Foreign => None,
            KeyMeaning::OtherVersions(known_by) => Some(Problem::OtherVersion { version, known_by }),
            KeyMeaning::Unknown => Some(Problem::UnknownKey {
                nearest: catalogue.nearest(key).map(ToOwned::to_owned),
            }),
        };
        if let Some(problem) = problem {
            if problem.is_fatal() {
                unreadable.push(key.to_owned());
            }
            findings.push(finding(configuration, Some(key), problem));
        }
    }
    for key in unreadable {
        configuration.remove_key(&key);
        // Its absence must not be an error of its own.
        if let Some((_, process_size)) = SIZES.iter().find(|(memory, _)| key.starts_with(memory)) {
            forget_memory(configuration, &key);
            configuration.set(*process_size, ENOUGH, Origin::Default);
        }
    }
    findings
}

/// The options of a role's memory begin alike; one of them is enough to divide it.
const SIZES: [(&str, &str); 2] = [
    ("jobmanager.memory.", memory_options::JOB_MANAGER_PROCESS_SIZE.key),
    (
        "taskmanager.memory.",
        memory_options::TASK_MANAGER_PROCESS_SIZE.key,
    ),
];
/// A process size that every default fits.
const ENOUGH: &str = "4g";

/// Removes everything about the memory of the role that this key is about.
fn forget_memory(configuration: &mut FlinkConfiguration, key: &str) {
    let prefix = SIZES
        .iter()
        .map(|(prefix, _)| *prefix)
        .find(|prefix| key.starts_with(prefix));
    for rest in prefix
        .map(|prefix| configuration.with_prefix(prefix))
        .unwrap_or_default()
        .keys()
    {
        configuration.remove_key(&format!("{}{rest}", prefix.unwrap_or_default()));
    }
}

/// Looks for what high availability cannot do without, and fills it in, so that its absence is no error of its own.
fn high_availability(configuration: &mut FlinkConfiguration) -> Vec<Finding> {
    let option = &high_availability_options::HIGH_AVAILABILITY_TYPE;
    let mut findings = Vec::new();
    while let Err(refusal @ InvalidSpecification::HighAvailabilityNeeds { key: missing, .. }) =
        check_high_availability(configuration)
    {
        let key = configuration.configured_key(option);
        findings.push(finding(configuration, key, Problem::Specification(refusal)));
        configuration.set(missing, "unnamed", Origin::Default);
    }
    findings
}

/// Makes all objects, removes the setting that stands in the way, and tries again.
fn objects(mut configuration: FlinkConfiguration, files: &ClientFiles) -> Vec<Finding> {
    let mut findings = Vec::new();
    if configuration
        .setting(kubernetes_options::CLUSTER_ID.key)
        .is_none()
    {
        configuration.set(kubernetes_options::CLUSTER_ID.key, "unnamed", Origin::Default);
    }
    let mut files = files.clone();
    let mut divided_anew = Vec::new();
    while let Err(refusal) = build(&configuration, &files) {
        let key = refusal.option().map(ToOwned::to_owned);
        let memory_of = match &refusal {
            InvalidSpecification::Memory { process, .. } if *process == "JobManager" => Some(SIZES[0]),
            InvalidSpecification::Memory { .. } => Some(SIZES[1]),
            _ => None,
        };
        let is_template = matches!(refusal, InvalidSpecification::PodTemplate { .. });
        findings.push(finding(
            &configuration,
            key.as_deref(),
            Problem::Specification(refusal),
        ));
        if let Some((prefix, process_size)) = memory_of {
            if divided_anew.contains(&prefix) {
                break;
            }
            divided_anew.push(prefix);
            forget_memory(&mut configuration, prefix);
            configuration.set(process_size, ENOUGH, Origin::Default);
        } else if is_template {
            (files.job_manager_pod_template, files.task_manager_pod_template) = (None, None);
        } else if key.as_deref() == Some(kubernetes_options::CLUSTER_ID.key) {
            configuration.set(kubernetes_options::CLUSTER_ID.key, "unnamed", Origin::Default);
        } else if key.is_none_or(|key| configuration.remove_key(&key).is_none()) {
            break;
        }
    }
    findings
}

fn build(configuration: &FlinkConfiguration, files: &ClientFiles) -> Result<(), InvalidSpecification> {
    let specification = ClusterSpecification {
        configuration: configuration.clone(),
        files: files.clone(),
    };
    let target = configuration.find(&deployment_options::TARGET)?;
    let built = if target.is_some_and(|target| target.eq_ignore_ascii_case(APPLICATION_TARGET)) {
        JobManagerSpecification::application(&specification, &ApplicationConfiguration::new())?
    } else {
        JobManagerSpecification::session(&specification)?
    };
    let logging: Vec<String> = files.logging.keys().cloned().collect();
    let template = files.task_manager_pod_template.as_deref();
    let factory = TaskManagerFactory::new(built.configuration.clone(), template, &logging)?;
    let name = PodName::of_task_manager(&factory.parameters().cluster.cluster_id, 1, 1);
    let request = WorkerRequest::from_configuration(name, &built.configuration)?;
    factory.pod_without_owner(&request).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(entries: &[(&str, &str)]) -> Vec<(bool, String)> {
        let mut configuration = FlinkConfiguration::new();
        let sizes = [
            ("jobmanager.memory.process.size", "1600m"),
            ("taskmanager.memory.process.size", "1728m"),
        ];
        for (key, text) in sizes.iter().chain(entries) {
            configuration.set(*key, *text, Origin::CommandLine);
        }
        let files = ClientFiles::default();
        let findings = check(&ClusterSpecification { configuration, files });
        findings
            .into_iter()
            .map(|finding| {
                let key = finding.key.unwrap_or_default();
                (finding.problem.is_fatal(), format!("{key}: {}", finding.problem))
            })
            .collect()
    }

    fn only(entries: &[(&str, &str)]) -> (bool, String) {
        let findings = checked(entries);
        assert_eq!(findings.len(), 1, "{findings:?}");
        findings.into_iter().next().unwrap()
    }

    #[test]
    fn a_good_configuration_has_no_findings() {
        assert_eq!(checked(&[]), []);
        assert_eq!(
            checked(&[
                ("high-availability.type", "kubernetes"),
                ("high-availability.storageDir", "s3://bucket/ha"),
                ("kubernetes.jobmanager.replicas", "2"),
                ("kubernetes.cluster-id", "orders"),
                (
                    "metrics.reporter.prom.factory.class",
                    "org.apache.flink.metrics.prometheus.PrometheusReporterFactory"
                ),
                ("s3.endpoint", "http://minio:9000"),
            ]),
            []
        );
    }

    #[test]
    fn each_combination_that_would_fail_later_is_an_error_that_names_its_options() {
        for (entries, needle) in [
            (
                &[("high-availability.type", "kubernetes")][..],
                "high-availability.storageDir",
            ),
            (
                &[
                    ("high-availability.type", "zookeeper"),
                    ("high-availability.storageDir", "s3://bucket/ha"),
                ],
                "high-availability.zookeeper.quorum",
            ),
            (
                &[("kubernetes.jobmanager.replicas", "3")],
                "high-availability.type",
            ),
            (&[("taskmanager.memory.task.heap.size", "9g")], "TaskManager"),
            (&[("jobmanager.memory.off-heap.size", "9g")], "JobManager"),
            (&[("kubernetes.cluster-id", "Orders")], "kubernetes.cluster-id"),
            (&[("rest.bind-port", "8081-8090")], "8081-8090"),
            (&[("kubernetes.taskmanager.cpu.limit-factor", "0.5")], "0.5"),
            (&[("kubernetes.taskmanager.cpu.amount", "many")], "many"),
            (&[("restart-strategy.fixed-delay.delay", "soon")], "soon"),
            (&[("scheduler-mode", "proactive")], "REACTIVE"),
            (&[("flink-k8s.flink-version", "1.9")], "1.20, 2.1, 2.2, 2.3"),
        ] {
            let (is_fatal, text) = only(entries);
            assert!(
                is_fatal && full(&text, entries).contains(needle),
                "{text} lacks {needle}"
            );
        }
    }

    /// Causes are not part of a finding's text.
    fn full(text: &str, entries: &[(&str, &str)]) -> String {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in entries {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        let files = ClientFiles::default();
        let findings = check(&ClusterSpecification { configuration, files });
        let causes = findings
            .iter()
            .filter_map(|finding| std::error::Error::source(&finding.problem));
        format!("{text} {:?}", causes.map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn what_does_nothing_or_is_old_is_a_warning() {
        for (entries, needle) in [
            (
                &[("taskmanager.numberOfTaskSlot", "2")][..],
                "taskmanager.numberOfTaskSlots",
            ),
            (&[("my.own.key", "2")], "is not an option of Flink"),
            (&[("state.backend", "rocksdb")], "state.backend.type"),
            (
                &[("jobmanager.heap.size", "2g")],
                "jobmanager.memory.process.size",
            ),
        ] {
            let (is_fatal, text) = only(entries);
            assert!(!is_fatal && text.contains(needle), "{text}");
        }
    }

    #[test]
    fn one_mistake_does_not_hide_another() {
        let findings = checked(&[
            ("taskmanager.memory.managed.size", "some"),
            ("kubernetes.jobmanager.replicas", "2"),
            ("kubernetes.jobmanager.cpu.limit-factor", "0"),
            ("high-availability.type", "NONE"),
            ("kubernetes.namespace", "Team A"),
            ("jobmanager.memory.off-heap.size", "9g"),
            ("typo", "x"),
        ]);
        let fatal = findings.iter().filter(|(is_fatal, _)| *is_fatal).count();
        assert_eq!((fatal, findings.len()), (5, 6), "{findings:#?}");
    }

    #[test]
    fn a_secret_is_not_shown() {
        let (_, text) = only(&[("security.delegation.tokens.enabled", "hunter2")]);
        assert!(!text.contains("hunter2"), "{text}");
    }
}
