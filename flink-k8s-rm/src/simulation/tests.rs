use super::*;

fn assert_all_is_well(report: &CampaignReport) {
    if let Some(failure) = &report.failure {
        let trace = failure.trace.join("\n");
        panic!("seed {}: {:?}\n{trace}", failure.seed, failure.violation);
    }
}

#[test]
fn the_same_seed_gives_the_same_trace() {
    let settings = Settings {
        trace: TraceLength::Whole,
        ..Settings::default()
    };
    for seed in 0..10 {
        let first = simulate(seed, settings);
        assert!(!first.trace.is_empty());
        assert_eq!(first, simulate(seed, settings), "seed {seed}");
    }
}

#[test]
fn a_trace_changes_nothing() {
    let with_trace = Settings {
        trace: TraceLength::Whole,
        ..Settings::default()
    };
    for seed in 0..10 {
        let mut traced = simulate(seed, with_trace);
        traced.trace.clear();
        assert_eq!(traced, simulate(seed, Settings::default()), "seed {seed}");
    }
}

#[test]
fn worlds_with_all_kinds_of_trouble_end_well() {
    let report = Campaign::new(0..120, Settings::default()).run(2);
    assert_all_is_well(&report);
    assert_eq!(report.worlds, 120);
}

/// How many worlds, from seed 0 on, are enough to find each planted fault.
const FOUND_WITHIN: &[(Plant, u64)] = &[
    (Plant::DropsPodGone, 100),
    (Plant::DropsFailedCreate, 20),
    (Plant::RenamesAfterLostAnswer, 20),
    (Plant::ForgetsBackOff, 50),
    (Plant::ExceedsCallLimit, 20),
    (Plant::ExceedsMaxWorkers, 50),
    (Plant::KeepsUnlistedPods, 100),
    (Plant::ForgetsReleases, 50),
    (Plant::HidesFailures, 300),
    (Plant::TakesTimeoutForRefusal, 100),
    (Plant::StartsEmpty, 100),
    (Plant::TakesForeignPods, 50),
    (Plant::BelievesSidecars, 100),
    (Plant::NeverLooksAtDemand, 100),
];

#[test]
fn planted_faults_are_found() {
    for (plant, worlds) in FOUND_WITHIN {
        let settings = Settings {
            plant: Some(*plant),
            ..Settings::default()
        };
        let report = Campaign::new(0..*worlds, settings).run(2);
        assert!(
            report.failure.is_some(),
            "{plant} was not found in {worlds} worlds"
        );
    }
}
