// Chapter 2: schedules, live.

function chapter2() {
  const own = record.tables;
  const settings = { curve: own.curve, start: own.beta_start, end: own.beta_end, T: own.t_max };
  const left = chart("How much is left: √ᾱ of the picture, √(1−ᾱ) of the noise", { x: "t", y: "" });
  const ratio = chart("Signal-to-noise ratio, and what an error of the noise is multiplied by", { x: "t", y: "", log: true });
  const says = make("p", { role: "status" });
  const draw = () => {
    const { curve, start, end, T } = settings;
    const isOwn = curve === own.curve && start === own.beta_start && end === own.beta_end && T === own.t_max;
    const beta = isOwn && !own.by_formula ? (t) => tensor("tables.beta")[t] : curveBetas(curve, T, start, end);
    const bar = new Float64Array(T + 1).fill(1);
    for (let t = 1; t <= T; t++) bar[t] = bar[t - 1] * (1 - beta(t));
    const shown = range(0, T).filter((t) => t % Math.max(1, Math.ceil(T / 200)) === 0 || t === T);
    const line = (of) => shown.map((t) => [t, of(bar[t])]);
    left.draw([
      { name: "picture, √ᾱ", class: "a", points: line(Math.sqrt) },
      { name: "noise, √(1−ᾱ)", class: "b", points: line((b) => Math.sqrt(1 - b)) },
    ], { low: 0, high: 1, now: Math.min(state.t, T) });
    ratio.draw([
      { name: "SNR", class: "a", points: line((b) => b / (1 - b)) },
      { name: "1/√SNR", class: "b", points: line((b) => Math.sqrt((1 - b) / b)) },
    ], { low: 1e-5, high: 1e4, now: Math.min(state.t, T) });
    const same = isOwn && bar.every((b, t) => Object.is(b, tensor("tables.alpha_bar")[t]));
    const first = range(1, T).find((t) => bar[t] < 0.5);
    says.replaceChildren(
      "ᾱ at T = ", fromBrowser(showWide(bar[T])), "; SNR falls below 1 at t = ", fromBrowser(first === undefined ? "none" : String(first)), ". ",
      !isOwn ? "These are not the model's settings." : same ? `All ${T + 1} ᾱ are the program's, bit for bit.` : "The program's table differs.",
    );
  };
  const set = (what) => { Object.assign(settings, what); draw(); };
  const curves = [["linear", "linear"], ["scaled_linear", "scaled linear"], ["squaredcos_cap_v2", "cosine"], ["sigmoid", "sigmoid"]];
  const exponents = range(-5, -2, 0.25).map((p) => 10 ** p);
  const starts = [...new Set([...exponents, own.beta_start])].sort((a, b) => a - b);
  const ends = [...new Set([...range(0.005, 0.05, 0.005).map((x) => Number(x.toFixed(3))), own.beta_end])].sort((a, b) => a - b);
  const lengths = [...new Set([10, 50, 100, 250, 500, 1000, 2000, own.t_max])].sort((a, b) => a - b);
  const sliders = [];
  const add = (name, values, value, key, format) => {
    const s = slider(name, values, value, (x) => { set({ [key]: x }); s.update(x); }, format);
    sliders.push(s);
    return s.element;
  };
  figure("f2a", make("div", { class: "controls" },
    choice("curve", curves, own.curve, (curve) => set({ curve })),
    add("T", lengths, own.t_max, "T"), add("first β", starts, own.beta_start, "start", showWide), add("last β", ends, own.beta_end, "end", showWide)),
  left.element, ratio.element, says) && watch(draw);
}

/** β of a curve (src/diffusion/schedule/mod.rs); the cosine and the sigmoid by the browser's own functions, so without a claim on bits. */
function curveBetas(curve, T, start, end) {
  if (curve === "linear" || curve === "scaled_linear") return formulaBetas(curve, T, start, end);
  if (curve === "sigmoid") return (t) => (end - start) / (1 + Math.exp(-(-6 + (12 * (t - 1)) / Math.max(T - 1, 1)))) + start;
  const f = (t) => Math.cos(((t / T + 0.008) / 1.008) * (Math.PI / 2)) ** 2;
  return (t) => (t === 0 ? 0 : Math.min(1 - f(t) / f(t - 1), 0.999));
}
