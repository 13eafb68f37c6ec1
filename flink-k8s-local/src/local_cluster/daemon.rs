//! The process that is the cluster: API server, controllers and node agent.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::state::{ClusterOptions, ReadyCluster, StateDirectory, write_private};
use crate::api_server::{ApiServer, ApiServerOptions};
use crate::controllers::{self, ControllersOptions};
use crate::node::{ApiAddress, NodeAgent, NodeOptions, PodNetwork};
use crate::sandbox::network::SandboxNetwork;
use crate::sandbox::{SandboxError, Step};

/// Name of the one node.
const NODE_NAME: &str = "local";
/// Port on which the API server listens for pods.
const API_PORT_FOR_PODS: u16 = 6443;
/// Threads for the daemon's own work.
const WORKER_THREADS: usize = 4;
/// How long the controllers may take to end.
const CONTROLLER_STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// Runs the cluster until it is told to stop. Standard input is the API server's listener.
pub(crate) fn run_daemon(arguments: &[String]) -> Result<ExitCode, SandboxError> {
    let path = arguments
        .first()
        .ok_or_else(|| SandboxError::other("find the state directory", "the argument is missing"))?;
    let state = StateDirectory::new(PathBuf::from(path));
    let options = state
        .read_options()
        .step(|| "read the options of the cluster".to_owned())?;
    let range = parse_range(arguments);
    if range.is_none() {
        // Without a PID namespace this is what ends the daemon with its supervisor.
        nix::sys::prctl::set_pdeathsig(nix::sys::signal::Signal::SIGKILL)
            .step(|| "tie the cluster to its supervisor".to_owned())?;
    }
    let listener = io::stdin()
        .as_fd()
        .try_clone_to_owned()
        .step(|| "take the listener over".to_owned())?;
    tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(io::stderr)
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("FLINK_K8S_LOCAL_LOG")
                .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info,kube=warn,tower=warn")),
        )
        .init();
    // A second one in the same process is refused; then the first serves as well.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(WORKER_THREADS)
        .enable_all()
        .build()
        .step(|| "start the runtime".to_owned())?;
    let result = runtime.block_on(serve(&state, options, TcpListener::from(listener), range));
    runtime.shutdown_timeout(Duration::from_secs(1));
    match result {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(error) => {
            error!(error = &*error as &dyn Error, "the cluster ends");
            Err(SandboxError::other(
                "run the cluster",
                crate::sandbox::chain(&*error),
            ))
        }
    }
}

fn parse_range(arguments: &[String]) -> Option<(Ipv4Addr, u8)> {
    Some((arguments.get(1)?.parse().ok()?, arguments.get(2)?.parse().ok()?))
}

async fn serve(
    state: &StateDirectory,
    options: ClusterOptions,
    listener: TcpListener,
    range: Option<(Ipv4Addr, u8)>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut terminate = signal(SignalKind::terminate())?;
    listener.set_nonblocking(true)?;
    let host_address = listener.local_addr()?;
    let mut listeners = vec![listener];
    let (network, api_address) = match range {
        Some((range, prefix)) => {
            let network = SandboxNetwork::set_up(range, prefix).await?;
            let address = SocketAddr::from((network.gateway(), API_PORT_FOR_PODS));
            let listener = TcpListener::bind(address)?;
            listener.set_nonblocking(true)?;
            listeners.push(listener);
            (PodNetwork::Sandbox(network), address)
        }
        None => (PodNetwork::host(), host_address),
    };
    let names = [
        "localhost".to_owned(),
        host_address.ip().to_string(),
        api_address.ip().to_string(),
        "10.96.0.1".to_owned(),
        "kubernetes".to_owned(),
        "kubernetes.default".to_owned(),
        "kubernetes.default.svc".to_owned(),
        "kubernetes.default.svc.cluster.local".to_owned(),
    ];
    let server_options = names.into_iter().fold(
        ApiServerOptions::new(listeners, state.container_logs()),
        ApiServerOptions::with_subject_alternative_name,
    );
    let server = ApiServer::start(server_options).await?;
    let endpoint = format!("https://{host_address}");
    write_private(&options.kubeconfig, server.kubeconfig(&endpoint).as_bytes())?;
    let mut client_config = server.client_config();
    // The host's listener is out of reach in here: connecting takes a network, accepting does not.
    client_config.cluster_url = format!("https://{api_address}").parse()?;
    let client = kube::Client::try_from(client_config)?;
    let shutdown = CancellationToken::new();
    let controllers_options = ControllersOptions {
        ca_certificate_pem: server.ca_certificate_pem().to_owned(),
        api_server_address: api_address,
    };
    let mut controllers = tokio::spawn(controllers::run(
        client.clone(),
        controllers_options,
        shutdown.clone(),
    ));
    let agent = NodeAgent::register(NodeOptions {
        name: NODE_NAME.to_owned(),
        client,
        images: options.images,
        capacity: options.capacity,
        network,
        api_address: ApiAddress {
            address: api_address,
            ca_certificate: server.ca_certificate_pem().to_owned(),
        },
        mode: options.mode.clone(),
        run_directory: state.run_directory(),
        pods_directory: state.pods(),
        log_directory: state.container_logs(),
    })
    .await?;
    let node_shutdown = CancellationToken::new();
    let mut node = tokio::spawn(agent.run(node_shutdown.clone()));
    state.write_ready(&ReadyCluster {
        endpoint,
        kubeconfig: options.kubeconfig,
        mode: options.mode,
    })?;
    info!("the cluster serves");
    let result: Result<(), Box<dyn Error + Send + Sync>> = tokio::select! {
        biased;
        _ = terminate.recv() => {
            info!("the cluster stops");
            Ok(())
        }
        ended = &mut controllers => Err(format!("the controllers ended: {ended:?}").into()),
        ended = &mut node => Err(format!("the node agent ended: {ended:?}").into()),
    };
    // First nobody makes new pods, then the pods end, then the server they talk to.
    shutdown.cancel();
    if !controllers.is_finished() {
        let _ = tokio::time::timeout(CONTROLLER_STOP_TIMEOUT, &mut controllers).await;
    }
    node_shutdown.cancel();
    if !node.is_finished() {
        node.await??;
    }
    result
}
