// Line charts as SVG, with the numbers behind them.

const SVG = "http://www.w3.org/2000/svg";
function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

/** Round steps that cut a range into about `count` parts. */
function ticks(low, high, count = 5) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((n) => n * power).find((n) => n >= rough * 0.999);
  return range(Math.ceil(low / step - 1e-9), Math.floor(high / step + 1e-9)).map((n) => n * step);
}

/**
 * A chart. `series` are {name, class, points: [[x, y], ...]}; `log` draws y by its power of ten, `logX` x by its power of two; `now` is a line at an x.
 * Returns the element and `draw(series, {low, high, now})`.
 */
function chart(title, { x: xName, y: yName, log = false, logX = false, height = 230, columns = 12 } = {}) {
  const WIDTH = 560, LEFT = 52, BOTTOM = 34, TOP = 12, RIGHT = 20;
  const frame = svg("svg", { viewBox: `0 0 ${WIDTH} ${height}`, role: "img", "aria-label": title });
  const key = make("p", {});
  const numbers = grid(title + ": the numbers", [xName, ""]);
  const behind = make("details", {}, make("summary", {}, "Show numbers"), numbers.element);
  const element = make("div", {}, make("p", { class: "note" }, title), frame, key, behind);
  const draw = (series, { low = null, high = null, now = null, extra = [], bands = [] } = {}) => {
    const scale = (y) => (log ? Math.log10(y) : y);
    const points = series.flatMap((s) => s.points).filter(([, y]) => Number.isFinite(scale(y)));
    if (points.length === 0) return frame.replaceChildren();
    const across = (x) => (logX ? Math.log2(x) : x);
    const xs = points.map(([x]) => across(x)), ys = points.map(([, y]) => scale(y));
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    let [y0, y1] = [low === null ? Math.min(...ys) : scale(low), high === null ? Math.max(...ys) : scale(high)];
    if (y1 - y0 < 1e-12) [y0, y1] = [y0 - 1, y1 + 1];
    const toX = (x) => LEFT + ((across(x) - x0) / (x1 - x0 || 1)) * (WIDTH - LEFT - RIGHT);
    const toY = (y) => height - BOTTOM - ((Math.min(Math.max(scale(y), y0 - 9), y1 + 9) - y0) / (y1 - y0)) * (height - BOTTOM - TOP);
    const path = (list) => list.filter(([, y]) => Number.isFinite(scale(y))).map(([x, y], i) => (i ? "L" : "M") + toX(x).toFixed(1) + " " + toY(y).toFixed(1)).join("");
    const parts = [];
    for (const y of ticks(y0, y1)) {
      const Y = toY(log ? 10 ** y : y);
      parts.push(svg("path", { class: "grid", d: `M${LEFT} ${Y}H${WIDTH - RIGHT}` }));
      parts.push(svg("text", { x: LEFT - 6, y: Y + 4, "text-anchor": "end" }, log ? (Number.isInteger(y) ? tenTo(y) : "") : showWide(Number(y.toPrecision(6)))));
    }
    for (const x of logX ? series[0].points.map(([x]) => x) : ticks(x0, x1, 6)) parts.push(svg("text", { x: toX(x), y: height - BOTTOM + 15, "text-anchor": "middle" }, showWide(x)));
    parts.push(svg("text", { x: (WIDTH + LEFT) / 2, y: height - 3, "text-anchor": "middle" }, xName));
    parts.push(svg("text", { x: 4, y: 10 }, yName));
    parts.push(svg("path", { class: "axis", d: `M${LEFT} ${TOP}V${height - BOTTOM}H${WIDTH - RIGHT}` }));
    const clip = "k" + widgets++;
    const inside = svg("g", { "clip-path": `url(#${clip})` });
    parts.push(svg("clipPath", { id: clip }, svg("rect", { x: LEFT, y: TOP, width: WIDTH - LEFT - RIGHT, height: height - TOP - BOTTOM })), inside);
    for (const [top, bottom] of bands) inside.append(svg("path", { class: "band", d: path(top) + path(bottom.slice().reverse()).replace("M", "L") + "Z" }));
    for (const list of extra) inside.append(svg("path", { class: "walker", d: path(list) }));
    for (const s of series) inside.append(svg("path", { class: "line " + s.class, d: path(s.points) }));
    if (now !== null) inside.append(svg("path", { class: "now", d: `M${toX(now)} ${TOP}V${height - BOTTOM}` }));
    frame.replaceChildren(...parts);
    key.replaceChildren(...series.map((s) => make("span", { class: "key" }, svg("svg", { viewBox: "0 0 32 10", "aria-hidden": "true" }, svg("path", { class: "line " + s.class, d: "M1 5H31" })), s.name)));
    const every = Math.max(1, Math.ceil(series[0].points.length / columns));
    const head = behind.querySelector("thead tr");
    head.replaceChildren(...[xName, ...series.map((s) => s.name)].map((name, i) => make("th", { scope: "col", class: i ? "number" : "" }, name)));
    const last = series[0].points.length - 1;
    const rows = series[0].points.map(([x], i) => [showWide(x), ...series.map((s) => (s.points[i] ? showWide(s.points[i][1]) : ""))]);
    numbers.fill(rows.filter((_, i) => i % every === 0 || i === last));
  };
  return { element, draw, frame };
}
