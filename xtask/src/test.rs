//! Everything that must hold before a change lands: format, rules, lints, tests, and no process left over.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use flink_k8s_core::flink_version::FlinkVersion;

use crate::cache::Cache;
use crate::flink_distribution::FlinkDistribution;
use crate::interrupt::Interrupt;
use crate::java_runtime::JavaRuntime;
use crate::program::{Program, find_in_path};
use crate::report::Report;
use crate::run_directory::RunDirectory;
use crate::terminal::Terminal;
use crate::workspace::Workspace;
use crate::{job_jar, leftovers, tidy};

/// What the names of the run directories begin with.
const PREFIX: &str = "flink-k8s-test-";
/// Part of the name of each test that runs a real Flink, or of its file.
const END_TO_END: &str = "end_to_end";
/// Part of the names of those that run with every version.
const OF_ANY_VERSION: &str = "of_any_version";
/// The usual version, and the oldest one.
const DEFAULT_VERSIONS: [FlinkVersion; 2] = [FlinkVersion::V2_1, FlinkVersion::V1_20];
/// How long processes of the tests may take to disappear after the last test.
const DISAPPEAR_LIMIT: Duration = Duration::from_secs(10);

/// Arguments of `cargo xtask test`.
#[derive(Debug, clap::Args)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a switch of its own on the command line"
)]
pub(crate) struct Arguments {
    /// Leave out the tests that run a real Flink; then neither Flink nor Java is needed
    #[arg(long)]
    no_e2e: bool,
    /// Leave out the check of the format
    #[arg(long)]
    no_fmt: bool,
    /// Leave out clippy
    #[arg(long)]
    no_clippy: bool,
    /// Leave out `cargo xtask tidy`
    #[arg(long)]
    no_tidy: bool,
    /// Which Flink the end-to-end tests run: 1.20, 2.1, 2.2 or 2.3; with all others than the first, only
    /// those run that depend on the version most, on jobs of every kind
    #[arg(
        long,
        value_name = "VERSION",
        value_delimiter = ',',
        default_values_t = DEFAULT_VERSIONS
    )]
    flink_version: Vec<FlinkVersion>,
    /// Run only tests whose names contain this, and no documentation tests
    filter: Option<String>,
}

/// Checks and tests the whole workspace.
///
/// # Errors
///
/// The first check that fails, or the tests, or a process that the tests left running.
pub(crate) async fn run(
    arguments: Arguments,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    let mut report = Report::new(terminal);
    let workspace = Workspace::locate(interrupt).await?;
    check(&arguments, &workspace, &mut report, terminal, interrupt).await?;

    let parent = std::env::temp_dir();
    for abandoned in RunDirectory::abandoned(&parent, PREFIX) {
        leftovers::kill_processes(abandoned.path());
        abandoned.remove()?;
    }
    let directory = RunDirectory::create(&parent, PREFIX)?;
    let outcome = run_tests(
        &arguments,
        &workspace,
        &directory,
        &mut report,
        terminal,
        interrupt,
    )
    .await;
    let left = leftovers::wait_until_none(directory.path(), DISAPPEAR_LIMIT, &interrupt.next()).await;
    leftovers::kill_processes(directory.path());
    directory.remove()?;
    report.print_durations();
    outcome?;
    left.context("the tests left something running")
}

async fn check(
    arguments: &Arguments,
    workspace: &Workspace,
    report: &mut Report,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    if !arguments.no_fmt {
        let phase = report.begin("Format");
        run_cargo(
            workspace.cargo().args(["fmt", "--all", "--check"]),
            report,
            interrupt,
        )
        .await?;
        report.end(phase);
    }
    if !arguments.no_tidy {
        let phase = report.begin("Tidy");
        tidy::run(&workspace.root, terminal)?;
        report.end(phase);
    }
    if !arguments.no_clippy {
        let phase = report.begin("Clippy");
        let clippy = [
            "clippy",
            "--workspace",
            "--all-targets",
            "--all-features",
            "--",
            "-D",
            "warnings",
        ];
        run_cargo(workspace.cargo().args(clippy), report, interrupt).await?;
        report.end(phase);
    }
    Ok(())
}

async fn run_tests(
    arguments: &Arguments,
    workspace: &Workspace,
    directory: &RunDirectory,
    report: &mut Report,
    terminal: Terminal,
    interrupt: &Interrupt,
) -> anyhow::Result<()> {
    // Temporary directories of the tests are below ours: what mentions it in the end is a leftover.
    let cargo = workspace.cargo().env("TMPDIR", directory.path());
    let mut versions = arguments.flink_version.iter().copied();
    let first = versions.next().filter(|_| !arguments.no_e2e);
    let with = |version| Subject::prepare(version, workspace, directory, terminal, interrupt);
    let first = match first {
        Some(version) => {
            let phase = report.begin("Java, Flink, the programs and a job for the end-to-end tests");
            let subject = with(version).await?;
            report.end(phase);
            subject.into_environment(cargo.clone())
        }
        None => cargo.clone(),
    };
    let phase = report.begin("Tests");
    let filter = arguments.filter.as_deref();
    run_cargo(
        test_command(first.clone(), &workspace.test_files, arguments.no_e2e, filter),
        report,
        interrupt,
    )
    .await?;
    report.end(phase);
    // A filter may leave none of these.
    for version in
        versions.filter(|_| !arguments.no_e2e && filter.is_none_or(|text| OF_ANY_VERSION.contains(text)))
    {
        let phase = report.begin(format!("Tests with Flink {version}"));
        let cargo = with(version).await?.into_environment(cargo.clone());
        run_cargo(
            test_command(cargo, &[], false, Some(OF_ANY_VERSION)),
            report,
            interrupt,
        )
        .await?;
        report.end(phase);
    }
    if arguments.filter.is_none() {
        let phase = report.begin("Documentation tests");
        let doc_tests = first.args(["test", "--quiet", "--workspace", "--all-features", "--doc"]);
        run_cargo(doc_tests, report, interrupt).await?;
        report.end(phase);
    }
    Ok(())
}

/// What end-to-end tests find in their environment.
struct Subject {
    version: FlinkVersion,
    flink: FlinkDistribution,
    java: JavaRuntime,
    jar: PathBuf,
    programs: PathBuf,
}

impl Subject {
    async fn prepare(
        version: FlinkVersion,
        workspace: &Workspace,
        directory: &RunDirectory,
        terminal: Terminal,
        interrupt: &Interrupt,
    ) -> anyhow::Result<Self> {
        let cache = Cache::of_user()?;
        let java = JavaRuntime::find_or_install(version, &cache, terminal, interrupt).await?;
        let flink = FlinkDistribution::find_or_install(version, &cache, terminal, interrupt).await?;
        let jars = directory.path().join(version.as_str());
        std::fs::create_dir_all(&jars).with_context(|| format!("cannot create {}", jars.display()))?;
        let jar =
            job_jar::build_word_count(&workspace.root, &flink, &java, &jars, terminal, interrupt).await?;
        let programs = workspace.build_programs(interrupt).await?;
        Ok(Self {
            version,
            flink,
            java,
            jar,
            programs,
        })
    }

    fn into_environment(self, program: Program) -> Program {
        program
            // Without this a test that misses something skips itself, and nobody would notice.
            .env("FLINK_K8S_TEST_REQUIRE", "flink")
            .env("FLINK_K8S_TEST_FLINK_VERSION", self.version.as_str())
            .env("FLINK_K8S_TEST_FLINK_HOME", self.flink.home)
            .env(
                "FLINK_K8S_TEST_FLINK_CONF_DIR",
                self.flink.configuration_directory,
            )
            .env("FLINK_K8S_TEST_JAVA_HOME", self.java.home)
            .env("FLINK_K8S_TEST_JOB_JAR", self.jar)
            .env("FLINK_K8S_TEST_BINARIES", self.programs)
    }
}

/// How many tests run at a time: one more than there are processors, because those of a real Flink, two at a time, wait more than
/// they work. Who sets `NEXTEST_TEST_THREADS` is asked instead.
fn threads() -> Option<String> {
    if std::env::var_os("NEXTEST_TEST_THREADS").is_some() {
        return None;
    }
    let processors = std::thread::available_parallelism().ok()?.get();
    Some(format!("--test-threads={}", processors + 1))
}

fn test_command(cargo: Program, files: &[String], no_e2e: bool, filter: Option<&str>) -> Program {
    let workspace = ["--workspace", "--all-features"];
    if find_in_path("cargo-nextest").is_some() {
        let nextest = cargo.args(["nextest", "run"]).args(workspace).args(threads());
        let expression = nextest_expression(files, no_e2e, filter);
        return match expression {
            Some(expression) => nextest.args(["-E", &expression]),
            None => nextest,
        };
    }
    let test = cargo
        .arg("test")
        .args(workspace)
        .args(["--lib", "--bins", "--tests"])
        .args(filter);
    if no_e2e {
        // Those whose file alone is named so skip themselves: nothing was prepared for them.
        test.args(["--", "--skip", END_TO_END])
    } else {
        test
    }
}

/// Which tests nextest runs; all if there is no expression. Of these files of tests it may be named those that exist
/// only: nextest takes another name for a mistake.
fn nextest_expression(files: &[String], no_e2e: bool, filter: Option<&str>) -> Option<String> {
    let named = |text: &str| {
        let binaries = files
            .iter()
            .filter(|file| file.contains(text))
            .map(|file| format!("binary(={file})"));
        let terms: Vec<String> = std::iter::once(format!("test(~{text})"))
            .chain(binaries)
            .collect();
        format!("({})", terms.join(" | "))
    };
    let excluded = no_e2e.then(|| format!("not {}", named(END_TO_END)));
    let terms: Vec<String> = filter.map(named).into_iter().chain(excluded).collect();
    (!terms.is_empty()).then(|| terms.join(" & "))
}

async fn run_cargo(command: Program, report: &mut Report, interrupt: &Interrupt) -> anyhow::Result<()> {
    report.command(command.as_typed_by_name());
    command.run(interrupt).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_looks_at_tests_and_at_their_files() {
        let files = ["embedded_watches", "end_to_end", "controllers"].map(str::to_owned);
        assert_eq!(nextest_expression(&files, false, None), None);
        assert_eq!(
            nextest_expression(&files, false, Some("watch")).unwrap(),
            "(test(~watch) | binary(=embedded_watches))"
        );
        assert_eq!(
            nextest_expression(&files, true, Some("lease")).unwrap(),
            "(test(~lease)) & not (test(~end_to_end) | binary(=end_to_end))"
        );
    }
}
