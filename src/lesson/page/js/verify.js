// Does the browser agree? Every check compares numbers of the record with the same numbers computed here, bit for bit.

const checks = []; // {name, run}: run is a generator that yields [computed, expected, key, index] lists in slices

/** Compares two lists; the bits of a number are its own but for the sign of zero, which Object.is tells apart. */
function* compare(name, key, computed, expected, first = 0) {
  for (let from = 0; from < expected.length; from += 2048) {
    const to = Math.min(from + 2048, expected.length);
    const wrong = [];
    for (let i = from; i < to; i++) if (!Object.is(computed(i), expected[i])) wrong.push(i + first);
    yield { name, key, agreed: to - from - wrong.length, wrong };
  }
}

/** The schedule: β by its formula where it has one, ᾱ by its product, and what follows from them. */
checks.push(function* schedule() {
  const { by_formula, curve, beta_start: start, beta_end: end, t_max: T } = record.tables;
  const beta = tensor("tables.beta"), bar = tensor("tables.alpha_bar");
  if (by_formula) yield* compare("β", "tables.beta", formulaBetas(curve, T, start, end), beta);
  const product = new Float64Array(T + 1).fill(1);
  for (let t = 1; t <= T; t++) product[t] = product[t - 1] * (1 - beta[t]);
  yield* compare("ᾱ", "tables.alpha_bar", (t) => product[t], bar);
  yield* compare("√ᾱ", "tables.signal", (t) => Math.sqrt(bar[t]), tensor("tables.signal"));
  yield* compare("√(1−ᾱ)", "tables.sigma", (t) => Math.sqrt(1 - bar[t]), tensor("tables.sigma"));
  const step = (i) => posterior(bar[i + 1], bar[i]);
  yield* compare("w₀", "tables.weight_x_0", (i) => step(i).weightX0, tensor("tables.weight_x_0"));
  yield* compare("w_t", "tables.weight_x_t", (i) => step(i).weightXt, tensor("tables.weight_x_t"));
  yield* compare("β̃", "tables.beta_tilde", (i) => step(i).betaTilde, tensor("tables.beta_tilde"));
});

/** NumPy's linspace, of β or of √β. */
function formulaBetas(curve, T, start, end) {
  const root = curve === "scaled_linear";
  const [from, to] = root ? [Math.sqrt(start), Math.sqrt(end)] : [start, end];
  const step = (to - from) / (T - 1);
  return (t) => {
    if (t === 0) return 0;
    const even = t === 1 ? from : t === T ? to : (t - 1) * step + from;
    return root ? even * even : even;
  };
}

/** The posterior between two ᾱ (src/diffusion/posterior.rs). */
function posterior(bar, barPrev) {
  const alpha = bar / barPrev, beta = 1 - alpha, share = beta / (1 - bar);
  return { alpha, beta, weightX0: Math.sqrt(barPrev) * share, weightXt: Math.sqrt(alpha) * ((1 - barPrev) / (1 - bar)), betaTilde: (1 - barPrev) * share };
}

/** x_t of the pictures, and the last step of the forward process. */
checks.push(function* forward() {
  const t = record.about.shown_t;
  const signal = f32(tensor("tables.signal")[t]), sigma = f32(tensor("tables.sigma")[t]);
  for (let k = 0; k < record.pictures.length; k++) {
    const x0 = tensor(`pictures.${k}.x_0`), eps = tensor(`pictures.${k}.eps`), key = `pictures.${k}.x_t`;
    yield* compare("x_t", key, (i) => f32(f32(signal * x0[i]) + f32(sigma * eps[i])), tensor(key));
  }
  const { root_alpha, root_beta } = record.step_noise, [keep, add] = [f32(root_alpha), f32(root_beta)];
  const before = tensor("step_noise.x_before"), z = tensor("step_noise.z");
  yield* compare("x_t by one step", "step_noise.x_after", (i) => f32(f32(keep * before[i]) + f32(add * z[i])), tensor("step_noise.x_after"));
});

/** The x after each step of the chain. */
checks.push(function* chain() {
  if (!record.chain.plain) return;
  for (let k = 0; k < record.chain.steps.length; k++) {
    const key = `chain.steps.${k}.x_s`;
    yield* compare("x after the step from t = " + record.chain.steps[k].t, key, (i) => chainStep(k, i).sum, tensor(key));
  }
});

/** x at the start of step k of the chain. */
const chainX = (k) => tensor(k === 0 ? "chain.x_start" : `chain.steps.${k - 1}.x_s`);

/** Number i of the image in step k, with everything that it is made of. */
function chainStep(k, i, { clip = record.chain.clip, noise = true } = {}) {
  const { signal, sigma, weights } = record.chain.steps[k];
  const x = chainX(k)[i], said = tensor(`chain.steps.${k}.output`)[i];
  const raw = imageFrom(record.about.prediction, f32(signal), f32(sigma), x, said);
  const image = clipTo(raw, clip === null ? null : f32(clip));
  const z = noise ? tensor(`chain.steps.${k}.z`)[i] : 0;
  const [ofImage, ofX, ofZ] = [f32(f32(weights.x_0_hat) * image), f32(f32(weights.x_t) * x), f32(f32(weights.z) * z)];
  return { x, said, raw, image, z, ofImage, ofX, ofZ, weights, sum: f32(f32(ofImage + ofX) + ofZ) };
}

/** Keys of numbers in the prose that are not those of the record: compared, not computed. */
function wrongProse() {
  return [...document.querySelectorAll("data[data-key]")].filter((element) => Number(element.value) !== at(element.dataset.key)).map((element) => element.dataset.key);
}

/** How many numbers the record carries in its lists. */
const carried = () => tensorKeys().reduce((sum, key) => sum + tensor(key).length, 0);

/** Runs all checks in slices that leave the page usable, then says the verdict. */
function verify(verdict) {
  if (crc32(new TextEncoder().encode(recordElement.textContent)) !== Number(recordElement.dataset.crc32)) damaged.push("record");
  let agreed = 0, total = 0;
  const [wrongKey] = wrongProse();
  let firstWrong = wrongKey === undefined ? null : { name: "numbers in the text", key: wrongKey, index: 0 };
  const slices = (function* () {
    for (const key of tensorKeys()) yield { checksum: tensor(key) };
    for (const check of checks) yield* check();
  })();
  const go = () => {
    const until = performance.now() + 25;
    while (performance.now() < until) {
      const { value, done } = slices.next();
      if (done) return verdict({ agreed, total, firstWrong, damaged: damaged.filter((key) => key !== "record" || damaged.length === 1) });
      if (value.checksum) continue;
      agreed += value.agreed;
      total += value.agreed + value.wrong.length;
      if (value.wrong.length && firstWrong === null) firstWrong = { ...value, index: value.wrong[0] };
    }
    setTimeout(go, 0);
  };
  go();
}
