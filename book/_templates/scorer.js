// The order of the search's results, and what is said of each. Sphinx puts this file before its own search; book/_ext/clt_search.py makes
// what it finds. First what is called as was asked for, of it the place that defines it; then what is called nearly so; then pages.
var Scorer = {
  objNameMatch: 11, objPartialMatch: 6, objPrio: { 0: 15, 1: 5, 2: -5 }, objPrioDefault: 0,
  title: 15, partialTitle: 7, term: 5, partialTerm: 2,
  score: ([, title, , description, score]) => {
    if (description?.startsWith("Python")) return score;
    const query = cltWords(new URLSearchParams(location.search).get("q"));
    const asked = query.replace(/^\p{L}+ (?=\d+\.\d+$)/u, "");  // "Theorem 6.4"
    if (!description) {  // a page, or a section after its page and ">"
      const name = cltWords(title.split(" > ").pop()).replace(/^[\d.]+ /, "");
      return name === asked ? (title.includes(" > ") ? 70 : 85) : name.startsWith(asked) ? Math.max(score, 30) : score;
    }
    const names = title.split(/, | = |: | \(|\)/).map(cltWords);
    const what = description.split(",")[0];
    const kind = (query !== asked && query.startsWith(what) ? 5 : 0) + ({ defined: 3, definition: 2, word: -1, symbol: -2 }[what] ?? 0);
    return 20 * (names.includes(asked) ? 4 : names.some((name) => name.startsWith(asked)) ? 2 : what === "exercise" ? 0.1 : 1) + kind + score / 100;
  },
};

function cltWords(text) {
  return text.toLowerCase().split(/[\s-]+/).join(" ").trim();
}

const cltTexts = {};
var cltExcerptsComing = [];  // promises; the tests wait for them

function cltExcerpts(page, pieces) {
  cltTexts[page] = pieces;
}

// Before Sphinx looks at the query, when the page has been read.
document.addEventListener("readystatechange", () => {
  const results = document.getElementById("search-results");
  if (!results) return;
  DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;  // Sphinx's own reads whole pages, formulas in TeX, and nothing from the disk
  const root = new URL(document.documentElement.dataset.content_root, location.href), files = {};
  const asked = splitQuery(new URLSearchParams(location.search).get("q") ?? "").map((word) => word.toLowerCase());
  const stems = asked.map((word) => new Stemmer().stemWord(word));

  // A place may be found by several names: its best one stays. They come worst first.
  const parse = Search._parseQuery;
  Search._parseQuery = (query) => parse(query.replace(/\b(can|do|does|how|i|my|should|what|when|which|why)\b/gi, " "));
  const search = Search._performSearch;
  Search._performSearch = (...query) => {
    const places = new Set();
    return search(...query).reverse().filter(([page, , anchor]) => !places.has(page + anchor) && places.add(page + anchor)).reverse();
  };

  const load = (page) => files[page] ??= new Promise((done) => {
    const script = document.createElement("script");
    script.src = new URL(`_static/excerpts/${page}.js`, root);
    script.onload = script.onerror = done;
    document.head.append(script);
  });

  async function addExcerpt(item) {
    const link = item.querySelector("a");
    const page = decodeURIComponent(new URL(link.href).pathname.slice(root.pathname.length)).replace(/\.html$/, "");
    await load(page);
    const pieces = cltTexts[page] ?? [], anchor = decodeURIComponent(link.hash.slice(1));
    const piece = anchor && pieces.find(([anchors]) => anchors.split(" ").includes(anchor));
    const text = piece?.[1] || pieces.map(([, words]) => words).join(" ");
    const first = Math.min(...stems.map((stem) => text.toLowerCase().indexOf(stem)).filter((at) => at >= 0));
    const from = piece || first < 100 || first === Infinity ? 0 : text.lastIndexOf(" ", first - 80) + 1;
    const to = text.length <= from + 240 ? text.length : text.lastIndexOf(" ", from + 240);
    if (to <= from) return;
    const line = item.appendChild(document.createElement("p"));
    line.className = "context";
    line.textContent = `${from ? "… " : ""}${text.slice(from, to)}${to < text.length ? " …" : ""}`;
    for (const word of asked) _highlightText(line, word, "highlighted");
  }

  new MutationObserver((changes) => changes.forEach(({ addedNodes }) => addedNodes.forEach((node) => {
    if (node.nodeName === "LI") cltExcerptsComing.push(addExcerpt(node));
  }))).observe(results, { childList: true, subtree: true });
}, { once: true });
