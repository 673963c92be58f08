//! The pool: threads that wait for a kernel, take chunks of it by an atomic counter, and go back to waiting.
//!
//! Chunks are cut by the kernel's extent and grain alone, so no result depends on the number of threads.
//! A worker spins for a moment before it sleeps, since the next kernel of a step usually comes at once.

use std::ffi::c_void;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

/// A compiled kernel: the pointers of its buffers, and the range of its parallel variable.
pub type Kernel = unsafe extern "C" fn(*const *mut u8, u64, u64);

/// Looks at the job number this many times before going to sleep; about 20 microseconds.
const SPINS: u32 = 4000;

/// A persistent set of threads. Dropping it joins them.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held by the thread whose kernel runs, so that calls from several threads take turns.
    turn: Mutex<()>,
}

/// A kernel being run.
#[derive(Clone, Copy)]
struct Job {
    kernel: Kernel,
    buffers: *const *mut u8,
    extent: u64,
    grain: u64,
}

// SAFETY: the pointers are used only between the start of a job and its end, while `Pool::run` keeps its caller
// waiting, and the kernel's contract says that its chunks may run on any threads at once.
unsafe impl Send for Job {}

struct State {
    /// The number of the newest job.
    number: u64,
    /// The newest job, as long as its chunks are not all taken.
    job: Option<Job>,
    stop: bool,
    /// Workers that have taken up the newest job and not finished with it.
    busy: usize,
}

struct Shared {
    state: Mutex<State>,
    /// A new job or the end has come.
    begun: Condvar,
    /// No worker is busy any more.
    finished: Condvar,
    /// Copy of `State::number`, to be looked at without the lock; `u64::MAX` at the end.
    number: AtomicU64,
    /// Copy of `State::busy`.
    busy: AtomicUsize,
    /// The first iteration that nobody has taken.
    next: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing in this file panics while it holds a lock, so a poisoned state is whole.
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Job {
    /// Takes and runs chunks until none is left.
    fn work(&self, next: &AtomicU64) {
        loop {
            let begin = next.fetch_add(self.grain, Ordering::Relaxed);
            if begin >= self.extent {
                return;
            }
            let end = begin.saturating_add(self.grain).min(self.extent);
            // SAFETY: whoever started the job promised that the kernel may be called for any part of 0..extent.
            unsafe { (self.kernel)(self.buffers, begin, end) };
        }
    }
}

impl Pool {
    /// A pool that runs kernels on `threads` threads, the calling one among them. 0 counts as 1.
    ///
    /// If the system refuses a thread, the pool has fewer.
    pub fn new(threads: usize) -> Pool {
        let shared = Arc::new(Shared {
            state: Mutex::new(State { number: 0, job: None, stop: false, busy: 0 }),
            begun: Condvar::new(),
            finished: Condvar::new(),
            number: AtomicU64::new(0),
            busy: AtomicUsize::new(0),
            next: AtomicU64::new(0),
        });
        let start = |i: usize| {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new().name(format!("nn-rt-{i}")).spawn(move || shared.worker()).ok()
        };
        let workers = (1..threads.max(1)).map_while(start).collect();
        Pool { shared, workers, turn: Mutex::new(()) }
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
        let job = Job { kernel, buffers, extent, grain };
        if self.workers.is_empty() || extent <= grain {
            return job.work(&AtomicU64::new(0));
        }
        let _turn = lock(&self.turn);
        self.shared.begin(job);
        job.work(&self.shared.next);
        self.shared.finish();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        lock(&self.shared.state).stop = true;
        self.shared.number.store(u64::MAX, Ordering::Release);
        self.shared.begun.notify_all();
        for worker in self.workers.drain(..) {
            // A worker ends by a panic only if a kernel unwinds, which it never does.
            let _ = worker.join();
        }
    }
}

impl Shared {
    fn begin(&self, job: Job) {
        let mut state = lock(&self.state);
        state.number += 1;
        state.job = Some(job);
        self.next.store(0, Ordering::Relaxed);
        self.number.store(state.number, Ordering::Release);
        drop(state);
        self.begun.notify_all();
    }

    /// Takes the job back, so that workers still asleep are not waited for, and waits for those that have it.
    fn finish(&self) {
        lock(&self.state).job = None;
        if spin(|| self.busy.load(Ordering::Acquire) == 0) {
            return;
        }
        let mut state = lock(&self.state);
        while state.busy > 0 {
            state = self.finished.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
        }
    }

    fn worker(&self) {
        let mut seen = 0;
        while let Some((number, job)) = self.next_job(seen) {
            seen = number;
            job.work(&self.next);
            let mut state = lock(&self.state);
            state.busy -= 1;
            self.busy.store(state.busy, Ordering::Release);
            if state.busy == 0 {
                self.finished.notify_one();
            }
        }
    }

    /// The next job after number `seen`, taken up; `None` at the end.
    fn next_job(&self, mut seen: u64) -> Option<(u64, Job)> {
        loop {
            let fresh = spin(|| self.number.load(Ordering::Acquire) != seen);
            let mut state = lock(&self.state);
            while !fresh && !state.stop && state.number == seen {
                state = self.begun.wait(state).unwrap_or_else(|poisoned| poisoned.into_inner());
            }
            if state.stop {
                return None;
            }
            seen = state.number;
            // There is none if it came and went while this worker slept.
            if let Some(job) = state.job {
                state.busy += 1;
                self.busy.store(state.busy, Ordering::Release);
                return Some((seen, job));
            }
        }
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
            for (extent, grain) in [(0, 1), (1, 1), (7, 3), (100, 1), (100, 100), (33, 0)] {
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
