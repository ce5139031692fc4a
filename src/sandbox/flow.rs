//! The classes of a function's locals, point by point.
//!
//! A local is often used for several things, because compilers reuse them; so its class belongs to a point of the program and
//! not to the local. Where paths meet, classes join ([`Class::join`] says how, for one place). A local that is raw on one
//! path and fixed on another is [`Class::Mixed`]: nothing can be said about its bits any more. As long as nobody looks at
//! them that is harmless; when somebody does, the local is *pinned* and the function is looked at again: from then on every
//! raw value that is set to it is made canonical there.

use super::nan::Class;
use wasmparser::{Operator as O, ValType};

/// Work on states, as locals times joins, beyond which a function is treated without them: all its locals are pinned.
const MAX_WORK: u64 = 1 << 25;

/// The classes of all locals that are followed, at one point.
type State = Vec<Class>;

enum Block {
    Plain,
    Loop {
        number: usize,
        assumed: Option<State>,
    },
    /// The state at its beginning, until the `else`.
    If {
        entry: Option<State>,
    },
}

struct Frame {
    block: Block,
    /// What branches to its end bring; `None` while there is none.
    exit: Option<State>,
}

/// Follows the locals through one function.
pub(super) struct Flow {
    /// For each local its place in a state, if it is followed.
    places: Vec<Option<u32>>,
    entry: State,
    pinned: Vec<bool>,
    /// `None` in code that is never reached.
    state: Option<State>,
    frames: Vec<Frame>,
    /// What is known to come around each loop.
    loops: Vec<Option<State>>,
    next_loop: usize,
    newly_pinned: bool,
    /// Whether another round is needed.
    pub(super) changed: bool,
}

impl Flow {
    /// `parameters` come first; `joins` is the number of places where states may meet.
    pub(super) fn new(parameters: &[ValType], declared: &[(u32, ValType)], joins: u64) -> Self {
        let followed = |value_type: &ValType| matches!(value_type, ValType::F32 | ValType::F64 | ValType::V128);
        let (mut places, mut entry) = (Vec::new(), Vec::new());
        let given = parameters.iter().map(|value_type| (1, *value_type, Class::Fixed));
        for (count, value_type, class) in given.chain(declared.iter().map(|(count, found)| (*count, *found, Class::Neutral))) {
            for _ in 0..count {
                places.push(followed(&value_type).then(|| u32::try_from(entry.len()).expect("locals are counted in 32 bits")));
                if followed(&value_type) {
                    entry.push(class);
                }
            }
        }
        let mut flow = Self {
            pinned: vec![false; entry.len()],
            places,
            entry,
            state: None,
            frames: Vec::new(),
            loops: Vec::new(),
            next_loop: 0,
            newly_pinned: false,
            changed: false,
        };
        if (flow.entry.len() as u64).saturating_mul(joins) > MAX_WORK {
            flow.follow_none();
        }
        flow
    }

    /// Gives up precision: all locals keep their bits.
    pub(super) fn follow_none(&mut self) {
        self.places.fill(None);
        self.entry.clear();
        self.pinned.clear();
        self.loops.clear();
        self.newly_pinned = false;
    }

    /// Begins a round.
    pub(super) fn restart(&mut self) {
        if self.newly_pinned {
            self.loops.clear();
        }
        (self.newly_pinned, self.changed, self.next_loop) = (false, false, 0);
        self.state = Some(self.entry.clone());
        self.frames.clear();
        self.frames.push(Frame { block: Block::Plain, exit: None });
    }

    fn place(&self, local: u32) -> Option<usize> {
        let place = self.places[local as usize]? as usize;
        (!self.pinned[place]).then_some(place)
    }

    /// The class of what is in a local now.
    pub(super) fn get(&self, local: u32) -> Class {
        match (self.place(local), &self.state) {
            (Some(place), Some(state)) => state[place],
            _ => Class::Fixed,
        }
    }

    /// Sets a local; `false` when it takes no raw and no mixed values.
    pub(super) fn set(&mut self, local: u32, class: Class) -> bool {
        let Some(place) = self.place(local) else {
            return false;
        };
        let Some(state) = &mut self.state else {
            return false;
        };
        state[place] = class;
        true
    }

    /// Somebody sees the bits of a mixed value of this origin.
    pub(super) fn pin(&mut self, origin: u32) {
        let pinned = &mut self.pinned[origin as usize];
        if !*pinned {
            *pinned = true;
            (self.newly_pinned, self.changed) = (true, true);
        }
    }

    /// Joins two values of one place. `origin` is the place of the local, where there is one.
    pub(super) fn join(&mut self, origin: Option<u32>, a: Class, b: Class) -> Class {
        match (a, b) {
            (Class::Mixed(a), Class::Mixed(b)) => {
                if a != b {
                    self.pin(a.max(b));
                }
                Class::Mixed(a.min(b))
            }
            (Class::Mixed(_), _) => a,
            (_, Class::Mixed(_)) => b,
            (Class::Neutral | Class::Fixed | Class::Raw(_), Class::Neutral | Class::Fixed | Class::Raw(_)) => {
                let joined = a.join(b);
                let spoiled = joined == Class::Fixed && (a.raw().is_some() || b.raw().is_some());
                match (spoiled, origin) {
                    (true, Some(origin)) => self.spoil(origin, a, b),
                    (true | false, _) => joined,
                }
            }
        }
    }

    /// A local is raw on one path and not on the other. A vector can be divided in two ways, so it is pinned at once.
    fn spoil(&mut self, origin: u32, a: Class, b: Class) -> Class {
        let scalar = |class: Class| class.raw().is_none_or(|shape| !shape.is_vector());
        if scalar(a) && scalar(b) {
            return Class::Mixed(origin);
        }
        self.pin(origin);
        Class::Fixed
    }

    fn join_states(&mut self, a: Option<State>, b: Option<&State>) -> Option<State> {
        match (a, b) {
            (None, None) => None,
            (Some(a), None) => Some(a),
            (None, Some(b)) => Some(b.clone()),
            (Some(mut a), Some(b)) => {
                for (place, (into, from)) in (0..).zip(a.iter_mut().zip(b)) {
                    if *into != *from {
                        *into = if self.pinned[place as usize] { Class::Fixed } else { self.join(Some(place), *into, *from) };
                    }
                }
                Some(a)
            }
        }
    }

    /// An instruction of the control flow, after its operands were taken care of.
    pub(super) fn control(&mut self, op: &O<'_>) {
        match op {
            O::Block { .. } => self.frames.push(Frame { block: Block::Plain, exit: None }),
            O::Loop { .. } => self.enter_loop(),
            O::If { .. } => self.frames.push(Frame { block: Block::If { entry: self.state.clone() }, exit: None }),
            O::Else => self.turn_to_else(),
            O::End => self.leave_block(),
            O::Br { relative_depth } => {
                self.branch(*relative_depth);
                self.state = None;
            }
            O::BrIf { relative_depth } => self.branch(*relative_depth),
            O::BrTable { targets } => {
                for depth in targets.targets().flatten().chain([targets.default()]) {
                    self.branch(depth);
                }
                self.state = None;
            }
            O::Return | O::ReturnCall { .. } | O::ReturnCallIndirect { .. } | O::Unreachable => self.state = None,
            // Nothing else moves control inside a function.
            _ => {}
        }
    }

    fn enter_loop(&mut self) {
        let number = self.next_loop;
        self.next_loop += 1;
        if self.loops.len() == number {
            self.loops.push(None);
        }
        if let Some(state) = self.state.take() {
            let around = self.loops[number].take();
            self.state = self.join_states(Some(state), around.as_ref());
            self.loops[number] = around;
        }
        self.frames.push(Frame { block: Block::Loop { number, assumed: self.state.clone() }, exit: None });
    }

    fn turn_to_else(&mut self) {
        let state = self.state.take();
        let Some(mut frame) = self.frames.pop() else { return };
        frame.exit = self.join_states(frame.exit, state.as_ref());
        if let Block::If { entry } = &mut frame.block {
            self.state = entry.take();
        }
        frame.block = Block::Plain;
        self.frames.push(frame);
    }

    fn leave_block(&mut self) {
        let state = self.state.take();
        let Some(frame) = self.frames.pop() else { return };
        let mut after = self.join_states(frame.exit, state.as_ref());
        if let Block::If { entry } = &frame.block {
            after = self.join_states(after, entry.as_ref());
        }
        self.state = after;
    }

    fn branch(&mut self, depth: u32) {
        let Some(state) = self.state.take() else { return };
        let Some(target) = self.frames.len().checked_sub(1 + depth as usize) else { return };
        if let Block::Loop { number, assumed } = &mut self.frames[target].block {
            let (number, before) = (*number, assumed.take());
            let joined = self.join_states(before.clone(), Some(&state));
            self.changed |= joined != before;
            let around = self.loops[number].take();
            self.loops[number] = self.join_states(around, Some(&state));
            if let Block::Loop { assumed, .. } = &mut self.frames[target].block {
                *assumed = before;
            }
        } else {
            let exit = self.frames[target].exit.take();
            self.frames[target].exit = self.join_states(exit, Some(&state));
        }
        self.state = Some(state);
    }
}
