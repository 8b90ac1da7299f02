/* The ledger of claims: chips for verdicts, menus for chapter and paper, whole-word search, an order by distance to the
   criterion, rows that unfold to how a claim was judged, and all of it as a file.  The table itself is in the page. */
(() => {
  const { csv, offer, make } = window.bookTools;

  for (const ledger of document.querySelectorAll(".book-ledger")) {
    const table = ledger.querySelector("table"), body = table.tBodies[0];
    const heads = [...table.tHead.rows[0].cells].map((head) => head.textContent.trim());
    const packed = JSON.parse(ledger.querySelector(".book-ledger-data").textContent);
    const claims = packed.rows.map((values, at) => {
      const row = body.rows[at];
      [...row.cells].forEach((cell, column) => { cell.dataset.label = heads[column]; });
      const record = Object.fromEntries(packed.columns.map((name, column) => [name, values[column]]));
      const text = `${row.textContent} ${record.claim} ${record.paper} ${record.paper_title} ${record.chapter_title}`.toLowerCase();
      return { at, row, record, text, verdict: record.edition_verdict ?? record.own_verdict ?? "not run" };
    });

    /* What a row unfolds to. */
    const details = ({ record: of }) => {
      const unit = { points: " points", percent: " %", times: "×" }[of.unit] ?? "";
      const short = (value) => Number(value.toPrecision(3)).toString();
      const values = (kind) => of[`${kind}_mean`] === null ? null
        : `${short(of[`${kind}_mean`])}${unit}` + (of[`${kind}_low`] === null ? "" : `, 95 % interval ${short(of[`${kind}_low`])} to ${short(of[`${kind}_high`])}${unit}`)
          + ` from ${of[`${kind}_n`]} runs`;
      const list = make("dl", { className: "book-claim" });
      const say = (name, ...what) => what[0] && list.append(make("dt", { textContent: name }), make("dd", {}, ...what));
      say("What is measured", of.metric);
      say("Criterion", of.rule);
      say("Measured", values("edition") && `${values("edition")} (${of.edition_devices})`);
      say("Why", of.edition_why);
      if (of.own_why !== of.edition_why || of.own_mean !== of.edition_mean) say("This run", [values("own"), of.own_why].filter(Boolean).join(". "));
      if (of.distance !== null) say("Distance to the criterion", `${short(Math.abs(of.distance))} half-widths of the interval, ${of.distance < 0 ? "missing" : "meeting"} it`);
      say("Read by", make("a", { href: `../${of.code}`, textContent: of.code }), `, ${of.values}`);
      say("Run it", make("code", { textContent: `python -m lib run ${of.subject} ${of.studies.split(", ").map((name) => `--study ${name}`).join(" ")}` }));
      say("In the ledger as", make("code", { textContent: of.claim }));
      return list;
    };
    for (const claim of claims) {
      const [cell] = claim.row.cells;
      const button = make("button", { type: "button", className: `verdict-button ${claim.verdict.replace(" ", "-")}`, ariaExpanded: "false" });
      button.append(...[...cell.childNodes].filter((node) => !(node.nodeType === 1 && node.id)));
      cell.append(button);
      button.addEventListener("click", () => {
        claim.more ??= make("tr", { className: "book-ledger-more" }, make("td", { colSpan: heads.length }, details(claim)));
        const open = button.ariaExpanded !== "true";
        button.ariaExpanded = String(open);
        if (open) claim.row.after(claim.more); else claim.more.remove();
      });
    }

    /* What narrows it. */
    const chosen = { verdicts: new Set(), chapter: "", paper: "" };
    const bar = make("div", { className: "book-ledger-bar" });
    const chips = make("div", { className: "book-chips", role: "group", ariaLabel: "Show claims with these verdicts" });
    for (const verdict of new Set(["reproduced", "weaker", "not seen", "undecided", "not testable", ...claims.map((claim) => claim.verdict)])) {
      const count = claims.filter((claim) => claim.verdict === verdict).length;
      if (!count) continue;
      const chip = make("button", { type: "button", className: `verdict-button ${verdict.replace(" ", "-")}`, textContent: `${verdict} ${count}`, ariaPressed: "false" });
      chip.addEventListener("click", () => {
        const on = chip.ariaPressed !== "true";
        chip.ariaPressed = String(on);
        chosen.verdicts[on ? "add" : "delete"](verdict);
        narrow();
      });
      chips.append(chip);
    }
    const menu = (name, options, change) => {
      const select = make("select", {}, ...options.map(([value, text]) => new Option(text, value)));
      select.addEventListener("change", () => change(select.value));
      bar.append(make("label", {}, make("span", { textContent: name }), select));
      return select;
    };
    const filter = make("input", { type: "search", placeholder: "words", ariaLabel: "Words that a claim must have" });
    filter.addEventListener("input", () => narrow());
    bar.append(filter);
    const unique = (pairs) => [...new Map(pairs)];
    const chapter = menu("Chapter", [["", "all"], ...unique(claims.map(({ record }) => [String(record.chapter), `${record.chapter} ${record.chapter_title}`]))],
      (value) => { chosen.chapter = value; narrow(); });
    const paper = menu("Paper", [["", "all"], ...unique(claims.map(({ record }) => [record.paper, record.paper_title])).sort((one, other) => one[1].localeCompare(other[1]))],
      (value) => { chosen.paper = value; narrow(); });

    /* Whole words; the last one may still be half typed. */
    const asked = () => {
      const words = filter.value.toLowerCase().split(/[^\p{L}\p{N}-]+/u).filter(Boolean);
      const half = words.length && !/[^\p{L}\p{N}-]$/u.test(filter.value);
      return words.map((word, at) => new RegExp(`(?<![\\p{L}\\p{N}])${word}${half && at === words.length - 1 ? "" : "(?![\\p{L}\\p{N}])"}`, "u"));
    };
    const count = make("span", { role: "status" });
    const narrow = () => {
      const words = asked();
      let shown = 0;
      for (const { row, record, text, verdict, more } of claims) {
        row.hidden = !(words.every((word) => word.test(text)) && (!chosen.verdicts.size || chosen.verdicts.has(verdict))
          && (!chosen.chapter || chosen.chapter === String(record.chapter)) && (!chosen.paper || chosen.paper === record.paper));
        if (more) more.hidden = row.hidden;
        shown += !row.hidden;
      }
      count.textContent = `${shown} of ${claims.length} claims`;
    };

    /* What orders it. */
    const place = (order) => {
      for (const { row, more } of order) {
        body.append(row);
        if (more && row.querySelector("button").ariaExpanded === "true") body.append(more);
      }
    };
    const far = (claim) => claim.record.distance;
    const orders = {
      book: (one, other) => one.at - other.at,
      near: (one, other) => Math.abs(far(one)) - Math.abs(far(other)),
      beyond: (one, other) => far(other) - far(one),
      missed: (one, other) => far(one) - far(other),
    };
    const order = menu("Order", [["book", "of the book"], ["near", "nearest to the criterion"], ["beyond", "furthest beyond it"], ["missed", "furthest from it"]], (value) => {
      heads.forEach((_, column) => table.tHead.rows[0].cells[column].removeAttribute("aria-sort"));
      const known = value === "book" ? claims : claims.filter((claim) => far(claim) !== null);
      place([...[...known].sort(orders[value]), ...claims.filter((claim) => !known.includes(claim))]);
    });
    [...table.tHead.rows[0].cells].forEach((head, column) => {
      const button = make("button", { type: "button", textContent: head.textContent });
      head.replaceChildren(button);
      button.addEventListener("click", () => {
        const rising = head.getAttribute("aria-sort") !== "ascending";
        [...table.tHead.rows[0].cells].forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", rising ? "ascending" : "descending");
        const text = ({ row }) => row.cells[column].textContent.trim();
        const sorted = [...claims].sort((one, other) => text(one).localeCompare(text(other), undefined, { numeric: true }));
        place(rising ? sorted : sorted.reverse());
      });
    });

    bar.append(count);
    const records = claims.map(({ record, row }) => {
      const { metric, rule, chapter_title, paper_title, code, values, subject, studies, ...kept } = record;
      return { ...kept, text: row.cells[1].innerText.trim(), paper_figure: row.cells[2].innerText.trim() };
    });
    for (const [name, write, type] of [["csv", csv, "text/csv"], ["json", (all) => JSON.stringify(all, null, 1), "application/json"]]) {
      const button = make("button", { type: "button", textContent: name.toUpperCase(), ariaLabel: `All claims as ${name.toUpperCase()}` });
      button.addEventListener("click", () => offer(write(records), type, `claims.${name}`));
      bar.append(button);
    }
    ledger.prepend(chips, bar);
    narrow();

    /* A link to a claim leads to it even when it was filtered away, and unfolds it. */
    const called = () => {
      const row = location.hash.startsWith("#claim-") && document.getElementById(location.hash.slice(1))?.closest("tr");
      if (!row) return;
      if (row.hidden) {
        filter.value = chapter.value = paper.value = chosen.chapter = chosen.paper = "";
        chosen.verdicts.clear();
        [...chips.children].forEach((chip) => { chip.ariaPressed = "false"; });
        narrow();
      }
      const button = row.querySelector(".verdict-button");
      if (button.ariaExpanded !== "true") button.click();
      row.scrollIntoView({ block: "center" });
    };
    addEventListener("hashchange", called);
    called();
  }
})();
