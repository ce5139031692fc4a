//! Bundles: what is written is read again for ever, and whatever is wrong with one is named.
//!
//! The golden file is written once, with `MANYHANDS_GOLDEN=write`, and never changed: bundles are kept for years.
#![cfg(feature = "net")]

use manyhands::{
    protocol::{
        checkpoint::Authors,
        ids::{Attempt, Digest, UnitIndex},
        job::{Inputs, Manifest, Policy, Reduce, TableDigest, UnitRange, input_digest},
        outcome::{Exit, UnitLimits, Value},
    },
    wire::{
        bundle::{
            BundleError, BundledVote, CHUNK_BYTES_MAX, Header, Standing, Unit,
            check::{Checked, Given, Problem, check, read_again, rests_on_too_few},
            writer::BundleWriter,
        },
        manifest,
        receipt::{Claim, Receipts},
        signing,
    },
};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng as _, SeedableRng as _},
};
use std::{io::Cursor, path::PathBuf};

type Key = iroh::SecretKey;

const MODULE: &[u8] = b"\0asm and so on, which nobody runs here";
const INPUTS: [(&str, &[u8]); 4] = [("a.fa", b"ACGT"), ("b.fa", b""), ("c.fa", b"GATTACA"), ("d.fa", b"T")];

fn key(seed: u8) -> Key {
    Key::from_bytes(&[seed; 32])
}

fn owner() -> Key {
    key(42)
}

fn output(unit: u32) -> Vec<u8> {
    format!("output of {unit}\n").into_bytes()
}

fn value(unit: u32) -> Value {
    Value { exit: Exit::Code(0), output: Digest::of(&output(unit)), gas: 1000 + u64::from(unit), chain: None }
}

/// What the tests change, before it is written and sealed.
struct Plan {
    header: Header,
    module: Vec<u8>,
    units: Vec<Unit>,
    contents: Vec<(Vec<u8>, Vec<u8>)>,
    seal: Key,
}

impl Plan {
    fn write(&self) -> Vec<u8> {
        let mut writer = BundleWriter::begin(&self.header).expect("a small header");
        writer.bytes(&self.module).expect("a small module");
        for (unit, (input, output)) in self.units.iter().zip(&self.contents) {
            writer.unit(unit).expect("a small unit");
            if self.header.whole {
                writer.bytes(input).expect("a small input");
                writer.bytes(output).expect("a small output");
            }
        }
        let mut bytes = writer.take();
        bytes.extend(writer.finish(&self.seal).expect("a small end"));
        bytes
    }

    fn check(&self) -> Result<Checked, BundleError> {
        read(&self.write())
    }

    fn problems(&self) -> Vec<(u32, Problem)> {
        let checked = self.check().expect("a bundle that can be judged");
        assert_eq!(checked.problem_count, checked.problems.len() as u64);
        assert!(!checked.is_sound());
        checked.problems.into_iter().map(|(unit, problem)| (unit.0, problem)).collect()
    }
}

fn read(bytes: &[u8]) -> Result<Checked, BundleError> {
    check(Cursor::new(bytes), |_| {})
}

fn vote(header: &Header, worker: &Key, unit: u32, value: Value) -> BundledVote {
    let (name, given) = INPUTS.get(unit as usize).copied().unwrap_or_default();
    let input = header.manifest.has_table().then(|| input_digest(name, Digest::of(given)));
    let output_bytes = output(unit).len() as u64;
    let claim = Claim { unit: UnitIndex(unit), attempt: Attempt(0), ordinal: 1, value, output_bytes, input, rests_on: Authors::NONE };
    let receipts = Receipts::new(header.job(), "wasmtime-48/1", "x86_64", &[claim]).expect("one");
    let proof = receipts.proof(0, &receipts.sign(worker));
    let claim = Claim { input: None, ..claim };
    BundledVote { worker: signing::peer_of(worker), claim, proof, counted: true, proven: true, struck: false }
}

/// The same as a version signed it whose receipts did not name the inputs of units.
fn older_vote(header: &Header, worker: &Key, unit: u32, value: Value) -> BundledVote {
    let newer = vote(header, worker, unit, value);
    let receipts = Receipts::new(header.job(), "wasmtime-48/1", "x86_64", &[newer.claim]).expect("one");
    let mut proof = receipts.proof(0, &receipts.sign(worker)).to_vec();
    proof[0] = 1;
    BundledVote { proof: proof.into(), ..newer }
}

fn manifest_of(inputs: Inputs) -> Manifest {
    Manifest {
        owner: signing::peer_of(&owner()),
        name: "genes".into(),
        module: Digest::of(MODULE),
        module_bytes: MODULE.len() as u64,
        args: vec!["{name}".into()],
        inputs,
        limits: UnitLimits::default(),
        policy: Policy::Standard,
        priority: 0,
        tags: vec![],
        purpose: String::new(),
        reduce: Reduce::Concat,
        nonce: vec![],
    }
}

fn header(inputs: Inputs, whole: bool) -> Header {
    let manifest = manifest_of(inputs);
    let encoded = manifest::encode(&manifest);
    let signature = manifest::sign(&owner(), &encoded);
    Header { manifest, encoded, signature, whole, made_by: "0.1.0".into() }
}

/// Four units: verified by two, checked by the owner, verified although somebody was caught, not decided.
fn plan(whole: bool) -> Plan {
    let mut table = TableDigest::default();
    INPUTS.iter().for_each(|(name, input)| table.row(name, Digest::of(input), input.len() as u64));
    let header = header(Inputs::Table { units: 4, digest: table.finish() }, whole);
    let wrong = Value { gas: 1, ..value(2) };
    let caught = BundledVote { counted: false, proven: false, struck: true, ..vote(&header, &key(3), 2, wrong) };
    let votes = [
        vec![vote(&header, &key(1), 0, value(0)), vote(&header, &key(2), 0, value(0))],
        vec![vote(&header, &owner(), 1, value(1))],
        vec![vote(&header, &key(1), 2, value(2)), vote(&header, &key(2), 2, value(2)), caught],
        vec![vote(&header, &key(1), 3, value(3))],
    ];
    let unit = |(index, votes): (usize, Vec<BundledVote>)| {
        let (at, (name, input)) = (u32::try_from(index).expect("few"), INPUTS[index]);
        let decided = at < 3;
        Unit {
            unit: UnitIndex(at),
            name: name.into(),
            input: Digest::of(input),
            input_bytes: input.len() as u64,
            standing: if decided { Standing::Verified } else { Standing::Undecided },
            value: decided.then(|| value(at)),
            output_bytes: if decided { output(at).len() as u64 } else { 0 },
            by_owner: at == 1,
            votes,
        }
    };
    let units: Vec<Unit> = votes.into_iter().enumerate().map(unit).collect();
    let contents = (0..4).map(|at| (INPUTS[at as usize].1.to_vec(), if at < 3 { output(at) } else { vec![] })).collect();
    Plan { header, module: MODULE.to_vec(), units, contents, seal: owner() }
}

fn golden(name: &str, written: &[u8]) -> Vec<u8> {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{name}.bin")].iter().collect();
    if std::env::var_os("MANYHANDS_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, written).expect("the golden file can be written");
    }
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; see the head of this file", path.display()));
    assert!(bytes == written, "{name}: what is written today differs from the golden file");
    bytes
}

#[test]
fn a_golden_bundle_is_what_is_written_and_read_today() {
    for whole in [true, false] {
        let plan = plan(whole);
        let bytes = golden(if whole { "bundle-whole" } else { "bundle-digests" }, &plan.write());
        let mut decided = Vec::new();
        let checked = check(Cursor::new(&bytes), |unit| decided.push(unit.unit.0)).expect("a good bundle");
        assert_eq!((checked.units(), checked.verified, checked.by_owner, checked.failed), (4, 3, 1, 0));
        assert_eq!((checked.receipts, checked.receipts_bad, checked.voters, checked.problem_count), (7, 0, 4, 0));
        assert_eq!(checked.header, plan.header);
        assert_eq!(decided, [0, 1, 2]);
        assert!(!checked.is_sound(), "a unit is not decided");
        assert_eq!(checked.digest, Digest::of(&bytes[..bytes.len() - 96]));
    }
}

/// Their receipts are genuine and do not name the inputs of units.
#[test]
fn a_bundle_from_before_receipts_named_inputs_is_read_and_proves_less() {
    let nameless = |worker: &Key| Problem::NoInput { worker: signing::peer_of(worker) };
    let few = Problem::TooFewReceipts { found: 0, needed: 2 };
    let twice = |unit: u32| [(unit, nameless(&key(1))), (unit, nameless(&key(2))), (unit, few)];
    let expected = [&twice(0)[..], &[(1, nameless(&owner())), (1, Problem::NotByOwner)], &twice(2)].concat();
    for name in ["bundle-whole-1", "bundle-digests-1"] {
        let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "tests", "golden", &format!("{name}.bin")].iter().collect();
        let checked = read(&std::fs::read(path).expect("a golden file")).expect("a good bundle");
        assert_eq!((checked.units(), checked.verified, checked.receipts, checked.receipts_bad), (4, 3, 7, 0));
        let problems: Vec<(u32, Problem)> = checked.problems.iter().map(|(unit, problem)| (unit.0, *problem)).collect();
        assert_eq!(problems, expected);
    }
}

#[test]
fn a_second_reading_gives_what_is_to_be_run() {
    let plan = plan(true);
    let bytes = plan.write();
    let checked = read(&bytes).expect("a good bundle");
    let mut given = Vec::new();
    let again = read_again(
        Cursor::new(&bytes),
        &checked,
        |unit| unit.0 != 1,
        |next| {
            given.push(next);
            true
        },
    );
    again.expect("the same file");
    let unit = |at: usize| Given::Unit { unit: Box::new(plan.units[at].clone()), input: INPUTS[at].1.to_vec() };
    assert_eq!(given, [Given::Module(MODULE.to_vec()), unit(0), unit(2)], "what is not decided is not run");
    let mut other = plan;
    other.units[0].votes.reverse();
    let changed = read_again(Cursor::new(other.write()), &checked, |_| true, |_| true);
    assert!(matches!(changed, Err(BundleError::Changed)), "{changed:?}");
}

#[test]
fn a_range_has_neither_names_nor_inputs() {
    let header = header(Inputs::Range(UnitRange { start: 0, end: 2, per_unit: 1 }), true);
    let unit = |at: u32| Unit {
        unit: UnitIndex(at),
        name: String::new(),
        input: Digest::of(&[]),
        input_bytes: 0,
        standing: Standing::Verified,
        value: Some(value(at)),
        output_bytes: output(at).len() as u64,
        by_owner: false,
        votes: vec![vote(&header, &key(1), at, value(at)), vote(&header, &key(2), at, value(at))],
    };
    let units = vec![unit(0), unit(1)];
    let contents = vec![(vec![], output(0)), (vec![], output(1))];
    let mut plan = Plan { header, module: MODULE.to_vec(), units, contents, seal: owner() };
    assert!(plan.check().expect("a good bundle").is_sound());
    plan.units[1].votes[1] = older_vote(&plan.header, &key(2), 1, value(1));
    assert!(plan.check().expect("a good bundle").is_sound(), "there is no input that a receipt could name");
    plan.units[1].name = "a name".into();
    assert!(matches!(plan.check(), Err(BundleError::WrongTable)));
}

#[test]
fn large_contents_come_in_chunks() {
    let mut plan = plan(true);
    let large = vec![7; 2 * CHUNK_BYTES_MAX + 1];
    let value = Value { output: Digest::of(&large), ..value(1) };
    plan.units[1].votes = vec![vote(&plan.header, &owner(), 1, value)];
    plan.units[1].value = Some(value);
    plan.units[1].output_bytes = large.len() as u64;
    plan.contents[1].1 = large;
    assert_eq!(plan.check().expect("a good bundle").problem_count, 0);
}

#[test]
fn every_cut_and_every_bent_byte_is_noticed() {
    let bytes = plan(true).write();
    for length in 0..bytes.len() {
        let error = read(&bytes[..length]).expect_err("cut");
        let named =
            matches!(error, BundleError::Truncated { .. } | BundleError::Damaged) || length < 8 && matches!(error, BundleError::NotABundle);
        assert!(named, "cut at {length}: {error}");
        if length + 96 < bytes.len() && length > 12 {
            assert!(matches!(error, BundleError::Truncated { .. }), "cut at {length}: {error}");
        }
    }
    for at in 0..bytes.len() {
        let mut bent = bytes.clone();
        bent[at] ^= 1;
        let error = read(&bent).expect_err("bent");
        let named = match at {
            0..8 => matches!(error, BundleError::NotABundle),
            8..12 => matches!(error, BundleError::UnknownVersion(_)),
            _ if at + 64 >= bytes.len() => matches!(error, BundleError::NotSealed),
            // A bent length may lead beyond the end.
            _ => matches!(error, BundleError::Damaged | BundleError::Truncated { .. }),
        };
        assert!(named, "bent at {at}: {error}");
    }
    let longer = [&bytes[..], b"x"].concat();
    assert!(matches!(read(&longer), Err(BundleError::Damaged)));
}

#[test]
fn what_was_put_together_wrongly_is_refused_by_name() {
    let error = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan(true);
        change(&mut plan);
        plan.check().expect_err("a bad bundle")
    };
    let drop_unit = |at: usize| {
        move |plan: &mut Plan| {
            plan.units.remove(at);
            plan.contents.remove(at);
        }
    };
    assert!(matches!(error(&drop_unit(1)), BundleError::WrongUnit { found: 2, expected: 1 }));
    assert!(matches!(error(&drop_unit(3)), BundleError::UnitsMissing { found: 3, expected: 4 }));
    let twice = |plan: &mut Plan| {
        plan.units.push(Unit { unit: UnitIndex(4), ..plan.units[3].clone() });
        plan.contents.push(plan.contents[3].clone());
    };
    assert!(matches!(error(&twice), BundleError::UnitsMissing { found: 5, expected: 4 }));
    assert!(matches!(error(&|plan| plan.seal = key(1)), BundleError::NotSealed));
    assert!(matches!(error(&|plan| plan.module[20] ^= 1), BundleError::WrongModule));
    assert!(matches!(error(&|plan| plan.module.push(0)), BundleError::TooManyBytes { what: "the module" }));
    assert!(matches!(error(&|plan| plan.module.truncate(5)), BundleError::OutOfPlace { found: "a unit", expected: "the module" }));
    assert!(matches!(error(&|plan| plan.contents[0].0.push(0)), BundleError::TooManyBytes { .. }));
    assert!(matches!(error(&|plan| plan.units[0].name = "z".into()), BundleError::WrongTable));
    assert!(matches!(error(&|plan| plan.header.signature[0] ^= 1), BundleError::Rejected(_)));
    assert!(matches!(error(&|plan| plan.header.made_by = "x".repeat(65)), BundleError::Rejected(_)));
    assert!(matches!(error(&|plan| plan.units[3].output_bytes = 1), BundleError::Rejected(_)), "an output of what is not decided");
    assert!(matches!(error(&|plan| plan.units[0].output_bytes = u64::MAX), BundleError::Rejected(_)));
    let many = |plan: &mut Plan| plan.units[0].votes = vec![plan.units[0].votes[0].clone(); 257];
    assert!(matches!(error(&many), BundleError::Rejected(_)));
    // Somebody else's job cannot be passed off as one's own.
    let stolen = |plan: &mut Plan| {
        plan.header.manifest.owner = signing::peer_of(&key(9));
        plan.header.encoded = manifest::encode(&plan.header.manifest);
        plan.header.signature = manifest::sign(&key(9), &plan.header.encoded);
    };
    assert!(matches!(error(&stolen), BundleError::NotSealed));
}

#[test]
fn what_is_not_proven_is_a_problem_of_its_unit() {
    let problems = |change: &dyn Fn(&mut Plan)| {
        let mut plan = plan(true);
        change(&mut plan);
        plan.problems()
    };
    let (one, two) = (signing::peer_of(&key(1)), signing::peer_of(&key(2)));
    let few = |found, needed| Problem::TooFewReceipts { found, needed };
    let forged = |plan: &mut Plan| plan.units[0].votes[1].worker = one;
    assert_eq!(problems(&forged), [(0, Problem::BadReceipt { worker: one }), (0, few(1, 2))], "nobody signs for another");
    let moved = |plan: &mut Plan| {
        plan.units[0].votes[1] = BundledVote { proof: plan.units[2].votes[1].proof.clone(), ..plan.units[0].votes[1].clone() }
    };
    assert_eq!(problems(&moved), [(0, Problem::BadReceipt { worker: two }), (0, few(1, 2))], "a receipt is of one unit");
    let twice = |plan: &mut Plan| plan.units[0].votes[1] = plan.units[0].votes[0].clone();
    assert_eq!(problems(&twice), [(0, Problem::SameKeyTwice { worker: one }), (0, few(1, 2))]);
    let struck = |plan: &mut Plan| plan.units[0].votes[1].struck = true;
    assert_eq!(problems(&struck), [(0, few(1, 2))]);
    let none = |plan: &mut Plan| plan.units[2].votes.clear();
    assert_eq!(problems(&none), [(2, few(0, 2))]);
    let richer = |plan: &mut Plan| plan.units[0].value = Some(Value { gas: 5000, ..value(0) });
    assert_eq!(problems(&richer), [(0, few(0, 2))], "what was decided is what was signed");
    let not_mine = |plan: &mut Plan| plan.units[0].by_owner = true;
    assert_eq!(problems(&not_mine), [(0, Problem::NotByOwner)]);
    assert_eq!(problems(&|plan| plan.contents[2].0[0] ^= 1), [(2, Problem::WrongInput)]);
    assert_eq!(problems(&|plan| plan.contents[2].1[0] ^= 1), [(2, Problem::WrongOutput)]);
}

#[test]
fn a_receipt_that_does_not_name_its_input_backs_nothing() {
    let mut plan = plan(true);
    let older = older_vote(&plan.header, &key(4), 0, value(0));
    plan.units[0].votes.push(older);
    assert_eq!(plan.check().expect("a good bundle").problem_count, 0, "there are two others");
    plan.units[0].votes.remove(1);
    let expected = [(0, Problem::NoInput { worker: signing::peer_of(&key(4)) }), (0, Problem::TooFewReceipts { found: 1, needed: 2 })];
    assert_eq!(plan.problems(), expected);
}

/// Such a unit is run before it is exported.
#[test]
fn a_unit_that_one_vote_and_the_owners_word_decided_rests_on_too_few() {
    let plan = plan(false);
    let few = |unit: &Unit| rests_on_too_few(unit, Policy::Standard);
    assert!(plan.units.iter().all(|unit| !few(unit)), "two votes, the owner's own, two and a liar's, not decided");
    let one = Unit { votes: plan.units[2].votes[1..].to_vec(), ..plan.units[2].clone() };
    assert!(few(&one), "who was caught backs nothing");
    assert!(!rests_on_too_few(&one, Policy::Economy));
    assert!(rests_on_too_few(&plan.units[2], Policy::Strict));
    assert!(!few(&Unit { by_owner: true, ..one }));
}

#[test]
fn no_bytes_make_it_panic_also_under_a_right_digest() {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut below = move |bound: usize| random.next_u64() as usize % bound;
    let good = plan(true).write();
    for _ in 0..3000 {
        let mut bytes = good[..good.len() - 96].to_vec();
        for _ in 0..=below(4) {
            let at = 12 + below(bytes.len() - 12);
            match below(3) {
                0 => bytes[at] = [0, 0xff, 0x7f, 0x80][below(4)],
                1 => drop(bytes.remove(at)),
                _ => bytes.insert(at, 1),
            }
        }
        let digest = Digest::of(&bytes);
        let signature = owner().sign(&[&b"manyhands.bundle.v1"[..], digest.as_bytes()].concat()).to_bytes();
        bytes.extend_from_slice(digest.as_bytes());
        bytes.extend_from_slice(&signature);
        drop(read(&bytes));
    }
}
