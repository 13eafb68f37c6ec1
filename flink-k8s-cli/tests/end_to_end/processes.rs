//! Finding the processes of one embedded Kubernetes among all that run on this machine.

use std::fs;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The processes below `ancestor` (itself included) whose command line contains `text`.
pub(crate) fn below(ancestor: u32, text: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        if command_line(pid).contains(text) && descends_from(pid, ancestor) {
            found.push(pid);
        }
    }
    found
}

/// The processes below `ancestor` that are in the pod of this name.
pub(crate) fn of_pod(ancestor: u32, pod: &str) -> Vec<u32> {
    let host_name = format!("HOSTNAME={pod}\0");
    let mut all = below(ancestor, "");
    all.retain(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&host_name)
    });
    all
}

/// Where this test finds the file that processes of the pod have at this path.
pub(crate) fn path_in(ancestor: u32, pod: &str, path: &str) -> PathBuf {
    let processes = of_pod(ancestor, pod);
    let Some(process) = processes.last() else {
        panic!("pod {pod} has no processes");
    };
    PathBuf::from(format!("/proc/{process}/root{path}"))
}

/// The command line of a process with blanks between its words; empty when it is gone.
pub(crate) fn command_line(pid: u32) -> String {
    let raw = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&raw).replace('\0', " ")
}

/// Every process whose command line or environment mentions `text`.
pub(crate) fn mentioning(text: &str) -> Vec<String> {
    let own = std::process::id();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let environment = String::from_utf8_lossy(&environment).into_owned();
        if pid != own && (command_line(pid).contains(text) || environment.contains(text)) {
            found.push(format!("{pid}: {}", command_line(pid)));
        }
    }
    found
}

/// SIGKILL.
pub(crate) fn kill_at_once(pid: u32) {
    send(pid, Signal::SIGKILL);
}

/// This signal.
pub(crate) fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// SIGSTOP: the process neither works nor ends, whatever it is told, but by SIGKILL.
pub(crate) fn let_hang(pid: u32) {
    send(pid, Signal::SIGSTOP);
}

fn descends_from(mut pid: u32, ancestor: u32) -> bool {
    while pid > 1 {
        if pid == ancestor {
            return true;
        }
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"));
        pid = parent.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
    }
    false
}
