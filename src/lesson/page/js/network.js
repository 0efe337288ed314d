// The network itself, where the page was made with it: a U-Net in plain JavaScript. Its weights were rounded to 12 bits to fit, and sums
// are added in another order, so its numbers are near the program's and not the same bits.

/** Number i of those that lie in pairs in three bytes, a whole number of 12 bits. */
function fromPair(bytes, i) {
  const k = (i >> 1) * 3, bits = i % 2 === 0 ? bytes[k] | ((bytes[k + 1] & 15) << 8) : (bytes[k + 1] >> 4) | (bytes[k + 2] << 4);
  return bits > 2047 ? bits - 4096 : bits;
}

class PageNetwork {
  constructor() {
    const { entries, config } = record.network, bytes = tensor("network.weights");
    this.config = config;
    this.weights = new Map(entries.map(({ name, start, size, scale }) => [name, Float32Array.from({ length: size }, (_, i) => scale * fromPair(bytes, start + i))]));
  }

  has(name) { return this.weights.has(name + ".weight"); }
  of(name) { return this.weights.get(name); }

  /** y = x W + b for rows of x; without a bias in the file there is none. */
  linear(x, name) {
    const weight = this.of(name + ".weight"), bias = this.of(name + ".bias"), outputs = bias.length, inputs = weight.length / outputs;
    const y = new Float32Array((x.length / inputs) * outputs);
    for (let row = 0; row < x.length / inputs; row++) {
      const to = row * outputs;
      for (let o = 0; o < outputs; o++) y[to + o] = bias[o];
      for (let i = 0; i < inputs; i++) {
        const value = x[row * inputs + i];
        for (let o = 0, k = i * outputs; o < outputs; o++, k++) y[to + o] += value * weight[k];
      }
    }
    return y;
  }

  /** A convolution of an image {data, h, w}; kernel 3 with one zero around, or kernel 1. */
  conv({ data, h, w }, name, stride = 1) {
    const weight = this.of(name + ".weight"), bias = this.of(name + ".bias"), outputs = bias.length, inputs = data.length / (h * w);
    const kernel = weight.length === inputs * outputs ? 1 : 3, pad = kernel >> 1;
    const [oh, ow] = [Math.floor((h + 2 * pad - kernel) / stride) + 1, Math.floor((w + 2 * pad - kernel) / stride) + 1];
    const y = new Float32Array(oh * ow * outputs);
    for (let row = 0; row < oh; row++) for (let column = 0; column < ow; column++) {
      const to = (row * ow + column) * outputs;
      for (let o = 0; o < outputs; o++) y[to + o] = bias[o];
      for (let i = 0; i < kernel; i++) for (let j = 0; j < kernel; j++) {
        const [r, c] = [row * stride + i - pad, column * stride + j - pad];
        if (r < 0 || r >= h || c < 0 || c >= w) continue;
        const from = (r * w + c) * inputs, tap = (i * kernel + j) * inputs;
        for (let n = 0; n < inputs; n++) {
          const value = data[from + n];
          for (let o = 0, k = (tap + n) * outputs; o < outputs; o++, k++) y[to + o] += value * weight[k];
        }
      }
    }
    return { data: y, h: oh, w: ow };
  }

  norm({ data, h, w }, name) {
    const scale = this.of(name + ".weight"), shift = this.of(name + ".bias"), channels = scale.length;
    const groups = this.config.norm_num_groups, size = channels / groups, y = new Float32Array(data.length);
    for (let g = 0; g < groups; g++) {
      let sum = 0, squares = 0;
      for (let p = 0; p < h * w; p++) for (let c = g * size; c < (g + 1) * size; c++) sum += data[p * channels + c];
      const mean = sum / (h * w * size);
      for (let p = 0; p < h * w; p++) for (let c = g * size; c < (g + 1) * size; c++) squares += (data[p * channels + c] - mean) ** 2;
      const r = 1 / Math.sqrt(squares / (h * w * size) + this.config.norm_eps);
      for (let p = 0; p < h * w; p++) for (let c = g * size; c < (g + 1) * size; c++) y[p * channels + c] = (data[p * channels + c] - mean) * r * scale[c] + shift[c];
    }
    return { data: y, h, w };
  }

  resnet(x, name, emb) {
    const silu = (image) => ({ ...image, data: image.data.map((v) => v / (1 + Math.exp(-v))) });
    let h = this.conv(silu(this.norm(x, name + ".norm1")), name + ".conv1");
    const time = this.linear(emb, name + ".time_emb_proj"), channels = h.data.length / (h.h * h.w);
    if (time.length === channels) {
      h = this.norm({ ...h, data: h.data.map((v, i) => v + time[i % channels]) }, name + ".norm2");
    } else { // the first half of time scales, the second shifts
      h = this.norm(h, name + ".norm2");
      h.data.forEach((v, i) => { h.data[i] = v * (1 + time[i % channels]) + time[channels + (i % channels)]; });
    }
    h = this.conv(silu(h), name + ".conv2");
    const beside = this.has(name + ".conv_shortcut") ? this.conv(x, name + ".conv_shortcut") : x;
    return { ...h, data: h.data.map((v, i) => v + beside.data[i]) };
  }

  attention(x, name) {
    const tokens = x.h * x.w, normed = this.has(name + ".group_norm") ? this.norm(x, name + ".group_norm").data : x.data;
    const [q, k, v] = ["to_q", "to_k", "to_v"].map((part) => this.linear(normed, `${name}.${part}`));
    const inner = q.length / tokens, d = this.config.attention_head_dim ?? inner, out = new Float32Array(q.length);
    for (let head = 0; head < inner; head += d) for (let i = 0; i < tokens; i++) {
      const scores = new Float64Array(tokens);
      for (let j = 0; j < tokens; j++) for (let c = head; c < head + d; c++) scores[j] += q[i * inner + c] * k[j * inner + c];
      const most = Math.max(...scores) / Math.sqrt(d);
      let total = 0;
      for (let j = 0; j < tokens; j++) total += scores[j] = Math.exp(scores[j] / Math.sqrt(d) - most);
      for (let j = 0; j < tokens; j++) for (let c = head; c < head + d; c++) out[i * inner + c] += (scores[j] / total) * v[j * inner + c];
    }
    const y = this.linear(out, name + ".to_out.0");
    return { ...x, data: y.map((value, i) => value + x.data[i]) };
  }

  /** The network's output for x at time t (from 1) and, where it is told one, a class. */
  predict(x, t, label) {
    const { block_out_channels: widths, layers_per_block: layers, flip_sin_to_cos: flip, freq_shift: shift } = this.config;
    const half = widths[0] / 2, angles = range(0, half - 1).map((i) => (t - 1) * Math.exp((-Math.log(10000) * i) / (half - shift)));
    const [sines, cosines] = [angles.map(Math.sin), angles.map(Math.cos)];
    const silu = (v) => v / (1 + Math.exp(-v));
    let emb = this.linear(Float32Array.from(flip ? [...cosines, ...sines] : [...sines, ...cosines]), "time_embedding.linear_1").map(silu);
    emb = this.linear(emb, "time_embedding.linear_2");
    if (label !== null && this.has("class_embedding")) emb = emb.map((v, i) => v + this.of("class_embedding.weight")[label * emb.length + i]);
    emb = emb.map(silu);
    const [h0, w0] = record.about.shape;
    let h = this.conv({ data: x, h: h0, w: w0 }, "conv_in");
    const kept = [h];
    const block = (name) => { h = this.resnet(h, name, emb); const attention = name.replace("resnets", "attentions"); if (this.has(attention + ".to_q")) h = this.attention(h, attention); };
    widths.forEach((_, i) => {
      for (let j = 0; j < layers; j++) { block(`down_blocks.${i}.resnets.${j}`); kept.push(h); }
      if (this.has(`down_blocks.${i}.downsamplers.0.conv`)) { h = this.conv(h, `down_blocks.${i}.downsamplers.0.conv`, 2); kept.push(h); }
    });
    block("mid_block.resnets.0");
    h = this.resnet(h, "mid_block.resnets.1", emb);
    widths.forEach((_, i) => {
      for (let j = 0; j <= layers; j++) {
        const skip = kept.pop(), [a, b] = [h.data.length / (h.h * h.w), skip.data.length / (h.h * h.w)];
        const both = new Float32Array(h.data.length + skip.data.length);
        for (let p = 0; p < h.h * h.w; p++) { both.set(h.data.subarray(p * a, (p + 1) * a), p * (a + b)); both.set(skip.data.subarray(p * b, (p + 1) * b), p * (a + b) + a); }
        h = { ...h, data: both };
        block(`up_blocks.${i}.resnets.${j}`);
      }
      if (this.has(`up_blocks.${i}.upsamplers.0.conv`)) h = this.conv(doubled(h), `up_blocks.${i}.upsamplers.0.conv`);
    });
    const last = this.norm(h, "conv_norm_out");
    return this.conv({ ...last, data: last.data.map(silu) }, "conv_out").data;
  }
}

/** Each pixel four times. */
function doubled({ data, h, w }) {
  const c = data.length / (h * w), y = new Float32Array(4 * data.length);
  for (let row = 0; row < 2 * h; row++) for (let column = 0; column < 2 * w; column++) {
    const from = ((row >> 1) * w + (column >> 1)) * c;
    y.set(data.subarray(from, from + c), (row * 2 * w + column) * c);
  }
  return { data: y, h: 2 * h, w: 2 * w };
}

/** Chapter 7 with the network: a picture drawn in the page, step by step. */
function chapterNetwork() {
  if (!record.network) return;
  let network = null, steps = 20, label = record.about.classes ? 3 % record.about.classes : null, running = 0;
  const views = [picture("xₜ"), picture("x̂₀")], says = make("p", { role: "status" });
  const bars = tensor("tables.alpha_bar"), T = record.about.t_max;
  const near = () => {
    network ??= new PageNetwork();
    const { t, output } = record.pictures[0].seen.at(-1), [signal, sigma] = [tensor("tables.signal")[t], tensor("tables.sigma")[t]];
    const x = tensor("pictures.0.x_0").map((x, i) => signal * x + sigma * tensor("pictures.0.eps")[i]);
    const own = network.predict(x, t, record.pictures[0].label), program = tensor(`pictures.0.seen.${record.pictures[0].seen.length - 1}.output`);
    return own.reduce((most, y, i) => Math.max(most, Math.abs(y - program[i])), 0);
  };
  const draw = () => {
    const run = ++running, times = [...new Set(range(0, steps - 1).map((i) => Math.round(T - (i * T) / steps)))].filter((t) => t > 0);
    const normal = () => Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
    let x = Float32Array.from({ length: record.about.size }, normal);
    const far = near();
    const next = (i) => {
      if (run !== running || i === times.length) return;
      const [bar, barNext] = [bars[times[i]], i + 1 < times.length ? bars[times[i + 1]] : 1], [signal, sigma] = [Math.sqrt(bar), Math.sqrt(1 - bar)];
      const start = performance.now(), said = network.predict(x, times[i], label);
      const image = x.map((x, k) => clipTo(imageFrom64(record.about.prediction, signal, sigma, x, said[k]), record.chain.clip));
      views[0].draw(x, 1, false);
      views[1].draw(image, 1, false);
      x = x.map((x, k) => Math.sqrt(barNext) * image[k] + (Math.sqrt(1 - barNext) * (x - signal * image[k])) / sigma);
      says.replaceChildren(`Step ${i + 1} of ${times.length}, t = ${times[i]}: `, fromBrowser(`${Math.round(performance.now() - start)} ms`), `. Weights rounded to 12 bits: of the first picture at t = ${record.pictures[0].seen.at(-1).t} the output is at most ${showWide(far)} from the program's.`);
      setTimeout(() => next(i + 1), 0);
    };
    next(0);
  };
  const counts = slider("steps", [5, 10, 20, 50], steps, (n) => { steps = n; counts.update(n); });
  const classes = record.about.classes ? choice("class", range(0, record.about.classes - 1).map((c) => [String(c), String(c)]), String(label), (c) => { label = Number(c); }) : "";
  figure("f7b", make("div", { class: "controls" }, counts.element, classes, make("button", { type: "button", onclick: draw }, "Draw a picture here")), make("div", { class: "row" }, ...views.map((v) => v.element)), says);
}
