// When the page is there: figures, then the verdict.

function start() {
  const place = document.getElementById("verdict");
  document.documentElement.classList.add("scripted");
  if (record === null) {
    place.replaceChildren(make("span", { class: "bad" }, "This file is damaged: its record cannot be read. Get another copy."));
    return;
  }
  readFragment();
  addEventListener("hashchange", () => { readFragment(); change({}); });
  addEventListener("click", (event) => { const link = event.target.closest?.("a[href^='#']"); if (link) anchor = link.hash.slice(1); });
  place.textContent = "Your browser is computing the run again …";
  const chapters = [startPredictions, startExercises, chapter0, chapter1, chapter2, chapter3, chapter4, chapter5, chapter6, chapter7, chapterNetwork, chapter8, chapter9, chapter10, chapter11, chapter12, chapter13, chapter14];
  const next = () => {
    const chapter = chapters.shift();
    if (chapter) {
      chapter();
      return setTimeout(next, 0);
    }
    if (anchor) document.getElementById(anchor)?.scrollIntoView();
    reachFormulas();
    addEventListener("resize", reachFormulas);
    document.documentElement.dataset.ready = "figures";
    verify(says);
  };
  next();
}

/** A formula that is wider than the page is scrolled sideways: by keyboard, too. */
function reachFormulas() {
  for (const formula of document.querySelectorAll('math[display="block"]')) {
    if (formula.scrollWidth > formula.clientWidth + 1) formula.setAttribute("tabindex", "0");
    else formula.removeAttribute("tabindex");
  }
}

/** What came of the comparison. */
function says({ agreed, total, firstWrong, damaged }) {
  const place = document.getElementById("verdict");
  const thousands = (n) => n.toString().replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const count = `Your browser agrees with the program in ${thousands(agreed)} of ${thousands(total)} numbers that it computed again.`;
  if (firstWrong === null && damaged.length === 0) {
    place.replaceChildren(fromBrowser(count), ` Bit for bit. The page carries ${thousands(carried())} in all.`);
  } else {
    const where = firstWrong === null ? "" : ` The first that differs is ${firstWrong.name}: ${firstWrong.key}, number ${firstWrong.index}.`;
    const broken = damaged.length === 0 ? "" : ` Damaged in this file: ${damaged.join(", ")}.`;
    place.replaceChildren(make("span", { class: "bad" }, count + where + broken));
  }
  document.documentElement.dataset.ready = "verified";
}

start();
