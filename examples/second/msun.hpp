// The functions of one number in f64 that are no single operation: those of musl (from FreeBSD's msun, Copyright 1993 by Sun
// Microsystems), as docs/bits.md, section 3 names them. glibc's are others and differ in last bits.
#pragma once
#include "numbers.hpp"
#include <stdexcept>

namespace msun {
const double LN2_HI = 6.93147180369123816490e-01, LN2_LO = 1.90821492927058770002e-10, INV_LN2 = 1.44269504088896338700;

inline uint32_t high_word(double x) { return uint32_t(bits<uint64_t>(x) >> 32); }
inline double two_to(int k) { return bits<double>(uint64_t(0x3ff + k) << 52); }

// x = k ln 2 + (hi - lo), where |hi - lo| <= ln(2) / 2: how exp and expm1 begin.
inline void reduce(double x, double &hi, double &lo, int &k) {
    uint32_t size = high_word(x) & 0x7fffffff;
    bool negative = x < 0;
    if (size <= 0x3fd62e42) { k = 0; hi = x; lo = 0; return; }
    k = size < 0x3ff0a2b2 ? (negative ? -1 : 1) : int(INV_LN2 * x + (negative ? -0.5 : 0.5));
    hi = x - k * LN2_HI;
    lo = k * LN2_LO;
}

inline double exp(double x) {
    const double P1 = 1.66666666666666019037e-01, P2 = -2.77777777770155933842e-03, P3 = 6.61375632143793436117e-05,
                 P4 = -1.65339022054652515390e-06, P5 = 4.13813679705723846039e-08;
    if (std::isnan(x)) return x;
    if (x > 709.782712893383973096) return INFINITY;
    if (x < -745.13321910194110842) return 0;
    if ((high_word(x) & 0x7fffffff) <= 0x3e300000) return 1 + x;
    double hi, lo;
    int k;
    reduce(x, hi, lo, k);
    double r = hi - lo, rr = r * r, c = r - rr * (P1 + rr * (P2 + rr * (P3 + rr * (P4 + rr * P5))));
    double y = 1 + (r * c / (2 - c) - lo + hi);
    return k == 0 ? y : std::scalbn(y, k);
}

inline double expm1(double x) {
    const double Q1 = -3.33333333333331316428e-02, Q2 = 1.58730158725481460165e-03, Q3 = -7.93650757867487942473e-05,
                 Q4 = 4.00821782732936239552e-06, Q5 = -2.01099218183624371326e-07;
    uint32_t size = high_word(x) & 0x7fffffff;
    if (std::isnan(x)) return x;
    if (size >= 0x4043687a && x < 0) return -1;
    if (x > 7.09782712893383973096e+02) return INFINITY;
    if (size < 0x3c900000) return x;
    double hi, lo;
    int k;
    reduce(x, hi, lo, k);
    double r = hi - lo, c = (hi - r) - lo, half = 0.5 * r, hxs = r * half;
    double r1 = 1 + hxs * (Q1 + hxs * (Q2 + hxs * (Q3 + hxs * (Q4 + hxs * Q5))));
    double t = 3 - r1 * half, e = hxs * ((r1 - t) / (6 - r * t));
    if (k == 0) return r - (r * e - hxs);
    e = r * (e - c) - c;
    e -= hxs;
    if (k == -1) return 0.5 * (r - e) - 0.5;
    if (k == 1) return r < -0.25 ? -2 * (e - (r + 0.5)) : 1 + 2 * (r - e);
    if (k < 0 || k > 56) {
        double y = r - e + 1;
        y = k == 1024 ? y * 2 * 0x1p1023 : y * two_to(k);
        return y - 1;
    }
    return k < 20 ? (r - e + (1 - two_to(-k))) * two_to(k) : (r - (e + two_to(-k)) + 1) * two_to(k);
}

inline double tanh(double x) {
    double a = std::fabs(x), t;
    uint32_t size = high_word(a);
    if (size > 0x40340000) {
        t = 1 - 0 / a;
    } else if (size > 0x3fe193ea) {
        t = 1 - 2 / (expm1(2 * a) + 2);
    } else if (size > 0x3fd058ae) {
        t = expm1(2 * a);
        t = t / (t + 2);
    } else if (size >= 0x00100000) {
        t = expm1(-2 * a);
        t = -t / (t + 2);
    } else {
        t = a;
    }
    return std::signbit(x) ? -t : t;
}

// Section 3, f64.
inline double sigmoid(double x) {
    double z = exp(-std::fabs(x));
    return (x < 0 ? z : 1) / (1 + z);
}

inline double ln(double x) {
    const double G1 = 6.666666666666735130e-01, G2 = 3.999999999940941908e-01, G3 = 2.857142874366239149e-01,
                 G4 = 2.222219843214978396e-01, G5 = 1.818357216161805012e-01, G6 = 1.531383769920937332e-01,
                 G7 = 1.479819860511658591e-01;
    if (x == 0) return -INFINITY;
    if (x < 0) return NAN;
    if (!(x < INFINITY)) return x;
    if (x == 1) return 0;
    int k = 0;
    if (x < 0x1p-1022) { x *= 0x1p54; k = -54; }
    uint32_t high = high_word(x) + (0x3ff00000 - 0x3fe6a09e);
    k += int(high >> 20) - 0x3ff;
    high = (high & 0xfffff) + 0x3fe6a09e;
    x = bits<double>(uint64_t(high) << 32 | (bits<uint64_t>(x) & 0xffffffff));
    double f = x - 1, hfsq = 0.5 * f * f, s = f / (2 + f), z = s * s, w = z * z;
    double t1 = w * (G2 + w * (G4 + w * G6)), t2 = z * (G1 + w * (G3 + w * (G5 + w * G7))), r = t2 + t1;
    return s * (hfsq + r) + k * LN2_LO - hfsq + f + k * LN2_HI;
}

// x = n pi / 2 + (y0 + y1), |x| below 2^20 pi / 2.
inline int remainder(double x, double &y0, double &y1) {
    const double INV = 6.36619772367581382433e-01, P1 = 1.57079632673412561417, P1T = 6.07710050650619224932e-11,
                 P2 = 6.07710050630396597660e-11, P2T = 2.02226624879595063154e-21, P3 = 2.02226624871116645580e-21,
                 P3T = 8.47842766036889956997e-32;
    uint32_t size = high_word(x) & 0x7fffffff;
    if (size >= 0x413921fb) throw std::runtime_error("sin and cos of numbers from 2^20 pi / 2 on are not written here");
    bool near = size <= 0x400f6a7a ? (size & 0xfffff) == 0x921fb : size == 0x4012d97c || size == 0x401921fb;
    if (size <= 0x401c463b && !near) {
        int n = size <= 0x4002d97c ? 1 : size <= 0x400f6a7a ? 2 : size <= 0x4015fdbc ? 3 : 4;
        n = x < 0 ? -n : n;
        double z = x - n * P1;
        y0 = z - n * P1T;
        y1 = (z - y0) - n * P1T;
        return n;
    }
    auto exponent = [](double v) { return int(high_word(v) >> 20 & 0x7ff); };
    double n = x * INV + 0x1.8p52 - 0x1.8p52, r = x - n * P1, w = n * P1T;
    y0 = r - w;
    if (exponent(x) - exponent(y0) > 16) {
        double t = r;
        w = n * P2;
        r = t - w;
        w = n * P2T - ((t - r) - w);
        y0 = r - w;
        if (exponent(x) - exponent(y0) > 49) {
            t = r;
            w = n * P3;
            r = t - w;
            w = n * P3T - ((t - r) - w);
            y0 = r - w;
        }
    }
    y1 = (r - y0) - w;
    return int(n);
}

inline double sin_near(double x, double y, bool exact) {
    const double S1 = -1.66666666666666324348e-01, S2 = 8.33333333332248946124e-03, S3 = -1.98412698298579493134e-04,
                 S4 = 2.75573137070700676789e-06, S5 = -2.50507602534068634195e-08, S6 = 1.58969099521155010221e-10;
    double z = x * x, w = z * z, r = S2 + z * (S3 + z * S4) + z * w * (S5 + z * S6), v = z * x;
    return exact ? x + v * (S1 + z * r) : x - ((z * (0.5 * y - v * r) - y) - v * S1);
}

inline double cos_near(double x, double y) {
    const double C1 = 4.16666666666666019037e-02, C2 = -1.38888888888741095749e-03, C3 = 2.48015872894767294178e-05,
                 C4 = -2.75573143513906633035e-07, C5 = 2.08757232129817482790e-09, C6 = -1.13596475577881948265e-11;
    double z = x * x, w = z * z, r = z * (C1 + z * (C2 + z * C3)) + w * w * (C4 + z * (C5 + z * C6));
    double hz = 0.5 * z;
    w = 1 - hz;
    return w + (((1 - w) - hz) + (z * r - x * y));
}

// sin(x + quarters pi / 2): sin has none, cos has one.
inline double wave(double x, int quarters) {
    if (!std::isfinite(x)) return NAN;
    uint32_t size = high_word(x) & 0x7fffffff;
    if (size <= 0x3fe921fb) {
        if (quarters) return size < 0x3e46a09e ? 1 : cos_near(x, 0);
        return size < 0x3e500000 ? x : sin_near(x, 0, true);
    }
    double y0, y1;
    switch ((remainder(x, y0, y1) + quarters) & 3) {
        case 0: return sin_near(y0, y1, false);
        case 1: return cos_near(y0, y1);
        case 2: return -sin_near(y0, y1, false);
        default: return -cos_near(y0, y1);
    }
}

inline double sin(double x) { return wave(x, 0); }
inline double cos(double x) { return wave(x, 1); }
} // namespace msun
