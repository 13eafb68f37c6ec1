//! Asks the JVM of this container whether it is alive, as `jcmd` would: over the socket through which a JVM can be
//! attached to. It is answered by a thread of the JVM itself, so one that is stopped, deadlocked as a whole, or busy with
//! nothing but garbage does not answer; and no port is needed for it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Where the probe, another process, learns which process the JVM is.
const NOTE: &str = "flink-k8s-taskmanager";
/// What is noted of a spare that waits.
const SPARE: &str = "spare";
/// How long the JVM may take to answer.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
/// How often it is looked whether it listens.
const LISTENS_POLLED_EVERY: Duration = Duration::from_millis(50);
/// The first version of the protocol: version, command and three arguments, each ended by a zero. How long the JVM is
/// up is the cheapest thing to ask.
const QUESTION: &[u8] = b"1\0jcmd\0VM.uptime\0\0\0";

/// What a JVM is noted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Noted {
    /// There is none yet, and that is fine.
    Spare,
    /// This process is or becomes the JVM.
    Java(Pid),
}

/// Why a JVM does not count as alive.
#[derive(Debug, thiserror::Error)]
enum NotAlive {
    #[error("the TaskManager has not been started yet")]
    NotStarted,
    #[error("the JVM is not ready to be asked yet")]
    NotReady,
    #[error("the JVM is stopped")]
    Stopped,
    #[error("the JVM does not answer")]
    Silent(#[from] io::Error),
}

/// Notes for probes what this container runs. Without the note they fail, so a failure is worth a warning.
pub(crate) fn note(noted: Noted) {
    let text = match noted {
        Noted::Spare => SPARE.to_owned(),
        Noted::Java(pid) => pid.to_string(),
    };
    let path = note_path();
    if let Err(error) = fs::write(&path, text) {
        tracing::warn!(path = %path.display(), %error, "cannot be written, and so probes of this container fail");
    }
}

fn note_path() -> PathBuf {
    std::env::temp_dir().join(NOTE)
}

/// What the probe does: succeeds if the TaskManager of this container is alive, or is none yet because it is a spare.
pub(crate) fn main() -> ExitCode {
    match is_alive(&note_path(), Path::new("/tmp")) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            tracing::error!("{:#}", anyhow::Error::from(reason));
            ExitCode::FAILURE
        }
    }
}

/// JVMs have their sockets in `sockets`, `/tmp` whatever the directory for temporary files is.
fn is_alive(note: &Path, sockets: &Path) -> Result<(), NotAlive> {
    let noted = fs::read_to_string(note).map_err(|_| NotAlive::NotStarted)?;
    let Ok(pid) = noted.trim().parse::<i32>() else {
        return Ok(());
    };
    let Ok(status) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return Ok(()); // It has ended, and the container ends with it.
    };
    if field(&status, "State").is_some_and(|state| state.starts_with(['T', 't'])) {
        return Err(NotAlive::Stopped);
    }
    let socket = sockets.join(format!(".java_pid{pid}"));
    if !socket.exists() {
        if cannot_be_asked(pid) {
            return Ok(());
        }
        if !catches_quit(&status) {
            return Err(NotAlive::NotReady); // The signal would end it.
        }
        make_it_listen(pid, sockets, &socket)?;
    }
    let mut connection = UnixStream::connect(&socket)?;
    connection.set_read_timeout(Some(ANSWER_LIMIT))?;
    connection.set_write_timeout(Some(ANSWER_LIMIT))?;
    connection.write_all(QUESTION)?;
    connection.read_exact(&mut [0; 1])?;
    Ok(())
}

/// A JVM that gets SIGQUIT and finds this file listens on its socket, and else prints its threads.
fn make_it_listen(pid: i32, directory: &Path, socket: &Path) -> io::Result<()> {
    let request = directory.join(format!(".attach_pid{pid}"));
    fs::write(&request, "")?;
    let asked = kill(Pid::from_raw(pid), Signal::SIGQUIT).map_err(io::Error::from);
    let given_up = Instant::now() + ANSWER_LIMIT;
    while asked.is_ok() && !socket.exists() && Instant::now() < given_up {
        sleep(LISTENS_POLLED_EVERY);
    }
    // Whether it is there still does not matter: its name has this process in it.
    let _ = fs::remove_file(request);
    asked
}

/// Whether this JVM has no such socket: by its options, or because it is not `HotSpot`, which alone has them.
fn cannot_be_asked(pid: i32) -> bool {
    let read = |name: &str| fs::read(format!("/proc/{pid}/{name}")).unwrap_or_default();
    let mentions = |text: &[u8], word: &str| text.windows(word.len()).any(|part| part == word.as_bytes());
    let (arguments, variables) = (read("cmdline"), read("environ"));
    let is_refused = ["-XX:+DisableAttachMechanism", "-Xrs"]
        .iter()
        .any(|option| mentions(&arguments, option) || mentions(&variables, option));
    is_refused || mentions(&read("maps"), "libj9vm")
}

/// Whether the process has a handler for SIGQUIT; without one the signal ends it.
fn catches_quit(status: &str) -> bool {
    let mask = field(status, "SigCgt").and_then(|mask| u64::from_str_radix(mask, 16).ok());
    mask.is_some_and(|mask| mask & (1 << (Signal::SIGQUIT as i32 - 1)) != 0)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let value = |line: &'a str| line.strip_prefix(name)?.strip_prefix(':');
    status.lines().find_map(value).map(str::trim)
}

/// Whether these are the arguments of a probe.
pub(crate) fn is_wanted(arguments: &[String]) -> bool {
    matches!(arguments, [only] if only == flink_k8s_core::decorators::IS_ALIVE_ARGUMENT)
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;
    use std::process::{Child, Command};

    use super::*;

    /// A process that is none of a JVM, with a socket that answers, or does not, in its stead.
    struct Pretended {
        process: Child,
        directory: tempfile::TempDir,
    }

    impl Pretended {
        fn start() -> Self {
            let pretended = Self {
                process: Command::new("sleep").arg("600").spawn().unwrap(),
                directory: tempfile::tempdir().unwrap(),
            };
            fs::write(pretended.note(), pretended.process.id().to_string()).unwrap();
            pretended
        }

        fn note(&self) -> PathBuf {
            self.directory.path().join("note")
        }

        fn listen(&self) -> UnixListener {
            let name = format!(".java_pid{}", self.process.id());
            UnixListener::bind(self.directory.path().join(name)).unwrap()
        }

        fn probed(&self) -> Result<(), String> {
            is_alive(&self.note(), self.directory.path()).map_err(|reason| reason.to_string())
        }

        fn signal(&self, signal: Signal) {
            kill(Pid::from_raw(self.process.id().cast_signed()), signal).unwrap();
        }
    }

    impl Drop for Pretended {
        fn drop(&mut self) {
            self.process.kill().unwrap();
            self.process.wait().unwrap();
        }
    }

    #[test]
    fn a_jvm_that_answers_is_alive_and_one_that_is_stopped_is_not() {
        let java = Pretended::start();
        let listener = java.listen();
        let answering = std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let mut question = vec![0; QUESTION.len()];
            connection.read_exact(&mut question).unwrap();
            connection.write_all(b"0\n12.3 s\n").unwrap();
            question
        });
        assert_eq!(java.probed(), Ok(()));
        assert_eq!(answering.join().unwrap(), QUESTION);
        java.signal(Signal::SIGSTOP);
        let is_stopped = |status: &str| field(status, "State").is_some_and(|state| state.starts_with('T'));
        let status = format!("/proc/{}/status", java.process.id());
        while !is_stopped(&fs::read_to_string(&status).unwrap()) {
            sleep(LISTENS_POLLED_EVERY);
        }
        assert_eq!(java.probed(), Err("the JVM is stopped".to_owned()));
    }

    #[test]
    fn a_jvm_that_hangs_up_without_a_word_is_not_alive() {
        let java = Pretended::start();
        let listener = java.listen();
        let hanging_up = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert_eq!(java.probed(), Err("the JVM does not answer".to_owned()));
        hanging_up.join().unwrap();
    }

    #[test]
    fn a_process_that_the_signal_would_end_is_not_asked() {
        let java = Pretended::start();
        assert_eq!(
            java.probed(),
            Err("the JVM is not ready to be asked yet".to_owned())
        );
        assert!(Path::new(&format!("/proc/{}", java.process.id())).exists());
    }

    #[test]
    fn a_spare_is_alive_without_a_jvm_and_nothing_is_before_it_begins() {
        let directory = tempfile::tempdir().unwrap();
        let note = directory.path().join("note");
        let probed = || is_alive(&note, directory.path()).map_err(|reason| reason.to_string());
        assert_eq!(
            probed(),
            Err("the TaskManager has not been started yet".to_owned())
        );
        fs::write(&note, SPARE).unwrap();
        assert_eq!(probed(), Ok(()));
    }

    #[test]
    fn the_handler_of_sigquit_is_found_in_the_mask_of_caught_signals() {
        assert!(catches_quit(
            "Name:\tjava\nSigIgn:\t0000000000000000\nSigCgt:\t2000000181005ccf\n"
        ));
        assert!(!catches_quit("SigCgt:\t0000000000000002\n"));
        assert!(!catches_quit("Name:\tjava\n"));
    }
}
