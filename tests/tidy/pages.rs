//! What the pages for people say is what there is: README, CHANGELOG, ARCHITECTURE and TRUST.

use crate::{none, read, root, tree};
use std::collections::{BTreeMap, BTreeSet};

/// The subcommands, as `src/cli/mod.rs` has them.
fn subcommands() -> BTreeSet<String> {
    let text = read("src/cli/mod.rs");
    let (_, list) = text.split_once("enum Command {").expect("the commands are an enum");
    let (list, _) = list.split_once('}').expect("it ends");
    let names: BTreeSet<String> =
        list.lines().filter_map(|line| line.trim().split_once('(')).map(|(name, _)| name.to_lowercase()).collect();
    assert!(names.contains("submit"), "the list of commands is not understood: {names:?}");
    names
}

#[test]
fn the_readme_knows_each_command_and_no_other() {
    let (readme, commands) = (read("README.md"), subcommands());
    let mut breaches = Vec::new();
    for command in &commands {
        if !readme.contains(&format!("manyhands {command}")) {
            breaches.push(format!("`manyhands {command}` is not mentioned"));
        }
    }
    let cli: String = tree().into_iter().filter(|source| source.module() == Some("cli")).map(|source| source.text).collect();
    let mut is_fenced = false;
    for (at, line) in readme.lines().enumerate() {
        is_fenced ^= line.starts_with("```");
        let calls = line.split('`').skip(1).step_by(2).chain(is_fenced.then_some(line)).filter_map(|code| code.strip_prefix("manyhands "));
        for call in calls {
            let (command, rest) = call.split_once(' ').unwrap_or((call, ""));
            if !commands.contains(command) {
                breaches.push(format!("README.md:{}: there is no command `manyhands {command}`", at + 1));
            }
            // What follows a bare -- is for the unit.
            for flag in rest.split_whitespace().take_while(|word| *word != "--").filter_map(|word| word.strip_prefix("--")) {
                if !cli.contains(&format!(" {}:", flag.replace('-', "_"))) && !cli.contains(&format!("long = \"{flag}\"")) {
                    breaches.push(format!("README.md:{}: no command has the flag --{flag}", at + 1));
                }
            }
        }
    }
    none("README.md and the command line differ", breaches);
}

#[test]
fn the_readme_has_the_exit_codes() {
    let (readme, source) = (read("README.md"), read("src/cli/exit.rs"));
    let (mut codes, mut meanings) = (BTreeMap::new(), BTreeMap::new());
    for line in source.lines().filter_map(|line| line.trim().strip_prefix("Self::")) {
        let Some((name, value)) = line.split_once(" => ") else { continue };
        let value = value.trim_end_matches(',');
        if let Ok(code) = value.parse::<u8>() {
            codes.insert(name, code);
        } else if let Some(text) = value.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
            meanings.insert(name, text);
        }
    }
    assert!(codes.len() > 5 && codes.len() == meanings.len(), "the exit codes are not understood: {codes:?} {meanings:?}");
    let rows = codes.iter().map(|(name, code)| format!("| {code} | {} |", meanings[name]));
    none("rows missing in the README's table of exit codes", rows.filter(|row| !readme.contains(row)));
}

#[test]
fn the_changelog_knows_this_version() {
    let (changelog, version) = (read("CHANGELOG.md"), env!("CARGO_PKG_VERSION"));
    assert!(changelog.lines().any(|line| line.starts_with("## ") && line.contains(version)), "CHANGELOG.md: no heading for {version}");
}

#[test]
fn the_pages_about_the_code_name_files_that_exist() {
    let page = read("src/ARCHITECTURE.md") + &read("src/TRUST.md");
    let mut missing = BTreeSet::new();
    for quoted in page.split('`').skip(1).step_by(2) {
        let is_path = quoted.contains('/') && quoted.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
        let looks_like_file = [".rs", ".proto", ".toml", "/"].iter().any(|end| quoted.ends_with(end));
        if is_path && looks_like_file && !root().join("src").join(quoted).exists() && !root().join(quoted).exists() {
            missing.insert(quoted);
        }
    }
    none("src/ARCHITECTURE.md or src/TRUST.md names what is not there", missing);
}

#[test]
fn the_cases_of_the_trust_page_are_where_it_says() {
    let page = read("src/TRUST.md");
    let rows: Vec<Vec<&str>> = page.lines().map(|line| line.split('|').map(str::trim).collect()).collect();
    let cases = rows.iter().filter_map(|row| Some((row.get(1)?.parse::<u32>().ok()?, *row.get(3)?)));
    let mut missing = Vec::new();
    for (at, (number, files)) in cases.enumerate() {
        assert_eq!(number as usize, at + 1, "the cases are not numbered in order");
        // Two are older than the list, and have names of their own.
        let name = match number {
            6 => "fn proven_against_proven_is_decided".to_owned(),
            24 => "fn neither_order_nor_repetition_matters".to_owned(),
            number => format!("fn case_{number}_"),
        };
        let found = files.split('`').skip(1).step_by(2).any(|file| read(&format!("src/{file}")).contains(&name));
        if !found {
            missing.push(format!("case {number}: no `{name}` in {files}"));
        }
    }
    assert_eq!(rows.iter().filter(|row| row.get(1).is_some_and(|number| number.parse::<u32>().is_ok())).count(), 24);
    none("src/TRUST.md names cases that are not there", missing);
}
