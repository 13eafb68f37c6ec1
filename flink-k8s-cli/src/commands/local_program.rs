//! A program whose `main` runs on this machine, in a JVM of its own, and makes the jobs that it submits.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::Context as _;
use flink_k8s_client::diagnosis::ProgramFailure;
use flink_k8s_client::submission_listener::SubmissionListener;
use flink_k8s_core::configuration::{FlinkConfiguration, Origin, common_options, deployment_options};
use flink_k8s_core::job_id::JobId;
use flink_k8s_core::start_command::{FlinkInstallation, JavaCommand, command_line_client};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::{mpsc, watch};

use crate::args::RunArguments;
use crate::connection::Rest;
use crate::local_installation;
use crate::printer::Printer;

/// The executor of Flink's client that submits to a REST endpoint.
const REMOTE: &str = "remote";
/// Settings of these beginnings would lead Flink's client elsewhere than to us.
const LEADS_ELSEWHERE: [&str; 5] = [
    "kubernetes.",
    "flink-k8s.",
    "rest.",
    "security.ssl.",
    "high-availability",
];
/// Flink's client repeats a submission that was not answered: together as long as we repeat our own.
const ATTEMPTS: (&str, &str) = ("120", "1000ms");
/// Warnings stand among what the program says. The client itself says on standard error why it fails.
const LOGGING: &str = "rootLogger.level = WARN
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c{1}: %m%n
logger.client.name = org.apache.flink.client.cli.CliFrontend
logger.client.level = OFF
";
/// How many of the last lines are kept to find the cause of a failure in.
const LINES_KEPT: usize = 1000;
/// Lines that may wait to be printed.
const LINES_AHEAD: usize = 64;

/// What is typed about the program, checked as far as that goes without the cluster.
pub(super) struct LocalProgram {
    /// What follows `run` on the command line of Flink's client.
    arguments: Vec<String>,
    is_detached: bool,
    /// Flink's configuration directory, which only its owner can read.
    directory: tempfile::TempDir,
    installation: FlinkInstallation,
}

impl LocalProgram {
    /// What the arguments say, or what is missing on this machine.
    pub(super) fn checked(arguments: &RunArguments, jar: &Path) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("flink-k8s-run-")
            .tempdir()
            .context("cannot make a directory for the configuration of the program")?;
        let installation = local_installation::find(directory.path().to_owned())?;
        Ok(Self {
            arguments: client_arguments(arguments, jar)?,
            is_detached: arguments.detached,
            directory,
            installation,
        })
    }

    /// Runs the program's `main` to its end, and adds each job that the cluster takes from it to `submitted`. If the
    /// future is dropped, the program is killed; its jobs go on.
    pub(super) async fn run(
        &self,
        printer: &Printer,
        rest: &Rest,
        configuration: &FlinkConfiguration,
        submitted: &mut Vec<JobId>,
    ) -> anyhow::Result<()> {
        self.check_version(rest).await?;
        let listener = SubmissionListener::bind(rest.client.clone()).await?;
        let is_attached = !self.is_detached && configuration.get(&deployment_options::ATTACHED)?;
        self.write_configuration(&for_client(configuration, listener.port()))?;
        let mut words = vec!["run".to_owned(), "-t".to_owned(), REMOTE.to_owned()];
        words.extend((!is_attached).then(|| "-d".to_owned()));
        words.extend(self.arguments.iter().cloned());
        let java = command_line_client(&self.installation, configuration, words)?;
        let mut java = spawn(&java, &listener)?;
        let said = talk_of(printer, &mut java, listener.submitted(), submitted).await;
        let status = java.wait().await.context("cannot tell how the program ended")?;
        submitted.clone_from(&listener.submitted().borrow());
        if !status.success() {
            let what = format!("the program failed on this machine ({status})");
            let failure = ProgramFailure::find(&Vec::from(said));
            let went_on = match submitted.len() {
                0 => String::new(),
                jobs => format!("; {jobs} of its jobs were submitted before, and go on"),
            };
            return Err(match failure {
                Some(failure) => anyhow::anyhow!(failure.root).context(what + &went_on),
                None => anyhow::anyhow!(what + &went_on),
            });
        }
        anyhow::ensure!(
            !submitted.is_empty(),
            "the program ended without a job: its main method has to call execute()"
        );
        Ok(())
    }

    /// Jobs are Java objects, which another version of Flink cannot read.
    async fn check_version(&self, rest: &Rest) -> anyhow::Result<()> {
        let cluster = rest.client.configuration().await;
        let cluster = cluster.map_err(|error| rest.explain(error))?.flink_version;
        let minor = |version: &str| version.split('.').take(2).collect::<Vec<_>>().join(".");
        match local_installation::version(&self.installation) {
            Some(local) if minor(local) != minor(&cluster) => anyhow::bail!(
                "{} is Flink {local}, and {} runs Flink {cluster}, which cannot read its jobs: FLINK_HOME has to \
                 name a Flink of the same version",
                self.installation.home.display(),
                rest.name()
            ),
            _ => Ok(()),
        }
    }

    fn write_configuration(&self, configuration: &FlinkConfiguration) -> anyhow::Result<()> {
        let write = |name: &str, text: String| {
            let path = self.directory.path().join(name);
            std::fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
        };
        write("config.yaml", configuration.to_yaml()?)?;
        write("log4j-cli.properties", LOGGING.to_owned())
    }
}

/// The arguments for Flink's client, up to the last of the program's own.
fn client_arguments(arguments: &RunArguments, jar: &Path) -> anyhow::Result<Vec<String>> {
    let jar = std::path::absolute(jar).with_context(|| format!("cannot use the path {}", jar.display()))?;
    let jar = jar.into_os_string().into_string();
    let jar = jar.map_err(|jar| anyhow::anyhow!("{} is not valid Unicode", PathBuf::from(jar).display()))?;
    let mut words = Vec::new();
    let mut option = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            words.extend([name.to_owned(), value]);
        }
    };
    option("-c", arguments.class.clone());
    option(
        "-p",
        arguments.parallelism.map(|parallelism| parallelism.to_string()),
    );
    option("-s", arguments.restore.from_savepoint.clone());
    words.extend(
        arguments
            .restore
            .allow_non_restored_state
            .then(|| "-n".to_owned()),
    );
    words.push(jar);
    words.extend(arguments.program_arguments.iter().cloned());
    Ok(words)
}

/// The effective configuration as Flink's client has to see it: the cluster is us.
fn for_client(configuration: &FlinkConfiguration, port: u16) -> FlinkConfiguration {
    let mut own = configuration.clone();
    let elsewhere: Vec<String> = own
        .iter()
        .map(|(key, _)| key.to_owned())
        .filter(|key| LEADS_ELSEWHERE.iter().any(|prefix| key.starts_with(prefix)))
        .collect();
    for key in elsewhere {
        own.remove_key(&key);
    }
    // What Ctrl-C means is decided here.
    own.remove(&deployment_options::SHUTDOWN_ON_ATTACHED_EXIT);
    let (attempts, delay) = ATTEMPTS;
    for (key, value) in [
        (deployment_options::TARGET.key, REMOTE.to_owned()),
        (common_options::REST_ADDRESS.key, "127.0.0.1".to_owned()),
        (common_options::REST_PORT.key, port.to_string()),
        (common_options::REST_RETRY_MAX_ATTEMPTS.key, attempts.to_owned()),
        (common_options::REST_RETRY_DELAY.key, delay.to_owned()),
    ] {
        own.set(key, value, Origin::CommandLine);
    }
    own
}

/// Starts the JVM, with nothing between its arguments and ours.
fn spawn(java: &JavaCommand, listener: &SubmissionListener) -> anyhow::Result<Child> {
    let mut command = Command::new(&java.program);
    command
        .args(&java.arguments)
        .envs(java.environment.iter().cloned())
        .env(SubmissionListener::HEADERS_VARIABLE, listener.client_headers())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        // Ctrl-C is for us, who say what becomes of the jobs and then end it.
        .process_group(0)
        .kill_on_drop(true);
    if !speaks_utf8(|name| std::env::var(name).ok()) {
        // Java decodes its arguments by the locale, and would lose what ASCII has not.
        command.env("LC_ALL", "C.UTF-8");
    }
    command
        .spawn()
        .with_context(|| format!("cannot start {}", java.program.display()))
}

/// Whether the locale of this environment is one of Unicode.
fn speaks_utf8(variable: impl Fn(&str) -> Option<String>) -> bool {
    let locale = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| variable(name).filter(|value| !value.is_empty()));
    locale.is_some_and(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.ends_with("utf-8") || locale.ends_with("utf8")
    })
}

/// Prints what the program says until it has nothing more to say, and notes which jobs the cluster takes; returns the
/// last lines.
async fn talk_of(
    printer: &Printer,
    java: &mut Child,
    mut jobs: watch::Receiver<Vec<JobId>>,
    submitted: &mut Vec<JobId>,
) -> VecDeque<String> {
    let (sender, mut lines) = mpsc::channel(LINES_AHEAD);
    let output = java.stdout.take().map(|pipe| read(pipe, sender.clone()));
    let error = java.stderr.take().map(|pipe| read(pipe, sender));
    let reading = async {
        tokio::join!(
            async {
                if let Some(output) = output {
                    output.await;
                }
            },
            async {
                if let Some(error) = error {
                    error.await;
                }
            },
        );
    };
    let printing = async {
        let mut last = VecDeque::new();
        loop {
            tokio::select! {
                line = lines.recv() => {
                    let Some(line) = line else { return last };
                    printer.talk(&line);
                    last.push_back(line);
                    if last.len() > LINES_KEPT {
                        last.pop_front();
                    }
                }
                Ok(()) = jobs.changed() => {
                    submitted.clone_from(&jobs.borrow_and_update());
                }
            }
        }
    };
    tokio::join!(reading, printing).1
}

/// Sends each line; what is not Unicode in it is replaced.
async fn read(pipe: impl AsyncRead + Unpin, lines: mpsc::Sender<String>) {
    let mut pipe = BufReader::new(pipe);
    let mut line = Vec::new();
    while let Ok(1..) = pipe.read_until(b'\n', &mut line).await {
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        if lines.send(text).await.is_err() {
            return;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flinks_client_sees_everything_but_what_would_lead_it_past_us() {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in [
            ("kubernetes.cluster-id", "orders"),
            ("flink-k8s.flink-version", "2.1"),
            ("rest.address", "gateway"),
            ("rest.url-prefix", "/orders"),
            ("security.ssl.rest.enabled", "true"),
            ("high-availability", "kubernetes"),
            ("high-availability.storageDir", "s3://ha"),
            ("execution.shutdown-on-attached-exit", "true"),
            ("execution.target", "kubernetes-session"),
            ("execution.checkpointing.interval", "1s"),
        ] {
            configuration.set(key, value, Origin::CommandLine);
        }
        insta::assert_snapshot!(for_client(&configuration, 4711).to_yaml().unwrap(), @"
        execution:
          checkpointing:
            interval: 1s
          target: remote
        rest:
          address: 127.0.0.1
          port: 4711
          retry:
            delay: 1000ms
            max-attempts: 120
        ");
    }

    #[test]
    fn only_a_locale_of_unicode_is_left_as_it_is() {
        let speaks = |set: &[(&str, &str)]| {
            let find = |name: &str| set.iter().find(|(key, _)| *key == name);
            speaks_utf8(|name| find(name).map(|(_, value)| (*value).to_owned()))
        };
        assert!(speaks(&[("LANG", "de_DE.UTF-8")]) && speaks(&[("LC_ALL", ""), ("LC_CTYPE", "C.utf8")]));
        assert!(!speaks(&[]) && !speaks(&[("LANG", "de_DE.UTF-8"), ("LC_ALL", "C")]));
    }
}
