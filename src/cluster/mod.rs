//! Many processes, the same bits: a step of training, or the images of a measurement, shared out (contract N1, rule 5).
//!
//! | module | what it holds |
//! |---|---|
//! | [`split`] | which rank computes which microbatch, and which adds up which node of their tree |
//! | [`collect`] | the sums of the nodes that lie within one rank, as its microbatches end |
//! | [`exchange`] | the sums of the others: what is sent to whom, what is done with what arrives |
//! | [`link`] | what carries messages, as little as can be asked of it |
//! | `mpi` | MPI as such a link (feature `mpi`) |
//!
//! A *rank* is one of the processes that compute together; rank 0 leads: it prints, writes files, and validates. Each rank holds all
//! of the weights, computes the gradients of its own microbatches, receives the sum over all of them, and takes the same step. The
//! sum is that of [`tree_sum`](crate::numerics::parallel::tree_sum), node for node, so it has the bits of one process.
//!
//! [`Ranks`] are to processes what a thread pool is to threads: what runs inside of [`Ranks::install`] is shared out, all ranks
//! having to come by; what runs outside is computed by whoever calls it.

pub mod collect;
pub mod exchange;
pub mod link;
#[cfg(feature = "mpi")]
mod mpi;
pub mod split;

use std::cell::RefCell;
use std::fmt::Debug;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use self::collect::Collector;
use self::exchange::{Exchange, Heard, pieces};
use self::link::{Early, Link};
use self::split::Split;
use crate::numerics::Real;
use crate::{Error, Result};

/// The processes that compute together, as one of them sees them.
#[derive(Clone, Debug)]
pub struct Ranks {
    rank: usize,
    count: usize,
    line: Option<Arc<Line>>,
}

thread_local! {
    static CURRENT: RefCell<Ranks> = const { RefCell::new(Ranks::alone()) };
}

/// What goes over the link, one after another.
type Job = Box<dyn FnOnce(&mut dyn Link, &mut Early) + Send>;

/// The thread that carries messages: no other calls MPI.
#[derive(Debug)]
struct Line {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    given_up: Arc<AtomicBool>,
    exchanges: AtomicU32,
    waited: AtomicU64,
}

/// A sum over the microbatches of all ranks, and what each rank said beside.
#[derive(Debug)]
pub struct Summed {
    sums: Heard,
    /// Of each rank.
    pub notes: Vec<Vec<u32>>,
}

impl Summed {
    /// Writes the sum over what is there.
    ///
    /// # Panics
    /// If it is of another length.
    pub fn write<F: Real>(&self, into: &mut [F]) {
        self.sums.write(into);
    }
}

impl Ranks {
    /// One process.
    pub const fn alone() -> Self {
        Ranks { rank: 0, count: 1, line: None }
    }

    /// The processes that were started together, as `mpirun` does: one where this process was started by nothing of that kind, or
    /// the program was built without the feature `mpi`.
    ///
    /// # Errors
    /// Without the feature `mpi`, several processes, of which each would do the whole work; whatever MPI refuses.
    pub fn started() -> Result<Self> {
        link::launched().map_or(Ok(Ranks::alone()), Ranks::join)
    }

    #[cfg(feature = "mpi")]
    fn join(_: usize) -> Result<Self> {
        Ranks::over(mpi::start)
    }

    #[cfg(not(feature = "mpi"))]
    fn join(processes: usize) -> Result<Self> {
        if processes == 1 {
            return Ok(Ranks::alone());
        }
        let expected = "one process, as this program was built without MPI: cargo build --release --features mpi";
        Err(Error::value("the launcher", expected, format!("{processes} processes")))
    }

    /// Ranks over a link, which is made and used by a thread of its own; it is to end all processes when the flag that `make`
    /// is given is raised.
    ///
    /// # Errors
    /// That of `make`.
    ///
    /// # Panics
    /// If `make` panics.
    pub fn over<L: Link>(make: impl FnOnce(Arc<AtomicBool>) -> Result<L> + Send + 'static) -> Result<Self> {
        let (jobs, to_do) = mpsc::channel::<Job>();
        let (made, is_made) = mpsc::channel();
        let given_up = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&given_up);
        let carry = move || match make(Arc::clone(&flag)) {
            Ok(mut link) => {
                let _ = made.send(Ok((link.rank(), link.ranks())));
                let mut early = Early::default();
                to_do.iter().for_each(|job| job(&mut link, &mut early));
                if flag.load(Ordering::Relaxed) {
                    link.give_up(); // a panic: the others wait for this rank
                }
            }
            Err(error) => {
                let _ = made.send(Err(error));
            }
        };
        let thread = thread::Builder::new().name("messages".into()).spawn(carry);
        let thread = thread.map_err(|e| Error::io("the thread that carries messages", "start", &e))?;
        let (rank, count) = is_made.recv().expect("the thread says what became of the link")?;
        let line = Line {
            jobs: Mutex::new(Some(jobs)),
            thread: Mutex::new(Some(thread)),
            given_up,
            exchanges: AtomicU32::new(0),
            waited: AtomicU64::new(0),
        };
        Ok(Ranks { rank, count, line: Some(Arc::new(line)) })
    }

    /// Those among whom the caller's work is shared out: inside of [`install`](Ranks::install) they, elsewhere one process.
    pub fn current() -> Self {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Does this work together: all ranks have to call it with the same.
    pub fn install<T>(&self, work: impl FnOnce() -> T) -> T {
        struct Restore(Ranks);
        impl Drop for Restore {
            fn drop(&mut self) {
                CURRENT.set(std::mem::replace(&mut self.0, Ranks::alone()));
            }
        }
        let _restore = Restore(CURRENT.replace(self.clone()));
        work()
    }

    /// Which of them this is, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// How many they are.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Whether this one prints and writes files.
    pub fn leads(&self) -> bool {
        self.rank == 0
    }

    /// This one's part of so many items: as many as the others', or one more or less, in the order of the ranks.
    pub fn share(&self, items: usize) -> Range<usize> {
        Split::new(items, self.count).leaves_of(self.rank)
    }

    /// Seconds that all sums together kept this rank waiting after its own work was done.
    pub fn seconds_waited(&self) -> f64 {
        let nanoseconds = self.line.as_ref().map_or(0, |line| line.waited.load(Ordering::Relaxed));
        nanoseconds as f64 / 1e9
    }

    /// The sums over `leaves` microbatches of `length` numbers each, as the tree has them. `work` hands what it computes to the
    /// collector, and returns a note for all ranks.
    ///
    /// # Errors
    /// That of `work`; the other ranks then wait until this one gives up.
    pub fn tree_sum<F: Real>(
        &self,
        leaves: usize,
        length: usize,
        work: impl FnOnce(&Collector<F>) -> Result<Vec<u32>>,
    ) -> Result<Summed> {
        let split = Split::new(leaves, self.count);
        let (give, given) = mpsc::channel();
        let pieces = pieces(length, self.count);
        let collector = Collector::new(split, self.rank, pieces.clone(), give);
        let line = self.line.as_ref().expect("several ranks have a line");
        let exchange = Exchange::new(line.next_exchange(), (self.rank, split), pieces, given);
        let (ended, end) = mpsc::channel();
        line.add(Box::new(move |link, early| {
            let _ = ended.send(exchange.run(link, early));
        }));
        let note = work(&collector)?;
        collector.note(note);
        let start = Instant::now();
        let (sums, notes) = end.recv().expect("the thread that carries messages");
        line.waited.fetch_add(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        Ok(Summed { sums, notes })
    }

    /// What each rank says, in their order, known to all.
    pub fn all_gather(&self, words: Vec<u32>) -> Vec<Vec<u32>> {
        if self.line.is_none() {
            return vec![words];
        }
        self.tree_sum::<f32>(1, 0, |_| Ok(words)).expect("no work, no error").notes
    }

    /// Whether it is so with any rank.
    pub fn any(&self, here: bool) -> bool {
        self.all_gather(vec![here.into()]).iter().any(|said| said[0] != 0)
    }

    /// Refuses ranks of which one has something else than the first that has a thing of this name.
    ///
    /// # Errors
    /// The first difference, with its rank: the same error on all ranks.
    pub fn agree(&self, things: &[(String, String)]) -> Result<()> {
        let mine = serde_json::to_string(things).expect("text is JSON");
        let said = self.all_gather(mine.bytes().map(u32::from).collect());
        let things_of = |words: &Vec<u32>| -> Vec<(String, String)> {
            let bytes: Vec<u8> = words.iter().map(|&word| word as u8).collect();
            serde_json::from_slice(&bytes).unwrap_or_default()
        };
        let mut first: Vec<(String, usize, String)> = Vec::new();
        for (rank, things) in said.iter().map(things_of).enumerate() {
            for (name, thing) in things {
                match first.iter().find(|(known, ..)| *known == name) {
                    Some((_, other, expected)) if *expected != thing => {
                        let expected = format!("that of rank {other}, {expected}");
                        return Err(Error::value(format!("{name} of rank {rank}"), expected, thing));
                    }
                    Some(_) => {}
                    None => first.push((name, rank, thing)),
                }
            }
        }
        Ok(())
    }

    /// Ends the processes of all ranks, which may be waiting for this one.
    pub fn give_up(&self) {
        let Some(line) = &self.line else { return };
        line.given_up.store(true, Ordering::Relaxed);
        // The thread that carries messages ends the process; it may be busy writing, or not be there any more.
        line.add(Box::new(|link, _| link.give_up()));
        thread::sleep(Duration::from_secs(5));
    }
}

impl Line {
    fn add(&self, job: Job) {
        if let Some(jobs) = &*self.jobs.lock().unwrap_or_else(PoisonError::into_inner) {
            let _ = jobs.send(job); // whoever waits for what it does sees that the thread has gone
        }
    }

    fn next_exchange(&self) -> u32 {
        self.exchanges.fetch_add(1, Ordering::Relaxed)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if thread::panicking() {
            self.given_up.store(true, Ordering::Relaxed);
        }
        drop(self.jobs.get_mut().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
