// Chapter 0: a picture, its noise, what the network makes out. Chapter 1: the stride, and the steps.

function chapter0() {
  const noisy = picture("xₜ"), seen = picture("x̂₀, made out in it"), clean = picture("x₀, the picture");
  const times = record.about.times;
  const which = choice("picture", record.pictures.map((p, i) => [String(i), "number " + p.index]), String(state.picture), (value) => change({ picture: Number(value) }));
  const time = slider("t", times, state.t, (t) => change({ t }));
  if (!figure("f0", make("div", { class: "controls" }, which, time.element), make("div", { class: "row" }, noisy.element, seen.element, clean.element),
    make("p", { class: "note" }, "Black is −1, white is 1. What the network said is ", fromProgram("from the program"), ", xₜ and x̂₀ are computed from it ", fromBrowser("in your browser"), "."))) return;
  watch(() => {
    const t = time.nearest(state.t), k = state.picture;
    const x0 = tensor(`pictures.${k}.x_0`), eps = tensor(`pictures.${k}.eps`);
    const said = tensor(`pictures.${k}.seen.${times.indexOf(t)}.output`);
    const [signal, sigma] = [f32(tensor("tables.signal")[t]), f32(tensor("tables.sigma")[t])];
    const x = x0.map((x, i) => f32(f32(signal * x) + f32(sigma * eps[i])));
    const image = x.map((x, i) => clipTo(imageFrom(record.about.prediction, signal, sigma, x, said[i]), 1));
    time.update(t);
    noisy.draw(x, 1, false);
    seen.draw(image, 1, false);
    clean.draw(x0, 1, false);
    noisy.name("xₜ at t = " + t);
  });
}

function chapter1() {
  const T = record.about.t_max;
  const time = slider("t", range(1, T), state.t, (t) => change({ t }));
  const parts = [picture("x₀", { pick: true }), picture("ε", { pick: true }), picture("xₜ", { pick: true })];
  const sum = make("p", { role: "status" });
  if (!figure("f1a", make("div", { class: "controls" }, time.element), make("div", { class: "row" }, ...parts.map((p) => p.element)), make("p", { class: "note" }, "x: black is −1, white is 1. ε: black is −3, white is 3."), sum)) return;
  watch(() => {
    const t = state.t, k = state.picture;
    const x0 = tensor(`pictures.${k}.x_0`), eps = tensor(`pictures.${k}.eps`);
    const [signal, sigma] = [f32(tensor("tables.signal")[t]), f32(tensor("tables.sigma")[t])];
    const x = x0.map((x, i) => f32(f32(signal * x) + f32(sigma * eps[i])));
    time.update(t);
    parts[0].draw(x0);
    parts[1].draw(eps, 3);
    parts[2].draw(x);
    parts[2].name("xₜ at t = " + t);
    const i = place();
    sum.replaceChildren(`Row ${state.row}, column ${state.column}: `, fromBrowser(`${show(signal)} · ${show(x0[i])} + ${show(sigma)} · ${show(eps[i])} = ${show(x[i])}`));
  });
  walkers();
}

/** One pixel of many walks, step by step, inside the band of the stride. */
function walkers() {
  const T = record.about.t_max, COUNT = 40, every = Math.max(1, Math.ceil(T / 100));
  const plot = chart("One pixel, step by step, and the band of one stride", { x: "t", y: "xₜ" });
  const says = make("p", { role: "status" });
  if (!figure("f1b", plot.element, says)) return;
  const beta = tensor("tables.beta"), signal = tensor("tables.signal"), sigma = tensor("tables.sigma");
  let seed = 12345; // any will do: these walks are for the eye
  const uniform = () => ((seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) + 0.5) / 2 ** 32;
  const normal = () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform());
  const walk = (start) => {
    const points = [[0, start]];
    let x = start;
    for (let t = 1; t <= T; t++) {
      x = Math.sqrt(1 - beta[t]) * x + Math.sqrt(beta[t]) * normal();
      if (t % every === 0 || t === T) points.push([t, x]);
    }
    return points;
  };
  const kept = range(0, T).filter((t) => t % every === 0 || t === T);
  const walks = new Map();
  const draw = () => {
    const start = tensor(`pictures.${state.picture}.x_0`)[place()];
    if (!walks.has(start)) { walks.clear(); walks.set(start, Array.from({ length: COUNT }, () => walk(start))); }
    const mean = kept.map((t) => [t, signal[t] * start]);
    const edge = (sign) => kept.map((t) => [t, signal[t] * start + sign * 2 * sigma[t]]);
    plot.draw([{ name: "mean of the stride, √ᾱ·x₀", class: "a", points: mean }], { low: -3.2, high: 3.2, now: state.t, extra: walks.get(start), bands: [[edge(1), edge(-1)]] });
    const last = walks.get(start).map((points) => points.at(-1)[1]);
    const outside = last.filter((x) => Math.abs(x - signal[T] * start) > 2 * sigma[T]).length;
    says.replaceChildren("At the end ", fromBrowser(`${outside} of ${COUNT}`), " walks are outside of the band. Of normal numbers, one in 22 is that far off.");
  };
  let drawn = "";
  watch(() => {
    const key = [state.picture, place(), state.t].join();
    if (key !== drawn) draw();
    drawn = key;
  });
}
