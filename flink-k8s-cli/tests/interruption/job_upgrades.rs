//! The upgrade of a job of a session cluster.

use std::path::PathBuf;
use std::process::Output;
use std::sync::{Arc, Mutex};

use flink_k8s_local::test_cluster::TestCluster;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams};

use super::everywhere::{changes_something, everywhere};
use super::flink::{Flink, UNLUCKY};
use super::guillotine::{Blade, Cut, Machine, Moment, said};
use super::jars::write_jar;
use super::session_flink::{MISSING_CLASS, Session, SessionEndpoint};

const OLD_JOB: &str = "0123456789abcdef0123456789abcdef";
const LUCKY: &str = "lucky";

/// A session cluster with a job, and the user who upgrades it.
struct Scene {
    client: kube::Client,
    namespace: String,
    machine: Machine,
    session: Arc<Mutex<Session>>,
    jars: tempfile::TempDir,
}

impl Scene {
    async fn set(client: kube::Client, namespace: String) -> Self {
        let machine = Machine::new(&namespace);
        let words = ["session", "start", "--no-wait"];
        let started = machine
            .run(client.clone(), &Blade::new(None, |_| false), &words)
            .await;
        assert!(started.status.success(), "{}", said(&started));
        let jars = tempfile::tempdir().unwrap();
        for name in ["old.jar", "new.jar"] {
            write_jar(&jars.path().join(name), &[]);
        }
        Self {
            client,
            namespace,
            machine,
            session: Arc::new(Mutex::new(Session::with_job(OLD_JOB))),
            jars,
        }
    }

    fn jar(&self, name: &str) -> PathBuf {
        self.jars.path().join(name)
    }

    /// Runs `flink-k8s job upgrade` until it ends or is cut off.
    async fn run(&self, cut: Option<Cut>, words: &[&str]) -> Output {
        let blade = Blade::new(cut, changes_something);
        let endpoint = SessionEndpoint {
            client: self.client.clone(),
            namespace: self.namespace.clone(),
            session: Arc::clone(&self.session),
        };
        let flink = Flink::with(endpoint, blade.clone()).await;
        let endpoint = format!("-Dflink-k8s.rest.url={}", flink.url);
        let words = [&["job", "upgrade", endpoint.as_str(), OLD_JOB], words].concat();
        self.machine.run(self.client.clone(), &blade, &words).await
    }

    /// An upgrade to the new jar, which is run with this argument.
    async fn upgrade(&self, cut: Option<Cut>, options: &[&str], argument: &str) -> Output {
        let new = self.jar("new.jar");
        let words = [options, &[new.to_str().unwrap(), argument]].concat();
        self.run(cut, &words).await
    }

    /// With a way back.
    async fn upgrade_or_go_back(&self, cut: Option<Cut>, argument: &str) -> Output {
        let old = self.jar("old.jar");
        let way_back = ["--rollback-jar", old.to_str().unwrap()];
        let options = [
            &["--mode", "savepoint", "--rollback-argument=--old"],
            &way_back[..],
        ]
        .concat();
        self.upgrade(cut, &options, argument).await
    }

    async fn records(&self) -> Vec<ConfigMap> {
        let config_maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), &self.namespace);
        let records = ListParams::default().labels("type=flink-k8s-upgrade");
        config_maps.list(&records).await.unwrap().items
    }

    /// Fails unless one job with this argument runs from the savepoint with which the old one was stopped, and nothing is
    /// left of the upgrade.
    async fn assert_goes_on_with(&self, argument: &str, case: &str) {
        assert_eq!(self.records().await, [], "{case}: the record is gone");
        let session = self.session.lock().unwrap();
        let violations = &session.told.violations;
        assert!(violations.is_empty(), "{case}: {violations:?}");
        assert!(session.jars.is_empty(), "{case}: {:?}", session.jars);
        let stopped: Vec<_> = session.told.stopped.iter().collect();
        let [(stopped, savepoint)] = &stopped[..] else {
            panic!("{case}: one job is stopped, not {stopped:?}");
        };
        assert_eq!(*stopped, OLD_JOB, "{case}");
        let [running] = &session.running()[..] else {
            panic!("{case}: {:?} run", session.running());
        };
        let job = &session.jobs[running];
        assert_ne!(running, OLD_JOB, "{case}");
        assert_eq!(job.from.as_ref(), Some(*savepoint), "{case}");
        assert!(job.arguments.contains(argument), "{case}: {job:?}");
    }
}

/// Kills one upgrade, which leads to this exit code, at this call, and repeats it. Says whether it was killed.
async fn cut_once(scene: Scene, cut: Cut, argument: &str, code: i32, expected: &str) -> bool {
    let case = format!("{argument}, killed {cut:?}");
    let first = scene.upgrade_or_go_back(Some(cut), argument).await;
    if first.status.code() == Some(code) {
        scene.assert_goes_on_with(expected, &case).await;
        return false;
    }
    assert_eq!(first.status.code(), None, "{case}: {}", said(&first));
    let was_last = scene.records().await.is_empty() && scene.session.lock().unwrap().jobs.len() > 1;
    let second = scene.upgrade_or_go_back(None, argument).await;
    let why = format!("{case}: {}\nthen: {}", said(&first), said(&second));
    if was_last {
        assert_eq!(second.status.code(), Some(1), "{why}");
        assert!(
            said(&second).contains("is FINISHED, so there is nothing to upgrade"),
            "{why}"
        );
    } else {
        assert_eq!(second.status.code(), Some(code), "{why}");
    }
    scene.assert_goes_on_with(expected, &case).await;
    true
}

async fn cut_everywhere(moment: Moment, argument: &str, code: i32, expected: &str) {
    everywhere(moment, async |client, namespace, cut| {
        let scene = Scene::set(client, namespace).await;
        cut_once(scene, cut, argument, code, expected).await
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_upgrade_that_is_killed_before_any_of_its_calls_is_completed_by_the_next_one() {
    cut_everywhere(Moment::Before, LUCKY, 0, LUCKY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_upgrade_that_is_killed_after_any_of_its_calls_is_completed_by_the_next_one() {
    cut_everywhere(Moment::After, LUCKY, 0, LUCKY).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_upgrade_to_what_fails_goes_back_wherever_it_is_killed() {
    cut_everywhere(Moment::Before, UNLUCKY, 1, "--old").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_not_stopped_for_what_cannot_be_run_and_a_way_back_is_asked_for() {
    let mut cluster = TestCluster::start().await;
    let scene = Scene::set(cluster.client(), cluster.create_namespace().await).await;
    let unsaid = scene.upgrade(None, &["--mode", "savepoint"], LUCKY).await;
    assert_eq!(unsaid.status.code(), Some(2), "{}", said(&unsaid));
    assert!(said(&unsaid).contains("--rollback-jar"), "{}", said(&unsaid));

    let one_way = ["--mode", "savepoint", "--no-rollback"];
    let dry = scene
        .upgrade(None, &[&one_way[..], &["--dry-run"]].concat(), LUCKY)
        .await;
    assert!(dry.status.success(), "{}", said(&dry));
    assert!(said(&dry).contains("without a way back"), "{}", said(&dry));

    let missing = [&one_way[..], &["-c", MISSING_CLASS]].concat();
    let refused = scene.upgrade(None, &missing, LUCKY).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    for expected in [
        "the new program cannot be run",
        "ClassNotFoundException",
        "its job goes on",
    ] {
        assert!(said(&refused).contains(expected), "{}", said(&refused));
    }

    let secret = [&one_way[..], &["-Dmy.password=hunter2"]].concat();
    let refused = scene.upgrade(None, &secret, LUCKY).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains("my.password is a secret"),
        "{}",
        said(&refused)
    );
    assert!(!said(&refused).contains("hunter2"), "{}", said(&refused));

    let last_state = ["--mode", "last-state", "--no-rollback"];
    let refused = scene.upgrade(None, &last_state, LUCKY).await;
    assert_eq!(refused.status.code(), Some(1), "{}", said(&refused));
    assert!(
        said(&refused).contains("RETAIN_ON_CANCELLATION"),
        "{}",
        said(&refused)
    );

    assert_eq!(scene.records().await, []);
    {
        let session = scene.session.lock().unwrap();
        assert_eq!(session.running(), [OLD_JOB]);
        assert!(session.jars.is_empty() && session.told.savepoints.is_empty());
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_back_a_new_job_that_fails_stays_and_the_state_is_named() {
    let mut cluster = TestCluster::start().await;
    let scene = Scene::set(cluster.client(), cluster.create_namespace().await).await;
    let one_way = ["--mode", "savepoint", "--no-rollback"];
    let failed = scene.upgrade(None, &one_way, UNLUCKY).await;
    assert_eq!(failed.status.code(), Some(1), "{}", said(&failed));
    for expected in ["s3://bucket/savepoint-", "no luck", "there is no way back"] {
        assert!(said(&failed).contains(expected), "{}", said(&failed));
    }
    assert_eq!(scene.records().await, []);
    assert_eq!(scene.session.lock().unwrap().running(), [""; 0]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jar_that_the_job_manager_has_lost_is_uploaded_once_more_and_an_abort_brings_the_old_job_back() {
    let mut cluster = TestCluster::start().await;
    let scene = Scene::set(cluster.client(), cluster.create_namespace().await).await;
    // The old job is stopped, and the client dies before it hears of that.
    let stop = Cut {
        call: 9,
        moment: Moment::After,
    };
    let killed = scene.upgrade_or_go_back(Some(stop), LUCKY).await;
    assert_eq!(killed.status.code(), None, "{}", said(&killed));
    assert_eq!(
        scene.session.lock().unwrap().told.stopped.len(),
        1,
        "{}",
        said(&killed)
    );
    scene.session.lock().unwrap().lose_uploads();

    let resumed = scene.run(None, &["--resume"]).await;
    assert_eq!(resumed.status.code(), Some(1), "{}", said(&resumed));
    for expected in ["does not have new.jar any more", "the same command line"] {
        assert!(said(&resumed).contains(expected), "{}", said(&resumed));
    }
    let other = scene.upgrade_or_go_back(None, "other").await;
    assert_eq!(other.status.code(), Some(1), "{}", said(&other));
    assert!(said(&other).contains("is under way"), "{}", said(&other));
    let words = [
        "session",
        "start",
        "--no-wait",
        "--replace",
        "-Dparallelism.default=3",
    ];
    let blade = Blade::new(None, |_| false);
    let replaced = scene.machine.run(scene.client.clone(), &blade, &words).await;
    assert_eq!(replaced.status.code(), Some(1), "{}", said(&replaced));
    for expected in ["is starting the new one", "job upgrade JOB-ID --resume"] {
        assert!(said(&replaced).contains(expected), "{}", said(&replaced));
    }

    let (old, new) = (scene.jar("old.jar"), scene.jar("new.jar"));
    let jars = ["--rollback-jar", old.to_str().unwrap(), new.to_str().unwrap()];
    let aborted = scene.run(None, &[&["--abort"], &jars[..]].concat()).await;
    assert_eq!(aborted.status.code(), Some(1), "{}", said(&aborted));
    assert!(
        said(&aborted).contains("is as before the upgrade"),
        "{}",
        said(&aborted)
    );
    scene.assert_goes_on_with("--old", "aborted").await;
    cluster.shutdown().await;
}
