//! Ranks as threads: what is sent, in any order, gives the bits of one process.

use super::link::Talk;
use super::*;
use crate::data::{Shape, Split, shapes};
use crate::diffusion::Variance;
use crate::diffusion::likelihood::Cdf;
use crate::evaluate::quality::nearest::nearest;
use crate::evaluate::{BitsSettings, bits_per_dim, evaluate, exact_bits};
use crate::numerics::ode::Tolerance;
use crate::numerics::parallel;
use crate::numerics::rng::{Stream, normal};
use crate::train::config::ScheduleConfig;
use crate::train::timesteps::TimestepSampler;
use crate::train::{ClassifierRecipe, ClassifierTrainer, Config, ObjectiveConfig, Preset, State, Trainer};

/// Messages by channels, which a stream of random numbers delays and puts in another order.
struct Channels {
    rank: usize,
    to: Vec<mpsc::Sender<(usize, Vec<u32>)>>,
    from: mpsc::Receiver<(usize, Vec<u32>)>,
    held: Vec<(usize, Vec<u32>)>,
    order: Stream,
}

impl Link for Channels {
    fn rank(&self) -> usize {
        self.rank
    }

    fn ranks(&self) -> usize {
        self.to.len()
    }

    fn carry(&mut self, talk: &mut dyn Talk) {
        let mut sent = 0;
        while !talk.is_over() {
            while let Some((to, words)) = talk.next() {
                assert_ne!(to, self.rank, "a message to oneself");
                let _ = self.to[to].send((self.rank, words.to_vec()));
                sent += 1;
            }
            self.held.extend(self.from.try_iter());
            if self.held.is_empty() {
                thread::yield_now();
            } else if self.order.uniform() < 0.7 {
                let next = self.order.below(self.held.len() as u64) as usize;
                let (from, words) = self.held.swap_remove(next);
                talk.hear(from, words);
            }
        }
        assert!(sent <= talk.most(), "{sent} messages, at most {}", talk.most());
    }

    fn give_up(&mut self) {}
}

/// What each of so many ranks computes, side by side.
fn among<T: Send>(count: usize, work: impl Fn(Ranks) -> T + Sync) -> Vec<T> {
    let (to, from): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::channel()).unzip();
    let link = |(rank, from)| {
        let order = Stream::keyed(rank as u64, "order", &[count as u64]);
        let link = Channels { rank, to: to.clone(), from, held: Vec::new(), order };
        Ranks::over(move |_| Ok(link)).expect("a link")
    };
    let ranks: Vec<Ranks> = from.into_iter().enumerate().map(link).collect();
    let work = &work;
    thread::scope(|scope| {
        let threads: Vec<_> = ranks.into_iter().map(|ranks| scope.spawn(move || work(ranks))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    })
}

#[test]
fn sum_over_ranks_has_the_bits_of_the_tree_of_one_process() {
    const LENGTH: usize = 9001; // three pieces, the last of another length
    for leaves in 1..=40 {
        let gradients: Vec<Vec<f32>> =
            (0..leaves).map(|leaf| normal(LENGTH, leaf).mapv(|x| x as f32).to_vec()).collect();
        let expected = parallel::tree_sum(
            leaves as usize,
            |leaf| gradients[leaf].clone(),
            |left, right| left.iter_mut().zip(right).for_each(|(left, right)| *left += right),
        );
        for count in 1..=9 {
            let found = among(count, |ranks| {
                let summed = ranks.tree_sum(leaves as usize, LENGTH, |collector| {
                    // The last leaves and pieces first: no order may matter.
                    for leaf in collector.leaves().rev() {
                        let mut gradient = gradients[leaf].clone();
                        for (piece, range) in collector.pieces().iter().enumerate().rev() {
                            collector.add(leaf, piece, &mut gradient[range.clone()]);
                        }
                        assert!(gradient.iter().all(|&x| x == 0.0), "what was handed over leaves zeros");
                    }
                    Ok(vec![7; collector.leaves().len()])
                });
                let summed = summed.expect("no error");
                let mut sum = vec![f32::NAN; LENGTH];
                summed.write(&mut sum);
                let said: usize = summed.notes.iter().map(Vec::len).sum();
                assert_eq!((summed.notes.len(), said), (count, leaves as usize));
                sum
            });
            assert!(found.iter().all(|sum| *sum == expected), "{leaves} leaves over {count} ranks");
        }
    }
}

#[test]
fn what_ranks_say_is_known_to_all_in_their_order_and_time_after_time() {
    let said = among(5, |ranks| {
        let rank = ranks.rank() as u32;
        let rounds = (0..50).map(|round| ranks.all_gather(vec![rank; (round % 3) + ranks.rank()]));
        (rounds.collect::<Vec<_>>(), ranks.any(rank == 3), ranks.any(false))
    });
    let round = |round: usize| (0..5).map(|rank| vec![rank as u32; round % 3 + rank]).collect::<Vec<_>>();
    let expected: Vec<_> = (0..50).map(round).collect();
    assert!(said.iter().all(|found| *found == (expected.clone(), true, false)), "{said:?}");
}

#[test]
fn rank_with_another_thing_is_named_on_all_ranks_with_what_differs() {
    let of = |rank: usize, data: &str| {
        let program = if rank < 2 { "program (x86_64)" } else { "program (aarch64)" };
        vec![(program.to_string(), "1".to_string()), ("data".to_string(), data.to_string())]
    };
    let found = among(4, |ranks| ranks.agree(&of(ranks.rank(), if ranks.rank() == 2 { "cats" } else { "dogs" })));
    let expected = "data of rank 2: expected that of rank 0, dogs, found cats";
    assert!(found.iter().all(|found| found.as_ref().unwrap_err().to_string() == expected), "{found:?}");
    assert!(among(4, |ranks| ranks.agree(&of(ranks.rank(), "dogs"))).iter().all(Result::is_ok));
}

#[test]
fn outside_of_install_and_after_it_a_process_is_alone() {
    let counts = among(3, |ranks| {
        let inside = ranks.install(|| Ranks::current().count());
        (inside, Ranks::current().count())
    });
    assert_eq!(counts, [(3, 1); 3]);
}

/// Several steps of several objectives, with and without classes: 3 ranks and 6, of which one has nothing to do.
#[test]
fn training_over_ranks_has_the_bits_of_one_process_and_goes_on_with_another_number() {
    let shape = Shape { height: 16, width: 16, channels: 1 };
    let loss_aware = ObjectiveConfig { timesteps: TimestepSampler::LossAware, ..ObjectiveConfig::default() };
    let few = ScheduleConfig { num_train_timesteps: 4, ..Preset::Tiny.config().schedule };
    let configs = [
        Config { batch_size: 18, flip: true, ..Preset::Tiny.config() },
        // After some steps ten losses of every t are known.
        Config { batch_size: 18, sample_steps: 2, objective: loss_aware, schedule: few, ..Preset::Tiny.config() },
    ];
    for config in configs {
        let trainer = |state: Option<State>| {
            let data = shapes::draw(shapes::SEED, Split::Train, shape).expect("drawn");
            Trainer::new(config.clone(), data, state).expect("a config that holds")
        };
        let steps = |ranks: Ranks, state: Option<State>, until: u64| {
            let mut trainer = trainer(state);
            while trainer.state().step < until {
                ranks.install(|| trainer.step()).expect("a finite step");
            }
            trainer.state().clone()
        };
        let bits = |state: &State| (state.weights.clone(), state.moments.v.clone(), state.history.clone());
        let alone = bits(&steps(Ranks::alone(), None, 12));
        for (first, then) in [(3, 2), (6, 1)] {
            let half = among(first, |ranks| steps(ranks, None, 7)).remove(first - 1);
            let found = among(then, |ranks| bits(&steps(ranks, Some(half.clone()), 12)));
            assert!(found.iter().all(|found| *found == alone), "{first} ranks, then {then}");
        }
    }
}

#[test]
fn classifier_learned_over_ranks_has_the_bits_of_one_process() {
    let recipe = ClassifierRecipe { steps: 10, batch_size: 14, noisy: true, ..ClassifierRecipe::default() };
    let learn = |ranks: Ranks| {
        let shape = Shape { height: 16, width: 16, channels: 1 };
        let data = shapes::draw(shapes::SEED, Split::Train, shape).expect("drawn");
        let mut trainer = ClassifierTrainer::new(recipe.clone(), data).expect("valid");
        let losses: Vec<f64> = (0..10).map(|_| ranks.install(|| trainer.step()).expect("finite").loss).collect();
        (losses, trainer.weights().clone())
    };
    let alone = learn(Ranks::alone());
    assert!(among(3, learn).iter().all(|found| *found == alone));
}

#[test]
fn measures_over_ranks_have_the_bits_of_one_process() {
    let shape = Shape { height: 16, width: 16, channels: 1 };
    let data = shapes::draw(shapes::SEED, Split::Validation, shape).expect("drawn");
    let config = Preset::Tiny.config();
    let trainer = Trainer::new(config, shapes::draw(shapes::SEED, Split::Train, shape).expect("drawn"), None);
    let model = trainer.expect("a preset holds").pipeline().expect("a model");
    let measure = |ranks: Ranks| {
        ranks.install(|| {
            let mut heard = Vec::new();
            let errors = evaluate(&model, model.weights(), &data, 7, |done| heard.push(done)).expect("errors");
            assert_eq!(heard.last(), if ranks.share(7).is_empty() { None } else { Some(&7) });
            let settings =
                BitsSettings { images: 5, times: vec![1, 300, 1000], variance: Variance::FixedSmall, cdf: Cdf::Erf };
            let bits = bits_per_dim(&model, model.weights(), &data, &settings, |_| {}).expect("bits");
            let tolerance = Tolerance { relative: 0.1, absolute: 0.1 };
            let settings = BitsSettings { images: 3, ..settings };
            let exact = exact_bits(&model, model.weights(), &data, &settings, tolerance, |_| {}).expect("bits");
            let near = nearest(&data, &[3, 0, 9, 4, 4], &data, |_| {});
            (serde_json::to_string(&errors).expect("JSON"), bits, exact, near)
        })
    };
    let alone = measure(Ranks::alone());
    for count in [2, 3, 8] {
        assert!(among(count, measure).iter().all(|found| *found == alone), "{count} ranks");
    }
}
