//! Finding the Kubernetes API: a named kubeconfig, `KUBECONFIG`, the home directory, or the pod we run in.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use flink_k8s_core::configuration::{
    FlinkConfiguration, InvalidOptionValue, MalformedValue, kubernetes_options,
};
use flink_k8s_core::namespace::{InvalidNamespace, Namespace};
use http::HeaderValue;
use http::header::USER_AGENT;
use kube::client::ClientBuilder;
use kube::config::{Config, InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::KubeRsClient;
use super::api_calls::{ApiCalls, CountLayer};

/// How long opening a connection to the API server may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const KUBECONFIG: &str = "KUBECONFIG";

/// What we say we are, unless the caller says otherwise.
const USER_AGENT_TEXT: &str = concat!("flink-k8s/", env!("CARGO_PKG_VERSION"));

/// Which Kubernetes is meant, and which namespace of it.
///
/// ```no_run
/// # use flink_k8s_client::kube_rs::{ConnectError, ConnectOptions, KubeRsClient};
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let options = ConnectOptions::new("team-a".parse()?).with_context("staging");
/// let kube = KubeRsClient::connect(&options).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectOptions {
    namespace: Namespace,
    config_file: Option<PathBuf>,
    context: Option<String>,
    user_agent: String,
    service_account_first: bool,
}

impl ConnectOptions {
    /// The namespace, in the Kubernetes that `KUBECONFIG`, `~/.kube/config` or the pod we run in names.
    pub fn new(namespace: Namespace) -> Self {
        Self {
            namespace,
            config_file: None,
            context: None,
            user_agent: USER_AGENT_TEXT.to_owned(),
            service_account_first: false,
        }
    }

    /// The namespace, in the Kubernetes whose pod this process is: its service account comes before any
    /// kubeconfig that the container happens to see.
    pub fn in_pod(namespace: Namespace) -> Self {
        Self {
            service_account_first: true,
            ..Self::new(namespace)
        }
    }

    /// Inside of a pod, takes its service account before a kubeconfig in the home directory, which then is that of
    /// the image; one that options or `KUBECONFIG` name still counts.
    #[must_use]
    pub fn with_service_account_before_home(mut self) -> Self {
        let names_kubeconfig = std::env::var_os(KUBECONFIG).is_some_and(|files| !files.is_empty());
        let is_chosen = self.config_file.is_some() || self.context.is_some();
        self.service_account_first = !names_kubeconfig && !is_chosen;
        self
    }

    /// Sends this `User-Agent`, by which administrators and API priority rules know the caller.
    #[must_use]
    pub fn with_user_agent(mut self, user_agent: impl Into<String>) -> Self {
        self.user_agent = user_agent.into();
        self
    }

    /// What `kubernetes.namespace`, `kubernetes.config.file` and `kubernetes.context` say.
    ///
    /// # Errors
    ///
    /// [`InvalidOptionValue`] when the namespace is not one.
    pub fn from_configuration(configuration: &FlinkConfiguration) -> Result<Self, InvalidOptionValue> {
        let namespace = configuration.get(&kubernetes_options::NAMESPACE)?;
        let namespace = namespace.parse().map_err(|error: InvalidNamespace| {
            let source = MalformedValue(error.to_string());
            InvalidOptionValue::new(kubernetes_options::NAMESPACE.key, &namespace, source)
        })?;
        Ok(Self {
            config_file: configuration
                .find(&kubernetes_options::CONFIG_FILE)?
                .map(PathBuf::from),
            context: configuration.find(&kubernetes_options::CONTEXT)?,
            ..Self::new(namespace)
        })
    }

    /// Finds the Kubernetes API and says how to reach it, for a client of one's own making. No call is made.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`].
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing outside the process changes.
    pub async fn configuration(&self) -> Result<Config, ConnectError> {
        Ok(self.load().await?.0)
    }

    async fn load(&self) -> Result<(Config, CredentialsOrigin), ConnectError> {
        let (mut config, origin) = load(self).await?;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // Retries are decided where it is known what a repetition means.
        config.default_retry = false;
        // A text that is no header value is left out: it is not worth failing for.
        if let Ok(agent) = HeaderValue::from_str(&self.user_agent) {
            config.headers.push((USER_AGENT, agent));
        }
        tracing::debug!(%origin, api_server = %config.cluster_url, "found the Kubernetes API");
        Ok((config, origin))
    }

    /// The namespace that is meant.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Reads this kubeconfig and no other (`kubernetes.config.file`).
    #[must_use]
    pub fn with_config_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.config_file = Some(path.into());
        self
    }

    /// Takes this context of the kubeconfig instead of its current one (`kubernetes.context`).
    #[must_use]
    pub fn with_context(mut self, context: impl Into<String>) -> Self {
        self.context = Some(context.into());
        self
    }
}

/// Where the credentials came from. Prints as `kubeconfig /home/me/.kube/config`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CredentialsOrigin {
    /// These files, merged; the first that sets something wins.
    Kubeconfig(Vec<PathBuf>),
    /// The service account of the pod that we run in.
    ServiceAccount,
}

impl fmt::Display for CredentialsOrigin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kubeconfig(files) => {
                let files: Vec<String> = files.iter().map(|path| path.display().to_string()).collect();
                write!(formatter, "kubeconfig {}", files.join(", "))
            }
            Self::ServiceAccount => formatter.write_str("the service account of this pod"),
        }
    }
}

/// Why there is no client for the Kubernetes API. No call was made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// A kubeconfig cannot be read or is not one.
    #[error("cannot read {origin}")]
    Unreadable {
        /// The file or files.
        origin: CredentialsOrigin,
        /// The failure below.
        source: Box<KubeconfigError>,
    },
    /// The kubeconfig has no context of that name.
    #[error("there is no context {context:?} in {origin}; it has {}", list(.available))]
    NoSuchContext {
        /// The name that was asked for.
        context: String,
        /// The file or files.
        origin: CredentialsOrigin,
        /// The contexts that it has.
        available: Vec<String>,
    },
    /// No context was asked for, and the kubeconfig has no current one.
    #[error("{origin} has no current context; set kubernetes.context to one of {}", list(.available))]
    NoCurrentContext {
        /// The file or files.
        origin: CredentialsOrigin,
        /// The contexts that it has.
        available: Vec<String>,
    },
    /// The context names a cluster or credentials that are missing or broken.
    #[error("cannot use context {context:?} of {origin}")]
    UnusableContext {
        /// The context.
        context: String,
        /// The file or files.
        origin: CredentialsOrigin,
        /// The failure below.
        source: Box<KubeconfigError>,
    },
    /// There is neither a kubeconfig nor a service account.
    #[error(
        "no Kubernetes is configured: KUBECONFIG is not set, {default_file} does not exist, and this is not \
         a pod with a service account; set kubernetes.config.file, or start a local one with \
         `flink-k8s local up`"
    )]
    NothingConfigured {
        /// Where a kubeconfig was looked for.
        default_file: String,
        /// Why the service account cannot be used.
        source: Box<InClusterError>,
    },
    /// A context was asked for, but there is no kubeconfig that could have it.
    #[error("context {context:?} is asked for, but KUBECONFIG is not set and {default_file} does not exist")]
    ContextWithoutKubeconfig {
        /// The name that was asked for.
        context: String,
        /// Where a kubeconfig was looked for.
        default_file: String,
    },
    /// The credentials are complete but no client can be made of them.
    #[error("cannot use the credentials of {origin}")]
    Credentials {
        /// Where they came from.
        origin: CredentialsOrigin,
        /// The failure below.
        source: Box<kube::Error>,
    },
}

impl ConnectError {
    /// Whether the same call may succeed later although nobody changes anything: never, no call was made.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreadable { .. }
            | Self::NoSuchContext { .. }
            | Self::NoCurrentContext { .. }
            | Self::UnusableContext { .. }
            | Self::NothingConfigured { .. }
            | Self::ContextWithoutKubeconfig { .. }
            | Self::Credentials { .. } => false,
        }
    }
}

impl KubeRsClient {
    /// Finds the Kubernetes API and makes a client for it. No call is made yet.
    ///
    /// # Errors
    ///
    /// See [`ConnectError`]; each says which file and context are meant.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe: nothing outside the process changes.
    pub async fn connect(options: &ConnectOptions) -> Result<Self, ConnectError> {
        let (config, origin) = options.load().await?;
        let is_inside_the_cluster = origin == CredentialsOrigin::ServiceAccount;
        let stack = ClientBuilder::try_from(config).map_err(|source| ConnectError::Credentials {
            origin,
            source: Box::new(source),
        })?;
        let api_calls = ApiCalls::default();
        let client = stack.with_layer(&CountLayer(api_calls.clone())).build();
        Ok(Self {
            api_calls,
            is_inside_the_cluster,
            ..Self::new(client, options.namespace.clone())
        })
    }
}

async fn load(options: &ConnectOptions) -> Result<(Config, CredentialsOrigin), ConnectError> {
    if options.service_account_first
        && let Ok(config) = Config::incluster()
    {
        return Ok((config, CredentialsOrigin::ServiceAccount));
    }
    let default_file = std::env::home_dir().map(|home| home.join(".kube").join("config"));
    let files = match (&options.config_file, std::env::var_os(KUBECONFIG)) {
        (Some(file), _) => vec![file.clone()],
        (None, Some(list)) if !list.is_empty() => std::env::split_paths(&list)
            .filter(|path| !path.as_os_str().is_empty())
            .collect(),
        _ => default_file
            .iter()
            .filter(|path| path.exists())
            .cloned()
            .collect(),
    };
    if !files.is_empty() {
        return from_files(files, options.context.as_deref()).await;
    }
    let default_file = default_file.as_deref().map_or_else(
        || "~/.kube/config".to_owned(),
        |path: &Path| path.display().to_string(),
    );
    if let Some(context) = options.context.clone() {
        return Err(ConnectError::ContextWithoutKubeconfig {
            context,
            default_file,
        });
    }
    match Config::incluster() {
        Ok(config) => Ok((config, CredentialsOrigin::ServiceAccount)),
        Err(source) => Err(ConnectError::NothingConfigured {
            default_file,
            source: Box::new(source),
        }),
    }
}

async fn from_files(
    files: Vec<PathBuf>,
    context: Option<&str>,
) -> Result<(Config, CredentialsOrigin), ConnectError> {
    let read = files.iter().try_fold(Kubeconfig::default(), |merged, path| {
        merged.merge(Kubeconfig::read_from(path)?)
    });
    let origin = CredentialsOrigin::Kubeconfig(files);
    let kubeconfig = match read {
        Ok(kubeconfig) => kubeconfig,
        Err(source) => {
            return Err(ConnectError::Unreadable {
                origin,
                source: Box::new(source),
            });
        }
    };
    let available: Vec<String> = kubeconfig
        .contexts
        .iter()
        .map(|context| context.name.clone())
        .collect();
    let current = kubeconfig.current_context.clone().filter(|name| !name.is_empty());
    let Some(context) = context.map(ToOwned::to_owned).or(current) else {
        return Err(ConnectError::NoCurrentContext { origin, available });
    };
    if !available.contains(&context) {
        return Err(ConnectError::NoSuchContext {
            context,
            origin,
            available,
        });
    }
    let options = KubeConfigOptions {
        context: Some(context.clone()),
        cluster: None,
        user: None,
    };
    match Config::from_custom_kubeconfig(kubeconfig, &options).await {
        Ok(config) => Ok((config, origin)),
        Err(source) => Err(ConnectError::UnusableContext {
            context,
            origin,
            source: Box::new(source),
        }),
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_CONTEXTS: &str = r#"
apiVersion: v1
kind: Config
clusters:
- name: here
  cluster: {server: "http://127.0.0.1:1"}
contexts:
- name: here
  context: {cluster: here, user: me}
- name: there
  context: {cluster: gone, user: me}
users:
- name: me
  user: {token: secret}
"#;

    async fn failure(text: &str, context: Option<&str>) -> (String, String) {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        std::fs::write(&file, text).unwrap();
        let mut options = ConnectOptions::new("team-a".parse().unwrap()).with_config_file(&file);
        if let Some(context) = context {
            options = options.with_context(context);
        }
        let error = KubeRsClient::connect(&options).await.err().unwrap();
        let source = std::error::Error::source(&error).map_or_else(String::new, ToString::to_string);
        (
            error.to_string().replace(&file.display().to_string(), "FILE"),
            source,
        )
    }

    #[tokio::test]
    async fn a_context_that_is_not_there_is_refused_with_those_that_are() {
        let (message, _) = failure(TWO_CONTEXTS, Some("staging")).await;
        insta::assert_snapshot!(message, @r#"there is no context "staging" in kubeconfig FILE; it has here, there"#);
    }

    #[tokio::test]
    async fn a_kubeconfig_without_a_current_context_asks_for_one() {
        let (message, _) = failure(TWO_CONTEXTS, None).await;
        insta::assert_snapshot!(
            message,
            @"kubeconfig FILE has no current context; set kubernetes.context to one of here, there"
        );
    }

    #[tokio::test]
    async fn a_context_with_a_missing_cluster_is_named_with_its_file() {
        let (message, source) = failure(TWO_CONTEXTS, Some("there")).await;
        insta::assert_snapshot!(message, @r#"cannot use context "there" of kubeconfig FILE"#);
        assert!(source.contains("gone"), "{source}");
    }

    #[tokio::test]
    async fn a_file_that_is_not_there_or_not_yaml_is_named() {
        let options = ConnectOptions::new("team-a".parse().unwrap()).with_config_file("/nowhere/config");
        let error = KubeRsClient::connect(&options).await.err().unwrap();
        insta::assert_snapshot!(error, @"cannot read kubeconfig /nowhere/config");
        let (message, source) = failure("clusters: {", None).await;
        insta::assert_snapshot!(message, @"cannot read kubeconfig FILE");
        assert!(source.contains("YAML"), "{source}");
    }

    #[tokio::test]
    async fn a_complete_context_makes_a_client_for_the_given_namespace() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("config");
        std::fs::write(&file, TWO_CONTEXTS).unwrap();
        let options = ConnectOptions::new("team-a".parse().unwrap())
            .with_config_file(file)
            .with_context("here");
        let kube = KubeRsClient::connect(&options).await.unwrap();
        assert_eq!(
            flink_k8s_core::kube_client::KubeClient::namespace(&kube).as_str(),
            "team-a"
        );
    }

    #[test]
    fn the_configuration_names_kubeconfig_context_and_namespace() {
        let mut configuration = FlinkConfiguration::new();
        let origin = flink_k8s_core::configuration::Origin::CommandLine;
        configuration.set("kubernetes.namespace", "team-a", origin.clone());
        configuration.set("kubernetes.context", "staging", origin.clone());
        configuration.set("kubernetes.config.file", "/etc/kube", origin.clone());
        let expected = ConnectOptions::new("team-a".parse().unwrap())
            .with_context("staging")
            .with_config_file("/etc/kube");
        assert_eq!(ConnectOptions::from_configuration(&configuration), Ok(expected));
        configuration.set("kubernetes.namespace", "Team A", origin);
        let error = ConnectOptions::from_configuration(&configuration).unwrap_err();
        insta::assert_snapshot!(error, @r#"cannot read "Team A" as the value of option kubernetes.namespace"#);
    }

    #[test]
    fn without_any_kubernetes_the_message_says_what_to_do() {
        let source = Box::new(Config::incluster().unwrap_err());
        let error = ConnectError::NothingConfigured {
            default_file: "/home/me/.kube/config".into(),
            source,
        };
        insta::assert_snapshot!(error, @"no Kubernetes is configured: KUBECONFIG is not set, /home/me/.kube/config does not exist, and this is not a pod with a service account; set kubernetes.config.file, or start a local one with `flink-k8s local up`");
        let error = ConnectError::ContextWithoutKubeconfig {
            context: "staging".into(),
            default_file: "/home/me/.kube/config".into(),
        };
        insta::assert_snapshot!(error, @r#"context "staging" is asked for, but KUBECONFIG is not set and /home/me/.kube/config does not exist"#);
    }
}
