//! A job outlives its submitter: keepers go on with it, anybody whom the author permits reads its results, and the author judges what
//! was collected when it is back.

use crate::{
    grid::{Grid, until},
    modules::slow_echo,
};

const UNITS: u32 = 2000;
const PEERS: usize = 6;

struct Kept {
    grid: Grid,
    job: String,
    ticket: String,
    /// The nodes that keep it.
    keepers: Vec<usize>,
}

fn expected() -> String {
    (0..UNITS).map(|unit| format!("{unit}\n")).collect()
}

/// Peers of one owner with little patience, and a job of the first of them that two others keep.
fn kept() -> Kept {
    let mut grid = Grid::new();
    for _ in 0..=PEERS {
        grid.add_with_arguments(1, &["--keeper-silence", "4s"]);
    }
    grid.join_own_devices();
    let module = grid.file("slow.wasm", slow_echo(3_000_000));
    let range = format!("0..{UNITS}");
    let job = grid.submit(0, &[&module, "--range", &range, "--per-unit", "1", "--", "{index}"]);
    let names = until("two peers keep the job", || {
        let names: Vec<String> = grid.job(0, &job).keepers.into_iter().filter(|keeper| keeper.holds).map(|keeper| keeper.peer).collect();
        (names.len() == 2).then_some(names)
    });
    let name = |at| grid.ask(at, async |mut client| client.status().await.unwrap().peer);
    let keepers = (1..=PEERS).filter(|at| names.contains(&name(*at))).collect();
    let ticket = grid.run(0, &["invite", "--read", &job]).ok().trim().to_owned();
    Kept { grid, job, ticket, keepers }
}

impl Kept {
    /// Kills the submitter when a share of the job is done.
    fn kill_the_submitter(&mut self) {
        until("a fifth of the job is verified", || (self.grid.job(0, &self.job).verified >= UNITS / 5).then_some(()));
        self.grid.kill(0);
        let left = |at| UNITS - self.grid.job(at, &self.job).verified;
        assert!(self.keepers.iter().all(|at| left(*at) > 0), "the job ended too soon for this test");
    }

    /// The keeper at which the job ends.
    fn ends_at(&self, keepers: &[usize]) -> usize {
        until("a keeper completes the job", || {
            keepers.iter().copied().find(|at| self.grid.job(*at, &self.job).state() == manyhands::wire::control::JobState::Done)
        })
    }

    fn stranger(&self) -> usize {
        (1..=PEERS).find(|at| !self.keepers.contains(at)).expect("there are more peers than keepers")
    }

    fn results_by_ticket(&self, at: usize) -> String {
        self.grid.run(at, &["results", "--ticket", &self.ticket]).ok()
    }
}

#[test]
fn a_job_outlives_its_submitter_who_judges_it_when_it_is_back() {
    let mut kept = kept();
    kept.kill_the_submitter();
    let keeper = kept.ends_at(&kept.keepers);
    let (grid, job) = (&kept.grid, &kept.job);
    let seen = grid.job(keeper, job);
    assert_eq!((seen.own, seen.kept.as_str(), seen.verified), (false, "adopted", UNITS));
    let results = grid.run(keeper, &["results", job]);
    assert!(results.err.contains("not yet judged by its owner"), "{}", results.err);
    assert_eq!(results.ok(), expected());
    assert_eq!(kept.results_by_ticket(kept.stranger()), expected());
    assert_eq!(grid.run(keeper, &["cancel", job]).code, Some(5), "it is not its keeper's to cancel");
    // Its disk is as it was when it was killed.
    kept.grid.start(0);
    let ended = kept.grid.wait(0, &kept.job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(UNITS.into())), "{ended:#}");
    assert_eq!(kept.grid.run(0, &["results", &kept.job]).ok(), expected());
    let (own, there) = (kept.grid.units(0, &kept.job), seen.executions);
    assert!(own.iter().all(|unit| !unit.votes.is_empty()), "each unit was judged here by votes");
    assert!(there > 0);
}

#[test]
fn a_job_outlives_its_submitter_and_a_keeper_and_is_read_by_a_newcomer() {
    let mut kept = kept();
    kept.kill_the_submitter();
    let first = until("a keeper has gone on with half of the job", || {
        let at = kept.keepers.iter().copied().find(|at| kept.grid.job(*at, &kept.job).kept == "adopted")?;
        (kept.grid.job(at, &kept.job).verified >= UNITS / 2).then_some(at)
    });
    kept.grid.kill(first);
    let other: Vec<usize> = kept.keepers.iter().copied().filter(|at| *at != first).collect();
    let keeper = kept.ends_at(&other);
    assert_eq!(kept.grid.run(keeper, &["results", &kept.job]).ok(), expected());
    // The author's computer is lost; it reads with another.
    let invitation = kept.grid.run(kept.stranger(), &["invite"]).ok();
    let newcomer = kept.grid.add(0);
    let _ = kept.grid.run(newcomer, &["join", invitation.trim()]).ok();
    kept.grid.wait_for_peers(newcomer, 1);
    assert_eq!(kept.results_by_ticket(newcomer), expected());
    let watched = kept.grid.run(newcomer, &["watch", "--ticket", &kept.ticket, "-o", "json"]);
    assert!(watched.out.contains("\"state\":\"done\""), "{watched:#?}");
    let other_job = kept.ticket.replace('a', "b");
    assert_eq!(kept.grid.run(newcomer, &["results", "--ticket", &other_job]).code, Some(2), "a ticket that was changed");
}

/// One of two keepers lies in all that it computes from the moment that the submitter is gone, and shows that to whoever asks it.
#[cfg(feature = "fault-injection")]
#[test]
fn what_a_keeper_that_is_a_liar_collects_is_judged_by_the_author() {
    let mut kept = kept();
    kept.kill_the_submitter();
    let (liar, honest) = (kept.keepers[0], kept.keepers[1]);
    let liars_key = kept.grid.run(liar, &["status", "-o", "id"]).ok().trim().to_owned();
    // Both begin at about the same time, else one ends the job before the other has computed anything.
    kept.grid.kill(honest);
    kept.grid.kill(liar);
    kept.grid.spawn(liar, &[("MANYHANDS_FAULT", "corrupt")]);
    kept.grid.wait_until_up(liar);
    kept.grid.start(honest);
    let _ = kept.ends_at(&[honest]);
    assert_eq!(kept.grid.run(honest, &["results", &kept.job]).ok(), expected(), "what the honest keeper computed itself stands there");
    until("the liar shows a wrong result", || {
        kept.grid.run(liar, &["results", &kept.job, "--partial"]).out.contains("a wrong result").then_some(())
    });
    kept.grid.start(0);
    let ended = kept.grid.wait(0, &kept.job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(UNITS.into())), "{ended:#}");
    assert_eq!(kept.grid.run(0, &["results", &kept.job]).ok(), expected());
    until("the author knows who lied", || crate::liar::is_found_out_at(&kept.grid, 0, &liars_key).then_some(()));
}

#[test]
fn what_is_kept_of_a_job_that_ended_long_ago_goes_when_another_comes() {
    let mut grid = Grid::new();
    for _ in 0..2 {
        grid.add_with_arguments(1, &["--keeper-silence", "4s"]);
    }
    grid.join_own_devices();
    let module = grid.file("slow.wasm", slow_echo(1000));
    let submit = |grid: &Grid, range: &str| grid.submit(0, &[&module, "--keep", "1", "--range", range, "--per-unit", "1", "--", "{index}"]);
    let holds = |grid: &Grid, job: &str| grid.job(0, job).keepers.iter().any(|keeper| keeper.holds);
    let is_kept = |grid: &Grid, job: &str| grid.run(1, &["jobs", "-o", "id"]).ok().contains(job);
    let old = submit(&grid, "0..20");
    let _ = grid.wait(0, &old);
    until("the job is kept", || (holds(&grid, &old) && is_kept(&grid, &old)).then_some(()));
    until("its keeper knows that it has ended", || (grid.job(1, &old).state() == manyhands::wire::control::JobState::Done).then_some(()));
    grid.kill(1);
    let database = rusqlite::Connection::open(grid.directory().join("node-1").join("facts.sqlite")).unwrap();
    assert_eq!(database.execute("UPDATE job SET ended_unix = 5 WHERE role = 1 AND ended_unix IS NOT NULL", []).unwrap(), 1);
    drop(database);
    grid.start(1);
    assert!(is_kept(&grid, &old), "as long as nothing else comes");
    let new = submit(&grid, "0..30");
    until("the new job is kept instead", || (is_kept(&grid, &new) && !is_kept(&grid, &old)).then_some(()));
    until("the author knows", || (!holds(&grid, &old)).then_some(()));
    assert_eq!(grid.run(0, &["results", &old]).ok(), (0..20).map(|unit| format!("{unit}\n")).collect::<String>());
}
