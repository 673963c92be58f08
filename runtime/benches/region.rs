//! What it costs to run a kernel on several threads: a kernel that does nothing, one call right after the other.
//!
//! `cargo bench -p nn-rt`. A chunk for each thread; medians over samples of many calls. A caller that runs the kernel by itself is the baseline.

use std::time::Instant;

use nn_rt::Pool;

const CALLS: u32 = 20_000;
const SAMPLES: usize = 31;

unsafe extern "C" fn nothing(_: *const *mut u8, begin: u64, end: u64) {
    std::hint::black_box((begin, end));
}

/// Nanoseconds of a call, the median of all samples.
fn nanoseconds(pool: &Pool, chunks: u64) -> f64 {
    let sample = |_| {
        let start = Instant::now();
        for _ in 0..CALLS {
            // SAFETY: the kernel touches no buffer.
            unsafe { pool.run(nothing, std::ptr::null(), chunks, 1) };
        }
        start.elapsed().as_secs_f64() * 1e9 / f64::from(CALLS)
    };
    let mut samples: Vec<f64> = (0..SAMPLES).map(sample).collect();
    samples.sort_by(f64::total_cmp);
    samples[SAMPLES / 2]
}

fn main() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    for threads in 1..=cores {
        let pool = Pool::new(threads);
        println!("{threads} threads: {:.0} ns a region", nanoseconds(&pool, threads as u64));
    }
}
