/* Draws the figures of a page, offers their data as CSV, and makes search work from disk.
   plotly.js lies beside this file and is loaded only by pages that hold a figure. */
(() => {
  const assets = new URL(".", document.currentScript.src);

  const load = (address) => new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = address;
    script.onload = resolve;
    script.onerror = reject;
    document.head.append(script);
  });

  /* Colours of the page: read from it, so that a figure looks right in the light and in the dark theme. */
  const pageColours = () => {
    const style = getComputedStyle(document.body);
    const read = (name, fallback) => style.getPropertyValue(name).trim() || fallback;
    return {
      text: read("--book-ink", style.color),
      muted: read("--book-muted", style.color),
      grid: read("--book-rule", "rgba(128,128,128,0.25)"),
      paper: read("--book-paper", style.backgroundColor),
      font: read("--book-sans", "sans-serif"),
    };
  };

  /* The figure's own template with the page's colours laid over it; what a figure sets itself wins. */
  const themed = (layout) => {
    const page = pageColours();
    const template = structuredClone(layout.template || {});
    const base = template.layout || (template.layout = {});
    const clear = "rgba(0,0,0,0)";
    Object.assign(base, { paper_bgcolor: clear, plot_bgcolor: clear });
    base.font = { ...base.font, color: page.text, family: page.font };
    base.legend = { ...base.legend, bgcolor: clear };
    base.hoverlabel = { ...base.hoverlabel, bgcolor: page.paper, bordercolor: page.grid,
                        font: { color: page.text, family: page.font } };
    base.modebar = { bgcolor: clear, color: page.muted, activecolor: page.text };
    for (const axis of ["xaxis", "yaxis"]) {
      base[axis] = { ...base[axis], gridcolor: page.grid, zerolinecolor: page.grid, linecolor: page.muted,
                     tickcolor: page.muted };
    }
    /* A menu unfolds over the plot: it has the page's colour. */
    layout.updatemenus?.filter(({ type }) => type !== "buttons").forEach((menu) => { menu.bgcolor = page.paper; });
    return { ...layout, template, width: undefined, autosize: true };
  };

  /* On a telephone a legend beside the curves would leave no room for them: it goes below. */
  const fitted = (layout, width) => {
    const set = { ...layout.template.layout.legend, ...layout.legend };
    if (width >= 560 || set.orientation === "h") return layout;
    const margin = { ...layout.template.layout.margin, ...layout.margin };
    return { ...layout, legend: { ...set, orientation: "h", x: 0, xanchor: "left", y: -0.3, yanchor: "top" },
             margin: { ...margin, l: Math.min(margin.l ?? 60, 60), r: 10 } };
  };

  const figures = [...document.querySelectorAll(".book-figure")].map((element) => ({
    element,
    place: element.querySelector(".book-plot"),
    content: JSON.parse(element.querySelector("script[type='application/json']").textContent),
  }));

  /* A click on a point opens what the book says of it, where the figure tells which part of customdata is that link:
     layout.meta.link.  Without a mouse the first tap only shows the point, the second opens. */
  const linked = ({ place, content }) => {
    const part = content.layout.meta?.link;
    if (part === undefined) return;
    const address = ({ customdata }) => /^([\w-]+\.html)?(#[\w-]+)?$/.test(customdata?.[part] ?? "") && customdata[part];
    const cursor = (name) => { place.querySelector(".nsewdrag").style.cursor = name; };
    let shown, press;
    place.addEventListener("pointerdown", ({ pointerType }) => { press = { mouse: pointerType === "mouse", shown }; }, true);
    place.on("plotly_hover", ({ points: [point] }) => cursor(address(point) ? "pointer" : ""));
    place.on("plotly_unhover", () => cursor(""));
    place.on("plotly_click", ({ points: [point] }) => {   /* a tap may be told twice */
      shown = `${point.curveNumber} ${point.pointNumber}`;
      if (address(point) && (press.mouse || press.shown === shown)) location.href = address(point);
    });
  };

  const draw = (figure) => {
    const { place, content } = figure;
    figure.width = place.clientWidth;
    place.querySelector(".book-plot-words")?.remove();
    return Plotly.react(place, content.data, fitted(themed(content.layout), place.clientWidth), content.config);
  };

  /* CSV: one row per point of each trace, whatever arrays the trace has. */
  const TYPES = { f8: Float64Array, f4: Float32Array, i1: Int8Array, u1: Uint8Array, i2: Int16Array,
                  u2: Uint16Array, i4: Int32Array, u4: Uint32Array };

  const decode = (value) => {
    if (!value || !value.bdata) return value;
    const bytes = Uint8Array.from(atob(value.bdata), (letter) => letter.charCodeAt(0));
    const flat = [...new TYPES[value.dtype](bytes.buffer)];
    if (!value.shape) return flat;
    const columns = Number(String(value.shape).split(",")[1]);
    return columns ? Array.from({ length: flat.length / columns }, (_, row) =>
      flat.slice(row * columns, (row + 1) * columns)) : flat;
  };

  const rowsOf = (trace, index) => {
    const name = trace.name ?? `trace ${index + 1}`;
    const grid = decode(trace.z);
    if (Array.isArray(grid?.[0])) {
      const x = decode(trace.x), y = decode(trace.y);
      return grid.flatMap((row, j) => row.map((z, i) => ({ trace: name, x: x?.[i] ?? i, y: y?.[j] ?? j, z })));
    }
    const columns = {
      x: trace.x, y: trace.y, z: trace.z, labels: trace.labels, values: trace.values, text: trace.text,
      error_x: trace.error_x?.array, error_y: trace.error_y?.array, customdata: trace.customdata,
    };
    const arrays = Object.entries(columns).map(([key, value]) => [key, decode(value)])
      .filter(([, value]) => Array.isArray(value));
    const length = Math.max(0, ...arrays.map(([, value]) => value.length));
    return Array.from({ length }, (_, i) =>
      Object.fromEntries([["trace", name], ...arrays.map(([key, value]) => [key, value[i]])]));
  };

  const csv = (rows) => {
    const names = [...new Set(rows.flatMap(Object.keys))];
    const quoted = (value) => {
      const text = value === null || value === undefined ? "" : String(value);
      return /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    };
    return [names, ...rows.map((row) => names.map((name) => row[name]))]
      .map((row) => row.map(quoted).join(",")).join("\n") + "\n";
  };

  const offer = (text, type, name) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([text], { type }));
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  };

  for (const { element, content } of figures) {
    element.querySelector(".book-data").addEventListener("click", () =>
      offer(csv(content.data.flatMap(rowsOf)), "text/csv", `${element.closest("[id^='fig-']")?.id || element.id}.csv`));
  }

  /* A figure is drawn when it comes near, and plotly.js loaded with the first of them; for paper all are. */
  if (figures.length) {
    let library;
    const begin = () => library ||= load(new URL("plotly.min.js", assets));
    const show = (figure) => begin().then(() => {
      if (figure.drawn) return;
      figure.drawn = pageColours().paper;
      draw(figure);
      linked(figure);
      if (figures.every(({ drawn }) => drawn)) document.documentElement.dataset.figures = "drawn";
    }, () => { /* without plotly.js each figure keeps its description in words */ });
    const redraw = () => {
      const colour = pageColours().paper;
      for (const figure of figures.filter(({ drawn }) => drawn && drawn !== colour)) {
        figure.drawn = colour;
        draw(figure);
      }
    };
    const near = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) if (isIntersecting) {
        near.unobserve(target);
        show(figures.find(({ place }) => place === target));
      }
    }, { rootMargin: "800px 0px" });
    /* A figure fits its place, also one that was in a closed tab before. */
    const fit = new ResizeObserver(() => figures
      .filter(({ drawn, place, width }) => drawn && place.clientWidth && place.clientWidth !== width).forEach(draw));
    for (const { place } of figures) {
      near.observe(place);
      fit.observe(place);
    }
    addEventListener("beforeprint", () => figures.forEach(show));
    /* The switch changes the class of the body at once, but a style sheet it turns on arrives later. */
    new MutationObserver(redraw).observe(document.body, { attributes: true, attributeFilter: ["class"] });
    document.querySelectorAll("link.quarto-color-scheme").forEach((sheet) => sheet.addEventListener("load", redraw));
  }

  /* Wide tables and lines scroll inside the page, by keyboard too. */
  const scrollable = (element, words) => {
    if (element.scrollWidth <= element.clientWidth) return;
    Object.assign(element, { tabIndex: 0 });
    element.setAttribute("role", "region");
    element.setAttribute("aria-label", words);
  };
  for (const table of document.querySelectorAll("main table")) {
    const parent = table.parentElement;
    const wrapper = parent.classList.contains("book-table") ? parent : document.createElement("div");
    if (wrapper !== parent) {
      wrapper.className = "book-table";
      table.replaceWith(wrapper);
      wrapper.append(table);
    }
    scrollable(wrapper, table.caption?.textContent.trim() || "Table");
  }
  for (const printed of document.querySelectorAll("main pre")) scrollable(printed, "Code or printed output");
  for (const formula of document.querySelectorAll('main math[display="block"]'))   // whose role stays: it is read as a formula
    if (formula.scrollWidth > formula.clientWidth) formula.tabIndex = 0;

  /* The ledger of claims: sorted by a click on a head, filtered by words, taken along as a file. */
  for (const ledger of document.querySelectorAll(".book-ledger")) {
    const body = ledger.querySelector("tbody");
    const rows = [...body.rows];
    const packed = JSON.parse(ledger.querySelector(".book-ledger-data").textContent);
    const records = packed.rows.map((values, at) => ({
      ...Object.fromEntries(packed.columns.map((name, column) => [name, values[column]])),
      text: rows[at].cells[1].innerText.trim(), paper_figure: rows[at].cells[2].innerText.trim(),
    }));

    const bar = document.createElement("div");
    bar.className = "book-ledger-bar";
    const filter = Object.assign(document.createElement("input"), { type: "search", placeholder: "filter: a word, or several" });
    filter.setAttribute("aria-label", "Filter the claims");
    const count = Object.assign(document.createElement("span"), { role: "status" });
    const narrow = () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      rows.forEach((row, at) => {
        const text = `${row.innerText || row.textContent} ${records[at].claim} ${records[at].paper}`.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        shown += !row.hidden;
      });
      count.textContent = `${shown} of ${rows.length} claims`;
    };
    filter.addEventListener("input", narrow);
    bar.append(filter, count);
    for (const [name, make, type] of [["csv", csv, "text/csv"], ["json", (all) => JSON.stringify(all, null, 1), "application/json"]]) {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: name.toUpperCase() });
      button.setAttribute("aria-label", `All claims as ${name.toUpperCase()}`);
      button.addEventListener("click", () => offer(make(records), type, `claims.${name}`));
      bar.append(button);
    }
    ledger.prepend(bar);

    ledger.querySelectorAll("thead th").forEach((head, column) => {
      const button = Object.assign(document.createElement("button"), { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        ledger.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const text = (row) => row.cells[column].textContent.trim();
        const sorted = [...rows].sort((a, b) => text(a).localeCompare(text(b), undefined, { numeric: true }));
        body.append(...(rising ? sorted : sorted.reverse()));
      });
    });
    narrow();
    const called = () => {   /* a link to a claim leads to it even when it was filtered away */
      const row = location.hash.startsWith("#claim-") && document.getElementById(location.hash.slice(1))?.closest("tr");
      if (row?.hidden) { filter.value = ""; narrow(); row.scrollIntoView(); }
    };
    addEventListener("hashchange", called);
  }

  /* "Hide all code" hides the library's listings too, on this page and on those that are opened later. */
  const listings = [...document.querySelectorAll("main details")].filter((fold) => fold.querySelector("pre.sourceCode, div.sourceCode"));
  const openAll = (open) => listings.forEach((fold) => { fold.open = open; });
  const remembered = (value) => { try { return value === undefined ? localStorage.getItem("book-code") : localStorage.setItem("book-code", value); } catch { return null; } };
  for (const [id, open] of [["quarto-show-all-code", true], ["quarto-hide-all-code", false]]) {
    document.getElementById(id)?.addEventListener("click", () => { openAll(open); remembered(open ? "shown" : "hidden"); });
  }
  if (remembered() === "hidden") openAll(false);

  /* A page opened from disk may not fetch the search index, but it may run it as a script: once a reader begins to act,
     since it is as large as the rest of a page. */
  if (location.protocol === "file:" && document.getElementById("quarto-search")) {
    const acts = ["pointermove", "pointerdown", "focusin", "keydown"];
    const read = () => {
      acts.forEach((act) => removeEventListener(act, read, true));
      load(new URL("../search-index.js", assets)).then(() => {
        const index = new Fuse([], kFuseIndexOptions);
        window.bookSearchIndex.forEach((entry) => index.add(entry));
        window.fuseIndex = index;
      }, () => { /* a page rendered alone has no index yet */ });
    };
    acts.forEach((act) => addEventListener(act, read, true));
  }
})();
