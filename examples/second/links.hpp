// Links of `ancestral selftest`: of numbers, streams, sums, products, layers and a network.
#pragma once
#include "page.hpp"

// Bytes to be hashed, every NaN written as one.
struct Link {
    Sha256 hash;
    void add(float x) {
        uint32_t word = std::isnan(x) ? 0x7fc00000 : bits<uint32_t>(x);
        hash.add(&word, 4);
    }
    void add(double x) {
        uint64_t word = std::isnan(x) ? 0x7ff8000000000000 : bits<uint64_t>(x);
        hash.add(&word, 8);
    }
    void add(uint64_t x) { hash.add(&x, 8); }
    template <class T> void add(const vector<T> &list) {
        for (const T &x : list) add(x);
    }
    std::string digest() { return hex(hash.digest()); }
};

template <class F, class T> void function_link(Page &page, const std::string &name, F f, const vector<T> &inputs) {
    Link link;
    for (T x : inputs) link.add(f(x));
    page.check("selftest: elementary." + name, link.digest());
}

inline void elementary_links(Page &page) {
    vector<float> x;
    for (uint64_t word = 0; word < uint64_t(1) << 32; word += 1048573) x.push_back(bits<float>(uint32_t(word)));
    for (int i = -8192; i <= 8191; ++i) x.push_back(float(i) / 650);
    function_link(page, "exp_f32", [](float x) { return n1::exp(x); }, x);
    function_link(page, "sigmoid_f32", [](float x) { return n1::sigmoid(x); }, x);
    function_link(page, "tanh_f32", [](float x) { return n1::tanh(x); }, x);
    function_link(page, "ln_f32", [](float x) { return f32(msun::ln(x)); }, x);
    vector<double> y;
    for (uint64_t i = 0; i < 4096; ++i) y.push_back(bits<double>(i * 4503599627370449));
    for (int i = -2048; i <= 2047; ++i) y.push_back(double(i) / 97);
    function_link(page, "exp_f64", [](double x) { return msun::exp(x); }, y);
    function_link(page, "sigmoid_f64", [](double x) { return msun::sigmoid(x); }, y);
    function_link(page, "tanh_f64", [](double x) { return msun::tanh(x); }, y);
    function_link(page, "ln_f64", [](double x) { return msun::ln(x); }, y);
}

inline void random_links(Page &page) {
    Link words, uniforms, below, normals32, normals, permutations;
    for (Stream stream : {Stream(0, ""), Stream(42, "sample.noise", {17, 600}), Stream(~uint64_t(0), "train.t", {1}),
                          Stream(7, "π", {0, 0, ~uint64_t(0)})})
        for (int i = 0; i < 256; ++i) words.add(stream.word());
    Stream stream(1, "selftest");
    for (int i = 0; i < 1001; ++i) uniforms.add(stream.uniform());
    for (uint64_t n : {uint64_t(1), uint64_t(2), uint64_t(3), uint64_t(10), uint64_t(1000), uint64_t(60000), uint64_t(1) << 40, (uint64_t(1) << 63) + 1})
        for (int i = 0; i < 129; ++i) below.add(stream.below(n));
    normals32.add(stream.normals32(1001));
    normals.add(stream.normals(1001));
    for (uint64_t n : {1, 2, 257, 1000}) permutations.add(stream.permutation(n));
    page.check("selftest: random.words", words.digest());
    page.check("selftest: random.uniforms", uniforms.digest());
    page.check("selftest: random.below", below.digest());
    page.check("selftest: random.normals_f32", normals32.digest());
    page.check("selftest: random.normals_f64", normals.digest());
    page.check("selftest: random.permutations", permutations.digest());
}

inline vector<double> normal(size_t count, uint64_t key) { return Stream(key, "gradient_check").normals(count); }

inline void sum_links(Page &page) {
    vector<double> v = normal(1000, 1), x;
    for (double number : v) {
        double product = number;
        for (int i = 1; i < 7; ++i) product *= number;
        x.push_back(product);
    }
    vector<float> s(x.begin(), x.end());
    Link lanes32, lanes64, squares, by_columns, by_tree;
    for (size_t n : {0, 1, 15, 16, 17, 37, 1000}) {
        lanes32.add(lanes(n, [&](size_t i) { return double(s[i]); }));
        lanes64.add(lanes(n, [&](size_t i) { return x[i]; }));
        squares.add(lanes(n, [&](size_t i) { return double(s[i]) * double(s[i]); }));
    }
    for (size_t c = 0; c < 5; ++c) by_columns.add(columns(200, [&](float p, size_t row) { return p + s[row * 5 + c]; }));
    for (size_t n : {1, 2, 3, 5, 37, 1000})
        by_tree.add(tree(0, n, [&](size_t i) { return s[i]; }, [](float a, float b) { return a + b; }));
    page.check("selftest: sums.lanes_f32", lanes32.digest());
    page.check("selftest: sums.lanes_f64", lanes64.digest());
    page.check("selftest: sums.squares_f32", squares.digest());
    page.check("selftest: sums.columns", by_columns.digest());
    page.check("selftest: sums.tree", by_tree.digest());
}

template <class F> vector<F> numbers_of(size_t count, uint64_t key) {
    vector<double> z = normal(count, key);
    return vector<F>(z.begin(), z.end());
}

template <class F> void product_link(Page &page, const std::string &name, size_t m, size_t n, size_t k) {
    vector<F> a = numbers_of<F>(m * k, 1), b = numbers_of<F>(k * n, 2), bias = numbers_of<F>(n, 3), c(m * n);
    vector<F> onto = numbers_of<F>(m * n, 4), turned = transposed(k, m, a.data());
    Link link;
    product(m, k, n, a.data(), b.data(), c.data());
    link.add(c);
    product(m, k, n, a.data(), b.data(), c.data(), false, bias.data());
    link.add(c);
    product(m, k, n, a.data(), b.data(), onto.data(), true);
    link.add(onto);
    product(m, k, n, turned.data(), b.data(), c.data());
    link.add(c);
    page.check("selftest: products." + name + std::to_string(k), link.digest());
}

// numbers(shape, key)
inline Images images_of(Images shape, uint64_t key) {
    shape.v = numbers_of<float>(shape.v.size(), key);
    return shape;
}

inline void convolution_links(Page &page, const std::string &name, size_t side, size_t stride, size_t in) {
    Parameters p;
    Convolution layer(p, name, side, in, 7, stride);
    p.w = numbers_of<float>(p.w.size(), 5);
    Link forward, input, weight;
    Images y = layer.forward(images_of(Images(2, 6, 8, in), 1));
    forward.add(y.v);
    input.add(layer.backward(images_of(y, 2)).v);
    weight.add(p.g);
    page.check("selftest: layers." + name + "_forward", forward.digest());
    page.check("selftest: layers." + name + "_input_gradient", input.digest());
    page.check("selftest: layers." + name + "_weight_gradient", weight.digest());
}

inline void layer_links(Page &page) {
    convolution_links(page, "conv_3x3", 3, 1, 29);
    convolution_links(page, "conv_1x1", 1, 1, 5);
    convolution_links(page, "conv_1x1_stride_2", 1, 2, 5);

    Parameters of_linear, of_norm;
    Link by_linear, norm_forward, norm_backward, by_softmax, by_silu, by_gelu;
    Linear linear(of_linear, "linear", 37, 11);
    of_linear.w = numbers_of<float>(of_linear.w.size(), 5);
    by_linear.add(linear.forward(images_of(Images(9, 1, 1, 37), 1)).v);
    by_linear.add(linear.backward(images_of(Images(9, 1, 1, 11), 2)).v);
    by_linear.add(of_linear.g);
    page.check("selftest: layers.linear", by_linear.digest());

    GroupNorm norm(of_norm, "norm", 2, 6);
    of_norm.w = numbers_of<float>(of_norm.w.size(), 5);
    Images x = images_of(Images(3, 5, 7, 6), 1);
    norm_forward.add(norm.forward(each(x, [](float x, size_t) { return x * 3 + 10; })).v);
    norm_backward.add(norm.backward(images_of(x, 2)).v);
    norm_backward.add(of_norm.g);
    page.check("selftest: layers.group_norm_forward", norm_forward.digest());
    page.check("selftest: layers.group_norm_backward", norm_backward.digest());

    vector<float> p = numbers_of<float>(9 * 37, 1), ds = numbers_of<float>(9 * 37, 2);
    for (float &s : p) s = 5 * s;
    for (size_t row = 0; row < 9; ++row) {
        softmax(&p[row * 37], 37);
        softmax_gradient(&p[row * 37], &ds[row * 37], 37);
    }
    by_softmax.add(p);
    by_softmax.add(ds);
    page.check("selftest: layers.softmax", by_softmax.digest());

    Attention attention(2);
    Link attention_forward, attention_backward;
    Images q = images_of(Images(2, 19, 1, 6), 1), dq, dk, dv;
    attention_forward.add(attention.forward(q, images_of(Images(2, 17, 1, 6), 2), images_of(Images(2, 17, 1, 6), 3)).v);
    attention.backward(images_of(q, 4), dq, dk, dv);
    for (const Images &gradient : {dq, dk, dv}) attention_backward.add(gradient.v);
    page.check("selftest: layers.attention_forward", attention_forward.digest());
    page.check("selftest: layers.attention_backward", attention_backward.digest());

    Images wide = each(images_of(Images(1001, 1, 1, 1), 1), [](float x, size_t) { return 4 * x; }), dy = images_of(wide, 2);
    by_silu.add(silu(wide).v);
    by_silu.add(silu_gradient(wide, dy).v);
    by_gelu.add(each(wide, [](float x, size_t) { return n1::gelu(x); }).v);
    by_gelu.add(each(wide, [&](float x, size_t i) { return dy.v[i] * n1::gelu_slope(x); }).v);
    page.check("selftest: layers.silu", by_silu.digest());
    page.check("selftest: layers.gelu", by_gelu.digest());
}

// A network with all that `tiny` has not, and its training.
inline void network_links(Page &page) {
    Config config{"network", 8, {4, 8}, 2, 5, 0.2, false, false, 3, 10, 9, 4, 0.1, 0.01, 0.9};
    auto check = [&](const std::string &name, auto... numbers) {
        Link link;
        (link.add(numbers), ...);
        page.check("selftest: network." + name, link.digest());
    };
    Unet net(config);
    net.p.w = numbers_of<float>(net.p.w.size(), 1);
    for (float &w : net.p.w) w = f32(0.3) * w;
    Images x = images_of(Images(9, 8, 8, 1), 2), target = images_of(x, 3);
    vector<double> times;
    vector<size_t> labels;
    for (size_t i = 0; i < 9; ++i) times.push_back(double(111 * i)), labels.push_back(i % 5);
    check("forward", net.forward(x, times, labels).v);
    auto parts = [](const Images &all) {
        vector<Images> list;
        for (size_t i = 0; i < all.n; i += 4) {
            list.emplace_back(std::min<size_t>(4, all.n - i), all.h, all.w, all.c);
            std::copy_n(all.v.begin() + long(i * all.h * all.w * all.c), list.back().v.size(), list.back().v.begin());
        }
        return list;
    };
    Part all = loss_and_gradient(net, parts(x), parts(target), times, labels, {1, 1, 0});
    check("loss", all.loss);
    check("gradient", all.gradient);

    Data data = shapes(31, 8);
    Trainer trainer(config, data);
    for (unsigned n = 1; n <= 10; ++n) {
        trainer.step(n);
        check("loss_of_step_" + std::to_string(n), trainer.loss, trainer.norm, trainer.lr);
        check("weights_after_step_" + std::to_string(n), trainer.net.p.w);
    }
    check("moments", trainer.m, trainer.v);
    check("average", trainer.average);
    trainer.net.p.w = trainer.average;
    for (std::string name : {"ddim", "ddpm"}) {
        Sampler sampler{trainer.net, name, 4, name == "ddim" ? 1.0 : 2.0, 0, INFINITY, 3};
        vector<Step> steps = sampler.draw(5);
        for (size_t i = 0; i < 4; ++i) check(name + "_before_step_" + std::to_string(i + 1), steps[i].before.v);
        check(name + "_pictures", steps.back().x.v);
    }
}

inline void links(Page &page) {
    network_links(page);
    layer_links(page);
    elementary_links(page);
    random_links(page);
    sum_links(page);
    for (size_t k : {1, 27, 255, 256, 257, 576}) product_link<float>(page, "f32_k_", 7, 19, k);
    product_link<double>(page, "f64_k_", 5, 11, 257);
}
