//! What holds of every plan, whatever the facts.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

/// Workers with the jobs that hold their slots, and what the jobs want; demand may lag behind what is held.
fn facts() -> impl Strategy<Value = Facts> {
    let worker = (any::<bool>(), vec(1_u8..4, 0..3));
    let job = (
        1_u8..4,
        prop_oneof![8 => (0_u32..9).prop_map(SlotDemand::Wanted), 1 => Just(SlotDemand::BetweenAttempts)],
        vec(1_u32..9, 0..2),
    );
    (vec(worker, 0..9), vec(job, 0..4)).prop_map(|(workers, jobs)| {
        let mut facts = Facts::default();
        for (index, (is_registered, held_by)) in (1..).zip(workers) {
            facts.workers.insert(name(index));
            if is_registered {
                facts.task_managers.push(listed(name(index).as_str(), &held_by));
            }
        }
        let mut jobs: Vec<JobFacts> = jobs
            .into_iter()
            .map(|(number, demand, keeps)| JobFacts {
                keeps: keeps.into_iter().map(|index| name(index).to_string()).collect(),
                ..JobFacts::new(job_id(number), demand)
            })
            .collect();
        jobs.dedup_by_key(|job| job.id);
        facts.jobs = jobs;
        facts
    })
}

fn policy() -> impl Strategy<Value = PlannerPolicy> {
    (0_u32..6, 0_u32..12, 0_u32..3).prop_map(|(fewest, most, redundant_workers)| PlannerPolicy {
        bounds: WorkerBounds {
            fewest: fewest.min(most),
            most,
        },
        redundant_workers,
        idle_timeout: SECOND * 2,
        ..PlannerPolicy::new(2)
    })
}

proptest! {
    #[test]
    fn plans_keep_the_rules(policy in policy(), rounds in vec((facts(), 0_u32..4), 1..6)) {
        let mut planner = SlotPlanner::new(policy.clone());
        let mut now = Moment::START;
        for (mut facts, pause) in rounds {
            now = now + SECOND * pause;
            let plan = planner.plan(&facts, now);
            let before = saturated(facts.workers.len());
            let started = saturated(plan.starts.len());
            prop_assert!(started == 0 || before + started <= policy.bounds.most, "above the maximum");
            prop_assert!(plan.starts.is_empty() || plan.releases.is_empty(), "starts and releases at once");

            let summary = plan.summary;
            let coming = summary.free + summary.starting + 2 * started;
            prop_assert!(
                coming >= summary.pending || before + started >= policy.bounds.most,
                "demand is not met although the bounds allow it"
            );

            let mut free = summary.free;
            for release in &plan.releases {
                let known = facts.task_manager(&release.worker).unwrap();
                prop_assert!(known.is_idle(), "a busy worker is released");
                prop_assert!(release.idle_for >= policy.idle_timeout);
                let is_kept = facts.jobs.iter().any(|job| job.keeps.contains(known.id.as_str()));
                prop_assert!(!is_kept, "a worker with data is released");
                free -= known.slots;
            }
            prop_assert!(plan.releases.is_empty() || free >= summary.pending, "released what is wanted");
            let left = before - saturated(plan.releases.len());
            prop_assert!(plan.releases.is_empty() || left >= policy.bounds.fewest, "below the minimum");

            // The plan is carried out; the same facts give no further starts.
            facts.workers.extend((100..100 + started).map(name));
            prop_assert!(planner.plan(&facts, now).starts.is_empty(), "started twice");
        }
    }
}
