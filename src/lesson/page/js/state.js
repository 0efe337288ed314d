// What the reader looks at: t, a pixel, a picture. The fragment of the address holds it: #c4&t=600&pixel=14,14&picture=0

const state = { t: record ? record.about.shown_t : 1, row: 0, column: 0, picture: 0 };
if (record) [state.row, state.column] = record.about.pixel;
const watchers = [];
let anchor = "";

/** Calls `render` now and after each change. */
function watch(render) {
  watchers.push(render);
  render();
}

function readFragment() {
  const within = (text, low, high, usual) => {
    const number = Number.parseInt(text, 10);
    return Number.isFinite(number) ? Math.min(Math.max(number, low), high) : usual;
  };
  const [height, width] = record.about.shape;
  for (const part of decodeURIComponent(location.hash.slice(1)).split("&")) {
    const [name, value] = part.split("=");
    if (value === undefined) anchor = document.getElementById(name) ? name : anchor;
    else if (name === "t") state.t = within(value, 1, record.about.t_max, state.t);
    else if (name === "picture") state.picture = within(value, 0, record.pictures.length - 1, state.picture);
    else if (name === "pixel") {
      const [row, column] = value.split(",");
      state.row = within(row, 0, height - 1, state.row);
      state.column = within(column, 0, width - 1, state.column);
    }
  }
}

let fragmentTimer = 0;
function change(what) {
  Object.assign(state, what);
  watchers.forEach((render) => render());
  clearTimeout(fragmentTimer);
  fragmentTimer = setTimeout(() => {
    const parts = [anchor, "t=" + state.t, "pixel=" + state.row + "," + state.column, "picture=" + state.picture];
    history.replaceState(null, "", "#" + parts.filter(Boolean).join("&"));
  }, 200);
}

/** The place of the shown pixel's first channel in a picture. */
const place = () => (state.row * record.about.shape[1] + state.column) * record.about.shape[2];
