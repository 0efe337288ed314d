// Sums, products and the functions of one number in f32. Written from docs/bits.md, sections 1 and 3 (f32).
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>
#include <vector>

using std::size_t;
using std::vector;

template <class To, class From> To bits(From x) {
    static_assert(sizeof(To) == sizeof(From), "the same width");
    To y;
    std::memcpy(&y, &x, sizeof y);
    return y;
}

inline float f32(double x) { return static_cast<float>(x); }
inline float fma32(float a, float b, float c) { return std::fma(a, b, c); }

// Section 1, `product`: c (m, n) = a (m, k) b (k, n); onto what c holds if `accumulate`; then the bias, if there is one.
template <class F>
void product(size_t m, size_t k, size_t n, const F *a, const F *b, F *c, bool accumulate = false, const F *bias = nullptr) {
    vector<F> acc(n);
    for (size_t i = 0; i < m; ++i) {
        F *row = c + i * n;
        if (k == 0 && !accumulate) std::fill(row, row + n, F(0));
        for (size_t from = 0; from < k; from += 256) {
            size_t to = from + 256 < k ? from + 256 : k;
            std::fill(acc.begin(), acc.end(), F(0));
            for (size_t l = from; l < to; ++l)
                for (size_t j = 0; j < n; ++j) acc[j] = std::fma(a[i * k + l], b[l * n + j], acc[j]);
            for (size_t j = 0; j < n; ++j) row[j] = from == 0 && !accumulate ? acc[j] : row[j] + acc[j];
        }
        for (size_t j = 0; bias && j < n; ++j) row[j] = row[j] + bias[j];
    }
}

// The transpose of a matrix of `rows` and `columns`.
template <class F> vector<F> transposed(size_t rows, size_t columns, const F *a) {
    vector<F> t(rows * columns);
    for (size_t i = 0; i < rows; ++i)
        for (size_t j = 0; j < columns; ++j) t[j * rows + i] = a[i * columns + j];
    return t;
}

// Section 1, `lanes`: of term(0), ..., term(n - 1), each an f64.
template <class Term> double lanes(size_t n, Term term) {
    double s[16] = {};
    for (size_t i = 0; i < n; ++i) s[i % 16] += term(i);
    for (int width = 8; width >= 1; width /= 2)
        for (int i = 0; i < width; ++i) s[i] += s[i + width];
    return s[0];
}

// Section 1, `columns`: add(p, row) is p with the term of that row added in f32.
template <class Add> double columns(size_t rows, Add add) {
    double total = 0;
    for (size_t from = 0; from < rows; from += 16) {
        float p = 0;
        for (size_t row = from; row < rows && row < from + 16; ++row) p = add(p, row);
        total += p;
    }
    return total;
}

// Section 1, `tree`.
template <class Leaf, class Add> auto tree(size_t lo, size_t hi, Leaf leaf, Add add) -> decltype(leaf(lo)) {
    if (hi - lo == 1) return leaf(lo);
    size_t mid = lo + (hi - lo + 1) / 2;
    auto first = tree(lo, mid, leaf, add);
    auto second = tree(mid, hi, leaf, add);
    return add(first, second);
}

// Section 1, `power`.
inline double power(double x, unsigned n) {
    double p = 1;
    for (int bit = 31; bit >= 0; --bit)
        if (n >> bit) p = n >> bit & 1 ? p * p * x : p * p;
    return p;
}

// Section 1, `linspace`.
inline double linspace(double a, double b, size_t n, size_t i) {
    double step = (b - a) / double(n - 1);
    return i == 0 ? a : i == n - 1 ? b : double(i) * step + a;
}

// Section 3. Their names are also the C library's, whose bits are others.
namespace n1 {
// e^x = m 2^N.
struct Reduced {
    float m;
    int32_t N;
};

inline Reduced reduce(float x) {
    const float LOG2_E = 0x1.715476p+0f, R = 0x1.8p+23f, LN2_HI = 0x1.62e43p-1f, LN2_LO = -0x1.05c61p-29f;
    const float Q0 = 0x1.fffffcp-2f, Q1 = 0x1.55548ep-3f, Q2 = 0x1.5558a4p-5f, Q3 = 0x1.123bccp-7f, Q4 = 0x1.6a5afcp-10f;
    float s = fma32(x, LOG2_E, R), n = s - R;
    int32_t N = int32_t(bits<uint32_t>(s) - bits<uint32_t>(R));
    float r_hi = fma32(n, -LN2_HI, x), r_lo = n * -LN2_LO, r = r_hi + r_lo;
    float q = fma32(fma32(fma32(fma32(Q4, r, Q3), r, Q2), r, Q1), r, Q0);
    float t = r_hi + fma32(r * r, q, r_lo);
    return {1 + t, N};
}

inline float pow2(int32_t k) { return bits<float>(uint32_t(k + 127) << 23); }

inline float exp(float x) {
    x = x > 89 ? 89 : x < -104 ? -104 : x;
    Reduced e = reduce(x);
    int32_t half = e.N >> 1;
    return e.m * pow2(half) * pow2(e.N - half);
}

inline float exp_neg(float x) {
    x = x < -104 ? -104 : x;
    Reduced e = reduce(x);
    return e.m * pow2(e.N + 64) * pow2(-64);
}

inline float sigmoid(float x) {
    float z = exp_neg(-std::fabs(x)), q = z / (1 + z), c = x < 0 ? z : 1;
    return fma32(-c, q, c);
}

inline float tanh(float x) {
    const float P0 = -0x1.555532p-2f, P1 = 0x1.1106fep-3f, P2 = -0x1.b8378p-5f, P3 = 0x1.52095ep-6f, P4 = -0x1.7567ecp-8f;
    float a = std::fabs(x), u = a * a;
    float p = fma32(fma32(fma32(fma32(P4, u, P3), u, P2), u, P1), u, P0), near = fma32(a * u, p, a);
    float b = a > 10 ? 10 : a;
    Reduced e = reduce(b + b);
    float far = 1 - 2 / (e.m * pow2(e.N) + 1);
    return std::copysign(a < 0.625f ? near : far, x);
}

inline float silu(float x) { return x * sigmoid(x); }

inline float silu_slope(float x) {
    float s = sigmoid(x);
    return s * fma32(x, 1 - s, 1);
}

inline float gelu(float x) {
    const float A = 0x1.988454p-1f, B = 0x1.6e4e26p-5f;
    return 0.5f * x * (1 + tanh(A * (x + B * x * x * x)));
}

inline float gelu_slope(float x) {
    const float A = 0x1.988454p-1f, B = 0x1.6e4e26p-5f, B3 = 0x1.12ba9ep-3f;
    float h = tanh(A * (x + B * x * x * x));
    return 0.5f * (1 + h) + 0.5f * x * (1 - h * h) * (A * (1 + B3 * x * x));
}
} // namespace n1
