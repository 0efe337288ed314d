// Chapter 13: bits.

function chapter13() {
  const { paid } = record, terms = tensor("paid.terms");
  const parts = [["decoder", paid.decoder.mean, "c"], ["steps", paid.kl.mean, "a"], ["prior", paid.prior.mean, "b"]];
  const total = paid.total.mean;
  const bar = svg("svg", { viewBox: "0 0 560 60", role: "img", "aria-label": "Bits: " + parts.map(([name, bits]) => `${name} ${show(bits, 4)}`).join(", ") });
  let left = 0;
  for (const [name, bits, style] of parts) {
    const width = (bits / total) * 540;
    bar.append(svg("rect", { x: 10 + left, y: 10, width: Math.max(width, 1), height: 22, class: "line " + style, fill: "none" }));
    if (width > 60) bar.append(svg("text", { x: 14 + left, y: 26 }, name));
    left += width;
  }
  bar.append(svg("text", { x: 10, y: 50 }, `together ${show(total, 4)} bits for each number; the prior is ${showWide(paid.prior.mean)}`));
  if (!figure("f13a", bar, make("p", { class: "note" }, fromProgram("From the program"), "."))) return;
  const all = chart("What each t costs, in bits for each number of a picture", { x: "t", y: "bits", log: true });
  const near = chart("The first ten", { x: "t", y: "bits" });
  all.draw([{ name: "one step", class: "a", points: Array.from(terms, (bits, i) => [i + 1, bits]) }]);
  near.draw([{ name: "one step; t = 1 is the decoder", class: "a", points: paid.first.map((bits, i) => [i + 1, bits]) }], { low: 0 });
  figure("f13b", all.element, near.element);

  const bars = tensor("tables.alpha_bar"), beta = tensor("tables.beta"), tilde = tensor("tables.beta_tilde");
  const weight = chart("What the bound multiplies (ε − ε̂)² by at each t; the usual loss has 1 for all", { x: "t", y: "", log: true });
  const points = range(2, record.about.t_max).map((t) => [t, beta[t] ** 2 / (2 * tilde[t - 1] * (1 - beta[t]) * (1 - bars[t]))]);
  figure("f13c", weight.element) && weight.draw([
    { name: "the bound", class: "a", points },
    { name: "the usual loss", class: "b", points: points.map(([t]) => [t, 1]) },
  ]);
}
