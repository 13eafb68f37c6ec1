//! Options about addresses, ports, the REST client, the JVM, external resources and Kerberos.

use std::time::Duration;

use super::{AlternativeKey, ConfigOption, OptionRow, OptionalConfigOption};

/// Every option of this file.
pub const TABLE: &[&dyn OptionRow] = &[
    &JOB_MANAGER_RPC_ADDRESS,
    &JOB_MANAGER_RPC_PORT,
    &JOB_MANAGER_RPC_BIND_PORT,
    &JOB_MANAGER_BIND_HOST,
    &JOB_MANAGER_RESOURCE_ID,
    &BLOB_SERVER_PORT,
    &TASK_MANAGER_RPC_PORT,
    &TASK_MANAGER_RPC_BIND_PORT,
    &TASK_MANAGER_HOST,
    &TASK_MANAGER_BIND_HOST,
    &TASK_MANAGER_RESOURCE_ID,
    &REST_ADDRESS,
    &REST_PORT,
    &REST_BIND_PORT,
    &REST_SSL_ENABLED,
    &THREAD_DUMP_DEPTH,
    &REST_BIND_ADDRESS,
    &REST_URL_PREFIX,
    &REST_PATH,
    &REST_AWAIT_LEADER_TIMEOUT,
    &REST_RETRY_MAX_ATTEMPTS,
    &REST_RETRY_DELAY,
    &REST_CONNECTION_TIMEOUT,
    &REST_IDLENESS_TIMEOUT,
    &REST_CLIENT_MAX_CONTENT_LENGTH,
    &REST_SERVER_MAX_CONTENT_LENGTH,
    &CLIENT_TIMEOUT,
    &CLIENT_RETRY_PERIOD,
    &CLIENT_HEARTBEAT_INTERVAL,
    &CLIENT_HEARTBEAT_TIMEOUT,
    &WEB_SUBMIT_ENABLE,
    &WEB_REFRESH_INTERVAL,
    &CHECKPOINT_STATISTICS_TIMEOUT,
    &WEB_TMPDIR,
    &IO_TMP_DIRS,
    &WEB_UPLOAD_DIR,
    &WEB_TIMEOUT,
    &ASK_TIMEOUT,
    &JAVA_OPTS_ALL,
    &JAVA_OPTS_JOB_MANAGER,
    &JAVA_OPTS_TASK_MANAGER,
    &JAVA_OPTS_CLIENT,
    &JAVA_DEFAULT_OPTS_ALL,
    &JAVA_DEFAULT_OPTS_JOB_MANAGER,
    &JAVA_DEFAULT_OPTS_TASK_MANAGER,
    &JAVA_HOME,
    &LOG_DIR,
    &LOG_MAX,
    &LOG_LEVEL,
    &REDIRECT_STANDARD_STREAMS,
    &HADOOP_CONF_DIR,
    &EXTERNAL_RESOURCES,
    &KERBEROS_KEYTAB,
    &KERBEROS_PRINCIPAL,
    &KERBEROS_KRB5_CONF,
    &KERBEROS_USE_TICKET_CACHE,
    &KERBEROS_LOGIN_CONTEXTS,
];

/// `jobmanager.rpc.address`: Host under which TaskManagers and clients reach the JobManager.
pub const JOB_MANAGER_RPC_ADDRESS: OptionalConfigOption<String> = OptionalConfigOption::new(
    "jobmanager.rpc.address",
    "Host under which TaskManagers and clients reach the JobManager.",
);

/// `jobmanager.rpc.port`: Port of the JobManager for Flink's own calls.
pub const JOB_MANAGER_RPC_PORT: ConfigOption<u16> = ConfigOption::new(
    "jobmanager.rpc.port",
    "6123",
    "Port of the JobManager for Flink's own calls.",
);

/// `jobmanager.rpc.bind-port`: Port to which the JobManager binds, where it is another.
pub const JOB_MANAGER_RPC_BIND_PORT: OptionalConfigOption<u16> = OptionalConfigOption::new(
    "jobmanager.rpc.bind-port",
    "Port to which the JobManager binds, where it is another.",
);

/// `jobmanager.bind-host`: Local address to which the JobManager binds.
pub const JOB_MANAGER_BIND_HOST: OptionalConfigOption<String> = OptionalConfigOption::new(
    "jobmanager.bind-host",
    "Local address to which the JobManager binds.",
);

/// `jobmanager.resource-id`: Id of the JobManager process.
pub const JOB_MANAGER_RESOURCE_ID: OptionalConfigOption<String> =
    OptionalConfigOption::new("jobmanager.resource-id", "Id of the JobManager process.");

/// `blob.server.port`: Port of the JobManager for jars and other files; a single port on Kubernetes.
pub const BLOB_SERVER_PORT: ConfigOption<String> = ConfigOption::new(
    "blob.server.port",
    "0",
    "Port of the JobManager for jars and other files; a single port on Kubernetes.",
);

/// `taskmanager.rpc.port`: Port of TaskManagers for Flink's own calls; a single port on Kubernetes.
pub const TASK_MANAGER_RPC_PORT: ConfigOption<String> = ConfigOption::new(
    "taskmanager.rpc.port",
    "0",
    "Port of TaskManagers for Flink's own calls; a single port on Kubernetes.",
);

/// `taskmanager.rpc.bind-port`: Port to which a TaskManager binds, where it is another.
pub const TASK_MANAGER_RPC_BIND_PORT: OptionalConfigOption<u16> = OptionalConfigOption::new(
    "taskmanager.rpc.bind-port",
    "Port to which a TaskManager binds, where it is another.",
);

/// `taskmanager.host`: Address of a TaskManager; found out by itself on Kubernetes.
pub const TASK_MANAGER_HOST: OptionalConfigOption<String> = OptionalConfigOption::new(
    "taskmanager.host",
    "Address of a TaskManager; found out by itself on Kubernetes.",
);

/// `taskmanager.bind-host`: Local address to which a TaskManager binds.
pub const TASK_MANAGER_BIND_HOST: OptionalConfigOption<String> = OptionalConfigOption::new(
    "taskmanager.bind-host",
    "Local address to which a TaskManager binds.",
);

/// `taskmanager.resource-id`: Id of a TaskManager process: the name of its pod.
pub const TASK_MANAGER_RESOURCE_ID: OptionalConfigOption<String> = OptionalConfigOption::new(
    "taskmanager.resource-id",
    "Id of a TaskManager process: the name of its pod.",
);

/// `rest.address`: Host of the REST endpoint.
pub const REST_ADDRESS: OptionalConfigOption<String> =
    OptionalConfigOption::new("rest.address", "Host of the REST endpoint.")
        .with_alternatives(&[AlternativeKey::Fallback("jobmanager.rpc.address")]);

/// `rest.port`: Port of the REST service.
pub const REST_PORT: ConfigOption<u16> = ConfigOption::new("rest.port", "8081", "Port of the REST service.")
    .with_alternatives(&[AlternativeKey::Deprecated("web.port")]);

/// `cluster.thread-dump.stacktrace-max-depth`: How many calls of each thread the REST endpoint shows.
pub const THREAD_DUMP_DEPTH: ConfigOption<u32> = ConfigOption::new(
    "cluster.thread-dump.stacktrace-max-depth",
    "50",
    "How many calls of each thread the REST endpoint shows.",
);

/// `security.ssl.rest.enabled`: Whether the REST endpoint speaks TLS.
pub const REST_SSL_ENABLED: ConfigOption<bool> = ConfigOption::new(
    "security.ssl.rest.enabled",
    "false",
    "Whether the REST endpoint speaks TLS.",
);

/// `rest.bind-port`: Port to which the REST endpoint binds; a single port on Kubernetes.
pub const REST_BIND_PORT: ConfigOption<String> = ConfigOption::new(
    "rest.bind-port",
    "8081",
    "Port to which the REST endpoint binds; a single port on Kubernetes.",
)
.with_alternatives(&[
    AlternativeKey::Fallback("rest.port"),
    AlternativeKey::Deprecated("web.port"),
    AlternativeKey::Deprecated("jobmanager.web.port"),
]);

/// `rest.bind-address`: Local address to which the REST endpoint binds.
pub const REST_BIND_ADDRESS: OptionalConfigOption<String> = OptionalConfigOption::new(
    "rest.bind-address",
    "Local address to which the REST endpoint binds.",
)
.with_alternatives(&[
    AlternativeKey::Fallback("web.address"),
    AlternativeKey::Deprecated("jobmanager.web.address"),
]);

/// `rest.url-prefix`: Prefix of the paths of the REST endpoint; begins and ends with a slash.
pub const REST_URL_PREFIX: ConfigOption<String> = ConfigOption::new(
    "rest.url-prefix",
    "/",
    "Prefix of the paths of the REST endpoint; begins and ends with a slash.",
);

/// `rest.path`: Path that clients put before those of the REST endpoint.
pub const REST_PATH: ConfigOption<String> = ConfigOption::new(
    "rest.path",
    "",
    "Path that clients put before those of the REST endpoint.",
);

/// `rest.await-leader-timeout`: How long a client waits for the address of the leading JobManager.
pub const REST_AWAIT_LEADER_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "rest.await-leader-timeout",
    "30 s",
    "How long a client waits for the address of the leading JobManager.",
);

/// `rest.retry.max-attempts`: How often a client repeats a failed REST request.
pub const REST_RETRY_MAX_ATTEMPTS: ConfigOption<u32> = ConfigOption::new(
    "rest.retry.max-attempts",
    "20",
    "How often a client repeats a failed REST request.",
);

/// `rest.retry.delay`: How long a client waits before it repeats a REST request.
pub const REST_RETRY_DELAY: ConfigOption<Duration> = ConfigOption::new(
    "rest.retry.delay",
    "3 s",
    "How long a client waits before it repeats a REST request.",
);

/// `rest.connection-timeout`: How long a client waits for a connection to the REST endpoint.
pub const REST_CONNECTION_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "rest.connection-timeout",
    "15 s",
    "How long a client waits for a connection to the REST endpoint.",
);

/// `rest.idleness-timeout`: How long an idle REST connection is kept.
pub const REST_IDLENESS_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "rest.idleness-timeout",
    "5 min",
    "How long an idle REST connection is kept.",
);

/// `rest.client.max-content-length`: Largest REST response that a client accepts, in bytes.
pub const REST_CLIENT_MAX_CONTENT_LENGTH: ConfigOption<u32> = ConfigOption::new(
    "rest.client.max-content-length",
    "104857600",
    "Largest REST response that a client accepts, in bytes.",
);

/// `rest.server.max-content-length`: Largest REST request, and so the largest jar, that the JobManager accepts, in bytes.
pub const REST_SERVER_MAX_CONTENT_LENGTH: ConfigOption<u32> = ConfigOption::new(
    "rest.server.max-content-length",
    "104857600",
    "Largest REST request, and so the largest jar, that the JobManager accepts, in bytes.",
);

/// `client.timeout`: How long an action of a client, such as a savepoint, may take.
pub const CLIENT_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "client.timeout",
    "60 s",
    "How long an action of a client, such as a savepoint, may take.",
)
.with_alternatives(&[AlternativeKey::Deprecated("akka.client.timeout")]);

/// `client.retry-period`: How often a client asks for the state of an action.
pub const CLIENT_RETRY_PERIOD: ConfigOption<Duration> = ConfigOption::new(
    "client.retry-period",
    "2 s",
    "How often a client asks for the state of an action.",
);

/// `client.heartbeat.interval`: How often an attached client tells the JobManager that it lives.
pub const CLIENT_HEARTBEAT_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "client.heartbeat.interval",
    "30 s",
    "How often an attached client tells the JobManager that it lives.",
);

/// `client.heartbeat.timeout`: After which silence the JobManager takes an attached client for dead.
pub const CLIENT_HEARTBEAT_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "client.heartbeat.timeout",
    "180 s",
    "After which silence the JobManager takes an attached client for dead.",
);

/// `web.refresh-interval`: How old the answers about a job may be.
pub const WEB_REFRESH_INTERVAL: ConfigOption<Duration> = ConfigOption::new(
    "web.refresh-interval",
    "3 s",
    "How old the answers about a job may be.",
)
.with_alternatives(&[AlternativeKey::Deprecated("jobmanager.web.refresh-interval")]);

/// `rest.cache.checkpoint-statistics.timeout`: How old the answers about the checkpoints of a job may be.
pub const CHECKPOINT_STATISTICS_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "rest.cache.checkpoint-statistics.timeout",
    "3 s",
    "How old the answers about the checkpoints of a job may be.",
)
.with_alternatives(&[AlternativeKey::Fallback("web.refresh-interval")]);

/// `web.submit.enable`: Whether jars can be uploaded and run through the REST endpoint.
pub const WEB_SUBMIT_ENABLE: ConfigOption<bool> = ConfigOption::new(
    "web.submit.enable",
    "true",
    "Whether jars can be uploaded and run through the REST endpoint.",
)
.with_alternatives(&[AlternativeKey::Deprecated("jobmanager.web.submit.enable")]);

/// `io.tmp.dirs`: Directories for temporary files, separated by commas or colons.
pub const IO_TMP_DIRS: OptionalConfigOption<String> = OptionalConfigOption::new(
    "io.tmp.dirs",
    "Directories for temporary files, separated by commas or colons.",
)
.with_alternatives(&[AlternativeKey::Deprecated("taskmanager.tmp.dirs")]);

/// `web.tmpdir`: Directory of the REST endpoint for temporary files.
pub const WEB_TMPDIR: OptionalConfigOption<String> = OptionalConfigOption::new(
    "web.tmpdir",
    "Directory of the REST endpoint for temporary files.",
)
.with_alternatives(&[AlternativeKey::Deprecated("jobmanager.web.tmpdir")]);

/// `web.upload.dir`: Directory for uploaded jars.
pub const WEB_UPLOAD_DIR: OptionalConfigOption<String> =
    OptionalConfigOption::new("web.upload.dir", "Directory for uploaded jars.")
        .with_alternatives(&[AlternativeKey::Deprecated("jobmanager.web.upload.dir")]);

/// `web.timeout`: How long the REST endpoint waits for the JobManager.
pub const WEB_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "web.timeout",
    "10 min",
    "How long the REST endpoint waits for the JobManager.",
);

/// `pekko.ask.timeout`: How long Flink's own calls may take.
pub const ASK_TIMEOUT: ConfigOption<Duration> = ConfigOption::new(
    "pekko.ask.timeout",
    "10 s",
    "How long Flink's own calls may take.",
)
.with_alternatives(&[AlternativeKey::Deprecated("akka.ask.timeout")]);

/// `env.java.opts.all`: JVM options of every process.
pub const JAVA_OPTS_ALL: ConfigOption<String> =
    ConfigOption::new("env.java.opts.all", "", "JVM options of every process.")
        .with_alternatives(&[AlternativeKey::Deprecated("env.java.opts")]);

/// `env.java.opts.jobmanager`: JVM options of the JobManager.
pub const JAVA_OPTS_JOB_MANAGER: ConfigOption<String> =
    ConfigOption::new("env.java.opts.jobmanager", "", "JVM options of the JobManager.");

/// `env.java.opts.taskmanager`: JVM options of TaskManagers.
pub const JAVA_OPTS_TASK_MANAGER: ConfigOption<String> =
    ConfigOption::new("env.java.opts.taskmanager", "", "JVM options of TaskManagers.");

/// `env.java.opts.client`: JVM options of Flink's own command line client.
pub const JAVA_OPTS_CLIENT: ConfigOption<String> = ConfigOption::new(
    "env.java.opts.client",
    "",
    "JVM options of Flink's own command line client.",
);

/// `env.java.default-opts.all`: JVM options that come before those of every process.
pub const JAVA_DEFAULT_OPTS_ALL: ConfigOption<String> = ConfigOption::new(
    "env.java.default-opts.all",
    "",
    "JVM options that come before those of every process.",
);

/// `env.java.default-opts.jobmanager`: JVM options that come before those of the JobManager.
pub const JAVA_DEFAULT_OPTS_JOB_MANAGER: ConfigOption<String> = ConfigOption::new(
    "env.java.default-opts.jobmanager",
    "",
    "JVM options that come before those of the JobManager.",
);

/// `env.java.default-opts.taskmanager`: JVM options that come before those of TaskManagers.
pub const JAVA_DEFAULT_OPTS_TASK_MANAGER: ConfigOption<String> = ConfigOption::new(
    "env.java.default-opts.taskmanager",
    "",
    "JVM options that come before those of TaskManagers.",
);

/// `env.java.home`: Java installation in the image.
pub const JAVA_HOME: OptionalConfigOption<String> =
    OptionalConfigOption::new("env.java.home", "Java installation in the image.");

/// `env.log.dir`: Directory for log files in the pods.
pub const LOG_DIR: OptionalConfigOption<String> =
    OptionalConfigOption::new("env.log.dir", "Directory for log files in the pods.");

/// `env.log.max`: How many old log files are kept.
pub const LOG_MAX: ConfigOption<u32> =
    ConfigOption::new("env.log.max", "10", "How many old log files are kept.");

/// `env.log.level`: Level of the root logger.
pub const LOG_LEVEL: ConfigOption<String> =
    ConfigOption::new("env.log.level", "INFO", "Level of the root logger.");

/// `env.stdout-err.redirect-to-file`: Whether standard output and error go to files.
pub const REDIRECT_STANDARD_STREAMS: ConfigOption<bool> = ConfigOption::new(
    "env.stdout-err.redirect-to-file",
    "false",
    "Whether standard output and error go to files.",
);

/// `env.hadoop.conf.dir`: Directory with the configuration of Hadoop.
pub const HADOOP_CONF_DIR: OptionalConfigOption<String> = OptionalConfigOption::new(
    "env.hadoop.conf.dir",
    "Directory with the configuration of Hadoop.",
);

/// `external-resources`: Names of external resources, such as gpu, that every TaskManager gets.
pub const EXTERNAL_RESOURCES: ConfigOption<Vec<String>> = ConfigOption::new(
    "external-resources",
    "",
    "Names of external resources, such as gpu, that every TaskManager gets.",
);

/// `security.kerberos.login.keytab`: Local keytab file, shipped as a Secret when a principal is set too.
pub const KERBEROS_KEYTAB: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.kerberos.login.keytab",
    "Local keytab file, shipped as a Secret when a principal is set too.",
)
.with_alternatives(&[AlternativeKey::Deprecated("security.keytab")]);

/// `security.kerberos.login.principal`: Kerberos principal that belongs to the keytab.
pub const KERBEROS_PRINCIPAL: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.kerberos.login.principal",
    "Kerberos principal that belongs to the keytab.",
)
.with_alternatives(&[AlternativeKey::Deprecated("security.principal")]);

/// `security.kerberos.krb5-conf.path`: Local krb5.conf, shipped as a ConfigMap.
pub const KERBEROS_KRB5_CONF: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.kerberos.krb5-conf.path",
    "Local krb5.conf, shipped as a ConfigMap.",
);

/// `security.kerberos.login.use-ticket-cache`: Whether Kerberos credentials may come from a ticket cache.
pub const KERBEROS_USE_TICKET_CACHE: ConfigOption<bool> = ConfigOption::new(
    "security.kerberos.login.use-ticket-cache",
    "true",
    "Whether Kerberos credentials may come from a ticket cache.",
);

/// `security.kerberos.login.contexts`: JAAS login contexts that get the Kerberos credentials.
pub const KERBEROS_LOGIN_CONTEXTS: OptionalConfigOption<String> = OptionalConfigOption::new(
    "security.kerberos.login.contexts",
    "JAAS login contexts that get the Kerberos credentials.",
);

/// Key of the amount of an external resource in each TaskManager: a whole number.
pub fn external_resource_amount_key(name: &str) -> String {
    format!("external-resource.{name}.amount")
}

/// Key of the name, such as `nvidia.com/gpu`, that Kubernetes has for an external resource.
pub fn external_resource_kubernetes_key(name: &str) -> String {
    format!("external-resource.{name}.kubernetes.config-key")
}

/// What the keys of environment variables of the JobManager's main container begin with.
pub const JOB_MANAGER_ENVIRONMENT_PREFIX: &str = "containerized.master.env.";

/// What the keys of environment variables of TaskManagers' main containers begin with.
pub const TASK_MANAGER_ENVIRONMENT_PREFIX: &str = "containerized.taskmanager.env.";
