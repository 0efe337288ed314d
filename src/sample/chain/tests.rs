use super::*;
use crate::diffusion::BetaSchedule;
use crate::sample::Conventions;

fn schedule() -> Schedule {
    Schedule::new(BetaSchedule::Linear, 10, 1e-3, 0.2).unwrap()
}

fn times(options: &SamplerOptions, sampler: Sampler) -> Vec<(f64, f64)> {
    let chain = chain(&schedule(), &[10, 7, 4, 1], sampler, options).unwrap();
    chain.iter().map(|step| (step.from.t(), step.to.t())).collect()
}

#[test]
fn chain_leads_from_each_time_to_the_next_and_to_the_image() {
    let options = SamplerOptions::default();
    assert_eq!(times(&options, Sampler::Ddpm), [(10.0, 7.0), (7.0, 4.0), (4.0, 1.0), (1.0, 0.0)]);
    let short = SamplerOptions { set_alpha_to_one: false, ..options };
    assert_eq!(times(&short, Sampler::Ddim)[3], (1.0, 1.0));
}

#[test]
fn chain_of_ddim_in_diffusers_dialect_goes_one_stride_whatever_the_list_says() {
    let options = SamplerOptions { conventions: Conventions::DIFFUSERS, ..SamplerOptions::default() };
    assert_eq!(times(&options, Sampler::Ddim), [(10.0, 8.0), (7.0, 5.0), (4.0, 2.0), (1.0, 0.0)]);
    assert_eq!(times(&options, Sampler::Ddpm)[0], (10.0, 7.0));
}

#[test]
fn chain_of_times_that_no_sampler_can_visit_is_refused() {
    for (list, word) in [(&[][..], "empty"), (&[11, 3], "1..=10"), (&[3, 0], "1..=10"), (&[3, 7], "3 before 7")] {
        let refusal = chain(&schedule(), list, Sampler::Ddpm, &SamplerOptions::default()).unwrap_err().to_string();
        assert!(refusal.starts_with("timesteps: ") && refusal.contains(word), "{refusal}");
    }
}

#[test]
fn numbers_of_steps_that_a_schedule_does_not_have_are_refused_whatever_the_process_and_the_dialect() {
    let flow = Schedule::of_process(Process::Flow { shift: 1.0 }, 10).unwrap();
    let edm = Process::Edm { sigma_min: 0.002, sigma_max: 80.0, rho: Some(7.0) };
    let edm = Schedule::of_process(edm, 10).unwrap();
    for (schedule, sampler) in [(schedule(), Sampler::Heun), (flow, Sampler::FlowEuler), (edm, Sampler::EdmDpm)] {
        for conventions in [Conventions::ANCESTRAL, Conventions::DIFFUSERS] {
            let options = SamplerOptions { conventions, ..SamplerOptions::default() };
            let of =
                |steps| spread(&schedule, (steps, Spacing::Trailing, 0), sampler, &options).map(|chain| chain.len());
            assert!(of(0).is_err() && of(11).is_err() && of(10).is_ok(), "{sampler:?}: {:?} {:?}", of(11), of(10));
        }
    }
}
