// The record: what the program computed, and the numbers in it.

const recordElement = document.getElementById("record");
const damaged = []; // the keys of what has other bytes than the program wrote
let record;
try {
  record = JSON.parse(recordElement.textContent);
} catch (error) {
  record = null;
}

// The steps of the chain in short: `explain --json` and traces have them under the same names.
for (const step of record?.chain?.steps ?? []) {
  Object.assign(step, { t: step.from.t, t_prev: step.to.t, signal: step.from.signal, sigma: step.from.sigma });
  step.weights = Object.fromEntries(step.terms.map(({ name, weight }) => [name, weight]));
}

/** What stands at `a.b.2.c`. */
function at(key) {
  return key.split(".").reduce((value, part) => (value == null ? undefined : value[part]), record);
}

const tensors = new Map();

/** The numbers at a key as a typed array; their checksum is compared once. */
function tensor(key) {
  if (tensors.has(key)) return tensors.get(key);
  const { kind, crc32: expected, base64 } = at(key);
  let bytes;
  try {
    bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  } catch (error) {
    bytes = new Uint8Array(0);
  }
  if (crc32(bytes) !== expected && !damaged.includes(key)) damaged.push(key);
  const Type = { f32: Float32Array, f64: Float64Array, u8: Uint8Array }[kind];
  const size = at(key).shape.reduce((a, b) => a * b, 1);
  const whole = new Uint8Array(size * Type.BYTES_PER_ELEMENT);
  whole.set(bytes.subarray(0, whole.length));
  const numbers = new Type(whole.buffer);
  tensors.set(key, numbers);
  return numbers;
}

/** The keys of all numbers in the record. */
function tensorKeys(value = record, key = "") {
  if (value === null || typeof value !== "object") return [];
  if (typeof value.base64 === "string") return [key];
  return Object.entries(value).flatMap(([name, inner]) => tensorKeys(inner, key ? key + "." + name : name));
}

/** x_t, eps_hat and x_0_hat from what the network said (src/diffusion/prediction.rs), in float32. */
function imageFrom(prediction, signal, sigma, x, said) {
  if (prediction === "sample") return said;
  if (prediction === "v_prediction") return f32(f32(signal * x) - f32(sigma * said));
  return f32(f32(x - f32(sigma * said)) / signal);
}
function noiseFrom(prediction, signal, sigma, x, said) {
  if (prediction === "sample") return f32(f32(x - f32(signal * said)) / sigma);
  if (prediction === "v_prediction") return f32(f32(sigma * x) + f32(signal * said));
  return said;
}
const clipTo = (x, range) => (range === null ? x : x > range ? range : x < -range ? -range : x);
