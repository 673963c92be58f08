//! The thread that reads texts. The server goes on answering meanwhile, and stops a reading that nobody waits for any more.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};

use super::analysis::Analysis;
use super::server::Event;

/// A text to be read.
pub struct Job {
    pub uri: String,
    /// Which text of the document it is.
    pub generation: u64,
    /// The name of the file in messages.
    pub name: String,
    pub text: Arc<str>,
    /// What is known of an earlier text.
    pub earlier: Option<Arc<Analysis>>,
    pub stop: Arc<AtomicBool>,
}

/// A text that has been read; `None` if reading it failed, which is a bug.
pub struct Done {
    pub uri: String,
    pub generation: u64,
    pub analysis: Option<Arc<Analysis>>,
}

/// Starts the thread; it ends when the sender is dropped.
///
/// # Errors
/// If the system gives no thread.
pub fn start(events: Sender<Event>) -> std::io::Result<Sender<Job>> {
    let (sender, jobs) = channel();
    std::thread::Builder::new().name("analysis".into()).stack_size(64 << 20).spawn(move || work(&jobs, &events))?;
    Ok(sender)
}

fn work(jobs: &Receiver<Job>, events: &Sender<Event>) {
    while let Ok(job) = jobs.recv() {
        if job.stop.load(Ordering::Relaxed) {
            continue;
        }
        let analysis = catch_unwind(AssertUnwindSafe(|| read(&job))).ok().map(Arc::new);
        if job.stop.load(Ordering::Relaxed) {
            continue;
        }
        let done = Done { uri: job.uri, generation: job.generation, analysis };
        if events.send(Event::Done(done)).is_err() {
            return;
        }
    }
}

fn read(job: &Job) -> Analysis {
    let mut analysis = Analysis::new(&job.name, job.text.clone(), &job.stop);
    if let Some(earlier) = job.earlier.as_ref().filter(|_| !analysis.project.is_readable()) {
        analysis.fill_from(earlier);
    }
    analysis
}
