// A second program for the numbers of `ancestral`: it shares no line with it, was written from docs/numerics.md and
// docs/bits.md, and has its bits. From the repository's root, in seconds:
//
//     g++ -std=c++17 -O3 -march=native -ffp-contract=off examples/second/main.cpp -o /tmp/second
//     /tmp/second docs/bits.md src/selftest/expected.txt [data/models/digits [FOLDER of MNIST's unpacked files]]
//
// Of every comparison a line each with its name, what the page says and what was found; exit status 1 if any differs. What needs
// an argument that is left out is not compared. -march=native is for speed alone: without the instruction fma it takes ten times as long.
#include "links.hpp"

static Config tiny() { return {"tiny", 16, {8, 16}, 4, 0, 0, false, false, 10, 50}; }
static Config digits() { return {"digits", 28, {16, 32, 64}, 8, 11, 0.1, true, true, 100, 3600}; }

static vector<float> first(const vector<float> &numbers, size_t count) { return vector<float>(numbers.begin(), numbers.begin() + long(count)); }

static void numbers(Page &page) {
    page.check("exp, sigmoid, tanh of 1 in f32", written(vector<float>{n1::exp(1), n1::sigmoid(1), n1::tanh(1)}));
    page.check("silu, gelu of 1 in f32", written(vector<float>{n1::silu(1), n1::gelu(1)}));
    page.check("exp of −87.5 in f32", written(n1::exp(-87.5f)));
    page.check("exp(0.3), ln(0.3), sin(1000), expm1(−0.3) in f64",
               written(vector<double>{msun::exp(0.3), msun::ln(0.3), msun::sin(1000), msun::expm1(-0.3)}));
}

static void streams(Page &page) {
    Stream stream(42, "train.noise", {1, 0});
    auto wide = [](Stream::u128 x) { return written(uint64_t(x >> 64)) + written(uint64_t(x)); };
    page.check("state of stream(42, `train.noise`, 1, 0)", wide(stream.state));
    page.check("its inc", wide(stream.inc));
    vector<uint64_t> words;
    for (int i = 0; i < 4; ++i) words.push_back(stream.word());
    page.check("its first words", written(words));
    page.check("its first normals in f32", written(Stream(42, "train.noise", {1, 0}).normals32(3)));
    vector<uint64_t> order = Stream(42, "train.order", {0}).permutation(4096);
    order.resize(5);
    page.check("first images of a run on 4096, seed 42", decimal(order, " "));
}

// The rows of a run, and its trainer after the last step.
static Trainer &train(Page &page, Trainer &trainer, unsigned steps) {
    std::string run = "`" + trainer.net.config.name + "`: ";
    Batch batch = trainer.batch(1);
    Parameters &p = trainer.net.p;
    page.check(run + "times of the first four images of step 1",
               "[" + decimal(vector<uint64_t>(batch.times.begin(), batch.times.begin() + 4), ", ") + "]");
    page.check(run + "SHA-256 of x_0 of step 1", sha256(batch.x_0));
    page.check(run + "SHA-256 of x_t of step 1", sha256(batch.x_t));
    page.check(run + "SHA-256 of target of step 1", sha256(batch.target));
    page.check(run + "parameters", std::to_string(p.w.size()));
    page.check(run + "first values of conv_in.weight", written(first(p.w, 3)));
    page.check(run + "SHA-256 of all first values, in memory order", sha256(p.w));
    for (unsigned n = 1; n <= steps; ++n) {
        trainer.step(n);
        page.check(run + "loss and norm of step " + std::to_string(n), written(vector<double>{trainer.loss, trainer.norm}));
        page.check(run + "SHA-256 of the weights after it, in memory order", sha256(p.w));
    }
    std::string file = model_file(p, trainer.average);
    page.check(run + "SHA-256 of the model's file after step " + std::to_string(steps), sha256(vector<char>(file.begin(), file.end())));
    return trainer;
}

static void all_of_tiny(Page &page) {
    Data data = shapes(4096, 16);
    page.check("SHA-256 of the pixels of the first image of `shapes`", sha256(shape(0, 16)));
    Trainer trainer(tiny(), data);
    Unet &net = train(page, trainer, 3).net;
    net.p.w = trainer.average;
    page.check("`tiny`: SHA-256 of pictures 0 and 1 of it, `ddim`, 4 steps", sha256(Sampler{net, "ddim", 4}.draw(2).back().x.v));
    page.check("`tiny`: SHA-256 of pictures 0 and 1 of it, `ddpm`, 10 steps", sha256(Sampler{net, "ddpm", 10}.draw(2).back().x.v));
}

static void trained_digits(Page &page, const std::string &folder) {
    Unet net(digits());
    load_model(net.p, read_file(folder + "/unet/diffusion_pytorch_model.safetensors"));
    Sampler sampler{net, "dpm-multistep", 20, 2.1, 0.9, 20};
    Level start = sampler.levels()[0];
    vector<Step> steps = sampler.draw(2);
    std::string run = "`digits` in the tree: ";
    page.check(run + "signal and sigma of its first level", written(vector<double>{start.signal, start.sigma}));
    for (size_t n = 1; n <= 2; ++n) {
        page.check(run + "weights of step " + std::to_string(n), written(steps[n - 1].weights));
        page.check(run + "SHA-256 of x after it", sha256(steps[n - 1].x.v));
    }
    page.check(run + "SHA-256 of pictures 0 and 1, as `sample` draws them", sha256(steps.back().x.v));
}

// Section 6, MNIST, from the unpacked files.
static Data mnist(const std::string &folder) {
    std::string images = read_file(folder + "/train-images-idx3-ubyte"), labels = read_file(folder + "/train-labels-idx1-ubyte");
    if (images.size() != 16 + 784 * 60000 || labels.size() != 8 + 60000) throw std::runtime_error("not the 60,000 images of MNIST");
    Data data;
    for (size_t i = 0; i < 60000; ++i) {
        auto from = images.begin() + long(16 + 784 * i);
        data.images.push_back(pixels(vector<uint8_t>(from, from + 784)));
        data.labels.push_back(size_t(uint8_t(labels.at(8 + i))));
    }
    return data;
}

int main(int count, char **arguments) try {
    if (count < 3 || count > 5) throw std::runtime_error("usage: second BITS.md EXPECTED.txt [MODEL [MNIST]]");
    Page page(read_file(arguments[1]), read_file(arguments[2]));
    numbers(page);
    streams(page);
    links(page);
    all_of_tiny(page);
    if (count > 3) trained_digits(page, arguments[3]);
    if (count > 4) {
        Data data = mnist(arguments[4]);
        Trainer trainer(digits(), data);
        train(page, trainer, 2);
    }
    for (const std::string &row : page.left()) std::printf("not compared  %s\n", row.c_str());
    std::printf("%zu compared, %zu different\n", page.compared, page.different);
    return page.different ? 1 : 0;
} catch (const std::exception &error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
}
