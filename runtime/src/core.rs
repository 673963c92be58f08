//! Which core a thread runs on, and how it gets off one.
//!
//! A system may wake a worker on the core of the thread that calls the kernel, though another core is free. The worker then comes to run when the caller has done all the work, sleeps again, and is
//! woken on the same core the next time: two threads take as long as one, for tenths of a second or longer. So a worker that finds itself there leaves. Elsewhere than on Linux nothing is known
//! and nothing done.

/// The number of a core that is none.
pub const NOWHERE: usize = usize::MAX;

/// The core on which the calling thread runs; [`NOWHERE`] if the system does not say.
#[cfg(target_os = "linux")]
pub fn current() -> usize {
    // SAFETY: the call takes nothing and gives a number.
    usize::try_from(unsafe { libc::sched_getcpu() }).unwrap_or(NOWHERE)
}

/// Moves the calling thread to another core than `core`, if it may run on another, and leaves it free to go anywhere it might before.
#[cfg(target_os = "linux")]
pub fn leave(core: usize) {
    const BYTES: usize = size_of::<libc::cpu_set_t>();
    if core >= 8 * BYTES {
        return;
    }
    // SAFETY: a set of cores is plain bits, for which all zeros stand for none.
    let mut allowed: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the system writes at most the bytes of the set, which is ours; thread 0 is the calling one.
    if unsafe { libc::sched_getaffinity(0, BYTES, &mut allowed) } != 0 {
        return;
    }
    let mut others = allowed;
    // SAFETY: `core` is below the number of bits of a set.
    unsafe { libc::CPU_CLR(core, &mut others) };
    // A set without cores is refused, and the thread stays.
    // SAFETY: the system reads the bytes of two sets that are ours.
    unsafe {
        libc::sched_setaffinity(0, BYTES, &others);
        libc::sched_setaffinity(0, BYTES, &allowed);
    }
}

#[cfg(not(target_os = "linux"))]
pub fn current() -> usize {
    NOWHERE
}

#[cfg(not(target_os = "linux"))]
pub fn leave(_: usize) {}

#[cfg(all(test, target_os = "linux", not(miri)))]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_leaves_is_elsewhere_and_may_come_back() {
        let cores = std::thread::available_parallelism().map_or(1, |n| n.get());
        let before = current();
        leave(before);
        assert!(cores == 1 || current() != before);
        assert_eq!(std::thread::available_parallelism().map_or(1, |n| n.get()), cores);
        leave(NOWHERE);
    }
}
