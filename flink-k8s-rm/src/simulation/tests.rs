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

/// The first world that finds each planted fault. Where worlds have changed meanwhile, one of the next has to.
const FOUND_BY: &[(Plant, u64)] = &[
    (Plant::DropsPodGone, 8),
    (Plant::DropsFailedCreate, 0),
    (Plant::RenamesAfterLostAnswer, 0),
    (Plant::IgnoresUid, 2002),
    (Plant::ForgetsBackOff, 1),
    (Plant::ExceedsCallLimit, 0),
    (Plant::ExceedsMaxWorkers, 7),
    (Plant::KeepsUnlistedPods, 0),
    (Plant::TakesPagesForLists, 0),
    (Plant::ForgetsReleases, 0),
    (Plant::HidesFailures, 8),
    (Plant::LosesTimers, 80),
    (Plant::TakesTimeoutForRefusal, 25),
    (Plant::StartsEmpty, 1),
    (Plant::TakesForeignPods, 3),
    (Plant::BelievesSidecars, 2),
    (Plant::NeverLooksAtDemand, 108),
    (Plant::ForgetsFence, 14),
    (Plant::TrustsLateRenewals, 121),
    (Plant::KeepsEarlierPlans, 61),
    (Plant::ReleasesUnfrozen, 895),
    (Plant::PlansOnOldFacts, 12),
    (Plant::CountsFinishedSubtasks, 39),
    (Plant::AssignsWithoutMark, 0),
    (Plant::OverwritesMarks, 42_672),
    (Plant::ForgetsSpares, 72),
    (Plant::ExceedsMaxReplacements, 0),
    (Plant::IgnoresFarewell, 5),
];
const WORLDS_AFTER_IT: u64 = 40;

#[test]
fn every_fault_that_can_be_planted_is_looked_for() {
    let looked_for: Vec<Plant> = FOUND_BY.iter().map(|(plant, _)| *plant).collect();
    assert_eq!(looked_for, Plant::ALL);
}

#[test]
fn planted_faults_are_found() {
    for (plant, first) in FOUND_BY {
        let settings = Settings {
            plant: Some(*plant),
            ..Settings::default()
        };
        let report = Campaign::new(*first..first + WORLDS_AFTER_IT, settings).run(2);
        assert!(
            report.failure.is_some(),
            "{plant} was not found from world {first} on"
        );
    }
}

#[test]
fn worlds_that_once_went_wrong_end_well() {
    for seed in [
        1, 284, 440, 685, 701, 1197, 1198, 1342, 1546, 3013, 3649, 6934, 9195, 21_354, 35_229, 42_672, 63_366,
    ] {
        let outcome = simulate(seed, Settings::default());
        assert_eq!(outcome.violation, None, "seed {seed}");
    }
}
