// Attention, resampling and time. Written from docs/bits.md, sections 4 and 5.
#pragma once
#include "layers.hpp"

// Section 4, `Softmax`, in place.
inline void softmax(float *row, size_t n) {
    float max = row[0];
    for (size_t i = 1; i < n; ++i) max = row[i] > max ? row[i] : max;
    for (size_t i = 0; i < n; ++i) row[i] = n1::exp(row[i] - max);
    float total = f32(lanes(n, [&](size_t i) { return double(row[i]); }));
    for (size_t i = 0; i < n; ++i) row[i] = row[i] / total;
}

// Its gradient: p is the softmax, `row` dp and then ds.
inline void softmax_gradient(const float *p, float *row, size_t n) {
    float mean = f32(lanes(n, [&](size_t i) { return double(row[i]) * double(p[i]); }));
    for (size_t i = 0; i < n; ++i) row[i] = p[i] * (row[i] - mean);
}

// Section 4, `Self-attention` of one head, the tokens being the pixels of an image.
struct SelfAttention {
    Linear to_q, to_k, to_v, to_out;
    size_t d = 0;
    Images q, k, v;
    vector<vector<float>> shares; // (tokens, tokens) of each image
    SelfAttention() = default;
    SelfAttention(Parameters &p, const std::string &name, size_t d)
        : to_q(p, name + ".to_q", d, d), to_k(p, name + ".to_k", d, d), to_v(p, name + ".to_v", d, d),
          to_out(p, name + ".to_out.0", d, d, First::zeros), d(d) {}
    float scale() const { return f32(1 / std::sqrt(double(d))); }

    Images forward(const Images &h) {
        q = to_q.forward(h), k = to_k.forward(h), v = to_v.forward(h);
        size_t tokens = h.h * h.w;
        Images o = h;
        shares.clear();
        for (size_t n = 0; n < h.n; ++n) {
            size_t at = n * tokens * d;
            vector<float> s(tokens * tokens);
            product(tokens, d, tokens, &q.v[at], transposed(tokens, d, &k.v[at]).data(), s.data());
            for (float &x : s) x = x * scale();
            for (size_t i = 0; i < tokens; ++i) softmax(&s[i * tokens], tokens);
            product(tokens, tokens, d, s.data(), &v.v[at], &o.v[at]);
            shares.push_back(s);
        }
        return to_out.forward(o);
    }
    Images backward(const Images &dy) {
        Images o = to_out.backward(dy), dq = q, dk = k, dv = v;
        size_t tokens = dy.h * dy.w;
        for (size_t n = 0; n < dy.n; ++n) {
            size_t at = n * tokens * d;
            const vector<float> &p = shares[n];
            vector<float> ds(tokens * tokens);
            product(tokens, tokens, d, transposed(tokens, tokens, p.data()).data(), &o.v[at], &dv.v[at]);
            product(tokens, d, tokens, &o.v[at], transposed(tokens, d, &v.v[at]).data(), ds.data());
            for (size_t i = 0; i < tokens; ++i) softmax_gradient(&p[i * tokens], &ds[i * tokens], tokens);
            for (float &x : ds) x = x * scale();
            product(tokens, tokens, d, ds.data(), &k.v[at], &dq.v[at]);
            product(tokens, tokens, d, transposed(tokens, tokens, ds.data()).data(), &q.v[at], &dk.v[at]);
        }
        Images through_q = to_q.backward(dq), through_k = to_k.backward(dk), through_v = to_v.backward(dv);
        return through_q + through_k + through_v;
    }
};

// Section 4, `Nearest doubling`.
inline Images doubled(const Images &x) {
    Images y(x.n, 2 * x.h, 2 * x.w, x.c);
    for (size_t row = 0; row < y.rows(); ++row) {
        size_t w = row % y.w, h = row / y.w % y.h, n = row / y.w / y.h;
        std::memcpy(&y.v[row * x.c], &x.v[((n * x.h + h / 2) * x.w + w / 2) * x.c], x.c * sizeof(float));
    }
    return y;
}

inline Images doubled_gradient(const Images &dy) {
    Images dx(dy.n, dy.h / 2, dy.w / 2, dy.c);
    for (size_t row = 0; row < dx.rows(); ++row)
        for (size_t c = 0; c < dy.c; ++c) {
            size_t w = row % dx.w, h = row / dx.w % dx.h, n = row / dx.w / dx.h;
            auto at = [&](size_t i, size_t j) { return dy.v[((n * dy.h + 2 * h + i) * dy.w + 2 * w + j) * dy.c + c]; };
            dx.v[row * dy.c + c] = (at(0, 0) + at(0, 1)) + (at(1, 0) + at(1, 1));
        }
    return dx;
}

// Section 4, `Concatenation`, and its gradient.
inline Images concatenated(const Images &a, const Images &b) {
    Images y = a.like(a.c + b.c);
    for (size_t row = 0; row < y.rows(); ++row) {
        std::memcpy(&y.v[row * y.c], &a.v[row * a.c], a.c * sizeof(float));
        std::memcpy(&y.v[row * y.c + a.c], &b.v[row * b.c], b.c * sizeof(float));
    }
    return y;
}

inline Images some_channels(const Images &x, size_t from, size_t to) {
    Images y = x.like(to - from);
    for (size_t row = 0; row < x.rows(); ++row) std::memcpy(&y.v[row * y.c], &x.v[row * x.c + from], y.c * sizeof(float));
    return y;
}

// Section 4, `Time's sinusoids`, with shift 0 and the cosines first.
inline Images sinusoids(const vector<double> &times, size_t dim) {
    Images y(times.size(), 1, 1, dim);
    size_t half = dim / 2;
    for (size_t n = 0; n < times.size(); ++n)
        for (size_t i = 0; i < half; ++i) {
            double w = msun::exp(-msun::ln(10000.0) * double(i) / double(half));
            y.v[n * dim + i] = f32(msun::cos(times[n] * w));
            y.v[n * dim + half + i] = f32(msun::sin(times[n] * w));
        }
    return y;
}

// Section 4, `Class table`: none where it has no rows.
struct ClassTable {
    Parameters *p = nullptr;
    size_t rows = 0, width = 0, weight = 0;
    vector<size_t> labels;
    ClassTable() = default;
    ClassTable(Parameters &p, const std::string &name, size_t rows, size_t width) : p(&p), rows(rows), width(width) {
        if (rows) weight = p.add(name + ".weight", {rows, width}, First::normals);
    }
    Images added_to(const Images &x, const vector<size_t> &told) {
        labels = told;
        if (rows == 0) return x;
        return each(x, [&](float x, size_t i) { return x + p->w[weight + labels[i / width] * width + i % width]; });
    }
    void backward(const Images &dy) {
        for (size_t i = 0; rows && i < dy.v.size(); ++i) p->g[weight + labels[i / width] * width + i % width] += dy.v[i];
    }
};
