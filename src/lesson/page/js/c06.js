// Chapter 6: two parabolas add up; the formula beside the same numbers from a grid.

function chapter6() {
  const T = record.about.t_max, bar = tensor("tables.alpha_bar");
  const own = { x0: 0.5, xt: -0.5, s: Math.max(record.about.shown_t - 1, 0) };
  const plot = chart("Minus the logarithm of a density: the two known things, and their sum", { x: "x at s", y: "", height: 260 });
  const table = grid("The sum's mean and variance", ["", "by the formula", "from a grid"]);
  const tenths = range(-30, 30).map((n) => n / 10);
  const draw = () => {
    const t = state.t, s = Math.min(own.s, t - 1), { x0, xt } = own;
    const { alpha, beta, weightX0, weightXt, betaTilde } = posterior(bar[t], bar[s]);
    sliders.forEach(([of, value]) => of.update(value()));
    const mean = weightX0 * x0 + weightXt * xt;
    if (betaTilde === 0) {
      plot.frame.replaceChildren();
      table.fill([["mean", fromBrowser(show(mean, 6)), "the picture itself"], ["variance", fromBrowser("0"), "0"]]);
      return;
    }
    const byStep = (x) => (xt - Math.sqrt(alpha) * x) ** 2 / (2 * beta);
    const byPicture = (x) => (x - Math.sqrt(bar[s]) * x0) ** 2 / (2 * (1 - bar[s]));
    const reach = 6 * Math.sqrt(betaTilde);
    const xs = range(0, 120).map((n) => mean - reach + (n * reach) / 60);
    const least = byStep(mean) + byPicture(mean);
    plot.draw([
      { name: "to xₜ: q(xₜ | xₛ)", class: "b", points: xs.map((x) => [x, byStep(x)]) },
      { name: "from x₀: q(xₛ | x₀)", class: "c", points: xs.map((x) => [x, byPicture(x)]) },
      { name: "their sum", class: "a", points: xs.map((x) => [x, byStep(x) + byPicture(x)]) },
    ], { low: 0, high: least + 18, now: mean });
    let [total, first, second] = [0, 0, 0];
    for (let n = -2000; n <= 2000; n++) {
      const x = mean + (n * reach * 2) / 2000, p = Math.exp(least - byStep(x) - byPicture(x));
      total += p;
      first += p * x;
      second += p * (x - mean) ** 2;
    }
    table.fill([
      ["mean", fromBrowser(show(mean, 8)), fromBrowser(show(first / total, 8))],
      ["variance", fromBrowser(show(betaTilde, 8)), fromBrowser(show(second / total - (first / total - mean) ** 2, 8))],
    ]);
  };
  const set = (what) => { Object.assign(own, what); draw(); };
  const time = slider("t", range(1, T), state.t, (t) => { if (own.s === state.t - 1 || own.s >= t) own.s = t - 1; change({ t }); });
  const before = slider("s", range(0, Math.max(T - 1, 0)), own.s, (s) => set({ s }));
  const clean = slider("x₀", range(-10, 10).map((n) => n / 10), own.x0, (x0) => set({ x0 }), (x) => show(x, 1));
  const noisy = slider("xₜ", tenths, own.xt, (xt) => set({ xt }), (x) => show(x, 1));
  const sliders = [[time, () => state.t], [before, () => Math.min(own.s, state.t - 1)], [clean, () => own.x0], [noisy, () => own.xt]];
  figure("f6", make("div", { class: "controls" }, ...sliders.map(([of]) => of.element)), plot.element, table.element) && watch(draw);
}
