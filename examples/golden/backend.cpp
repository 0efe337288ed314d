// An example backend in C++: two operations of the kit with their gradients.
//
//     g++ -std=c++17 -O2 backend.cpp -o backend && ./backend data/golden RESULTS
//     ancestral golden check data/golden RESULTS
#include <cmath>
#include <iostream>

#include "golden.hpp"
using golden::Tensor;

Tensor silu(Tensor x) {
    for (float& v : x.data) v /= 1 + std::exp(-v);
    return x;
}

// y = x s, s = 1/(1 + e^-x): dx = dy s (1 + x (1 - s)).
Tensor silu_gradient(const Tensor& x, Tensor dy) {
    for (size_t i = 0; i < x.data.size(); i++) {
        float s = 1 / (1 + std::exp(-x.data[i]));
        dy.data[i] *= s * (1 + x.data[i] * (1 - s));
    }
    return dy;
}

// C (m, n) = A B, where A (m, k) and B (k, n) are given by functions of their indices.
template <class A, class B> std::vector<float> product(size_t m, size_t k, size_t n, A a, B b) {
    std::vector<float> c(m * n);
    for (size_t i = 0; i < m; i++)
        for (size_t l = 0; l < k; l++)
            for (size_t j = 0; j < n; j++) c[i * n + j] += a(i, l) * b(l, j);
    return c;
}

// y = x w^T + b: x (..., in), w (out, in), b (out); dx = dy w, dw = dy^T x, db = the sum of dy's rows.
std::map<std::string, Tensor> linear(golden::Case& c) {
    Tensor x = c.input("x"), w = c.input("weight"), y{x.shape, {}};
    const size_t out = w.shape[0], in = w.shape[1], rows = x.data.size() / in;
    y.shape.back() = out;
    y.data = product(rows, in, out, [&](auto i, auto l) { return x.data[i * in + l]; },
                     [&](auto l, auto j) { return w.data[j * in + l]; });
    const bool bias = c.has_input("bias"), gradients = c.has_input("grad_output");
    if (bias)
        for (size_t i = 0; i < y.data.size(); i++) y.data[i] += c.input("bias").data[i % out];
    std::map<std::string, Tensor> results{{"output", y}};
    if (!gradients) return results;
    Tensor dy = c.input("grad_output");
    auto ones = [](auto, auto) { return 1.0f; };
    auto d = [&](auto i, auto j) { return dy.data[i * out + j]; };
    results["grad.x"] = {x.shape, product(rows, out, in, d, [&](auto l, auto j) { return w.data[l * in + j]; })};
    results["grad.weight"] = {w.shape, product(out, rows, in, [&](auto i, auto l) { return d(l, i); },
                                               [&](auto l, auto j) { return x.data[l * in + j]; })};
    if (bias) results["grad.bias"] = {{out}, product(1, rows, out, ones, d)};
    return results;
}

int main(int argc, char** argv) try {
    golden::Kit kit(argc > 1 ? argv[1] : "data/golden", argc > 2 ? argv[2] : "RESULTS");
    for (auto& c : kit.cases()) {
        if (c.op == "silu" && c.has_input("grad_output"))
            c.report({{"output", silu(c.input("x"))}, {"grad.x", silu_gradient(c.input("x"), c.input("grad_output"))}});
        else if (c.op == "linear")
            c.report(linear(c));
        else
            c.unsupported();
    }
} catch (const golden::Error& error) {
    std::cerr << error.what() << "\n";
    return 2;
}
