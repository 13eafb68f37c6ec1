//! The supervisor outside the sandbox and the init process inside it.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitCode, Stdio};
use std::thread;
use std::time::Duration;

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, Uid, getgid, getuid, setsid};

use super::{SandboxError, Step, role_command};
use crate::local_cluster::Mode;
use crate::local_cluster::state::StateDirectory;

/// Private ranges to take pod addresses from, the first that the host does not route wins.
const POD_RANGES: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(10, 244, 0, 0), 16),
    (Ipv4Addr::new(10, 245, 0, 0), 16),
    (Ipv4Addr::new(172, 30, 0, 0), 16),
    (Ipv4Addr::new(172, 31, 0, 0), 16),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
];

/// How often the lock is tried.
const LOCK_ATTEMPTS: u32 = 100;
/// Pause between two attempts.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// Holds the lock of the state directory as long as the cluster lives, and ends with it.
///
/// Standard input is the listener of the API server, opened in the host's network.
pub(super) fn run_supervisor(arguments: &[String]) -> Result<ExitCode, SandboxError> {
    let state = state_directory(arguments)?;
    // An ordinary failure: the process leads its session already when it was started by hand.
    let _ = setsid();
    let lock = take_lock(&state)?;
    let options = state
        .read_options()
        .step(|| "read the options of the cluster".to_owned())?;
    state
        .write_supervisor(std::process::id())
        .step(|| "write the supervisor's PID".to_owned())?;
    let signals = block_signals()?;
    let mut child = match options.mode {
        Mode::Sandbox => {
            let range = free_pod_range(&fs::read_to_string("/proc/net/route").unwrap_or_default());
            enter_user_namespace()?;
            unshare(CloneFlags::CLONE_NEWPID).step(|| "make a PID namespace".to_owned())?;
            spawn(
                "init",
                &[
                    &state.path().to_string_lossy(),
                    &range.0.to_string(),
                    &range.1.to_string(),
                ],
            )?
        }
        Mode::Plain { .. } => {
            nix::sys::prctl::set_child_subreaper(true).step(|| "adopt orphans".to_owned())?;
            spawn("daemon", &[&state.path().to_string_lossy()])?
        }
    };
    let status = wait_and_forward(&mut child, &signals)?;
    if matches!(options.mode, Mode::Plain { .. }) {
        end_adopted_children();
    }
    state.remove_running_files();
    drop(lock);
    Ok(status)
}

/// Takes the lock that says that the cluster lives. Whoever asks whether it does holds it for a moment.
fn take_lock(state: &StateDirectory) -> Result<fs::File, SandboxError> {
    let step = || format!("lock {}", state.path().display());
    for _ in 0..LOCK_ATTEMPTS {
        if let Some(lock) = state.try_lock().step(step)? {
            return Ok(lock);
        }
        thread::sleep(LOCK_PAUSE);
    }
    Err(SandboxError::other(
        step(),
        "another cluster runs from this directory",
    ))
}

/// PID 1 of the sandbox: makes the rest of its namespaces, starts the daemon and reaps orphans.
pub(super) fn run_init(arguments: &[String]) -> Result<ExitCode, SandboxError> {
    let state = state_directory(arguments)?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)
        .step(|| "tie the sandbox to its supervisor".to_owned())?;
    // The supervisor may have died before the line above. Then nobody holds the lock any more.
    if state
        .try_lock()
        .step(|| "check the supervisor".to_owned())?
        .is_some()
    {
        return Ok(ExitCode::FAILURE);
    }
    enter_private_namespaces()?;
    mount_scratch(&state.run_directory())?;
    let signals = block_signals()?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut daemon = spawn("daemon", &arguments)?;
    wait_and_forward(&mut daemon, &signals)
    // Returning ends PID 1, and with it the kernel ends everything in the namespace.
}

/// Makes the network, mount, IPC and host name namespaces and a `/proc` that shows this PID namespace.
pub(super) fn enter_private_namespaces() -> Result<(), SandboxError> {
    unshare(CloneFlags::CLONE_NEWNET).step(|| "make a network namespace".to_owned())?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS)
        .step(|| "make a mount namespace".to_owned())?;
    // Slave: what the host unmounts later must not stay busy because of us.
    mount(
        None,
        Path::new("/"),
        None,
        MsFlags::MS_SLAVE | MsFlags::MS_REC,
        None,
    )
    .step(|| "detach the mounts from the host".to_owned())?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        Some(Path::new("proc")),
        Path::new("/proc"),
        Some("proc"),
        flags,
        None,
    )
    .step(|| "mount /proc of the new PID namespace".to_owned())
}

/// Makes a user namespace in which an ordinary user may mount and configure networks. Root needs none.
pub(super) fn enter_user_namespace() -> Result<(), SandboxError> {
    if getuid() == Uid::from_raw(0) {
        return Ok(());
    }
    let (uid, gid) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER).step(|| "make a user namespace".to_owned())?;
    write_user_mapping(&format!("0 {uid} 1"), &format!("0 {gid} 1"))
}

/// Writes the mapping of the user namespace this process has just made.
pub(super) fn write_user_mapping(users: &str, groups: &str) -> Result<(), SandboxError> {
    fs::write("/proc/self/setgroups", "deny").step(|| "write /proc/self/setgroups".to_owned())?;
    fs::write("/proc/self/uid_map", users).step(|| "write /proc/self/uid_map".to_owned())?;
    fs::write("/proc/self/gid_map", groups).step(|| "write /proc/self/gid_map".to_owned())
}

/// `mount(2)` with paths, which is all this crate needs.
pub(super) fn mount(
    source: Option<&Path>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> nix::Result<()> {
    nix::mount::mount(source, target, kind, flags, data)
}

/// Mounts the memory file system that holds what must not outlive the cluster: tokens, Secrets, layers.
pub(super) fn mount_scratch(directory: &Path) -> Result<(), SandboxError> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some(Path::new("flink-k8s")),
        directory,
        Some("tmpfs"),
        flags,
        Some("mode=0755"),
    )
    .step(|| format!("mount a memory file system on {}", directory.display()))
}

fn state_directory(arguments: &[String]) -> Result<StateDirectory, SandboxError> {
    let path = arguments
        .first()
        .ok_or_else(|| SandboxError::other("find the state directory", "the argument is missing"))?;
    Ok(StateDirectory::new(PathBuf::from(path)))
}

fn spawn(role: &str, arguments: &[&str]) -> Result<Child, SandboxError> {
    role_command(role)
        .args(arguments)
        .stdin(Stdio::inherit())
        .spawn()
        .step(|| format!("start the {role} process of the cluster"))
}

/// Blocks the signals that [`wait_and_forward`] waits for. Children start with none blocked.
fn block_signals() -> Result<SigSet, SandboxError> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        signals.add(signal);
    }
    signals.thread_block().step(|| "block signals".to_owned())?;
    Ok(signals)
}

/// Reaps every child, passes requests to stop on, and returns when `main_child` has ended.
fn wait_and_forward(main_child: &mut Child, signals: &SigSet) -> Result<ExitCode, SandboxError> {
    let main_pid = Pid::from_raw(main_child.id().cast_signed());
    loop {
        while let Ok(status) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            match status {
                WaitStatus::Exited(pid, code) if pid == main_pid => {
                    return Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)));
                }
                WaitStatus::Signaled(pid, signal, _) if pid == main_pid => {
                    return Ok(ExitCode::from(128 + u8::try_from(signal as i32).unwrap_or(0)));
                }
                WaitStatus::StillAlive => break,
                _ => {}
            }
        }
        if signals.wait().step(|| "wait for signals".to_owned())? != Signal::SIGCHLD {
            // A child that has just ended needs no signal; the next round reaps it.
            let _ = kill(main_pid, Signal::SIGTERM);
        }
    }
}

/// Ends what the daemon of a plain cluster left behind: with it gone, its processes are our children.
fn end_adopted_children() {
    let path = format!("/proc/self/task/{}/children", std::process::id());
    loop {
        let children = fs::read_to_string(&path).unwrap_or_default();
        let children: Vec<i32> = children
            .split_whitespace()
            .filter_map(|pid| pid.parse().ok())
            .collect();
        if children.is_empty() {
            return;
        }
        for pid in children {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = waitpid(None, None);
    }
}

/// The first of [`POD_RANGES`] that no route of the host overlaps, so that nothing is shadowed.
fn free_pod_range(routes: &str) -> (Ipv4Addr, u8) {
    let occupied: Vec<(u32, u32)> = routes
        .lines()
        .skip(1)
        .filter_map(|line| {
            let mut fields = line.split_whitespace().skip(1);
            let destination = u32::from_str_radix(fields.next()?, 16).ok()?.swap_bytes();
            let mask = u32::from_str_radix(fields.nth(5)?, 16).ok()?.swap_bytes();
            (mask != 0).then_some((destination, mask))
        })
        .collect();
    let is_free = |(address, prefix): &(Ipv4Addr, u8)| {
        let own_mask = u32::MAX << (32 - u32::from(*prefix));
        let address = u32::from(*address);
        occupied
            .iter()
            .all(|(destination, mask)| (destination ^ address) & mask & own_mask != 0)
    };
    POD_RANGES.into_iter().find(is_free).unwrap_or(POD_RANGES[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n";

    #[test]
    fn the_first_range_is_taken_when_the_host_routes_none_of_them() {
        let routes = format!("{HEADER}eth0 00000000 010200C0 0003 0 0 0 00000000 0 0 0\n");
        assert_eq!(free_pod_range(&routes), POD_RANGES[0]);
    }

    #[test]
    fn a_range_that_the_host_routes_is_left_alone() {
        let routes = format!("{HEADER}vpn0 0000F40A 00000000 0001 0 0 0 0000FFFF 0 0 0\n");
        assert_eq!(free_pod_range(&routes), POD_RANGES[1]);
    }

    #[test]
    fn a_wider_route_excludes_every_range_inside_it() {
        let routes = format!("{HEADER}vpn0 0000000A 00000000 0001 0 0 0 000000FF 0 0 0\n");
        assert_eq!(free_pod_range(&routes), POD_RANGES[2]);
    }
}
