//! `flink-k8s job upgrade`

use std::path::Path;

use anyhow::bail;
use flink_k8s_client::rest_access::RestAccess;
use flink_k8s_client::upgrade::{JarFile, JobUpgradePlan, UpgradeOptions, Upgrader, find_upgrade};
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::permissions::{Permission, UserTask, of_user};
use flink_k8s_core::upgrade::{JarProgram, JobPrograms, UpgradeMode, UpgradeTarget};

use super::submission::{check_jar, job_options};
use super::{permissions, upgrade};
use crate::args::upgrade::JobUpgradeArguments;
use crate::connection::Connection;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Says what is intended, and sees the upgrade through to its end.
pub(crate) async fn run(printer: &Printer, arguments: JobUpgradeArguments) -> anyhow::Result<Outcome> {
    let wanted = Wanted::read(printer, &arguments).await?;
    let JobUpgradeArguments {
        flags,
        reaching,
        job_id,
        ..
    } = arguments;
    let connection = Connection::open(printer, reaching.into_properties()).await?;
    let cluster_id = connection.cluster_id(None)?;
    let target = UpgradeTarget::job(cluster_id, job_id);
    let options = UpgradeOptions {
        jar_files: wanted.files,
        ..upgrade::options(&flags)
    };
    let upgrader = Upgrader::new(connection.kube.clone(), connection.configuration.clone(), options);
    let Some(record) = find_upgrade(&connection.kube, &target).await? else {
        return match (flags.mode, wanted.programs) {
            (Some(mode), Some(programs)) if !flags.resume && !flags.abort => {
                begin(
                    printer,
                    &connection,
                    &upgrader,
                    (mode, flags.dry_run),
                    &target,
                    job_id,
                    programs,
                )
                .await
            }
            _ => bail!("no upgrade of {target} is under way"),
        };
    };
    upgrade::under_way(printer, &record);
    if !flags.resume && !flags.abort {
        if flags.dry_run {
            return Ok(Outcome::Success);
        }
        let is_this = |programs: JobPrograms| JobUpgradePlan::is_of(&record, &programs);
        let is_same = flags.mode == Some(record.progress.mode()) && wanted.programs.is_some_and(is_this);
        if !is_same {
            return Err(upgrade::another_is_under_way(&record).into());
        }
    }
    upgrade::taken_up(printer, &connection, &upgrader, &target, &flags, None).await
}

async fn begin(
    printer: &Printer,
    connection: &Connection,
    upgrader: &Upgrader,
    (mode, is_dry): (UpgradeMode, bool),
    target: &UpgradeTarget,
    job_id: JobId,
    programs: JobPrograms,
) -> anyhow::Result<Outcome> {
    require_permissions(connection).await?;
    let plan = upgrader.plan_job(mode, target, job_id, programs).await?;
    upgrade::job_plan(printer, &plan);
    if is_dry {
        return Ok(Outcome::Success);
    }
    let by = upgrade::user();
    upgrade::begun(printer, connection, target, upgrader.begin_job(plan, &by)).await
}

/// What the arguments ask for, and the files that it needs.
struct Wanted {
    programs: Option<JobPrograms>,
    files: Vec<JarFile>,
}

impl Wanted {
    /// Reads and checks the jars. Nothing is asked of Kubernetes.
    async fn read(printer: &Printer, arguments: &JobUpgradeArguments) -> anyhow::Result<Self> {
        let mut wanted = Self {
            programs: None,
            files: Vec::new(),
        };
        let Some(jar) = &arguments.jar else {
            return Ok(wanted);
        };
        let class = arguments.class.as_deref();
        let mut new = wanted.program(printer, jar, class).await?;
        new.arguments.clone_from(&arguments.program_arguments);
        new.parallelism = arguments.parallelism;
        new.options = job_options(&arguments.reaching.dynamic);
        new.skips_unclaimed_state = arguments.allow_non_restored_state;
        let way_back = &arguments.way_back;
        let mut programs = JobPrograms { old: None, new };
        if let Some(jar) = &way_back.rollback_jar {
            let class = way_back.rollback_class.as_deref().or(class);
            let mut old = wanted.program(printer, jar, class).await?;
            let arguments = way_back.rollback_arguments.as_ref();
            old.arguments
                .clone_from(arguments.unwrap_or(&programs.new.arguments));
            old.parallelism = way_back.rollback_parallelism.or(programs.new.parallelism);
            old.options = match &way_back.rollback_options {
                Some(options) => options.iter().cloned().collect(),
                None => programs.new.options.clone(),
            };
            programs.old = Some(old);
        }
        wanted.programs = Some(programs);
        Ok(wanted)
    }

    async fn program(
        &mut self,
        printer: &Printer,
        jar: &Path,
        class: Option<&str>,
    ) -> anyhow::Result<JarProgram> {
        check_jar(printer, jar, class)?;
        let file = JarFile::read(jar).await?;
        let mut program = file.program();
        program.entry_class = class.map(str::to_owned);
        self.files.push(file);
        Ok(program)
    }
}

/// Refuses, before anything is touched, what the user may not do to the end.
async fn require_permissions(connection: &Connection) -> anyhow::Result<()> {
    let mut needed = match RestAccess::given(&connection.configuration)? {
        Some(_) => of_user([]),
        None => of_user([UserTask::Reach]),
    };
    for verb in ["get", "create", "update", "delete"] {
        needed.insert(Permission::new(verb, "", "configmaps"));
    }
    permissions::require_all(&connection.kube, "upgrade a job", needed).await
}
