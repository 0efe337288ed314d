// Data, a training step, and the model's file. Written from docs/bits.md, sections 6, 7 and 8.
#pragma once
#include "unet.hpp"
#include <algorithm>
#include <cstdlib>
#include <string>

// Section 7, `Tables`: abar_0 to abar_1000 of linear beta.
inline const vector<double> &alpha_bar() {
    static const vector<double> table = [] {
        vector<double> abar = {1};
        for (size_t t = 1; t <= 1000; ++t) abar.push_back(abar.back() * (1 - linspace(1e-4, 0.02, 1000, t - 1)));
        return abar;
    }();
    return table;
}

inline double signal_of(size_t t) { return std::sqrt(alpha_bar()[t]); }
inline double sigma_of(size_t t) { return std::sqrt(1 - alpha_bar()[t]); }

// Section 6: the numbers of an image of bytes.
inline vector<float> pixels(const vector<uint8_t> &bytes) {
    vector<float> image;
    for (uint8_t b : bytes) image.push_back(f32(double(b) / 127.5 - 1.0));
    return image;
}

// Section 6, `shapes`: image i of those for training, side x side x 1.
inline vector<uint8_t> shape(uint64_t i, int64_t side) {
    Stream stream(0, "data.shapes", {0, i});
    auto within = [&](uint64_t a, uint64_t b) { return int64_t(a + stream.below(b - a + 1)); };
    const int64_t size = 8 * side;
    int64_t radius = within(size / 5, size * 3 / 8), cy = within(uint64_t(radius), uint64_t(size - radius)),
            cx = within(uint64_t(radius), uint64_t(size - radius)), bg = within(0, 95), fg = within(128, 255);
    vector<uint8_t> image;
    for (int64_t row = 0; row < side; ++row)
        for (int64_t column = 0; column < side; ++column) {
            int64_t inside = 0;
            for (int64_t k = 0; k < 16; ++k) {
                int64_t y = 8 * row - cy + 2 * (k / 4) + 1, x = 8 * column - cx + 2 * (k % 4) + 1;
                int64_t high = std::max(std::abs(y), std::abs(x)), low = std::min(std::abs(y), std::abs(x));
                inside += i % 4 == 0   ? y * y + x * x <= radius * radius
                          : i % 4 == 1 ? high <= radius
                          : i % 4 == 2 ? y <= radius && 2 * std::abs(x) <= y + radius
                                       : high <= radius && 3 * low <= radius;
            }
            image.push_back(uint8_t((bg * (16 - inside) + fg * inside + 8) / 16));
        }
    return image;
}

struct Data {
    vector<vector<float>> images;
    vector<size_t> labels;
};

inline Data shapes(uint64_t count, int64_t side) {
    Data data;
    for (uint64_t i = 0; i < count; ++i) data.images.push_back(pixels(shape(i, side))), data.labels.push_back(i % 4);
    return data;
}

struct Batch {
    vector<size_t> times, labels;
    vector<Images> x_0, x_t, target; // by microbatches of 4
};

inline uint64_t draw_time(const Config &config, Stream stream) {
    if (!config.velocity) return 1 + stream.below(1000);
    double goal = 0.4 + 1.3 * stream.normals(1)[0]; // log-normal, section 7, `Times`
    auto g = [](size_t t) { return msun::ln(sigma_of(t)) - msun::ln(signal_of(t)); };
    size_t low = 1, high = 1000;
    while (low + 1 < high) {
        size_t mid = (low + high) / 2;
        (g(mid) <= goal ? low : high) = mid;
    }
    return goal - g(low) <= g(high) - goal ? low : high;
}

struct Part {
    double loss;
    vector<float> gradient;
};

// Section 7, `Loss`: of microbatches x and what they should become.
inline Part loss_and_gradient(Unet &net, const vector<Images> &x, const vector<Images> &target, const vector<double> &times,
                              const vector<size_t> &labels, Place place) {
    vector<float> &g = net.p.g;
    double count = double(times.size() * net.config.side * net.config.side);
    auto leaf = [&](size_t i) {
        std::fill(g.begin(), g.end(), 0.0f);
        place.first = 4 * i;
        size_t end = 4 * i + x[i].n;
        Images y = net.forward(x[i], {&times[4 * i], &times[0] + end}, {&labels[4 * i], &labels[0] + end}, &place);
        double squares = lanes(y.v.size(), [&](size_t j) {
            double d = double(y.v[j]) - double(target[i].v[j]);
            return d * d;
        });
        net.backward(each(y, [&](float y, size_t j) { return f32(2.0 / count) * (y - target[i].v[j]); }));
        return Part{squares, g};
    };
    Part all = tree(0, x.size(), leaf, [](Part a, const Part &b) {
        for (size_t i = 0; i < a.gradient.size(); ++i) a.gradient[i] = a.gradient[i] + b.gradient[i];
        return Part{a.loss + b.loss, a.gradient};
    });
    return {all.loss / count, all.gradient};
}

struct Trainer {
    Unet net;
    const Data &data;
    vector<float> m, v, average;
    double loss = 0, norm = 0, lr = 0;

    Trainer(const Config &config, const Data &data) : net(config), data(data) {
        net.draw_first_values(42);
        average = net.p.w;
        m.resize(average.size());
        v.resize(average.size());
    }

    // Section 7, `Times` and `Images`; section 6, `Labels`.
    Batch batch(uint64_t n) const {
        const Config &config = net.config;
        size_t side = config.side, all = data.images.size();
        Batch b;
        vector<uint64_t> order;
        for (uint64_t i = 0; i < config.batch; ++i) {
            uint64_t position = (n - 1) * config.batch + i;
            if (i == 0 || position % all == 0) order = Stream(42, "train.order", {position / all}).permutation(all);
            if (i % 4 == 0) b.x_0.emplace_back(std::min<size_t>(4, config.batch - i), side, side, 1), b.x_t.push_back(b.x_0.back()), b.target.push_back(b.x_0.back());
            size_t image = order[position % all], t = draw_time(config, Stream(42, "train.t", {n, i}));
            bool hidden = Stream(42, "train.label_dropout", {n, i}).uniform() < config.label_dropout;
            b.times.push_back(t);
            b.labels.push_back(hidden ? config.classes - 1 : data.labels[image]);
            vector<float> eps = Stream(42, "train.noise", {n, i}).normals32(side * side);
            float signal = f32(signal_of(t)), sigma = f32(sigma_of(t));
            for (size_t j = 0; j < side * side; ++j) {
                size_t at = i % 4 * side * side + j;
                float x = b.x_0.back().v[at] = data.images[image][j];
                b.x_t.back().v[at] = signal * x + sigma * eps[j];
                b.target.back().v[at] = config.velocity ? signal * eps[j] - sigma * x : eps[j];
            }
        }
        return b;
    }

    // Section 7 from `Loss` on, and AdamW.
    void step(unsigned n) {
        Batch b = batch(n);
        vector<double> times;
        for (size_t t : b.times) times.push_back(double(t - 1));
        Part all = loss_and_gradient(net, b.x_t, b.target, times, b.labels, {42, n, 0});
        loss = all.loss;
        double squares = 0;
        for (const Tensor &tensor : net.p.list)
            squares += lanes(tensor.size, [&](size_t i) { return double(all.gradient[tensor.at + i]) * double(all.gradient[tensor.at + i]); });
        norm = std::sqrt(squares);
        update(n, all.gradient);
    }

    void update(unsigned n, const vector<float> &gradient) {
        const Config &config = net.config;
        double shrink = 1.0 / (norm + 1e-6), warm_up = config.warm_up_steps;
        lr = 2e-3;
        double x = (n - warm_up) / (config.steps - warm_up + 1);
        lr = n < config.warm_up_steps ? lr * n / warm_up : lr * 0.5 * (1.0 + msun::cos(M_PI * x));
        float clip = f32(shrink < 1 ? shrink : 1), decay = f32(1 - lr * config.weight_decay), c1 = f32(1 - 0.9), beta2 = f32(0.999), c2 = f32(1 - 0.999);
        float root = f32(1 / std::sqrt(1 - power(0.999, n))), eps = f32(1e-8), size = f32(-lr / (1 - power(0.9, n)));
        double i = n - 1, d = std::min(config.ema_decay, (1 + i) / (10 + i));
        vector<float> &w = net.p.w;
        for (size_t j = 0; j < w.size(); ++j) {
            float g = clip * gradient[j];
            m[j] = fma32(c1, g - m[j], m[j]);
            v[j] = fma32(c2 * g, g, beta2 * v[j]);
            w[j] = fma32(size, m[j] / fma32(std::sqrt(v[j]), root, eps), w[j] * decay);
            average[j] = fma32(f32(1 - d), w[j] - average[j], average[j]);
        }
    }
};

// Section 8: the bytes of `diffusion_pytorch_model.safetensors` with these weights.
inline std::string model_file(const Parameters &p, const vector<float> &weights) {
    vector<const Tensor *> sorted;
    for (const Tensor &tensor : p.list) sorted.push_back(&tensor);
    std::sort(sorted.begin(), sorted.end(), [](const Tensor *a, const Tensor *b) { return a->name < b->name; });
    std::string header = "{\"__metadata__\":{\"format\":\"pt\"}", body;
    for (const Tensor *tensor : sorted) {
        vector<size_t> s = tensor->shape;
        vector<float> numbers(weights.begin() + long(tensor->at), weights.begin() + long(tensor->at + tensor->size));
        bool table = tensor->first == First::normals; // a class table lies in memory as in files
        if (s.size() == 4 || (s.size() == 2 && !table)) { // (kh, kw, in, out) to (out, in, kh, kw)
            size_t out = s.back(), in = s[s.size() - 2], taps = tensor->size / in / out;
            vector<float> memory = numbers;
            for (size_t k = 0; k < taps; ++k)
                for (size_t i = 0; i < in; ++i)
                    for (size_t o = 0; o < out; ++o) numbers[(o * in + i) * taps + k] = memory[(k * in + i) * out + o];
            s = s.size() == 4 ? vector<size_t>{out, in, s[0], s[1]} : vector<size_t>{out, in};
        }
        std::string shape;
        for (size_t side : s) shape += (shape.empty() ? "" : ",") + std::to_string(side);
        size_t from = body.size();
        body.append(reinterpret_cast<const char *>(numbers.data()), 4 * numbers.size());
        header += ",\"" + tensor->name + "\":{\"dtype\":\"F32\",\"shape\":[" + shape + "],\"data_offsets\":[" + std::to_string(from) +
                  "," + std::to_string(body.size()) + "]}";
    }
    header += "}";
    while (header.size() % 8) header += ' ';
    uint64_t length = header.size();
    return std::string(reinterpret_cast<const char *>(&length), 8) + header + body;
}
