//! The pool: threads that wait for a kernel, take chunks of it, and go back to waiting.
//!
//! Chunks are cut by the kernel's extent and grain alone, so no result depends on the number of threads. Each thread begins with chunks of its own, the same ones in
//! every run of a kernel, so that it finds in its cache what it read there in the last step; when it has none left it takes those of others.
//!
//! A worker spins for a moment before it sleeps, since the next kernel of a step usually comes at once. Between threads that are awake a job begins and ends by three
//! atomic numbers; the lock is for those that sleep. A worker counts itself as busy before it looks whether the job is open, and the caller closes the job before
//! it looks whether anybody is busy, so one of them sees the other (all of these are `SeqCst`).

use std::cell::UnsafeCell;
use std::ffi::c_void;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crate::core;

/// A compiled kernel: the pointers of its buffers, and the range of its parallel variable.
pub type Kernel = unsafe extern "C" fn(*const *mut u8, u64, u64);

/// Looks this many times for a change before going to sleep; about 20 microseconds.
const SPINS: u32 = 4000;

/// What [`Shared::open`] is while there is no job.
const CLOSED: u64 = 0;
/// What it is when the pool ends.
const END: u64 = u64::MAX;

/// A persistent set of threads. Dropping it joins them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the thread whose kernel runs, so that calls from several threads take turns. The number of the last job.
    turn: Mutex<u64>,
}

/// A kernel being run.
#[derive(Clone, Copy)]
struct Job {
    kernel: Kernel,
    buffers: *const *mut u8,
    extent: u64,
    grain: u64,
    /// Into how many shares the chunks are divided.
    shares: u64,
}

struct Shared {
    /// Written only while `open` is `CLOSED` and `busy` is 0, read only by the caller and by workers that are busy and have seen it open.
    job: UnsafeCell<Job>,
    /// The number of the job that workers may take up.
    open: AtomicU64,
    /// Workers that may be reading or running the job.
    busy: AtomicUsize,
    /// For each thread's share of the chunks, the first that nobody has taken.
    next: Vec<Share>,
    /// Workers that sleep or are about to.
    asleep: AtomicUsize,
    /// The core on which the caller opened the job.
    caller: AtomicUsize,
    /// Whether the caller sleeps or is about to.
    waiting: AtomicBool,
    /// For those that sleep: nothing is behind the lock but the order of looking and waiting.
    sleep: Mutex<()>,
    /// A new job or the end has come.
    begun: Condvar,
    /// No worker is busy any more.
    finished: Condvar,
}

// SAFETY: `job` is the only field that is not `Sync` by itself. It is written by one thread at a time, the holder of `Pool::turn`, when no worker can read it (see the
// field), and what it points to is used only between the start of a job and its end, while `Pool::run` keeps its caller waiting; the kernel's contract says
// that its chunks may run on any threads at once.
unsafe impl Sync for Shared {}
// SAFETY: as above.
unsafe impl Send for Shared {}

/// A counter that shares its cache lines with nothing.
#[repr(align(128))]
struct Share(AtomicU64);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in this file panics while it holds a lock, so a poisoned state is whole.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Job {
    /// The iterations of a share: whole chunks.
    fn share(&self, number: u64) -> (u64, u64) {
        let chunks = self.extent.div_ceil(self.grain);
        // No product of a number of chunks and one of threads comes near 2^64: a chunk is work for microseconds.
        let first = |share: u64| (chunks * share / self.shares).saturating_mul(self.grain).min(self.extent);
        (first(number), first(number + 1))
    }

    /// Takes and runs chunks until none is left, from the share `own` on.
    fn work(&self, next: &[Share], own: u64) {
        for turn in 0..self.shares {
            let share = (own + turn) % self.shares;
            let (_, end) = self.share(share);
            loop {
                let begin = next[share as usize].0.fetch_add(self.grain, Ordering::Relaxed);
                if begin >= end {
                    break;
                }
                // SAFETY: whoever started the job promised that the kernel may be called for any part of 0..extent.
                unsafe { (self.kernel)(self.buffers, begin, begin.saturating_add(self.grain).min(end)) };
            }
        }
    }
}

impl Pool {
    /// A pool that runs kernels on `threads` threads, the calling one among them. 0 counts as 1.
    ///
    /// If the system refuses a thread, the pool has fewer.
    pub fn new(threads: usize) -> Pool {
        unsafe extern "C" fn nothing(_: *const *mut u8, _: u64, _: u64) {}
        let none = Job { kernel: nothing, buffers: std::ptr::null(), extent: 0, grain: 1, shares: 1 };
        let shared = Arc::new(Shared {
            job: UnsafeCell::new(none),
            open: AtomicU64::new(CLOSED),
            busy: AtomicUsize::new(0),
            next: (0..threads.max(1)).map(|_| Share(AtomicU64::new(0))).collect(),
            asleep: AtomicUsize::new(0),
            caller: AtomicUsize::new(core::NOWHERE),
            waiting: AtomicBool::new(false),
            sleep: Mutex::new(()),
            begun: Condvar::new(),
            finished: Condvar::new(),
        });
        let start = |i: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("nn-rt-{i}")).spawn(move || shared.worker(i as u64)).ok()
        };
        let workers = (1..threads.max(1)).map_while(start).collect();
        Pool { shared, workers, turn: Mutex::new(0) }
    }

    /// The number of threads that run kernels, the calling one among them.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The pool as compiled code takes it.
    pub fn as_ptr(&self) -> *const c_void {
        (self as *const Pool).cast()
    }

    /// Runs `kernel` over `0..extent` in chunks of `grain`, and returns when all are done.
    ///
    /// # Safety
    /// `kernel` may be called with `buffers` for any parts of `0..extent` on any threads at once, and does not unwind.
    pub unsafe fn run(&self, kernel: Kernel, buffers: *const *mut u8, extent: u64, grain: u64) {
        let grain = grain.max(1);
        if self.workers.is_empty() || extent <= grain {
            let alone = [Share(AtomicU64::new(0))];
            return Job { kernel, buffers, extent, grain, shares: 1 }.work(&alone, 0);
        }
        let job = Job { kernel, buffers, extent, grain, shares: self.threads() as u64 };
        let mut number = lock(&self.turn);
        *number += 1;
        self.shared.begin(job, *number);
        job.work(&self.shared.next, 0);
        self.shared.finish();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.open.store(END, Ordering::SeqCst);
        self.shared.wake();
        for worker in self.workers.drain(..) {
            // A worker ends by a panic only if a kernel unwinds, which it never does.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Opens a job. No other is open, and no worker is busy with one.
    fn begin(&self, job: Job, number: u64) {
        // SAFETY: the caller holds the turn, the last job was closed by `finish`, and no worker was busy after that; one that counts itself as busy since
        // then reads the job only once it is open.
        unsafe { *self.job.get() = job };
        for (share, next) in (0..job.shares).zip(&self.next) {
            next.0.store(job.share(share).0, Ordering::Relaxed);
        }
        self.caller.store(core::current(), Ordering::Relaxed);
        self.open.store(number, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        drop(lock(&self.sleep));
        self.begun.notify_all();
    }

    /// Closes the job, so that workers still asleep are not waited for, and waits for those that have it.
    fn finish(&self) {
        self.open.store(CLOSED, Ordering::SeqCst);
        let done = || self.busy.load(Ordering::SeqCst) == 0;
        if spin(done) {
            return;
        }
        self.waiting.store(true, Ordering::SeqCst);
        let mut guard = lock(&self.sleep);
        while !done() {
            guard = self.finished.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.waiting.store(false, Ordering::SeqCst);
    }

    fn worker(&self, own: u64) {
        let mut seen = CLOSED;
        loop {
            self.await_job(seen);
            let core = core::current();
            if core == self.caller.load(Ordering::Relaxed) {
                core::leave(core);
            }
            self.busy.fetch_add(1, Ordering::SeqCst);
            let number = self.open.load(Ordering::SeqCst);
            if number == END {
                return;
            }
            // It may have come and gone in between.
            if number != CLOSED && number != seen {
                seen = number;
                // SAFETY: the job is open, and `finish` waits for a worker that was busy before it was closed.
                let job = unsafe { *self.job.get() };
                job.work(&self.next, own);
            }
            self.busy.fetch_sub(1, Ordering::SeqCst);
            if self.waiting.load(Ordering::SeqCst) {
                drop(lock(&self.sleep));
                self.finished.notify_one();
            }
        }
    }

    /// Returns when a job after number `seen` is open, or the end has come.
    fn await_job(&self, seen: u64) {
        let ready = || {
            let number = self.open.load(Ordering::SeqCst);
            number != CLOSED && number != seen
        };
        if spin(ready) {
            return;
        }
        let mut guard = lock(&self.sleep);
        self.asleep.fetch_add(1, Ordering::SeqCst);
        while !ready() {
            guard = self.begun.wait(guard).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        self.asleep.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Asks again and again for a moment; whether the answer became yes.
fn spin(ready: impl Fn() -> bool) -> bool {
    for _ in 0..if cfg!(miri) { 4 } else { SPINS } {
        if ready() {
            return true;
        }
        std::hint::spin_loop();
    }
    false
}

/// Runs a kernel over `0..extent` in chunks of `grain` on a pool, or at once on the caller if `pool` is null.
///
/// # Safety
/// `pool` is null or from [`Pool::as_ptr`] or [`nn_rt_pool_new`] of a pool that lives; the rest as for [`Pool::run`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nn_rt_parallel(
    pool: *const c_void,
    kernel: Kernel,
    buffers: *const *mut u8,
    extent: u64,
    grain: u64,
) {
    if pool.is_null() {
        // SAFETY: the whole range is one of its parts.
        unsafe { kernel(buffers, 0, extent) };
        return;
    }
    // SAFETY: the caller promised that a pool that is not null is a living `Pool`.
    let pool = unsafe { &*pool.cast::<Pool>() };
    // SAFETY: the caller's promise is the one that `run` asks for.
    unsafe { pool.run(kernel, buffers, extent, grain) };
}

/// Makes a pool of `threads` threads for C code; to be freed by [`nn_rt_pool_free`].
#[unsafe(no_mangle)]
pub extern "C" fn nn_rt_pool_new(threads: usize) -> *mut c_void {
    Box::into_raw(Box::new(Pool::new(threads))).cast()
}

/// Joins and frees a pool; null does nothing.
///
/// # Safety
/// `pool` is null or from [`nn_rt_pool_new`], and not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn nn_rt_pool_free(pool: *mut c_void) {
    if !pool.is_null() {
        // SAFETY: the pointer came from `Box::into_raw` in `nn_rt_pool_new`, and is given up here.
        drop(unsafe { Box::from_raw(pool.cast::<Pool>()) });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds the iteration's number to each element of its only buffer.
    unsafe extern "C" fn add_number(buffers: *const *mut u8, begin: u64, end: u64) {
        // SAFETY: the tests pass one buffer of at least `end` numbers, and chunks do not overlap.
        let data = unsafe { (*buffers).cast::<u64>() };
        for i in begin..end {
            // SAFETY: as above.
            unsafe { *data.add(i as usize) += i };
        }
    }

    fn run(pool: Option<&Pool>, extent: u64, grain: u64, rounds: u64) {
        let mut data = vec![0u64; extent as usize];
        let buffers = [data.as_mut_ptr().cast::<u8>()];
        let pointer = pool.map_or(std::ptr::null(), Pool::as_ptr);
        for _ in 0..rounds {
            // SAFETY: the pool lives, and the kernel's chunks write different elements of one living buffer.
            unsafe { nn_rt_parallel(pointer, add_number, buffers.as_ptr(), extent, grain) };
        }
        assert!(data.iter().enumerate().all(|(i, v)| *v == i as u64 * rounds));
    }

    #[test]
    fn every_iteration_runs_once() {
        for threads in [0, 1, 2, 3] {
            let pool = Pool::new(threads);
            for (extent, grain) in [(0, 1), (1, 1), (2, 1), (7, 3), (100, 1), (100, 100), (33, 0), (50, 49)] {
                run(Some(&pool), extent, grain, 3);
            }
        }
        run(None, 10, 3, 2);
    }

    #[test]
    fn many_short_jobs_in_a_row() {
        let pool = Pool::new(3);
        run(Some(&pool), 64, 4, if cfg!(miri) { 5 } else { 2000 });
    }

    #[test]
    fn callers_on_several_threads_take_turns() {
        let pool = Pool::new(2);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| run(Some(&pool), 40, 2, 5));
            }
        });
    }

    #[test]
    fn pools_of_c_code() {
        let pool = nn_rt_pool_new(2);
        // SAFETY: the pool is fresh, is freed once, and null may be freed.
        unsafe {
            nn_rt_pool_free(pool);
            nn_rt_pool_free(std::ptr::null_mut());
        }
    }
}
