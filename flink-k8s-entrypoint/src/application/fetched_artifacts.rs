//! What an earlier JobManager of this pod has fetched: Flink fetches nothing whose file is there, be it half of it.

use std::error::Error;
use std::fs;
use std::io;
use std::path::Path;

use flink_k8s_client::job_jar::JarShape;
use flink_k8s_core::cluster_id::ClusterId;
use flink_k8s_core::configuration::{FlinkConfiguration, InvalidOptionValue, deployment_options};
use flink_k8s_core::namespace::Namespace;
use tracing::warn;

use crate::installation::file_names;

/// Removes what cannot be whole, so that Flink fetches it again: a JVM that ends while it fetches leaves what it had, and
/// Java takes a connection that breaks for the end of a file. What cannot be looked at stays, which is logged.
pub(crate) fn remove_damaged(
    configuration: &FlinkConfiguration,
    namespace: &Namespace,
    cluster_id: &ClusterId,
) -> Result<(), InvalidOptionValue> {
    let base = configuration.get(&deployment_options::USER_ARTIFACTS_BASE_DIR)?;
    let directory = Path::new(&base)
        .join(namespace.as_str())
        .join(cluster_id.as_str());
    if let Err(failure) = remove_damaged_in(&directory) {
        warn!(directory = %directory.display(), error = &failure as &dyn Error, "what was fetched before cannot be looked at");
    }
    Ok(())
}

fn remove_damaged_in(directory: &Path) -> io::Result<()> {
    if !directory.exists() {
        return Ok(());
    }
    for name in file_names(directory)? {
        let path = directory.join(&name);
        if is_damaged(&path)? {
            warn!(
                file = name,
                "what was fetched before is not whole; it is fetched again"
            );
            fs::remove_file(&path)?;
        }
    }
    Ok(())
}

/// Whether it is half a zip file, or by its name a jar and none. Of other files nobody can tell.
fn is_damaged(path: &Path) -> io::Result<bool> {
    let is_jar = path.extension().is_some_and(|extension| extension == "jar");
    Ok(match JarShape::of(path)? {
        JarShape::Whole => false,
        JarShape::CutOff => true,
        _ => is_jar,
    })
}

#[cfg(test)]
mod tests {
    use flink_k8s_core::configuration::Origin;

    use super::*;

    #[test]
    fn what_is_half_there_is_removed_and_what_may_be_whole_stays() {
        let base = tempfile::tempdir().unwrap();
        let directory = base.path().join("team-a/orders");
        let mut configuration = FlinkConfiguration::new();
        configuration.set(
            deployment_options::USER_ARTIFACTS_BASE_DIR.key,
            base.path().to_str().unwrap(),
            Origin::CommandLine,
        );
        let (namespace, cluster_id) = ("team-a".parse().unwrap(), "orders".parse().unwrap());
        remove_damaged(&configuration, &namespace, &cluster_id).unwrap();
        fs::create_dir_all(directory.join("directory.jar")).unwrap();
        let whole: &[u8] = b"PK\x05\x06\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        let files: [(&str, &[u8]); 7] = [
            ("whole.jar", whole),
            ("half.jar", b"PK\x03\x04 and then nothing"),
            ("half.zip", b"PK\x03\x04 and then nothing"),
            ("page.jar", b"<html>who are you?</html>"),
            ("empty.jar", b""),
            ("model.bin", b"something"),
            ("empty.txt", b""),
        ];
        for (name, content) in files {
            fs::write(directory.join(name), content).unwrap();
        }
        remove_damaged(&configuration, &namespace, &cluster_id).unwrap();
        let left = file_names(&directory).unwrap();
        assert_eq!(left, ["empty.txt", "model.bin", "whole.jar"]);
    }
}
