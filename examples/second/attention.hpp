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

// Section 4, `Attention`: of every image and head. q and k may differ in tokens, which are the pixels.
struct Attention {
    size_t heads = 1;
    Images q, k, v;
    vector<vector<float>> shares; // of each image and head, (tokens of q, tokens of k)
    explicit Attention(size_t heads = 1) : heads(heads) {}
    float scale() const { return f32(1 / std::sqrt(double(q.c / heads))); }

    // The rows of image n in the channels of a head, and these put where they are from.
    vector<float> part(const Images &x, size_t n, size_t head) const {
        size_t tokens = x.h * x.w, d = x.c / heads;
        vector<float> rows(tokens * d);
        for (size_t i = 0; i < tokens; ++i) std::memcpy(&rows[i * d], &x.v[(n * tokens + i) * x.c + head * d], d * sizeof(float));
        return rows;
    }
    void put(Images &x, size_t n, size_t head, const vector<float> &rows) const {
        size_t tokens = x.h * x.w, d = x.c / heads;
        for (size_t i = 0; i < tokens; ++i) std::memcpy(&x.v[(n * tokens + i) * x.c + head * d], &rows[i * d], d * sizeof(float));
    }
    Images forward(const Images &q_, const Images &k_, const Images &v_) {
        q = q_, k = k_, v = v_;
        size_t tokens = q.h * q.w, others = k.h * k.w, d = q.c / heads;
        Images o = q;
        shares.clear();
        for (size_t n = 0; n < q.n; ++n)
            for (size_t head = 0; head < heads; ++head) {
                vector<float> s(tokens * others), rows(tokens * d);
                product(tokens, d, others, part(q, n, head).data(), transposed(others, d, part(k, n, head).data()).data(), s.data());
                for (float &x : s) x = x * scale();
                for (size_t i = 0; i < tokens; ++i) softmax(&s[i * others], others);
                product(tokens, others, d, s.data(), part(v, n, head).data(), rows.data());
                put(o, n, head, rows);
                shares.push_back(s);
            }
        return o;
    }
    void backward(const Images &d_out, Images &dq, Images &dk, Images &dv) const {
        dq = q, dk = k, dv = v;
        size_t tokens = q.h * q.w, others = k.h * k.w, d = q.c / heads;
        for (size_t n = 0; n < q.n; ++n)
            for (size_t head = 0; head < heads; ++head) {
                const vector<float> &p = shares[n * heads + head], o = part(d_out, n, head);
                vector<float> ds(tokens * others), of_q(tokens * d), of_k(others * d), of_v(others * d);
                product(others, tokens, d, transposed(tokens, others, p.data()).data(), o.data(), of_v.data());
                product(tokens, d, others, o.data(), transposed(others, d, part(v, n, head).data()).data(), ds.data());
                for (size_t i = 0; i < tokens; ++i) softmax_gradient(&p[i * others], &ds[i * others], others);
                for (float &x : ds) x = x * scale();
                product(tokens, others, d, ds.data(), part(k, n, head).data(), of_q.data());
                product(others, tokens, d, transposed(tokens, others, ds.data()).data(), part(q, n, head).data(), of_k.data());
                put(dq, n, head, of_q), put(dk, n, head, of_k), put(dv, n, head, of_v);
            }
    }
};

// Section 4, `Self-attention`.
struct SelfAttention {
    Linear to_q, to_k, to_v, to_out;
    Attention attention;
    SelfAttention() = default;
    SelfAttention(Parameters &p, const std::string &name, size_t channels, size_t heads)
        : to_q(p, name + ".to_q", channels, channels), to_k(p, name + ".to_k", channels, channels),
          to_v(p, name + ".to_v", channels, channels), to_out(p, name + ".to_out.0", channels, channels, First::zeros), attention(heads) {}
    Images forward(const Images &h) {
        return to_out.forward(attention.forward(to_q.forward(h), to_k.forward(h), to_v.forward(h)));
    }
    Images backward(const Images &dy) {
        Images dq, dk, dv;
        attention.backward(to_out.backward(dy), dq, dk, dv);
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
