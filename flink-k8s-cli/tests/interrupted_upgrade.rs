//! An upgrade that is killed at any call that changes something, and then repeated, ends with exactly one whole cluster, or
//! one job, that goes on from the right savepoint, with the right jar.

#![expect(clippy::unwrap_used, reason = "what cannot be unwrapped here fails the test")]

#[path = "interruption/everywhere.rs"]
mod everywhere;
#[path = "interruption/flink.rs"]
mod flink;
#[path = "interruption/guillotine.rs"]
mod guillotine;
#[path = "interruption/jars.rs"]
mod jars;
#[path = "interruption/job_upgrades.rs"]
mod job_upgrades;
#[path = "interruption/session_flink.rs"]
mod session_flink;

use std::collections::BTreeMap;
use std::fs;
use std::process::Output;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use flink_k8s_core::application_outcome::ApplicationOutcome;
use flink_k8s_local::test_cluster::TestCluster;
use k8s_openapi::ByteString;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::json;

use everywhere::{changes_something, everywhere};
use flink::{Flink, Told, UNLUCKY};
use guillotine::{Blade, Cut, Machine, Moment, assert_one_whole_cluster, said};
use jars::write_jar;

const RECORD: &str = "flink-k8s-upgrade-orders";
/// More than one ConfigMap holds.
const BALLAST: &[u8] = &[7; 1024 * 1024];
/// The certificates have to stay the same.
const TLS: &str = "-Dflink-k8s.tls=auto";
const CHANGED: &str = "-Dparallelism.default=3";
const MODE: [&str; 2] = ["--mode", "savepoint"];

/// A cluster that runs, and the user who upgrades it.
struct Scene {
    client: kube::Client,
    namespace: String,
    machine: Machine,
    told: Arc<Mutex<Told>>,
    old_job: String,
    certificates: BTreeMap<String, ByteString>,
    jars: tempfile::TempDir,
}

impl Scene {
    /// With a jar that has this in it, besides what it needs.
    async fn set(client: kube::Client, namespace: String, ballast: &[u8]) -> Self {
        let machine = Machine::new(&namespace);
        let jars = tempfile::tempdir().unwrap();
        let [old, new] = ["old.jar", "new.jar"].map(|name| jars.path().join(name));
        write_jar(&old, ballast);
        write_jar(&new, &[]);
        let words = ["application", "start", "--detached", TLS, old.to_str().unwrap()];
        let started = machine
            .run(client.clone(), &Blade::new(None, |_| false), &words)
            .await;
        assert!(started.status.success(), "{}", said(&started));
        let mut scene = Self {
            client,
            namespace,
            machine,
            told: Arc::default(),
            old_job: String::new(),
            certificates: BTreeMap::new(),
            jars,
        };
        scene.old_job = scene.job().await;
        scene.certificates = scene.secret("orders-tls").await;
        scene
    }

    fn jar(&self, name: &str) -> String {
        self.jars.path().join(name).to_str().unwrap().to_owned()
    }

    /// Runs a command of `flink-k8s application` until it ends or is cut off.
    async fn application(&self, cut: Option<Cut>, words: &[&str]) -> Output {
        let blade = Blade::new(cut, changes_something);
        let flink = self.flink(blade.clone()).await;
        let endpoint = format!("-Dflink-k8s.rest.url={}", flink.url);
        let (command, more) = words.split_at(1);
        let words = [&["application"], command, &[endpoint.as_str(), TLS], more].concat();
        self.machine.run(self.client.clone(), &blade, &words).await
    }

    async fn flink(&self, blade: Blade) -> Flink {
        Flink::start(
            self.client.clone(),
            &self.namespace,
            Arc::clone(&self.told),
            blade,
        )
        .await
    }

    async fn upgrade(&self, cut: Option<Cut>, more: &[&str]) -> Output {
        let words = [&["upgrade", "orders"], more].concat();
        self.application(cut, &words).await
    }

    /// Goes on as from another machine, which does not have the new jar. Before Kubernetes has it, nothing is done; then, and
    /// when there is nothing to go on with, the upgrade begins anew.
    async fn go_on(&self, words: &[&str]) -> Output {
        if self.config_map(RECORD).await.is_some() {
            let (new, away) = (self.jar("new.jar"), self.jar("away.jar"));
            fs::rename(&new, &away).unwrap();
            let resumed = self.upgrade(None, &["--resume"]).await;
            fs::rename(away, new).unwrap();
            if !said(&resumed).contains("the new jar is not whole in Kubernetes") {
                return resumed;
            }
            let told = &self.told.lock().unwrap().stopped.clone();
            assert!(told.is_empty(), "{}", said(&resumed));
            assert_eq!(resumed.status.code(), Some(1), "{}", said(&resumed));
        }
        self.upgrade(None, words).await
    }

    async fn deployment(&self) -> Deployment {
        let deployments: Api<Deployment> = Api::namespaced(self.client.clone(), &self.namespace);
        deployments.get("orders").await.unwrap()
    }

    async fn job(&self) -> String {
        let annotations = self.deployment().await.metadata.annotations.unwrap();
        annotations["flink-k8s/job-id"].clone()
    }

    async fn config_map(&self, name: &str) -> Option<String> {
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let found = config_maps.get_opt(name).await.unwrap()?;
        Some(found.data.unwrap().into_values().collect())
    }

    /// The names of all Secrets, once nothing is kept for an upgrade: the garbage collector is a moment behind.
    async fn secrets_after_the_upgrade(&self) -> Vec<String> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let of_jars = ListParams::default().labels("type=flink-k8s-upgrade-jar");
        let mut names = Vec::new();
        for _ in 0..600 {
            let found = secrets.list(&ListParams::default()).await.unwrap();
            let jars = config_maps.list_metadata(&of_jars).await.unwrap().items;
            names = found
                .items
                .into_iter()
                .filter_map(|secret| secret.metadata.name)
                .collect();
            if names.len() == 1 && jars.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        names
    }

    async fn secret(&self, name: &str) -> BTreeMap<String, ByteString> {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        secrets.get(name).await.unwrap().data.unwrap()
    }

    /// Fails unless one whole cluster with this in its configuration, and this jar, runs another job from the last savepoint, and
    /// nothing is left of the upgrade.
    async fn assert_goes_on_with(&self, (expected, jar): (&str, &str), case: &str) {
        assert_eq!(self.config_map(RECORD).await, None, "{case}: the record is gone");
        assert_eq!(self.secrets_after_the_upgrade().await, ["orders-tls"], "{case}");
        let jar = fs::read(self.jar(jar)).unwrap();
        assert_one_whole_cluster(&self.client, &self.namespace, &jar, case).await;
        assert!(
            self.secret("orders-tls").await == self.certificates,
            "{case}: the certificates are others"
        );
        let configuration = self.config_map("flink-config-orders").await.unwrap();
        assert!(configuration.contains(expected), "{case}: {configuration}");
        assert!(!configuration.contains(UNLUCKY), "{case}: {configuration}");
        let told = std::mem::take(&mut *self.told.lock().unwrap());
        assert!(told.violations.is_empty(), "{case}: {:?}", told.violations);
        let [(stopped, savepoint)] = &told.stopped.into_iter().collect::<Vec<_>>()[..] else {
            panic!("{case}: one job is stopped");
        };
        assert_eq!(*stopped, self.old_job, "{case}");
        assert!(
            configuration.contains(savepoint.as_str()),
            "{case}: {configuration}"
        );
        assert_ne!(self.job().await, self.old_job, "{case}");
    }
}

/// Kills one upgrade, which leads to this exit code, at this call, and repeats it. Says whether it was killed.
async fn cut_once(scene: Scene, cut: Cut, option: &str, code: i32, expected: (&str, &str)) -> bool {
    let case = format!("{option}, killed {cut:?}");
    let jar = scene.jar("new.jar");
    let words = [&MODE[..], &[option, &jar]].concat();
    let first = scene.upgrade(Some(cut), &words).await;
    if first.status.code() == Some(code) {
        scene.assert_goes_on_with(expected, &case).await;
        return false;
    }
    assert_eq!(first.status.code(), None, "{case}: {}", said(&first));
    let second = scene.go_on(&words).await;
    // When its last step was done, it begins anew, and what is wanted is there already; or fails once more.
    let is_over = second.status.code() == Some(code);
    assert!(is_over, "{case}: {}\nthen: {}", said(&first), said(&second));
    scene.assert_goes_on_with(expected, &case).await;
    true
}

async fn cut_everywhere(moment: Moment, option: &str, code: i32, expected: (&str, &str)) {
    everywhere(moment, async |client, namespace, cut| {
        let scene = Scene::set(client, namespace, &[]).await;
        cut_once(scene, cut, option, code, expected).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_killed_before_any_of_its_calls_is_completed_by_the_next_one() {
    cut_everywhere(Moment::Before, CHANGED, 0, ("default: 3", "new.jar")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_that_is_killed_after_any_of_its_calls_is_completed_by_the_next_one() {
    cut_everywhere(Moment::After, CHANGED, 0, ("default: 3", "new.jar")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_to_what_fails_goes_back_wherever_it_is_killed() {
    let unlucky = format!("-Dpipeline.name={UNLUCKY}");
    cut_everywhere(Moment::Before, &unlucky, 1, ("cluster-id", "old.jar")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgrade_under_way_is_seen_and_respected_by_other_commands_and_can_be_aborted() {
    let cluster = TestCluster::start().await;
    let scene = Scene::set(cluster.client(), cluster.namespace().to_owned(), BALLAST).await;
    let jar = scene.jar("new.jar");
    let wanted = [&MODE[..], &[CHANGED, &jar]].concat();
    let dry = scene
        .upgrade(None, &[&wanted[..2], &["--dry-run"], &wanted[2..]].concat())
        .await;
    assert!(dry.status.success(), "{}", said(&dry));
    assert!(said(&dry).contains("parallelism.default"), "{}", said(&dry));
    assert_eq!(scene.config_map(RECORD).await, None);

    // The old job is stopped, and the client dies before it hears of that.
    let stop = Cut {
        call: 9,
        moment: Moment::After,
    };
    let killed = scene.upgrade(Some(stop), &wanted).await;
    assert_eq!(killed.status.code(), None, "{}", said(&killed));
    assert_eq!(scene.told.lock().unwrap().stopped.len(), 1, "{}", said(&killed));

    // The same command line with another file is another upgrade.
    write_jar(jar.as_ref(), b"changed");
    let other = scene.upgrade(None, &wanted).await;
    assert_eq!(other.status.code(), Some(1), "{}", said(&other));
    for expected in [
        "is stopping the old job",
        "s3://bucket/savepoint-",
        "--resume",
        "--abort",
    ] {
        assert!(
            said(&other).contains(expected),
            "{expected} is not in {}",
            said(&other)
        );
    }
    let start = scene.application(None, &["start", "--detached", &jar]).await;
    assert_eq!(start.status.code(), Some(1), "{}", said(&start));
    assert!(said(&start).contains("is under way"), "{}", said(&start));
    let words = ["session", "start", "--no-wait"];
    let blade = Blade::new(None, |_| false);
    let start = scene.machine.run(scene.client.clone(), &blade, &words).await;
    assert_eq!(start.status.code(), Some(1), "{}", said(&start));
    assert!(said(&start).contains("is under way"), "{}", said(&start));

    let aborted = scene.upgrade(None, &["--abort"]).await;
    assert_eq!(aborted.status.code(), Some(1), "{}", said(&aborted));
    assert!(
        said(&aborted).contains("is as before the upgrade"),
        "{}",
        said(&aborted)
    );
    assert!(
        said(&aborted).contains("the user wants the old cluster back"),
        "{}",
        said(&aborted)
    );
    scene
        .assert_goes_on_with(("cluster-id", "old.jar"), "aborted")
        .await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_knows_what_the_old_job_left_the_user_names_the_snapshot() {
    let cluster = TestCluster::start().await;
    let scene = Scene::set(cluster.client(), cluster.namespace().to_owned(), &[]).await;
    let jar = scene.jar("new.jar");
    let stop = Cut {
        call: 8,
        moment: Moment::After,
    };
    let killed = scene
        .upgrade(Some(stop), &[&MODE[..], &[CHANGED, &jar]].concat())
        .await;
    assert_eq!(killed.status.code(), None, "{}", said(&killed));
    let stopped = scene.told.lock().unwrap().stopped.clone();
    let savepoint = stopped.get(&scene.old_job).cloned();
    let savepoint = savepoint.unwrap_or_else(|| panic!("{}", said(&killed)));

    // The job is over, and its JobManager runs nothing when it starts anew.
    let deployments: Api<Deployment> = Api::namespaced(scene.client.clone(), &scene.namespace);
    let outcome = ApplicationOutcome::new(scene.old_job.parse().unwrap(), "FINISHED", 1);
    let noted = Patch::Merge(json!({"metadata": {"annotations": outcome.annotations()}}));
    let how = PatchParams::default();
    deployments.patch("orders", &how, &noted).await.unwrap();
    let nobody = [
        "application",
        "upgrade",
        "-Dflink-k8s.rest.url=http://127.0.0.1:1",
    ];
    let words = [&nobody[..], &["orders", "--resume", TLS]].concat();
    let blade = Blade::new(None, |_| false);
    let undecided = scene.machine.run(scene.client.clone(), &blade, &words).await;
    assert_eq!(undecided.status.code(), Some(1), "{}", said(&undecided));
    for expected in [
        "waiting for a decision about the snapshot",
        "the old job is FINISHED",
        "--resume --snapshot URI",
    ] {
        assert!(said(&undecided).contains(expected), "{}", said(&undecided));
    }

    let decided = scene.upgrade(None, &["--resume", "--snapshot", &savepoint]).await;
    assert!(decided.status.success(), "{}", said(&decided));
    scene
        .assert_goes_on_with(("default: 3", "new.jar"), "decided")
        .await;
    cluster.shutdown().await;
}
