// Sliders, choices, predictions, exercises.

let widgets = 0;

/** A slider over the places of `values`; `set` hears of the value chosen. */
function slider(name, values, value, set, format = String) {
  const id = "w" + widgets++;
  const output = make("output", { for: id });
  const nearest = (x) => values.reduce((best, v, i) => (Math.abs(v - x) < Math.abs(values[best] - x) ? i : best), 0);
  const input = make("input", { type: "range", id, min: 0, max: values.length - 1, step: 1 });
  const update = (x) => {
    const i = nearest(x);
    input.value = i;
    input.setAttribute("aria-valuetext", format(values[i]));
    output.textContent = format(values[i]);
  };
  input.addEventListener("input", () => set(values[Number(input.value)]));
  update(value);
  return { element: make("label", { for: id }, make("span", {}, name), input, output), update, nearest: (x) => values[nearest(x)] };
}

const range = (from, to, step = 1) => Array.from({ length: Math.floor((to - from) / step + 1e-9) + 1 }, (_, i) => from + i * step);

/** A choice of [value, text] pairs. */
function choice(name, options, value, set) {
  const id = "w" + widgets++;
  const select = make("select", { id }, ...options.map(([of, text]) => make("option", { value: of, selected: of === value }, text)));
  select.addEventListener("change", () => set(select.value));
  return make("label", { for: id }, make("span", {}, name), select);
}

/** A box to tick. */
function tick(name, value, set) {
  const input = make("input", { type: "checkbox", checked: value });
  input.addEventListener("change", () => set(input.checked));
  return make("label", {}, input, make("span", {}, name));
}

/** A table: its head, and a function that fills its rows. */
function grid(caption, head) {
  const body = make("tbody");
  const cells = (row, tag) => row.map((cell, i) => {
    const content = cell instanceof Node ? cell : String(cell);
    const isHead = tag === "th" && cell !== "";
    return make(isHead ? "th" : "td", { scope: isHead && "col", class: i ? "number" : "" }, content);
  });
  const table = make("table", {}, make("caption", { class: "note" }, caption), make("thead", {}, make("tr", {}, ...cells(head, "th"))), body);
  const fill = (rows) => body.replaceChildren(...rows.map((row) => make("tr", {}, ...cells(row, "td"))));
  return { element: make("div", { class: "wide", tabindex: 0, role: "region", "aria-label": caption }, table), fill };
}

const fromProgram = (text) => make("span", { class: "program-value" }, text);
const fromBrowser = (text) => make("span", { class: "browser-value" }, text);

/** The place of a figure in the page; nothing, where the chapter has none. */
function figure(id, ...children) {
  const place = document.getElementById(id);
  if (place) place.append(...children);
  return place !== null;
}

/** A prediction is asked before its reveal. */
function startPredictions() {
  for (const box of document.querySelectorAll("fieldset.predict")) {
    const reveal = box.querySelector(".reveal");
    const verdict = make("p", { role: "status" });
    box.insertBefore(verdict, reveal);
    reveal.hidden = true;
    box.addEventListener("change", (event) => {
      const right = event.target.value === box.dataset.right;
      verdict.textContent = right ? "Yes." : "Not so; read on.";
      reveal.hidden = false;
    });
  }
}

/** A number as people write it: comma or point, a true minus sign, a power of ten. */
function parseNumber(text) {
  const plain = text.trim().replace("−", "-").replace(",", ".").replace(/[\s\u202f]/g, "").replace(/[·*]10\^/, "e");
  return plain === "" ? NaN : plain.endsWith("%") ? Number(plain.slice(0, -1)) / 100 : Number(plain);
}

function startExercises() {
  for (const form of document.querySelectorAll("form.exercise[data-tolerance]")) {
    const answer = form.dataset.answerKey ? at(form.dataset.answerKey) : Number(form.dataset.answer);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      const given = parseNumber(form.elements.answer.value);
      const near = Math.abs(given - answer) <= Number(form.dataset.tolerance) * Math.max(Math.abs(answer), 1e-300) + 1e-12;
      form.querySelector("output").textContent = Number.isNaN(given) ? "Write a number." : near ? "Right." : "No. Try again, or open the answer.";
    });
  }
}
