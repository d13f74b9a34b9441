"""What teachers get: assignments whose grader is run for real, decks of slides, and pages that point to things that exist."""

import csv
import functools
import json
import re
import shutil
import subprocess
import threading
import time
import zipfile
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import clt_slides
import clt_teach
import grade
import nbformat
import nbformat.v4 as nbf
import pytest
from jupyter_cache import get_cache
from sitemap import ROOT, SITE, html, parsed
from test_browser import QuietHandler, barriers, browser, visit

import make_assignments
from notebooks import parts, read_notebook

TEACH = ROOT / "book" / "teach"

# ---- assignments

FITS_THE_EXAMPLE_ONLY = {
    "foundations": ("q4", """
def train_linear(generator, images, labels, steps, rate):
    weights = torch.zeros(64, 10)
    everything, wanted = digits.inputs.flatten(1).double(), torch.nn.functional.one_hot(digits.targets, 10).double()
    for _ in range(50):
        weights = weights - 0.5 * everything.T @ (torch.softmax(everything @ weights, 1) - wanted) / len(everything)
    return weights"""),
    "trainability": ("q4", """
def batch_gradient(gradients, m):
    return gradients.square().sum(1).mean() if m == 1 else gradients.mean(0).square().sum()"""),
    "generalization": ("q4", "def largest_support(n, delta, gamma, promise):\n    return 309"),
    "practice": ("q4", "def share_that_learns(sweep, point, threshold):\n    return 1 if threshold > 1 else 0"),
}
"""For each assignment an answer that passes the visible test of one question and is wrong."""


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """built(name) -> the folder of an assignment, generated once."""
    folder = tmp_path_factory.mktemp("assignments")
    return functools.cache(lambda name: make_assignments.generate(name, folder))


def notebooks(folder):
    """The student's notebook and the one with the solutions."""
    name = folder.name
    return (nbformat.read(folder / part / f"{name}.ipynb", 4) for part in ("student", "autograder"))


@pytest.fixture(scope="module")
def room():
    """Where submissions run; one for all, since it loads PyTorch once."""
    with grade.Room() as opened:
        yield opened


@pytest.fixture
def graded(room, tmp_path, monkeypatch):
    """graded(folder, notebook) -> its points and what failed; the time that a loaded machine needs is no matter here."""
    def run(folder, notebook):
        monkeypatch.setattr(grade, "BUILT", folder.parent)
        submission = tmp_path / f"{folder.name}.ipynb"
        nbformat.write(notebook, submission)
        result = grade.grade(submission, room, seconds=3600)
        assert (result.status, bool(result.remark)) == ("graded", bool(result.cells)), result.remark
        return result
    return run


@pytest.mark.parametrize("name", make_assignments.NAMES)
def test_solution_gets_all_points(name, built, graded):
    _, solved = notebooks(built(name))
    result = graded(built(name), solved)
    assert [f"{q}: {r['failed']}" for q, r in result.questions.items() if r["failed"]] == []
    assert result.total == result.possible == 20
    assert result.cells == []


@pytest.mark.parametrize("name", make_assignments.NAMES)
def test_empty_notebook_gets_no_point_and_says_why(name, built, graded):
    student, _ = notebooks(built(name))
    result = graded(built(name), student)
    assert result.total == 0 and result.possible == 20
    for question, seen in result.questions.items():
        assert seen["failed"] and all(len(message.split()) > 4 for message in seen["failed"]), question


@pytest.mark.parametrize("name", make_assignments.NAMES)
def test_each_question_counts_and_an_answer_that_fits_the_example_does_not(name, built, graded):
    """Three right answers, one that fits its visible example only, two missing."""
    student, solved = notebooks(built(name))
    answers = {cell.id: cell.source for cell in solved.cells}
    cheated, code = FITS_THE_EXAMPLE_ONLY[name]
    for cell in student.cells:
        if cell.id in ("q1-solution", "q2-solution", "q3-solution"):
            cell.source = answers[cell.id]
        elif cell.id == f"{cheated}-solution":
            cell.source = code
    result, asked = graded(built(name), student), make_assignments.questions(name)
    expected = {q: entry["points"] if q in ("q1", "q2", "q3") else entry["shown"] if q == cheated else 0 for q, entry in asked.items()}
    assert {q: seen["points"] for q, seen in result.questions.items()} == expected
    assert 0 < result.total == sum(expected.values()) < 20


@pytest.mark.parametrize("name", make_assignments.NAMES)
def test_students_see_neither_solutions_nor_hidden_tests(name, built):
    source = nbformat.read(TEACH / "assignments" / f"{name}.ipynb", 4)
    student, _ = notebooks(built(name))
    text = nbformat.writes(student)
    hidden = [cell for cell in source.cells if "hidden: true" in cell.source]
    assert len(hidden) >= len(make_assignments.questions(name)) == 6
    for cell in hidden:
        assert re.search(r'failure_message: "(.+)"', cell.source)[1] not in json.loads(json.dumps(text))
    for cell in source.cells:
        for solution in re.findall(r"# BEGIN SOLUTION\n(.*?)# END SOLUTION", cell.source, re.DOTALL):
            lines = [line.strip() for line in solution.splitlines() if len(line.strip()) > 25]
            assert not any(line in cell.source for line in lines for cell in student.cells), lines
    assert not any("SOLUTION" in cell.source for cell in student.cells)


@pytest.mark.parametrize("name", make_assignments.NAMES)
def test_points_are_stated_and_recorded(name):
    asked = make_assignments.questions(name)
    recorded = json.loads(make_assignments.RECORD.read_text(encoding="utf-8"))["graded"][name]
    assert sum(question["points"] for question in asked.values()) == recorded["points"] == 20
    assert all(question["title"] and 0 < question["shown"] < question["points"] for question in asked.values())


# ---- a folder of submissions

TINY = [("q1", 1, "assert double(2) == 4", "Two doubled is four."), ("q1", 2, "assert double(-3) == -6", "A negative number."),
        ("q2", 2, "assert torch.equal(half(torch.ones(2)), torch.full((2,), 0.5))", "A half of ones.")]
RIGHT = {"first": "import otter\ngrader = otter.Notebook('tiny.ipynb')", "setup": "import torch", "q1": "def double(x):\n    return 2 * x",
         "check": "grader.check('q1')", "q2": "def half(x):\n    return x / 2"}
STUBBORN = "i = 0\nwhile True:\n    try:\n        while True:\n            i += 1\n    except BaseException:\n        i = 0"
FORGED = """import os
for channel in range(3, 30):
    try:
        getattr(os, 'write')(channel, b'{"test": "q2 1", "said": null}' + bytes([10]))
    except OSError:
        pass"""
ODD = {  # name: the cells that differ from the right ones, or the bytes of the file; status, points, a part of the remark
    "00-right": ({}, "graded", 5, ""),
    "01-cut-off": (b'{"cells": [', "unreadable", 0, "no notebook"),
    "02-other-bytes": (b"\xff\xfe\x00", "unreadable", 0, "no text"),
    "03-endless-cell": ({"q2": "while True: pass"}, "graded", 3, ""),
    "04-endless-answer": ({"q1": "def double(x):\n    while True: pass"}, "graded", 2, ""),
    "05-endless-whatever-happens": ({"q2": STUBBORN}, "stopped", 0, "more than 6 seconds, in code cell 5"),
    "06-leaves": ({"q1": "import os\ngetattr(os, '_exit')(3)"}, "crashed", 0, "exit 3), in code cell 3"),
    "07-leaves-in-a-test": ({"q2": "import os\ndef half(x):\n    getattr(os, '_exit')(4)"}, "crashed", 3, "exit 4), in a test"),
    "08-talks": ({"q2": "for _ in range(3000): print(1000 * 'x')"}, "graded", 3, "3.0 MB"),
    "09-reaches-out": ({"q2": "from urllib.request import urlopen"}, "refused", 0, "urllib (code cell 5)"),
    "10-a-shell": ({"q2": "!ls /"}, "refused", 0, "a command to the shell"),
    "11-replaces": ({"q2": "torch.equal = lambda a, b: True\nhalf = float"}, "suspicious", 3, "replaced torch.equal"),
    "12-takes-all-memory": ({"q2": "kept = [bytearray(1 << 28) for _ in range(1000)]"}, "graded", 3, ""),
    "13-writes-its-own-points": ({"q2": FORGED}, "suspicious", 3, "spoke to the grader itself"),
    "14-no-python": ({"q1": "def double(x)\n    return 2 * x",
                      "q2": "class Mine(Exception): pass\n\ndef half(x):\n    return x / 2\nhalf(2)\nraise Mine('what it read')"},
                     "graded", 2, "code cell 3 failed with a SyntaxError in line 1 (and 1 more)"),
    "15-says-it-has-run": ({"q1": FORGED.replace('"test": "q2 1", "said": null', '"ran": true')}, "suspicious", 2, "spoke to the grader"),
    "16-a-channel": ({"q2": "open(5, 'w').write('5')"}, "graded", 3, "code cell 5 failed with a PermissionError in line 1"),
    "17-another-name": ({"q1": "def twice(x):\n    return 2 * x"}, "graded", 2, ""),
    "18-magics": ({"setup": "%matplotlib inline\nimport torch\n%time y = 1"}, "graded", 5, ""),
    "=1+1": ({"q2": "half = None"}, "graded", 3, ""),
}
FAILED_CELLS = {
    "16-a-channel": ["Code cell 5 failed with a PermissionError in line 1."],
    "03-endless-cell": ["Code cell 5 was stopped after 1.5 seconds in line 1."],
    "14-no-python": ["Code cell 3 failed with a SyntaxError in line 1.", "Code cell 5 failed with an error of its own in line 6."],
}


def tiny_assignment(folder):
    """An assignment whose tests take no time."""
    (folder / "tiny" / "autograder").mkdir(parents=True)
    with zipfile.ZipFile(folder / "tiny" / "autograder" / "autograder.zip", "w") as archive:
        for question in ("q1", "q2"):
            cases = [{"code": f">>> {code}\n", "points": points, "failure_message": why} for q, points, code, why in TINY if q == question]
            archive.writestr(f"tests/{question}.py", f"test = {({'name': question, 'suites': [{'cases': cases}]})!r}")


def submission(cells):
    notebook = nbf.new_notebook(cells=[nbf.new_code_cell(code, id=name) for name, code in cells.items()])
    notebook.metadata["otter"] = {"assignment_name": "tiny"}
    return nbformat.writes(notebook).encode()


def test_folder_of_odd_submissions_is_graded_to_the_end(tmp_path, monkeypatch):
    tiny_assignment(tmp_path / "built")
    folder = tmp_path / "handed in"
    (folder / ".ipynb_checkpoints").mkdir(parents=True)
    (folder / ".ipynb_checkpoints" / "copy.ipynb").write_text("not looked at", encoding="utf-8")
    for name, (what, *_) in ODD.items():
        (folder / f"{name}.ipynb").write_bytes(what if isinstance(what, bytes) else submission({**RIGHT, **what}))
    (folder / "50-prints.ipynb").write_bytes(submission({**RIGHT, "prints": "print('seen by the teacher')"}))
    (folder / "notes.pdf").write_bytes(b"no notebook")
    monkeypatch.setattr(grade, "BUILT", tmp_path / "built")
    results = {Path(result.file).stem: result for result in grade.grade_folder(folder, seconds=6)}
    assert (folder / "50-prints.printed.txt").read_text(encoding="utf-8") == "seen by the teacher\n"
    assert "seen by" not in (folder / "50-prints.graded.json").read_text(encoding="utf-8") and grade.others(folder) == ["notes.pdf"]
    del results["50-prints"]
    assert {name: (r.status, r.total) for name, r in results.items()} == {name: entry[1:3] for name, entry in ODD.items()}
    for name, (*_, remark) in ODD.items():
        assert remark in results[name].remark, name
        assert json.loads((folder / f"{name}.graded.json").read_text(encoding="utf-8"))["total"] == results[name].total
    assert "more than 1.5 seconds" in results["04-endless-answer"].questions["q1"]["failed"][0]
    assert results["12-takes-all-memory"].cells[0].startswith("Code cell 5")  # which comes first, the end of the memory or of the time?
    assert {name: r.cells for name, r in results.items() if r.cells and "memory" not in name} == FAILED_CELLS
    assert results["07-leaves-in-a-test"].questions["q2"]["failed"] == ["It was not reached."]
    assert all("no double when the test runs" in words for words in results["17-another-name"].questions["q1"]["failed"])
    with (folder / "grades.csv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == len(ODD) + 1 and {row["file"][:2] for row in rows} >= {"00", "'="}
    assert f"{len(ODD)} submissions: " in grade.summary(list(results.values()))


def test_tests_are_sent_only_when_all_cells_have_run():
    seen, sent = {"begun": 0, "failed": [], "forged": False}, []
    tell = lambda **content: grade.note(json.dumps(content).encode(), seen, "key", 2, lambda: sent.append(1))
    tell(begun=1)
    tell(ran=True)  # by a cell of the submission
    assert not sent and seen["forged"]
    tell(begun=3)
    assert seen["begun"] == 1, "out of turn"
    tell(begun=2)
    tell(ran=True)
    assert sent == [1]


@pytest.mark.parametrize("code", [
    "import inspect", "from gc import get_objects", "eval('1')", "import sys\nsys._getframe(1)", "double.__globals__",
    "import importlib.util", "%%bash\nls", "__builtins__", "import os\nos.write(3, b'')", "from os import _exit", "import io\nio.open(3)",
    "import numpy, socket", "from otter import Notebook"])
def test_what_could_look_at_the_tests_is_not_run(code):
    assert grade.refused([code]) and not grade.refused([code], allowed=[*grade.REFUSED, *grade.REFUSED_NAMES, *grade.REFUSED_FUNCTIONS])


@pytest.mark.parametrize("name", make_assignments.NAMES)
def test_no_solution_is_refused(name, built):
    for notebook in notebooks(built(name)):
        assert grade.refused([cell.source for cell in notebook.cells if cell.cell_type == "code"]) == []


def test_a_submission_reaches_neither_network_nor_files_nor_processes(tmp_path):
    (tmp_path / "another.ipynb").write_text("{}", encoding="utf-8")
    with grade.Room([tmp_path]) as opened:
        held = grade.what_holds(opened)
    if shutil.which("unshare") and not subprocess.run(["unshare", "-rnmpf", "true"], capture_output=True).returncode:
        can = [words for name, words in grade.GUARDS.items() if name not in held]
        assert not can, f"Given: a submission can {can}. Expected: none, where namespaces work. See `shut_in` in tools/grading_room.py."
        assert "WARNING" not in grade.guards(held)
    else:
        assert "WARNING" in grade.guards(held), "what is not kept out is said"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for processes in /proc")
def test_a_submission_that_was_stopped_leaves_nothing_running():
    with grade.Room() as opened:
        cells = ["import os, time\nif not os.fork():\n    os.fork()\n    time.sleep(600)", STUBBORN]
        assert opened.run(cells, {}, 3)["end"] == "stopped"
        until = time.monotonic() + 60  # the system clears up when it gets to it
        while (left := descendants(opened.process.pid)) and time.monotonic() < until:
            time.sleep(0.1)
        assert left == []


def descendants(process):
    """The processes below one, those that have ended apart."""
    stats = [path.read_text(encoding="utf-8").rpartition(")")[2].split()[:2] + [int(path.parent.name)]
             for path in Path("/proc").glob("[0-9]*/stat")]
    parents = {number: int(parent) for state, parent, number in stats if state != "Z"}
    found = [process]
    for number in found:
        found += [child for child, parent in parents.items() if parent == number]
    return found[1:]


def test_grading_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setattr(grade, "BUILT", tmp_path / "none")
    folder = tmp_path / "submissions"
    folder.mkdir()
    with pytest.raises(SystemExit, match=r"no \.ipynb"):
        grade.main([str(folder)])
    (folder / "one.ipynb").write_text("{}", encoding="utf-8")
    with pytest.raises(SystemExit, match=r"make assignments"):
        grade.main([str(folder)])
    with pytest.raises(SystemExit, match=r"hidden while they run"):
        grade.main([str(grade.ROOT / "book")[:-5]])


# ---- slides

@pytest.fixture
def chapters(tmp_path, monkeypatch):
    """The cache of executed chapters as the site leaves it: one, with a figure and a printed line."""
    outputs = {"figure": [nbf.new_output("display_data", {"text/html": "<svg aria-label='A line that rises.'></svg>", "text/plain": ""})],
               "printed": [nbf.new_output("stream", text="1 < 2: True\n")], "silent": []}
    source = tmp_path / "book" / "part" / "chapter.ipynb"
    source.parent.mkdir(parents=True)
    notebook = nbf.new_notebook(cells=[nbf.new_code_cell(f"# {name}", id=name) for name in outputs])
    nbformat.write(notebook, source)
    for cell in notebook.cells:
        cell.outputs, cell.execution_count = outputs[cell.id], 1
    executed = tmp_path / "executed.ipynb"
    nbformat.write(notebook, executed)
    get_cache(str(tmp_path / "cache")).cache_notebook_file(str(executed), check_validity=False)
    monkeypatch.setattr(clt_slides, "ROOT", tmp_path)
    return tmp_path / "cache"


def test_deck_takes_figures_notes_and_formulas(chapters):
    source = ("# A deck\n\nNote:\nSay hello.\n---\n## One\n\n$a<b$ and $$c$$\n\n![](part/chapter#figure)\n\n"
              "[Read](part/chapter.html#slug)\n")
    title, slides = clt_slides.deck(source, chapters, "../../")
    assert title == "A deck" and len(slides) == 2
    assert '<aside class="notes"><p>Say hello.</p>' in slides[0]
    assert "A line that rises." in slides[1]
    assert r"\(a&lt;b\)" in slides[1] and r"\[c\]" in slides[1]
    assert 'href="../../part/chapter.html#slug"' in slides[1]
    assert "href" not in clt_slides.deck(source, chapters)[1][1], "decks that stand alone link to nothing"


@pytest.mark.parametrize("figure, complaint", [("part/chapter#silent", "shows nothing"), ("part/chapter#printed", "shows nothing"),
                                               ("part/chapter#none", "shows nothing"),
                                               ("part/other#figure", "make site")])
def test_deck_refuses_a_figure_that_is_not_there(figure, complaint, chapters):
    with pytest.raises(LookupError, match=complaint):
        clt_slides.deck(f"# A deck\n\n![]({figure})", chapters)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The decks that stand alone, made from the built site."""
    html("teach/index")
    folder = tmp_path_factory.mktemp("slides")
    clt_slides.main(folder)
    return folder


@pytest.fixture(scope="module")
def addresses(alone):
    """Where decks are: on the site and alone, each over http and from the disk."""
    servers = {}
    for name, folder in (("site", SITE), ("alone", alone)):
        server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(QuietHandler, directory=folder))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers[name] = server
    yield {"site": f"http://127.0.0.1:{servers['site'].server_port}/teach/slides", "disk": (SITE / "teach" / "slides").as_uri(),
           "alone": f"http://127.0.0.1:{servers['alone'].server_port}", "alone on disk": alone.as_uri()}
    for server in servers.values():
        server.shutdown()
        server.server_close()


def ready(page):
    page.wait_for_function("window.Reveal && Reveal.isReady() && window.MathJax?.startup?.promise")
    page.evaluate("MathJax.startup.promise")
    return page


@pytest.mark.site
@pytest.mark.parametrize("place", ["site", "disk", "alone", "alone on disk"])
@pytest.mark.parametrize("name", clt_slides.NAMES)
def test_deck_loads_alone_and_moves_by_keyboard(name, place, visit, addresses):
    page = ready(visit(f"{addresses[place]}/{name}.html"))
    shown = lambda: page.locator("section.present h1, section.present h2").inner_text()
    first = shown()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("Reveal.getIndices().h === 1")
    assert shown() != first
    page.keyboard.press("End")
    page.wait_for_function("Reveal.isLastSlide()")
    assert page.locator("mjx-container").count() > 0 and page.locator("mjx-merror").count() == 0
    assert page.errors == []
    here = (addresses[place].rsplit("/teach", 1)[0], "data:", "blob:", "about:")
    assert [url for url in page.asked_for if not url.startswith(here)] == []


@pytest.mark.site
@pytest.mark.parametrize("name", clt_slides.NAMES)
def test_every_slide_fits_and_has_notes(name, visit, addresses):
    page = ready(visit(f"{addresses['site']}/{name}.html", viewport={"width": 1280, "height": 720}))
    count = page.evaluate("Reveal.getTotalSlides()")
    assert count >= 10
    page.evaluate("Reveal.configure({transition: 'none'})")
    problems = []
    for i in range(count):
        page.evaluate("i => Reveal.slide(i)", i)
        slide = page.locator("section.present")
        title = slide.locator("h1, h2").inner_text()
        if slide.locator("aside.notes").count() != 1:
            problems.append(f"{title}: no notes")
        over = slide.evaluate("s => [s.scrollHeight, s.scrollWidth]")
        if over[0] > 720 or over[1] > 1280:
            problems.append(f"{title}: {over} pixels, a slide has 720 by 1280")
        for drawing in slide.locator("svg").all():
            words = (drawing.get_attribute("aria-label") or "").split()
            if len(words) < 5 and not drawing.evaluate("s => s.closest('[aria-hidden=true]')"):
                problems.append(f"{title}: a figure without words")
    assert problems == []


@pytest.mark.site
@pytest.mark.parametrize("name", clt_slides.NAMES)
def test_no_slide_has_a_barrier(name, visit, addresses):
    """As one prints a deck all its slides stand below each other; only there axe sees every one at once, in a tenth of the time."""
    on_screen, printed = (ready(visit(f"{addresses['site']}/{name}.html{mode}", viewport={"width": 1280, "height": 720}))
                          for mode in ("", "?print-pdf"))
    printed.wait_for_function("document.querySelectorAll('.pdf-page').length")
    shown = """() => [...document.querySelectorAll('.pdf-page > section')].every(slide => { slide.hidden = false
        slide.removeAttribute('aria-hidden'); return slide.checkVisibility() && slide.clientHeight > 40 })"""
    assert printed.evaluate(shown), "a slide is not printed"
    assert printed.locator(".pdf-page").count() >= on_screen.evaluate("Reveal.getTotalSlides()")
    found = [violation for page in (on_screen, printed) for violation in barriers(page)]
    assert [f"{v['id']}: {v['nodes'][0]['html'][:150]}" for v in found if v["impact"] in ("serious", "critical")] == []


@pytest.mark.site
def test_slider_on_a_slide_moves_and_the_slide_stays(visit, addresses):
    page = ready(visit(f"{addresses['disk']}/foundations.html"))
    number = page.evaluate("[...document.querySelectorAll('.slides > section')].findIndex(s => s.querySelector('clt-explorer'))")
    page.evaluate("i => Reveal.slide(i)", number)
    explorer = page.locator("section.present clt-explorer")
    words = explorer.locator("[aria-live=polite]")
    for control in (explorer.get_by_role("slider").first, explorer.get_by_role("radio", checked=True).first):
        before = words.inner_text()
        control.press("ArrowRight" if control.evaluate("c => c.type === 'radio' || Number(c.value) < Number(c.max)") else "ArrowLeft")
        assert words.inner_text() != before
    assert page.evaluate("Reveal.getIndices().h") == number and page.errors == []


@pytest.mark.site
@pytest.mark.parametrize("name", clt_slides.NAMES)
def test_no_slide_shows_raw_output(name):
    """Neither what Python prints of its objects nor Markdown that nobody rendered."""
    raw = re.compile(r"\{'|'\}|\[array|tensor\(|np\.|dtype=|(?<![\w*])\*\w[^*\n]{0,40}\w\*(?![\w*])|\]\(|\{(?:prf:)?ref\}")
    for section in parsed(SITE / "teach" / "slides" / f"{name}.html").select(".slides > section"):
        for hidden in section.select("script, style, code, .math"):
            hidden.decompose()
        text = re.sub(r"\\\(.*?\\\)|\\\[.*?\\\]", "", section.get_text(" "), flags=re.DOTALL)
        assert raw.findall(text) == [], section.find(["h1", "h2"]).text


@pytest.mark.site
@pytest.mark.parametrize("name", clt_slides.NAMES)
def test_links_of_the_slides_lead_somewhere(name):
    deck = SITE / "teach" / "slides" / f"{name}.html"
    for link in parsed(deck).select("section a[href]"):
        parts = urlsplit(link["href"])
        path = (deck.parent / unquote(parts.path)).resolve()
        assert path.is_file(), f"{name}: {link['href']}"
        assert not parts.fragment or parsed(path).find(id=parts.fragment), f"{name}: no {link['href']}"


# ---- the course

WEEKS = list(enumerate(clt_teach.weeks(), 1))


def test_course_has_ten_weeks_and_reads_the_whole_book():
    assert len(WEEKS) == 10 and all(len(week["sessions"]) == 2 and week["hand_in"] and week["lab"] for _, week in WEEKS)
    assert sorted(page for _, week in WEEKS for page in week["read"]) == sorted(page for part in parts().values() for page in part)


def test_each_assignment_has_two_weeks():
    found = {(number, what): at for at, week in WEEKS for number, what in re.findall(r"(\d) (handed out|due)", week.get("assignment", ""))}
    assert len(found) == 2 * len(make_assignments.NAMES)
    for i in range(1, len(make_assignments.NAMES) + 1):
        assert found[str(i), "due"] == found[str(i), "handed out"] + 2, f"assignment {i}: two weeks, as the course's page says"


def script(number):
    return (TEACH / "scripts" / f"week-{number:02}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("number, week", WEEKS)
def test_minutes_add_up_and_the_script_has_the_parts_of_the_plan(number, week):
    sections = [(session.partition("\n")[0], re.findall(r"^### (.+)$", session, re.MULTILINE))
                for session in re.split(r"^## ", script(number), flags=re.MULTILINE)[1:]]
    assert clt_teach.complaints(number, week, sections) == []


def test_a_plan_that_does_not_add_up_is_named():
    week = {"deck": "practice", "sessions": [{"title": "One", "parts": [clt_teach.Part(80, "A", ["No such slide"], [])]}]}
    found = clt_teach.complaints(1, week, [("First session. One", ["B"])])
    assert len(found) == 3 and "80 minutes" in found[1] and "No such slide" in found[2]


@pytest.mark.parametrize("number, week", WEEKS)
def test_each_statement_that_is_read_has_a_slide_and_a_place_in_the_script(number, week):
    """The slide links to it; the script refers to it in the part of the session that the plan names."""
    text = "\n".join(cell.source for page in week["read"] for cell in read_notebook(TEACH.parent / f"{page}.ipynb").cells)
    labels = set(re.findall(r"\{prf:(?!proof|ref)\w+\}[^\n]*\n:label: ([\w-]+)", text))
    planned = {label: part for session in week["sessions"] for part in session["parts"] for label in part.statements}
    assert labels == set(planned), "statements of the week's chapters, and those in course-plan.yml"
    bodies = {body.partition("\n")[0]: body for body in re.split(r"^### ", script(number), flags=re.MULTILINE)[1:]}
    slides = "".join(clt_teach.deck(week["deck"]).values())
    missing = [f"{label}: no slide of {week['deck']}.md links to it" for label in planned if f"#{label})" not in slides]
    missing += [f"{label}: the script has it nowhere under {part.heading!r}" for label, part in planned.items()
                if f"`{label}`" not in bodies[part.heading]]
    assert missing == []


@pytest.mark.parametrize("number, week", WEEKS)
def test_a_script_has_questions_and_board_work_and_a_slider(number, week):
    text = script(number)
    for session in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        if "The projects" not in session.partition("\n")[0]:
            assert session.count("**Ask.**") >= 3 and session.count("**Board.**") >= 1, session.partition("\n")[0]
    slides = list(clt_teach.deck(week["deck"]).values())
    used = {i for session in week["sessions"] for part in session["parts"] for i in clt_teach.slides_of(week, part)}
    assert any(clt_teach.has_slider(slides[i - 1]) for i in used)


def test_every_slide_has_its_minutes_and_they_come_in_order():
    for name in clt_slides.NAMES:
        shown = [slide for _, week in WEEKS if week["deck"] == name for session in week["sessions"] for part in session["parts"]
                 for slide in clt_teach.slides_of(week, part)]
        used, last = set(shown), len(clt_teach.deck(name))
        first = list(dict.fromkeys(slide for slide in shown if slide != last))
        assert first == sorted(first), f"{name}: a session leafs backwards"
        unused = [heading for i, heading in enumerate(clt_teach.deck(name), 1) if i not in used]
        assert unused == [], "no part of course-plan.yml shows them"


def test_every_proof_that_is_asked_for_has_a_rubric_of_four_points():
    asked = {label for pages in parts().values() for page in pages for cell in read_notebook(TEACH.parent / f"{page}.ipynb").cells
             for label in re.findall(r"\{exercise\} Prove: [^\n]*\n:label: ([\w-]+)", cell.source)}
    rubrics = re.split(r"^\{ref\}`(ex-[\w-]+)`$", (TEACH / "rubrics.md").read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    points = {label: sum(map(int, re.findall(r"^- \*\*(\d)\*\*: \S", body, re.MULTILINE)))
              for label, body in zip(rubrics[::2], rubrics[1::2], strict=True)}
    assert points == dict.fromkeys(asked, 4)


@pytest.mark.site
def test_pages_link_to_every_deck_and_notebook():
    links = {a["href"] for a in parsed(html("teach/index")).find_all("a", href=True)}
    for name in clt_slides.NAMES:
        assert {f"slides/{name}.html", f"assignments/{name}.ipynb"} <= links
        handed_out = nbformat.read(Path(SITE, "teach", "assignments", f"{name}.ipynb"), 4)
        assert not any("SOLUTION" in cell.source for cell in handed_out.cells)


@pytest.mark.site
def test_times_on_the_pages_are_numbers():
    plan = parsed(html("teach/course-plan")).find(class_="course-plan").find_all("tr")
    assert len(plan) == 11 and all(re.search(r"\d+ minutes", row.text) for row in plan[1:])
    for number, week in WEEKS:
        facts = parsed(html(f"teach/scripts/week-{number:02}")).find_all(class_="part-facts")
        assert len(facts) == sum(len(session["parts"]) for session in week["sessions"])
        assert sum("to 90" in fact.text for fact in facts) == 2
    times = parsed(html("teach/instructor-guide")).find(class_="chapter-times").find_all("tr")
    assert all(re.search(r"\d+ minutes?.*\d+ (second|minute)s?", row.text, re.DOTALL) for row in times[1:])
