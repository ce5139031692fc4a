//! What the compiler does not check: the direction of imports, sizes, names, leftovers, and that the documents say what the
//! program does. Reads the source tree; needs nothing of the crate, so `cargo test --no-default-features --test tidy` is quick.
//!
//! Each test collects every breach before it fails, one per line: what, where.

mod pages;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

/// Who may import what, beside itself. The one place where it is written down; `src/ARCHITECTURE.md` gives the reasons.
const IMPORTS: [(&str, &[&str]); 8] = [
    ("protocol", &[]),
    ("sim", &["protocol"]),
    ("sandbox", &["protocol"]),
    ("wire", &["protocol"]),
    ("store", &["protocol", "wire"]),
    ("node", &["protocol", "wire", "sandbox", "store"]),
    ("control", &["protocol", "wire", "sandbox", "store", "node"]),
    ("cli", &["protocol", "sim", "wire", "sandbox", "store", "node", "control"]),
];

/// What makes a machine's behaviour depend on anything but its events. Clippy knows names (`clippy.toml`); this knows words.
const IMPURE: [&str; 13] = [
    "std::time",
    "std::thread",
    "std::net",
    "std::fs",
    "std::io",
    "std::env",
    "std::process",
    "SystemTime",
    "HashMap",
    "HashSet",
    "getrandom",
    "tokio",
    "thread_rng",
];

/// Longest file in lines, and longest line in characters.
const FILE_LINES_MAX: usize = 500;
const LINE_CHARS_MAX: usize = 140;

/// Names that say nothing.
const EMPTY_NAMES: [&str; 8] = ["util", "utils", "common", "helper", "helpers", "manager", "misc", "processor"];

/// Whom documents, manifests and comments may point to. A package's mirror or a host of somebody's own is none of them.
const HOSTS: [&str; 12] = [
    "github.com",
    "docs.rs",
    "crates.io",
    "doc.rust-lang.org",
    "rustup.rs",
    "keepachangelog.com",
    "semver.org",
    "www.apache.org",
    "asc.di.fct.unl.pt",
    "example.org",
    "127.0.0.1",
    "peer",
];

/// A text file of the tree.
struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
    /// It holds nothing but tests.
    is_test: bool,
}

impl Source {
    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Within the crate, tests within it included.
    fn is_of_crate(&self) -> bool {
        self.is_rust() && self.path.starts_with("src/")
    }

    /// The files that it includes as `#[cfg(test)] mod x;`, from the root.
    fn test_files(&self) -> Vec<String> {
        let (folder, name) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let stem = name.trim_end_matches(".rs");
        let below = if matches!(stem, "mod" | "lib" | "main") { folder.to_owned() } else { format!("{folder}/{stem}") };
        let (mut found, mut is_of_tests, mut beside) = (Vec::new(), false, None);
        for line in self.text.lines().map(str::trim) {
            if line == "#[cfg(test)]" {
                is_of_tests = true;
            } else if let Some(path) = line.strip_prefix("#[path = \"") {
                beside = path.strip_suffix("\"]").map(|name| format!("{folder}/{name}"));
            } else if !line.starts_with("#[") {
                if let (true, Some((_, name))) = (is_of_tests, line.strip_suffix(';').and_then(|line| line.split_once("mod "))) {
                    found.extend(
                        [beside.take(), Some(format!("{below}/{name}.rs")), Some(format!("{below}/{name}/mod.rs"))].into_iter().flatten(),
                    );
                }
                (is_of_tests, beside) = (false, None);
            }
        }
        found
    }

    /// The top-level module that it belongs to; `None` for `lib.rs` and `main.rs`.
    fn module(&self) -> Option<&str> {
        self.path.strip_prefix("src/")?.split_once('/').map(|(module, _)| module)
    }

    /// Numbered lines without those that are comments as a whole.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        self.text.lines().enumerate().map(|(at, line)| (at + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// The same up to the first inline test module.
    fn product_code(&self) -> impl Iterator<Item = (usize, &str)> {
        let end = self
            .text
            .lines()
            .zip(self.text.lines().skip(1))
            .position(|(line, next)| line.trim() == "#[cfg(test)]" && next.trim_start().starts_with("mod ") && next.ends_with('{'));
        self.code().take_while(move |(line, _)| end.is_none_or(|end| *line <= end))
    }
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// All text files that belong to the tree: what is built, hidden or binary is not.
fn tree() -> Vec<Source> {
    let mut found = Vec::new();
    walk(&root(), "", &mut found);
    assert!(found.iter().any(|source| source.path == "src/lib.rs"), "the source tree is not where it was built");
    found.sort_by(|one, other| one.path.cmp(&other.path));
    let tests: BTreeSet<String> = found.iter().filter(|source| source.is_of_crate()).flat_map(Source::test_files).collect();
    for source in &mut found {
        source.is_test = source.path.starts_with("tests/")
            || source.path.contains("/tests/")
            || source.path.ends_with("tests.rs")
            || tests.contains(&source.path)
            || tests.iter().filter_map(|file| file.strip_suffix("mod.rs")).any(|folder| source.path.starts_with(folder));
    }
    found
}

fn walk(directory: &Path, prefix: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).expect("the source tree is readable") {
        let entry = entry.expect("the source tree is readable");
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("a kind");
        let is_hidden = name.starts_with('.') && name != ".ci";
        if kind.is_dir() {
            let is_built = fs::exists(entry.path().join("CACHEDIR.TAG")).unwrap_or(false);
            if !(is_built || is_hidden || name == "target" || name == "shared") {
                walk(&entry.path(), &format!("{path}/"), found);
            }
        } else if kind.is_file()
            && !is_hidden
            && let Ok(text) = fs::read_to_string(entry.path())
            && !text.contains('\0')
        {
            found.push(Source { path, text, is_test: false });
        }
    }
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path} cannot be read: {error}"))
}

/// Fails with all breaches at once.
#[track_caller]
fn none<B: Display>(rule: &str, breaches: impl IntoIterator<Item = B>) {
    let breaches: Vec<String> = breaches.into_iter().map(|breach| format!("  {breach}")).collect();
    assert!(breaches.is_empty(), "{rule}\n{}", breaches.join("\n"));
}

/// Whether `text` has `word` as a word of its own.
fn has_word(text: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (text[..at].chars().next_back(), text[at + word.len()..].chars().next());
        !before.is_some_and(part_of_name) && !after.is_some_and(part_of_name)
    })
}

/// The words before each comma at the outermost level of `text`, up to the brace that closes it.
fn first_words(text: &str) -> Vec<String> {
    let (mut items, mut depth) = (vec![String::new()], 0);
    for c in text.chars() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => items.push(String::new()),
            c if depth == 0 => items.last_mut().expect("one at least").push(c),
            _ => {}
        }
    }
    let first_word = |item: &String| item.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
    items.iter().map(first_word).filter(|word: &String| !word.is_empty()).collect()
}

/// The top-level modules that a file names through `crate::`, each with the line.
fn imports(source: &Source) -> Vec<(usize, String)> {
    const ROOT: &str = concat!("crate", "::");
    let code: Vec<(usize, &str)> = source.code().collect();
    let mut found = Vec::new();
    for (index, (line, text)) in code.iter().enumerate() {
        for (at, _) in text.match_indices(ROOT) {
            let rest = &text[at + ROOT.len()..];
            let modules = if let Some(rest) = rest.strip_prefix('{') {
                let following: Vec<&str> = std::iter::once(rest).chain(code[index + 1..].iter().map(|(_, text)| *text)).collect();
                first_words(&following.join("\n"))
            } else {
                vec![rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()]
            };
            found.extend(modules.into_iter().map(|module| (*line, module)));
        }
    }
    found
}

#[test]
fn imports_point_one_way() {
    let allowed: BTreeMap<&str, &[&str]> = IMPORTS.into_iter().collect();
    let mut breaches = Vec::new();
    for source in tree().iter().filter(|source| source.is_of_crate()) {
        let Some(module) = source.module() else { continue };
        let Some(may) = allowed.get(module) else {
            breaches.push(format!("{}: the module `{module}` is not in the table of tests/tidy/main.rs", source.path));
            continue;
        };
        for (line, imported) in imports(source) {
            // What is not a module of the table is a macro or an item of the root.
            if allowed.contains_key(&*imported) && imported != module && !may.contains(&&*imported) {
                breaches.push(format!("{}:{line}: `{module}` imports `{imported}`", source.path));
            }
        }
    }
    none("imports point the wrong way", breaches);
}

#[test]
fn an_import_list_is_understood() {
    let text =
        "use crate::{\n    protocol::{\n        ids::{A, B},\n    },\n    wire as w,\n    store::{C},\n};\nfn f() { crate::node::g() }";
    let source = Source { path: "src/x/y.rs".into(), text: text.into(), is_test: false };
    let modules: Vec<String> = imports(&source).into_iter().map(|(_, module)| module).collect();
    assert_eq!(modules, ["protocol", "wire", "store", "node"]);
}

#[test]
fn the_core_knows_no_clock_no_chance_and_no_runtime() {
    let mut breaches = Vec::new();
    for source in tree() {
        if !matches!(source.module(), Some("protocol" | "sim")) {
            continue;
        }
        // Tests may print and read; what they drive may not.
        if !source.is_test {
            for (line, text) in source.product_code() {
                let impure = IMPURE.iter().filter(|word| has_word(text, word));
                breaches.extend(impure.map(|word| format!("{}:{line}: {word}", source.path)));
            }
        }
    }
    for module in ["protocol", "sim"] {
        let text = read(&format!("src/{module}/mod.rs"));
        if !text.contains("#![deny(clippy::disallowed_types, clippy::disallowed_methods)]") {
            breaches.push(format!("src/{module}/mod.rs: does not deny what clippy.toml disallows"));
        }
    }
    none("the pure core is not pure", breaches);
}

#[test]
fn files_and_lines_are_short() {
    let mut breaches = Vec::new();
    for source in tree().iter().filter(|source| source.is_rust() || source.path.ends_with(".proto")) {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            breaches.push(format!("{}: {lines} lines, more than {FILE_LINES_MAX}", source.path));
        }
        for (at, line) in source.text.lines().enumerate() {
            let chars = line.chars().count();
            // What rustfmt cannot break is a text within quotes; nothing else has an excuse.
            let has_long_text = line.contains("r#\"") || line.split('"').skip(1).step_by(2).any(|text| text.len() > LINE_CHARS_MAX / 4);
            if chars > LINE_CHARS_MAX && !has_long_text {
                breaches.push(format!("{}:{}: {chars} characters, more than {LINE_CHARS_MAX}", source.path, at + 1));
            }
            if line.ends_with([' ', '\t']) {
                breaches.push(format!("{}:{}: a blank at the end of the line", source.path, at + 1));
            }
        }
    }
    none("too long", breaches);
}

#[test]
fn each_file_says_what_it_is() {
    let sources = tree();
    let silent = sources.iter().filter(|source| source.is_rust() && !source.text.starts_with("//!"));
    none("files that do not begin with //!", silent.map(|source| &source.path));
}

#[test]
fn each_file_is_part_of_the_crate() {
    let sources = tree();
    let all: BTreeMap<&str, &str> = sources.iter().map(|source| (&*source.path, &*source.text)).collect();
    let mut breaches = Vec::new();
    for source in sources.iter().filter(|source| source.is_of_crate() && source.module().is_some()) {
        let path = source.path.trim_end_matches(".rs").trim_end_matches("/mod");
        let (folder, name) = path.rsplit_once('/').expect("below src");
        let mut siblings = all.iter().filter(|(other, _)| **other != source.path);
        let declared = siblings.any(|(other, text)| {
            let is_parent = *other == format!("{folder}/mod.rs") || *other == format!("{folder}.rs");
            let is_root = folder == "src" && *other == "src/lib.rs";
            let is_beside = other.rsplit_once('/').is_some_and(|(beside, _)| beside == folder);
            let by_name = (is_parent || is_root) && text.lines().any(|line| line.trim().ends_with(&format!("mod {name};")));
            by_name || is_beside && text.contains(&format!("#[path = \"{name}.rs\"]"))
        });
        if !declared {
            breaches.push(format!("{}: no `mod {name};` above it", source.path));
        }
    }
    none("files that nothing includes", breaches);
}

#[test]
fn names_mean_something() {
    let mut breaches = Vec::new();
    for source in tree() {
        let stem = source.path.rsplit('/').next().and_then(|name| name.split('.').next()).unwrap_or_default().to_lowercase();
        if stem.split(['_', '-']).any(|word| EMPTY_NAMES.contains(&word)) {
            breaches.push(source.path);
        }
    }
    none("names without meaning", breaches);
}

#[test]
fn nothing_is_left_over() {
    const LEFTOVERS: [&str; 6] = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X"), "dbg!", "todo!", "unimplemented!"];
    const PRINTS: [&str; 4] = ["println!", "print!", "eprintln!", "eprint!"];
    let mut breaches = Vec::new();
    for source in tree().iter().filter(|source| source.is_rust() && source.path != "tests/tidy/main.rs") {
        for (at, line) in source.text.lines().enumerate() {
            let left = LEFTOVERS.iter().filter(|word| has_word(line, word));
            breaches.extend(left.map(|word| format!("{}:{}: {word}", source.path, at + 1)));
        }
        // The command line prints through its context only; a slot process has nothing but its standard error.
        if source.is_of_crate() && !source.is_test && source.path != "src/sandbox/slot.rs" && source.module().is_some() {
            for (line, text) in source.product_code() {
                let printed = PRINTS.iter().filter(|word| has_word(text, word));
                breaches.extend(printed.map(|word| format!("{}:{line}: {word}", source.path)));
            }
        }
    }
    none("left over", breaches);
}

#[test]
fn nothing_is_unwrapped_outside_tests() {
    let mut breaches = Vec::new();
    for source in tree().iter().filter(|source| source.is_of_crate() && !source.is_test) {
        let unwraps = source.product_code().filter(|(_, text)| text.contains(concat!(".unwrap", "()")));
        breaches.extend(unwraps.map(|(line, text)| format!("{}:{line}: {}", source.path, text.trim())));
    }
    none("unwrap outside tests: use expect with the invariant as its text", breaches);
}

#[test]
fn tests_neither_sleep_nor_take_fixed_ports() {
    let mut breaches = Vec::new();
    for source in tree().iter().filter(|source| source.is_rust() && source.is_test && source.path != "tests/tidy/main.rs") {
        for (line, text) in source.code() {
            // Between two looks at another process one may sleep, for as long as a constant says that has a name.
            if text.contains("sleep(Duration") || text.contains("sleep(std::time::Duration") {
                breaches.push(format!("{}:{line}: sleeps for a while that somebody guessed; wait for what happens", source.path));
            }
            let port = text.split("127.0.0.1:").nth(1).and_then(|rest| rest.chars().next());
            if text.contains("bind(") && port.is_some_and(|digit| ('1'..='9').contains(&digit)) {
                breaches.push(format!("{}:{line}: binds a fixed port; use port 0", source.path));
            }
        }
    }
    none("tests that depend on the machine", breaches);
}

#[test]
fn the_tree_names_no_machine() {
    let folders = [concat!("/wo", "rk/"), concat!("/ro", "ot/"), concat!("/ho", "me/"), concat!("/Us", "ers/")];
    let mut breaches = Vec::new();
    for source in tree() {
        for (at, line) in source.text.lines().enumerate() {
            let place = format!("{}:{}", source.path, at + 1);
            breaches.extend(folders.iter().filter(|folder| line.contains(*folder)).map(|folder| format!("{place}: {folder}")));
            for (at, scheme) in line.match_indices("://") {
                if !line[..at].ends_with("http") && !line[..at].ends_with("https") {
                    continue;
                }
                let host: String =
                    line[at + scheme.len()..].chars().take_while(|c| c.is_ascii_alphanumeric() || ".-".contains(*c)).collect();
                if !host.is_empty() && !HOSTS.contains(&&*host) {
                    breaches.push(format!("{place}: the host {host} is not in the list of tests/tidy/main.rs"));
                }
            }
        }
    }
    none("the tree names somebody's machine", breaches);
}
