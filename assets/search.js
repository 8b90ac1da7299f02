/* Search by words: headings first, then the papers that a section cites, then its text.  It stands in for the index that
   Quarto's search box would build, which finds letters in order and knows no headings. */
(() => {
  const plain = (text) => text.toLowerCase().normalize("NFKD").replace(/[\u0300-\u036f]/g, "").replace(/\u00a0/g, " ");
  const entries = window.bookSearchIndex.map((item, place) => ({
    item, place,
    heading: plain(item.section || item.title).replace(/^[\d.]+\s+/, ""),
    chapter: plain(item.title),
    papers: plain((item.papers ?? []).join(" · ")),
    text: plain(item.text),
  }));

  /* Each word of the query must begin a word of the entry; where it stands decides what comes first. */
  const search = (query) => {
    const words = plain(query).split(/[^\p{L}\p{N}]+/u).filter(Boolean);
    if (!words.length) return [];
    const tests = words.map((word) => new RegExp(`(?<![\\p{L}\\p{N}])${word}`, "u"));
    const phrase = new RegExp(`(?<![\\p{L}\\p{N}])${words.join("[^\\p{L}\\p{N}]+")}`, "u");
    const all = (text) => tests.every((test) => test.test(text));
    const rank = ({ heading, chapter, papers, text }) => {
      const named = 5 * tests.filter((test) => test.test(heading)).length / tests.length;
      if (phrase.test(heading)) return 100 + 5 * words.join(" ").length / heading.length;
      if (all(heading)) return 90;
      if (phrase.test(papers)) return 70 + named;
      if (all(`${heading} ${chapter}`) || all(`${heading} ${papers}`)) return 50 + named;
      if (phrase.test(text)) return 30 + named;
      return all(`${heading} ${chapter} ${papers} ${text}`) ? 10 + named : 0;
    };
    return entries.map((entry) => ({ entry, score: rank(entry) })).filter(({ score }) => score)
      .sort((one, other) => other.score - one.score || one.entry.place - other.entry.place)
      .map(({ entry, score }) => ({ item: entry.item, score }));
  };

  window.fuseIndex = { search: (query, { limit } = {}) => search(query).slice(0, limit ?? 40) };
})();
