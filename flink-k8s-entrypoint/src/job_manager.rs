//! A JobManager, its resource manager, and what watches both: what session and application clusters have in common.

use std::fs;
use std::io::{self, Write as _};
use std::ops::ControlFlow;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use flink_k8s_client::kube_rs::{ConnectOptions, KubeRsClient};
use flink_k8s_client::rest_client::RestClient;
use flink_k8s_client::rest_security::{RestSecurity, RestSecurityError};
use flink_k8s_core::application_outcome::ApplicationOutcome;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::flink_k8s_options::DemandSourceKind;
use flink_k8s_core::configuration::{
    FlinkConfiguration, common_options, deployment_options, flink_k8s_options, high_availability_options,
    kubernetes_options,
};
use flink_k8s_core::decorators::{HADOOP_CONF_DIRECTORY, TASK_MANAGER_POD_TEMPLATE_FILE};
use flink_k8s_core::kube_client::Uid;
use flink_k8s_core::namespace::Namespace;
use flink_k8s_core::start_command::{self, FlinkInstallation, JavaCommand, StartCommandError};
use flink_k8s_core::task_manager::TaskManagerFactory;
use flink_k8s_rm::bearer_token::BearerToken;
use flink_k8s_rm::driver::{PodFactory, ResourceManager, ResourceManagerOptions, SpareSetup};
use flink_k8s_rm::endpoint::{ApiServer, Endpoint, LeaderElectionTimes, SilentLeader};
use flink_k8s_rm::leadership::{self, HolderIdentity};
use flink_k8s_rm::observability::{Idle, Metrics, Readiness, StatusServer};
use flink_k8s_rm::rest_source::with_runners;
use tokio::signal::unix::{self, SignalKind};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::application::job_results::{self, JobResults};
use crate::application::{self, Found, LifeCycle};
use crate::installation::{Surroundings, file_names};
use crate::java_process::{JavaProcess, exit_code};
use crate::{java_liveness, properties, standalone};

/// Name of the kubeconfig's context where `kubernetes.context` asks for none.
const CONTEXT: &str = "flink-k8s";

const LOOPBACK: &str = "127.0.0.1";
/// What the API server knows the resource manager as.
pub(crate) const USER_AGENT: &str = concat!("flink-k8s-rm/", env!("CARGO_PKG_VERSION"));

/// What the JobManager belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ClusterKind {
    /// A cluster that takes jobs.
    Session,
    /// A cluster that runs one program.
    Application,
}

/// Runs the JobManager to its end. The exit code is that of the JVM, or 1 when it could not be started; the
/// reason is logged.
pub(crate) fn main(kind: ClusterKind, arguments: impl IntoIterator<Item = String>) -> ExitCode {
    flink_k8s_client::install_crypto_provider();
    let arguments: Vec<String> = arguments.into_iter().collect();
    let ended = tokio::runtime::Runtime::new()
        .context("cannot start the async runtime")
        .and_then(|runtime| runtime.block_on(run(kind, &Surroundings::of_this_process(), arguments)));
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            error!("the JobManager cannot run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Starts everything, waits for the JVM's end, and returns its exit code.
async fn run(kind: ClusterKind, surroundings: &Surroundings, arguments: Vec<String>) -> anyhow::Result<u8> {
    let settings = properties::dynamic_properties(arguments.iter().cloned())?;
    let mut configuration = properties::overlaid(surroundings.configuration()?, &settings);
    if configuration.get(&flink_k8s_options::DEMAND_SOURCE)? == DemandSourceKind::Rest {
        ensure_session(kind)?;
        return standalone::run(surroundings, configuration, &arguments).await;
    }
    let installation = surroundings.installation()?;
    let is_job_id_given = configuration.is_configured(&deployment_options::FIXED_JOB_ID);
    let mut arguments = arguments;
    if kind == ClusterKind::Application {
        application::see_to_artifacts(&configuration)?;
        let missing = application::missing_settings(&configuration, &installation)?;
        configuration = with_settings(configuration, &mut arguments, &missing);
    }
    let health_port = configuration.get(&flink_k8s_options::HEALTH_PORT)?;

    let identity = Identity::read(&configuration)?;
    let connect = ConnectOptions::in_pod(identity.namespace.clone()).with_user_agent(USER_AGENT);
    let kube = KubeRsClient::connect(&connect).await?;
    let life_cycle = life_cycle(kind, &configuration, &kube, &identity)?;
    let status_server = StatusServer::bind(health_port).await?;
    let finishing = match still_to_run(life_cycle, !is_job_id_given, &status_server).await? {
        ControlFlow::Break(code) => return Ok(code),
        ControlFlow::Continue(finishing) => finishing,
    };
    if let Some((_, uid)) = &finishing {
        let kept = job_results::settings(&configuration, uid)?;
        configuration = with_settings(configuration, &mut arguments, &kept);
    }
    let results = JobResults::read(&configuration)?;
    let finishing = finishing.map(|(life_cycle, uid)| (life_cycle.with_results(results), uid));
    let command = java_command(kind, &installation, &configuration, &arguments)?;
    let forward = ApiServer::new(connect.configuration().await?)?;
    let endpoint = Endpoint::bind()
        .await
        .context("cannot listen on the loopback for the JobManager")?
        .with_leader_election_times(leader_election_times(&configuration)?);
    let context = configuration.find(&kubernetes_options::CONTEXT)?;
    let kubeconfig = endpoint.kubeconfig(&identity.namespace, context.as_deref().unwrap_or(CONTEXT));
    let kubeconfig = PrivateFile::write("kubeconfig", &kubeconfig)?;
    let silent_leader = endpoint.silent_leader();

    let options = resource_manager_options(surroundings, &configuration, identity)?;
    let rest = match &finishing {
        Some(_) => Some(rest_of_this_pod(&configuration)?),
        None => rest_if_readable(&configuration)?,
    };
    let readiness = readiness(&configuration, rest.as_ref())?;
    let liveness = java_liveness::of_this_pod(&configuration)?;
    let status_server = java_liveness::shown_by(status_server, liveness.as_ref());
    let spares = spares(surroundings, &configuration, &kube);
    let metrics = Metrics::of_client(kube.api_calls());
    let factory = pod_factory(surroundings, configuration)?;
    let farewell = CancellationToken::new();
    let mut manager = ResourceManager::new(options, Arc::new(kube), Some(forward), factory)
        .with_endpoint(endpoint)
        .with_farewell(farewell.clone())
        .with_metrics(metrics);
    if let Some(spares) = spares {
        manager = manager.with_spares(spares);
    }
    if let Some(rest) = &rest {
        manager = manager.with_demand_source(Arc::new(rest.clone()));
    }

    let (shutdown, stop_java) = (CancellationToken::new(), CancellationToken::new());
    let handle = manager.handle();
    let serving = tokio::spawn(status_server.serve(handle.clone(), readiness, shutdown.clone()));
    let mut managing = tokio::spawn(manager.run(shutdown.clone()));

    let java = JavaProcess::start(&command, &java_environment(surroundings, &kubeconfig))?;
    info!(program = %command.program.display(), "JobManager started");
    let watching = liveness.map(|liveness| java_liveness::watch(liveness, handle));
    let following = finishing
        .clone()
        .zip(rest)
        .map(|((life_cycle, uid), rest)| AbortOnDropHandle::new(tokio::spawn(life_cycle.finish(uid, rest))));
    let supervised = java.supervise(stop_java.clone(), farewell, fallen_silent(silent_leader));
    tokio::pin!(supervised);
    let status = tokio::select! {
        status = &mut supervised => status?,
        ended = &mut managing => {
            // Without a resource manager the JobManager would wait for workers for ever.
            error!(?ended, "the resource manager ended unexpectedly; the JobManager is being stopped");
            stop_java.cancel();
            supervised.await?;
            anyhow::bail!("the resource manager ended unexpectedly");
        }
    };
    info!(%status, "JobManager ended");
    drop((following, watching));
    if let Some((life_cycle, uid)) = &finishing {
        life_cycle.java_ended(uid, exit_code(status)).await;
    }
    shutdown.cancel();
    managing
        .await
        .context("the resource manager failed while it ended")??;
    serving
        .await
        .context("the health endpoint failed while it ended")?;
    Ok(exit_code(status))
}

/// Completes when the JVM has to be killed: it led, and was paused for longer than that lasts. Another JobManager may lead by now, and
/// what this one tells TaskManagers when it finds out would take them away from there.
async fn fallen_silent(mut leader: SilentLeader) {
    let silent = leader.wait().await;
    error!(
        silent_for_seconds = silent.as_secs(),
        "the JobManager led, and has made no call of its election for longer than {} allows; it is killed before it disturbs the \
         next leader's TaskManagers, and a standby or the next container goes on",
        high_availability_options::RENEW_DEADLINE.key
    );
}

/// Standalone JobManagers run no applications.
fn ensure_session(kind: ClusterKind) -> anyhow::Result<()> {
    anyhow::ensure!(
        kind == ClusterKind::Session,
        "an application cluster needs {}=native: standalone JobManagers run sessions only",
        flink_k8s_options::DEMAND_SOURCE.key
    );
    Ok(())
}

fn life_cycle(
    kind: ClusterKind,
    configuration: &FlinkConfiguration,
    kube: &KubeRsClient,
    identity: &Identity,
) -> anyhow::Result<Option<LifeCycle>> {
    match kind {
        ClusterKind::Session => Ok(None),
        ClusterKind::Application => {
            let kube = Arc::new(kube.clone());
            LifeCycle::read(configuration, kube, identity.cluster_id.clone())
        }
    }
}

/// What is to be done when the job of this Deployment has ended. Where it has ended before, waits for the end of the
/// cluster, and returns the exit code.
async fn still_to_run(
    life_cycle: Option<LifeCycle>,
    is_id_chosen_here: bool,
    status_server: &StatusServer,
) -> anyhow::Result<ControlFlow<u8, Option<(LifeCycle, Uid)>>> {
    let Some(life_cycle) = life_cycle else {
        return Ok(ControlFlow::Continue(None));
    };
    let found = told_to_stop_before(life_cycle.found(is_id_chosen_here));
    let waiting = Idle::Waiting("waiting for Kubernetes to say whether the job ended before");
    Ok(match status_server.idle(waiting, found).await? {
        Some(Found::Running(uid)) => ControlFlow::Continue(Some((life_cycle, uid))),
        Some(Found::Ended(uid, outcome)) => {
            ControlFlow::Break(after_the_end(&life_cycle, uid, outcome, status_server).await?)
        }
        Some(Found::Gone) => ControlFlow::Break(after_the_removal(status_server).await?),
        None => ControlFlow::Break(0),
    })
}

/// The JVM to start.
fn java_command(
    kind: ClusterKind,
    installation: &FlinkInstallation,
    configuration: &FlinkConfiguration,
    arguments: &[String],
) -> Result<JavaCommand, StartCommandError> {
    match kind {
        ClusterKind::Session => start_command::session_job_manager(installation, configuration, arguments),
        ClusterKind::Application => {
            start_command::application_job_manager(installation, configuration, arguments)
        }
    }
}

/// The configuration with these settings, of which the JVM learns by its arguments.
fn with_settings(
    configuration: FlinkConfiguration,
    arguments: &mut Vec<String>,
    settings: &[(String, String)],
) -> FlinkConfiguration {
    arguments.extend(settings.iter().map(|(key, value)| format!("-D{key}={value}")));
    properties::overlaid(configuration, settings)
}

fn resource_manager_options(
    surroundings: &Surroundings,
    configuration: &FlinkConfiguration,
    identity: Identity,
) -> anyhow::Result<ResourceManagerOptions> {
    let options = ResourceManagerOptions::new(identity.cluster_id, identity.namespace)
        .with_configuration(configuration)?;
    Ok(match leadership::configured_for_native_source(configuration)? {
        Some(times) => {
            let pod = surroundings.variable("HOSTNAME").unwrap_or("flink-k8s");
            options.with_leader_election(times, HolderIdentity::unique(pod, None))
        }
        None => options,
    })
}

/// The job ended before this container was started again: it is not run once more. Answers probes until the cluster is
/// removed.
async fn after_the_end(
    life_cycle: &LifeCycle,
    uid: Uid,
    outcome: ApplicationOutcome,
    status_server: &StatusServer,
) -> anyhow::Result<u8> {
    let ApplicationOutcome { job_id, state, .. } = &outcome;
    info!(%job_id, state, "the job ended before this container was started again, and is not run once more");
    let concluding = async {
        life_cycle.conclude(&uid, &outcome, None).await;
        std::future::pending::<()>().await;
    };
    let until_removed = told_to_stop_before(concluding);
    status_server
        .idle(Idle::Done("the job ended"), until_removed)
        .await?;
    Ok(0)
}

/// The Deployment is gone already, and this pod is about to go.
async fn after_the_removal(status_server: &StatusServer) -> anyhow::Result<u8> {
    info!("the cluster is being removed; nothing is started");
    let until_removed = told_to_stop_before(std::future::pending::<()>());
    status_server
        .idle(Idle::Done("the cluster is being removed"), until_removed)
        .await?;
    Ok(0)
}

/// The result of this future, or `None` when the container is told to stop before.
async fn told_to_stop_before<T>(future: impl Future<Output = T>) -> anyhow::Result<Option<T>> {
    let mut terminated = unix::signal(SignalKind::terminate())?;
    let mut interrupted = unix::signal(SignalKind::interrupt())?;
    Ok(tokio::select! {
        result = future => Some(result),
        _ = terminated.recv() => None,
        _ = interrupted.recv() => None,
    })
}

/// What is added to the JVM's environment.
fn java_environment(surroundings: &Surroundings, kubeconfig: &PrivateFile) -> Vec<(String, String)> {
    let mut environment = without_proxy(surroundings);
    environment.push(("KUBECONFIG".to_owned(), kubeconfig.path.display().to_string()));
    environment
}

/// Flink's Kubernetes client takes a proxy from the environment; our endpoint is on the loopback, where no proxy
/// reaches.
fn without_proxy(surroundings: &Surroundings) -> Vec<(String, String)> {
    ["NO_PROXY", "no_proxy"]
        .map(|name| {
            let others = surroundings.variable(name).map(|hosts| format!("{hosts},"));
            (
                name.to_owned(),
                format!("{}{LOOPBACK}", others.unwrap_or_default()),
            )
        })
        .into()
}

fn leader_election_times(configuration: &FlinkConfiguration) -> anyhow::Result<LeaderElectionTimes> {
    Ok(LeaderElectionTimes {
        lease_duration: configuration.get(&high_availability_options::LEASE_DURATION)?,
        renew_deadline: configuration.get(&high_availability_options::RENEW_DEADLINE)?,
        retry_period: configuration.get(&high_availability_options::RETRY_PERIOD)?,
    })
}

/// Which cluster this is.
pub(crate) struct Identity {
    pub(crate) cluster_id: ClusterId,
    pub(crate) namespace: Namespace,
}

impl Identity {
    pub(crate) fn read(configuration: &FlinkConfiguration) -> anyhow::Result<Self> {
        let key = kubernetes_options::CLUSTER_ID.key;
        let cluster_id = configuration
            .find(&kubernetes_options::CLUSTER_ID)?
            .with_context(|| {
                format!("the configuration does not say which cluster this is: {key} is missing")
            })?;
        Ok(Self {
            cluster_id: cluster_id.parse()?,
            namespace: configuration.get(&kubernetes_options::NAMESPACE)?.parse()?,
        })
    }
}

/// Spares whose runners know the token that is kept in the cluster's Secret; `None` if the configuration, of which
/// Flink may make more than we do, describes no TaskManager.
fn spares(
    surroundings: &Surroundings,
    configuration: &FlinkConfiguration,
    kube: &KubeRsClient,
) -> Option<SpareSetup> {
    let setup = || {
        let cluster_id = Identity::read(configuration)?.cluster_id;
        let factory = pod_factory(surroundings, with_runners(configuration.clone(), &cluster_id))?;
        let (kube, owned_by) = (kube.clone(), cluster_id.clone());
        let find_token = move |owner| {
            let (kube, cluster_id) = (kube.clone(), owned_by.clone());
            async move {
                let fresh = BearerToken::random();
                let token = kube
                    .runner_token(&cluster_id, Some(owner), fresh.expose())
                    .await?;
                Ok(BearerToken::from_secret(token)?)
            }
        };
        anyhow::Ok(SpareSetup::new(&cluster_id, configuration, factory, find_token)?)
    };
    setup()
        .inspect_err(|error| warn!("there are no spare TaskManagers: {error:#}"))
        .ok()
}

/// Flink's REST API of the JVM that is about to start. Where it speaks TLS, the certificate of its own keystore is
/// trusted, and shown if it wants one.
pub(crate) fn rest_of_this_pod(configuration: &FlinkConfiguration) -> anyhow::Result<RestClient> {
    let port = rest_port(configuration)?;
    if !configuration.get(&common_options::REST_SSL_ENABLED)? {
        return Ok(RestClient::new(format!("http://{LOOPBACK}:{port}/").parse()?)?);
    }
    let security = RestSecurity::of_own_endpoint(configuration)
        .context("cannot talk to the JobManager's REST endpoint, which is to speak TLS")?;
    let base_url = format!("https://{LOOPBACK}:{port}/").parse()?;
    Ok(RestClient::with_security(base_url, security)?)
}

/// As [`rest_of_this_pod`], where the JobManager can do without us: Java may know kinds of stores that we do not.
fn rest_if_readable(configuration: &FlinkConfiguration) -> anyhow::Result<Option<RestClient>> {
    match rest_of_this_pod(configuration) {
        Err(error) if error.downcast_ref::<RestSecurityError>().is_some() => {
            warn!("requests for workers are not held back after a restart: {error:#}");
            Ok(None)
        }
        rest => rest.map(Some),
    }
}

fn readiness(configuration: &FlinkConfiguration, rest: Option<&RestClient>) -> anyhow::Result<Readiness> {
    Ok(match rest {
        Some(rest) => Readiness::Rest(rest.clone()),
        None => Readiness::Port(rest_port(configuration)?),
    })
}

pub(crate) fn rest_port(configuration: &FlinkConfiguration) -> anyhow::Result<u16> {
    let port = configuration.get(&common_options::REST_BIND_PORT)?;
    port.trim().parse().with_context(|| {
        let key = common_options::REST_BIND_PORT.key;
        format!("{key} is {port:?}, but must be one port")
    })
}

pub(crate) fn pod_factory(
    surroundings: &Surroundings,
    configuration: FlinkConfiguration,
) -> anyhow::Result<PodFactory> {
    let template = read_if_there(Path::new(TASK_MANAGER_POD_TEMPLATE_FILE))?;
    let files = surroundings.configuration_files()?;
    let hadoop = match file_names(Path::new(HADOOP_CONF_DIRECTORY)) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(error).context(format!("cannot read {HADOOP_CONF_DIRECTORY}")),
    };
    let factory =
        TaskManagerFactory::new(configuration, template.as_deref(), &files)?.with_hadoop_files(&hadoop)?;
    Ok(factory.into())
}

fn read_if_there(path: &Path) -> anyhow::Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).context(format!("cannot read {}", path.display())),
    }
}

/// A file that only we can read, in a directory of its own; removed with this value.
struct PrivateFile {
    directory: PathBuf,
    path: PathBuf,
}

impl PrivateFile {
    fn write(name: &str, content: &str) -> anyhow::Result<Self> {
        let parent = std::env::temp_dir();
        let directory = parent.join(format!("flink-k8s-{:016x}", rand::random::<u64>()));
        fs::create_dir(&directory)
            .with_context(|| format!("cannot create a private directory in {}", parent.display()))?;
        let file = Self {
            path: directory.join(name),
            directory,
        };
        let mut opened = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&file.path)
            .with_context(|| format!("cannot create {}", file.path.display()))?;
        opened
            .write_all(content.as_bytes())
            .with_context(|| format!("cannot write {}", file.path.display()))?;
        Ok(file)
    }
}

impl Drop for PrivateFile {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.directory) {
            tracing::warn!(directory = %self.directory.display(), %error, "private directory stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flink_k8s_core::configuration::Origin;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_private_file_is_for_its_owner_and_goes_with_its_value() {
        let file = PrivateFile::write("kubeconfig", "token: secret").unwrap();
        let (path, directory) = (file.path.clone(), file.directory.clone());
        assert_eq!(fs::read_to_string(&path).unwrap(), "token: secret");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        drop(file);
        assert!(!directory.exists());
    }

    #[test]
    fn flink_is_asked_on_the_loopback_with_tls_where_it_speaks_that() {
        flink_k8s_client::install_crypto_provider();
        let mut configuration = FlinkConfiguration::new();
        configuration.set("rest.port", "18081", Origin::CommandLine);
        let rest = rest_of_this_pod(&configuration).unwrap();
        assert_eq!(rest.base_url().as_str(), "http://127.0.0.1:18081/");
        configuration.set("security.ssl.rest.enabled", "true", Origin::CommandLine);
        let refusal = format!("{:#}", rest_of_this_pod(&configuration).unwrap_err());
        assert!(refusal.contains("needs security.ssl.rest.keystore"), "{refusal}");
        assert!(rest_if_readable(&configuration).unwrap().is_none());
        configuration.set("security.ssl.rest.enabled", "false", Origin::CommandLine);
        configuration.set("rest.bind-port", "8081-8090", Origin::CommandLine);
        let refusal = rest_of_this_pod(&configuration).unwrap_err().to_string();
        assert!(refusal.contains("rest.bind-port is \"8081-8090\""), "{refusal}");
    }

    #[test]
    fn a_configuration_without_a_cluster_is_refused_by_the_key() {
        let mut configuration = FlinkConfiguration::new();
        let refusal = Identity::read(&configuration).err().unwrap().to_string();
        assert!(refusal.contains("kubernetes.cluster-id is missing"), "{refusal}");
        configuration.set("kubernetes.cluster-id", "Orders", Origin::CommandLine);
        assert!(Identity::read(&configuration).is_err());
    }
}
