//! Tuning: a search, by measurement on this machine, of what `tile` otherwise decides by constants.
//!
//! Each product of an entry point is cut in all ways that it may be ([`search`]), what is faster alone is tried in the whole ([`whole`]), and what was
//! found is kept for the next time ([`cache`]). No choice changes the order of a sum, so results have the same bits with all of them.

mod cache;
mod race;
mod search;
mod whole;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nn_rt::Pool;

use super::error::Error;
use super::{Compiled, Entry, ObjectOptions, stages};
use crate::codegen::Target;
use crate::ir::graph::Function;
use crate::passes::Limits;
use crate::passes::tile::{self, Tuning};

use cache::Cache;
use search::{Found, Group, Outcome, Subject};

pub use cache::cache_folder;

/// How tuning is done.
#[derive(Clone, Debug)]
pub struct TuneOptions {
    /// The time that it may take; with none what was found before is used, and nothing measured.
    pub budget: Duration,
    /// The threads that the code will run on, 0 for one on each core.
    pub threads: usize,
    /// Where what is found is kept; nowhere if `None`.
    pub cache: Option<PathBuf>,
}

/// What happens while tuning.
#[derive(Clone, Debug, PartialEq)]
pub enum TuneEvent {
    /// An entry point has so many different products, of which so many are known from before.
    Started { entry: Entry, rows: usize, products: usize, cached: usize },
    /// A product alone takes this share of its usual time when it is cut in another way.
    Faster { product: String, choice: String, share: f64 },
    /// An entry point is done.
    Done(Tuned),
    /// Something is amiss with the files that keep what was found.
    Warning(String),
}

/// What tuning an entry point came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    pub entry: Entry,
    pub rows: usize,
    pub threads: usize,
    /// Products of different keys.
    pub products: usize,
    /// Of those, known from before.
    pub cached: usize,
    /// Measured now.
    pub tried: usize,
    /// Cut in another way than usual from now on.
    pub changed: usize,
    /// Faster alone, but not in the whole, or not tried there for want of time.
    pub dropped: usize,
    /// The time of the whole entry as a share of what it took before, if it was measured.
    pub share: Option<f64>,
    pub seconds: f64,
}

/// An entry point at a batch size.
struct Job {
    entry: Entry,
    rows: usize,
    function: Function,
    /// Whether what depends on parameters alone is computed ahead of its calls.
    ahead: bool,
}

/// The part of the time that goes to products alone; the rest is for the whole.
const SEARCH: f64 = 0.6;

impl Compiled {
    /// Tunes entry points as a [`Session`](super::Session) on so many threads will call them, one result for each.
    ///
    /// # Errors
    /// If an entry is missing, cannot be compiled, or this machine cannot run what is compiled.
    pub fn tune_session(
        &mut self,
        entries: &[(Entry, usize)],
        options: &TuneOptions,
        listener: &mut dyn FnMut(TuneEvent),
    ) -> Result<Vec<Tuned>, Error> {
        let job = |(entry, rows): &(Entry, usize)| {
            let function = self.function(*entry)?.clone();
            Ok(Job { entry: *entry, rows: *rows, function, ahead: entry.has_ahead() })
        };
        let jobs = entries.iter().map(job).collect::<Result<Vec<Job>, Error>>()?;
        self.tune(jobs, options, listener)
    }

    /// Tunes what an object for this machine is made of.
    ///
    /// # Errors
    /// As [`tune_session`](Self::tune_session).
    pub fn tune_object(
        &mut self,
        object: &ObjectOptions,
        options: &TuneOptions,
        listener: &mut dyn FnMut(TuneEvent),
    ) -> Result<Vec<Tuned>, Error> {
        let mut jobs = Vec::new();
        for entry in self.wanted_entries(object)? {
            for rows in self.variants(entry, &object.batches) {
                jobs.push(Job { entry, rows, function: self.function_in_object(entry)?, ahead: false });
            }
        }
        self.tune(jobs, &TuneOptions { threads: 1, ..options.clone() }, listener)
    }

    fn tune(
        &mut self,
        jobs: Vec<Job>,
        options: &TuneOptions,
        listener: &mut dyn FnMut(TuneEvent),
    ) -> Result<Vec<Tuned>, Error> {
        let end = Instant::now() + options.budget;
        let threads = match options.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let (cache, warning) = Cache::open(options.cache.as_deref());
        warning.into_iter().for_each(|text| listener(TuneEvent::Warning(text)));
        let pool = (threads > 1 && !options.budget.is_zero()).then(|| Pool::new(threads));
        let mut tuner =
            Tuner { compiled: self, tuning: Tuning::for_threads(threads), pool: pool.as_ref(), cache, listener };
        let (mut done, count) = (Vec::new(), jobs.len());
        for (number, job) in jobs.into_iter().enumerate() {
            let left = end.saturating_duration_since(Instant::now());
            let tuned = tuner.job(&job, left / (count - number) as u32)?;
            (tuner.listener)(TuneEvent::Done(tuned));
            done.push(tuned);
        }
        let tuning = Arc::new(tuner.tuning);
        self.limits.tuning = tuning;
        Ok(done)
    }
}

struct Tuner<'a> {
    compiled: &'a Compiled,
    /// What was found for all entry points so far.
    tuning: Tuning,
    pool: Option<&'a Pool>,
    cache: Cache,
    listener: &'a mut dyn FnMut(TuneEvent),
}

impl Tuner<'_> {
    fn job(&mut self, job: &Job, time: Duration) -> Result<Tuned, Error> {
        let start = Instant::now();
        let threads = self.tuning.threads;
        let usual = self.compiled.limits_for(&Target::host());
        let limits = Limits { ahead: job.ahead, tuning: Arc::new(Tuning::for_threads(threads)), ..usual };
        let sizes = self.compiled.sizes(job.rows)?;
        let limits = self.compiled.fitting(&job.function, &sizes, &limits)?;
        let (function, program) = stages::untiled(&job.function, &sizes, &limits)?;
        let groups = search::groups(tile::products(&program, &limits));
        let subject = Subject { function: &function, program: &program, limits: &limits, pool: self.pool };

        let (mut known, mut unknown) = (Tuning::for_threads(threads), Vec::new());
        for group in &groups {
            match self.cache.get(&group.product.key).filter(|choice| group.product.choices.contains(choice)) {
                Some(choice) if choice == group.product.choices[0] => {}
                Some(choice) => _ = known.choices.insert(group.product.key.clone(), choice),
                None => unknown.push(group),
            }
        }
        let (products, cached) = (groups.len(), groups.len() - unknown.len());
        (self.listener)(TuneEvent::Started { entry: job.entry, rows: job.rows, products, cached });
        let (tried, found) = self.search(&subject, &unknown, start + time.mul_f64(SEARCH))?;
        let faster = found.len();
        let settled = whole::settle(&subject, known, found, start + time)?;
        settled.kept.iter().for_each(|one| self.cache.insert(&one.key, one.choice));
        settled.dropped.iter().for_each(|one| self.cache.insert(&one.key, one.usual));
        if let Err(why) = self.cache.save() {
            (self.listener)(TuneEvent::Warning(why));
        }
        let changed = settled.tuning.choices.len();
        self.tuning.choices.extend(settled.tuning.choices);
        Ok(Tuned {
            entry: job.entry,
            rows: job.rows,
            threads,
            products,
            cached,
            tried,
            changed,
            dropped: faster - settled.kept.len(),
            share: settled.share,
            seconds: start.elapsed().as_secs_f64(),
        })
    }

    /// Searches products until the time is over: how many, and what was faster.
    fn search(
        &mut self,
        subject: &Subject<'_>,
        groups: &[&Group],
        until: Instant,
    ) -> Result<(usize, Vec<Found>), Error> {
        let (mut tried, mut found) = (0, Vec::new());
        for group in groups {
            if Instant::now() >= until {
                break;
            }
            match search::search(subject, group, until)? {
                Outcome::Late => break,
                Outcome::Usual => self.cache.insert(&group.product.key, group.product.choices[0]),
                Outcome::Faster(one) => {
                    let (product, choice) = (one.key.to_string(), one.choice.to_string());
                    (self.listener)(TuneEvent::Faster { product, choice, share: one.share });
                    found.push(one);
                }
            }
            tried += 1;
        }
        Ok((tried, found))
    }
}
