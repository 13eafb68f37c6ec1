//! The jar of an application and what is fetched with it: addresses that the JobManager can open, each under a file name
//! of its own.
//!
//! Flink fetches before it starts anything else. Where a file of the name is there already, it fetches nothing and takes
//! that for the artifact.

use super::ApplicationConfiguration;
use crate::configuration::flink_k8s_options::{self, ResourceManagerKind};
use crate::configuration::{FlinkConfiguration, deployment_options};
use crate::flink_version::FlinkVersion;
use crate::parameters::InvalidSpecification;

/// What an address in the JobManager's own image begins with; all others are fetched.
const IN_THE_IMAGE: &str = "local:";

/// One jar; since 2.1, and with our resource manager, none is needed: the program may be in the image.
pub(super) fn check(
    configuration: &FlinkConfiguration,
    application: &ApplicationConfiguration,
) -> Result<(), InvalidSpecification> {
    if application.is_python() {
        return Ok(());
    }
    // Older JobManagers want to be told; with ours in charge, the entrypoint looks for the jar.
    let may_be_missing = configuration.get(&flink_k8s_options::FLINK_VERSION)? >= FlinkVersion::V2_1
        || configuration.get(&flink_k8s_options::RESOURCE_MANAGER)? == ResourceManagerKind::Rust;
    let option = &deployment_options::PIPELINE_JARS;
    let Some(jars) = configuration.find(option)? else {
        return if may_be_missing {
            Ok(())
        } else {
            Err(InvalidSpecification::MissingOption { key: option.key })
        };
    };
    let key = option.key;
    match jars.as_slice() {
        [] if may_be_missing => Ok(()),
        [jar] if jar.is_empty() && may_be_missing => Err(InvalidSpecification::JarAddress {
            key,
            jar: jar.clone(),
        }),
        [jar] => check_addresses(configuration, jar),
        jars => Err(InvalidSpecification::NotOneJar {
            key,
            count: jars.len(),
        }),
    }
}

/// The jar and the artifacts beside it, in the order in which Flink fetches them.
fn check_addresses(configuration: &FlinkConfiguration, jar: &str) -> Result<(), InvalidSpecification> {
    let beside = &deployment_options::USER_ARTIFACTS;
    let artifacts = configuration.find(beside)?.unwrap_or_default();
    let jar = (deployment_options::PIPELINE_JARS.key, jar);
    let addresses = std::iter::once(jar).chain(artifacts.iter().map(|text| (beside.key, text.as_str())));
    // Whose names are taken.
    let mut fetched: Vec<&str> = Vec::new();
    for (key, address) in addresses {
        check_address(configuration, key, address)?;
        let name = file_name(address);
        if fetched.contains(&name) {
            return Err(InvalidSpecification::ArtifactsOfOneName {
                key,
                name: name.to_owned(),
            });
        }
        if !address.starts_with(IN_THE_IMAGE) {
            fetched.push(name);
        }
    }
    Ok(())
}

fn check_address(
    configuration: &FlinkConfiguration,
    key: &'static str,
    address: &str,
) -> Result<(), InvalidSpecification> {
    let is_plain = address.starts_with("http://");
    let is_http = is_plain || address.starts_with("https://");
    let headers = &deployment_options::HTTP_HEADERS;
    if is_http && authority(address).contains('@') {
        return Err(InvalidSpecification::CredentialsInAddress {
            key,
            instead: headers.key,
        });
    }
    if !is_address(address) {
        return Err(InvalidSpecification::JarAddress {
            key,
            jar: address.to_owned(),
        });
    }
    if is_plain && !configuration.get(&deployment_options::RAW_HTTP_ENABLED)? {
        return Err(InvalidSpecification::PlainHttp {
            key,
            jar: address.to_owned(),
            needed: deployment_options::RAW_HTTP_ENABLED.key,
        });
    }
    if is_http {
        // That they are no headers is better known now.
        configuration.find(headers)?;
    }
    Ok(())
}

/// Host and port of an address, and what stands before them.
fn authority(address: &str) -> &str {
    let rest = address.split_once("://").map_or("", |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().unwrap_or_default()
}

/// The name under which Flink keeps what it fetches: the end of the path.
fn file_name(address: &str) -> &str {
    let path = address.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    path.rsplit_once('/').map_or("", |(_, name)| name)
}

/// Whether Java takes this for a URI: no blanks or other characters that need an escape, a scheme with something
/// behind it if there is one.
fn is_address(text: &str) -> bool {
    let allowed = |byte: u8| !(byte <= b' ' || b"\"<>\\^`{|}\x7f".contains(&byte));
    let mut bytes = text.bytes().enumerate();
    let escapes_are_complete = bytes.all(|(at, byte)| {
        byte != b'%'
            || text
                .as_bytes()
                .get(at + 1..at + 3)
                .is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    });
    text.bytes().all(allowed) && escapes_are_complete && !text.starts_with(':') && !text.ends_with("://")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::configuration::Origin;

    fn check(
        version: &str,
        jars: Option<&str>,
        application: &ApplicationConfiguration,
    ) -> Result<(), String> {
        let mut configuration = FlinkConfiguration::new();
        configuration.set("flink-k8s.flink-version", version, Origin::CommandLine);
        configuration.set("flink-k8s.resource-manager", "flink", Origin::CommandLine);
        if let Some(jars) = jars {
            configuration.set("pipeline.jars", jars, Origin::CommandLine);
        }
        super::check(&configuration, application).map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn there_is_one_jar_and_only_new_versions_do_without() {
        let java = ApplicationConfiguration::new();
        for version in ["1.20", "2.1", "2.3"] {
            assert_eq!(
                check(version, Some("local:///opt/flink/usrlib/job.jar"), &java),
                Ok(())
            );
            let refusal = check(version, Some("local:///a.jar;local:///b.jar"), &java).unwrap_err();
            assert!(
                refusal.contains("pipeline.jars") && refusal.contains('2'),
                "{refusal}"
            );
        }
        assert_eq!(check("2.1", None, &java), Ok(()));
        assert!(check("1.20", None, &java).is_err());
        assert!(check("1.20", Some(""), &java).is_err());
        let python = java.with_arguments(["-py".to_owned(), "job.py".to_owned()]);
        assert_eq!(check("1.20", None, &python), Ok(()));
    }

    #[test]
    fn plain_http_needs_consent() {
        let java = ApplicationConfiguration::new();
        let refusal = check("2.1", Some("http://files/job.jar"), &java).unwrap_err();
        assert!(
            refusal.contains("user.artifacts.raw-http-enabled=true"),
            "{refusal}"
        );
        for jar in ["https://files/job.jar", "s3://bucket/job.jar"] {
            assert_eq!(check("2.1", Some(jar), &java), Ok(()));
        }
    }

    #[test]
    fn a_jar_with_a_blank_in_its_address_is_refused_by_name() {
        let refusal = check(
            "2.1",
            Some("local:///my job.jar"),
            &ApplicationConfiguration::new(),
        )
        .unwrap_err();
        assert!(
            refusal.contains("my job.jar") && refusal.contains("%20"),
            "{refusal}"
        );
    }

    fn fetched(settings: &[(&str, &str)]) -> Result<(), InvalidSpecification> {
        let mut configuration = FlinkConfiguration::new();
        for (key, value) in settings {
            configuration.set(*key, *value, Origin::CommandLine);
        }
        super::check(&configuration, &ApplicationConfiguration::new())
    }

    const JAR: &str = "pipeline.jars";
    const BESIDE: &str = "user.artifacts.artifact-list";
    const HEADERS: &str = "user.artifacts.http-headers";

    #[test]
    fn what_is_fetched_has_no_password_in_its_address_and_nobody_is_shown_one() {
        for key in [JAR, BESIDE] {
            let others = [(JAR, "https://files/job.jar")];
            let secret = (key, "https://me:planted@files/extra.jar?version=1");
            let refusal = fetched(&[&others[..], &[secret]].concat()).unwrap_err();
            assert_eq!(refusal.option(), Some(key));
            let refusal = refusal.to_string();
            assert!(
                refusal.contains("user.artifacts.http-headers=Authorization:")
                    && !refusal.contains("planted"),
                "{refusal}"
            );
        }
        // Elsewhere it is no password.
        assert!(fetched(&[(JAR, "https://files/me@home/job.jar?by=me@home")]).is_ok());
        assert!(fetched(&[(JAR, "s3://access@bucket/job.jar")]).is_ok());
    }

    #[test]
    fn artifacts_are_checked_as_the_jar_is() {
        let jar = (JAR, "https://files/job.jar");
        let refusal = fetched(&[jar, (BESIDE, "s3://bucket/udf.jar;http://files/data.bin")]).unwrap_err();
        assert_eq!(refusal.option(), Some(BESIDE));
        assert!(
            matches!(refusal, InvalidSpecification::PlainHttp { .. }),
            "{refusal}"
        );
        let refusal = fetched(&[jar, (BESIDE, "s3://bucket/my udf.jar")]).unwrap_err();
        assert!(
            matches!(refusal, InvalidSpecification::JarAddress { .. }),
            "{refusal}"
        );
        let refusal = fetched(&[jar, (HEADERS, "planted")]).unwrap_err();
        assert_eq!(refusal.option(), Some(HEADERS));
        assert!(!refusal.to_string().contains("planted"), "{refusal}");
    }

    #[test]
    fn no_artifact_is_taken_for_another_one_of_its_name() {
        let refusal = fetched(&[
            (JAR, "https://files/orders/job.jar?version=1"),
            (BESIDE, "s3://bucket/udf.jar;s3://bucket/lib/job.jar"),
        ])
        .unwrap_err();
        assert_eq!(refusal.option(), Some(BESIDE));
        assert!(refusal.to_string().contains("\"job.jar\""), "{refusal}");
        // What is in the image is used where it is, unless something of its name was fetched before.
        let in_the_image = (JAR, "local:///opt/flink/usrlib/job.jar");
        assert!(fetched(&[in_the_image, (BESIDE, "s3://bucket/job.jar")]).is_ok());
    }
}
