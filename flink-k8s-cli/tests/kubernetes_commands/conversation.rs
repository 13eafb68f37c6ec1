//! A command that runs beside the test: it is typed to, listened to, and interrupted.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdin};
use tokio::time::timeout;

use super::{Bench, Ended};

const PATIENCE: Duration = Duration::from_secs(60);

/// The command; it ends with this value.
pub(crate) struct Conversation {
    process: Child,
    typed: Option<ChildStdin>,
    said: BufReader<ChildStderr>,
    heard: String,
}

impl Conversation {
    /// Starts `program` with these arguments about cluster `orders` of the test's namespace.
    pub(crate) fn begin(bench: &Bench, program: &str, arguments: &[&str]) -> Self {
        let mut command = tokio::process::Command::from(bench.on_orders(program, arguments));
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        Self {
            typed: process.stdin.take(),
            said: BufReader::new(process.stderr.take().unwrap()),
            heard: String::new(),
            process,
        }
    }

    /// As [`Conversation::begin`], with `flink-k8s`.
    pub(crate) fn flink_k8s(bench: &Bench, arguments: &[&str]) -> Self {
        Self::begin(bench, env!("CARGO_BIN_EXE_flink-k8s"), arguments)
    }

    pub(crate) async fn type_line(&mut self, line: &str) {
        let typed = self.typed.as_mut().unwrap();
        typed.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        typed.flush().await.unwrap();
    }

    /// Listens until something with this in it is said.
    pub(crate) async fn until(&mut self, part: &str) {
        let heard = &mut self.heard;
        let read = async {
            loop {
                let start = heard.len();
                let is_over = self.said.read_line(heard).await.unwrap() == 0;
                if is_over || heard[start..].contains(part) {
                    return !is_over;
                }
            }
        };
        let found = timeout(PATIENCE, read).await;
        assert_eq!(found, Ok(true), "{part:?} is not in\n{}", self.heard);
    }

    /// How it ended after this signal, while its input goes on.
    pub(crate) async fn interrupted(self, signal: Signal) -> Ended {
        let pid = Pid::from_raw(self.process.id().unwrap().cast_signed());
        kill(pid, signal).unwrap();
        self.at_its_end().await
    }

    /// How it ended after the end of its input.
    pub(crate) async fn ended(mut self) -> Ended {
        drop(self.typed.take());
        self.at_its_end().await
    }

    async fn at_its_end(mut self) -> Ended {
        let mut printed = String::new();
        let reading = async {
            let mut stdout = self.process.stdout.take().unwrap();
            let (out, err) = tokio::join!(
                stdout.read_to_string(&mut printed),
                self.said.read_to_string(&mut self.heard),
            );
            out.unwrap();
            err.unwrap();
            self.process.wait().await.unwrap()
        };
        let status = timeout(PATIENCE, reading).await;
        Ended {
            code: status.expect("the command ends").code(),
            printed,
            said: self.heard,
        }
    }
}
