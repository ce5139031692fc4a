//! `simulate` as a user meets it.

use super::*;

fn scenario(text: &str) -> Result<Campaign, String> {
    let file: ScenarioFile = toml::from_str(text).map_err(|error| error.to_string())?;
    file.campaign().map_err(|failure| format!("{} {}", failure.message, failure.cause))
}

#[test]
fn a_scenario_is_filled_in() {
    let campaign = scenario("peers = 10_000\nunits = '500_000'\nunit_time = '20s'\n[churn]\npresent = '1h'\nabsent = '20m'").unwrap();
    assert_eq!((campaign.population.peers, campaign.population.submitters, campaign.jobs, campaign.units), (10_000, 4, 4, 500_000));
    assert_eq!(campaign.job.gas, 20_000_000_000);
    assert!((campaign.population.availability() - 0.75).abs() < 1e-9);
    assert_eq!(scenario("").unwrap().population.peers, 1000);
}

#[test]
fn what_makes_no_scenario_is_refused_by_name() {
    for (text, said) in [
        ("peeers = 3", "unknown field `peeers`"),
        ("[network]\nloss = 0.1", "unknown field `loss`"),
        ("peers = 0", "peers is 0; from 1 to 100000"),
        ("peers = 3\nsubmitters = 4", "submitters is 4; from 1 to 3"),
        ("units = 10_000_001", "units is 10000001"),
        ("[attack]\nwizards = 0.1", "there is no attack `wizards` known are liars"),
        ("[attack]\ncolluders = 1.5", "colluders is 1.5; from 0 to 1 are"),
        ("[churn]\npresent = '1h'", "churn needs both"),
        ("[network]\ndelay = ['2s', '1s']", "delay is [least, most]"),
        ("[network]\nlost = -0.1", "lost is -0.1"),
        ("unit_time = '0s'", "unit_time is zero"),
        ("unit_time = '5 parsecs'", "is not a duration"),
    ] {
        let refused = scenario(text).unwrap_err();
        assert!(refused.contains(said), "{text}: {refused}");
    }
}

#[test]
fn the_scenarios_that_come_with_the_program_hold() {
    let directory = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    let scenarios: Vec<_> = files.filter(|path| path.extension().is_some_and(|extension| extension == "toml")).collect();
    assert!(scenarios.len() >= 5);
    for path in scenarios {
        let file = ScenarioFile::read(&path).unwrap_or_else(|failure| panic!("{}", failure.for_people(false)));
        assert!(file.about.as_ref().is_some_and(|about| !about.is_empty()), "{}", path.display());
        file.campaign().unwrap_or_else(|failure| panic!("{}: {}", path.display(), failure.for_people(false)));
    }
}

#[test]
fn the_keys_of_a_scenario_are_documented() {
    let readme = include_str!("../../scenarios/README.md");
    let keys = "about peers units submitters jobs policy attack unit_time limit slots speed_spread delay distance distance_spread lost \
                break_every split_every split_for noticed_after arrive_within present absent crash_every down_for";
    keys.split_whitespace().for_each(|key| assert!(readme.contains(&format!("`{key}`")), "{key}"));
    attacks::ALL.iter().for_each(|known| assert!(readme.contains(&format!("`{}`", known.name)), "{}", known.name));
}

#[test]
fn an_attack_is_a_name_and_an_amount() {
    assert_eq!("colluders=0.1".parse(), Ok(Attacked { name: "colluders".into(), amount: 0.1 }));
    for (text, said) in
        [("colluders", "NAME=AMOUNT"), ("colluders=x", "not a number"), ("nobody=1", "no attack"), ("liars=2", "from 0 to 1")]
    {
        let refused = text.parse::<Attacked>().unwrap_err();
        assert!(refused.contains(said), "{refused}");
    }
}
