//! Why a JobManager cannot have the jar of its application, or an artifact beside it: read from the end of its log.

use flink_k8s_core::configuration::{common_options, deployment_options, kubernetes_options};

/// Where in Flink artifacts are fetched, as a stack trace has it.
const FETCHING: &str = "\tat org.apache.flink.client.program.artifact.";
/// What Flink says when that, or anything else of the program, ends its JobManager.
const END: &str = "Could not create application program.";
/// What Flink says of a file that should be the jar, in front of its path.
const NO_JAR: &str = "Error while opening jar file '";
/// What Java says of a server's answer that is no file, in front of the number.
const STATUS: &str = "Server returned HTTP response code: ";
/// What Flink writes of each setting when it starts.
const SETTING: &str = "Loading configuration property: ";
/// What an address in the JobManager's own image begins with.
const IN_THE_IMAGE: &str = "local:";

/// An artifact that cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ArtifactFailure {
    /// What is wrong, as a sentence that names the address.
    pub(super) reason: String,
    /// What to do about it.
    pub(super) advice: String,
    /// Whether it usually stays until somebody changes something.
    pub(super) is_lasting: bool,
}

/// What kept Flink from having an artifact.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Cause {
    NotThere,
    Refused { status: u16 },
    Answered { status: u16 },
    UnknownHost,
    NotTrusted,
    OtherName,
    Unreachable,
    NoFileSystem,
    PlainHttp,
    NotWhole,
    Other,
}

/// Words in a stack trace by which a cause is known; the first that is there counts.
const MARKS: [(&str, Cause); 13] = [
    ("Could not find a file system implementation", Cause::NoFileSystem),
    ("Artifact fetching from raw HTTP", Cause::PlainHttp),
    ("java.net.UnknownHostException", Cause::UnknownHost),
    ("No subject alternative", Cause::OtherName),
    ("No name matching", Cause::OtherName),
    ("PKIX path", Cause::NotTrusted),
    ("unable to find valid certification path", Cause::NotTrusted),
    ("java.net.ConnectException", Cause::Unreachable),
    ("java.net.NoRouteToHostException", Cause::Unreachable),
    ("java.net.SocketTimeoutException", Cause::Unreachable),
    // Java's answer to 404 and 410, and what file systems say.
    ("java.io.FileNotFoundException", Cause::NotThere),
    ("java.nio.file.NoSuchFileException", Cause::NotThere),
    (NO_JAR, Cause::NotWhole),
];

impl ArtifactFailure {
    /// What the lines of a log, oldest first, say about it; `None` if the JobManager ended for another reason.
    pub(super) fn find(lines: &[String]) -> Option<Self> {
        let end = lines.iter().rposition(|line| line.contains(END))?;
        let (before, trace) = lines.split_at(end);
        let fetched = fetched(before);
        let has = |words: &str| trace.iter().any(|line| line.contains(words));
        let cause = if has(FETCHING) {
            status(trace).unwrap_or_else(|| {
                let known = MARKS.iter().find(|(words, _)| has(words));
                known.map_or(Cause::Other, |(_, cause)| cause.clone())
            })
        } else if trace.iter().any(|line| is_about_any(line, &fetched)) {
            Cause::NotWhole
        } else {
            return None;
        };
        let named = fetched.iter().find(|address| has(address));
        let addresses = match named {
            Some(address) => address.clone(),
            None if fetched.is_empty() => "an artifact".to_owned(),
            None => fetched.join(" or "),
        };
        Some(Self {
            reason: format!("the JobManager cannot get {addresses}: {}", cause.words()),
            advice: cause.advice(),
            is_lasting: cause.is_lasting(),
        })
    }
}

impl Cause {
    fn words(&self) -> String {
        match self {
            Self::NotThere => "there is no such file".to_owned(),
            Self::Refused { status } => {
                format!("the server refuses it with status {status}")
            }
            Self::Answered { status } => format!("the server answers with status {status}"),
            Self::UnknownHost => "its host is not known".to_owned(),
            Self::NotTrusted => "its JVM does not trust the server's certificate".to_owned(),
            Self::OtherName => "the server's certificate is for other names".to_owned(),
            Self::Unreachable => "the server cannot be reached".to_owned(),
            Self::NoFileSystem => "Flink in its image has no file system for such addresses".to_owned(),
            Self::PlainHttp => "plain HTTP is not allowed".to_owned(),
            Self::NotWhole => "what was fetched is not a whole jar".to_owned(),
            Self::Other => "fetching it failed".to_owned(),
        }
    }

    fn advice(&self) -> String {
        let headers = deployment_options::HTTP_HEADERS.key;
        match self {
            Self::NotThere => format!(
                "check the address; some servers also say so to those who may not see the file, to whom {headers} says who asks"
            ),
            Self::Refused { .. } => {
                format!(
                    "give the JobManager what the server asks for in {headers}, such as Authorization:Bearer ..."
                )
            }
            Self::Answered { .. } => {
                "look at the server; the JobManager asks again when its container is started again".to_owned()
            }
            Self::UnknownHost => {
                "check the host's name; pods ask the DNS of Kubernetes, which may not know names of your network"
                    .to_owned()
            }
            Self::NotTrusted => format!(
                "give its JVM a trust store with the authority of that certificate: a Secret ({}) that {} names with \
                 -Djavax.net.ssl.trustStore",
                kubernetes_options::SECRETS.key,
                common_options::JAVA_OPTS_JOB_MANAGER.key
            ),
            Self::OtherName => "use a host name that the certificate has".to_owned(),
            Self::Unreachable => {
                "check the port, that the server runs, and that no NetworkPolicy keeps the JobManager's pod from it"
                    .to_owned()
            }
            Self::NoFileSystem => "enable the plugin of that file system in the image".to_owned(),
            Self::PlainHttp => format!("set {}=true, or use https", deployment_options::RAW_HTTP_ENABLED.key),
            Self::NotWhole => "the transfer was cut off, or the server sent something else: a page to log in, or from http \
                               to https, where Flink does not follow; fetch it by hand and look"
                .to_owned(),
            Self::Other => "look at what was thrown".to_owned(),
        }
    }

    fn is_lasting(&self) -> bool {
        match self {
            Self::NotThere
            | Self::Refused { .. }
            | Self::NotTrusted
            | Self::OtherName
            | Self::NoFileSystem
            | Self::PlainHttp => true,
            // A server, its name or a network may come back.
            Self::Answered { .. } | Self::UnknownHost | Self::Unreachable | Self::NotWhole | Self::Other => {
                false
            }
        }
    }
}

/// The status with which a server answered.
fn status(trace: &[String]) -> Option<Cause> {
    let mut after = trace.iter().filter_map(|line| line.split_once(STATUS));
    let (_, rest) = after.next()?;
    let status = rest.split(' ').next()?.parse().ok()?;
    Some(match status {
        404 | 410 => Cause::NotThere,
        401 | 403 | 407 => Cause::Refused { status },
        _ => Cause::Answered { status },
    })
}

/// The addresses that the settings at the beginning of the log tell to fetch.
fn fetched(lines: &[String]) -> Vec<String> {
    let keys = [
        deployment_options::PIPELINE_JARS.key,
        deployment_options::USER_ARTIFACTS.key,
    ];
    let mut addresses = Vec::new();
    for key in keys {
        let value = lines.iter().rev().find_map(|line| {
            let (_, setting) = line.split_once(SETTING)?;
            setting.strip_prefix(key)?.strip_prefix(", ")
        });
        // A list as Flink writes it in any version.
        let parts = value.unwrap_or_default().split([';', ',', '[', ']']);
        let parts = parts.map(|part| part.trim().trim_matches(['\'', '"']));
        let fetched = parts.filter(|part| !part.is_empty() && !part.starts_with(IN_THE_IMAGE));
        addresses.extend(fetched.map(str::to_owned));
    }
    addresses
}

/// Whether a line says that a file which was fetched from one of these addresses is no jar.
fn is_about_any(line: &str, addresses: &[String]) -> bool {
    let path = line
        .split_once(NO_JAR)
        .and_then(|(_, rest)| rest.split('\'').next());
    path.and_then(|path| path.rsplit('/').next()).is_some_and(|name| {
        addresses.iter().any(|address| {
            let path = address.split(['?', '#']).next().unwrap_or_default();
            path.rsplit('/').next() == Some(name)
        })
    })
}

/// A line of a log without the passwords and signatures of the addresses in it: what stands before a host, and
/// everything behind a question mark.
pub(super) fn without_credentials(line: &str) -> String {
    const HIDDEN: &str = "******";
    const ENDS_ADDRESS: [char; 6] = [' ', '\t', '\'', '"', '<', '>'];
    let mut shown = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(start) = ["http://", "https://"]
        .iter()
        .filter_map(|scheme| rest.find(scheme).map(|at| at + scheme.len()))
        .min()
    {
        shown.push_str(&rest[..start]);
        let end = rest[start..]
            .find(ENDS_ADDRESS)
            .map_or(rest.len(), |end| start + end);
        let address = &rest[start..end];
        let authority = address.split(['/', '?', '#']).next().unwrap_or_default();
        let host = authority.rfind('@').map_or(0, |at| at + 1);
        if host > 0 {
            shown.push_str(HIDDEN);
            shown.push('@');
        }
        match address[host..].split_once('?') {
            Some((path, _)) => shown.extend([path, "?", HIDDEN]),
            None => shown.push_str(&address[host..]),
        }
        rest = &rest[end..];
    }
    shown.push_str(rest);
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The end of a JobManager that threw this while it fetched.
    fn log(settings: &[&str], thrown: &str) -> Vec<String> {
        let settings = settings
            .iter()
            .map(|setting| format!("INFO GlobalConfiguration [] - {SETTING}{setting}"));
        let end = [
            format!("ERROR ClusterEntrypoint [] - {END}"),
            format!("java.lang.RuntimeException: {thrown}"),
            "\tat org.apache.flink.util.function.FunctionUtils.lambda$uncheckedFunction$2(FunctionUtils.java:95)"
                .to_owned(),
            format!("Caused by: {thrown}"),
            format!("{FETCHING}HttpArtifactFetcher.fetch(HttpArtifactFetcher.java:57)"),
        ];
        settings.chain(end).collect()
    }

    /// Settings as 1.20 and as 2.x write them.
    const JAR: [&str; 2] = [
        "pipeline.jars, https://files/job.jar",
        "pipeline.jars, ['https://files/job.jar']",
    ];

    #[track_caller]
    fn found(thrown: &str) -> ArtifactFailure {
        let [one, other] = JAR.map(|setting| ArtifactFailure::find(&log(&[setting], thrown)).unwrap());
        assert_eq!(one, other);
        one
    }

    #[test]
    fn what_java_throws_becomes_a_reason_with_the_address() {
        let cases = [
            (
                "java.io.FileNotFoundException: https://files/job.jar",
                "there is no such file",
                true,
            ),
            (
                "java.io.IOException: Server returned HTTP response code: 401 for URL: https://files/job.jar",
                "the server refuses it with status 401",
                true,
            ),
            (
                "java.io.IOException: Server returned HTTP response code: 503 for URL: https://files/job.jar",
                "the server answers with status 503",
                false,
            ),
            (
                "java.net.UnknownHostException: files",
                "its host is not known",
                false,
            ),
            (
                "java.net.ConnectException: Connection refused",
                "the server cannot be reached",
                false,
            ),
            (
                "javax.net.ssl.SSLHandshakeException: PKIX path building failed: \
                 sun.security.provider.certpath.SunCertPathBuilderException: unable to find valid certification path to \
                 requested target",
                "its JVM does not trust the server's certificate",
                true,
            ),
            (
                "javax.net.ssl.SSLHandshakeException: No subject alternative DNS name matching files found.",
                "the server's certificate is for other names",
                true,
            ),
            (
                "org.apache.flink.core.fs.UnsupportedFileSystemSchemeException: Could not find a file system implementation \
                 for scheme 's3'.",
                "Flink in its image has no file system for such addresses",
                true,
            ),
            ("java.io.IOException: Premature EOF", "fetching it failed", false),
        ];
        for (thrown, words, is_lasting) in cases {
            let failure = found(thrown);
            let reason = format!("the JobManager cannot get https://files/job.jar: {words}");
            assert_eq!((failure.reason, failure.is_lasting), (reason, is_lasting));
        }
    }

    #[test]
    fn of_several_artifacts_that_one_is_named_which_is_known() {
        let settings = [
            "pipeline.jars, local:///opt/flink/usrlib/job.jar",
            "user.artifacts.artifact-list, [s3://bucket/a.jar, 'https://files/b.jar']",
        ];
        let reason = |thrown: &str| ArtifactFailure::find(&log(&settings, thrown)).unwrap().reason;
        assert_eq!(
            reason("java.io.FileNotFoundException: https://files/b.jar"),
            "the JobManager cannot get https://files/b.jar: there is no such file"
        );
        assert_eq!(
            reason("java.net.ConnectException: Connection refused"),
            "the JobManager cannot get s3://bucket/a.jar or https://files/b.jar: the server cannot be reached"
        );
    }

    #[test]
    fn half_a_jar_that_was_fetched_is_told_from_a_broken_one_of_the_image() {
        let thrown = |path: &str| {
            let mut lines = log(&JAR[..1], "");
            lines.truncate(2);
            lines.push(
                "org.apache.flink.util.FlinkException: Could not load the provided entrypoint class."
                    .to_owned(),
            );
            lines.push(format!("Caused by: java.io.IOException: {NO_JAR}{path}'"));
            lines.push("Caused by: java.util.zip.ZipException: zip END header not found".to_owned());
            ArtifactFailure::find(&lines)
        };
        let failure = thrown("/opt/flink/artifacts/default/e2e/job.jar").unwrap();
        assert!(
            failure
                .reason
                .ends_with("https://files/job.jar: what was fetched is not a whole jar"),
            "{}",
            failure.reason
        );
        assert_eq!(thrown("/opt/flink/usrlib/other.jar"), None);
    }

    #[test]
    fn another_end_of_the_program_is_no_artifact_that_is_missing() {
        let lines = [
            format!("ERROR [] - {END}"),
            "org.apache.flink.util.FlinkException: Could not find the provided job class (a.B) in the user lib directory."
                .to_owned(),
            "\tat org.apache.flink.client.program.DefaultPackagedProgramRetriever.create(X.java:1)".to_owned(),
        ];
        assert_eq!(ArtifactFailure::find(&lines), None);
        assert_eq!(ArtifactFailure::find(&["no end".to_owned()]), None);
    }

    #[test]
    fn addresses_are_shown_without_what_opens_them() {
        let cases = [
            (
                "pipeline.jars, ['https://me:planted@files/job.jar?X-Signature=planted&X-Date=1']",
                "pipeline.jars, ['https://******@files/job.jar?******']",
            ),
            ("http://a/b http://c?planted d", "http://a/b http://c?****** d"),
            ("https://files/me@home?planted", "https://files/me@home?******"),
            ("https://", "https://"),
            (
                "pekko.tcp://flink@e2e:6123/user/rpc?x",
                "pekko.tcp://flink@e2e:6123/user/rpc?x",
            ),
        ];
        for (line, shown) in cases {
            assert_eq!(without_credentials(line), shown);
        }
    }
}
