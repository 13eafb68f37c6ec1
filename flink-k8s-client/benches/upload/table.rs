//! The table of `docs/benchmarks.md`; `cargo xtask bench` adds machine and day.

use std::process::Command;
use std::time::Duration;

use crate::Upload;

/// Where it was measured, in a line of its own, and what the two took.
pub(crate) fn render(mebibytes: u64, ours: &[Upload], curls: &[Upload]) -> String {
    let (our_wall, curls_wall) = (median(ours), median(curls));
    let range = |uploads: &[Upload]| {
        let walls = || uploads.iter().map(|upload| upload.wall.as_secs_f64());
        let (least, most) = walls().fold((f64::MAX, 0.0_f64), |(least, most), wall| {
            (least.min(wall), most.max(wall))
        });
        format!("{least:.2} to {most:.2} s")
    };
    let memories = ours.iter().filter_map(|upload| upload.peak_memory_mb);
    let peak = memories.fold(0.0, f64::max);
    [
        "over loopback".to_owned(),
        String::new(),
        format!("| a file of {mebibytes} MiB | flink-k8s | {} |", curl()),
        "| --- | ---: | ---: |".to_owned(),
        format!(
            "| wall time, median of {} | {} | {} |",
            ours.len(),
            seconds(our_wall),
            seconds(curls_wall)
        ),
        format!("| least and most | {} | {} |", range(ours), range(curls)),
        format!(
            "| MiB/s | {:.0} | {:.0} |",
            rate(mebibytes, our_wall),
            rate(mebibytes, curls_wall)
        ),
        format!(
            "| ratio of the two times | {:.2} | |",
            our_wall.as_secs_f64() / curls_wall.as_secs_f64()
        ),
        format!("| peak memory | {peak:.1} MB | |"),
    ]
    .join("\n")
}

fn median(uploads: &[Upload]) -> Duration {
    let mut walls: Vec<Duration> = uploads.iter().map(|upload| upload.wall).collect();
    walls.sort();
    walls.get(walls.len() / 2).copied().unwrap_or_default()
}

#[expect(clippy::cast_precision_loss, reason = "files are smaller than that")]
fn rate(mebibytes: u64, wall: Duration) -> f64 {
    mebibytes as f64 / wall.as_secs_f64()
}

fn seconds(duration: Duration) -> String {
    format!("{:.2} s", duration.as_secs_f64())
}

/// The name and version of curl.
fn curl() -> String {
    let output = Command::new("curl").arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    let text = text.unwrap_or_default();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
