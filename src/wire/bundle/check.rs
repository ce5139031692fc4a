//! Whether a bundle proves what it claims. Runs nothing: that is for whoever has a sandbox.
//!
//! A file that is cut, damaged or put together wrongly is refused as a whole, by a [`BundleError`]. One that is well made is
//! judged unit by unit, and what is wrong with a unit is a [`Problem`].

use super::{
    BundleError, BundledVote, End, Header, Record, Standing, Unit,
    reader::{BundleReader, Seal, check_digest, out_of_place},
};
use crate::{
    protocol::{
        ids::{Digest, PeerId, UnitIndex},
        job::{Inputs, Policy, TableDigest, input_digest},
    },
    wire::receipt::{self, Claim},
};
use sha2::{Digest as _, Sha256};
use std::{
    collections::BTreeSet,
    io::{BufReader, Read, Seek, SeekFrom},
};

/// Problems that are kept in full; all are counted.
pub const PROBLEMS_KEPT: usize = 100;
/// Different voters that are counted; of more, the number says that there are so many at least.
pub const VOTERS_COUNTED_MAX: usize = 65_536;
const BUFFER_BYTES: usize = 128 << 10;

/// What is wrong with a unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Problem {
    /// A receipt that its alleged worker did not sign.
    #[error("a receipt is not genuine")]
    BadReceipt {
        /// The alleged worker.
        worker: PeerId,
    },
    /// One key voted twice.
    #[error("one key voted twice")]
    SameKeyTwice {
        /// Whose.
        worker: PeerId,
    },
    /// A receipt for what was decided, which is missed, does not say what its unit was given: it is from before receipts did.
    #[error("a receipt does not name the unit's input, so it backs nothing")]
    NoInput {
        /// Whose.
        worker: PeerId,
    },
    /// Too few genuine receipts say what was decided.
    #[error("{found} genuine receipts back its value, {needed} are needed")]
    TooFewReceipts {
        /// How many there are.
        found: usize,
        /// How many the job's policy asks for.
        needed: usize,
    },
    /// It is said to be the owner's own result, and the owner did not sign it.
    #[error("the owner has not signed the result that it is said to have computed")]
    NotByOwner,
    /// The input does not have the digest that is said of it.
    #[error("its input has another digest")]
    WrongInput,
    /// The output does not have the digest that was voted on.
    #[error("its output has another digest than was verified")]
    WrongOutput,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What the bundle is about.
    pub header: Header,
    /// SHA-256 of the bundle without its seal.
    pub digest: Digest,
    /// Units that are verified, says the owner.
    pub verified: u32,
    /// Of these, computed or checked by the owner's machine.
    pub by_owner: u32,
    /// Units that failed.
    pub failed: u32,
    /// Receipts that were checked.
    pub receipts: u64,
    /// Of these, not genuine.
    pub receipts_bad: u64,
    /// Different voters; at most [`VOTERS_COUNTED_MAX`] are counted.
    pub voters: usize,
    /// What is wrong, of the first units; at most [`PROBLEMS_KEPT`].
    pub problems: Vec<(UnitIndex, Problem)>,
    /// How much is wrong in all.
    pub problem_count: u64,
}

impl Checked {
    /// How many units the job has.
    pub fn units(&self) -> u32 {
        self.header.manifest.units()
    }

    /// Whether what is verified is proven, and nothing is missing.
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0 && self.verified == self.units()
    }

    fn note(&mut self, unit: UnitIndex, problem: Problem) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_KEPT {
            self.problems.push((unit, problem));
        }
    }
}

/// Checks a bundle; `decided` is shown each unit with a value, and may choose some to be run.
///
/// # Errors
/// It cannot be judged at all; see [`BundleError`].
pub fn check(mut file: impl Read + Seek, mut decided: impl FnMut(&Unit)) -> Result<Checked, BundleError> {
    let seal = check_digest(&mut file)?;
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BundleReader::begin(BufReader::with_capacity(BUFFER_BYTES, file))?;
    let header = *reader.header()?;
    // What the owner did not sign is not judged.
    seal.verify(header.manifest.owner)?;
    read_module(&mut reader, &header)?;
    let mut checked = Checked {
        header,
        digest: seal.digest,
        verified: 0,
        by_owner: 0,
        failed: 0,
        receipts: 0,
        receipts_bad: 0,
        voters: 0,
        problems: Vec::new(),
        problem_count: 0,
    };
    let end = check_units(&mut reader, &mut checked, &mut decided)?;
    if end.units != checked.units() {
        return Err(BundleError::WrongCount { what: "units" });
    }
    if end.verified != checked.verified {
        return Err(BundleError::WrongCount { what: "verified units" });
    }
    unchanged(reader.finish()?, &seal)?;
    Ok(checked)
}

/// Reads the same file once more, whose check gave `checked`: hands out the module, then each unit that `wanted` names with its
/// input, as long as `take` says yes.
///
/// # Errors
/// The file is not what it was.
pub fn read_again(
    mut file: impl Read + Seek,
    checked: &Checked,
    wanted: impl Fn(UnitIndex) -> bool,
    mut take: impl FnMut(Given) -> bool,
) -> Result<(), BundleError> {
    file.seek(SeekFrom::Start(0))?;
    let mut reader = BundleReader::begin(BufReader::with_capacity(BUFFER_BYTES, file))?;
    let header = *reader.header()?;
    if header != checked.header {
        return Err(BundleError::Changed);
    }
    let module = read_module(&mut reader, &header)?;
    let mut going = take(Given::Module(module));
    loop {
        let unit = match reader.record()? {
            Record::Unit(unit) => unit,
            Record::End(_) => break,
            other @ (Record::Header(_) | Record::Chunk(_)) => return Err(out_of_place(&other, "a unit")),
        };
        let runs = going && unit.value.is_some() && wanted(unit.unit);
        let mut input = Vec::new();
        if header.whole {
            reader.content("the input of a unit", unit.input_bytes, |bytes| {
                if runs {
                    input.extend_from_slice(bytes)
                }
            })?;
            reader.content("the output of a unit", unit.output_bytes, |_| {})?;
        }
        if runs {
            going = take(Given::Unit { unit, input });
        }
    }
    let seal = reader.finish()?;
    if seal.digest == checked.digest { Ok(()) } else { Err(BundleError::Changed) }
}

/// What a second reading gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Given {
    /// The module, whose digest was compared; the first.
    Module(Vec<u8>),
    /// A unit that was wanted.
    Unit {
        /// Which, and what is said of it.
        unit: Box<Unit>,
        /// Its input; none in a bundle of digests.
        input: Vec<u8>,
    },
}

fn unchanged(now: Seal, before: &Seal) -> Result<(), BundleError> {
    if now == *before { Ok(()) } else { Err(BundleError::Changed) }
}

/// The module, at most 64 MiB.
fn read_module<R: Read>(reader: &mut BundleReader<R>, header: &Header) -> Result<Vec<u8>, BundleError> {
    let mut module = Vec::new();
    reader.content("the module", header.manifest.module_bytes, |bytes| module.extend_from_slice(bytes))?;
    if Digest::of(&module) == header.manifest.module { Ok(module) } else { Err(BundleError::WrongModule) }
}

fn check_units<R: Read>(reader: &mut BundleReader<R>, checked: &mut Checked, decided: &mut impl FnMut(&Unit)) -> Result<End, BundleError> {
    let expected = checked.units();
    let (mut next, mut table, mut voters) = (0, TableDigest::default(), BTreeSet::new());
    let end = loop {
        let unit = match reader.record()? {
            Record::Unit(unit) => unit,
            Record::End(end) => break end,
            other @ (Record::Header(_) | Record::Chunk(_)) => return Err(out_of_place(&other, "a unit")),
        };
        if unit.unit.0 != next {
            return Err(BundleError::WrongUnit { found: unit.unit.0, expected: next });
        }
        next += 1;
        if next > expected {
            return Err(BundleError::UnitsMissing { found: next, expected });
        }
        table.row(&unit.name, unit.input, unit.input_bytes);
        check_contents(reader, &unit, checked)?;
        check_votes(&unit, checked, &mut voters);
        count(&unit, checked);
        if unit.value.is_some() {
            decided(&unit);
        }
    };
    if next != expected {
        return Err(BundleError::UnitsMissing { found: next, expected });
    }
    checked.voters = voters.len();
    match checked.header.manifest.inputs {
        Inputs::Table { units: _, digest } if table.finish() != digest => Err(BundleError::WrongTable),
        Inputs::Table { .. } | Inputs::Range(_) => Ok(end),
    }
}

fn count(unit: &Unit, checked: &mut Checked) {
    match unit.standing {
        Standing::Verified => {
            checked.verified += 1;
            checked.by_owner += u32::from(unit.by_owner);
        }
        Standing::VerifiedFailure | Standing::Failed => checked.failed += 1,
        Standing::Undecided => {}
    }
}

fn check_contents<R: Read>(reader: &mut BundleReader<R>, unit: &Unit, checked: &mut Checked) -> Result<(), BundleError> {
    if !checked.header.manifest.has_table() && (unit.input != Digest::of(&[]) || unit.input_bytes > 0 || !unit.name.is_empty()) {
        return Err(BundleError::WrongTable);
    }
    if !checked.header.whole {
        return Ok(());
    }
    let mut hasher = Sha256::new();
    reader.content("the input of a unit", unit.input_bytes, |bytes| hasher.update(bytes))?;
    if hasher.finalize_reset()[..] != unit.input.as_bytes()[..] {
        checked.note(unit.unit, Problem::WrongInput);
    }
    reader.content("the output of a unit", unit.output_bytes, |bytes| hasher.update(bytes))?;
    let found = hasher.finalize();
    if unit.value.is_some_and(|value| found[..] != value.output.as_bytes()[..]) {
        checked.note(unit.unit, Problem::WrongOutput);
    }
    Ok(())
}

/// Checks the receipts of a unit, and whether they carry what was decided.
fn check_votes(unit: &Unit, checked: &mut Checked, voters: &mut BTreeSet<PeerId>) {
    let (job, owner, policy) = (checked.header.job(), checked.header.manifest.owner, checked.header.manifest.policy);
    let input = checked.header.manifest.has_table().then(|| input_digest(&unit.name, unit.input));
    let (mut seen, mut backing, mut nameless) = (BTreeSet::new(), Vec::new(), Vec::new());
    for vote in &unit.votes {
        let BundledVote { worker, claim, proof, counted: _, proven: _, struck } = vote;
        checked.receipts += 1;
        if receipt::check(proof, *worker, job, &Claim { input, ..*claim }).is_err() {
            checked.receipts_bad += 1;
            checked.note(unit.unit, Problem::BadReceipt { worker: *worker });
            continue;
        }
        if !seen.insert(*worker) {
            checked.note(unit.unit, Problem::SameKeyTwice { worker: *worker });
            continue;
        }
        if voters.len() < VOTERS_COUNTED_MAX {
            voters.insert(*worker);
        }
        if *struck || unit.value != Some(claim.value) {
            continue;
        }
        // It is genuine, and was perhaps computed from something else.
        if input.is_some() && !receipt::covers_input(proof) {
            nameless.push(*worker);
        } else {
            backing.push(vote);
        }
    }
    if unit.value.is_none() {
        return;
    }
    let (backing, needed) = (independent(backing), votes_needed(policy));
    let problem = if unit.by_owner {
        (!backing.contains(&owner)).then_some(Problem::NotByOwner)
    } else {
        (backing.len() < needed).then_some(Problem::TooFewReceipts { found: backing.len(), needed })
    };
    if let Some(problem) = problem {
        nameless.into_iter().for_each(|worker| checked.note(unit.unit, Problem::NoInput { worker }));
        checked.note(unit.unit, problem);
    }
}

/// Who of those who back a value counts.
fn independent<'a>(backing: impl IntoIterator<Item = &'a BundledVote>) -> BTreeSet<PeerId> {
    let (mut counted, mut shared) = (BTreeSet::new(), Vec::new());
    for BundledVote { worker, claim, .. } in backing {
        if claim.rests_on.is_empty() {
            counted.insert(*worker);
        } else {
            shared.push((*worker, claim.rests_on));
        }
    }
    // One that rests on others stands for all of them: it counts only beside votes with which none of them has to do.
    let mut behind = counted.clone();
    for (worker, authors) in shared {
        let all: Vec<PeerId> = std::iter::once(worker).chain(authors.iter()).collect();
        if all.iter().all(|peer| !behind.contains(peer)) {
            counted.insert(worker);
            behind.extend(all);
        }
    }
    counted
}

/// Whether a unit is decided by fewer votes than its job's policy asks for, and not by the owner's own. It may be right all the same: the
/// owner's check of one segment counts like a vote, and leaves no receipt. Nobody else can know that.
pub fn rests_on_too_few(unit: &Unit, policy: Policy) -> bool {
    unit.value.is_some() && !unit.by_owner && independent(unit.backing()).len() < votes_needed(policy)
}

/// How many votes a policy asks for at least. Audits are the owner's secret, and nobody else can count them.
fn votes_needed(policy: Policy) -> usize {
    match policy {
        Policy::Economy => 1,
        Policy::Standard => 2,
        Policy::Strict => 3,
    }
}
