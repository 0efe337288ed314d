"use strict";
// Arithmetic as the program has it (contract N1): float32 by rounding each float64 result once, and fused multiply-add.
// Where bits are claimed nothing but + - * / and Math.sqrt is used: those are the same in every browser.

const f32 = Math.fround;
const doubles = new Float64Array(1);
const words = new Uint32Array(doubles.buffer); // [low, high] on the little-endian machines that browsers run on

/** a·b + c in float32, rounded once: the product is exact in float64, the sum is rounded to odd, then to float32. */
function fma(a, b, c) {
  const product = a * b;
  const sum = product + c;
  const ofC = sum - product;
  const error = (product - (sum - ofC)) + (c - ofC);
  if (error === 0 || error !== error) return f32(sum);
  doubles[0] = sum;
  if ((words[0] & 1) === 0) {
    if ((error > 0) === (sum > 0)) {
      words[0] += 1;
    } else {
      if (words[0] === 0) words[1] -= 1;
      words[0] -= 1;
    }
  }
  return f32(doubles[0]);
}

const LOG2_E = f32(1.4426950408889634), ROUNDER = 12582912;
const bitsToFloat = (bits) => { floatBits[0] = bits; return floats[0]; };
const floats = new Float32Array(1);
const floatBits = new Uint32Array(floats.buffer);
const LN2_HI = bitsToFloat(0x3f317218), LN2_LO = bitsToFloat(0xb102e308);
const EXP_Q = [0.49999994, 0.16666518, 0.041668244, 0.008368945, 0.0013822762].map(f32);

/** e^x in float32, the program's polynomial (src/numerics/elementary/exp.rs), for x from -104 to 89. */
function expF32(x) {
  x = x > 89 ? 89 : x < -104 ? -104 : x;
  const n = f32(fma(x, LOG2_E, ROUNDER) - ROUNDER);
  const high = fma(n, -LN2_HI, x);
  const low = f32(n * -LN2_LO);
  const r = f32(high + low);
  let q = EXP_Q[4];
  for (let i = 3; i >= 0; i--) q = fma(q, r, EXP_Q[i]);
  const m = f32(1 + f32(high + fma(f32(r * r), q, low)));
  const half = Math.floor(n / 2);
  return f32(f32(m * 2 ** half) * 2 ** (n - half));
}

/** Σ in float64 as the program adds along a row: 16 lanes, then a tree. */
function laneSum(values) {
  const lanes = new Float64Array(16);
  for (let i = 0; i < values.length; i++) lanes[i % 16] += values[i];
  for (let width = 8; width >= 1; width /= 2) for (let i = 0; i < width; i++) lanes[i] += lanes[i + width];
  return lanes[0];
}

/** CRC-32, as in PNG and gzip. */
const crcTable = Uint32Array.from({ length: 256 }, (_, n) => {
  for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1;
  return n;
});
function crc32(bytes) {
  let crc = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) crc = crcTable[(crc ^ bytes[i]) & 255] ^ (crc >>> 8);
  return (crc ^ 0xffffffff) >>> 0;
}

/** A number for people: `digits` decimals, a true minus sign. */
function show(x, digits = 4) {
  if (!Number.isFinite(x)) return x > 0 ? "∞" : x < 0 ? "−∞" : "none";
  return x.toFixed(digits).replace("-", "−");
}

/** A power of ten. */
const tenTo = (power) => "10" + String(power).replace(/./g, (c) => "⁰¹²³⁴⁵⁶⁷⁸⁹"["0123456789".indexOf(c)] ?? "⁻");

/** A number of any size: four significant digits. */
function showWide(x) {
  if (!Number.isFinite(x)) return show(x);
  if (x !== 0 && (Math.abs(x) < 1e-3 || Math.abs(x) >= 1e5)) {
    const [digits, power] = x.toExponential(2).split("e");
    return digits.replace("-", "−") + "·" + tenTo(Number(power));
  }
  return String(Number(x.toPrecision(4))).replace("-", "−");
}
