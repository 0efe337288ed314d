//! Known answers, edges and laws; the sweep over the inputs is `tests/elementary_sweep.rs`.

use super::*;
use crate::numerics::Native;
use crate::numerics::instruction_set::every_instruction_set;

fn exp_f32(x: f32) -> f32 {
    super::exp_f32::<Native>(x)
}

fn sigmoid_f32(x: f32) -> f32 {
    super::sigmoid_f32::<Native>(x)
}

fn tanh_f32(x: f32) -> f32 {
    super::tanh_f32::<Native>(x)
}

const INF: f32 = f32::INFINITY;
const MIN_SUBNORMAL: f32 = f32::from_bits(1);

/// Compares bits, so that −0 is not 0; NaN equals NaN.
fn check(name: &str, f: fn(f32) -> f32, cases: &[(f32, f32)]) {
    for &(x, want) in cases {
        let got = f(x);
        let same = got.to_bits() == want.to_bits() || got.is_nan() && want.is_nan();
        assert!(same, "{name}({x:e}): expected {want:e}, found {got:e}");
    }
}

/// (x, f(x)), the latter correctly rounded from 60 digits by mpmath 1.3.
fn bits<const N: usize>(pairs: [(f32, u32); N]) -> [(f32, f32); N] {
    pairs.map(|(x, y)| (x, f32::from_bits(y)))
}

#[test]
fn functions_at_known_points_equal_mpmath() {
    check(
        "exp",
        exp_f32,
        &bits([
            (1.0, 0x402d_f854),
            (-1.0, 0x3ebc_5ab2),
            (0.5, 0x3fd3_094c),
            (10.0, 0x46ac_14ee),
            (-20.25, 0x30dc_9ef1),
            (88.0, 0x7ef8_82b7),
            (-87.0, 0x00b3_3687),
            (-95.0, 0x0000_0f64),
            (-103.5, 0x0000_0001),
        ]),
    );
    check(
        "sigmoid",
        sigmoid_f32,
        &bits([
            (1.0, 0x3f3b_26a8),
            (-1.0, 0x3e89_b2b1),
            (0.1, 0x3f06_6509),
            (-10.0, 0x383e_6997),
            (15.0, 0x3f7f_fffb),
            (-80.0, 0x05bf_ecba),
            (-95.0, 0x0000_0f64),
        ]),
    );
    check(
        "tanh",
        tanh_f32,
        &bits([
            (0.25, 0x3e7a_cbf5),
            (-0.5, 0xbeec_9a9f),
            (0.75, 0x3f22_991f),
            (1.0, 0x3f42_f7d6),
            (-3.0, 0xbf7e_bbe9),
            (8.0, 0x3f7f_fffc),
        ]),
    );
    check(
        "ln",
        ln_f32,
        &bits([
            (2.0, 0x3f31_7218),
            (10.0, 0x4013_5d8e),
            (0.5, 0xbf31_7218),
            (1e-40, 0xc2b8_34f2),
            (1.0 + f32::EPSILON, 0x33ff_ffff),
            (3e38, 0x42b1_3196),
        ]),
    );
    check(
        "sin",
        sin_f32,
        &bits([
            (1.0, 0x3f57_6aa4),
            (0.5, 0x3ef5_7744),
            (-2.0, 0xbf68_c7b7),
            (100.0, 0xbf01_a12e),
            (1e22, 0xbf3b_ecc4),
            (std::f32::consts::PI, 0xb3bb_bd2e),
        ]),
    );
    check(
        "cos",
        cos_f32,
        &bits([
            (1.0, 0x3f0a_5140),
            (0.5, 0x3f60_a940),
            (-2.0, 0xbed5_1133),
            (100.0, 0x3f5c_c0ee),
            (1e22, 0x3f2d_d6f7),
            (std::f32::consts::FRAC_PI_2, 0xb33b_bd2e),
        ]),
    );
}

#[test]
fn exp_at_its_edges_overflows_and_underflows_where_it_must() {
    let last_finite = f32::from_bits(0x42b1_7217); // 88.72283
    let last_positive = f32::from_bits(0xc2cf_f1b4); // -103.97207, e^x just above half of the least subnormal
    check(
        "exp",
        exp_f32,
        &[
            (0.0, 1.0),
            (-0.0, 1.0),
            (MIN_SUBNORMAL, 1.0),
            (last_finite, f32::from_bits(0x7f7f_ff84)),
            (last_finite.next_up(), INF),
            (100.0, INF),
            (250.0, INF),
            (1e5, INF),
            (f32::MAX, INF),
            (INF, INF),
            (last_positive, MIN_SUBNORMAL),
            (last_positive.next_down(), 0.0),
            (-110.0, 0.0),
            (-250.0, 0.0),
            (-1e5, 0.0),
            (f32::MIN, 0.0),
            (-INF, 0.0),
            (f32::NAN, f32::NAN),
        ],
    );
}

#[test]
fn sigmoid_at_its_edges_is_zero_one_or_subnormal() {
    check(
        "sigmoid",
        sigmoid_f32,
        &[
            (0.0, 0.5),
            (-0.0, 0.5),
            (MIN_SUBNORMAL, 0.5),
            (120.0, 1.0),
            (INF, 1.0),
            (-100.0, exp_f32(-100.0)),
            (-120.0, 0.0),
            (-250.0, 0.0),
            (-1e5, 0.0),
            (-INF, 0.0),
            (f32::NAN, f32::NAN),
        ],
    );
    assert!(sigmoid_f32(-100.0) > 0.0);
    assert_eq!([-INF, INF, 0.0].map(|x| sigmoid(x as f64)), [0.0, 1.0, 0.5]);
    assert!(sigmoid(f64::NAN).is_nan());
    // 1 + e^745 would overflow.
    assert_eq!(sigmoid(-744.0), exp(-744.0));
}

#[test]
fn tanh_is_odd_saturates_and_keeps_tiny_arguments() {
    for x in [0.0, MIN_SUBNORMAL, f32::MIN_POSITIVE, 1e-30, 1e-10, 1e-4] {
        check("tanh", tanh_f32, &[(x, x), (-x, -x)]);
    }
    for x in [9.1, 10.0, 50.0, 100.0, 250.0, 1e5, f32::MAX, INF] {
        check("tanh", tanh_f32, &[(x, 1.0), (-x, -1.0)]);
    }
    check("tanh", tanh_f32, &[(f32::NAN, f32::NAN)]);
    assert!(tanh_f32(8.9) < 1.0);
}

#[test]
fn ln_sin_and_cos_at_their_edges_follow_ieee() {
    check(
        "ln",
        ln_f32,
        &[
            (0.0, -INF),
            (-0.0, -INF),
            (1.0, 0.0),
            (INF, INF),
            (-MIN_SUBNORMAL, f32::NAN),
            (-1.0, f32::NAN),
            (-INF, f32::NAN),
            (f32::NAN, f32::NAN),
        ],
    );
    let tiny = [-0.0, 0.0, MIN_SUBNORMAL, -1e-20];
    check("sin", sin_f32, &tiny.map(|x| (x, x)));
    check("cos", cos_f32, &tiny.map(|x| (x, 1.0)));
    for f in [sin_f32, cos_f32] {
        check("sin or cos", f, &[(INF, f32::NAN), (-INF, f32::NAN), (f32::NAN, f32::NAN)]);
    }
}

#[test]
fn exp_of_nonpositive_equals_exp_bit_for_bit() {
    let spread = (0..20_011).map(|i| i as f32 * -0.006);
    for x in spread.chain([-0.0, -MIN_SUBNORMAL, -103.972_08, -104.0, f32::MIN, -INF, f32::NAN]) {
        check("exp", exp_f32, &[(x, exp_of_nonpositive_f32::<Native>(x))]);
    }
}

/// The seams: of the reduction by ln 2 at each (n + ½)·ln 2, of the polynomial of tanh, of the cuts, and of the sign.
#[test]
fn functions_across_their_seams_never_fall_by_more_than_an_ulp() {
    let reduction = (-149..128).map(|n| (n as f32 + 0.5) * std::f32::consts::LN_2);
    let seams: Vec<f32> = reduction.chain([0.0, 0.625, -0.625, 10.0, -10.0, 89.0, -104.0]).collect();
    for (name, f) in [("exp", exp_f32 as fn(f32) -> f32), ("sigmoid", sigmoid_f32), ("tanh", tanh_f32)] {
        for seam in seams.iter().flat_map(|&s| [s, s / 2.0]) {
            let mut x = seam;
            for _ in 0..100 {
                x = x.next_down();
            }
            for _ in 0..200 {
                let next = x.next_up();
                assert!(f(x).next_down() <= f(next), "{name} falls from {x:e} to {next:e}");
                x = next;
            }
        }
    }
}

every_instruction_set! {
    /// exp, sigmoid and tanh of each x, as a hot loop would take them.
    #[inline(never)]
    fn all_three<F>(x: &[F], exp: &mut [F], sigmoid: &mut [F], tanh: &mut [F]) {
        for (y, x) in exp.iter_mut().zip(x) {
            *y = x.exp::<P>();
        }
        for (y, x) in sigmoid.iter_mut().zip(x) {
            *y = x.sigmoid::<P>();
        }
        for (y, x) in tanh.iter_mut().zip(x) {
            *y = x.tanh::<P>();
        }
    }
}

/// In an optimised build the loops are SIMD; an odd length leaves a scalar tail.
#[test]
fn loop_over_a_slice_equals_one_call_each_bit_for_bit() {
    let x: Vec<f32> = (0..100_003u32).map(|i| f32::from_bits(i.wrapping_mul(0x9e37_79b9))).collect();
    let mut y = [vec![f32::NAN; x.len()], vec![f32::NAN; x.len()], vec![f32::NAN; x.len()]];
    let [exp, sigmoid, tanh] = &mut y;
    all_three(&x, exp, sigmoid, tanh);
    for (i, &x) in x.iter().enumerate() {
        check("exp", exp_f32, &[(x, exp[i])]);
        check("sigmoid", sigmoid_f32, &[(x, sigmoid[i])]);
        check("tanh", tanh_f32, &[(x, tanh[i])]);
    }
}
