// Chapter 9: a mixture of normal distributions, exactly. No bits are claimed here, so Math.exp will do.

/** The exact density of x and mean of x_0 at signal a and noise b, of parts {mean, deviation, share}. */
function exactly(parts, a, b, x) {
  let density = 0, mean = 0;
  for (const { mean: m, deviation: s, share } of parts) {
    const v = a * a * s * s + b * b;
    const p = (share / Math.sqrt(2 * Math.PI * v)) * Math.exp(-((x - a * m) ** 2) / (2 * v));
    density += p;
    mean += p * (m + ((a * s * s) / v) * (x - a * m));
  }
  if (density < 1e-290) { // far out the nearest part, seen from x, decides
    const near = parts.reduce((best, part) => (Math.abs(x - a * part.mean) < Math.abs(x - a * best.mean) ? part : best));
    return { density: 0, mean: near.mean + ((a * near.deviation ** 2) / (a * a * near.deviation ** 2 + b * b)) * (x - a * near.mean) };
  }
  return { density, mean: mean / density };
}

/** What the small network says of ε. */
function learnedNoise(x, logRatio) {
  const { network, hidden } = record.world;
  let values = [x, logRatio / 2];
  for (let layer = 0; layer < 3; layer++) {
    const [weights, bias] = [network[2 * layer], network[2 * layer + 1]], outputs = layer === 2 ? 1 : hidden;
    const next = bias.slice();
    values.forEach((value, i) => { for (let o = 0; o < outputs; o++) next[o] += value * weights[i * outputs + o]; });
    values = layer === 2 ? next : next.map((y) => y / (1 + Math.exp(-y)));
  }
  return values[0];
}

/** Signal and noise where σ/signal is `ratio`. */
const atRatio = (ratio) => { const norm = Math.sqrt(1 + ratio * ratio); return [1 / norm, ratio / norm]; };

function chapter9() {
  const { world } = record;
  const parts = world.means.map((mean, k) => ({ mean, deviation: world.deviations[k], share: world.shares[k] }));
  const ratios = range(0, 60).map((i) => world.ratio_least * (world.ratio_most / world.ratio_least) ** (i / 60));
  let ratio = ratios[36];
  const xs = range(-120, 120).map((n) => n / 40);
  const density = chart("The density of x", { x: "x", y: "" });
  const answer = chart("The best guess of x₀ from x", { x: "x", y: "x̂₀" });
  const paths = chart("Paths from noise to data", { x: "the way from noise (0) to data (1), in shares of the steps", y: "x" });
  const drawTop = () => {
    const [a, b] = atRatio(ratio);
    noise.update(ratio);
    sliders.forEach((s, k) => s.update(parts[k].mean));
    density.draw([{ name: "density of x", class: "a", points: xs.map((x) => [x, exactly(parts, a, b, x).density]) }], { low: 0 });
    answer.draw([
      { name: "exact", class: "a", points: xs.map((x) => [x, exactly(parts, a, b, x).mean]) },
      { name: "small network", class: "c", points: xs.map((x) => [x, (x - b * learnedNoise(x, Math.log(ratio))) / a]) },
    ], { low: -2.5, high: 2.5 });
  };
  const drawPaths = () => {
    const STEPS = 120, levels = range(0, STEPS).map((i) => atRatio(world.ratio_most * (world.ratio_least / world.ratio_most) ** (i / STEPS)));
    const lines = range(-12, 12).map((n) => {
      let x = n / 5;
      const points = [[0, x]];
      for (let i = 0; i < STEPS; i++) {
        const [a, b] = levels[i], [a2, b2] = levels[i + 1];
        const image = exactly(parts, a, b, x).mean;
        x = a2 * image + (b2 * (x - a * image)) / b;
        points.push([(i + 1) / STEPS, x]);
      }
      return points;
    });
    paths.draw([{ name: "the middle path", class: "a", points: lines[12] }], { low: -2.6, high: 2.6, extra: lines });
  };
  const noise = slider("noise over signal", ratios, ratio, (r) => { ratio = r; drawTop(); }, showWide);
  const sliders = parts.map((part, k) => slider("part " + (k + 1), range(-20, 20).map((n) => n / 10), part.mean, (m) => { part.mean = m; drawTop(); drawPaths(); }, (m) => show(m, 1)));
  if (!figure("f9a", make("div", { class: "controls" }, noise.element, ...sliders.map((s) => s.element)), density.element, answer.element)) return;
  figure("f9b", paths.element);
  drawTop();
  drawPaths();
  chapter9Plane(ratios);
  const errors = chart("Error at the end by steps, exact denoiser", { x: "steps", y: "", log: true, columns: 20, logX: true });
  figure("f9d", errors.element);
  errors.draw(world.orders.map(({ name, steps, errors }, k) => ({ name, class: "ab"[k], points: steps.map((n, i) => [n, errors[i]]) })));
}

/** Three round parts in a plane, and arrows to the exact mean. */
function chapter9Plane(ratios) {
  const parts = [{ x: -1, y: -0.6 }, { x: 1, y: -0.5 }, { x: 0, y: 1 }], deviation = 0.15, SIZE = 360, REACH = 2.4;
  let ratio = ratios[34], chosen = 0;
  const frame = svg("svg", { viewBox: `0 0 ${SIZE} ${SIZE}`, class: "plane", role: "img", "aria-label": "A plane with three parts, and arrows from x to the best guess of x₀" });
  const toX = (x) => ((x + REACH) / (2 * REACH)) * SIZE, toY = (y) => SIZE - ((y + REACH) / (2 * REACH)) * SIZE;
  const mean = (a, b, x, y) => {
    const v = a * a * deviation * deviation + b * b;
    const far = parts.map((p) => ((x - a * p.x) ** 2 + (y - a * p.y) ** 2) / (2 * v)), least = Math.min(...far);
    const shares = far.map((f) => Math.exp(least - f)), total = shares.reduce((s, p) => s + p, 0), gain = (a * deviation * deviation) / v;
    return ["x", "y"].map((axis, k) => parts.reduce((sum, p, i) => sum + (shares[i] / total) * (p[axis] + gain * ([x, y][k] - a * p[axis])), 0));
  };
  const draw = () => {
    const [a, b] = atRatio(ratio), arrows = [];
    noise.update(ratio);
    horizontal.update(parts[chosen].x);
    vertical.update(parts[chosen].y);
    for (let i = 0; i < 13; i++) for (let j = 0; j < 13; j++) {
      const [x, y] = [i, j].map((n) => -REACH + ((n + 0.5) * 2 * REACH) / 13), [mx, my] = mean(a, b, x, y);
      const length = Math.hypot(mx - x, my - y) || 1, scale = Math.min(0.3, length) / length;
      const [X, Y, X2, Y2] = [toX(x), toY(y), toX(x + (mx - x) * scale), toY(y + (my - y) * scale)];
      arrows.push(svg("path", { class: "line a", d: `M${X.toFixed(1)} ${Y.toFixed(1)}L${X2.toFixed(1)} ${Y2.toFixed(1)}` }), svg("circle", { class: "axis", cx: X.toFixed(1), cy: Y.toFixed(1), r: 1.5 }));
    }
    const dots = parts.map((p, k) => svg("circle", { class: "line " + (k === chosen ? "d" : "b"), cx: toX(p.x), cy: toY(p.y), r: (deviation / (2 * REACH)) * SIZE * 2 }));
    frame.replaceChildren(...arrows, ...dots);
  };
  const noise = slider("noise over signal", ratios, ratio, (r) => { ratio = r; draw(); }, showWide);
  const places = range(-20, 20).map((n) => n / 10);
  const horizontal = slider("to the right", places, parts[0].x, (x) => { parts[chosen].x = x; draw(); }, (x) => show(x, 1));
  const vertical = slider("up", places, parts[0].y, (y) => { parts[chosen].y = y; draw(); }, (y) => show(y, 1));
  const which = choice("part", [["0", "first"], ["1", "second"], ["2", "third"]], "0", (k) => { chosen = Number(k); draw(); });
  const place = (event) => {
    const box = frame.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * 2 * REACH - REACH, REACH - ((event.clientY - box.top) / box.height) * 2 * REACH];
  };
  let held = false;
  frame.addEventListener("pointerdown", (event) => {
    const [x, y] = place(event);
    const near = parts.map((p) => Math.hypot(p.x - x, p.y - y));
    if (Math.min(...near) > 0.4) return;
    chosen = near.indexOf(Math.min(...near));
    which.querySelector("select").value = String(chosen);
    held = true;
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => { if (held) { [parts[chosen].x, parts[chosen].y] = place(event); draw(); } });
  frame.addEventListener("pointerup", () => { held = false; });
  figure("f9c", make("div", { class: "controls" }, noise.element, which, horizontal.element, vertical.element), frame, make("p", { class: "note" }, "Circles: the parts, of two standard deviations. A part can also be dragged.")) && draw();
}
