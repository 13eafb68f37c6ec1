//! Whole command lines.

use super::*;

fn installation() -> FlinkInstallation {
    let jars = [
        "lib/log4j-core.jar",
        "lib/flink-dist-2.1.3.jar",
        "lib/flink-cep-2.1.3.jar",
    ];
    FlinkInstallation {
        home: "/opt/flink".into(),
        configuration_directory: "/opt/flink/conf".into(),
        log_directory: None,
        library_jars: jars.map(|jar| Path::new("/opt/flink").join(jar)).into(),
        java: "/opt/java/bin/java".into(),
        java_major_version: 17,
        hostname: "orders-5c9f7-abcde".to_owned(),
        user: "flink".to_owned(),
        environment: [("HADOOP_CONF_DIR".to_owned(), "/opt/hadoop/conf".to_owned())].into(),
    }
}

fn configuration(entries: &[(&str, &str)]) -> FlinkConfiguration {
    let mut configuration = FlinkConfiguration::new();
    for (key, value) in entries {
        configuration.set(*key, *value, Origin::CommandLine);
    }
    configuration
}

#[test]
fn a_job_manager_gets_its_memory_the_users_options_and_the_log_settings() {
    let configuration = configuration(&[
        ("jobmanager.memory.process.size", "1600m"),
        ("env.java.opts.all", "-Dall=1"),
        ("env.java.opts.jobmanager", "-Xlog:gc:${FLINK_LOG_PREFIX}.gc"),
        ("env.java.opts.taskmanager", "-Dnever=1"),
    ]);
    let mut installation = installation();
    installation
        .environment
        .insert("JVM_ARGS".to_owned(), "-Dfirst=1".to_owned());
    let command = session_job_manager(&installation, &configuration, &["-Dx=y".to_owned()]).unwrap();
    let (options, arguments) = command.arguments.split_at(14);
    assert_eq!(
        options,
        [
            "-Dfirst=1",
            "-Xmx1073741824",
            "-Xms1073741824",
            "-XX:MaxMetaspaceSize=268435456",
            "-XX:+IgnoreUnrecognizedVMOptions",
            "-Dall=1",
            "-Xlog:gc:/opt/flink/log/flink-flink-kubernetes-session-0-orders-5c9f7-abcde.gc",
            "-Dlog.file=/opt/flink/log/flink-flink-kubernetes-session-0-orders-5c9f7-abcde.log",
            "-Dlog4j.configuration=file:/opt/flink/conf/log4j-console.properties",
            "-Dlog4j.configurationFile=file:/opt/flink/conf/log4j-console.properties",
            "-Dlogback.configurationFile=file:/opt/flink/conf/logback-console.xml",
            "-classpath",
            "/opt/flink/lib/flink-cep-2.1.3.jar:/opt/flink/lib/log4j-core.jar:\
             /opt/flink/lib/flink-dist-2.1.3.jar:/opt/hadoop/conf",
            SESSION_ENTRYPOINT_CLASS,
        ]
    );
    let mut settings: Vec<&String> = arguments.iter().filter(|word| *word != "-D").collect();
    settings.sort();
    assert_eq!(
        settings,
        [
            "-Dx=y",
            "jobmanager.memory.heap.size=1073741824b",
            "jobmanager.memory.jvm-metaspace.size=268435456b",
            "jobmanager.memory.jvm-overhead.max=201326592b",
            "jobmanager.memory.jvm-overhead.min=201326592b",
            "jobmanager.memory.off-heap.size=134217728b",
        ]
    );
    assert_eq!(arguments.last().unwrap(), "-Dx=y");
    let variables: BTreeMap<String, String> = command.environment.into_iter().collect();
    assert_eq!(variables["FLINK_PLUGINS_DIR"], "/opt/flink/plugins");
    assert_eq!(
        (&*variables["ROOT_LOG_LEVEL"], &*variables["MAX_LOG_FILE_NUMBER"]),
        ("INFO", "10")
    );
}

#[test]
fn settings_among_the_arguments_change_the_memory() {
    let configuration = configuration(&[("jobmanager.memory.process.size", "1600m")]);
    for arguments in [
        &["-Djobmanager.memory.process.size=2g"][..],
        &["-D", "jobmanager.memory.process.size=2g"],
    ] {
        let arguments: Vec<String> = arguments.iter().map(|word| (*word).to_owned()).collect();
        let command = session_job_manager(&installation(), &configuration, &arguments).unwrap();
        assert_eq!(command.arguments[0], "-Xmx1530082096");
    }
}

#[test]
fn without_java_options_the_jvm_gets_those_of_the_stock_configuration() {
    let memory = ("jobmanager.memory.process.size", "1600m");
    let opens = |configuration: &FlinkConfiguration| {
        let command = session_job_manager(&installation(), configuration, &[]).unwrap();
        command
            .arguments
            .iter()
            .filter(|word| word.starts_with("--add-opens"))
            .count()
    };
    assert_eq!(opens(&configuration(&[memory])), 12);
    assert_eq!(opens(&configuration(&[memory, ("env.java.opts.all", "")])), 0);
}

#[test]
fn a_task_manager_gets_the_memory_of_its_request_and_every_setting() {
    let settings: Vec<(String, String)> = [
        ("taskmanager.resource-id", "orders-taskmanager-1-1"),
        ("weird.key", "a 'b' $HOME"),
        ("taskmanager.cpu.cores", "2.0"),
        ("taskmanager.memory.framework.heap.size", "134217728b"),
        ("taskmanager.memory.framework.off-heap.size", "134217728b"),
        ("taskmanager.memory.task.heap.size", "402653174b"),
        ("taskmanager.memory.task.off-heap.size", "0b"),
        ("taskmanager.memory.network.min", "134217730b"),
        ("taskmanager.memory.network.max", "134217730b"),
        ("taskmanager.memory.managed.size", "536870920b"),
        ("taskmanager.memory.jvm-metaspace.size", "268435456b"),
        ("taskmanager.memory.jvm-overhead.min", "201326592b"),
        ("taskmanager.memory.jvm-overhead.max", "201326592b"),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    let mut configuration = configuration(&[("taskmanager.memory.process.size", "1g")]);
    for (key, value) in &settings {
        configuration.set(key, value, Origin::CommandLine);
    }
    let command = task_manager(&installation(), &configuration, &settings).unwrap();
    assert_eq!(
        command.arguments[..4],
        [
            "-Xmx536870902",
            "-Xms536870902",
            "-XX:MaxDirectMemorySize=268435458",
            "-XX:MaxMetaspaceSize=268435456"
        ]
    );
    let class = command
        .arguments
        .iter()
        .position(|word| word == TASK_MANAGER_CLASS)
        .unwrap();
    assert_eq!(
        command.arguments[class + 1..class + 3],
        ["--configDir", "/opt/flink/conf"]
    );
    assert!(command.arguments.contains(&"weird.key=a 'b' $HOME".to_owned()));
    assert_eq!(command.arguments.len(), class + 3 + 2 * settings.len());
}

#[test]
fn redirected_streams_turn_the_console_appender_off() {
    let configuration = configuration(&[
        ("jobmanager.memory.process.size", "1600m"),
        ("env.stdout-err.redirect-to-file", "true"),
        ("env.log.dir", "/var/log/flink"),
    ]);
    let command = session_job_manager(&installation(), &configuration, &[]).unwrap();
    assert!(command.arguments.contains(&"-Dconsole.log.level=OFF".to_owned()));
    let files = command.standard_streams.unwrap();
    assert!(
        files.output.starts_with("/var/log/flink"),
        "{}",
        files.output.display()
    );
}

#[test]
fn a_directory_without_flink_is_named() {
    let mut installation = installation();
    installation.library_jars.clear();
    let configuration = configuration(&[("jobmanager.memory.process.size", "1600m")]);
    let refusal = session_job_manager(&installation, &configuration, &[])
        .unwrap_err()
        .to_string();
    assert_eq!(
        refusal,
        "there is no flink-dist*.jar among the jars of /opt/flink/lib"
    );
}

#[test]
fn java_from_24_on_is_not_asked_for_a_security_manager() {
    let configuration = configuration(&[("jobmanager.memory.process.size", "1600m")]);
    let allows = |java_major_version| {
        let installation = FlinkInstallation {
            java_major_version,
            ..installation()
        };
        let command = session_job_manager(&installation, &configuration, &[]).unwrap();
        command
            .arguments
            .contains(&"-Djava.security.manager=allow".to_owned())
    };
    assert_eq!([11, 17, 21, 25].map(allows), [false, false, true, false]);
}

#[test]
fn the_command_line_client_gets_its_own_options_its_logging_and_its_arguments_as_they_are() {
    let configuration = configuration(&[
        ("env.java.opts.all", "-Dall=1"),
        ("env.java.opts.client", "-Dclient='a b'"),
        ("env.java.opts.jobmanager", "-Dnever=1"),
    ]);
    let arguments: Vec<String> = ["run", "-t", "remote", "job.jar", "--in", "a $b"]
        .map(str::to_owned)
        .to_vec();
    let command = command_line_client(&installation(), &configuration, arguments.clone()).unwrap();
    let main_class = command
        .arguments
        .iter()
        .position(|word| word == CLIENT_CLASS)
        .unwrap();
    let (options, rest) = command.arguments.split_at(main_class);
    assert_eq!(rest[1..], arguments);
    assert_eq!(options[1..3], ["-Dall=1", "-Dclient=a b"]);
    assert!(
        !options
            .iter()
            .any(|word| word.starts_with("-Xm") || word.contains("never"))
    );
    let logging = "-Dlog4j.configurationFile=file:/opt/flink/conf/log4j-cli.properties";
    assert!(options.iter().any(|word| word == logging), "{options:?}");
}

#[test]
fn the_version_of_java_is_read_from_its_release_file() {
    for (text, version) in [("17.0.15", 17), ("1.8.0_412", 8), ("21", 21)] {
        let release = format!("IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"{text}\"\n");
        assert_eq!(java_major_version(&release), Some(version));
    }
    assert_eq!(java_major_version(""), None);
}

#[test]
fn a_job_manager_on_the_host_network_keeps_its_ports() {
    let settings = [
        ("jobmanager.memory.process.size", "1600m"),
        ("kubernetes.hostnetwork.enabled", "true"),
    ];
    let configuration = configuration(&settings);
    let command = session_job_manager(&installation(), &configuration, &[]).unwrap();
    let last = command.arguments.len() - 2;
    assert_eq!(
        command.arguments[last..],
        ["-D", "kubernetes.hostnetwork.enabled=false"]
    );
}
