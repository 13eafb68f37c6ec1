//! The jobs of a cluster that is to be removed.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::Context as _;
use flink_k8s_client::kubernetes_cluster_descriptor::{Removal, RemovalPlan};
use flink_k8s_client::rest_access::RestWay;
use flink_k8s_client::rest_client::{JobEnding, JobSummary, SavepointFormat, SavepointOptions};
use flink_k8s_core::configuration::kubernetes_options;
use flink_k8s_core::kube_client::KubeClient as _;
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::Pod;
use tokio::time;

use crate::args::jobs::SavepointType;
use crate::args::removal::RemovalArguments;
use crate::connection::{Connection, Rest};
use crate::printer::{Printer, counted};

/// How long the jobs of a cluster that goes anyway may take to be named.
const NAMING_LIMIT: Duration = Duration::from_secs(5);
/// How long the JobManager may take to answer when its jobs are to be ended.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);
/// How often jobs that others have submitted meanwhile are ended, too.
const ROUNDS: u32 = 5;

/// What is known of the jobs.
pub(super) struct Jobs {
    running: Vec<JobSummary>,
    rest: Option<Rest>,
    /// Why they are not known.
    unknown: Option<String>,
}

/// Whether the jobs have ended as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// They have, or nothing was asked, or it does not matter.
    AsAsked,
    /// They have not, and the cluster is to stay.
    NotAll,
}

impl Jobs {
    /// Asks the JobManager. That it does not answer is an error only if its jobs are to be ended.
    pub(super) async fn find(
        printer: &Printer,
        connection: &Connection,
        plan: &RemovalPlan,
        arguments: &RemovalArguments,
    ) -> anyhow::Result<Self> {
        let none = Self {
            running: Vec::new(),
            rest: None,
            unknown: None,
        };
        let Some(deployment) = plan.deployment.clone() else {
            return Ok(none);
        };
        if plan.removal == Removal::ResourceManager {
            return Ok(none);
        }
        let are_to_be_ended = ending(arguments).is_some();
        let limit = if are_to_be_ended {
            ANSWER_LIMIT
        } else {
            NAMING_LIMIT
        };
        let asked = async {
            // A tunnel to nobody would be waited for.
            let pods = connection.kube.list_job_manager_pods(&plan.cluster_id).await?;
            let runs =
                |pod: &Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
            anyhow::ensure!(pods.iter().any(runs), "no JobManager of it runs");
            let rest = connection.rest_of(deployment).await?;
            require_same_cluster(&rest, plan).await?;
            let running = rest.client.running_jobs().await;
            let running = running.map_err(|error| rest.explain(error))?;
            anyhow::Ok((rest, running))
        };
        let answer = time::timeout(limit, asked).await;
        match answer.context("its JobManager did not answer in time").flatten() {
            Ok((rest, running)) => Ok(Self {
                running,
                rest: Some(rest),
                unknown: None,
            }),
            Err(error) if are_to_be_ended && !arguments.force && !arguments.dry_run => {
                Err(error.context(format!(
                    "the jobs of cluster {} cannot be ended, so it stays; --force removes it all the same",
                    plan.cluster_id
                )))
            }
            Err(error) => {
                if are_to_be_ended {
                    printer.talk(format!("warning: its jobs cannot be ended: {error:#}"));
                }
                let unknown = Some(format!("{error:#}"));
                Ok(Self { unknown, ..none })
            }
        }
    }

    /// What becomes of them, one a line.
    pub(super) fn lines(&self, arguments: &RemovalArguments) -> Vec<String> {
        let fate = match ending(arguments) {
            Some(JobEnding::Cancel) => "is cancelled",
            Some(_) => "is stopped with a savepoint",
            None => "ends with the cluster, without a savepoint",
        };
        let line = |job: &JobSummary| format!("job {} {:?} ({}) {fate}", job.job_id, job.name, job.state);
        let unknown = self
            .unknown
            .iter()
            .map(|reason| format!("its jobs, which are not known ({reason}), end with the cluster"));
        self.running.iter().map(line).chain(unknown).collect()
    }

    /// Ends them as asked, and says how each ended. Savepoints are data. Those `under_way` have been told to end.
    pub(super) async fn end(
        mut self,
        printer: &Printer,
        plan: &RemovalPlan,
        arguments: &RemovalArguments,
        under_way: &RefCell<BTreeSet<String>>,
    ) -> anyhow::Result<Ended> {
        let (Some(ending), Some(rest)) = (ending(arguments), self.rest.take()) else {
            return Ok(Ended::AsAsked);
        };
        let mut failures = 0;
        for _ in 0..ROUNDS {
            if self.running.is_empty() || failures > 0 {
                break;
            }
            let running = std::mem::take(&mut self.running);
            let ids = running.iter().map(|job| job.job_id.to_string());
            under_way.borrow_mut().extend(ids);
            let mut outcomes = rest.client.end_jobs(running, &ending, arguments.job_timeout);
            while let Some((job, outcome)) = outcomes.next().await {
                let job_id = job.job_id;
                under_way.borrow_mut().remove(&job_id.to_string());
                let savepoint = match &outcome {
                    Ok(ended) => ended.savepoint.as_deref(),
                    Err(error) => error.savepoint(),
                };
                if let Some(savepoint) = savepoint {
                    printer.data(format!("{job_id} {savepoint}"));
                }
                match outcome {
                    Ok(ended) => printer.talk(format!("job {job_id} is {}", ended.state)),
                    Err(error) => {
                        failures += 1;
                        printer.talk(format!("error: {:#}", rest.explain(error)));
                    }
                }
            }
            if failures == 0 {
                // Somebody may have submitted others. An application's JobManager ends soon after its job.
                self.running = rest.client.running_jobs().await.unwrap_or_default();
            }
        }
        if failures == 0 && self.running.is_empty() {
            return Ok(Ended::AsAsked);
        }
        let count = if failures > 0 {
            failures
        } else {
            self.running.len()
        };
        let jobs = counted(count, "job");
        if arguments.force {
            printer.talk(format!(
                "{jobs} did not end as asked; removing the cluster all the same, as --force says"
            ));
            return Ok(Ended::AsAsked);
        }
        printer.talk(format!(
            "{jobs} did not end as asked, so cluster {} stays; --force removes it all the same",
            plan.cluster_id
        ));
        Ok(Ended::NotAll)
    }
}

/// Refuses an endpoint that the user gave and that is not the cluster's: the jobs there are somebody else's.
async fn require_same_cluster(rest: &Rest, plan: &RemovalPlan) -> anyhow::Result<()> {
    let RestWay::Given(url) = rest.access.way() else {
        return Ok(());
    };
    let settings = rest.client.job_manager_settings().await;
    let settings = settings.map_err(|error| rest.explain(error))?;
    for (option, expected, default) in [
        (
            kubernetes_options::CLUSTER_ID.key,
            plan.cluster_id.as_str(),
            "none",
        ),
        (
            kubernetes_options::NAMESPACE.key,
            plan.namespace.as_str(),
            kubernetes_options::NAMESPACE.default,
        ),
    ] {
        let found = settings.get(option).map_or(default, String::as_str);
        anyhow::ensure!(
            found == expected,
            "{url} is not the REST endpoint of cluster {} in namespace {}: its {option} is {found}",
            plan.cluster_id,
            plan.namespace
        );
    }
    Ok(())
}

fn ending(arguments: &RemovalArguments) -> Option<JobEnding> {
    if arguments.cancel_jobs {
        return Some(JobEnding::Cancel);
    }
    let directory = arguments.with_savepoint.as_deref()?;
    let mut options = SavepointOptions::new().with_format(match arguments.format {
        SavepointType::Canonical => SavepointFormat::Canonical,
        SavepointType::Native => SavepointFormat::Native,
    });
    if !directory.is_empty() {
        options = options.with_target_directory(directory);
    }
    Some(if arguments.drain {
        JobEnding::DrainAndSavepoint(options)
    } else {
        JobEnding::Savepoint(options)
    })
}
