use super::*;
use flink_k8s_rm::runner_client::{FreezeId, JavaState, RunnerClient, RunnerError as CallError};
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// A runner under test, and a client of it.
struct Trial {
    runner: flink_k8s_rm::runner_client::Runner,
    address: SocketAddr,
    signals: mpsc::Sender<Signal>,
    ended: JoinHandle<Result<u8, RunnerError>>,
}

fn shell(script: &str) -> JavaCommand {
    JavaCommand {
        program: "/bin/sh".into(),
        arguments: vec!["-c".to_owned(), script.to_owned()],
        environment: Vec::new(),
        standard_streams: None,
    }
}

async fn trial(beginning: Beginning, freeze_limit: Duration) -> Trial {
    flink_k8s_client::install_crypto_provider();
    let token = BearerToken::random();
    let mut runner = Runner::bind(0, token.clone()).await.unwrap();
    runner.freeze_limit = freeze_limit;
    let port = runner.listener.local_addr().unwrap().port();
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let (signals, receiver) = mpsc::channel(1);
    Trial {
        runner: RunnerClient::new(token).unwrap().at(address),
        address,
        signals,
        ended: tokio::spawn(runner.run_with(beginning, receiver)),
    }
}

/// A TaskManager that does nothing, and freezes which last until they are decided.
async fn sleeper() -> Trial {
    trial(Beginning::At(shell("exec sleep 600")), Duration::from_secs(600)).await
}

fn spare() -> Beginning {
    Beginning::Spare(Box::new(|arguments| {
        anyhow::ensure!(arguments != ["--wrong"], "unexpected argument \"--wrong\"");
        Ok(shell(&arguments.join(" ")))
    }))
}

fn assignment(id: &str, script: &str) -> Assignment {
    Assignment {
        id: id.to_owned(),
        arguments: vec![script.to_owned()],
    }
}

impl Trial {
    /// The letter by which the kernel names the state of the JVM; T is stopped.
    async fn kernel_state(&self) -> char {
        let pid = self.runner.state().await.unwrap().pid.unwrap();
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    async fn exit_code(self) -> u8 {
        self.ended.await.unwrap().unwrap()
    }
}

#[tokio::test]
async fn a_freeze_is_answered_when_the_jvm_is_stopped_and_a_thaw_lets_it_go_on() {
    let trial = sleeper().await;
    let freeze = trial.runner.freeze().await.unwrap();
    assert_eq!(trial.kernel_state().await, 'T');
    let state = trial.runner.state().await.unwrap();
    assert_eq!((state.java, state.freeze), (JavaState::Frozen, Some(freeze)));
    assert_eq!(
        trial.runner.freeze().await.unwrap(),
        freeze,
        "a lost answer is asked for again"
    );
    trial.runner.thaw(freeze).await.unwrap();
    assert_ne!(trial.kernel_state().await, 'T');
    trial.runner.thaw(freeze).await.unwrap();
    assert_ne!(trial.runner.freeze().await.unwrap(), freeze);
    trial.signals.send(Signal::SIGTERM).await.unwrap();
    assert_eq!(trial.exit_code().await, 128 + 15);
}

#[tokio::test]
async fn a_released_jvm_ends_although_it_was_stopped() {
    let trial = sleeper().await;
    let freeze = trial.runner.freeze().await.unwrap();
    trial.runner.release(freeze).await.unwrap();
    assert_eq!(trial.exit_code().await, 128 + 15);
}

#[tokio::test]
async fn a_freeze_that_nobody_decides_upon_ends_by_itself_and_cannot_be_decided_upon_later() {
    let trial = trial(Beginning::At(shell("exec sleep 600")), Duration::from_millis(20)).await;
    let freeze = trial.runner.freeze().await.unwrap();
    while trial.runner.state().await.unwrap().java == JavaState::Frozen {
        sleep(Duration::from_millis(5)).await;
    }
    assert_ne!(trial.kernel_state().await, 'T');
    let refusal = trial.runner.release(freeze).await.unwrap_err();
    assert!(
        matches!(&refusal, CallError::Conflict { message, .. } if message.contains("is over; nothing was done")),
        "{refusal}"
    );
    assert_eq!(trial.runner.state().await.unwrap().java, JavaState::Running);
    trial.ended.abort();
}

#[tokio::test]
async fn a_decision_about_another_freeze_changes_nothing() {
    let trial = sleeper().await;
    let freeze = trial.runner.freeze().await.unwrap();
    let other = FreezeId(freeze.0 + 1);
    assert!(trial.runner.release(other).await.is_err());
    trial.runner.thaw(other).await.unwrap();
    assert_eq!(trial.kernel_state().await, 'T');
    trial.ended.abort();
}

#[tokio::test]
async fn a_signal_that_ends_a_frozen_jvm_thaws_it() {
    let trial = sleeper().await;
    trial.runner.freeze().await.unwrap();
    trial.signals.send(Signal::SIGTERM).await.unwrap();
    assert_eq!(trial.exit_code().await, 128 + 15);
}

#[tokio::test]
async fn a_jvm_that_is_ending_is_not_frozen_any_more() {
    let directory = tempfile::tempdir().unwrap();
    let ready = directory.path().join("ready");
    let stubborn = format!(
        "trap '' TERM; touch {}; while :; do sleep 0.05; done",
        ready.display()
    );
    let trial = trial(Beginning::At(shell(&stubborn)), Duration::from_secs(600)).await;
    while !ready.exists() {
        sleep(Duration::from_millis(5)).await;
    }
    trial.signals.send(Signal::SIGTERM).await.unwrap();
    while trial.runner.state().await.unwrap().java != JavaState::Ending {
        sleep(Duration::from_millis(5)).await;
    }
    let refusal = trial.runner.freeze().await.unwrap_err().to_string();
    assert!(refusal.ends_with("refuses: the JVM is ending"), "{refusal}");
    trial.ended.abort();
}

#[tokio::test]
async fn the_exit_code_of_the_jvm_is_that_of_the_runner() {
    let trial = trial(Beginning::At(shell("exit 42")), FREEZE_LIMIT).await;
    assert_eq!(trial.exit_code().await, 42);
}

#[tokio::test]
async fn orders_without_the_token_are_refused() {
    let trial = sleeper().await;
    let stranger = RunnerClient::new(BearerToken::random())
        .unwrap()
        .at(trial.address);
    let refusal = stranger.freeze().await.unwrap_err();
    assert!(
        matches!(refusal, CallError::Refused { status: 401, .. }),
        "{refusal}"
    );
    assert_eq!(trial.runner.state().await.unwrap().java, JavaState::Running);
    trial.ended.abort();
}

#[tokio::test]
async fn a_spare_has_no_jvm_until_it_is_assigned_and_then_keeps_its_assignment() {
    let trial = trial(spare(), FREEZE_LIMIT).await;
    assert_eq!(trial.runner.state().await.unwrap().java, JavaState::NotStarted);
    let refusal = trial.runner.freeze().await.unwrap_err().to_string();
    assert!(refusal.ends_with("there is no JVM yet"), "{refusal}");
    let first = assignment("orders-taskmanager-1-1", "exec sleep 600");
    let state = trial.runner.assign(&first).await.unwrap();
    assert_eq!(state.java, JavaState::Running);
    assert_eq!(trial.runner.assign(&first).await.unwrap().pid, state.pid);
    let other = assignment("orders-taskmanager-1-2", "exec sleep 600");
    let refusal = trial.runner.assign(&other).await.unwrap_err().to_string();
    assert!(
        refusal.ends_with("refuses: this is orders-taskmanager-1-1 already"),
        "{refusal}"
    );
    let freeze = trial.runner.freeze().await.unwrap();
    trial.runner.release(freeze).await.unwrap();
    assert_eq!(trial.exit_code().await, 128 + 15);
}

#[tokio::test]
async fn an_assignment_that_cannot_work_leaves_the_spare_waiting() {
    let trial = trial(spare(), FREEZE_LIMIT).await;
    let refusal = trial
        .runner
        .assign(&assignment("w", "--wrong"))
        .await
        .unwrap_err();
    assert!(
        matches!(&refusal, CallError::Refused { status: 422, message, .. } if message.contains("--wrong")),
        "{refusal}"
    );
    assert_eq!(trial.runner.state().await.unwrap().java, JavaState::NotStarted);
    trial.signals.send(Signal::SIGTERM).await.unwrap();
    assert_eq!(trial.exit_code().await, 128 + 15);
}
