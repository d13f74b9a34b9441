// <clt-explorer>: sliders that swap figures drawn beforehand. clt_utils/explore.py writes the element and its data:
// {axes: the texts of each control's values, parts: pieces of figures, frames: [start, count, ...] of parts, last axis fastest}.
(() => {
  class Explorer extends HTMLElement {
    connectedCallback() {
      // the script runs in the head, before the parser has come to what the element contains
      if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", () => this.start(), { once: true });
      else this.start();
    }

    start() {
      if (this.data) return;
      this.data = JSON.parse(this.querySelector("script").textContent);
      // one label with a slider or a checkbox an axis, or a fieldset with a radio button a value
      this.controls = [...this.querySelector(".clt-controls").children].map((control) => [...control.querySelectorAll("input")]);
      this.querySelector(".clt-note").hidden = true;
      this.querySelector(".clt-controls").hidden = false;
      this.addEventListener("input", () => this.show());
    }

    show() {
      const { axes, parts, frames } = this.data;
      let frame = 0;
      axes.forEach((texts, axis) => {
        const inputs = this.controls[axis], input = inputs[0];
        const at = input.type === "radio" ? inputs.findIndex((button) => button.checked)
          : input.type === "checkbox" ? texts.indexOf(input.checked ? "on" : "off") : Number(input.value);
        if (input.type === "range") {
          input.setAttribute("aria-valuetext", texts[at]);
          input.nextElementSibling.textContent = texts[at];
        }
        frame = frame * texts.length + at;
      });
      let svg = "";
      for (let i = 0, runs = frames[frame]; i < runs.length; i += 2) {
        svg += parts.slice(runs[i], runs[i] + runs[i + 1]).join("\n") + "\n";
      }
      const figure = this.querySelector(".clt-frame");
      figure.innerHTML = svg;
      this.querySelector(".clt-words").textContent = figure.firstElementChild.getAttribute("aria-label");
    }
  }

  if (!customElements.get("clt-explorer")) customElements.define("clt-explorer", Explorer);
})();
