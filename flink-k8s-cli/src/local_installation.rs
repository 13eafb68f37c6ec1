//! The Flink and the Java of this machine.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use flink_k8s_core::start_command::{FlinkInstallation, java_major_version};

/// How a jar of the distribution is called, before its version.
const DISTRIBUTION: &str = "flink-dist-";

/// The Flink that `FLINK_HOME` names and the Java that `JAVA_HOME` names, or else that of the path, with this
/// configuration directory; or what is missing.
pub(crate) fn find(configuration_directory: PathBuf) -> anyhow::Result<FlinkInstallation> {
    let variable = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let home = variable("FLINK_HOME").map(PathBuf::from).context(
        "there is no Flink to make the job with: FLINK_HOME has to name one of the cluster's version",
    )?;
    let home = flink_home(&home)?;
    let java_home = match variable("JAVA_HOME") {
        Some(home) => PathBuf::from(home),
        None => java_on_path()
            .context("no Java is found: JAVA_HOME is not set, and there is no java on the PATH")?,
    };
    let java = java_home.join("bin/java");
    anyhow::ensure!(
        java.is_file(),
        "there is no Java in {}, which JAVA_HOME names: bin/java is missing",
        java_home.display()
    );
    let release = std::fs::read_to_string(java_home.join("release")).unwrap_or_default();
    let text =
        |(name, value): (OsString, OsString)| Some((name.into_string().ok()?, value.into_string().ok()?));
    let environment: BTreeMap<String, String> = std::env::vars_os().filter_map(text).collect();
    let user = environment.get("USER").cloned().unwrap_or_default();
    Ok(FlinkInstallation {
        library_jars: jars(&home)?,
        home,
        log_directory: Some(configuration_directory.clone()),
        configuration_directory,
        java,
        // Without a release file it is one that is put together by hand, and not of old.
        java_major_version: java_major_version(&release).unwrap_or(17),
        hostname: "localhost".to_owned(),
        user,
        environment,
    })
}

/// The version of a Flink, such as 2.1.3, from the name of its distribution.
pub(crate) fn version(installation: &FlinkInstallation) -> Option<&str> {
    installation.library_jars.iter().find_map(|jar| {
        let name = jar.file_stem()?.to_str()?;
        name.strip_prefix(DISTRIBUTION)
    })
}

/// The directory must hold a Flink, so that nothing fails later for a wrong path.
pub(crate) fn flink_home(directory: &Path) -> anyhow::Result<PathBuf> {
    let is_distribution = |jar: &PathBuf| {
        let name = jar.file_name().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with(DISTRIBUTION))
    };
    anyhow::ensure!(
        jars(directory)?.iter().any(is_distribution),
        "there is no Flink in {}: lib/{DISTRIBUTION}*.jar is missing",
        directory.display()
    );
    Ok(directory.to_owned())
}

fn jars(home: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(home.join("lib")).with_context(|| {
        format!(
            "there is no Flink in {}: it has no readable lib directory",
            home.display()
        )
    })?;
    let paths = entries.flatten().map(|entry| entry.path());
    Ok(paths
        .filter(|path| path.extension().is_some_and(|extension| extension == "jar"))
        .collect())
}

/// The installation that the `java` on the path belongs to.
pub(crate) fn java_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .filter_map(|directory| directory.join("java").canonicalize().ok())
        .find_map(|java| Some(java.parent()?.parent()?.to_owned()))
}
