// The golden kit of `ancestral` for backends in C++17: reads its cases, writes results for `ancestral golden check`.
// One header, no dependency, little-endian machines.
//
//     golden::Kit kit("data/golden", "RESULTS");
//     for (auto& c : kit.cases("ops")) {          // kit.cases(): every level
//         if (c.op == "silu") c.report({{"output", silu(c.input("x"))}});
//         else c.unsupported();
//     }
//
// then:  ancestral golden check data/golden RESULTS      or  python golden.py check data/golden RESULTS
// Both verify the kit's checksums; this header does not.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace golden {

struct Error : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// Row-major, the last dimension fastest: PyTorch's layouts. A scalar has the shape {}.
struct Tensor {
    std::vector<size_t> shape;
    std::vector<float> data;
};

// --- JSON ---

struct Json {
    enum Kind { null, boolean, number, string, array, object } kind = null;
    double value = 0;  // a number, or 0 and 1 for false and true
    std::string text;
    std::vector<Json> items;
    std::map<std::string, Json> fields;

    bool has(const std::string& name) const { return fields.count(name) > 0; }
    const Json& operator[](const std::string& name) const {
        auto found = fields.find(name);
        if (found == fields.end()) throw Error("no field \"" + name + "\" in this JSON object; ask with has() first");
        return found->second;
    }
};

class JsonReader {
  public:
    static Json read(const std::string& text) {
        JsonReader reader(text);
        Json json = reader.any();
        if (reader.peek() != '\0') reader.fail("the end");
        return json;
    }

  private:
    explicit JsonReader(const std::string& json) : text(json) {}
    const std::string& text;
    size_t at = 0, depth = 0;

    [[noreturn]] void fail(const std::string& expected) const {
        throw Error("JSON, byte " + std::to_string(at) + ": expected " + expected + "; get the kit again");
    }
    char peek() {
        while (at < text.size() && std::strchr(" \t\r\n", text[at])) at++;
        return at < text.size() ? text[at] : '\0';
    }
    bool take(char c) { return peek() == c ? (at++, true) : false; }
    void need(char c) {
        if (!take(c)) fail(std::string("'") + c + "'");
    }
    bool word(const char* w) { return text.compare(at, std::strlen(w), w) == 0 ? (at += std::strlen(w), true) : false; }

    Json any() {
        Json json;
        if (++depth > 64) throw Error("JSON nested too deeply; get the kit again");
        switch (peek()) {
            case '{': json.kind = Json::object; members(json); break;
            case '[': json.kind = Json::array; elements(json); break;
            case '"': json.kind = Json::string; json.text = quoted(); break;
            default: scalar(json);
        }
        depth--;
        return json;
    }
    void members(Json& json) {
        need('{');
        if (take('}')) return;
        do {
            peek();
            std::string name = quoted();
            need(':');
            json.fields[name] = any();
        } while (take(','));
        need('}');
    }
    void elements(Json& json) {
        need('[');
        if (take(']')) return;
        do json.items.push_back(any());
        while (take(','));
        need(']');
    }
    void scalar(Json& json) {
        if (word("null")) return;
        json.kind = Json::boolean;
        if (word("false")) return;
        json.value = 1;
        if (word("true")) return;
        json.kind = Json::number;
        char* end;
        json.value = std::strtod(text.c_str() + at, &end);
        if (end == text.c_str() + at) fail("a value");
        at = end - text.c_str();
    }
    std::string quoted() {
        need('"');
        std::string s;
        while (at < text.size() && text[at] != '"') {
            char c = text[at++];
            if (c != '\\') { s += c; continue; }
            c = at < text.size() ? text[at++] : '\0';
            const char* found = c ? std::strchr("n\nt\tr\r\"\"\\\\//", c) : nullptr;
            if (!found) fail("one of the escapes \\n \\t \\r \\\" \\\\ \\/ (the kit is UTF-8, without \\u)");
            s += found[1];
        }
        need('"');
        return s;
    }
};

// --- safetensors ---

struct Stored {
    std::string dtype;
    std::vector<size_t> shape;
    std::string bytes;

    template <class T> std::vector<T> as(const std::string& expected, const std::string& name) const {
        if (dtype != expected) throw Error(name + " is " + dtype + ", asked for as " + expected);
        std::vector<T> values(bytes.size() / sizeof(T));
        std::memcpy(values.data(), bytes.data(), values.size() * sizeof(T));
        return values;
    }
};

inline std::string read_bytes(const std::filesystem::path& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw Error(path.string() + ": cannot be read; name the kit's folder, as `data/golden`");
    return {std::istreambuf_iterator<char>(file), {}};
}

// The tensors of a safetensors file: a case, or the weights of a model folder.
inline std::map<std::string, Stored> read_safetensors(const std::filesystem::path& path) {
    const std::string bytes = read_bytes(path);
    uint64_t size = 0;
    if (bytes.size() >= 8) std::memcpy(&size, bytes.data(), 8);
    if (size == 0 || size > bytes.size() - 8)
        throw Error(path.string() + ": not a safetensors file; get the kit again");
    std::map<std::string, Stored> tensors;
    for (auto& [name, entry] : JsonReader::read(bytes.substr(8, size)).fields) {
        if (name == "__metadata__") continue;
        Stored& tensor = tensors[name];
        tensor.dtype = entry["dtype"].text;
        for (auto& n : entry["shape"].items) tensor.shape.push_back(size_t(n.value));
        auto& offsets = entry["data_offsets"].items;
        const double last = double(bytes.size() - 8 - size);
        if (offsets.size() != 2 || !(0 <= offsets[0].value && offsets[0].value <= offsets[1].value && offsets[1].value <= last))
            throw Error(path.string() + ": " + name + " leads out of the file; get the kit again");
        const size_t start = size_t(offsets[0].value), end = size_t(offsets[1].value);
        tensor.bytes = bytes.substr(8 + size + start, end - start);
    }
    return tensors;
}

// --- The kit ---

struct Case {
    std::string id, level, op;
    Json attributes;  // attributes["config"]["beta_schedule"].text

    // Attributes by name, the spec's default where they may be absent.
    double number(const std::string& name) const { return attributes[name].value; }
    double number(const std::string& name, double absent) const { return attributes.has(name) ? number(name) : absent; }
    bool flag(const std::string& name, bool absent) const { return number(name, absent) != 0; }
    std::string text(const std::string& name) const { return attributes[name].text; }
    std::vector<double> numbers(const std::string& name) const {  // a number counts as an array of one
        std::vector<double> values;
        for (auto& item : attributes[name].items) values.push_back(item.value);
        return values.empty() ? std::vector<double>{number(name)} : values;
    }
    // The folder of the model: config.json and diffusion_pytorch_model.safetensors.
    std::filesystem::path model() const { return (path.parent_path() / text("model")).lexically_normal(); }

    // Inputs by name: "x", "norm1.weight", "grad_output"; integers are t, labels and class_labels.
    bool has_input(const std::string& name) { return file().count(key(name)) > 0; }
    Tensor input(const std::string& name) {
        const Stored& found = stored(name);
        return {found.shape, found.as<float>("F32", id + ": " + name)};
    }
    std::vector<int64_t> integers(const std::string& name) { return stored(name).as<int64_t>("I64", id + ": " + name); }

    // Results by name: "output", "output.x", "grad.weight", "taps.conv_in".
    void report(const std::map<std::string, Tensor>& results) {
        std::string header, blob;
        for (auto& [name, tensor] : results) {
            std::string shape;
            size_t count = 1;
            for (size_t n : tensor.shape) {
                shape += (shape.empty() ? "" : ",") + std::to_string(n);
                count *= n;
            }
            if (count != tensor.data.size())
                throw Error(id + ": " + name + " has shape [" + shape + "], but not as many values");
            const size_t start = blob.size();
            blob.append(reinterpret_cast<const char*>(tensor.data.data()), 4 * count);
            header += (header.empty() ? "\"" : ",\"") + name + "\":{\"dtype\":\"F32\",\"shape\":[" + shape +
                      "],\"data_offsets\":[" + std::to_string(start) + "," + std::to_string(blob.size()) + "]}";
        }
        write("{" + header + "}", blob);
    }
    // The reason in words, without quotes.
    void unsupported(const std::string& reason = "not implemented") {
        write("{\"__metadata__\":{\"unsupported\":\"" + reason + "\"}}", "");
    }

  private:
    friend class Kit;
    std::filesystem::path path, result;
    std::map<std::string, Stored> tensors;  // read when first asked for

    std::string key(const std::string& name) const { return name == "grad_output" ? name : "input." + name; }
    std::map<std::string, Stored>& file() {
        if (tensors.empty()) tensors = read_safetensors(path);
        return tensors;
    }
    const Stored& stored(const std::string& name) {
        auto found = file().find(key(name));
        if (found == tensors.end()) throw Error(id + ": no input \"" + name + "\"; ask with has_input() first");
        return found->second;
    }
    void write(std::string header, const std::string& blob) {
        header.append((8 - header.size() % 8) % 8, ' ');
        const uint64_t size = header.size();
        std::filesystem::create_directories(result.parent_path());
        std::ofstream out(result, std::ios::binary);
        out.write(reinterpret_cast<const char*>(&size), 8);
        out << header << blob;
        if (!out.flush()) throw Error(result.string() + ": cannot be written");
        tensors.clear();
    }
};

class Kit {
  public:
    explicit Kit(const std::filesystem::path& kit, const std::filesystem::path& to = "RESULTS")
        : folder(kit), results(to), manifest(JsonReader::read(read_bytes(kit / "MANIFEST.json"))) {
        if (manifest["format"].text != "ancestral golden kit 1")
            throw Error(folder.string() + ": its format is \"" + manifest["format"].text +
                        "\", this header reads \"ancestral golden kit 1\"");
    }

    // The cases of a level, or all of them, in the kit's order.
    std::vector<Case> cases(const std::string& level = "") const {
        std::vector<Case> chosen;
        for (auto& entry : manifest["cases"].items) {
            if (!level.empty() && entry["level"].text != level) continue;
            Case& c = chosen.emplace_back();
            c.id = entry["id"].text, c.level = entry["level"].text, c.op = entry["op"].text;
            c.attributes = entry["attributes"];
            for (auto& name : {c.id, entry["path"].text})
                if (std::filesystem::path(name).is_absolute() || name.find("..") != std::string::npos)
                    throw Error(folder.string() + ": " + name + " leads out of the kit; get the kit again");
            c.path = folder / entry["path"].text;
            c.result = results / (c.id + ".safetensors");
        }
        if (chosen.empty()) throw Error(folder.string() + ": no cases of level \"" + level + "\"");
        return chosen;
    }

  private:
    std::filesystem::path folder, results;
    Json manifest;
};

}  // namespace golden
