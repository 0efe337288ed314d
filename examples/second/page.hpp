// What docs/bits.md, section 10 and the selftest's list say, and the comparison with what was found.
#pragma once
#include "sampling.hpp"
#include <charconv>
#include <cstdio>
#include <map>

inline std::string hex(const vector<uint8_t> &bytes) {
    std::string text;
    char two[3];
    for (uint8_t byte : bytes) {
        std::snprintf(two, sizeof two, "%02x", byte);
        text += two;
    }
    return text;
}

template <class T> std::string sha256(const vector<T> &numbers) {
    Sha256 hash;
    hash.add(numbers.data(), numbers.size() * sizeof(T));
    return hex(hash.digest());
}

inline std::string sha256(const vector<Images> &parts) {
    vector<float> all;
    for (const Images &part : parts) all.insert(all.end(), part.v.begin(), part.v.end());
    return sha256(all);
}

// `Floats the bits as hexadecimal, f64 in decimal such that they read back as the same`; words of 64 bits in 16 digits.
inline std::string written(float x) {
    char text[9];
    std::snprintf(text, sizeof text, "%08x", bits<uint32_t>(x));
    return text;
}
inline std::string written(double x) {
    char text[64];
    return std::string(text, std::to_chars(text, text + sizeof text, x).ptr);
}
inline std::string written(uint64_t x) {
    char text[17];
    std::snprintf(text, sizeof text, "%016llx", static_cast<unsigned long long>(x));
    return text;
}
template <class T> std::string written(const vector<T> &list) {
    std::string text;
    for (const T &x : list) text += (text.empty() ? "" : " ") + written(x);
    return text;
}
inline std::string decimal(const vector<uint64_t> &list, const std::string &between) {
    std::string text;
    for (uint64_t x : list) text += (text.empty() ? "" : between) + std::to_string(x);
    return text;
}

class Page {
  public:
    size_t compared = 0, different = 0;

    // Rows `| what | `value` |` of section 10, and lines `selftest.link hash`.
    Page(const std::string &bits_md, const std::string &selftest) {
        std::istringstream page(bits_md.substr(bits_md.find("\n## 10. Checkpoints")));
        for (std::string line; std::getline(page, line) && line.compare(0, 6, "## 11.") != 0;) {
            size_t split = line.rfind(" | `"), end = line.rfind("` |");
            if (line.compare(0, 2, "| ") != 0 || split == std::string::npos || end == std::string::npos || end < split + 4) continue;
            expected.emplace(line.substr(2, split - 2), line.substr(split + 4, end - split - 4));
        }
        std::istringstream links(selftest);
        for (std::string name, hash; links >> name >> hash;) expected.emplace("selftest: " + name, hash);
    }
    void check(const std::string &what, const std::string &found) {
        auto row = expected.lower_bound(what); // the first of those of one name with which nothing was compared
        bool there = row != expected.end() && row->first == what;
        std::string value = there ? row->second : "nothing: there is no such row";
        bool same = value == found;
        ++compared;
        different += !same;
        std::printf("%s  %s\n    expected %s\n    found    %s\n", same ? "same     " : "DIFFERENT", what.c_str(), value.c_str(), found.c_str());
        std::fflush(stdout);
        if (there) expected.erase(row);
    }
    // Rows of section 10 with which nothing was compared.
    vector<std::string> left() const {
        vector<std::string> rows;
        for (const auto &row : expected)
            if (row.first.compare(0, 10, "selftest: ") != 0) rows.push_back(row.first);
        return rows;
    }

  private:
    std::multimap<std::string, std::string> expected;
};
