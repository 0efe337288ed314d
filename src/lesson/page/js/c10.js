// Chapter 10: a convolution as its sum, the levels, attention, skips.

/** One number of the first convolution: fused multiply-adds from zero in the order of the contract, then the bias. */
function convolved(convolution, x, row, column, o, note = null) {
  const [height, width, channels] = record.about.shape;
  const weight = tensor("inside.unet.convolution.weight"), { shown } = convolution;
  let sum = 0;
  for (let i = 0; i < 3; i++) for (let j = 0; j < 3; j++) for (let c = 0; c < channels; c++) {
    const [r, k] = [row + i - 1, column + j - 1];
    const inside = r >= 0 && r < height && k >= 0 && k < width;
    const pixel = inside ? x[(r * width + k) * channels + c] : 0;
    const w = weight[((i * 3 + j) * channels + c) * shown + o];
    sum = fma(pixel, w, sum);
    note?.(i, j, c, pixel, w);
  }
  return f32(sum + tensor("inside.unet.convolution.bias")[o]);
}

checks.push(function* convolution() {
  const of = record.inside.unet?.convolution;
  if (!of) return;
  const x = tensor("pictures.0.x_t"), width = record.about.shape[1], { shown } = of;
  const number = (n) => convolved(of, x, Math.floor(n / shown / width), Math.floor(n / shown) % width, n % shown);
  yield* compare("the first convolution", "inside.unet.convolution.output", number, tensor("inside.unet.convolution.output"));
});

checks.push(function* attention() {
  const of = record.inside.unet?.attention;
  if (!of) return;
  const q = tensor("inside.unet.attention.q"), k = tensor("inside.unet.attention.k"), p = tensor("inside.unet.attention.p");
  const tokens = of.grid[0] * of.grid[1], d = of.channels, scale = f32(1 / Math.sqrt(d));
  for (let row = 0; row < tokens; row++) {
    const scores = new Float32Array(tokens);
    for (let j = 0; j < tokens; j++) {
      let sum = 0; // blocks of 256 channels, as the contract has products
      for (let from = 0; from < d; from += 256) {
        let part = 0;
        for (let c = from; c < Math.min(from + 256, d); c++) part = fma(q[row * d + c], k[j * d + c], part);
        sum = from === 0 ? part : f32(sum + part);
      }
      scores[j] = f32(sum * scale);
    }
    const most = scores.reduce((m, s) => (s > m ? s : m), scores[0]);
    const powers = scores.map((s) => expF32(f32(s - most)));
    const total = f32(laneSum(powers));
    yield* compare("attention", "inside.unet.attention.p", (j) => f32(powers[j] / total), p.subarray(row * tokens, (row + 1) * tokens), row * tokens);
  }
});

function chapter10() {
  const { unet } = record.inside;
  if (!unet) return;
  const { convolution, maps, attention } = unet, x = tensor("pictures.0.x_t");
  let channel = 0;
  const output = tensor("inside.unet.convolution.output"), { shown } = convolution;
  const views = [picture("xₜ", { pick: true }), picture("y, this channel", { pick: true, shape: [record.about.shape[0], record.about.shape[1], 1] })];
  const table = grid("The window, each pixel times its weight", ["", "left", "middle", "right"]);
  const says = make("p", { role: "status" });
  const channels = slider("channel of y", range(0, shown - 1), 0, (o) => { channel = o; draw(); });
  const draw = () => {
    channels.update(channel);
    const map = Float32Array.from({ length: output.length / shown }, (_, i) => output[i * shown + channel]);
    views[0].draw(x);
    views[1].draw(map, map.reduce((m, y) => Math.max(m, Math.abs(y)), 1e-9));
    const cells = [0, 1, 2].map((i) => [["above", "here", "below"][i], "", "", ""]);
    const y = convolved(convolution, x, state.row, state.column, channel, (i, j, c, pixel, w) => {
      cells[i][j + 1] += (c ? " + " : "") + `${show(pixel, 3)} · ${show(w, 3)}`;
    });
    table.fill(cells);
    const program = map[state.row * record.about.shape[1] + state.column];
    says.replaceChildren(`Bias ${show(tensor("inside.unet.convolution.bias")[channel], 5)}. Sum: `, fromBrowser(show(y, 6)), "; the program has ", fromProgram(show(program, 6)), Object.is(y, program) ? ": the same bits." : ": another number.");
  };
  figure("f10a", make("div", { class: "controls" }, channels.element), make("div", { class: "row" }, ...views.map((v) => v.element)), table.element, says) && watch(draw);

  const rows = make("div", { class: "maps" });
  const time = slider("t", maps.map(({ t }) => t), state.t, (t) => change({ t }));
  let drawn = null;
  figure("f10b", make("div", { class: "controls" }, time.element), rows) && watch(() => {
    const t = time.nearest(state.t), m = maps.findIndex((of) => of.t === t);
    time.update(t);
    if (drawn === t) return;
    drawn = t;
    rows.replaceChildren(...maps[m].blocks.map(([name, numbers], b) => {
      const shape = numbers.shape.slice(1);
      const cells = range(0, numbers.shape[0] - 1).map((c) => {
        const view = picture("", { small: true, label: `${name}, channel ${c}, t = ${t}`, shape });
        view.draw(one(`inside.unet.maps.${m}.blocks.${b}.1`, c), 1, false);
        return view.canvas;
      });
      return make("figure", {}, make("figcaption", {}, `${name.replace("_block", "").replace("s.", " ")}: ${shape[0]} × ${shape[1]}`), make("div", { class: "row" }, ...cells));
    }));
  });
  if (attention) chapter10Attention(attention);

  const skips = unet.skips.map((of, s) => [`t = ${of.t}`, [thumb(one(`inside.unet.skips.${s}.pictures`, 0), `with the skips, t = ${of.t}`), thumb(one(`inside.unet.skips.${s}.pictures`, 1), `without, t = ${of.t}`)]]);
  figure("f10d", gallery("x̂₀ of the first picture", ["with the skips", "without"], skips));
}

/** Choose a token on the left, see its shares on the right. */
function chapter10Attention({ grid: [rows, columns], most }) {
  const p = tensor("inside.unet.attention.p"), tokens = rows * columns;
  let token = Math.floor(tokens / 2);
  const shape = [rows, columns, 1];
  const [asks, gives] = [picture("the pixel that asks", { shape }), picture("what it takes from each", { shape })];
  const says = make("p", { role: "status" });
  const places = slider("pixel", range(0, tokens - 1), token, (i) => { token = i; draw(); }, (i) => `row ${Math.floor(i / columns)}, column ${i % columns}`);
  const draw = () => {
    places.update(token);
    asks.draw(Float32Array.from({ length: tokens }, (_, i) => (i === token ? 1 : -1)), 1, false);
    const shares = p.subarray(token * tokens, (token + 1) * tokens);
    gives.draw(shares.map((s) => (2 * s) / most - 1), 1, false);
    says.replaceChildren(`White is a share of ${show(most, 3)}. The largest share of this pixel is `, fromProgram(show(Math.max(...shares), 3)), "; all together are ", fromBrowser(show(shares.reduce((a, b) => a + b, 0), 6)), ".");
  };
  asks.canvas.addEventListener("click", (event) => {
    const box = asks.canvas.getBoundingClientRect();
    const of = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
    token = of((event.clientY - box.top) / box.height, rows) * columns + of((event.clientX - box.left) / box.width, columns);
    draw();
  });
  figure("f10c", make("div", { class: "controls" }, places.element), make("div", { class: "row" }, asks.element, gives.element), says) && draw();
}
