// Chapter 7: samplers by steps; chapter 12: guidance.

/** A table of pictures: a row for each name, a column for each head. */
function gallery(caption, heads, rows) {
  const body = rows.map(([name, cells]) => make("tr", {}, make("th", { scope: "row" }, name), ...cells.map((cell) => make("td", {}, cell ?? ""))));
  const table = make("table", {}, make("caption", { class: "note" }, caption), make("thead", {}, make("tr", {}, make("td"), ...heads.map((head) => make("th", { scope: "col" }, head)))), make("tbody", {}, ...body));
  return make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": caption }, table);
}

/** A small picture without a caption. */
function thumb(numbers, label, range = 1) {
  const view = picture("", { small: true, label });
  view.draw(numbers, range, false);
  return view.canvas;
}

function chapter7() {
  const { rows } = record.samplers;
  const lengths = [...new Set(rows.flatMap((row) => row.steps))].sort((a, b) => a - b);
  const cells = (row, r) => lengths.map((n) => {
    const i = row.steps.indexOf(n);
    return i < 0 ? null : thumb(one(`samplers.rows.${r}.pictures`, i), `${row.name}, ${n} steps`);
  });
  const pictures = gallery("Steps of the chain", lengths.map(String), rows.map((row, r) => [row.name, cells(row, r)]));
  const table = grid("How far from DDIM (η = 0) with all steps, √mean of squares", ["sampler", ...lengths.map(String)]);
  table.fill(rows.map((row) => [row.name, ...lengths.map((n) => (row.steps.includes(n) ? show(row.distance[row.steps.indexOf(n)], 3) : "—"))]));
  const empty = rows.some((row) => row.steps.length < lengths.length) ? ["Where nothing stands, nothing was computed."] : [];
  figure("f7", pictures, make("p", { class: "note" }, ...empty), make("details", {}, make("summary", {}, "Show numbers"), table.element));
}

function chapter12() {
  const { guidance } = record;
  if (!guidance) return;
  const { weights, classes } = guidance;
  figure("f12a", gallery("Guidance w by class", range(0, classes - 1).map(String), weights.map((w, r) =>
    ["w = " + w, range(0, classes - 1).map((c) => thumb(one("guidance.pictures", r * classes + c), `class ${c}, w = ${w}`))])));
  const views = [picture("told no class"), picture("told its class"), picture("their difference, 5 times"), picture("x̂₀ at this w")];
  let w = guidance.checked;
  const draw = () => {
    const none = tensor("guidance.without"), of = tensor("guidance.with"), t = record.about.shown_t;
    const [signal, sigma] = [f32(tensor("tables.signal")[t]), f32(tensor("tables.sigma")[t])];
    const x = tensor("pictures.0.x_t");
    const hat = (said) => said.map((y, i) => noiseFrom(record.about.prediction, signal, sigma, x[i], y));
    weight.update(w);
    views[0].draw(hat(none), 3, false);
    views[1].draw(hat(of), 3, false);
    views[2].draw(hat(of).map((y, i) => 5 * (y - hat0[i])), 3, false);
    views[3].draw(mixed(w).map((y, i) => clipTo(imageFrom(record.about.prediction, signal, sigma, x[i], y), 1)), 1, false);
  };
  const weight = slider("w", range(0, 8, 0.25), w, (value) => { w = value; draw(); });
  if (!figure("f12b", make("div", { class: "controls" }, weight.element), make("div", { class: "row" }, ...views.map((v) => v.element)),
    make("p", { class: "note" }, "ε̂ of the first picture at t = " + record.about.shown_t + ": what the network said is ", fromProgram("from the program"), ", the mixture is computed here."))) return;
  const t = record.about.shown_t, [signal, sigma] = [f32(tensor("tables.signal")[t]), f32(tensor("tables.sigma")[t])];
  const hat0 = tensor("guidance.without").map((y, i) => noiseFrom(record.about.prediction, signal, sigma, tensor("pictures.0.x_t")[i], y));
  draw();
}

/** The guided output, as the program has it. */
function mixed(w) {
  const none = tensor("guidance.without"), of = tensor("guidance.with");
  return none.map((none, i) => f32(none + f32(f32(w) * f32(of[i] - none))));
}

checks.push(function* guided() {
  if (!record.guidance) return;
  const computed = mixed(record.guidance.checked);
  yield* compare("the guided output", "guidance.mixed", (i) => computed[i], tensor("guidance.mixed"));
});
