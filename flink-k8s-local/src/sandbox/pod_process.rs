//! The process that holds a pod's network, host name and IPC namespaces.

use std::io::{self, BufRead, Write};
use std::net::Ipv4Addr;
use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use nix::unistd::sethostname;

use super::{SandboxError, Step};

/// Name of a pod's network interface inside the pod.
pub(crate) const POD_INTERFACE: &str = "eth0";

/// Makes the pod's namespaces, lets the node agent plug the cable in, configures it, and waits.
///
/// The conversation is lines: we say `ready`; the agent moves [`POD_INTERFACE`] in and says
/// `<address> <prefix> <gateway>`; we say `ok`. The end of standard input is the end of the pod.
pub(super) fn run_pod(arguments: &[String]) -> Result<ExitCode, SandboxError> {
    let host_name = arguments
        .first()
        .ok_or_else(|| SandboxError::other("make a pod", "the host name is missing"))?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC)
        .step(|| "make the pod's namespaces".to_owned())?;
    sethostname(host_name).step(|| format!("set the host name {host_name}"))?;
    say("ready")?;
    let mut lines = io::stdin().lock().lines();
    if let Some(line) = lines.next() {
        let line = line.step(|| "read the pod's address".to_owned())?;
        configure_network(&line)?;
        say("ok")?;
    }
    for _ in lines {}
    Ok(ExitCode::SUCCESS)
}

fn say(word: &str) -> Result<(), SandboxError> {
    let mut output = io::stdout();
    writeln!(output, "{word}")
        .and_then(|()| output.flush())
        .step(|| "answer the node agent".to_owned())
}

fn configure_network(line: &str) -> Result<(), SandboxError> {
    let invalid = || SandboxError::other("configure the pod's network", format!("not an address: {line:?}"));
    let mut fields = line.split_whitespace();
    let address: Ipv4Addr = fields
        .next()
        .and_then(|field| field.parse().ok())
        .ok_or_else(invalid)?;
    let prefix: u8 = fields
        .next()
        .and_then(|field| field.parse().ok())
        .ok_or_else(invalid)?;
    let gateway: Ipv4Addr = fields
        .next()
        .and_then(|field| field.parse().ok())
        .ok_or_else(invalid)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .step(|| "start a runtime".to_owned())?;
    runtime.block_on(super::network::configure_pod_interface(address, prefix, gateway))
}
