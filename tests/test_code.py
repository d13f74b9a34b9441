"""What folds in the code of the chapters, rule by rule; and in a real browser: the switch, paper, and no script."""

import pytest
from clt_code import folded_output, only_says_true, parts
from docutils import nodes
from sitemap import SITE, html
from test_browser import DESKTOP, HANGS, PHONE, address, browser

from notebooks import chapters, read_notebook

PICTURE = """\
fig, ax = plt.subplots()
for name, values in curves.items():
    ax.plot(values, label=name)
legend(fig)
show(fig, alt="Curves.")"""
CHECKS = """\
assert len(curves) == 2
assert max(curves) < 5
print("never above:", bool((low <= high).all()))
print(f"{name}: convex: {convex}",
      low.all())"""
WORK = """\
rows = []
for seed in range(5):
    rows.append(measured(seed))
table = np.array(rows)
rest = table[1:]"""


def kinds(*cells, tags=()):
    """What folds in the last of some cells: the kind of each part, "" where it stays open."""
    return [part.kind for part in parts((cell, set(tags)) for cell in cells)[-1]]


@pytest.mark.parametrize(("cell", "expected"), [
    ("import a\nimport b\nfrom c import d", ["imports"]),
    ("import a\nfrom c import d", [""]),  # would save nothing
    (PICTURE, ["figure"]),
    (f"{WORK}\n{PICTURE}", ["", "figure"]),
    (f"{PICTURE}\n{CHECKS}", ["figure"]),
    (f"shades = list(curves)\nwide = [len(name) for name in shades]\n{PICTURE}\nax.set(xlim=wide)", ["figure"]),
    (f"fig = plt.figure()\nx = f(1)\n{PICTURE}\nhigh = g(x)\nlow = h(x)\nshow(fig, alt=high)", ["figure"]),
    ("def drawn(point):\n    fig, ax = plt.subplots()\n    return fig\n\nexplore(None, drawn, depth=[1, 2])", ["figure"]),
    (CHECKS, ["checks"]),
    (f"{WORK}\n{CHECKS}", ["", "checks"]),
    (f"steps = np.diff(hull)\n{CHECKS}\nassert steps", ["checks"]),
    (f"{WORK}\nassert rows\nassert rest", [""]),  # few lines: no cell is torn up for them
    (f"read(table)\n{CHECKS}\nresult", [""]),  # nor in its middle
    ("by_hand = (delta\n           @ delta.T\n           * (a.square()\n              .sum() + 1))\n"
     "print(np.allclose(by_hand, engine(\n    x)))", [""]),  # longer than the check: what is computed is the point
    (f"{WORK}\nprint('largest', table.max(), 'nats')\nprint('risk', 1,\n      2,\n      3,\n      4)", ["", "report"]),
    ("print(check('one'))\nprint(check('two'))\nprint(breaks('one'))", [""]),
    ("result = check('one')\nassert result.holds\nresult", [""]),
    ("for g in zoo:\n    value = g.value(x)\n    assert value > 0\n    print(g.name, value > 1)", [""]),
    ("for g in zoo:\n    print(g.name, value > 1)\n    assert value > 0", ["checks"]),
    ("for ax in axes:\n    plt.plot(x)\n    print(x.mean(),\n          x.max())", [""]),  # it also prints
    ("%%time\nimport a\nimport b\nimport c", [""]),
    ("", [""]),
])
def test_what_folds_is_read_off_the_code(cell, expected):
    assert kinds(cell) == expected


def test_what_open_code_needs_stays_open():
    drawn = f"curves = dict(zip(\n    names,\n    map(measured,\n        names)))\n{PICTURE}"
    assert kinds(drawn) == ["figure"]
    assert [[part.kind for part in cell] for cell in parts([(drawn, set()), ("table(curves)", set())])] == [["", "figure"], [""]]
    assert [[part.kind for part in cell] for cell in parts([(drawn, set()), ("curves = 1\ntable(curves)", set())])] == [["figure"], [""]]
    own = "table([curves for curves in other])"  # the variable of a comprehension is another one
    assert [[part.kind for part in cell] for cell in parts([(drawn, set()), (own, set())])] == [["figure"], [""]]


def test_calling_what_draws_draws():
    assert kinds("def panel(x):\n    plt.plot(x)", "panel(1)\npanel(2)\npanel(3)") == ["figure"]


def test_tags_decide():
    assert kinds(PICTURE, tags=["show"]) == [""]
    assert kinds(WORK, tags=["hide"]) == ["hidden"]


def test_comments_stay_with_the_code_below_them():
    first, second = parts([(f"{WORK}\n\n# the picture\n{PICTURE}\n# its end", set())])[0]
    assert first.source == WORK
    assert second.source == f"# the picture\n{PICTURE}\n# its end"


def test_chapters_lose_no_line_and_a_reader_meets_half_of_them():
    kept = shown = 0
    for chapter in chapters():
        cells = [cell for cell in read_notebook(chapter).cells if cell.cell_type == "code"]
        split = parts((cell.source, set(cell.metadata.get("tags", []))) for cell in cells)
        for cell, pieces in zip(cells, split, strict=True):
            lines = [line for piece in pieces for line in piece.source.splitlines() if line.strip()]
            assert lines == [line for line in cell.source.splitlines() if line.strip()], f"{chapter.name}, {cell.id}: lines are lost"
            kept += len(lines)
            shown += sum(bool(line.strip()) for piece in pieces if not piece.kind for line in piece.source.splitlines())
    assert 0.3 < shown / kept < 0.6, (
        f"Given: {shown} of {kept} lines of code stay open. Expected: about half. If a new habit of the chapters is no longer "
        "recognized, teach it to book/_ext/clt_code.py.")


@pytest.mark.parametrize(("line", "expected"), [
    ("convex: True", True), ("convex: True | never above: True", True), ("A, B: both above 0.5: [True, True]", True),
    ("holds: {'Shannon': True, 'Gini': True}", True), ("above: True, and below: True", True),
    ("convex: False", False), ("convex: True | up to a constant: False", False), ("holds: {'Shannon': True, 'Gini': False}", False),
    ("above: True 3 times", False), ("dry: True | classes seen: 1 2 3", False), ("", False), ("True", False), ("risk: 0.5", False),
    ("error 0.0125, none at a kink: True", False),  # a number that the code does not say
])
def test_a_line_that_only_says_true(line, expected):
    assert only_says_true(line, 'print("A, B: both above 0.5:", …)') is expected


def test_lines_that_say_true_become_one():
    text = "never above: True\nconvex: True | smooth: True\nlargest: 3.2\nclosed: True\nproper: False\n"
    first, second = folded_output(nodes.literal_block(text, text, classes=["output", "stream"]), "")
    assert first["words"] == "3 checks hold: never above · convex · smooth"
    assert first.astext() == "never above: True\nconvex: True | smooth: True"
    assert second.astext() == "largest: 3.2\nclosed: True\nproper: False", "one line alone stays, and what does not hold is seen"


# ---- in the browser

CHAPTER, NEXT = "foundations/what-a-sample-can-tell", "foundations/divergences"
CODE = "pre => [...document.querySelectorAll('main :is(.cell_input, .clt-fold) pre')]"
UNSEEN = f"""() => ({CODE})().filter(pre => !pre.closest('.solution')
    && !(pre.checkVisibility({{ visibilityProperty: true }}) && pre.getBoundingClientRect().height > 10)).length"""
CUT_OFF = f"() => ({CODE})().filter(pre => pre.scrollWidth > pre.clientWidth).map(pre => pre.textContent.slice(0, 80))"


def opened(browser, url, memory=True, **options):
    """A page without formulas, which take seconds."""
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(HANGS)
    page.route("**/mathjax/**", lambda route: route.abort())
    if not memory:
        page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('denied') } })")
    page.goto(url)
    return page


@pytest.mark.site
@pytest.mark.parametrize("protocol", ["http", "file"])
def test_one_switch_shows_all_code_and_is_remembered(protocol, browser, address):
    html(CHAPTER)
    base = address if protocol == "http" else SITE.as_uri()
    page = opened(browser, f"{base}/{CHAPTER}.html", viewport=PHONE)
    assert page.evaluate(UNSEEN) >= 5, "nothing is folded"
    page.get_by_text("Show the imports").press("Enter")
    assert page.locator("details.clt-fold").first.evaluate("fold => fold.open"), "Enter does not unfold the imports"
    switch = page.get_by_role("checkbox", name="Show all code")
    switch.press("Space")
    assert page.evaluate(UNSEEN) == 0
    assert page.evaluate(CUT_OFF) == []
    page.goto(f"{base}/{NEXT}.html")
    assert switch.is_checked(), "the next chapter has forgotten the switch"
    assert page.evaluate(UNSEEN) == 0
    switch.press("Space")
    page.reload()
    assert not switch.is_checked()
    assert page.evaluate(UNSEEN) > 0
    page.context.close()


@pytest.mark.site
def test_all_code_is_there_on_paper_without_script_and_without_memory(browser, address):
    html(CHAPTER)
    page = opened(browser, f"{address}/{CHAPTER}.html", java_script_enabled=False, viewport=DESKTOP)
    assert not page.locator(".clt-switch").is_visible(), "a switch that does nothing"
    fold = page.locator("details.clt-fold").first
    assert not fold.locator("pre").is_visible()
    fold.locator("summary").press("Enter")
    assert fold.locator("pre").is_visible()
    page.emulate_media(media="print")
    assert page.evaluate(UNSEEN) == 0, "code is missing on paper"
    folded = "details => details.filter(fold => !fold.closest('.solution') && !fold.lastElementChild.checkVisibility()).length"
    assert page.locator("main details").evaluate_all(folded) == 0, "a proof is missing on paper"
    assert page.evaluate(CUT_OFF) == []
    assert not page.get_by_text("Show the imports").is_visible()
    page.context.close()
    page = opened(browser, f"{address}/{CHAPTER}.html", memory=False)
    switch = page.get_by_role("checkbox", name="Show all code")
    assert switch.is_visible(), "no switch where the browser remembers nothing"
    switch.press("Space")
    assert page.evaluate(UNSEEN) == 0
    page.context.close()
