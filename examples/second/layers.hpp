// Layers and their gradients, a microbatch at a time. Written from docs/bits.md, section 4. A layer keeps what its gradient
// needs: `backward` belongs to the last `forward`. Parameter gradients are added to `Parameters::g`.
#pragma once
#include "streams.hpp"

// n images of h x w pixels with c channels; of the last axis fastest. A vector for each image has h = w = 1.
struct Images {
    size_t n, h, w, c;
    vector<float> v;
    Images(size_t n = 0, size_t h = 0, size_t w = 0, size_t c = 0) : n(n), h(h), w(w), c(c), v(n * h * w * c) {}
    size_t rows() const { return n * h * w; }
    Images like(size_t channels) const { return Images(n, h, w, channels); }
};

inline Images operator+(const Images &a, const Images &b) {
    Images sum = a;
    for (size_t i = 0; i < sum.v.size(); ++i) sum.v[i] = a.v[i] + b.v[i];
    return sum;
}

// f(x, i) of each number x at i.
template <class F> Images each(const Images &x, F f) {
    Images y = x;
    for (size_t i = 0; i < y.v.size(); ++i) y.v[i] = f(x.v[i], i);
    return y;
}

inline Images silu(const Images &x) { return each(x, [](float x, size_t) { return n1::silu(x); }); }
inline Images silu_gradient(const Images &x, const Images &dy) {
    return each(x, [&](float x, size_t i) { return dy.v[i] * n1::silu_slope(x); });
}

// Section 5: tensors in their order and memory order, with what their first values are.
enum class First { uniform, normals, ones, zeros };
struct Tensor {
    std::string name;
    vector<size_t> shape;
    First first;
    size_t fan_in, at, size;
};
struct Parameters {
    vector<Tensor> list;
    vector<float> w, g;
    size_t add(const std::string &name, vector<size_t> shape, First first, size_t fan_in = 1) {
        size_t size = 1, at = w.size();
        for (size_t side : shape) size *= side;
        list.push_back({name, shape, first, fan_in, at, size});
        w.resize(at + size);
        g.resize(at + size);
        return at;
    }
};

struct Linear {
    Parameters *p = nullptr;
    size_t in = 0, out = 0, weight = 0, bias = 0;
    Images x;
    Linear() = default;
    Linear(Parameters &p, const std::string &name, size_t in, size_t out, First first = First::uniform) : p(&p), in(in), out(out) {
        weight = p.add(name + ".weight", {in, out}, first, in);
        bias = p.add(name + ".bias", {out}, first, in);
    }
    Images forward(const Images &input) {
        x = input;
        Images y = x.like(out);
        product(x.rows(), in, out, x.v.data(), &p->w[weight], y.v.data(), false, &p->w[bias]);
        return y;
    }
    Images backward(const Images &dy) {
        size_t rows = x.rows();
        product(in, rows, out, transposed(rows, in, x.v.data()).data(), dy.v.data(), &p->g[weight], true);
        for (size_t o = 0; o < out; ++o)
            p->g[bias + o] += f32(columns(rows, [&](float p, size_t row) { return p + dy.v[row * out + o]; }));
        Images dx = x;
        product(rows, out, in, dy.v.data(), transposed(in, out, &p->w[weight]).data(), dx.v.data());
        return dx;
    }
};

// `side` x `side` taps, the same stride both ways; `pad` zeros all around.
struct Convolution {
    Parameters *p = nullptr;
    size_t side = 0, in = 0, out = 0, stride = 1, pad = 0, weight = 0, bias = 0;
    Images x;
    vector<float> windows;
    Convolution() = default;
    Convolution(Parameters &p, const std::string &name, size_t side, size_t in, size_t out, size_t stride = 1,
                First first = First::uniform)
        : p(&p), side(side), in(in), out(out), stride(stride), pad(side / 2) {
        weight = p.add(name + ".weight", {side, side, in, out}, first, side * side * in);
        bias = p.add(name + ".bias", {out}, first, side * side * in);
    }
    Images forward(const Images &input) {
        x = input;
        Images y(x.n, (x.h + 2 * pad - side) / stride + 1, (x.w + 2 * pad - side) / stride + 1, out);
        windows.assign(y.rows() * side * side * in, 0);
        float *to = windows.data();
        for (size_t n = 0; n < y.n; ++n)
            for (size_t oh = 0; oh < y.h; ++oh)
                for (size_t ow = 0; ow < y.w; ++ow)
                    for (size_t kh = 0; kh < side; ++kh)
                        for (size_t kw = 0; kw < side; ++kw, to += in) {
                            size_t h = oh * stride + kh - pad, w = ow * stride + kw - pad; // beyond x.h where negative
                            if (h < x.h && w < x.w) std::memcpy(to, &x.v[((n * x.h + h) * x.w + w) * in], in * sizeof(float));
                        }
        product(y.rows(), side * side * in, out, windows.data(), &p->w[weight], y.v.data(), false, &p->w[bias]);
        return y;
    }
    Images backward(const Images &dy) {
        size_t taps = side * side * in, rows = dy.rows();
        product(taps, rows, out, transposed(rows, taps, windows.data()).data(), dy.v.data(), &p->g[weight], true);
        for (size_t o = 0; o < out; ++o)
            p->g[bias + o] += f32(columns(rows, [&](float p, size_t row) { return p + dy.v[row * out + o]; }));
        Images dx = x;
        for (size_t rh = 0; rh < stride; ++rh)
            for (size_t rw = 0; rw < stride; ++rw) phase(rh, rw, dy, dx);
        return dx;
    }
    // Of the pixels with h + pad = rh + q stride, and likewise across.
    void phase(size_t rh, size_t rw, const Images &dy, Images &dx) {
        size_t mh = rh < side ? (side - 1 - rh) / stride + 1 : 0, mw = rw < side ? (side - 1 - rw) / stride + 1 : 0;
        size_t k = mh * mw * out;
        vector<float> table; // (k, in), k over m down from the largest, the same across, then o
        for (size_t m = mh; m-- > 0;)
            for (size_t l = mw; l-- > 0;)
                for (size_t o = 0; o < out; ++o)
                    for (size_t i = 0; i < in; ++i)
                        table.push_back(p->w[weight + (((rh + m * stride) * side + rw + l * stride) * in + i) * out + o]);
        vector<float> rows, found; // of dy under each pixel of the phase
        vector<size_t> pixels;
        for (size_t pixel = 0; pixel < x.rows(); ++pixel) {
            size_t w = pixel % x.w + pad, h = pixel / x.w % x.h + pad, n = pixel / x.w / x.h;
            if (h % stride != rh || w % stride != rw) continue;
            pixels.push_back(pixel);
            for (size_t m = mh; m-- > 0;)
                for (size_t l = mw; l-- > 0;)
                    for (size_t o = 0; o < out; ++o) {
                        size_t oh = h / stride - m, ow = w / stride - l; // beyond dy.h where negative
                        rows.push_back(oh < dy.h && ow < dy.w ? dy.v[((n * dy.h + oh) * dy.w + ow) * out + o] : 0);
                    }
        }
        found.resize(pixels.size() * in);
        product(pixels.size(), k, in, rows.data(), table.data(), found.data());
        for (size_t i = 0; i < pixels.size(); ++i) std::memcpy(&dx.v[pixels[i] * in], &found[i * in], in * sizeof(float));
    }
};

struct GroupNorm {
    Parameters *p = nullptr;
    size_t groups = 0, channels = 0, gamma = 0, beta = 0;
    double eps = 1e-5;
    Images x_hat;
    vector<float> r; // (n, groups)
    GroupNorm() = default;
    GroupNorm(Parameters &p, const std::string &name, size_t groups, size_t channels) : p(&p), groups(groups), channels(channels) {
        gamma = p.add(name + ".weight", {channels}, First::ones);
        beta = p.add(name + ".bias", {channels}, First::zeros);
    }
    Images forward(const Images &x) {
        size_t pixels = x.h * x.w, wide = channels / groups;
        double count = double(pixels * wide);
        Images y = x_hat = x;
        r.resize(x.n * groups);
        for (size_t n = 0; n < x.n; ++n)
            for (size_t g = 0; g < groups; ++g) {
                auto at = [&](size_t pixel, size_t c) { return (n * pixels + pixel) * channels + c; };
                double sum = 0, squares = 0;
                for (size_t c = g * wide; c < (g + 1) * wide; ++c)
                    sum += columns(pixels, [&](float p, size_t i) { return p + x.v[at(i, c)]; });
                float mean = f32(sum / count);
                for (size_t c = g * wide; c < (g + 1) * wide; ++c)
                    squares += columns(pixels, [&](float p, size_t i) {
                        float d = x.v[at(i, c)] - mean;
                        return fma32(d, d, p);
                    });
                float root = r[n * groups + g] = f32(1 / std::sqrt(squares / count + eps));
                for (size_t c = g * wide; c < (g + 1) * wide; ++c)
                    for (size_t i = 0; i < pixels; ++i) {
                        float h = x_hat.v[at(i, c)] = (x.v[at(i, c)] - mean) * root;
                        y.v[at(i, c)] = fma32(h, p->w[gamma + c], p->w[beta + c]);
                    }
            }
        return y;
    }
    Images backward(const Images &dy) {
        size_t pixels = dy.h * dy.w, wide = channels / groups;
        double count = double(pixels * wide);
        Images dx = dy;
        for (size_t n = 0; n < dy.n; ++n)
            for (size_t g = 0; g < groups; ++g) {
                auto at = [&](size_t pixel, size_t c) { return (n * pixels + pixel) * channels + c; };
                double sum1 = 0, sum2 = 0;
                for (size_t c = g * wide; c < (g + 1) * wide; ++c) {
                    double dbeta = columns(pixels, [&](float p, size_t i) { return p + dy.v[at(i, c)]; });
                    double dgamma = columns(pixels, [&](float p, size_t i) { return fma32(dy.v[at(i, c)], x_hat.v[at(i, c)], p); });
                    sum1 += double(p->w[gamma + c]) * dbeta;
                    sum2 += double(p->w[gamma + c]) * dgamma;
                    p->g[gamma + c] += f32(dgamma);
                    p->g[beta + c] += f32(dbeta);
                }
                float m1 = f32(sum1 / count), m2 = f32(sum2 / count), root = r[n * groups + g];
                for (size_t c = g * wide; c < (g + 1) * wide; ++c)
                    for (size_t i = 0; i < pixels; ++i)
                        dx.v[at(i, c)] = root * fma32(-x_hat.v[at(i, c)], m2, fma32(p->w[gamma + c], dy.v[at(i, c)], -m1));
            }
        return dx;
    }
};
