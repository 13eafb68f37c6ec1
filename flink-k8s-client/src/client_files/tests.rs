use std::error::Error;

use tempfile::TempDir;

use super::*;

fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in files {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn environment(directory: &TempDir) -> ClientEnvironment {
    ClientEnvironment::new().with_configuration_directory(directory.path())
}

fn chain(error: &dyn Error, directory: &TempDir) -> String {
    let cause = error
        .source()
        .map(|cause| format!(": {}", chain(cause, directory)))
        .unwrap_or_default();
    format!("{error}{cause}").replace(&directory.path().display().to_string(), "DIR")
}

fn value<'a>(configuration: &'a FlinkConfiguration, key: &str) -> Option<&'a str> {
    configuration.setting(key).map(|setting| setting.text.as_str())
}

#[tokio::test]
async fn the_configuration_file_is_read_with_its_path_as_origin() {
    let directory = directory(&[
        ("config.yaml", "parallelism:\n  default: 4\n"),
        ("flink-conf.yaml", "a: b"),
    ]);
    let loaded = environment(&directory).read_configuration().await.unwrap();
    assert_eq!(value(&loaded.configuration, "parallelism.default"), Some("4"));
    let file = directory.path().join("config.yaml");
    let origin = &loaded
        .configuration
        .setting("parallelism.default")
        .unwrap()
        .origin;
    assert_eq!(*origin, Origin::File(file.display().to_string()));
    assert_eq!(loaded.file, Some(file));
    let warning = loaded.warnings[0].replace(&directory.path().display().to_string(), "DIR");
    insta::assert_snapshot!(warning, @"DIR/flink-conf.yaml is ignored because config.yaml is there");
}

#[tokio::test]
async fn the_file_of_flink_1_is_read_where_there_is_no_other() {
    let directory = directory(&[("flink-conf.yaml", "parallelism.default: 4 # many\nnonsense\n")]);
    let loaded = environment(&directory).read_configuration().await.unwrap();
    assert_eq!(value(&loaded.configuration, "parallelism.default"), Some("4"));
    let warning = loaded.warnings[0].replace(&directory.path().display().to_string(), "DIR");
    insta::assert_snapshot!(warning, @"line 2 of DIR/flink-conf.yaml is not `key: value` and is ignored");
}

#[tokio::test]
async fn a_directory_without_a_configuration_is_refused() {
    let directory = directory(&[]);
    let error = environment(&directory).read_configuration().await.unwrap_err();
    insta::assert_snapshot!(chain(&error, &directory), @"Flink's configuration directory DIR has no config.yaml");
}

#[tokio::test]
async fn without_a_flink_distribution_the_stock_settings_and_logging_apply() {
    let environment = ClientEnvironment::new();
    let loaded = environment.read_configuration().await.unwrap();
    assert_eq!(loaded.file, None);
    assert_eq!(
        value(&loaded.configuration, "jobmanager.memory.process.size"),
        Some("1600m")
    );
    assert_eq!(
        value(&loaded.configuration, "taskmanager.memory.process.size"),
        Some("1728m")
    );
    let java_options = value(&loaded.configuration, "env.java.opts.all").unwrap();
    assert!(
        java_options.contains("--add-opens=java.base/java.lang=ALL-UNNAMED"),
        "{java_options}"
    );
    let files = environment.read_files(&loaded.configuration).await.unwrap();
    assert_eq!(
        files.logging.keys().collect::<Vec<_>>(),
        ["log4j-console.properties"]
    );
}

#[tokio::test]
async fn a_file_that_is_not_yaml_is_named_with_the_line() {
    let directory = directory(&[("config.yaml", "a: [1\nb: 2\n")]);
    let error = environment(&directory).read_configuration().await.unwrap_err();
    let text = chain(&error, &directory);
    assert!(
        text.starts_with(
            "cannot use configuration file DIR/config.yaml: the configuration is not valid YAML"
        ),
        "{text}"
    );
    assert!(text.contains("line"), "{text}");
}

#[tokio::test]
async fn logging_templates_hadoop_and_kerberos_files_are_read_as_the_configuration_demands() {
    let directory = directory(&[
        ("log4j-console.properties", "rootLogger"),
        ("other.txt", "not shipped"),
        ("core-site.xml", "<core/>"),
        ("jm.yaml", "kind: Pod"),
        ("me.keytab", "secret"),
        ("krb.conf", "[libdefaults]"),
    ]);
    let at = |name: &str| directory.path().join(name).display().to_string();
    let environment = environment(&directory).with_hadoop_directory(directory.path());
    let mut configuration = FlinkConfiguration::new();
    let mut set = |key: &str, text: String| configuration.set(key, text, Origin::CommandLine);
    set("kubernetes.pod-template-file.default", at("jm.yaml"));
    set("security.kerberos.login.keytab", at("me.keytab"));
    set("security.kerberos.login.principal", "me".to_owned());
    set("security.kerberos.krb5-conf.path", at("krb.conf"));
    let files = environment.read_files(&configuration).await.unwrap();
    assert_eq!(
        files.logging,
        [("log4j-console.properties".to_owned(), "rootLogger".to_owned())].into()
    );
    assert_eq!(files.job_manager_pod_template.as_deref(), Some("kind: Pod"));
    assert_eq!(files.task_manager_pod_template.as_deref(), Some("kind: Pod"));
    assert_eq!(
        files.hadoop,
        [("core-site.xml".to_owned(), "<core/>".to_owned())].into()
    );
    assert_eq!(files.keytab, Some(("me.keytab".to_owned(), b"secret".to_vec())));
    assert_eq!(
        files.krb5_conf,
        Some(("krb.conf".to_owned(), "[libdefaults]".to_owned()))
    );

    configuration.set(
        "kubernetes.hadoop.conf.config-map.name",
        "mine",
        Origin::CommandLine,
    );
    configuration.set(
        "kubernetes.decorator.kerberos-mount.enabled",
        "false",
        Origin::CommandLine,
    );
    let files = environment.read_files(&configuration).await.unwrap();
    assert!(files.hadoop.is_empty() && files.keytab.is_none() && files.krb5_conf.is_none());
}

#[tokio::test]
async fn a_missing_file_is_named_with_the_option_that_asks_for_it() {
    let directory = directory(&[]);
    let at = |name: &str| directory.path().join(name).display().to_string();
    let read = async |settings: &[(&str, String)]| {
        let mut configuration = FlinkConfiguration::new();
        for (key, text) in settings {
            configuration.set(*key, text.clone(), Origin::CommandLine);
        }
        let error = environment(&directory)
            .read_files(&configuration)
            .await
            .unwrap_err();
        chain(&error, &directory)
    };
    let template = read(&[("kubernetes.pod-template-file", at("jm.yaml"))]).await;
    insta::assert_snapshot!(template, @"cannot read DIR/jm.yaml, which option kubernetes.pod-template-file names: No such file or directory (os error 2)");
    let keytab = read(&[
        ("security.kerberos.login.keytab", at("me.keytab")),
        ("security.kerberos.login.principal", "me".to_owned()),
    ])
    .await;
    insta::assert_snapshot!(keytab, @"cannot read DIR/me.keytab, which option security.kerberos.login.keytab names: No such file or directory (os error 2)");
    let option = read(&[("kubernetes.decorator.kerberos-mount.enabled", "maybe".to_owned())]).await;
    insta::assert_snapshot!(option, @r#"cannot tell which files the cluster needs: cannot read "maybe" as the value of option kubernetes.decorator.kerberos-mount.enabled: expected true or false"#);
}

#[test]
fn directories_come_from_the_environment_in_flinks_order() {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(home.path().join("conf")).unwrap();
    let from = |variables: &[(&str, &str)]| {
        let find = |name: &str| {
            variables
                .iter()
                .find(|(key, _)| *key == name)
                .map(|(_, value)| OsString::from(value))
        };
        ClientEnvironment::from_variables(find)
    };
    let path = home.path().to_str().unwrap();
    let own = from(&[
        ("FLINK_CONF_DIR", "/conf"),
        ("FLINK_HOME", path),
        ("HADOOP_HOME", path),
    ]);
    assert_eq!(own.configuration_directory(), Some(Path::new("/conf")));
    assert_eq!(own.hadoop_directory, Some(home.path().join("conf")));
    let of_home = from(&[
        ("FLINK_CONF_DIR", ""),
        ("FLINK_HOME", path),
        ("HADOOP_CONF_DIR", "/hadoop"),
    ]);
    assert_eq!(of_home.configuration_directory, Some(home.path().join("conf")));
    assert_eq!(of_home.hadoop_directory, Some(PathBuf::from("/hadoop")));
    assert_eq!(from(&[("FLINK_HOME", "/nowhere")]), ClientEnvironment::new());
}

#[tokio::test]
async fn the_jar_of_an_application_is_read_where_it_is_a_file_of_this_machine() {
    let directory = tempfile::tempdir().unwrap();
    let jar = directory.path().join("my job.jar");
    std::fs::write(&jar, "PK").unwrap();
    let read = async |address: &str| {
        let mut configuration = FlinkConfiguration::new();
        configuration.set_list("pipeline.jars", &[address.to_owned()], Origin::CommandLine);
        ClientEnvironment::new().read_job_jar(&configuration).await
    };
    let jar = jar.to_str().unwrap();
    for address in [jar.to_owned(), format!("file://{jar}"), format!("file:{jar}")] {
        let file = read(&address).await.unwrap().unwrap();
        assert_eq!(
            (file.name.as_str(), file.content.as_slice()),
            ("my job.jar", &b"PK"[..])
        );
    }
    for address in [
        "local:///opt/flink/usrlib/job.jar",
        "https://files/job.jar",
        "s3://bucket/job.jar",
        "",
    ] {
        assert_eq!(read(address).await.unwrap(), None, "{address}");
    }
    let refusal = read("target/missing.jar").await.unwrap_err().to_string();
    assert_eq!(
        refusal,
        "cannot read target/missing.jar on this machine; the address of a jar in the image begins with local://"
    );
    let large = directory.path().join("large.jar");
    std::fs::File::create(&large).unwrap().set_len(33 << 20).unwrap();
    let refusal = read(large.to_str().unwrap()).await.unwrap_err().to_string();
    assert!(
        refusal.contains("has 33 MiB") && refusal.contains("up to 32 MiB"),
        "{refusal}"
    );
}
