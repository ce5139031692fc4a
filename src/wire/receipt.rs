//! Receipts: a worker's signature on what it computed, one signature for a whole batch.
//!
//! Each value's claim is hashed to a leaf, the leaves of a batch to the root of a Merkle tree (inner nodes and leaves are hashed
//! in different domains, a node without a sibling moves up unchanged), and the root is signed together with the number of
//! leaves. Whoever has one claim, its [proof](Receipts::proof) and the worker's key can check it alone, for ever: that is what
//! is stored with each vote. A batch of 1,024 costs one signature and one verification.
//!
//! A claim covers everything that a worker says, the ordinal of its lease and the output's size included, so that a keeper can forge
//! nothing of it. In which order votes came is the word of who took them.

use super::{
    bounds::{BATCH_MAX, INSTRUCTION_SET_BYTES_MAX, Rejection, SIGNATURE_BYTES},
    number, signing,
    work::UnitOutcome,
};
use crate::protocol::{
    announce::VALIDATION_CLASS_BYTES_MAX,
    checkpoint::Authors,
    fact::Vote,
    ids::{Attempt, Digest, JobId, PeerId, UnitIndex},
    outcome::{Outcome, Value},
    platform::Platform,
};
use iroh::SecretKey;
use std::{collections::BTreeMap, sync::Arc};

const LEAF: &[u8] = b"manyhands.receipt.v1";
/// The leaf of a value with a hash chain, which it covers.
const LEAF_WITH_CHAIN: &[u8] = b"manyhands.receipt.v2";
/// The leaf of a value that rests on other workers' checkpoints: with its chain, if there is one, and their keys.
const LEAF_ON_OTHERS: &[u8] = b"manyhands.receipt.v3";
/// Begins the leaf of a value whose unit had an input of its own, which it covers too.
const WITH_INPUT: &[u8] = b"manyhands.receipt.input.v1";
const NODE: &[u8] = b"manyhands.receipt.node.v1";
const ROOT: &[u8] = b"manyhands.receipt.root.v1";
/// Leaves of this version do not name the inputs of units. None is made any more.
const WITHOUT_INPUTS: u8 = 1;
const VERSION: u8 = 2;
/// Steps from a leaf to the root of the largest batch.
const DEPTH_MAX: usize = BATCH_MAX.next_power_of_two().trailing_zeros() as usize;
/// Version, two texts with their lengths, position and number of leaves, signature and path.
pub(super) const PROOF_BYTES_MAX: usize =
    1 + 1 + VALIDATION_CLASS_BYTES_MAX + 1 + INSTRUCTION_SET_BYTES_MAX + 2 + 2 + SIGNATURE_BYTES + DEPTH_MAX * 32;

/// What a worker says about one unit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Claim {
    /// The unit.
    pub unit: UnitIndex,
    /// Which execution.
    pub attempt: Attempt,
    /// How many votes the unit had when it was leased.
    pub ordinal: u32,
    /// What it computed.
    pub value: Value,
    /// The output's size.
    pub output_bytes: u64,
    /// What the unit was given, see [`input_digest`](crate::protocol::job::input_digest); none where the manifest says it.
    pub input: Option<Digest>,
    /// On whose checkpoints it rests.
    pub rests_on: Authors,
}

impl Claim {
    /// The claim in a vote on a unit with this input.
    pub fn of_vote(vote: &Vote, input: Option<Digest>) -> Self {
        let Vote { unit, attempt, ordinal, value, output_bytes, rests_on, .. } = *vote;
        Self { unit, attempt, ordinal, value, output_bytes, input, rests_on }
    }

    /// The claim in an outcome of a unit with this input; none in a failure, which is never vouched for.
    pub fn of_outcome(outcome: &UnitOutcome, input: Option<Digest>) -> Option<Self> {
        let UnitOutcome { unit, attempt, ordinal, output_bytes, rests_on, .. } = *outcome;
        match outcome.outcome {
            Outcome::Value(value) => Some(Self { unit, attempt, ordinal, value, output_bytes, input, rests_on }),
            Outcome::Failed(_) => None,
        }
    }

    fn leaf(&self, job: JobId, class: &[u8], instruction_set: &[u8]) -> Digest {
        let plain = self.leaf_without_input(job, class, instruction_set);
        self.input.map_or(plain, |input| Digest::of_parts(&[WITH_INPUT, plain.as_bytes(), input.as_bytes()]))
    }

    fn leaf_without_input(&self, job: JobId, class: &[u8], instruction_set: &[u8]) -> Digest {
        let (exit_kind, exit_detail) = number::of_exit(self.value.exit);
        let numbers = [self.unit.0, self.attempt.0, self.ordinal, exit_kind, exit_detail].map(u32::to_le_bytes);
        let sizes = [self.value.gas, self.output_bytes].map(u64::to_le_bytes);
        let authors = self.rests_on.to_bytes();
        let (domain, chain) = match &self.value.chain {
            _ if !authors.is_empty() => (LEAF_ON_OTHERS, self.value.chain.as_ref().map(|chain| chain.as_bytes().as_slice())),
            None => (LEAF, None),
            Some(chain) => (LEAF_WITH_CHAIN, Some(chain.as_bytes().as_slice())),
        };
        let output = self.value.output.as_bytes();
        let mut parts: Vec<&[u8]> =
            vec![domain, job.as_bytes(), numbers.as_flattened(), output, sizes.as_flattened(), class, instruction_set];
        parts.extend(chain);
        let has_chain = [u8::from(self.value.chain.is_some())];
        if !authors.is_empty() {
            parts.extend([&has_chain[..], &authors]);
        }
        Digest::of_parts(&parts)
    }
}

/// Why a receipt is not accepted.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ReceiptError {
    /// The proof is not one that [`Receipts::proof`] makes.
    #[error("malformed proof")]
    Malformed,
    /// The batch is empty or exceeds [`BATCH_MAX`].
    #[error("a batch of {found} receipts, from 1 to {BATCH_MAX} are allowed")]
    BatchSize {
        /// Its size.
        found: usize,
    },
    /// A text exceeds its bound.
    #[error("{what} has {found} bytes, at most {max} are allowed")]
    TooLong {
        /// Which.
        what: &'static str,
        /// Its length.
        found: usize,
        /// The bound.
        max: usize,
    },
    /// The worker did not sign this.
    #[error("the worker did not sign this claim")]
    BadSignature,
}

/// The receipts of one batch, before or after they are signed.
#[derive(Clone, Debug)]
pub struct Receipts {
    class: String,
    instruction_set: String,
    /// The leaves, then each layer above them, up to the root.
    layers: Vec<Vec<Digest>>,
}

impl Receipts {
    /// The receipts of these claims, in this order, made by an engine of this validation class on this instruction set.
    pub fn new(job: JobId, class: &str, instruction_set: &str, claims: &[Claim]) -> Result<Self, ReceiptError> {
        if claims.is_empty() || claims.len() > BATCH_MAX {
            return Err(ReceiptError::BatchSize { found: claims.len() });
        }
        for (what, text, max) in
            [("validation class", class, VALIDATION_CLASS_BYTES_MAX), ("instruction set", instruction_set, INSTRUCTION_SET_BYTES_MAX)]
        {
            if text.len() > max {
                return Err(ReceiptError::TooLong { what, found: text.len(), max });
            }
        }
        let leaves = claims.iter().map(|claim| claim.leaf(job, class.as_bytes(), instruction_set.as_bytes())).collect();
        let mut layers: Vec<Vec<Digest>> = vec![leaves];
        while let Some(below) = layers.last().filter(|layer| layer.len() > 1) {
            layers.push(below.chunks(2).map(|pair| if let [left, right] = pair { node(*left, *right) } else { pair[0] }).collect());
        }
        Ok(Self { class: class.to_owned(), instruction_set: instruction_set.to_owned(), layers })
    }

    fn count(&self) -> u16 {
        u16::try_from(self.layers[0].len()).expect("a batch has at most 1,024 receipts")
    }

    fn root(&self) -> Digest {
        self.layers.last().expect("there is at least the layer of leaves")[0]
    }

    /// The worker's signature on all of them.
    pub fn sign(&self, worker: &SecretKey) -> [u8; SIGNATURE_BYTES] {
        signing::sign(worker, &[ROOT, &self.count().to_le_bytes(), self.root().as_bytes()])
    }

    /// Checks the worker's signature on all of them.
    pub fn verify(&self, worker: PeerId, signature: &[u8; SIGNATURE_BYTES]) -> Result<(), ReceiptError> {
        verify_root(worker, self.count(), self.root(), signature)
    }

    /// What is needed to check the claim at `position` without the others: at most 500 bytes.
    ///
    /// # Panics
    /// When there is no such claim.
    pub fn proof(&self, position: usize, signature: &[u8; SIGNATURE_BYTES]) -> Arc<[u8]> {
        assert!(position < self.layers[0].len(), "the position lies within the batch");
        let mut proof = Vec::with_capacity(PROOF_BYTES_MAX);
        proof.push(VERSION);
        for text in [&self.class, &self.instruction_set] {
            proof.push(u8::try_from(text.len()).expect("checked when the receipts were made"));
            proof.extend_from_slice(text.as_bytes());
        }
        proof.extend_from_slice(&u16::try_from(position).expect("less than 1,024").to_le_bytes());
        proof.extend_from_slice(&self.count().to_le_bytes());
        proof.extend_from_slice(signature);
        let mut position = position;
        for layer in &self.layers {
            if let Some(sibling) = layer.get(position ^ 1) {
                proof.extend_from_slice(sibling.as_bytes());
            }
            position /= 2;
        }
        proof.into()
    }
}

/// The instruction set that a proof names. It is signed over: only for a proof that [`check`] has found good does it say anything.
pub fn platform(proof: &[u8]) -> Option<Platform> {
    Proof::parse(proof).map(|proof| Platform::named(proof.instruction_set))
}

/// Checks that `worker` signed `claim` about a unit of `job`.
pub fn check(proof: &[u8], worker: PeerId, job: JobId, claim: &Claim) -> Result<(), ReceiptError> {
    CheckedRoots::default().check(proof, worker, job, claim)
}

/// Roots whose signatures were checked, and whether they are good: claims that were signed together cost one verification, and so do those
/// that were not signed at all.
#[derive(Clone, Debug, Default)]
pub struct CheckedRoots(BTreeMap<SignedRoot, Result<(), ReceiptError>>);

/// A root with who signed it, over how many receipts, and how.
type SignedRoot = (PeerId, u16, Digest, [u8; SIGNATURE_BYTES]);

impl CheckedRoots {
    /// Checks that `worker` signed `claim` about a unit of `job`.
    pub fn check(&mut self, proof: &[u8], worker: PeerId, job: JobId, claim: &Claim) -> Result<(), ReceiptError> {
        let proof = Proof::parse(proof).ok_or(ReceiptError::Malformed)?;
        let leaf = match proof.version {
            WITHOUT_INPUTS => claim.leaf_without_input(job, proof.class, proof.instruction_set),
            _ => claim.leaf(job, proof.class, proof.instruction_set),
        };
        let root = proof.root(leaf).ok_or(ReceiptError::Malformed)?;
        let signed = (worker, proof.count, root, proof.signature);
        self.0.entry(signed).or_insert_with(|| verify_root(worker, proof.count, root, &proof.signature)).clone()
    }
}

/// Whether a proof covers what the unit was given. Those that were made before receipts named inputs do not.
pub fn covers_input(proof: &[u8]) -> bool {
    Proof::parse(proof).is_some_and(|proof| proof.version != WITHOUT_INPUTS)
}

/// The validation class and the instruction set that a proof names; the signature covers both. None when it is malformed.
pub fn made_with(proof: &[u8]) -> Option<(&[u8], &[u8])> {
    Proof::parse(proof).map(|proof| (proof.class, proof.instruction_set))
}

/// What a batch was signed as, and where in it a proof stands; see [`signed_together`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SignedTogether<'a> {
    /// The validation class.
    pub class: &'a str,
    /// The instruction set.
    pub instruction_set: &'a str,
    /// Which of the batch.
    pub position: usize,
    /// How many there are.
    pub count: usize,
    /// The signature on all of them.
    pub signature: [u8; SIGNATURE_BYTES],
}

/// The batch that a proof belongs to. With all of its claims the proofs can be made again, so they need not be kept beside those. None
/// for a malformed proof, and for one of an older version.
pub fn signed_together(proof: &[u8]) -> Option<SignedTogether<'_>> {
    let Proof { version, class, instruction_set, position, count, signature, path: _ } = Proof::parse(proof)?;
    let (class, instruction_set) = (core::str::from_utf8(class).ok()?, core::str::from_utf8(instruction_set).ok()?);
    let (position, count) = (usize::from(position), usize::from(count));
    (version == VERSION).then_some(SignedTogether { class, instruction_set, position, count, signature })
}

fn verify_root(worker: PeerId, count: u16, root: Digest, signature: &[u8; SIGNATURE_BYTES]) -> Result<(), ReceiptError> {
    let parts: [&[u8]; 3] = [ROOT, &count.to_le_bytes(), root.as_bytes()];
    signing::verify("receipt", worker, &parts, signature).map_err(|_: Rejection| ReceiptError::BadSignature)
}

fn node(left: Digest, right: Digest) -> Digest {
    Digest::of_parts(&[NODE, left.as_bytes(), right.as_bytes()])
}

struct Proof<'a> {
    version: u8,
    class: &'a [u8],
    instruction_set: &'a [u8],
    position: u16,
    count: u16,
    signature: [u8; SIGNATURE_BYTES],
    path: &'a [u8],
}

impl<'a> Proof<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (&version, mut rest) = bytes.split_first().filter(|_| bytes.len() <= PROOF_BYTES_MAX)?;
        let mut take = |length: usize| {
            let (taken, left) = rest.split_at_checked(length)?;
            rest = left;
            Some(taken)
        };
        let class_bytes = usize::from(take(1)?[0]);
        let class = take(class_bytes)?;
        let instruction_set_bytes = usize::from(take(1)?[0]);
        let instruction_set = take(instruction_set_bytes)?;
        let position = u16::from_le_bytes(take(2)?.try_into().ok()?);
        let count = u16::from_le_bytes(take(2)?.try_into().ok()?);
        let signature = take(SIGNATURE_BYTES)?.try_into().ok()?;
        let sensible = (version == VERSION || version == WITHOUT_INPUTS)
            && position < count
            && usize::from(count) <= BATCH_MAX
            && class.len() <= VALIDATION_CLASS_BYTES_MAX
            && instruction_set.len() <= INSTRUCTION_SET_BYTES_MAX;
        sensible.then_some(Self { version, class, instruction_set, position, count, signature, path: rest })
    }

    /// The root that follows from `leaf` and the path; none when the path has not exactly the length that it must have.
    fn root(&self, leaf: Digest) -> Option<Digest> {
        let (mut position, mut width) = (usize::from(self.position), usize::from(self.count));
        let (mut path, mut hash) = (self.path, leaf);
        while width > 1 {
            if position ^ 1 < width {
                let (sibling, rest) = path.split_at_checked(32)?;
                let sibling = Digest::try_from(sibling).ok()?;
                hash = if position % 2 == 0 { node(hash, sibling) } else { node(sibling, hash) };
                path = rest;
            }
            position /= 2;
            width = width.div_ceil(2);
        }
        path.is_empty().then_some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::outcome::Exit;

    const JOB: JobId = JobId([7; 32]);

    fn claims(count: u32) -> Vec<Claim> {
        (0..count)
            .map(|unit| Claim {
                unit: UnitIndex(unit),
                attempt: Attempt(unit % 3),
                ordinal: unit % 2,
                value: Value { exit: Exit::Code(0), output: Digest::of(&unit.to_le_bytes()), gas: 1000 + u64::from(unit), chain: None },
                output_bytes: 4,
                rests_on: Authors::NONE,
                input: None,
            })
            .collect()
    }

    fn key(seed: u8) -> SecretKey {
        SecretKey::from_bytes(&[seed; 32])
    }

    #[test]
    fn each_receipt_of_a_batch_of_any_size_can_be_checked_alone() {
        for count in [1, 2, 3, 4, 5, 7, 8, 9, 31, 1023, 1024] {
            let claims = claims(count);
            let receipts = Receipts::new(JOB, "wasmtime-48/1", "x86_64", &claims).unwrap();
            let signature = receipts.sign(&key(1));
            assert_eq!(receipts.verify(signing::peer_of(&key(1)), &signature), Ok(()));
            let mut checked = CheckedRoots::default();
            for position in (0..claims.len()).step_by(claims.len().div_ceil(9)).chain([claims.len() - 1]) {
                let proof = receipts.proof(position, &signature);
                assert!(proof.len() <= PROOF_BYTES_MAX);
                assert_eq!(check(&proof, signing::peer_of(&key(1)), JOB, &claims[position]), Ok(()), "{position} of {count}");
                assert_eq!(checked.check(&proof, signing::peer_of(&key(1)), JOB, &claims[position]), Ok(()));
                let mut forged = proof.to_vec();
                forged[2 + "wasmtime-48/1".len() + "x86_64".len() + 1 + 4] ^= 1;
                let bad = checked.check(&forged, signing::peer_of(&key(1)), JOB, &claims[position]);
                assert_eq!(bad, Err(ReceiptError::BadSignature), "also where the root was found good");
                assert_eq!(platform(&proof), Some(Platform::X86_64));
            }
        }
    }

    #[test]
    fn nothing_else_can_be_proven_with_it() {
        let claims = claims(5);
        let receipts = Receipts::new(JOB, "class", "isa", &claims).unwrap();
        let signature = receipts.sign(&key(1));
        let worker = signing::peer_of(&key(1));
        let proof = receipts.proof(2, &signature);
        let bad = Err(ReceiptError::BadSignature);
        assert_eq!(check(&proof, worker, JOB, &claims[3]), bad);
        assert_eq!(check(&proof, signing::peer_of(&key(2)), JOB, &claims[2]), bad);
        assert_eq!(check(&proof, worker, JobId([8; 32]), &claims[2]), bad);
        let claim = claims[2];
        let richer = Value { gas: claim.value.gas + 1, ..claim.value };
        for changed in [
            Claim { ordinal: 1 - claim.ordinal, ..claim },
            Claim { output_bytes: 5, ..claim },
            Claim { attempt: Attempt(9), ..claim },
            Claim { value: richer, ..claim },
            Claim { value: Value { chain: Some(Digest([1; 32])), ..claim.value }, ..claim },
        ] {
            assert_eq!(check(&proof, worker, JOB, &changed), bad);
        }
        for index in 0..proof.len() {
            let mut bent = proof.to_vec();
            bent[index] ^= 1;
            assert!(check(&bent, worker, JOB, &claim).is_err(), "byte {index} is covered");
            assert!(check(&proof[..index], worker, JOB, &claim).is_err(), "cut at {index}");
        }
    }

    #[test]
    fn a_receipt_covers_the_chain() {
        let mut claims = claims(3);
        claims[1].value.chain = Some(Digest([1; 32]));
        let receipts = Receipts::new(JOB, "class", "isa", &claims).unwrap();
        let worker = signing::peer_of(&key(1));
        let proof = receipts.proof(1, &receipts.sign(&key(1)));
        assert_eq!(check(&proof, worker, JOB, &claims[1]), Ok(()));
        for chain in [None, Some(Digest([2; 32]))] {
            let changed = Claim { value: Value { chain, ..claims[1].value }, ..claims[1] };
            assert_eq!(check(&proof, worker, JOB, &changed), Err(ReceiptError::BadSignature));
        }
    }

    #[test]
    fn a_receipt_covers_what_the_unit_was_given() {
        let mut claims = claims(3);
        let given = [None, Some(Digest([1; 32])), Some(Digest([2; 32]))];
        claims[1].input = given[1];
        let receipts = Receipts::new(JOB, "class", "isa", &claims).unwrap();
        let worker = signing::peer_of(&key(1));
        let proof = receipts.proof(1, &receipts.sign(&key(1)));
        for input in given {
            let expected = if input == given[1] { Ok(()) } else { Err(ReceiptError::BadSignature) };
            assert_eq!(check(&proof, worker, JOB, &Claim { input, ..claims[1] }), expected);
        }
        let mut older = proof.to_vec();
        older[0] = WITHOUT_INPUTS;
        assert_eq!(check(&older, worker, JOB, &claims[1]), Err(ReceiptError::BadSignature));
    }

    /// They are still good for what they were signed for, and are not taken for more.
    #[test]
    fn receipts_from_before_inputs_were_named_stay_good() {
        let claims = claims(3);
        let receipts = Receipts::new(JOB, "class", "isa", &claims).unwrap();
        let worker = signing::peer_of(&key(1));
        let mut older = receipts.proof(1, &receipts.sign(&key(1))).to_vec();
        older[0] = WITHOUT_INPUTS;
        let unit_with_input = Claim { input: Some(Digest([1; 32])), ..claims[1] };
        assert_eq!(check(&older, worker, JOB, &unit_with_input), Ok(()));
        assert!(!covers_input(&older));
    }

    #[test]
    fn a_batch_has_a_size() {
        assert_eq!(Receipts::new(JOB, "", "", &[]).unwrap_err(), ReceiptError::BatchSize { found: 0 });
        assert_eq!(Receipts::new(JOB, "", "", &claims(1025)).unwrap_err(), ReceiptError::BatchSize { found: 1025 });
        let long = "x".repeat(65);
        assert!(matches!(Receipts::new(JOB, &long, "", &claims(1)), Err(ReceiptError::TooLong { found: 65, max: 64, .. })));
    }

    #[test]
    #[ignore = "a measurement"]
    fn measure_a_batch() {
        let claims = claims(1024);
        let worker = signing::peer_of(&key(1));
        let start = std::time::Instant::now();
        let receipts = Receipts::new(JOB, "class", "isa", &claims).unwrap();
        let signature = receipts.sign(&key(1));
        println!("hashed and signed in {:?}", start.elapsed());
        let start = std::time::Instant::now();
        receipts.verify(worker, &signature).unwrap();
        println!("verified in {:?}", start.elapsed());
        let start = std::time::Instant::now();
        let proofs: Vec<_> = (0..1024).map(|position| receipts.proof(position, &signature)).collect();
        println!("proofs of {} bytes made in {:?}", proofs[0].len(), start.elapsed());
        let start = std::time::Instant::now();
        check(&proofs[5], worker, JOB, &claims[5]).unwrap();
        println!("one checked in {:?}", start.elapsed());
    }
}
