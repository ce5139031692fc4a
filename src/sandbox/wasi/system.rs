//! Everything that is not a file: arguments, the environment, time, randomness, the end.

use super::{
    Call, Halt, Stop, clock,
    descriptors::Descriptor,
    guest::{self, Errno},
};
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng as _, SeedableRng as _},
};

const CLOCK_REALTIME: u32 = 0;
const CLOCK_MONOTONIC: u32 = 1;
const CLOCK_PROCESS: u32 = 2;
const CLOCK_THREAD: u32 = 3;

const EVENT_CLOCK: u8 = 0;
const EVENT_READ: u8 = 1;
const EVENT_WRITE: u8 = 2;

const SUBSCRIPTION_BYTES: u32 = 48;
const EVENT_BYTES: u32 = 32;

/// The most subscriptions of one poll: more than there can be open files.
const MAX_SUBSCRIPTIONS: u32 = 2048;

/// Gas for each subscription of a poll.
const SUBSCRIPTION_GAS: u64 = 20;

type Done = Result<(), Stop>;

pub(super) fn args_sizes_get(call: &mut Call<'_>, count: u32, bytes: u32) -> Done {
    let args = &call.world.given.args;
    let total: usize = args.iter().map(|arg| arg.len() + 1).sum();
    let number = |value: usize| u32::try_from(value).map_err(|_| Errno::Overflow);
    guest::put(call.memory, count, &number(args.len())?.to_le_bytes())?;
    Ok(guest::put(call.memory, bytes, &number(total)?.to_le_bytes())?)
}

pub(super) fn args_get(call: &mut Call<'_>, pointers: u32, bytes: u32) -> Done {
    let total: usize = call.world.given.args.iter().map(|arg| arg.len() + 5).sum();
    call.charge_bytes(total as u64)?;
    let (mut pointer, mut at) = (pointers, bytes);
    for arg in &call.world.given.args {
        guest::put(call.memory, pointer, &at.to_le_bytes())?;
        guest::put(call.memory, at, arg)?;
        at = guest::offset(at, u32::try_from(arg.len()).map_err(|_| Errno::Overflow)?)?;
        guest::put(call.memory, at, &[0])?;
        at = guest::offset(at, 1)?;
        pointer = guest::offset(pointer, 4)?;
    }
    Ok(())
}

pub(super) fn environ_sizes_get(call: &mut Call<'_>, count: u32, bytes: u32) -> Done {
    guest::put(call.memory, count, &[0; 4])?;
    Ok(guest::put(call.memory, bytes, &[0; 4])?)
}

pub(super) fn environ_get(_call: &mut Call<'_>, _pointers: u32, _bytes: u32) -> Done {
    Ok(())
}

pub(super) fn clock_res_get(call: &mut Call<'_>, clock: u32, result: u32) -> Done {
    if clock > CLOCK_THREAD {
        return Err(Errno::Inval.into());
    }
    Ok(guest::put(call.memory, result, &1_000u64.to_le_bytes())?)
}

pub(super) fn clock_time_get(call: &mut Call<'_>, clock: u32, _precision: u64, result: u32) -> Done {
    call.world.clock.tick();
    let time = time(call, clock)?;
    Ok(guest::put(call.memory, result, &time.to_le_bytes())?)
}

fn time(call: &Call<'_>, clock: u32) -> Result<u64, Errno> {
    match clock {
        CLOCK_REALTIME => Ok(clock::BIRTH.saturating_add(call.now())),
        CLOCK_MONOTONIC => Ok(call.now()),
        CLOCK_PROCESS | CLOCK_THREAD => Ok(call.world.clock.awake(call.world.given.limits.gas.saturating_sub(call.left))),
        _ => Err(Errno::Inval),
    }
}

pub(super) fn random_get(call: &mut Call<'_>, at: u32, length: u32) -> Done {
    // Each byte costs more than a copied one.
    call.charge(u64::from(length))?;
    let target = guest::slice_mut(call.memory, at, length)?;
    let seed = call.world.given.seed;
    call.world.random.get_or_insert_with(|| ChaCha20Rng::from_seed(seed)).fill_bytes(target);
    Ok(())
}

pub(super) fn sched_yield(call: &mut Call<'_>) -> Done {
    call.world.clock.tick();
    Ok(())
}

pub(super) fn proc_exit(_call: &mut Call<'_>, code: u32) -> Done {
    Err(Halt::Exit(code).into())
}

pub(super) fn proc_raise(_call: &mut Call<'_>, _signal: u32) -> Done {
    Err(Errno::Notsup.into())
}

pub(super) fn sock_accept(call: &mut Call<'_>, fd: u32, _flags: u32, _result: u32) -> Done {
    no_socket(call, fd)
}

pub(super) fn sock_recv(call: &mut Call<'_>, fd: u32, _pieces: u32, _count: u32, _flags: u32, _read: u32, _out_flags: u32) -> Done {
    no_socket(call, fd)
}

pub(super) fn sock_send(call: &mut Call<'_>, fd: u32, _pieces: u32, _count: u32, _flags: u32, _written: u32) -> Done {
    no_socket(call, fd)
}

pub(super) fn sock_shutdown(call: &mut Call<'_>, fd: u32, _how: u32) -> Done {
    no_socket(call, fd)
}

/// Nothing that is open is a socket, and the sandbox has none to give.
fn no_socket(call: &Call<'_>, fd: u32) -> Done {
    call.world.descriptors.get(fd)?;
    Err(Errno::Notsup.into())
}

/// What a subscription waits for.
struct Subscription {
    user_data: u64,
    kind: u8,
    wait: Wait,
}

enum Wait {
    /// Until the virtual time is this, in nanoseconds since the unit began.
    Until(u64),
    /// Nothing: files are always ready. So many bytes are there.
    Ready(u64),
    /// It failed.
    Failed(Errno),
}

pub(super) fn poll_oneoff(call: &mut Call<'_>, input: u32, output: u32, count: u32, result: u32) -> Done {
    if count == 0 || count > MAX_SUBSCRIPTIONS {
        return Err(Errno::Inval.into());
    }
    call.charge(u64::from(count) * SUBSCRIPTION_GAS)?;
    let subscriptions: Vec<Subscription> =
        (0..count).map(|index| subscription(call, guest::offset(input, index * SUBSCRIPTION_BYTES)?)).collect::<Result<_, Errno>>()?;
    let mut now = call.now();
    let waits = subscriptions.iter().all(|subscription| matches!(subscription.wait, Wait::Until(_)));
    if waits {
        let until = |subscription: &Subscription| match subscription.wait {
            Wait::Until(time) => time,
            Wait::Ready(_) | Wait::Failed(_) => u64::MAX,
        };
        let first = subscriptions.iter().map(until).min().unwrap_or(now);
        if !call.world.clock.sleep(first.saturating_sub(now), call.world.given.limits.wall) {
            return Err(Halt::SleepLimit.into());
        }
        now = now.max(first);
    }
    let mut events = 0;
    for subscription in &subscriptions {
        let (errno, bytes) = match subscription.wait {
            Wait::Until(time) if time > now => continue,
            Wait::Until(_) => (0, 0),
            Wait::Ready(bytes) => (0, bytes),
            Wait::Failed(errno) => (errno as u16, 0),
        };
        let mut event = [0; EVENT_BYTES as usize];
        event[..8].copy_from_slice(&subscription.user_data.to_le_bytes());
        event[8..10].copy_from_slice(&errno.to_le_bytes());
        event[10] = subscription.kind;
        event[16..24].copy_from_slice(&bytes.to_le_bytes());
        guest::put(call.memory, guest::offset(output, events * EVENT_BYTES)?, &event)?;
        events += 1;
    }
    Ok(guest::put(call.memory, result, &events.to_le_bytes())?)
}

fn subscription(call: &Call<'_>, at: u32) -> Result<Subscription, Errno> {
    let raw = guest::slice(call.memory, at, SUBSCRIPTION_BYTES)?;
    let user_data = guest::u64_at(raw, 0)?;
    let kind = raw[8];
    let wait = match kind {
        EVENT_CLOCK => clock_wait(call, guest::u32_at(raw, 16)?, guest::u64_at(raw, 24)?, raw[40] & 1 != 0),
        EVENT_READ | EVENT_WRITE => ready(call, guest::u32_at(raw, 16)?, kind),
        _ => return Err(Errno::Inval),
    };
    Ok(Subscription { user_data, kind, wait })
}

fn clock_wait(call: &Call<'_>, clock: u32, timeout: u64, absolute: bool) -> Wait {
    match (clock, absolute) {
        (CLOCK_REALTIME, true) => Wait::Until(timeout.saturating_sub(clock::BIRTH)),
        (CLOCK_MONOTONIC, true) => Wait::Until(timeout),
        (CLOCK_REALTIME | CLOCK_MONOTONIC, false) => Wait::Until(call.now().saturating_add(timeout)),
        // Sleeping until the processor has worked for some time would never end.
        (CLOCK_PROCESS | CLOCK_THREAD, _) => Wait::Failed(Errno::Notsup),
        _ => Wait::Failed(Errno::Inval),
    }
}

fn ready(call: &Call<'_>, fd: u32, kind: u8) -> Wait {
    let remaining = |length: usize, position: u64| (length as u64).saturating_sub(position);
    match call.world.descriptors.get(fd) {
        Err(errno) => Wait::Failed(errno),
        Ok(_) if kind == EVENT_WRITE => Wait::Ready(1 << 16),
        Ok(Descriptor::Stdin { position }) => Wait::Ready(remaining(call.world.given.stdin.len(), *position as u64)),
        Ok(Descriptor::File(file)) => {
            let length = call.world.files.content(file.node).map_or(0, <[u8]>::len);
            Wait::Ready(remaining(length, file.position))
        }
        Ok(Descriptor::Stdout | Descriptor::Stderr | Descriptor::Directory(_)) => Wait::Failed(Errno::Badf),
    }
}
