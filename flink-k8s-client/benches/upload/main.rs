//! How long the upload of a jar of 1 GiB takes and how much memory, beside `curl -F` to the same endpoint.
//!
//! `cargo xtask bench upload` runs it and keeps the table. The endpoint takes what Flink's `/jars/upload` takes,
//! throws it away as fast as it comes, and answers as Flink does, so that nothing hides the cost of sending. The endpoint, our
//! client and curl are processes of their own, and take turns: the first two are this program with other arguments.
//! Our part needs Linux's `/proc`.

mod sink;
mod table;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use flink_k8s_client::rest_client::RestClient;

/// How large the file is, in MiB, unless an argument says otherwise.
const DEFAULT_MEBIBYTES: u64 = 1024;
/// How often each of the two uploads it; the table has the medians.
const ROUNDS: usize = 5;
/// Bytes of a block, as `stat` counts them.
const BLOCK: u64 = 512;

/// What one upload took.
pub(crate) struct Upload {
    /// From the start of the process to its end.
    pub(crate) wall: Duration,
    /// The most memory that the process had resident; unknown for curl, whose process is not ours.
    pub(crate) peak_memory_mb: Option<f64>,
}

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| argument != "--bench")
        .collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sink"] => sink::serve(),
        ["client", url, path] => upload(url, path),
        [] => compare(DEFAULT_MEBIBYTES),
        [size] => compare(size.parse().expect("a number of MiB")),
        _ => panic!("expected nothing, or the size of the file in MiB"),
    }
}

/// The process whose time and memory are measured.
fn upload(url: &str, path: &str) {
    flink_k8s_client::install_crypto_provider();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let rest = RestClient::new(url.parse().expect("a URL")).expect("a client");
        rest.upload_jar(path.as_ref(), |_| ())
            .await
            .expect("the endpoint takes everything");
    });
    write(&peak_memory_mb().to_string());
}

fn compare(mebibytes: u64) {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory");
    let jar = directory.path().join("job.jar");
    write_file(&jar, mebibytes);
    let (mut endpoint, url) = started_sink();
    let (mut ours, mut curls) = (Vec::new(), Vec::new());
    // The first round finds the file and the programs cold, and is not counted.
    for round in 0..=ROUNDS {
        let of_curl = with_curl(&url, &jar);
        let of_ours = with_our_client(&url, &jar);
        if round > 0 {
            curls.push(of_curl);
            ours.push(of_ours);
        }
    }
    drop(endpoint.kill());
    drop(endpoint.wait());
    write(&table::render(mebibytes, &ours, &curls));
}

fn with_our_client(url: &str, jar: &Path) -> Upload {
    let mut command = this_program();
    command.args(["client", url]).arg(jar);
    let (wall, said) = timed(command);
    let peak_memory_mb = said.trim().parse().expect("the client says its memory");
    Upload {
        wall,
        peak_memory_mb: Some(peak_memory_mb),
    }
}

fn with_curl(url: &str, jar: &Path) -> Upload {
    let mut command = Command::new("curl");
    command
        .args(["--silent", "--show-error", "--fail", "--noproxy", "*", "-F"])
        .arg(format!("jarfile=@{}", jar.display()))
        .arg(format!("{url}v1/jars/upload"));
    let (wall, _) = timed(command);
    Upload {
        wall,
        peak_memory_mb: None,
    }
}

fn timed(mut command: Command) -> (Duration, String) {
    let began = Instant::now();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("the program starts; curl has to be installed");
    let wall = began.elapsed();
    assert!(
        output.status.success(),
        "{command:?} ended with {}",
        output.status
    );
    (wall, String::from_utf8(output.stdout).expect("text"))
}

fn started_sink() -> (Child, String) {
    let mut process = this_program()
        .arg("sink")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts");
    let mut url = String::new();
    let said = process.stdout.take().expect("a pipe");
    BufReader::new(said)
        .read_line(&mut url)
        .expect("the endpoint says where it is");
    (process, url.trim().to_owned())
}

fn this_program() -> Command {
    Command::new(std::env::current_exe().expect("this program has a path"))
}

/// A file that really is on the disk, and that is in the page cache afterwards as far as it fits.
fn write_file(path: &Path, mebibytes: u64) {
    let mut file = File::create(path).expect("a file");
    let mut block = vec![0; 1024 * 1024];
    let mut random = File::open("/dev/urandom").expect("random bytes");
    random.read_exact(&mut block).expect("random bytes");
    for number in 0..mebibytes {
        block[..8].copy_from_slice(&number.to_le_bytes());
        file.write_all(&block).expect("room on the disk");
    }
    file.sync_all().expect("it is on the disk");
    let metadata = fs::metadata(path).expect("it exists");
    assert!(metadata.blocks() * BLOCK >= metadata.len(), "the file is sparse");
}

/// The most memory that this process has ever had resident, in MB.
fn peak_memory_mb() -> f64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux has /proc");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    let kilobytes = kilobytes.and_then(|text| text.parse::<f64>().ok());
    kilobytes.expect("Linux says it in kB") / 1024.0
}

fn write(text: &str) {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{text}")
        .and_then(|()| output.flush())
        .expect("somebody reads");
}
