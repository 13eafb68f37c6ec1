//! Why a cluster does not run, or does not get on: one cause, what else was found, and what to do about it.
//!
//! [`look`] collects [`ClusterFacts`] from Kubernetes, from Flink's REST endpoint and from the resource manager;
//! [`diagnose`] turns facts into a [`Diagnosis`] and is pure.

mod artifacts;
mod certificates;
mod exit_code;
mod facts;
mod job_manager;
mod jobs;
mod look;
mod pods;
mod program_failure;
mod refusal;
mod task_managers;

use std::fmt;

use serde::Serialize;

pub use facts::{ClusterFacts, RestFacts, is_about, time_of};
pub use look::{LookAt, look};
pub use program_failure::ProgramFailure;

/// What was found out about a cluster. Prints as one text: the cause with its evidence, then the rest.
///
/// ```
/// # use flink_k8s_client::diagnosis::{ClusterFacts, ClusterHealth, diagnose};
/// let facts = ClusterFacts::new("orders".parse()?, "team-a".parse()?);
/// let diagnosis = diagnose(&facts);
/// assert_eq!(diagnosis.health(), ClusterHealth::Troubled);
/// assert_eq!(diagnosis.cause().unwrap().reason, "the cluster has no Deployment");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Diagnosis {
    /// The cluster.
    pub cluster_id: String,
    /// Its namespace.
    pub namespace: String,
    /// Everything that was found, the most likely cause first.
    pub findings: Vec<Finding>,
}

/// One thing that was found, about one object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub struct Finding {
    /// How much it matters.
    pub severity: Severity,
    /// What kind of thing it is.
    pub problem: Problem,
    /// What it is about, such as `pod orders-7d9f8-x2x4z`.
    pub object: String,
    /// What is wrong, as a sentence without a full stop.
    pub reason: String,
    /// What shows it: the words of Kubernetes, Events, exceptions.
    pub evidence: Vec<String>,
    /// The last lines of the log of the container that it is about, oldest first.
    pub log: Vec<String>,
    /// What to do about it, if there is something.
    pub advice: Option<String>,
}

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Severity {
    /// It usually stays until somebody changes something.
    Stuck,
    /// It is in the way, and may pass by itself: a node may come, a container may start the next time.
    Trouble,
    /// A normal step on the way up, which is not done yet.
    Starting,
    /// In nobody's way.
    Notice,
}

/// The kinds of findings. The names in JSON do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Problem {
    /// Kubernetes could not be asked.
    KubernetesUnreadable,
    /// The cluster has no Deployment.
    NoCluster,
    /// The cluster is being removed.
    BeingRemoved,
    /// The namespace's quota leaves no room for a pod.
    QuotaExhausted,
    /// The service account of a pod does not exist.
    ServiceAccountMissing,
    /// Admission refuses a pod, or the rights to create it are missing.
    PodRefused,
    /// A pod is wanted and does not exist yet.
    PodMissing,
    /// No node can take a pod.
    Unschedulable,
    /// The image of a container cannot be had.
    ImageUnavailable,
    /// A container cannot be made from its definition.
    ContainerNotCreated,
    /// A volume cannot be mounted.
    VolumeNotMounted,
    /// A container used more memory than its limit.
    OutOfMemory,
    /// The JobManager cannot have the jar of its application, or an artifact beside it.
    ArtifactUnavailable,
    /// A program found its state storage, or that of high availability, unreachable.
    StorageUnreachable,
    /// A program ended by itself, once or again and again.
    Crashed,
    /// A pod was ended from outside, for instance because its node was short of memory.
    PodFailed,
    /// A pod starts, and nothing is wrong so far.
    Starting,
    /// The JobManager answers and has no leader.
    NoLeader,
    /// The JobManager's pod is ready and its REST endpoint does not answer.
    RestSilent,
    /// The JobManager's certificates are not those that clients and new pods are given.
    CertificatesDiffer,
    /// A certificate of the cluster has expired, or does so soon.
    CertificateEnds,
    /// The resource manager cannot work as it should.
    ResourceManagerTrouble,
    /// TaskManagers are wanted and are not created.
    WorkersDelayed,
    /// Jobs wait for slots.
    SlotsMissing,
    /// Jobs fail and start again.
    JobRestarting,
    /// A container that runs was started again before.
    Restarted,
}

/// A cluster's state in one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum ClusterHealth {
    /// Nothing is in the way.
    Healthy,
    /// It is on its way, and nothing is wrong so far.
    Starting,
    /// Something is wrong.
    Troubled,
}

/// Turns facts into findings and puts the most likely cause first: what keeps the JobManager from running comes
/// before what keeps TaskManagers, and that before jobs that wait for them. A certificate that has expired explains all of it.
pub fn diagnose(facts: &ClusterFacts) -> Diagnosis {
    let mut findings = certificates::findings(facts);
    findings.extend(job_manager::findings(facts));
    findings.extend(task_managers::findings(facts));
    findings.extend(jobs::findings(facts));
    // Stable: within a severity the order above, which is that of cause and effect.
    findings.sort_by_key(|finding| finding.severity.max(Severity::Trouble));
    Diagnosis {
        cluster_id: facts.cluster_id.to_string(),
        namespace: facts.namespace.to_string(),
        findings,
    }
}

impl Diagnosis {
    /// The most likely cause of what is wrong; while nothing is wrong, what is not done yet.
    pub fn cause(&self) -> Option<&Finding> {
        let first = self.findings.first();
        first.filter(|finding| finding.severity < Severity::Notice)
    }

    /// The state of the cluster in one word.
    pub fn health(&self) -> ClusterHealth {
        match self.cause().map(|cause| cause.severity) {
            Some(Severity::Stuck | Severity::Trouble) => ClusterHealth::Troubled,
            Some(Severity::Starting) => ClusterHealth::Starting,
            Some(Severity::Notice) | None => ClusterHealth::Healthy,
        }
    }

    /// What was found besides the cause.
    pub fn further(&self) -> &[Finding] {
        &self.findings[usize::from(self.cause().is_some())..]
    }

    /// Whether the cause usually stays until somebody changes something.
    pub fn is_hopeless(&self) -> bool {
        self.cause()
            .is_some_and(|cause| cause.severity == Severity::Stuck)
    }
}

impl Finding {
    fn new(
        severity: Severity,
        problem: Problem,
        object: impl Into<String>,
        reason: impl Into<String>,
    ) -> Self {
        Self {
            severity,
            problem,
            object: object.into(),
            reason: reason.into(),
            evidence: Vec::new(),
            log: Vec::new(),
            advice: None,
        }
    }

    fn with_evidence(mut self, evidence: impl IntoIterator<Item = String>) -> Self {
        for line in evidence {
            // What the reason quotes need not be said again.
            if !line.is_empty() && !self.reason.contains(&line) && !self.evidence.contains(&line) {
                self.evidence.push(line);
            }
        }
        self
    }

    fn with_log(mut self, log: Vec<String>) -> Self {
        self.log = log;
        self
    }

    fn with_advice(mut self, advice: impl Into<String>) -> Self {
        self.advice = Some(advice.into());
        self
    }
}

/// The reason, and below it the evidence, the end of the log and the advice.
impl fmt::Display for Finding {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.reason)?;
        for line in self.evidence.iter().flat_map(|evidence| evidence.lines()) {
            write!(formatter, "\n  {line}")?;
        }
        if !self.log.is_empty() {
            formatter.write_str("\n  the last lines of its log:")?;
        }
        for line in &self.log {
            write!(formatter, "\n    {line}")?;
        }
        match &self.advice {
            Some(advice) => write!(formatter, "\n  what to do: {advice}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Diagnosis {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause() {
            Some(cause) => write!(formatter, "{cause}")?,
            None => formatter.write_str("nothing is wrong")?,
        }
        for finding in self.further() {
            write!(formatter, "\nalso: {finding}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
