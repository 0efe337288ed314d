// Pictures on a canvas, pixel by pixel; a pixel is chosen by mouse or arrow keys.

/** An element: make("p", {class: "note"}, "text", child...). */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children);
  return element;
}

/** A picture with a caption; its `draw` takes numbers and what to divide them by: 1 for [-1, 1]. */
function picture(caption, { small = false, pick = false, label = null, shape = record.about.shape } = {}) {
  const [height, width, channels] = shape;
  const canvas = make("canvas", { width, height, role: "img", "aria-label": label ?? caption, class: (small ? "small " : "") + (pick ? "pick" : "") });
  const text = make("figcaption", {}, caption);
  const element = make("figure", {}, canvas, text);
  if (pick) choosePixel(canvas);
  const draw = (numbers, range = 1, marked = pick) => {
    const context = canvas.getContext("2d");
    const image = context.createImageData(width, height);
    const isBytes = numbers instanceof Uint8Array;
    for (let i = 0; i < width * height; i++) {
      for (let c = 0; c < 3; c++) {
        const x = numbers[i * channels + (channels === 1 ? 0 : c)];
        image.data[4 * i + c] = isBytes ? x : Math.round((Math.min(Math.max(x / range, -1), 1) + 1) * 127.5);
      }
      image.data[4 * i + 3] = 255;
    }
    if (marked) {
      const i = 4 * (state.row * width + state.column);
      const light = image.data[i] + image.data[i + 1] + image.data[i + 2] > 380;
      image.data.set(light ? [179, 0, 107, 255] : [255, 143, 208, 255], i);
    }
    context.putImageData(image, 0, 0);
  };
  const name = (words) => { text.textContent = words; canvas.setAttribute("aria-label", words); };
  return { element, canvas, draw, name };
}

/** Chooses the shown pixel on a canvas. */
function choosePixel(canvas) {
  canvas.tabIndex = 0;
  canvas.setAttribute("role", "application");
  canvas.setAttribute("aria-roledescription", "picture; the arrow keys choose a pixel");
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    const of = (share, count) => Math.min(Math.max(Math.floor(share * count), 0), count - 1);
    change({ row: of((event.clientY - box.top) / box.height, canvas.height), column: of((event.clientX - box.left) / box.width, canvas.width) });
  });
  canvas.addEventListener("keydown", (event) => {
    const [down, right] = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key] ?? [0, 0];
    if (down === 0 && right === 0) return;
    event.preventDefault();
    const [height, width] = record.about.shape;
    change({ row: (state.row + down + height) % height, column: (state.column + right + width) % width });
  });
}
