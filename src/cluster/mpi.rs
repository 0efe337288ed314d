//! Messages over MPI.
//!
//! One thread makes every call (MPI_THREAD_FUNNELED), none of which adds numbers: MPI may choose its algorithms as it likes. It
//! never waits inside of MPI for what another rank has yet to compute, since MPI waits by spinning, on a core that computes.

use std::cell::OnceCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::environment::Universe;
use mpi::point_to_point::MatchedReceiveVec;
use mpi::request::{Request, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, Destination, Source};

use super::link::{Link, Talk};
use crate::{Error, Result};

/// All processes that were started together.
pub(super) struct Mpi {
    world: SimpleCommunicator,
    given_up: Arc<AtomicBool>,
    /// MPI ends with it.
    _universe: Universe,
}

/// Starts MPI on this thread, which is to make every later call. Where `given_up` is raised, the processes of all ranks are ended.
///
/// # Errors
/// An MPI without threads.
pub(super) fn start(given_up: Arc<AtomicBool>) -> Result<Mpi> {
    let found = mpi::initialize_with_threading(Threading::Funneled);
    let Some((universe, _)) = found.filter(|(_, threading)| *threading >= Threading::Funneled) else {
        return Err(Error::value("MPI", "one that lets a program have threads (MPI_THREAD_FUNNELED)", "another"));
    };
    Ok(Mpi { world: universe.world(), given_up, _universe: universe })
}

impl Link for Mpi {
    fn rank(&self) -> usize {
        self.world.rank() as usize
    }

    fn ranks(&self) -> usize {
        self.world.size() as usize
    }

    fn carry(&mut self, talk: &mut dyn Talk) {
        let slots: Vec<OnceCell<Arc<Vec<u32>>>> = (0..talk.most()).map(|_| OnceCell::new()).collect();
        let mut free = slots.iter();
        scope(|scope| {
            let mut sending: Vec<Request<[u32], _>> = Vec::new();
            let mut last = Instant::now(); // when something happened
            loop {
                while let Some((to, words)) = talk.next() {
                    let words = free.next().expect("as many places as messages").get_or_init(|| words);
                    sending.push(self.world.process_at_rank(to as i32).immediate_send(scope, &words[..]));
                    last = Instant::now();
                }
                while let Some(message) = self.world.any_process().immediate_matched_probe() {
                    let (words, status) = message.matched_receive_vec::<u32>();
                    talk.hear(status.source_rank() as usize, words);
                    last = Instant::now();
                }
                sending = sending.into_iter().filter_map(|request| request.test().err()).collect();
                if talk.is_over() && sending.is_empty() {
                    return;
                }
                if self.given_up.load(Ordering::Relaxed) {
                    self.give_up();
                }
                rest(last.elapsed());
            }
        });
    }

    fn give_up(&mut self) {
        self.world.abort(2)
    }
}

/// Leaves the core to those who compute, the longer the longer nothing has happened: what is waited for comes later by a twentieth
/// at most.
fn rest(idle: Duration) {
    const SHORT: Duration = Duration::from_micros(100);
    const LONGEST: Duration = Duration::from_millis(1);
    if idle < SHORT { thread::yield_now() } else { thread::sleep((idle / 20).min(LONGEST)) }
}
