// Chapter 5: the network's picture beside the exact mean; chapter 11: errors by t.

/** Image i of many, as bytes. */
function one(key, i) {
  const { shape } = at(key), size = shape.slice(1).reduce((a, b) => a * b, 1);
  return tensor(key).subarray(i * size, (i + 1) * size);
}

function chapter5() {
  const { judged } = record;
  const times = judged.at.map(({ t }) => t);
  const views = [picture("x̂₀ of the network"), judged.exact && picture("the exact mean"), picture("x₀, the picture")].filter(Boolean);
  const time = slider("t", times, state.t, (t) => change({ t }));
  if (!figure("f5a", make("div", { class: "controls" }, time.element), make("div", { class: "row" }, ...views.map((v) => v.element)), make("p", { class: "note" }, "All three ", fromProgram("from the program"), "."))) return;
  const plot = chart("Error of the picture, √mean (x₀ − x̂₀)², by t", { x: "t", y: "", columns: 20 });
  figure("f5b", plot.element);
  const line = (name, style, of) => (of(judged.at[0]) === null ? null : { name, class: style, points: judged.at.map((a) => [a.t, of(a)]) });
  const series = [line("network", "a", (a) => a.x_0_rmse), line("exact mean of the training pictures", "b", (a) => a.exact_rmse), line(judged.of_class ? "mean picture of the class, whatever xₜ is" : "mean picture, whatever xₜ is", "c", (a) => a.mean_rmse)].filter(Boolean);
  watch(() => {
    const i = times.indexOf(time.nearest(state.t));
    time.update(times[i]);
    views[0].draw(one("judged.network", i), 1, false);
    views[0].name("x̂₀ of the network at t = " + times[i]);
    if (judged.exact) views[1].draw(one("judged.exact", i), 1, false);
    views.at(-1).draw(tensor("pictures.0.x_0"), 1, false);
    plot.draw(series, { low: 0, now: times[i] });
  });
}

function chapter11() {
  const { bins, at: errors } = record.judged;
  const middle = ({ from, to }) => (from + to) / 2;
  const table = grid("Errors of the predicted noise by t", ["t", "MSE", "RMSE", "MAE", "R²", "best multiple of xₜ: MSE"]);
  const noise = chart("R² of the noise by t, and that of the best multiple of xₜ", { x: "t", y: "R²" });
  const image = chart("Error of the picture by t, √mean (x₀ − x̂₀)²", { x: "t", y: "" });
  if (!figure("f11a", table.element)) return;
  figure("f11b", noise.element, image.element);
  table.fill(bins.map(({ from, to, errors: e }) => [`${from} to ${to}`, ...[e.mse, e.rmse, e.mae, e.r2, e.linear_mse].map((x) => fromProgram(show(x, 5)))]));
  noise.draw([
    { name: "network", class: "a", points: bins.map((bin) => [middle(bin), bin.errors.r2]) },
    { name: "best multiple of xₜ", class: "b", points: bins.map((bin) => [middle(bin), 1 - bin.errors.linear_mse]) },
    { name: "always 0", class: "c", points: bins.map((bin) => [middle(bin), 0]) },
  ], { low: -0.05, high: 1.02 });
  const line = (name, style, of) => ({ name, class: style, points: errors.map((e) => [e.t, of(e)]) });
  const mean = errors[0].mean_rmse === null ? [] : [line("mean picture, whatever xₜ is", "c", (e) => e.mean_rmse)];
  image.draw([line("network", "a", (e) => e.x_0_rmse), ...mean], { low: 0 });
  if (!record.losses) return;
  const { training, validation, steps_in_a_point: steps } = record.losses;
  const loss = chart("The loss by training step", { x: "training step", y: "", log: true, columns: 20 });
  figure("f11c", loss.element, make("p", { class: "note" }, fromProgram("From the program"), "."));
  loss.draw([
    { name: steps > 1 ? `training, means of ${steps} steps` : "training", class: "a", points: training },
    ...(validation.length ? [{ name: "validation pictures", class: "b", points: validation }] : []),
  ]);
}
