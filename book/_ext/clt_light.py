"""Pages load what they use and no more: MathJax without menus, the theme's styles and icons that occur; commas stay with formulas."""

import html
import importlib.util
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import tinycss2
from docutils import nodes
from fontTools import subset
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.util.fileutil import copy_asset
from sphinx.util.typing import ExtensionMetadata

COMPONENTS = {"core": "core", "input/tex-base": "input/tex-base", "[tex]/ams": "input/tex/extensions/ams",
              "[tex]/newcommand": "input/tex/extensions/newcommand", "[tex]/noundefined": "input/tex/extensions/noundefined",
              "output/chtml": "output/chtml", "output/chtml/fonts/tex": "output/chtml/fonts/tex",
              "a11y/assistive-mml": "a11y/assistive-mml"}
"""The parts of MathJax that the book uses, by the name and the file of each; the last one writes what a screen reader reads."""

REACHABLE = """MathJax.startup.promise.then(() => {
  const formulas = document.querySelectorAll(".math > mjx-container"), scrolls = (box) => box.scrollWidth > box.clientWidth;
  const check = (formula) => { if (scrolls(formula) || scrolls(formula.parentElement)) formula.setAttribute("tabindex", "0");
    else formula.removeAttribute("tabindex") };
  const seen = new ResizeObserver((boxes) => boxes.forEach((box) => check(box.target)));
  formulas.forEach((formula) => seen.observe(formula));
  document.fonts.ready.then(() => formulas.forEach(check)) })"""
"""A formula that scrolls, and no other, can be reached by keyboard; also one that unfolds later, or on a phone that is turned."""

SHEETS = ("styles/pydata-sphinx-theme.css", "sphinx-design.min.css", "mystnb.*.css")
"""The large style sheets, of whose rules few are used."""

ICONS = "vendor/fontawesome/webfonts"


def setup(app: Sphinx) -> ExtensionMetadata:
    app.connect("config-inited", set_mathjax)
    app.connect("doctree-resolved", keep_punctuation, priority=950)  # after everyone who writes words
    app.connect("html-page-context", only_where_needed, priority=950)
    app.connect("build-finished", write_mathjax)
    app.connect("build-finished", write_index, priority=100)  # before those who write one if there is none
    app.connect("build-finished", lighten, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# ---- formulas

def set_mathjax(app: Sphinx, config: Config) -> None:
    config.mathjax_path = "mathjax/tex-chtml.js"


def write_mathjax(app: Sphinx, error: Exception | None) -> None:
    """Put MathJax beside the pages: one script that reads TeX, writes it, and tells screen readers of it; and its fonts."""
    if error or app.builder.format != "html":
        return
    found = importlib.util.find_spec("sphinx-mathjax-offline")
    assert found and found.origin  # pyproject.toml lists it
    source = Path(found.origin).parent / "static" / "mathjax"
    target = Path(app.outdir, "_static", "mathjax")
    copy_asset(source / "output/chtml/fonts/woff-v2", target / "output/chtml/fonts/woff-v2")
    (target / "tex-chtml.js").write_text(mathjax(source), encoding="utf-8")


def mathjax(source: Path) -> str:
    """The script: what starts MathJax, then the parts, which it takes for loaded, and so loads nothing."""
    packages = ["base", *(name.removeprefix("[tex]/") for name in COMPONENTS if name.startswith("[tex]/"))]
    parts = ["window.MathJax = Object.assign({}, window.MathJax);",
             f"MathJax.tex = Object.assign({{ packages: {json.dumps(packages)} }}, MathJax.tex);",
             (source / "startup.js").read_text(encoding="utf-8"), f"MathJax.loader.preLoad(...{json.dumps(list(COMPONENTS))});",
             *((source / f"{name}.js").read_text(encoding="utf-8") for name in COMPONENTS.values()), REACHABLE]
    return ";\n".join(parts)


def only_where_needed(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """Sphinx takes a page for one with formulas if any page is that it was written with."""
    if 'class="math' not in context.get("body", ""):
        context["script_files"] = [script for script in context["script_files"]
                                   if "mathjax" not in f"{script.filename} {script.attributes.get('body')}".lower()]


def keep_punctuation(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """A browser breaks the line between a formula and a comma; what stands close to a formula stays with it."""
    if app.builder.format != "html":
        return
    for formula in list(doctree.findall(nodes.math)):
        parent, at = formula.parent, formula.parent.index(formula)
        first, last = (at - is_text(parent, at - 1), at + is_text(parent, at + 1))
        before, after = (str(parent[i]) if i != at else "" for i in (first, last))
        opening, closing = close_by(before, after)
        if opening or closing:
            together = nodes.inline("", "", nodes.Text(opening), formula, nodes.Text(closing), classes=["together"])
            parent[first:last + 1] = [nodes.Text(before[:len(before) - len(opening)]), together, nodes.Text(after[len(closing):])]


def is_text(parent: nodes.Element, at: int) -> bool:
    return 0 <= at < len(parent) and isinstance(parent[at], nodes.Text)


def close_by(before: str, after: str) -> tuple[str, str]:
    """What of the text around a formula belongs to it: a bracket that opens, and what closes or goes on up to the next space."""
    return re.findall(r"[(\[“‘\"']*$", before)[0], re.findall(r"^(?:[^\s—–]{1,12}(?=[\s—–]|$)|[^\s\w—–]+)?", after)[0]


# ---- pages

def write_index(app: Sphinx, error: Exception | None) -> None:
    """The page that leads on to the first one; without a link to an icon a browser would ask for one that is not there."""
    if error or app.builder.format != "html" or app.config.root_doc == "index":
        return
    root, title = f"{app.config.root_doc}.html", html.escape(app.config.html_title)
    Path(app.outdir, "index.html").write_text(f'''<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title><link rel="icon" href="data:,">
<meta http-equiv="refresh" content="0; url={root}"></head><body><p><a href="{root}">{title}</a></p></body></html>
''', encoding="utf-8")


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Leave out of the theme's files what no page uses; at every build Sphinx has put whole ones there."""
    if error or app.builder.format != "html":
        return
    static = Path(app.outdir, "_static")
    used = names(Path(app.outdir))
    for sheet in (path for pattern in SHEETS for path in static.glob(pattern)):
        sheet.write_text(purged(sheet.read_text(encoding="utf-8"), used), encoding="utf-8")
    letters = {int(code, 16) for sheet in static.rglob("*.css")
               for code in re.findall(r"\\(f[0-9a-f]{3})", sheet.read_text(encoding="utf-8"))}
    for font in (static / ICONS).glob("*.ttf"):
        shrink(font, letters)
    for useless in [*static.rglob("*.map"), static / "scripts" / "fontawesome.js", *(static / ICONS).glob("*.woff2")]:
        useless.unlink(missing_ok=True)


def names(out: Path) -> set[str]:
    """Every class of a page, and every word of a script, which may set it."""
    found: set[str] = set()
    for page in out.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        found.update(*(value.split() for value in re.findall(r'class=\\?"([^"\\]*)', text)))
        found.update(*(re.findall(r"[\w-]+", script) for script in re.findall(r"<script>(.*?)</script>", text, re.DOTALL)))
    for path in (path for path in (out / "_static").rglob("*.js") if "mathjax" not in path.parts):
        found.update(re.findall(r"[\w-]+", path.read_text(encoding="utf-8")))
    return found


def purged(css: str, used: set[str]) -> str:
    """A style sheet without the selectors that name a class which is not used, and with icons from the one font that is kept."""
    css = re.sub(r'url\([^)]*\.woff2\) format\("woff2"\),(url\([^)]*\.ttf\))', r"\1", css)
    css = "".join(rules(tinycss2.parse_stylesheet(css, skip_comments=True, skip_whitespace=True), used))
    return re.sub("[\ue000-\uf8ff]", lambda icon: f"\\{ord(icon[0]):x} ", css)


def rules(parsed: list[Any], used: set[str]) -> Iterator[str]:
    for rule in parsed:
        if rule.type == "qualified-rule":
            kept = [selector for selector in selectors(rule.prelude) if classes(selector) <= used]
            if kept:
                yield f"{','.join(tinycss2.serialize(selector) for selector in kept)}{{{tinycss2.serialize(rule.content)}}}"
        elif rule.type == "at-rule" and rule.lower_at_keyword in ("media", "supports") and rule.content is not None:
            inner = "".join(rules(tinycss2.parse_rule_list(rule.content, skip_comments=True, skip_whitespace=True), used))
            if inner:
                yield f"@{rule.at_keyword}{tinycss2.serialize(rule.prelude)}{{{inner}}}"
        else:
            yield rule.serialize()


def selectors(prelude: list[Any]) -> list[list[Any]]:
    """The parts between commas."""
    found: list[list[Any]] = [[]]
    for token in prelude:
        if token == ",":
            found.append([])
        else:
            found[-1].append(token)
    return found


def classes(selector: list[Any]) -> set[str]:
    """The classes that an element must have to be meant, those in brackets, as in :not(.a), apart."""
    return {name.value for dot, name in zip(selector, selector[1:], strict=False) if dot == "." and name.type == "ident"}


def shrink(font: Path, letters: set[int]) -> None:
    """Leave some letters in a font."""
    options = subset.Options(notdef_outline=True, hinting=False, layout_features=[])
    loaded = subset.load_font(str(font), options)
    subsetter = subset.Subsetter(options)
    subsetter.populate(unicodes=letters)
    subsetter.subset(loaded)
    subset.save_font(loaded, str(font), options)
