//! A small allocator: free lists by size over memory that only grows.
//!
//! Sizes are rounded up to classes, four for each doubling, so at most a quarter of a block is lost. A freed block goes
//! on its class's list and serves the next request of that class; the last block before the unused memory grows,
//! shrinks and vanishes in place, so a growing vector is seldom copied. Blocks are never joined or cut: a workload with
//! wildly varying sizes and a long life wants another allocator.
//!
//! The core works on addresses and asks [`Memory`] for more, so that the tests run it in an ordinary array.

use core::alloc::Layout;
use core::marker::PhantomData;

/// Every block starts at a multiple of this, which suits SIMD values and leaves room for a list's link.
const ALIGN: usize = 16;

/// Blocks up to this size have classes `ALIGN` apart.
const SMALL_MAX: usize = 4 * ALIGN;

/// Enough classes for blocks of 2^32 bytes.
const CLASSES: usize = 4 * (32 - SMALL_MAX.ilog2() as usize) + 4;

/// Where a heap gets its memory.
pub(crate) trait Memory {
    /// More memory, directly behind what was given before: the new limit, at least the wanted one, or nothing where
    /// there is no more.
    fn grow(wanted: usize) -> Option<usize>;
}

/// The allocator's state. An unused heap is all zero, so that a static one takes no room in the module.
pub(crate) struct Heap<M> {
    /// The first address that was never handed out, or was given back.
    top: usize,
    /// The end of the memory; 0 before the first allocation.
    limit: usize,
    /// The first free block of each class, 0 for none. A free block holds the address of the next.
    free: [usize; CLASSES],
    memory: PhantomData<M>,
}

impl<M: Memory> Heap<M> {
    /// A heap without memory.
    pub(crate) const fn new() -> Self {
        Self { top: 0, limit: 0, free: [0; CLASSES], memory: PhantomData }
    }

    /// True before [`Heap::begin`].
    pub(crate) const fn is_unused(&self) -> bool {
        self.limit == 0
    }

    /// Takes possession of the memory from `start` to `limit`.
    pub(crate) const fn begin(&mut self, start: usize, limit: usize) {
        self.top = start;
        self.limit = limit;
    }

    /// The address of a new block, or nothing where memory is exhausted.
    ///
    /// # Safety
    /// The memory between `begin`'s addresses and all that `M` gave belongs to this heap alone.
    pub(crate) unsafe fn allocate(&mut self, layout: Layout) -> Option<usize> {
        let (class, size) = class_of(layout.size());
        let first = self.free[class];
        if first != 0 && first.is_multiple_of(layout.align()) {
            // SAFETY: a listed block is free, aligned as asked for and holds the next one's address.
            self.free[class] = unsafe { *(first as *const usize) };
            return Some(first);
        }
        let start = self.top.checked_next_multiple_of(layout.align().max(ALIGN))?;
        self.raise(start.checked_add(size)?)?;
        Some(start)
    }

    /// Takes a block back.
    ///
    /// # Safety
    /// `address` came from this heap for `layout` and is not used any more.
    pub(crate) unsafe fn release(&mut self, address: usize, layout: Layout) {
        let (class, size) = class_of(layout.size());
        if address + size == self.top {
            self.top = address;
        } else {
            // SAFETY: the block is free, aligned to `ALIGN` and at least `ALIGN` long, so it can hold an address.
            unsafe { *(address as *mut usize) = self.free[class] };
            self.free[class] = address;
        }
    }

    /// Gives the block `new_size` bytes where it stands; false where it must move.
    pub(crate) fn resize_in_place(&mut self, address: usize, layout: Layout, new_size: usize) -> bool {
        let (_, old) = class_of(layout.size());
        let (_, new) = class_of(new_size);
        if old == new {
            return true;
        }
        address + old == self.top && address.checked_add(new).and_then(|top| self.raise(top)).is_some()
    }

    /// Moves the top of the used memory, asking for more memory where it must.
    fn raise(&mut self, top: usize) -> Option<()> {
        if top > self.limit {
            self.limit = M::grow(top)?;
        }
        self.top = top;
        Some(())
    }
}

/// The class of a request and the size of that class's blocks, a multiple of `ALIGN`.
const fn class_of(size: usize) -> (usize, usize) {
    if size <= SMALL_MAX {
        let class = if size == 0 { 0 } else { (size - 1) / ALIGN };
        return (class, (class + 1) * ALIGN);
    }
    let doubling = (size - 1).ilog2() as usize;
    let step = 1 << (doubling - 2);
    let quarter = (size - 1) / step - 4;
    (4 + 4 * (doubling - SMALL_MAX.ilog2() as usize) + quarter, (quarter + 5) * step)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARENA_BYTES: usize = 1 << 23;

    fn arena() -> Vec<u128> {
        alloc::vec![0; ARENA_BYTES / 16]
    }

    /// There is the arena and no more.
    struct Fixed;

    impl Memory for Fixed {
        fn grow(_: usize) -> Option<usize> {
            None
        }
    }

    fn heap_in(arena: &mut [u128]) -> Heap<Fixed> {
        let mut heap = Heap::new();
        let start = arena.as_mut_ptr() as usize;
        assert!(heap.is_unused());
        heap.begin(start, start + ARENA_BYTES);
        heap
    }

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).expect("a valid layout")
    }

    #[test]
    fn classes_hold_their_sizes_in_order_and_lose_at_most_a_quarter() {
        let mut last = (0, 0);
        for size in 1..300_000 {
            let (class, block) = class_of(size);
            assert!(block >= size && block % ALIGN == 0);
            assert!(size <= SMALL_MAX || block <= size + size / 4 + 1, "{size} in {block}");
            assert_eq!(class_of(block), (class, block));
            if (class, block) != last {
                assert!(size == 1 || (class == last.0 + 1 && block > last.1));
                last = (class, block);
            }
        }
        assert!(class_of(u32::MAX as usize).0 < CLASSES);
    }

    #[test]
    fn the_last_block_grows_where_it_stands_and_others_move() {
        let mut arena = arena();
        let mut heap = heap_in(&mut arena);
        // SAFETY: the arena outlives the heap and nothing else uses it.
        let (first, second) = unsafe { (heap.allocate(layout(100, 8)), heap.allocate(layout(100, 8))) };
        let (first, second) = (first.expect("room"), second.expect("room"));
        assert!(!heap.resize_in_place(first, layout(100, 8), 1000));
        assert!(heap.resize_in_place(second, layout(100, 8), 1000));
        assert!(!heap.resize_in_place(second, layout(1000, 8), 2 * ARENA_BYTES));
        // SAFETY: as above; the block was resized to this layout.
        unsafe { heap.release(second, layout(1000, 8)) };
        // SAFETY: as above.
        assert_eq!(unsafe { heap.allocate(layout(5000, 8)) }, Some(second));
    }

    #[test]
    fn a_freed_block_serves_the_next_request_of_its_class() {
        let mut arena = arena();
        let mut heap = heap_in(&mut arena);
        // SAFETY: the arena outlives the heap and nothing else uses it; each block is released once.
        unsafe {
            let first = heap.allocate(layout(100, 8)).expect("room");
            let _after = heap.allocate(layout(100, 8)).expect("room");
            heap.release(first, layout(100, 8));
            assert_eq!(heap.allocate(layout(97, 8)), Some(first));
        }
    }

    /// Blocks of random sizes and alignments are filled, resized and released; none may touch another's bytes.
    #[test]
    fn blocks_never_overlap() {
        let mut arena = arena();
        let mut heap = heap_in(&mut arena);
        let mut live: Vec<(usize, Layout, u8)> = Vec::new();
        let mut state = 1_u64;
        for round in 0..20_000_u32 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let draw = (state >> 33) as usize;
            if draw % 5 < 3 && live.len() < 60 {
                let wanted = layout(1 + draw % 2500, 1 << (draw % 7));
                // SAFETY: the arena outlives the heap and nothing else uses it.
                let address = unsafe { heap.allocate(wanted) }.expect("60 blocks fit");
                assert_eq!(address % wanted.align(), 0);
                // SAFETY: the block is this long and inside the arena.
                unsafe { core::ptr::write_bytes(address as *mut u8, round as u8, wanted.size()) };
                live.push((address, wanted, round as u8));
            } else if !live.is_empty() {
                let (address, held, mark) = live.swap_remove(draw % live.len());
                // SAFETY: the block is live and this long.
                let bytes = unsafe { core::slice::from_raw_parts(address as *const u8, held.size()) };
                assert!(bytes.iter().all(|byte| *byte == mark));
                // SAFETY: the block came from this heap with this layout and is dropped here.
                unsafe { heap.release(address, held) };
            }
        }
    }
}
