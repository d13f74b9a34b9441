// All statements: the filter. Without this script every statement is shown. The map of statements: what belongs to a box.
{
  const filter = document.querySelector(".statement-filter");
  if (filter) {
    const entries = [...document.querySelectorAll(".statement")].map(entry => ({
      entry, words: [...entry.querySelectorAll("h4, h4 + p, dd:not(:has(a))")].map(e => e.textContent).join(" ").toLowerCase(),
    }));
    const choice = (name, label) => `<label>${label} <select name="${name}"><option value="">all</option>`
      + [...new Set(entries.map(({ entry }) => entry.dataset[name]))].map(value => `<option>${value}</option>`).join("") + "</select></label>";
    filter.setAttribute("role", "search");
    filter.setAttribute("aria-label", "Filter the statements");
    filter.innerHTML = `<label>Words <input type="search" name="words" autocomplete="off"></label>${choice("part", "Part")}${choice("status", "Status")}`
      + "<output></output>";
    const apply = () => {
      const words = filter.words.value.toLowerCase().split(/\s+/).filter(Boolean);
      let shown = 0;
      for (const { entry, words: text } of entries) {
        entry.hidden = !(words.every(word => text.includes(word)) && ["part", "status"].every(
          name => !filter[name].value || filter[name].value === entry.dataset[name]));
        shown += !entry.hidden;
      }
      for (const group of document.querySelectorAll(".statements-of-chapter, section section:has(> .statements-of-chapter)"))
        group.hidden = !group.querySelector(".statement:not([hidden])");
      filter.querySelector("output").textContent = `${shown} of ${entries.length} statements`;
    };
    const reveal = () => {  // a link may lead to what the filter hides
      const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (target?.closest("section[hidden], .statement[hidden]")) { filter.reset(); apply(); target.scrollIntoView(); }
    };
    filter.addEventListener("input", apply);
    filter.addEventListener("submit", event => event.preventDefault());
    window.addEventListener("hashchange", reveal);
    filter.hidden = false;
    apply();
    reveal();
  }
}

// Under the mouse or the keyboard a box brings forward all that it rests on and all that rests on it.
{
  const map = document.querySelector("svg.statement-map");
  if (map) {
    const lines = [...map.querySelectorAll("path")];
    const walk = (slug, from, to, found) => {
      for (const line of lines.filter(line => line.dataset[from] === slug)) {
        found.add(line);
        if (!found.has(line.dataset[to])) { found.add(line.dataset[to]); walk(line.dataset[to], from, to, found); }
      }
      return found;
    };
    const choose = box => {
      const slug = box?.dataset.slug, found = new Set([slug, ...walk(slug, "to", "from", new Set()), ...walk(slug, "from", "to", new Set())]);
      map.classList.toggle("chosen", Boolean(box));
      for (const item of map.querySelectorAll("a, path")) item.classList.toggle("on", found.has(item.dataset.slug ?? item));
    };
    for (const event of ["mouseover", "focusin"]) map.addEventListener(event, ({ target }) => choose(target.closest("a")));
    for (const event of ["mouseleave", "focusout"]) map.addEventListener(event, () => choose(null));
  }
}
