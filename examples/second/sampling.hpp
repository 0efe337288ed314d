// Drawing pictures by ddpm, ddim and dpm-multistep, clipped to [-1, 1]. Written from docs/bits.md, section 9.
#pragma once
#include "training.hpp"
#include <fstream>
#include <sstream>
#include <stdexcept>

struct Level {
    size_t t; // 0: the clean image
    double abar, signal, sigma;
};

struct Step {
    vector<double> weights; // of x^0, x, z (ddpm); x^0, eps^, z (ddim); x, x^0, x^0 one step before (dpm-multistep)
    Images before, x;       // before and after the step
};

struct Sampler {
    Unet &net;
    std::string name;
    size_t steps;
    double guidance = 1, least = 0, most = INFINITY; // where sigma / signal is from least to most
    uint64_t first = 0;                              // picture's number

    vector<Level> levels() const {
        vector<Level> list;
        double T = 1000, stride = (T - T / double(steps)) - T;
        for (size_t i = 0; i < steps; ++i) {
            size_t t = size_t(std::nearbyint(T + double(i) * stride));
            double abar = alpha_bar()[t], ratio = std::sqrt((1 - abar) / abar), d = std::sqrt(1 + ratio * ratio);
            if (name == "dpm-multistep") list.push_back({t, abar, 1 / d, ratio / d});
            else list.push_back({t, abar, signal_of(t), sigma_of(t)});
        }
        list.push_back({0, 1, 1, 0});
        return list;
    }

    // `Guidance`.
    Images output(const Images &x, const Level &level) {
        size_t classes = net.config.classes ? net.config.classes - 1 : 1;
        vector<double> times(x.n, double(level.t - 1));
        vector<size_t> labels;
        for (size_t i = 0; i < x.n; ++i) labels.push_back((first + i) % classes);
        Images told = net.forward(x, times, labels);
        double ratio = level.sigma / level.signal;
        if (guidance == 1 || ratio < least || ratio > most) return told;
        Images none = net.forward(x, times, vector<size_t>(x.n, classes));
        return each(none, [&](float none, size_t i) { return none + f32(guidance) * (told.v[i] - none); });
    }

    // Pictures from the first on: x after each step.
    vector<Step> draw(size_t count) {
        size_t size = net.config.side * net.config.side;
        Images x(count, net.config.side, net.config.side, 1), x_0_before;
        for (uint64_t picture = 0; picture < count; ++picture) {
            vector<float> z = Stream(42, "sample.x_T", {first + picture}).normals32(size);
            std::copy(z.begin(), z.end(), x.v.begin() + long(picture * size));
        }
        vector<Level> list = levels();
        vector<Step> done;
        for (size_t i = 0; i < steps; ++i) {
            const Level &now = list[i], &next = list[i + 1];
            Images out = output(x, now);
            float a = f32(now.signal), b = f32(now.sigma);
            Images x_0 = each(x, [&](float x, size_t j) { // `What is seen`
                float seen = net.config.velocity ? a * x - b * out.v[j] : (x - b * out.v[j]) / a;
                return seen > 1 ? 1 : seen < -1 ? -1 : seen;
            });
            Images eps = each(x, [&](float x, size_t j) { return (x - a * x_0.v[j]) / b; });
            Images z = x;
            for (uint64_t picture = 0; picture < count; ++picture) {
                vector<float> noise = Stream(42, "sample.noise", {first + picture, now.t}).normals32(size);
                std::copy(noise.begin(), noise.end(), z.v.begin() + long(picture * size));
            }
            vector<double> w = weights(i == 0 ? nullptr : &list[i - 1], now, next);
            vector<const Images *> terms = {&x, &x_0, &x_0_before};
            if (name == "ddpm") terms = {&x_0, &x, &z};
            if (name == "ddim") terms = {&x_0, &eps, &z};
            Images to = each(x, [&](float, size_t j) { // `A step`
                float sum = f32(w[0]) * terms[0]->v[j];
                for (size_t k = 1; k < w.size(); ++k) sum = sum + f32(w[k]) * terms[k]->v[j];
                return sum;
            });
            done.push_back({w, x, to});
            x_0_before = x_0;
            x = to;
        }
        return done;
    }

    vector<double> weights(const Level *before, const Level &now, const Level &next) const {
        double alpha = now.abar / next.abar, beta = 1 - alpha, share = beta / (1 - now.abar);
        if (name == "ddpm") {
            double z = next.t == 0 ? 0 : std::sqrt((1 - next.abar) * share);
            return {std::sqrt(next.abar) * share, std::sqrt(alpha) * ((1 - next.abar) / (1 - now.abar)), z};
        }
        if (name == "ddim") { // eta = 0
            double var = 0.0 * 0.0 * ((1 - next.abar) * share);
            return {next.signal, std::sqrt(1 - next.abar - var), std::sqrt(var)};
        }
        if (next.t == 0) return {0, 1};
        auto lambda = [](const Level &l) { return msun::ln(l.signal) - msun::ln(l.sigma); };
        double h = lambda(next) - lambda(now), first = -next.signal * msun::expm1(-h), second = 0.5 * first;
        if (!before) return {next.sigma / now.sigma, first};
        double r = (lambda(now) - lambda(*before)) / h;
        return {next.sigma / now.sigma, first + second / r, -second / r};
    }
};

inline std::string read_file(const std::string &path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

// Section 8, read: the header of `expected`, made of the same tensors, has to be the file's; then the numbers are.
inline void load_model(Parameters &p, const std::string &file) {
    // Where each number of a file is from: a model whose weights are their own places, which f32 holds exactly.
    vector<float> places(p.w.size());
    for (size_t i = 0; i < places.size(); ++i) places[i] = float(i);
    std::string numbered = model_file(p, places);
    size_t body = numbered.size() - 4 * places.size();
    if (file.size() != numbered.size() || file.compare(0, body, numbered, 0, body) != 0)
        throw std::runtime_error("the model's file has other tensors than the network");
    for (size_t i = 0; i < places.size(); ++i) {
        float place;
        std::memcpy(&place, &numbered[body + 4 * i], 4);
        std::memcpy(&p.w[size_t(place)], &file[body + 4 * i], 4);
    }
}
