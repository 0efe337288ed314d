// Chapter 3: two kinds of noise; the chain. Chapter 4: one pixel in one step.

/** The step of the chain that leaves the t nearest to the shown one. */
const shownStep = () => record.chain.steps.reduce((best, step, k, steps) => (Math.abs(step.t - state.t) < Math.abs(steps[best].t - state.t) ? k : best), 0);

const chainSlider = () => slider("t", record.chain.steps.map((step) => step.t), state.t, (t) => change({ t }));

function chapter3() {
  const names = ["ε, all noise", "ε̂, what the network makes of it", `zₜ, the noise of step ${record.step_noise.t}`, "√β/√(1−ᾱ) · ε̂, what can be known of zₜ"];
  const views = names.map((name) => picture(name));
  const { correlation } = record.step_noise;
  if (!figure("f3a", make("div", { class: "row" }, ...views.map((v) => v.element)), make("p", { class: "note" }, "Black is −3, white is 3. ", fromProgram("From the program"), "; the last one is computed here."))) return;
  const hat = tensor("step_noise.eps_hat");
  [tensor("step_noise.eps"), hat, tensor("step_noise.z"), hat.map((x) => correlation * x)].forEach((x, i) => views[i].draw(x, 3, false));

  const time = chainSlider();
  const [noisy, now, next] = [picture("xₜ"), picture("x̂₀"), picture("xₛ")];
  const says = make("p", { role: "status" });
  figure("f3b", make("div", { class: "controls" }, time.element), make("div", { class: "row" }, noisy.element, now.element, next.element), says);
  watch(() => {
    const k = shownStep(), { t, t_prev, weights } = record.chain.steps[k];
    time.update(t);
    noisy.draw(chainX(k), 1, false);
    now.draw(chainX(k).map((_, i) => chainStep(k, i).image), 1, false);
    next.draw(tensor(`chain.steps.${k}.x_s`), 1, false);
    noisy.name("xₜ at t = " + t);
    now.name("take it all away now: x̂₀");
    next.name("go to t = " + t_prev);
    says.replaceChildren("This step takes ", fromProgram(show(weights.x_0_hat, 5)), " of x̂₀ and ", fromProgram(show(weights.x_t, 5)), " of xₜ.");
  });
}

function chapter4() {
  const time = chainSlider();
  const options = { clip: record.chain.clip !== null, noise: true };
  const views = ["xₜ", "x̂₀", "z", "xₛ"].map((name) => picture(name, { pick: true }));
  const table = grid("The products of one pixel", ["", "weight", "number", "product"]);
  const says = make("p", { role: "status" }), clips = make("p", { role: "status" });
  const boxes = [tick("clip x̂₀", options.clip, (on) => { options.clip = on; draw(); }), tick("add noise", true, (on) => { options.noise = on; draw(); })];
  const draw = () => {
    const k = shownStep(), { t, t_prev } = record.chain.steps[k];
    const of = { clip: options.clip ? record.chain.clip ?? 1 : null, noise: options.noise };
    const all = Array.from(chainX(k), (_, i) => chainStep(k, i, of));
    const i = place(), pixel = all[i];
    time.update(t);
    views[0].draw(chainX(k));
    views[1].draw(all.map((step) => step.image));
    views[2].draw(tensor(`chain.steps.${k}.z`), 3);
    views[3].draw(all.map((step) => step.sum));
    views[0].name("xₜ at t = " + t);
    views[3].name("xₛ at s = " + t_prev);
    table.fill([
      ["x̂₀", show(pixel.weights.x_0_hat, 6), show(pixel.image, 6), fromBrowser(show(pixel.ofImage, 6))],
      ["xₜ", show(pixel.weights.x_t, 6), show(pixel.x, 6), fromBrowser(show(pixel.ofX, 6))],
      ["z", show(pixel.weights.z, 6), show(pixel.z, 6), fromBrowser(show(pixel.ofZ, 6))],
      ["sum", "", "", fromBrowser(show(pixel.sum, 6))],
    ]);
    const program = tensor(`chain.steps.${k}.x_s`)[i];
    const usual = of.noise && (of.clip === null) === (record.chain.clip === null);
    const clipped = pixel.raw === pixel.image ? "" : ` Clipped: without it x̂₀ would be ${show(pixel.raw)}.`;
    const range = record.chain.clip ?? 1, out = Array.from(chainX(k), (_, i) => Math.abs(chainStep(k, i, { clip: null }).raw) - range);
    const many = out.filter((beyond) => beyond > 0).length, far = Math.floor(out.indexOf(Math.max(...out)) / record.about.shape[2]);
    clips.replaceChildren("In this step ", fromBrowser(String(many)), ` of ${out.length} numbers of x̂₀ are outside of −${range} to ${range}`,
      many ? `; the farthest is in row ${Math.floor(far / record.about.shape[1])}, column ${far % record.about.shape[1]}.` : ": clipping changes nothing.");
    says.replaceChildren(
      `Row ${state.row}, column ${state.column}, from t = ${t} to ${t_prev}. The network said ${show(pixel.said, 6)}.${clipped} The program has `, fromProgram(show(program, 6)), ": ",
      !usual ? "you changed the step." : Object.is(program, pixel.sum) ? "the same bits." : "another number.",
    );
  };
  figure("f4", make("div", { class: "controls" }, time.element, ...boxes), make("div", { class: "row" }, ...views.map((v) => v.element)), make("p", { class: "note" }, "x and x̂₀: black is −1, white is 1. z: black is −3, white is 3."), table.element, says, clips) && watch(draw);
}
