//! `flink-k8s local up|down|status`

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flink_k8s_local::local_cluster::{
    DownReport, ImageMapping, LocalCluster, LocalClusterOptions, Mode, RequestedMode, Status,
};

use super::interrupted;
use crate::args::{LocalDirectory, LocalMode, LocalStatusArguments, LocalStatusFormat, LocalUpArguments};
use crate::local_installation;
use crate::outcome::Outcome;
use crate::printer::Printer;

/// Starts the embedded Kubernetes.
pub(crate) async fn up(printer: &Printer, arguments: LocalUpArguments) -> anyhow::Result<Outcome> {
    let directory = state_directory(arguments.directory)?;
    let flink_home = local_installation::flink_home(&arguments.flink_home)?;
    let java_home = match arguments.java_home {
        Some(java_home) => java_home,
        None => local_installation::java_on_path().context(
            "no Java is found: there is no java on the PATH; name an installation with --java-home",
        )?,
    };
    let java = java_home.join("bin/java");
    anyhow::ensure!(
        java.is_file(),
        "there is no Java in {}: {} is missing",
        java_home.display(),
        java.display()
    );
    let binaries = match arguments.binaries {
        Some(binaries) => binaries,
        None => own_directory()?,
    };
    let session = binaries.join("flink-k8s-session");
    if !session.is_file() {
        printer.talk(format!(
            "warning: {} is missing, so only clusters with flink-k8s.resource-manager=flink can start here; \
             --binaries names another directory",
            session.display()
        ));
    }
    let image = ImageMapping::flink(
        absolute(&flink_home)?,
        Some(absolute(&binaries)?),
        absolute(&java_home)?,
    );
    let options = LocalClusterOptions::new(absolute(&directory)?)
        .with_images(vec![image])
        .with_mode(requested(arguments.mode))
        .with_reexec_program(std::env::current_exe().context("cannot find the path of this program")?);
    let cluster = tokio::select! {
        cluster = LocalCluster::up(options) => cluster?,
        () = interrupted() => {
            LocalCluster::down(&directory).await?;
            printer.talk("interrupted; nothing was left behind");
            return Ok(Outcome::Interrupted);
        }
    };
    if let Mode::Plain { reason } = cluster.mode() {
        printer.talk(format!(
            "warning: pods run in plain mode, without networks of their own ({reason}): one Flink cluster at a time"
        ));
    }
    printer.talk(format!(
        "the embedded Kubernetes serves {}; use it with:",
        cluster.endpoint()
    ));
    printer.talk(format!("  export KUBECONFIG={}", cluster.kubeconfig().display()));
    printer.data(cluster.kubeconfig().display().to_string());
    Ok(Outcome::Success)
}

/// Ends the embedded Kubernetes.
pub(crate) async fn down(printer: &Printer, arguments: LocalDirectory) -> anyhow::Result<Outcome> {
    let directory = state_directory(arguments)?;
    printer.talk(match LocalCluster::down(&directory).await? {
        DownReport::NotRunning => format!("no embedded Kubernetes runs from {}", directory.display()),
        DownReport::Killed => "the embedded Kubernetes did not end in time and was killed".to_owned(),
        _ => "the embedded Kubernetes has ended".to_owned(),
    });
    Ok(Outcome::Success)
}

/// Says whether the embedded Kubernetes runs.
pub(crate) async fn status(printer: &Printer, arguments: LocalStatusArguments) -> anyhow::Result<Outcome> {
    let directory = state_directory(arguments.directory)?;
    let cluster = match LocalCluster::status(&directory).await? {
        Status::Running(cluster) => cluster,
        other => {
            let word = match other {
                Status::Changing => "is starting or stopping",
                Status::Stale => "has died; `flink-k8s local down` clears what it left",
                _ => "is not running",
            };
            printer.talk(format!(
                "the embedded Kubernetes of {} {word}",
                directory.display()
            ));
            return Ok(Outcome::UserError);
        }
    };
    let kubeconfig = cluster.kubeconfig().display().to_string();
    let (mode, reason) = match cluster.mode() {
        Mode::Sandbox => ("sandbox", None),
        Mode::Plain { reason } => ("plain", Some(reason.clone())),
    };
    printer.data(match arguments.output {
        LocalStatusFormat::Kubeconfig => kubeconfig,
        LocalStatusFormat::Json => serde_json::json!({
            "pid": cluster.pid(),
            "endpoint": cluster.endpoint(),
            "kubeconfig": kubeconfig,
            "mode": mode,
            "reason": reason,
            "directory": directory,
        })
        .to_string(),
        LocalStatusFormat::Table => {
            let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
            format!(
                "running      yes, process {}\nAPI server   {}\nkubeconfig   {kubeconfig}\nmode         {mode}{reason}",
                cluster.pid(),
                cluster.endpoint()
            )
        }
    });
    Ok(Outcome::Success)
}

fn requested(mode: LocalMode) -> RequestedMode {
    match mode {
        LocalMode::Auto => RequestedMode::Auto,
        LocalMode::Sandbox => RequestedMode::Sandbox,
        LocalMode::Plain => RequestedMode::Plain,
    }
}

fn state_directory(arguments: LocalDirectory) -> anyhow::Result<PathBuf> {
    if let Some(directory) = arguments.directory {
        return Ok(directory);
    }
    let state = std::env::var_os("XDG_STATE_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute());
    let state = match state {
        Some(state) => state,
        None => PathBuf::from(
            std::env::var_os("HOME").context("HOME is not set: name a directory with --directory")?,
        )
        .join(".local/state"),
    };
    Ok(state.join("flink-k8s/local"))
}

fn own_directory() -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find the path of this program")?;
    program
        .parent()
        .map(Path::to_owned)
        .context("this program is in no directory")
}

fn absolute(path: &Path) -> anyhow::Result<PathBuf> {
    std::path::absolute(path).with_context(|| format!("cannot use the path {}", path.display()))
}
