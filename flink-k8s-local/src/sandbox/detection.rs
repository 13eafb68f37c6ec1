//! Can this machine run a sandbox? Tried, not guessed.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use nix::mount::MsFlags;
use nix::sched::{CloneFlags, unshare};

use super::{ROLE_ARGUMENT, SandboxError, Step, network, role_command, supervisor};

/// Word that the inner probe prints when every step worked.
const SUCCESS: &str = "sandbox-works";

/// Why this machine refuses a sandbox, with the known remedies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal(pub(crate) String);

/// Tries every kind of thing a sandbox needs in a child process, and says what was refused.
///
/// # Errors
///
/// [`Refusal`] with the refused step and what an administrator can do about it.
pub(crate) fn probe(reexec_program: &Path) -> Result<(), Refusal> {
    let output = Command::new(reexec_program)
        .args([ROLE_ARGUMENT, "probe"])
        .stdin(Stdio::null())
        .output()
        .map_err(|error| Refusal(format!("cannot start {}: {error}", reexec_program.display())))?;
    if output.status.success() && String::from_utf8_lossy(&output.stdout).contains(SUCCESS) {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let refusal = text.lines().last().unwrap_or("the probe ended without a word");
    let refusal = refusal.strip_prefix("flink-k8s-local: ").unwrap_or(refusal);
    Err(Refusal(explain(refusal, &Policies::read())))
}

/// Kernel settings that are known to forbid sandboxes to ordinary users.
#[derive(Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own, and several may be on"
)]
struct Policies {
    apparmor_restricts: bool,
    no_user_namespaces: bool,
    clone_forbidden: bool,
    in_container: bool,
}

impl Policies {
    fn read() -> Self {
        let is = |path: &str, value: &str| fs::read_to_string(path).is_ok_and(|text| text.trim() == value);
        Self {
            apparmor_restricts: is("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1"),
            no_user_namespaces: is("/proc/sys/user/max_user_namespaces", "0"),
            clone_forbidden: is("/proc/sys/kernel/unprivileged_userns_clone", "0"),
            in_container: Path::new("/.dockerenv").exists() || Path::new("/run/.containerenv").exists(),
        }
    }
}

fn explain(refusal: &str, policies: &Policies) -> String {
    let remedy = if policies.no_user_namespaces {
        "; this system allows no user namespaces: sysctl -w user.max_user_namespaces=10000 allows them"
    } else if policies.clone_forbidden {
        "; this system keeps user namespaces from ordinary users: \
         sysctl -w kernel.unprivileged_userns_clone=1 allows them"
    } else if policies.apparmor_restricts {
        "; AppArmor keeps user namespaces from programs without a profile: either \
         sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, \
         or an AppArmor profile for this program with the rule 'userns,'"
    } else if policies.in_container {
        "; inside a container this is usually its seccomp profile or missing capabilities: \
         run it with --security-opt seccomp=unconfined and --cap-add SYS_ADMIN,NET_ADMIN, or on the host"
    } else {
        ""
    };
    format!("{refusal}{remedy}")
}

/// The outer half of the probe: user and PID namespace.
pub(super) fn run_probe() -> Result<ExitCode, SandboxError> {
    supervisor::enter_user_namespace()?;
    unshare(CloneFlags::CLONE_NEWPID).step(|| "make a PID namespace".to_owned())?;
    let output = role_command("probe-inside")
        .stdin(Stdio::null())
        .output()
        .step(|| "start a process in the new PID namespace".to_owned())?;
    if output.status.success() {
        std::io::stdout()
            .write_all(&output.stdout)
            .step(|| "report".to_owned())?;
        return Ok(ExitCode::SUCCESS);
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let line = text.lines().last().unwrap_or("it ended without a word");
    let line = line.strip_prefix("flink-k8s-local: ").unwrap_or(line);
    Err(SandboxError::other("set a sandbox up", line))
}

/// The inner half: mounts and network.
pub(super) fn run_probe_inside() -> Result<ExitCode, SandboxError> {
    supervisor::enter_private_namespaces()?;
    // Any directory that exists everywhere does: the mount is seen by this process alone.
    let scratch = Path::new("/tmp");
    supervisor::mount_scratch(scratch)?;
    for name in ["lower", "upper", "work", "merged"] {
        fs::create_dir(scratch.join(name)).step(|| format!("make {name} in a memory file system"))?;
    }
    supervisor::mount(
        Some(Path::new("overlay")),
        &scratch.join("merged"),
        Some("overlay"),
        MsFlags::empty(),
        Some("lowerdir=/tmp/lower,upperdir=/tmp/upper,workdir=/tmp/work"),
    )
    .step(|| "mount an overlay file system (ordinary users need Linux 5.11)".to_owned())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .step(|| "start a runtime".to_owned())?;
    runtime.block_on(network::try_bridge_and_cable())?;
    writeln!(std::io::stdout(), "{SUCCESS}").step(|| "report".to_owned())?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_the_sysctl_that_forbids_user_namespaces() {
        let policies = Policies {
            no_user_namespaces: true,
            ..Policies::default()
        };
        let text = explain("cannot make a user namespace: no space", &policies);
        assert!(text.starts_with("cannot make a user namespace"), "{text}");
        assert!(text.contains("user.max_user_namespaces"), "{text}");
    }

    #[test]
    fn apparmor_has_two_remedies() {
        let policies = Policies {
            apparmor_restricts: true,
            ..Policies::default()
        };
        let text = explain("cannot write /proc/self/uid_map", &policies);
        assert!(
            text.contains("apparmor_restrict_unprivileged_userns=0") && text.contains("profile"),
            "{text}"
        );
    }

    #[test]
    fn without_a_known_policy_the_refusal_stands_alone() {
        assert_eq!(explain("cannot fly", &Policies::default()), "cannot fly");
    }
}
