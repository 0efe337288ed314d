// Chapter 8: the gradient of one weight as a sum, and by differences.

/** Eleven digits. */
function exactly10(x) {
  const [digits, power] = x.toExponential(10).split("e");
  return digits.replace("-", "−") + "·" + tenTo(Number(power));
}

function chapter8() {
  const { learning } = record;
  if (!learning) return;
  const slope = tensor("learning.slope");
  if (learning.input) {
    const seen = tensor("learning.input"), products = slope.map((s, i) => s * seen[i]);
    const own = [picture("2/N (y − y*)", { pick: true }), picture("a, what w is multiplied by", { pick: true }), picture("their products", { pick: true })];
    const says = make("p", { role: "status" });
    const most = (list) => list.reduce((m, x) => Math.max(m, Math.abs(x)), 1e-300);
    const scales = [slope, seen, products].map(most);
    figure("f8a", make("div", { class: "row" }, ...own.map((v) => v.element)), says) && watch(() => {
      [slope, seen, products].forEach((list, k) => own[k].draw(list, scales[k]));
      const sum = products.reduce((a, b) => a + b, 0), i = place();
      says.replaceChildren(`Row ${state.row}, column ${state.column}: ${showWide(slope[i])} · ${showWide(seen[i])} = ${showWide(products[i])}. The sum over all pixels is `,
        fromBrowser(exactly10(sum)), "; the program's backward pass has ", fromProgram(exactly10(learning.last.gradient)), ".");
    });
  } else figure("f8a", make("p", { class: "note" }, "For this network's last layer the sum is not shown."));

  const plot = chart("Relative error of the central difference, by h", { x: "n, where h = 10⁻ⁿ", y: "", log: true, columns: 20 });
  const says = make("p", { role: "status" });
  const list = learning.differences;
  let shown = list.findIndex(({ h }) => h === learning.best_h);
  const power = slider("h", list.map((_, i) => i), shown, (i) => { shown = i; draw(); }, (i) => tenTo(-i));
  const draw = () => {
    power.update(shown);
    plot.draw([{ name: "|difference − gradient| / |gradient|", class: "a", points: list.map((d, i) => [i, Math.max(d.error, 1e-17)]) }], { now: shown });
    const { value, error } = list[shown];
    const best = list.findIndex(({ h }) => h === learning.best_h);
    says.replaceChildren("(L(w + h) − L(w − h)) / 2h = ", fromProgram(exactly10(value)), `, off by ${showWide(error)} of the gradient: `,
      shown < best ? "mostly because the curve bends." : shown > best ? "mostly because digits are lost." : "the best of these.");
  };
  figure("f8b", make("div", { class: "controls" }, power.element), plot.element, says) && draw();
}
