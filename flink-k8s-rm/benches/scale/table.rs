//! The table of `docs/benchmarks.md`; `cargo xtask bench` adds machine and day.

use std::fmt::Write as _;
use std::time::Duration;

use crate::rounds::Rounds;
use crate::{bare_loop, workers};

/// One number of workers.
pub(crate) struct Column {
    pub(crate) size: u32,
    pub(crate) bare_loop: bare_loop::Measured,
    pub(crate) workers: workers::Measured,
    pub(crate) rounds: Rounds,
}

/// Where it was measured, in a line of its own, and a row for each thing that was measured.
pub(crate) fn render(columns: &[Column]) -> String {
    let mut text = format!("{}\n\n| workers |", setting());
    for column in columns {
        let _ = write!(text, " {} |", column.size); // Writing to a string does not fail.
    }
    text.push_str("\n| --- |");
    text.push_str(&" ---: |".repeat(columns.len()));
    text.push('\n');
    let mut row = |name: &str, value: &dyn Fn(&Column) -> String| {
        let values: Vec<String> = columns.iter().map(value).collect();
        let _ = writeln!(text, "| {name} | {} |", values.join(" | "));
    };
    row("bare loop: pods/s", &|column| {
        format!("{:.0}", rate(column.size, column.bare_loop.seconds))
    });
    row("bare loop: CPU", &|column| seconds(column.bare_loop.cpu_seconds));
    row("bare loop: peak memory", &|column| {
        megabytes(column.bare_loop.peak_memory_mb)
    });
    row("resource manager: pods/s", &|column| {
        format!("{:.0}", rate(column.size, column.workers.created_seconds))
    });
    row("ratio of the two rates", &|column| {
        format!("{:.2}", column.bare_loop.seconds / column.workers.created_seconds)
    });
    row("resource manager: all created", &|column| {
        seconds(column.workers.created_seconds)
    });
    row("all known to run", &|column| {
        seconds(column.workers.running_seconds)
    });
    row("half released, known to be gone", &|column| {
        seconds(column.workers.released_seconds)
    });
    row("CPU until all are created", &|column| {
        seconds(column.workers.created_cpu_seconds)
    });
    row("CPU of all phases", &|column| seconds(column.workers.cpu_seconds));
    row("peak memory", &|column| megabytes(column.workers.peak_memory_mb));
    row("API calls per pod that is made or deleted", &|column| {
        format!("{:.3}", per_write(&column.workers))
    });
    row(
        "events handled, mean time of one in the running manager",
        &|column| {
            let workers = &column.workers;
            format!("{:.0}, {:.0} µs", workers.events, workers.mean_microseconds)
        },
    );
    row("one event alone: p50 / p99 / longest", &|column| {
        let Rounds {
            median, p99, longest, ..
        } = column.rounds;
        format!("{} / {} / {}", short(median), short(p99), short(longest))
    });
    row("taking in a list of all pods", &|column| {
        short(column.rounds.relist)
    });
    text
}

fn rate(count: u32, seconds: f64) -> f64 {
    f64::from(count) / seconds
}

#[expect(clippy::cast_precision_loss, reason = "there are fewer calls than that")]
fn per_write(workers: &workers::Measured) -> f64 {
    workers.api_calls as f64 / workers.writes as f64
}

fn seconds(seconds: f64) -> String {
    format!("{seconds:.2} s")
}

fn megabytes(megabytes: f64) -> String {
    format!("{megabytes:.1} MB")
}

fn short(duration: Duration) -> String {
    format!("{:.1} µs", duration.as_secs_f64() * 1e6)
}

fn setting() -> &'static str {
    if std::env::var("USE_EXISTING_CLUSTER").is_ok_and(|value| value == "true") {
        "the existing API server"
    } else {
        "embedded API server on the same machine"
    }
}
