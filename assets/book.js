/* Draws the figures of a page, with HTML controls where they have any, and offers their data as CSV.
   plotly.js lies beside this file and is loaded only by pages that hold a figure; so do the scripts of the ledger and of search. */
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
    return { ...layout, template, width: undefined, autosize: true };
  };

  /* A colour of a method stays recognisable and is moved towards the ink until it stands out from the page, 3 to 1. */
  const channels = (colour) => /^#[0-9a-f]{6}$/i.test(colour) ? [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16)) : null;
  const light = (parts) => parts.map((part) => part / 255).map((part) => part <= 0.03928 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const standingOut = (colour, paper) => {
    let parts = typeof colour === "string" ? channels(colour) : null;
    if (!parts) return colour;
    const ground = light(paper), end = ground > 0.5 ? 0 : 255;
    const contrast = () => (Math.max(light(parts), ground) + 0.05) / (Math.min(light(parts), ground) + 0.05);
    for (let step = 0; step < 20 && contrast() < 3; step++) parts = parts.map((part) => Math.round(part + (end - part) * 0.08));
    return `#${parts.map((part) => part.toString(16).padStart(2, "0")).join("")}`;
  };
  const legible = (traces) => {
    const paper = channels(pageColours().paper);
    if (!paper) return traces;
    const told = (part) => {
      const copy = { ...part };
      if (copy.color !== undefined) copy.color = Array.isArray(copy.color) ? copy.color.map((one) => standingOut(one, paper)) : standingOut(copy.color, paper);
      if (copy.line) copy.line = told(copy.line);
      return copy;
    };
    return traces.map((trace) => ({ ...trace, ...Object.fromEntries(["line", "error_x", "error_y", "marker"]
      .filter((part) => trace[part]).map((part) => [part, told(trace[part])])) }));
  };

  /* On a telephone a legend beside the curves would leave no room for them: it goes below. */
  const fitted = (layout, width) => {
    const set = { ...layout.template.layout.legend, ...layout.legend };
    const title = layout.xaxis?.title?.text ?? "";
    if (width < 560 && title.length > 38 && !title.includes("<br>")) {   // a long title takes two lines
      const half = title.lastIndexOf(" ", Math.ceil(title.length / 2) + 4);
      const axis = { ...layout.xaxis, title: { ...layout.xaxis.title, text: `${title.slice(0, half)}<br>${title.slice(half + 1)}` } };
      layout = { ...layout, xaxis: axis, ...(layout.margin?.b && { margin: { ...layout.margin, b: layout.margin.b + 16 } }) };
    }
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
    let going = null;   /* two navigations to one place would stop each other */
    place.on("plotly_click", ({ points: [point] }) => {   /* a tap may be told twice */
      shown = `${point.curveNumber} ${point.pointNumber}`;
      const next = address(point) && new URL(address(point), location).href;
      if (next && next !== going && (press.mouse || press.shown === shown)) {
        location.href = going = next;
        setTimeout(() => { going = null; }, 1000);
      }
    });
  };

  const draw = (figure) => {
    const { place, content } = figure;
    figure.width = place.clientWidth;
    place.querySelector(".book-plot-words")?.remove();
    return Plotly.react(place, legible(content.data), fitted(themed(content.layout), place.clientWidth), content.config);
  };

  /* plotly's own sliders and menus become HTML controls above the figure: a keyboard reaches them, and a screen reader tells
     what they say.  What a control would have had plotly do is done to the figure's own data, so that it stays when the
     figure is drawn again. */
  const MODE_BAR = 34, SLIDER = { below: 84, alone: 70 };   // pixels that lib/figures leaves for plotly's own

  const setAt = (target, path, value) => {
    const keys = path.replace(/\[(\d+)\]/g, ".$1").split(".");
    const last = keys.pop();
    keys.reduce((inner, key) => inner[key] ??= {}, target)[last] = value;
  };

  const make = (tag, properties, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  const addControls = (figure) => {
    const { place, content } = figure, { data, layout } = content;
    const { sliders = [], updatemenus: menus = [] } = layout;
    if (!sliders.length && !menus.length) return;
    delete layout.sliders;
    delete layout.updatemenus;
    const bar = make("div", { className: "book-controls" });

    /* Words that a slider changes stand below it as a status, not in the plot. */
    const said = new Map();
    for (const { steps } of sliders) for (const { args } of steps) for (const key of Object.keys(args[1] ?? {})) {
      const at = Number(key.match(/^annotations\[(\d+)\]\.text$/)?.[1] ?? NaN);
      if (!Number.isNaN(at) && !said.has(at)) said.set(at, make("p", { className: "book-said", role: "status" }));
    }
    const plain = (text) => text.replace(/<(?!\/?b>|br>)/g, "&lt;");
    for (const [at, line] of said) {
      line.innerHTML = plain(layout.annotations[at].text);
      line.hidden = layout.annotations[at].visible === false;
      layout.annotations[at].visible = false;
    }

    const ranges = sliders.map((slider) => {
      const output = make("output", { textContent: slider.steps[slider.active ?? 0].label });
      const input = make("input", { type: "range", min: 0, max: slider.steps.length - 1, step: 1, value: slider.active ?? 0 });
      const name = (slider.currentvalue?.prefix ?? "").trim().replace(/:$/, "") || "step";
      const label = make("label", { className: "book-range", hidden: slider.visible === false }, make("span", { textContent: name }), input, output);
      const tell = () => {
        output.textContent = slider.steps[input.value].label;
        input.setAttribute("aria-valuetext", output.textContent);
      };
      tell();
      input.addEventListener("input", () => { tell(); act(slider.steps[input.value]); });
      return label;
    });

    const act = ({ method, args }) => {
      const [traces, words, which] = method === "restyle" ? [args[0], {}, args[1]] : method === "relayout" ? [{}, args[0]] : args;
      const places = which ?? data.map((_, at) => at);
      for (const [path, value] of Object.entries(traces ?? {}))
        places.forEach((trace, turn) => setAt(data[trace], path, Array.isArray(value) ? value[turn % value.length] : value));
      for (const [path, value] of Object.entries(words ?? {})) {
        const [, kind, at, what] = path.match(/^(sliders|annotations)\[(\d+)\]\.(visible|text)$/) ?? [];
        const line = kind === "annotations" && said.get(Number(at));
        if (kind === "sliders") ranges[at].hidden = !value;
        else if (line && what === "text") line.innerHTML = plain(value);
        else if (line) line.hidden = !value;
        else setAt(layout, path, value);
      }
      if (figure.drawn) draw(figure);
    };

    for (const menu of menus) {
      const chosen = menu.active ?? 0;
      if (menu.type === "buttons") {
        const group = make("div", { className: "book-choice", role: "group", ariaLabel: menu.name ?? "Show" });
        group.append(...menu.buttons.map((button, at) => {
          const one = make("button", { type: "button", textContent: button.label, ariaPressed: String(at === chosen) });
          one.addEventListener("click", () => {
            [...group.children].forEach((other) => { other.ariaPressed = String(other === one); });
            act(button);
          });
          return one;
        }));
        bar.append(group);
      } else {
        const select = make("select", {}, ...menu.buttons.map((button, at) => new Option(button.label, at, at === chosen, at === chosen)));
        select.addEventListener("change", () => act(menu.buttons[select.value]));
        bar.append(make("label", { className: "book-choice" }, make("span", { textContent: menu.name ?? "Show" }), select));
      }
    }
    bar.append(...ranges, ...said.values());
    place.before(bar);

    const { t = MODE_BAR, b } = layout.margin ?? {};
    const above = menus.length || said.size ? t - MODE_BAR : 0;
    const below = !sliders.length ? 0 : b ? SLIDER.below : SLIDER.alone;
    layout.margin = { ...layout.margin, t: t - above, ...(b && { b: b - below }) };
    layout.height -= above + below;
    place.style.height = `${layout.height}px`;
  };

  const hover = matchMedia("(hover: hover)").matches;   // a finger needs no mode bar: it covers the plot
  for (const figure of figures) {
    addControls(figure);
    if (!hover) figure.content.config = { ...figure.content.config, displayModeBar: false };
  }

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

  /* Wide tables, formulas and lines scroll inside the page, by keyboard too; also those that are unfolded later or on a turned screen. */
  const named = new Map();
  const checked = (element) => {
    const scrolls = element.clientWidth > 0 && element.scrollWidth > element.clientWidth;
    element.classList.toggle("book-scrolls", scrolls);
    const set = { tabindex: "0", role: "group", "aria-label": named.get(element) };   // regions would crowd the list of landmarks
    for (const [name, value] of Object.entries(set)) if (scrolls) element.setAttribute(name, value); else element.removeAttribute(name);
  };
  const sizes = new ResizeObserver((entries) => entries.forEach(({ target }) => checked(target)));
  const scrollable = (element, words) => {
    named.set(element, words);
    checked(element);
    sizes.observe(element);
  };
  for (const corner of document.querySelectorAll("main th:empty")) {   // it heads nothing
    const cell = document.createElement("td");
    cell.style.textAlign = corner.style.textAlign;
    corner.replaceWith(cell);
  }
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
  for (const formula of document.querySelectorAll('main math[display="block"]')) {
    const box = document.createElement("span");   // some browsers scroll no formula, but all scroll a box
    box.className = "book-formula";
    formula.replaceWith(box);
    box.append(formula);
    scrollable(box, "Formula");
  }

  /* What a cell of the mosaic says stands below it too, for those who see no tooltip, in place of how to use it.
     Assistive technology reads the cell's own title. */
  for (const mosaic of document.querySelectorAll(".book-mosaic")) {
    const said = mosaic.querySelector(".book-mosaic-said");
    const say = ({ target }) => {
      const title = target.closest("a")?.querySelector("title");
      if (!title) return;
      said.textContent = title.textContent;
      said.setAttribute("aria-hidden", "true");
    };
    for (const event of ["pointerover", "focusin"]) mosaic.addEventListener(event, say);
  }

  window.bookTools = { csv, offer, make };
  if (document.querySelector(".book-ledger")) load(new URL("ledger.js", assets));
})();
