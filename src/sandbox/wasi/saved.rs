//! The world of a stepped unit as bytes, between two steps.
//!
//! What the task gives (arguments, standard input, input files, the seed, limits) is not in it: whoever continues the unit has
//! the same task.

use super::{
    World,
    clock::Clock,
    descriptors::{Descriptor, Descriptors, OpenFile},
    fs::{FileSystem, Kind, MAX_NAME, Node, Slot, Times},
};
use crate::sandbox::step::state::{NoState, Sink, Source, put_bytes};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng as _};
use std::{collections::BTreeMap, sync::Arc};

impl World {
    /// About the size of [`World::save`], in bytes.
    pub(in crate::sandbox) fn state_bytes(&self) -> u64 {
        (self.output.len() + self.log.len()) as u64 + self.files.used()
    }

    /// Appends the world.
    pub(in crate::sandbox) fn save(&self, out: &mut dyn Sink) {
        self.clock.save(out);
        // One more than the position; zero while nothing was drawn.
        let drawn = self.random.as_ref().map_or(0, |random| random.get_word_pos() + 1);
        out.put(&drawn.to_le_bytes());
        self.files.save(out);
        self.descriptors.save(out);
        put_bytes(out, &self.output);
        put_bytes(out, &self.log);
    }

    /// Brings a world that has just begun into a saved state.
    pub(in crate::sandbox) fn restore(&mut self, source: &mut Source<'_>) -> Result<(), NoState> {
        self.clock.restore(source)?;
        self.random = match source.u128()?.checked_sub(1) {
            None => None,
            // There are so many words before the generator repeats itself.
            Some(position) if position >> 68 != 0 => return Err(NoState),
            Some(position) => {
                let mut random = ChaCha20Rng::from_seed(self.given.seed);
                random.set_word_pos(position);
                Some(random)
            }
        };
        self.files.restore(source)?;
        self.descriptors = Descriptors::restore(source, &mut self.files, self.given.stdin.len())?;
        if self.files.has_orphans() {
            return Err(NoState);
        }
        let (output, log) = (source.bytes()?, source.bytes()?);
        let limits = self.limits();
        let files = self.files.used() <= limits.memory_bytes;
        if output.len() as u64 > limits.output_bytes || log.len() as u64 > limits.log_bytes || !files {
            return Err(NoState);
        }
        (self.output, self.log) = (output.to_vec(), log.to_vec());
        Ok(())
    }
}

impl Clock {
    fn save(&self, out: &mut dyn Sink) {
        out.put(&self.ticked.to_le_bytes());
        out.put(&self.slept.to_le_bytes());
    }

    fn restore(&mut self, source: &mut Source<'_>) -> Result<(), NoState> {
        (self.ticked, self.slept) = (source.u64()?, source.u64()?);
        Ok(())
    }
}

const FREE: u8 = 0;
const INPUT: u8 = 1;
const SCRATCH: u8 = 2;
const DIRECTORY: u8 = 3;

impl FileSystem {
    fn save(&self, out: &mut dyn Sink) {
        out.put(&self.used.to_le_bytes());
        out.put(&(self.slots.len() as u64).to_le_bytes());
        for slot in &self.slots {
            match slot.as_ref().map(|slot| &slot.kind) {
                None => out.put(&[FREE]),
                Some(Kind::Input(_)) => out.put(&[INPUT]),
                Some(Kind::Scratch(bytes)) => {
                    out.put(&[SCRATCH]);
                    put_bytes(out, bytes);
                }
                Some(Kind::Directory { entries, parent }) => {
                    out.put(&[DIRECTORY]);
                    out.put(&(parent.0 as u64).to_le_bytes());
                    out.put(&(entries.len() as u64).to_le_bytes());
                    for (name, node) in entries {
                        put_bytes(out, name.as_bytes());
                        out.put(&(node.0 as u64).to_le_bytes());
                    }
                }
            }
            if let Some(Slot { times: Times { accessed, modified }, .. }) = slot {
                out.put(&accessed.to_le_bytes());
                out.put(&modified.to_le_bytes());
            }
        }
        // Their order says which numbers new files get.
        out.put(&(self.free.len() as u64).to_le_bytes());
        for index in &self.free {
            out.put(&(*index as u64).to_le_bytes());
        }
    }

    /// Restores the files, which must be those of a new world. Nothing is open then, but the root.
    fn restore(&mut self, source: &mut Source<'_>) -> Result<(), NoState> {
        self.used = source.u64()?;
        let count = source.count(1)?;
        let inputs: Vec<Option<Arc<[u8]>>> = std::mem::take(&mut self.slots).into_iter().map(input_of).collect();
        for index in 0..count {
            let kind = restore_kind(source, inputs.get(index).and_then(Option::as_ref))?;
            let slot = match kind {
                None => None,
                Some(kind) => {
                    let times = Times { accessed: source.u64()?, modified: source.u64()? };
                    Some(Slot { kind, linked: false, open: u32::from(index == 0), times })
                }
            };
            self.slots.push(slot);
        }
        // Input files are never removed.
        let kept = |index: usize| matches!(self.slots.get(index), Some(Some(Slot { kind: Kind::Input(_), .. })));
        if !inputs.iter().enumerate().all(|(index, input)| input.is_none() || kept(index)) {
            return Err(NoState);
        }
        self.free = (0..source.count(8)?).map(|_| index(source)).collect::<Result<_, _>>()?;
        self.check_free()?;
        self.link_all()?;
        let content = |slot: &Slot| if let Kind::Scratch(bytes) = &slot.kind { bytes.len() as u64 } else { 0 };
        if self.used < self.slots.iter().flatten().map(content).sum() { Err(NoState) } else { Ok(()) }
    }

    /// The list of free places names each of them once.
    fn check_free(&self) -> Result<(), NoState> {
        let mut free = self.free.clone();
        free.sort_unstable();
        let found = self.slots.iter().enumerate().filter(|(_, slot)| slot.is_none()).map(|(index, _)| index);
        if found.eq(free) { Ok(()) } else { Err(NoState) }
    }

    /// Follows the tree from its root: each node is reached once at most, and directories know where they are.
    fn link_all(&mut self) -> Result<(), NoState> {
        let mut found = vec![(Node::ROOT, Node::ROOT)];
        while let Some((node, above)) = found.pop() {
            let slot = self.slots.get_mut(node.0).and_then(Option::as_mut).filter(|slot| !slot.linked).ok_or(NoState)?;
            slot.linked = true;
            match &slot.kind {
                Kind::Directory { entries, parent } if *parent == above => found.extend(entries.values().map(|entry| (*entry, node))),
                Kind::Directory { .. } => return Err(NoState),
                Kind::Input(_) | Kind::Scratch(_) if node == Node::ROOT => return Err(NoState),
                Kind::Input(_) | Kind::Scratch(_) => {}
            }
        }
        let lost = |slot: &Slot| match &slot.kind {
            Kind::Input(_) => true,
            Kind::Directory { entries, .. } => !entries.is_empty(),
            Kind::Scratch(_) => false,
        };
        if self.slots.iter().flatten().any(|slot| !slot.linked && lost(slot)) { Err(NoState) } else { Ok(()) }
    }

    /// Whether there is something that neither a directory nor a descriptor leads to.
    fn has_orphans(&self) -> bool {
        self.slots.iter().flatten().any(|slot| !slot.linked && slot.open == 0)
    }

    fn is_there(&self, node: Node, directory: bool) -> bool {
        self.slots.get(node.0).and_then(Option::as_ref).is_some_and(|slot| matches!(slot.kind, Kind::Directory { .. }) == directory)
    }
}

fn input_of(slot: Option<Slot>) -> Option<Arc<[u8]>> {
    match slot?.kind {
        Kind::Input(bytes) => Some(bytes),
        Kind::Scratch(_) | Kind::Directory { .. } => None,
    }
}

fn index(source: &mut Source<'_>) -> Result<usize, NoState> {
    usize::try_from(source.u64()?).map_err(|_| NoState)
}

fn restore_kind(source: &mut Source<'_>, input: Option<&Arc<[u8]>>) -> Result<Option<Kind>, NoState> {
    Ok(match source.byte()? {
        FREE => None,
        INPUT => Some(Kind::Input(Arc::clone(input.ok_or(NoState)?))),
        SCRATCH => Some(Kind::Scratch(source.bytes()?.to_vec())),
        DIRECTORY => {
            let parent = Node(index(source)?);
            let mut entries: BTreeMap<Box<str>, Node> = BTreeMap::new();
            for _ in 0..source.count(16)? {
                let name = core::str::from_utf8(source.bytes()?).map_err(|_| NoState)?;
                let plain = !matches!(name, "" | "." | "..") && name.len() <= MAX_NAME && !name.contains(['/', '\0']);
                // Sorted, so that one state has one encoding.
                let sorted = entries.last_key_value().map(|(last, _)| &**last).is_none_or(|last: &str| last < name);
                if !plain || !sorted {
                    return Err(NoState);
                }
                entries.insert(name.into(), Node(index(source)?));
            }
            Some(Kind::Directory { entries, parent })
        }
        _ => return Err(NoState),
    })
}

const CLOSED: u8 = 0;
const STDIN: u8 = 1;
const STDOUT: u8 = 2;
const STDERR: u8 = 3;
const OPEN_FILE: u8 = 4;
const OPEN_DIRECTORY: u8 = 5;

impl Descriptors {
    fn save(&self, out: &mut dyn Sink) {
        out.put(&(self.table.len() as u64).to_le_bytes());
        for descriptor in &self.table {
            match descriptor {
                None => out.put(&[CLOSED]),
                Some(Descriptor::Stdin { position }) => {
                    out.put(&[STDIN]);
                    out.put(&(*position as u64).to_le_bytes());
                }
                Some(Descriptor::Stdout) => out.put(&[STDOUT]),
                Some(Descriptor::Stderr) => out.put(&[STDERR]),
                Some(Descriptor::File(OpenFile { node, position, flags, readable, writable })) => {
                    out.put(&[OPEN_FILE]);
                    out.put(&(node.0 as u64).to_le_bytes());
                    out.put(&position.to_le_bytes());
                    out.put(&u32::from(*flags).to_le_bytes());
                    out.put(&[u8::from(*readable), u8::from(*writable)]);
                }
                Some(Descriptor::Directory(node)) => {
                    out.put(&[OPEN_DIRECTORY]);
                    out.put(&(node.0 as u64).to_le_bytes());
                }
            }
        }
    }

    fn restore(source: &mut Source<'_>, files: &mut FileSystem, stdin: usize) -> Result<Self, NoState> {
        let count = source.count(1)?;
        if count > super::descriptors::MAX_OPEN {
            return Err(NoState);
        }
        let mut table = Vec::with_capacity(count);
        for _ in 0..count {
            let descriptor = restore_descriptor(source)?;
            match &descriptor {
                Some(Descriptor::Stdin { position }) if *position > stdin => return Err(NoState),
                Some(Descriptor::File(file)) if !files.is_there(file.node, false) => return Err(NoState),
                Some(Descriptor::Directory(node)) if !files.is_there(*node, true) => return Err(NoState),
                _ => {}
            }
            if let Some(node) = descriptor.as_ref().and_then(Descriptor::node).filter(|node| *node != Node::ROOT) {
                files.opened(node);
            }
            table.push(descriptor);
        }
        Ok(Self { table })
    }
}

fn restore_descriptor(source: &mut Source<'_>) -> Result<Option<Descriptor>, NoState> {
    let flag = |byte: u8| if byte > 1 { Err(NoState) } else { Ok(byte == 1) };
    Ok(match source.byte()? {
        CLOSED => None,
        STDIN => Some(Descriptor::Stdin { position: index(source)? }),
        STDOUT => Some(Descriptor::Stdout),
        STDERR => Some(Descriptor::Stderr),
        OPEN_FILE => Some(Descriptor::File(OpenFile {
            node: Node(index(source)?),
            position: source.u64()?,
            flags: u16::try_from(source.u32()?).map_err(|_| NoState)?,
            readable: flag(source.byte()?)?,
            writable: flag(source.byte()?)?,
        })),
        OPEN_DIRECTORY => Some(Descriptor::Directory(Node(index(source)?))),
        _ => return Err(NoState),
    })
}
