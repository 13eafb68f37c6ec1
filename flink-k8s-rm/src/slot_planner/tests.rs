use std::time::Duration;

use super::*;

mod properties;

const SECOND: Duration = Duration::from_secs(1);

fn job_id(number: u8) -> JobId {
    JobId::from_bytes([number; 16])
}

fn name(index: u32) -> PodName {
    format!("orders-taskmanager-1-{index}").parse().unwrap()
}

fn wants(number: u8, slots: u32) -> JobFacts {
    JobFacts::new(job_id(number), SlotDemand::Wanted(slots))
}

/// A TaskManager of two slots, of which these jobs hold one each.
fn listed(id: &str, held_by: &[u8]) -> TaskManagerFacts {
    let mut held = BTreeMap::new();
    for number in held_by {
        *held.entry(job_id(*number)).or_insert(0) += 1;
    }
    TaskManagerFacts {
        id: id.to_owned(),
        slots: 2,
        free: 2 - saturated(held_by.len()),
        held,
    }
}

/// Our workers of these numbers, registered, with what their slots are held by.
fn running(workers: &[(u32, &[u8])], jobs: Vec<JobFacts>) -> Facts {
    Facts {
        jobs,
        task_managers: workers
            .iter()
            .map(|(index, held_by)| listed(name(*index).as_str(), held_by))
            .collect(),
        workers: workers.iter().map(|(index, _)| name(*index)).collect(),
        gone: BTreeSet::new(),
    }
}

fn planner(change: impl FnOnce(&mut PlannerPolicy)) -> SlotPlanner {
    let mut policy = PlannerPolicy::new(2);
    change(&mut policy);
    SlotPlanner::new(policy)
}

fn after(seconds: u32) -> Moment {
    Moment::START + SECOND * seconds
}

fn released(plan: &Plan) -> Vec<&str> {
    plan.releases
        .iter()
        .map(|release| release.worker.as_str())
        .collect()
}

#[test]
fn missing_slots_become_workers_and_those_that_start_are_not_started_again() {
    let mut planner = planner(|_| {});
    let mut facts = running(&[], vec![wants(1, 3), wants(2, 2)]);
    let plan = planner.plan(&facts, after(0));
    assert_eq!(plan.starts.len(), 3);
    assert_eq!(
        plan.starts[0].to_string(),
        "jobs wait for 5 slots; 0 are free or being started"
    );
    facts.workers.extend([name(1), name(2), name(3)]);
    assert!(planner.plan(&facts, after(1)).starts.is_empty());
    // One of them comes.
    facts.task_managers.push(listed(name(1).as_str(), &[1, 1]));
    let plan = planner.plan(&facts, after(2));
    assert!(plan.starts.is_empty());
    assert_eq!((plan.summary.pending, plan.summary.starting), (3, 4));
}

#[test]
fn free_slots_are_used_before_workers_are_started() {
    let mut planner = planner(|_| {});
    let facts = running(&[(1, &[1])], vec![wants(1, 2)]);
    assert!(planner.plan(&facts, after(0)).starts.is_empty());
    let facts = running(&[(1, &[1, 1])], vec![wants(1, 3)]);
    assert_eq!(planner.plan(&facts, after(1)).starts.len(), 1);
}

#[test]
fn a_demand_that_is_met_needs_nobody_to_say_who_holds_what() {
    let mut planner = planner(|_| {});
    let met = JobFacts::new(job_id(1), SlotDemand::Met(2));
    let mut facts = running(&[(1, &[])], vec![met]);
    facts.task_managers[0].free = 0;
    let plan = planner.plan(&facts, after(0));
    assert!(plan.starts.is_empty());
    assert_eq!((plan.summary.wanted, plan.summary.pending), (2, 0));
}

#[test]
fn the_slots_of_a_dead_task_manager_do_not_count_although_it_is_listed_as_free() {
    let mut planner = planner(|_| {});
    let mut facts = running(&[(1, &[])], vec![wants(1, 2)]);
    facts.workers.clear();
    facts.gone.insert(name(1));
    assert_eq!(planner.plan(&facts, after(0)).starts.len(), 1);
}

#[test]
fn a_task_manager_whose_slots_are_not_known_yet_is_still_expected() {
    let mut planner = planner(|_| {});
    planner.plan(&Facts::default(), after(0));
    let mut facts = running(&[(1, &[])], vec![wants(1, 2)]);
    facts.task_managers[0].slots = 0;
    facts.task_managers[0].free = 0;
    let plan = planner.plan(&facts, after(1));
    assert!(plan.starts.is_empty() && plan.summary.starting == 2, "{plan:?}");
}

#[test]
fn idle_workers_go_after_their_timeout_and_busy_ones_never() {
    let mut planner = planner(|policy| policy.idle_timeout = SECOND * 30);
    let facts = running(&[(1, &[]), (2, &[1])], vec![wants(1, 1)]);
    let plan = planner.plan(&facts, after(0));
    assert!(plan.releases.is_empty());
    assert_eq!(plan.wake_at, Some(after(30)));
    let plan = planner.plan(&facts, after(30));
    assert_eq!(released(&plan), ["orders-taskmanager-1-1"]);
    assert_eq!(plan.releases[0].to_string(), "idle for 30s and not needed");
}

#[test]
fn a_worker_that_was_busy_in_between_is_idle_anew() {
    let mut planner = planner(|policy| policy.idle_timeout = SECOND * 30);
    planner.plan(&running(&[(1, &[])], vec![]), after(0));
    planner.plan(&running(&[(1, &[1])], vec![wants(1, 1)]), after(20));
    planner.plan(&running(&[(1, &[])], vec![]), after(25));
    let plan = planner.plan(&running(&[(1, &[])], vec![]), after(40));
    assert!(plan.releases.is_empty());
}

#[test]
fn workers_with_data_of_a_live_batch_job_are_kept() {
    let mut planner = planner(|policy| policy.idle_timeout = SECOND);
    let mut job = wants(1, 1);
    job.keeps.insert(name(1).to_string());
    let facts = running(&[(1, &[]), (2, &[1])], vec![job]);
    planner.plan(&facts, after(0));
    assert!(planner.plan(&facts, after(100)).releases.is_empty());
}

#[test]
fn the_dip_of_a_restarting_job_releases_nothing_and_starts_nothing() {
    let mut planner = planner(|policy| policy.idle_timeout = SECOND);
    planner.plan(&running(&[(1, &[1, 1]), (2, &[])], vec![wants(1, 2)]), after(0));
    let between = JobFacts::new(job_id(1), SlotDemand::BetweenAttempts);
    let facts = running(&[(1, &[]), (2, &[])], vec![between]);
    planner.plan(&facts, after(1));
    let plan = planner.plan(&facts, after(100));
    assert!(plan.starts.is_empty());
    // Two slots are kept for it; the other worker is superfluous.
    assert_eq!(plan.releases.len(), 1);
    let unknown = JobFacts::new(job_id(2), SlotDemand::BetweenAttempts);
    let plan = planner.plan(&running(&[(1, &[]), (2, &[])], vec![unknown]), after(200));
    assert!(plan.releases.is_empty());
}

#[test]
fn no_demand_exceeds_the_bounds_and_what_stays_unmet_is_told() {
    let mut planner = planner(|policy| policy.bounds.most = 2);
    let plan = planner.plan(&running(&[], vec![wants(1, 128)]), after(0));
    assert_eq!(plan.starts.len(), 2);
    assert_eq!(plan.summary.unmet, 124);
}

#[test]
fn a_minimum_and_a_reserve_are_kept_without_any_job() {
    let mut planner = planner(|policy| {
        policy.bounds.fewest = 3;
        policy.redundant_workers = 1;
        policy.idle_timeout = SECOND;
    });
    let plan = planner.plan(&Facts::default(), after(0));
    assert_eq!(plan.starts.len(), 3);
    assert_eq!(plan.starts[0], StartReason::Redundancy);
    assert_eq!(
        plan.starts[2].to_string(),
        "there are to be at least 3 TaskManagers"
    );
    let facts = running(&[(1, &[]), (2, &[]), (3, &[]), (4, &[])], vec![]);
    planner.plan(&facts, after(1));
    assert_eq!(planner.plan(&facts, after(10)).releases.len(), 1);
    // A job takes the reserve, so another one is started.
    let facts = running(&[(1, &[1, 1]), (2, &[1, 1]), (3, &[1, 1])], vec![wants(1, 6)]);
    assert_eq!(planner.plan(&facts, after(11)).starts, [StartReason::Redundancy]);
}

#[test]
fn a_worker_that_does_not_register_is_given_up_and_replaced() {
    let mut planner = planner(|policy| policy.registration_timeout = SECOND * 300);
    planner.plan(&Facts::default(), after(0));
    let mut facts = running(&[], vec![wants(1, 2)]);
    facts.workers.insert(name(1));
    assert!(planner.plan(&facts, after(1)).give_ups.is_empty());
    let plan = planner.plan(&facts, after(301));
    assert_eq!(plan.give_ups, [name(1)]);
    assert_eq!(plan.starts.len(), 1);
}

#[test]
fn recovered_workers_are_waited_for_before_others_are_started() {
    let mut planner = planner(|policy| policy.recovery_timeout = SECOND * 60);
    let mut facts = running(&[], vec![wants(1, 2)]);
    facts.workers.insert(name(1));
    let plan = planner.plan(&facts, after(0));
    assert!(plan.starts.is_empty());
    assert_eq!(plan.wake_at, Some(after(60)));
    let plan = planner.plan(&facts, after(60));
    assert_eq!(plan.starts.len(), 1);
    assert!(plan.give_ups.is_empty(), "it may come yet");
}

#[test]
fn workers_that_a_restarted_job_manager_does_not_list_yet_are_waited_for() {
    let mut planner = planner(|policy| policy.recovery_timeout = SECOND * 60);
    planner.plan(&running(&[(1, &[1, 1])], vec![wants(1, 2)]), after(0));
    let mut facts = running(&[], vec![wants(1, 2)]);
    facts.workers.insert(name(1));
    assert!(planner.plan(&facts, after(100)).starts.is_empty());
    assert_eq!(planner.plan(&facts, after(160)).starts.len(), 1);
}

#[test]
fn task_managers_of_others_are_used_and_counted_but_never_released() {
    let mut planner = planner(|policy| {
        policy.bounds.most = 2;
        policy.idle_timeout = SECOND;
    });
    let mut facts = running(&[], vec![wants(1, 8)]);
    facts.task_managers.push(listed("host-17:6122-af03", &[]));
    let plan = planner.plan(&facts, after(0));
    assert_eq!(
        plan.starts.len(),
        1,
        "two free slots are there, and one worker more is allowed"
    );
    facts.jobs.clear();
    assert!(planner.plan(&facts, after(100)).releases.is_empty());
}
