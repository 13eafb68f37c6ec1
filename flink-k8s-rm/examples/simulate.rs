//! Runs simulated worlds; `cargo xtask simulate` builds and calls it.
//!
//! `simulate world SEED [PLANT]` prints the whole trace of one world, `simulate campaign FIRST COUNT JOBS
//! [PLANT]` runs many and prints the end of the trace of the first that goes wrong.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use flink_k8s_rm::simulation::{Campaign, CampaignReport, Outcome, Plant, Settings, TraceLength, simulate};

const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// How often progress is told where lines are not redrawn.
const LOG_INTERVAL: Duration = Duration::from_secs(20);

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["world", seed, plant @ ..] => number(seed).and_then(|seed| Ok(world(seed, planted(plant)?))),
        ["campaign", first, count, jobs, plant @ ..] => number(first)
            .and_then(|first| Ok(campaign(first, number(count)?, number(jobs)?, planted(plant)?))),
        _ => {
            Err("usage: simulate world SEED [PLANT] | simulate campaign FIRST COUNT JOBS [PLANT]".to_owned())
        }
    };
    done.unwrap_or_else(|problem| {
        print(format_args!("error: {problem}\n"));
        ExitCode::from(2)
    })
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text:?} is not a number"))
}

fn planted(words: &[&str]) -> Result<Option<Plant>, String> {
    let plant = words.first().map(|name| name.parse::<Plant>());
    plant.transpose().map_err(|unknown| unknown.to_string())
}

fn world(seed: u64, plant: Option<Plant>) -> ExitCode {
    let trace = TraceLength::Whole;
    show(&simulate(seed, Settings { plant, trace }))
}

fn show(outcome: &Outcome) -> ExitCode {
    for line in &outcome.trace {
        print(format_args!("{line}\n"));
    }
    if let Some(violation) = &outcome.violation {
        print(format_args!("\nseed {}: {violation}\n", outcome.seed));
        ExitCode::FAILURE
    } else {
        print(format_args!("\nseed {}: all was well\n", outcome.seed));
        ExitCode::SUCCESS
    }
}

fn campaign(first: u64, count: u64, jobs: u64, plant: Option<Plant>) -> ExitCode {
    let settings = Settings {
        plant,
        ..Settings::default()
    };
    let campaign = Campaign::new(first..first.saturating_add(count), settings);
    let begin = Instant::now();
    let report = thread::scope(|scope| {
        let (ended, end) = mpsc::channel();
        let (campaign, redraws) = (&campaign, std::io::stdout().is_terminal());
        scope.spawn(move || tell_progress(campaign, begin, redraws, &end));
        let report = campaign.run(usize::try_from(jobs).unwrap_or(1));
        let _the_other_thread_may_have_ended = ended.send(());
        report
    });
    summarise(&report, begin.elapsed());
    report.failure.as_ref().map_or(ExitCode::SUCCESS, show)
}

fn tell_progress(campaign: &Campaign, begin: Instant, redraws: bool, end: &mpsc::Receiver<()>) {
    let interval = if redraws { PROGRESS_INTERVAL } else { LOG_INTERVAL };
    while end.recv_timeout(interval) == Err(mpsc::RecvTimeoutError::Timeout) {
        let worlds = campaign.progress().worlds;
        let rate = per_second(worlds, begin.elapsed());
        let (start, stop) = if redraws { ("\r\u{1b}[2K", "") } else { ("", "\n") };
        let all = campaign.worlds();
        print(format_args!(
            "{start}  {worlds} of {all} worlds, {rate} a second{stop}"
        ));
    }
    if redraws {
        print(format_args!("\r\u{1b}[2K"));
    }
}

fn summarise(report: &CampaignReport, took: Duration) {
    let rate = per_second(report.worlds, took);
    let seconds = took.as_secs_f64();
    print(format_args!(
        "  {} worlds, {} events, {seconds:.1} s, {rate} worlds a second; the slowest settled after {:?}\n",
        report.worlds, report.events, report.slowest
    ));
}

fn per_second(count: u64, took: Duration) -> u128 {
    u128::from(count) * 1000 / took.as_millis().max(1)
}

/// A closed output is no reason to stop.
fn print(text: std::fmt::Arguments<'_>) {
    let mut output = std::io::stdout().lock();
    let _closed_output_is_fine = output.write_fmt(text).and_then(|()| output.flush());
}
