// What a reference leads to, beside it: on hover, and on focus by keyboard. book/_ext/clt_preview.py marks the links and writes, for each
// page, the file that is loaded here when the first link to it asks. A tap on a touch screen simply follows the link.
(() => {
  const WAIT = 250;   // milliseconds before a link under the pointer shows its preview,
  const GRACE = 350;  // and before it goes again: time to move into it
  const found = {};   // "page#anchor" -> HTML
  const files = {};   // address -> promise of a script
  const root = new URL(document.documentElement.dataset.content_root || "./", location.href);
  const box = Object.assign(document.createElement("div"), { id: "clt-preview", className: "clt-preview", role: "tooltip", hidden: true });
  let link = null, dismissed = null, hovered = false, focused = false, timer = 0, asked = 0;

  window.cltPreviews = (previews) => Object.assign(found, previews);

  const load = (address) => files[address] ??= new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = new URL(address, root);
    script.onload = done;
    script.onerror = failed;
    document.head.append(script);
  });

  async function content(link) {
    if (link.title || link.dataset.title) {  // a citation; the browser's own small label would come on top of ours
      link.dataset.title ||= link.title;
      link.removeAttribute("title");
      const words = document.createElement("p");
      words.textContent = link.dataset.title;
      return words.outerHTML;
    }
    const page = decodeURIComponent(new URL(link.href).pathname.slice(root.pathname.length)).replace(/\.html$/, "");
    await load(`_static/previews/${page}.js`);
    return found[`${page}#${decodeURIComponent(link.hash.slice(1))}`];
  }

  async function typeset() {
    if (!box.querySelector(".math")) return;
    if (document.readyState !== "complete") await new Promise((done) => addEventListener("load", done, { once: true }));
    if (!window.MathJax?.startup?.promise) {  // a page without formulas
      window.MathJax = { startup: { typeset: false } };
      await load("_static/mathjax/tex-chtml.js");
    }
    await MathJax.startup.promise;
    await MathJax.typesetPromise([box]);
    box.querySelectorAll("[tabindex]").forEach((node) => node.removeAttribute("tabindex"));  // one looks, one does not walk in
  }

  async function show(wanted) {
    if (wanted === link && !box.hidden) return;
    hide();
    link = wanted;
    const request = ++asked;
    const html = await content(wanted).catch(() => null);
    if (!html || request !== asked) return;
    window.MathJax?.typesetClear?.([box]);
    box.innerHTML = html;
    box.style.visibility = "hidden";  // until its formulas are set and it has its place
    box.hidden = false;
    await typeset().catch(() => {});
    if (request !== asked) return;
    place();
    box.style.visibility = "";
    wanted.setAttribute("aria-describedby", box.id);
  }

  function hide() {
    clearTimeout(timer);
    asked++;
    link?.removeAttribute("aria-describedby");
    link = null;
    box.hidden = true;
  }

  // Under the link, or over it where there is more room; never on it.
  function place() {
    if (box.hidden || !link) return;
    const at = link.getClientRects()[0] ?? link.getBoundingClientRect(), last = [...link.getClientRects()].at(-1) ?? at;
    const below = innerHeight - last.bottom - 12, above = at.top - 12;
    box.style.maxHeight = "";
    const up = box.offsetHeight > below && above > below;
    box.style.maxHeight = `min(40rem, ${Math.max(60, up ? above : below)}px)`;
    box.style.left = `${Math.max(8, Math.min(at.left, document.documentElement.clientWidth - box.offsetWidth - 8))}px`;
    box.style.top = up ? `${at.top - box.offsetHeight - 6}px` : `${last.bottom + 6}px`;
    box.classList.toggle("is-cut", box.scrollHeight > box.clientHeight + 1);
  }

  function leave() {
    hovered = false;
    dismissed = null;
    clearTimeout(timer);
    timer = setTimeout(() => hovered || focused || hide(), GRACE);
  }

  function start() {
    if (!document.querySelector("a.has-preview")) return;
    document.querySelector("main")?.append(box);
    document.addEventListener("pointerover", (event) => {
      if (event.pointerType === "touch") return;
      const over = event.target.closest?.("a.has-preview");
      if (over) {
        hovered = true;
        clearTimeout(timer);
        if (over !== link && over !== dismissed) timer = setTimeout(() => show(over), WAIT);
      } else if (box.contains(event.target)) {
        hovered = true;
        clearTimeout(timer);
      } else if (hovered) leave();
    });
    document.documentElement.addEventListener("pointerleave", leave);
    document.addEventListener("focusin", (event) => {
      const on = event.target.closest?.("a.has-preview:focus-visible");
      focused = Boolean(on);
      if (on) show(on);
    });
    document.addEventListener("focusout", () => {
      focused = false;
      if (!hovered) hide();
    });
    document.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      dismissed = link;
      hide();
    });
    document.addEventListener("click", (event) => box.contains(event.target) || hide());
    addEventListener("scroll", place, { capture: true, passive: true });
    addEventListener("resize", place);
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
