// The U-Net and its gradient, with one resnet a level down. Written from docs/bits.md, section 5.
#pragma once
#include "attention.hpp"

// The columns of the table in section 5, and what is alike in both but another in the selftest (section 11, `network`).
struct Config {
    std::string name;
    size_t side;                // images are side x side x 1
    vector<size_t> channels;    // block_out_channels
    size_t groups, classes;     // rows of the class table, 0 for none
    double label_dropout;
    bool scale_shift, velocity; // v is predicted, else eps
    unsigned warm_up_steps, steps;
    size_t batch = 16, head_channels = 0; // 0: one head
    double dropout = 0, weight_decay = 0, ema_decay = 0.999;
    size_t width() const { return 4 * channels[0]; }
};

// Where a microbatch stands in training: the first of its images in the batch of step n.
struct Place {
    uint64_t seed, n, first;
};

// Section 4, `Dropout`: the factors of x; 1 outside of training.
inline Images dropout_factors(const Images &x, double p, const Place *place, uint64_t layer) {
    Images f = each(x, [](float, size_t) { return 1.0f; });
    size_t size = x.h * x.w * x.c;
    for (uint64_t i = 0; place && p > 0 && i < x.n; ++i) {
        Stream stream(place->seed, "train.dropout", {place->n, place->first + i, layer});
        for (size_t j = 0; j < size; ++j) f.v[i * size + j] = stream.uniform() < p ? 0 : f32(1 / (1 - p));
    }
    return f;
}

inline Images operator*(const Images &a, const Images &b) {
    return each(a, [&](float a, size_t i) { return a * b.v[i]; });
}

struct Resnet {
    GroupNorm norm1, norm2;
    Convolution conv1, conv2, shortcut;
    Linear time;
    bool scale_shift, has_shortcut;
    size_t out;
    double p;
    uint64_t layer; // of dropout
    Images normed1, normed2, u, before_silu, factors;

    Resnet(Parameters &p, const std::string &name, const Config &config, size_t in, size_t out, uint64_t layer)
        : scale_shift(config.scale_shift), has_shortcut(in != out), out(out), p(config.dropout), layer(layer) {
        norm1 = GroupNorm(p, name + ".norm1", config.groups, in);
        conv1 = Convolution(p, name + ".conv1", 3, in, out);
        time = Linear(p, name + ".time_emb_proj", config.width(), scale_shift ? 2 * out : out);
        norm2 = GroupNorm(p, name + ".norm2", config.groups, out);
        conv2 = Convolution(p, name + ".conv2", 3, out, out, 1, First::zeros);
        if (has_shortcut) shortcut = Convolution(p, name + ".conv_shortcut", 1, in, out);
    }
    // u's number c of the image that element i of h is in.
    float of_time(const Images &h, size_t i, size_t c) const { return u.v[i / (h.h * h.w * h.c) * u.c + c]; }

    Images forward(const Images &x, const Images &e, const Place *place) {
        normed1 = norm1.forward(x);
        Images h = conv1.forward(silu(normed1));
        u = time.forward(e);
        if (scale_shift) {
            normed2 = norm2.forward(h);
            before_silu = each(normed2, [&](float x, size_t i) {
                return fma32(x, 1 + of_time(h, i, i % out), of_time(h, i, out + i % out));
            });
        } else {
            before_silu = norm2.forward(each(h, [&](float x, size_t i) { return x + of_time(h, i, i % out); }));
        }
        factors = dropout_factors(h, p, place, layer);
        h = conv2.forward(silu(before_silu) * factors);
        return h + (has_shortcut ? shortcut.forward(x) : x);
    }
    // The gradient of x; that of e is added to `de`.
    Images backward(const Images &dy, Images &de) {
        Images dh = silu_gradient(before_silu, conv2.backward(dy) * factors), du = u;
        size_t pixels = dy.h * dy.w;
        auto at = [&](size_t n, size_t pixel, size_t c) { return (n * pixels + pixel) * out + c; };
        if (scale_shift) {
            for (size_t n = 0; n < dy.n; ++n)
                for (size_t c = 0; c < out; ++c) {
                    du.v[n * u.c + c] = f32(columns(pixels, [&](float p, size_t i) { return p + dh.v[at(n, i, c)] * normed2.v[at(n, i, c)]; }));
                    du.v[n * u.c + out + c] = f32(columns(pixels, [&](float p, size_t i) { return p + dh.v[at(n, i, c)]; }));
                }
            dh = norm2.backward(each(dh, [&](float d, size_t i) { return d * (1 + of_time(dh, i, i % out)); }));
        } else {
            dh = norm2.backward(dh);
            for (size_t n = 0; n < dy.n; ++n)
                for (size_t c = 0; c < out; ++c)
                    du.v[n * u.c + c] = f32(columns(pixels, [&](float p, size_t i) { return p + dh.v[at(n, i, c)]; }));
        }
        de = de + time.backward(du);
        Images dx = norm1.backward(silu_gradient(normed1, conv1.backward(dh)));
        return dx + (has_shortcut ? shortcut.backward(dy) : dy);
    }
};

struct AttentionBlock {
    bool normed;
    GroupNorm norm;
    SelfAttention attention;
    AttentionBlock(Parameters &p, const std::string &name, const Config &config, size_t channels, bool normed) : normed(normed) {
        if (normed) norm = GroupNorm(p, name + ".group_norm", config.groups, channels);
        attention = SelfAttention(p, name, channels, config.head_channels ? channels / config.head_channels : 1);
    }
    Images forward(const Images &x) { return attention.forward(normed ? norm.forward(x) : x) + x; }
    Images backward(const Images &dy) {
        Images dx = attention.backward(dy);
        return (normed ? norm.backward(dx) : dx) + dy;
    }
};

struct Unet {
    Config config;
    Parameters p;
    Convolution conv_in, conv_out;
    Linear linear_1, linear_2;
    ClassTable classes;
    vector<Resnet> down, middle, up; // down one a level, up two a level
    vector<AttentionBlock> attentions; // of the lowest level down, the middle, the lowest level up (two)
    vector<Convolution> downsamplers, upsamplers;
    GroupNorm conv_norm_out;
    Images before_silu_1, emb, before_out;

    Unet(const Unet &) = delete; // layers point to `p`
    explicit Unet(const Config &config) : config(config) {
        const vector<size_t> &C = config.channels;
        size_t levels = C.size(), last = levels - 1;
        conv_in = Convolution(p, "conv_in", 3, 1, C[0]);
        linear_1 = Linear(p, "time_embedding.linear_1", C[0], config.width());
        linear_2 = Linear(p, "time_embedding.linear_2", config.width(), config.width());
        classes = ClassTable(p, "class_embedding", config.classes, config.width());
        vector<size_t> kept = {C[0]};
        uint64_t layer = 0;
        for (size_t i = 0; i < levels; ++i) {
            std::string block = "down_blocks." + std::to_string(i);
            down.emplace_back(p, block + ".resnets.0", config, C[i ? i - 1 : 0], C[i], layer++);
            kept.push_back(C[i]);
            if (i == last) {
                attentions.emplace_back(p, block + ".attentions.0", config, C[i], true);
            } else {
                downsamplers.emplace_back(p, block + ".downsamplers.0.conv", 3, C[i], C[i], 2);
                kept.push_back(C[i]);
            }
        }
        middle.emplace_back(p, "mid_block.resnets.0", config, C[last], C[last], layer++);
        attentions.emplace_back(p, "mid_block.attentions.0", config, C[last], !config.scale_shift);
        middle.emplace_back(p, "mid_block.resnets.1", config, C[last], C[last], layer++);
        size_t h = C[last];
        for (size_t i = 0; i < levels; ++i) {
            std::string block = "up_blocks." + std::to_string(i);
            for (size_t j = 0; j < 2; ++j) {
                up.emplace_back(p, block + ".resnets." + std::to_string(j), config, h + kept.back(), C[last - i], layer++);
                kept.pop_back();
                h = C[last - i];
                if (i == 0) attentions.emplace_back(p, block + ".attentions." + std::to_string(j), config, h, true);
            }
            if (i != last) upsamplers.emplace_back(p, block + ".upsamplers.0.conv", 3, h, h);
        }
        conv_norm_out = GroupNorm(p, "conv_norm_out", config.groups, C[0]);
        conv_out = Convolution(p, "conv_out", 3, C[0], 1, 1, First::zeros);
    }

    // Section 5, `First values`.
    void draw_first_values(uint64_t seed) {
        for (const Tensor &tensor : p.list) {
            Stream stream(seed, "init." + tensor.name);
            double bound = 1 / std::sqrt(double(tensor.fan_in));
            for (size_t i = 0; i < tensor.size; ++i)
                p.w[tensor.at + i] = tensor.first == First::uniform ? f32(bound * (2.0 * stream.uniform() - 1.0))
                                     : tensor.first == First::ones  ? 1.0f
                                                                    : 0.0f;
            if (tensor.first == First::normals) {
                vector<float> z = stream.normals32(tensor.size);
                std::copy(z.begin(), z.end(), p.w.begin() + long(tensor.at));
            }
        }
    }

    // `times` are what the network is fed: t - 1. Dropout only at a place in training.
    Images forward(const Images &x, const vector<double> &times, const vector<size_t> &labels, const Place *place = nullptr) {
        before_silu_1 = linear_1.forward(sinusoids(times, config.channels[0]));
        emb = classes.added_to(linear_2.forward(silu(before_silu_1)), labels);
        Images e = silu(emb), h = conv_in.forward(x);
        vector<Images> kept = {h};
        for (size_t i = 0; i < down.size(); ++i) {
            h = down[i].forward(h, e, place);
            if (i + 1 == down.size()) h = attentions[0].forward(h);
            kept.push_back(h);
            if (i + 1 < down.size()) kept.push_back(h = downsamplers[i].forward(h));
        }
        h = middle[1].forward(attentions[1].forward(middle[0].forward(h, e, place)), e, place);
        for (size_t i = 0; i < up.size(); ++i) {
            h = up[i].forward(concatenated(h, kept.back()), e, place);
            kept.pop_back();
            if (i < 2) h = attentions[2 + i].forward(h);
            if (i % 2 && i + 1 < up.size()) h = upsamplers[i / 2].forward(doubled(h));
        }
        return conv_out.forward(silu(before_out = conv_norm_out.forward(h)));
    }

    // Section 5, `Backwards`.
    void backward(const Images &dy) {
        Images dh = conv_norm_out.backward(silu_gradient(before_out, conv_out.backward(dy)));
        Images de = emb.like(emb.c);
        vector<Images> kept; // the gradients by the way up, the last kept on top
        for (size_t i = up.size(); i-- > 0;) {
            if (i % 2 && i + 1 < up.size()) dh = doubled_gradient(upsamplers[i / 2].backward(dh));
            if (i < 2) dh = attentions[2 + i].backward(dh);
            Images both = up[i].backward(dh, de);
            size_t h = i == 0 ? config.channels.back() : up[i - 1].out;
            kept.push_back(some_channels(both, h, both.c));
            dh = some_channels(both, 0, h);
        }
        dh = middle[0].backward(attentions[1].backward(middle[1].backward(dh, de)), de);
        auto with_kept = [&](const Images &dh) {
            Images sum = dh + kept.back();
            kept.pop_back();
            return sum;
        };
        for (size_t i = down.size(); i-- > 0;) {
            if (i + 1 < down.size()) dh = downsamplers[i].backward(with_kept(dh));
            dh = with_kept(dh);
            if (i + 1 == down.size()) dh = attentions[0].backward(dh);
            dh = down[i].backward(dh, de);
        }
        conv_in.backward(with_kept(dh));
        Images demb = silu_gradient(emb, de);
        classes.backward(demb);
        linear_1.backward(silu_gradient(before_silu_1, linear_2.backward(demb)));
    }
};
