/* What every page has beside its text: code that can be hidden at once, its contents on a telephone, the theme's switch, search. */
(() => {
  const assets = new URL(".", document.currentScript.src);

  const load = (address) => new Promise((resolve, reject) => {
    document.head.append(Object.assign(document.createElement("script"), { src: address, onload: resolve, onerror: reject }));
  });

  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  /* "Hide all code" hides the library's listings too, on this page and on those that are opened later. */
  const listings = [...document.querySelectorAll("main details")].filter((fold) => fold.querySelector("pre.sourceCode, div.sourceCode"));
  const openAll = (open) => listings.forEach((fold) => { fold.open = open; });
  const remembered = (value) => { try { return value === undefined ? localStorage.getItem("book-code") : localStorage.setItem("book-code", value); } catch { return null; } };
  for (const [id, open] of [["quarto-show-all-code", true], ["quarto-hide-all-code", false]]) {
    document.getElementById(id)?.addEventListener("click", () => { openAll(open); remembered(open ? "shown" : "hidden"); });
  }
  if (remembered() === "hidden") openAll(false);

  /* Contents on a telephone, below the title: they fold again when one was chosen. */
  const contents = document.querySelector(".book-contents");
  contents?.addEventListener("click", ({ target }) => { if (target.closest("a")) contents.open = false; });

  /* The theme's switch is in the bar of a telephone too, and says what it does. */
  const toggles = () => document.querySelectorAll(".quarto-color-scheme-toggle");
  const bar = document.querySelector(".quarto-secondary-nav .container-fluid");
  if (bar && toggles().length && window.quartoToggleColorScheme) {
    const button = make("button", { type: "button", className: "book-theme", title: "Light or dark", ariaLabel: "Switch between light and dark", textContent: "◐" });
    button.addEventListener("click", () => window.quartoToggleColorScheme());
    bar.append(button);
  }
  toggles().forEach((toggle) => { toggle.setAttribute("aria-label", "Switch between light and dark"); });

  /* Drawings that are steps of one mechanism: a slider shows one at a time. */
  for (const place of document.querySelectorAll(".book-steps")) {
    const steps = [...place.querySelectorAll(".book-step")];
    const range = make("input", { type: "range", min: 1, max: steps.length, step: 1, value: 1 });
    const output = make("output");
    const show = () => {
      steps.forEach((step, at) => { step.hidden = at + 1 !== Number(range.value); });
      output.textContent = `${range.value} of ${steps.length}`;
      range.setAttribute("aria-valuetext", `${output.textContent}: ${steps[range.value - 1].querySelector("p").textContent}`);
    };
    range.addEventListener("input", show);
    place.prepend(make("div", { className: "book-controls" }, make("label", { className: "book-range" }, make("span", { textContent: "step" }), range, output)));
    addEventListener("beforeprint", () => steps.forEach((step) => { step.hidden = false; }));
    addEventListener("afterprint", show);
    show();
  }

  /* Landmarks have names of their own. */
  document.getElementById("quarto-sidebar")?.setAttribute("aria-label", "Chapters");
  document.getElementById("TOC")?.setAttribute("aria-label", "On this page");
  document.querySelector("nav.quarto-secondary-nav")?.setAttribute("aria-label", "Book");

  /* Search: the index is a script, which a page opened from disk may run but not fetch.  It is read once a reader begins to
     act, since it is as large as the rest of a page. */
  if (document.getElementById("quarto-search")) {
    const acts = ["pointermove", "pointerdown", "focusin", "keydown"];
    const read = () => {
      acts.forEach((act) => removeEventListener(act, read, true));
      load(new URL("../search-index.js", assets)).then(() => load(new URL("search.js", assets)))
        .catch(() => { /* a page rendered alone has no index yet */ });
    };
    acts.forEach((act) => addEventListener(act, read, true));
  }
})();
