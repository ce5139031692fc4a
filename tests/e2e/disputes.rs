//! Two proven workers disagree about a long stepped unit: the owner runs one segment of it and not the unit.

use crate::{grid::Grid, modules::bundled};

/// Some seconds of work, and some hundred links.
const GENERATIONS: &str = "60000";

#[test]
fn a_dispute_about_a_long_unit_costs_the_owner_one_segment() {
    let mut grid = Grid::new();
    grid.add(1);
    let honest = grid.add(1);
    let liar = grid.add_with(1, &[("MANYHANDS_FAULT", "corrupt")]);
    let ticket = grid.run(0, &["invite", "--own", "--uses", "2"]).ok();
    for at in [honest, liar] {
        let _ = grid.run(at, &["join", ticket.trim()]).ok();
    }
    grid.wait_for_peers(0, 2);
    let key = |at: usize| grid.run(at, &["status", "-o", "id"]).ok().trim().to_owned();
    let (owner, liars_key) = (key(0), key(liar));
    // Its slots run nothing, so whatever it does is the check.
    let _ = grid.run(0, &["pause"]).ok();
    let job = grid.submit(0, &[&bundled("life.wasm"), "--range", "5..6", "--per-unit", "1", "--", "{index}", GENERATIONS]);
    let ended = grid.wait(0, &job);
    assert_eq!((ended["state"].as_str(), ended["verified"].as_u64()), (Some("done"), Some(1)), "{ended:#}");
    let result = grid.run(0, &["results", &job]).ok();
    assert!(result.starts_with(&format!("0 {GENERATIONS} ")) && !result.contains("wrong"), "{result}");
    let units = grid.units(0, &job);
    let votes = &units[0].votes;
    assert_eq!(votes.len(), 2, "{units:#?}");
    assert!(votes.iter().all(|vote| vote.peer != owner && vote.struck == (vote.peer == liars_key)), "{units:#?}");
    let contributors = ended["contributors"].as_array().unwrap();
    assert!(contributors.iter().all(|one| one["convicted"] == (one["peer"] == *liars_key)), "{ended:#}");
    assert_eq!(grid.log(0).matches("one segment of a unit in dispute is run here").count(), 1);
    // One vote and one segment prove nothing to a third party: the unit is run here before it is exported.
    let bundle = grid.directory().join("proof.mhb").into_os_string().into_string().unwrap();
    let _ = grid.run(0, &["verify", &job, "--sample", "0", "--export", &bundle]).ok();
    let proof = grid.run(0, &["-o", "json", "verify", "--bundle", &bundle]).json();
    assert_eq!((proof["sound"].as_bool(), proof["checked_by_owner"].as_u64()), (Some(true), Some(1)), "{proof:#}");
}
