//! The class path of Flink's processes.

use std::path::PathBuf;

use super::{FlinkInstallation, StartCommandError, text};

/// The jars of the installation, sorted and with the distribution last, then Hadoop's and `HBase`'s
/// directories. Components that would be empty are left out: Java takes one for its working directory.
pub(super) fn class_path(installation: &FlinkInstallation) -> Result<String, StartCommandError> {
    let is_distribution = |jar: &&PathBuf| {
        let name = jar.file_stem().map(|name| name.to_string_lossy().into_owned());
        name.is_some_and(|name| name.starts_with("flink-dist"))
            && jar.extension().is_some_and(|it| it == "jar")
    };
    let (mut distribution, mut jars): (Vec<&PathBuf>, Vec<&PathBuf>) =
        installation.library_jars.iter().partition(is_distribution);
    if distribution.is_empty() {
        return Err(StartCommandError::NoFlinkDistribution {
            home: installation.home.clone(),
        });
    }
    jars.sort();
    distribution.sort();
    let directories = [
        "HADOOP_CLASSPATH",
        "HADOOP_CONF_DIR",
        "YARN_CONF_DIR",
        "HBASE_CONF_DIR",
    ];
    let directories = directories
        .iter()
        .filter_map(|name| installation.environment.get(*name).cloned());
    let components: Vec<String> = jars
        .into_iter()
        .chain(distribution)
        .map(|jar| text(jar))
        .chain(directories)
        .filter(|component| !component.is_empty())
        .collect();
    Ok(components.join(":"))
}
