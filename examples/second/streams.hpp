// SHA-256 (FIPS 180-4) and the streams of random numbers. Written from docs/bits.md, section 2.
#pragma once
#include "msun.hpp"
#include <initializer_list>
#include <string>

class Sha256 {
  public:
    void add(const void *data, size_t size) {
        auto *byte = static_cast<const uint8_t *>(data);
        length += size;
        for (size_t i = 0; i < size; ++i) {
            block[filled++] = byte[i];
            if (filled == 64) absorb();
        }
    }
    vector<uint8_t> digest() {
        uint64_t count = length * 8;
        uint8_t one = 0x80, zero = 0;
        add(&one, 1);
        while (filled != 56) add(&zero, 1);
        for (int i = 7; i >= 0; --i) { uint8_t byte = uint8_t(count >> 8 * i); add(&byte, 1); }
        vector<uint8_t> out;
        for (uint32_t word : h)
            for (int i = 3; i >= 0; --i) out.push_back(uint8_t(word >> 8 * i));
        return out;
    }

  private:
    uint32_t h[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    uint8_t block[64];
    size_t filled = 0;
    uint64_t length = 0;
    static uint32_t rotate(uint32_t x, int n) { return x >> n | x << (32 - n); }

    void absorb() {
        static const uint32_t K[64] = {
            0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be,
            0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa,
            0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85,
            0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3,
            0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f,
            0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};
        uint32_t w[64], s[8];
        for (int i = 0; i < 16; ++i)
            w[i] = uint32_t(block[4 * i]) << 24 | uint32_t(block[4 * i + 1]) << 16 | uint32_t(block[4 * i + 2]) << 8 | block[4 * i + 3];
        for (int i = 16; i < 64; ++i)
            w[i] = w[i - 16] + (rotate(w[i - 15], 7) ^ rotate(w[i - 15], 18) ^ w[i - 15] >> 3) + w[i - 7] +
                   (rotate(w[i - 2], 17) ^ rotate(w[i - 2], 19) ^ w[i - 2] >> 10);
        std::memcpy(s, h, sizeof s);
        for (int i = 0; i < 64; ++i) {
            uint32_t a = s[0], e = s[4];
            uint32_t t1 = s[7] + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + ((e & s[5]) ^ (~e & s[6])) + K[i] + w[i];
            uint32_t t2 = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + ((a & s[1]) ^ (a & s[2]) ^ (s[1] & s[2]));
            for (int j = 7; j > 0; --j) s[j] = s[j - 1];
            s[4] += t1;
            s[0] = t1 + t2;
        }
        for (int i = 0; i < 8; ++i) h[i] += s[i];
        filled = 0;
    }
};

class Stream {
  public:
    using u128 = unsigned __int128;
    u128 state = 0, inc = 0;

    Stream(uint64_t seed, const std::string &purpose, std::initializer_list<uint64_t> indices = {}) {
        Sha256 key;
        uint64_t size = purpose.size();
        key.add("ancestral N1", 12);
        key.add(&seed, 8);
        key.add(&size, 8);
        key.add(purpose.data(), size);
        for (uint64_t index : indices) key.add(&index, 8);
        vector<uint8_t> digest = key.digest();
        for (int i = 15; i >= 0; --i) state = state << 8 | digest[size_t(i)];
        for (int i = 31; i >= 16; --i) inc = inc << 8 | digest[size_t(i)];
        inc |= 1;
    }
    uint64_t word() {
        state = state * (u128(0x2360ED051FC65DA4) << 64 | 0x4385DF649FCCF645) + inc;
        uint64_t x = uint64_t(state >> 64) ^ uint64_t(state);
        unsigned turn = unsigned(state >> 122);
        return x >> turn | x << ((64 - turn) & 63);
    }
    double uniform() { return double(word() >> 11) * 0x1p-53; }
    uint64_t below(uint64_t n) {
        uint64_t r = (0 - n) % n, w = word(); // 2^64 mod n
        while (w > ~uint64_t(0) - r) w = word();
        return w % n;
    }
    vector<double> normals(size_t count) {
        vector<double> z;
        while (z.size() < count) {
            double u1 = uniform(), u2 = uniform();
            double r = std::sqrt(-2.0 * msun::ln(1.0 - u1)), a = 2.0 * M_PI * u2;
            z.push_back(r * msun::cos(a));
            z.push_back(r * msun::sin(a));
        }
        z.resize(count);
        return z;
    }
    vector<float> normals32(size_t count) {
        vector<double> z = normals(count);
        return vector<float>(z.begin(), z.end());
    }
    vector<uint64_t> permutation(uint64_t n) {
        vector<uint64_t> p(n);
        for (uint64_t i = 0; i < n; ++i) p[i] = i;
        for (uint64_t last = n - 1; last >= 1; --last) std::swap(p[last], p[below(last + 1)]);
        return p;
    }
};
