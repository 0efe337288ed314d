// Chapter 14: the judge of a step that the reader has written.

/** What the step of the judge can be: the shown one, one of few steps' stride, and the last. */
function judgedSteps() {
  const steps = record.chain.steps, last = steps.length - 1;
  const middle = Math.max(0, Math.min(last - 1, Math.round(last * 0.9)));
  return [...new Set([record.chain.shown, middle, last])].map((k) => [String(k), `from t = ${steps[k].t} to ${steps[k].t_prev}`]);
}

/** The image after step k, in float64, with a mistake: ᾱ shifted, β for β̃, no clipping, noise at the end, a root forgotten, the output read as another thing. */
function stepWith(k, { shift = 0, wide = false, clip = true, noiseAtEnd = false, root = "", read = record.about.prediction } = {}) {
  const { t, t_prev, weights } = record.chain.steps[k];
  const bars = tensor("tables.alpha_bar");
  const barAt = (t) => bars[Math.min(Math.max(t === 0 ? 0 : t + shift, 0), bars.length - 1)];
  const [bar, barPrev] = [barAt(t), barAt(t_prev)];
  const { alpha, beta, weightX0, weightXt, betaTilde } = posterior(bar, barPrev);
  const [signal, sigma] = root === "signal" ? [bar, 1 - bar] : [Math.sqrt(bar), Math.sqrt(1 - bar)];
  const keep = root === "alpha" ? weightXt * Math.sqrt(alpha) : weightXt;
  const variance = wide ? beta : betaTilde;
  let spread = record.chain.steps[k].weights.z;
  const isFixed = Math.abs(spread * spread - betaTilde) < 1e-9 || shift !== 0;
  if (t_prev === 0) spread = noiseAtEnd ? Math.sqrt(beta) : 0;
  else if (isFixed || wide) spread = root === "sigma" ? variance : Math.sqrt(variance);
  const x = chainX(k), said = tensor(`chain.steps.${k}.output`), z = tensor(`chain.steps.${k}.z`);
  const range = clip ? record.chain.clip : null;
  return Array.from(x, (x, i) => {
    const image = clipTo(imageFrom64(read, signal, sigma, x, said[i]), range);
    return weightX0 * image + keep * x + spread * z[i];
  });
}

const imageFrom64 = (prediction, signal, sigma, x, said) => (prediction === "sample" ? said : prediction === "v_prediction" ? signal * x - sigma * said : (x - sigma * said) / signal);

const MISTAKES = [
  ["ᾱ one off", { shift: -1 }, "You took ᾱ of t − 1 where ᾱ of t belongs. If your table is a list from 0: its first entry is ᾱ of t = 0, which is 1, and you took it for that of t = 1."],
  ["ᾱ one off", { shift: 1 }, "You took ᾱ of t + 1 where ᾱ of t belongs. If your table is a list from 0: its first entry is ᾱ of t = 1, and you took it for that of t = 0."],
  ["β for β̃", { wide: true }, "You took the variance β, not β with a tilde. This model's step has β̃ = β (1 − ᾱ_s)/(1 − ᾱ_t): what is known of x_s from the picture makes it smaller."],
  ["noise after the last step", { noiseAtEnd: true }, "You added noise in the step to the picture. There β̃ is 0: x₀ is x̂₀ itself, and noise would stay in the picture."],
  ["no clipping", { clip: false }, "You did not clip x̂₀ to the range of pixels." + (record?.about.prediction === "epsilon" ? " Without that an error of the network is magnified by 1/√SNR." : "")],
  ...(record?.about.prediction === "epsilon" ? [] : [[`${record?.about.prediction_letter} read as ε`, { read: "epsilon" }, `The network's output is an estimate of ${record?.about.prediction_letter}; you took it for the noise.`]]),
  ["a forgotten square root", { root: "sigma" }, "You multiplied z by the variance β̃. Its standard deviation is the root of that."],
  ["a forgotten square root", { root: "signal" }, "You used ᾱ and 1 − ᾱ where their square roots belong, in x̂₀."],
  ["a forgotten square root", { root: "alpha" }, "You used α where √α belongs, in the weight of x_t."],
];

/** The verdict on numbers for step k: one for the shown pixel, or all of the image; a single one may be rounded to `decimals`, 4 or more. */
function judge(k, numbers, decimals = Infinity) {
  const truth = tensor(`chain.steps.${k}.x_s`);
  const places = numbers.length === 1 ? [place()] : numbers.length === truth.length ? truth.map((_, i) => i) : null;
  if (numbers.some(Number.isNaN)) return { right: false, text: "That is not a list of numbers." };
  if (places === null) return { right: false, text: `Expected ${truth.length} numbers, or one for the shown pixel; found ${numbers.length}.` };
  const distance = (list) => Math.max(...Array.from(places, (i, n) => Math.abs(numbers[n] - list[i])));
  const single = places.length === 1;
  if (distance(truth) <= 2e-6) return { right: true, text: `Right: ${single ? "the number is" : `all ${places.length} are`} within two millionths of the program's.` };
  if (single && decimals >= 4 && distance(truth) <= 0.5001 * 10 ** -decimals) return { right: true, text: `Right in ${decimals} decimals. Six can tell more mistakes apart; the program has ${show(truth[places[0]], 6)}.` };
  const likely = MISTAKES.map(([name, mistake, why]) => ({ name, why, far: distance(stepWith(k, mistake)) })).sort((a, b) => a.far - b.far)[0];
  if (likely.far <= 2e-6) return { right: false, name: likely.name, text: `Not right: ${likely.name}. ${likely.why}` };
  const worst = Array.from(places, (i, n) => [Math.abs(numbers[n] - truth[i]), i, numbers[n]]).sort((a, b) => b[0] - a[0])[0];
  return { right: false, text: `Not right, and none of the usual mistakes. The largest difference is ${showWide(worst[0])}, at number ${worst[1]}: ${show(truth[worst[1]], 6)} was expected, ${show(worst[2], 6)} given.` };
}

function chapter14() {
  let k = record.chain.shown;
  const inputs = make("textarea", { rows: 5, readonly: true, "aria-label": "What the step is given, as JSON" });
  const answer = make("textarea", { rows: 5, "aria-label": "Your result: one number for the shown pixel, or all numbers of the picture" });
  const says = make("p", { role: "status" }), chosen = make("p", { class: "note" });
  watch(() => chosen.replaceChildren(`The chosen pixel is in row ${state.row}, column ${state.column}, counted from 0 (choose another in chapter 4): in the list of ${record.about.size} numbers it is number ${place()}, counted from 0. Give six decimals: two millionths are allowed.`));
  const fill = () => {
    const { t, t_prev } = record.chain.steps[k], bars = tensor("tables.alpha_bar");
    inputs.value = JSON.stringify({
      t, s: t_prev, alpha_bar_t: bars[t], alpha_bar_s: bars[t_prev], prediction_type: record.about.prediction, clip: record.chain.clip,
      x_t: [...chainX(k)], output: [...tensor(`chain.steps.${k}.output`)], z: [...tensor(`chain.steps.${k}.z`)],
    });
  };
  const check = () => {
    const numbers = answer.value.replace(/[[\]]/g, " ").trim().split(/[\s,;]+/).map((text) => (text === "" ? NaN : Number(text)));
    const [, after = ""] = /\.(\d+)$/.exec(answer.value.trim()) ?? [];
    const { right, text } = judge(k, numbers, after.length || Infinity);
    says.className = right ? "from-browser" : "bad";
    says.textContent = text;
  };
  figure("f14", make("div", { class: "controls" }, choice("step", judgedSteps(), String(k), (value) => { k = Number(value); fill(); })),
    make("p", {}, "Given:"), inputs, make("p", {}, "Your xₛ:"), chosen, answer, make("div", { class: "controls" }, make("button", { type: "button", onclick: check }, "Judge")), says) && fill();
}
