// Chapter 13: bits.

function chapter13() {
  const { paid } = record, terms = tensor("paid.terms");
  const parts = [["decoder", paid.decoder.mean, "c"], ["steps", paid.kl.mean, "a"], ["prior", paid.prior.mean, "b"]];
  const total = paid.total.mean;
  const bar = svg("svg", { viewBox: "0 0 560 60", role: "img", "aria-label": "Bits: " + parts.map(([name, bits]) => `${name} ${show(bits, 2)}`).join(", ") });
  let left = 0;
  for (const [name, bits, style] of parts) {
    const width = (bits / total) * 540;
    bar.append(svg("rect", { x: 10 + left, y: 10, width: Math.max(width, 1), height: 22, class: "line " + style, fill: "none" }));
    if (width > 60) bar.append(svg("text", { x: 14 + left, y: 26 }, name));
    left += width;
  }
  bar.append(svg("text", { x: 10, y: 50 }, `together ${show(total, 2)} bits for each number; the prior is ${showWide(paid.prior.mean)}`));
  if (!figure("f13a", bar, make("p", { class: "note" }, fromProgram("From the program"), "."))) return;
  const all = chart("What each t costs, in bits for each number of a picture", { x: "t", y: "bits", log: true });
  const near = chart("The same for t = 1 to 10", { x: "t", y: "bits" });
  all.draw([{ name: "one step", class: "a", points: Array.from(terms, (bits, i) => [i + 1, bits]) }]);
  near.draw([{ name: "one step; t = 1 is the decoder", class: "a", points: paid.first.map((bits, i) => [i + 1, bits]) }], { low: 0 });
  figure("f13b", all.element, near.element);

  const bars = tensor("tables.alpha_bar"), beta = tensor("tables.beta"), tilde = tensor("tables.beta_tilde");
  const weight = chart("How much (ε − ε̂)² counts at each t, over its mean", { x: "t", y: "", log: true });
  const times = range(2, record.about.t_max);
  const line = (name, style, of) => {
    const counts = times.map(of), mean = counts.reduce((sum, x) => sum + x, 0) / counts.length;
    return { name, class: style, points: times.map((t, i) => [t, counts[i] / mean]) };
  };
  const own = { v_prediction: ["this network's loss, of v", (t) => 1 / bars[t]], sample: ["this network's loss, of x₀", (t) => (1 - bars[t]) / bars[t]] }[record.about.prediction];
  figure("f13c", weight.element) && weight.draw([
    line("the bound", "a", (t) => beta[t] ** 2 / (2 * tilde[t - 1] * (1 - beta[t]) * (1 - bars[t]))),
    line("the usual loss, of ε", "b", () => 1),
    ...(own && bars.at(-1) > 0 ? [line(own[0], "c", own[1])] : []),
  ]);
}
