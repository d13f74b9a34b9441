// Every figure enlarges: by a click or a tap on it, or by its button, which the keyboard reaches. A native dialog shows a copy with its
// alternative text and caption, never smaller than it was drawn: on a phone one pans. Escape closes it, and the focus goes back.
(() => {
  const FIGURE = "main :is(.cell_output, figure) :is(svg.clt-figure, img)";
  let dialog, view, words, opener;

  function make() {
    dialog = document.createElement("dialog");
    dialog.className = "clt-zoom";
    dialog.setAttribute("aria-label", "Figure, enlarged");
    dialog.innerHTML = '<button type="button">Close</button><div tabindex="0" role="group" aria-label="Figure, to pan"></div><p></p>';
    [, view, words] = dialog.children;
    dialog.firstChild.addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());  // beside the figure
    dialog.addEventListener("close", () => {
      view.replaceChildren();
      opener.focus();
    });
    document.querySelector("main").append(dialog);
  }

  // An explorer swaps its figure: its button stands before the frame, and what enlarges is what the frame shows then.
  const holder = (figure) => figure.closest(".clt-frame") ?? figure;
  const caption = (figure) => figure.closest(".cell_output")?.querySelector(".clt-caption") ?? figure.closest("figure")?.querySelector("figcaption");

  function open(figure) {
    if (!dialog) make();
    opener = holder(figure).previousElementSibling;
    const width = Number(figure.getAttribute("width")) || figure.naturalWidth;
    const ratio = width / (Number(figure.getAttribute("height")) || figure.naturalHeight);
    const copy = figure.cloneNode(true);
    copy.setAttribute("style", `width: max(${width}px, min(94vw, ${ratio.toFixed(3)} * (100vh - 9rem)))`);
    view.replaceChildren(copy);
    words.textContent = caption(figure)?.textContent ?? "";
    dialog.showModal();
  }

  function start() {
    for (const figure of document.querySelectorAll(FIGURE)) {
      if (figure.closest("a")) continue;
      const button = Object.assign(document.createElement("button"), { type: "button", className: "clt-enlarge", textContent: "Enlarge" });
      button.setAttribute("aria-label", `Enlarge ${caption(figure)?.querySelector("strong")?.textContent.replace(/\.$/, "") ?? "the figure"}`);
      button.addEventListener("click", () => {
        const shown = button.nextElementSibling;
        open(shown.matches(".clt-frame") ? shown.querySelector("svg, img") : shown);
      });
      holder(figure).before(button);
    }
    document.addEventListener("click", (event) => {
      const figure = event.target.closest?.(FIGURE);
      if (figure && holder(figure).previousElementSibling?.classList.contains("clt-enlarge")) open(figure);
    });
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
