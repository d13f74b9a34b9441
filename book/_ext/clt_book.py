"""What the book asks of Sphinx beyond its configuration: pages that work offline, an honest cache, facts about a chapter."""

import functools
import hashlib
import html
import os
import platform
import re
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import nbformat
from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn, JupyterCacheAbstract
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.sphinx_ import NbMetadataCollector
from nbformat import NotebookNode
from sphinx.application import Sphinx
from sphinx.config import Config
from sphinx.environment import BuildEnvironment
from sphinx.errors import SphinxError
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import ExtensionMetadata
from sphinx.writers.html5 import HTML5Translator
from sphinx_exercise.nodes import exercise_enumerable_node, exercise_node, solution_node
from sphinx_proof.nodes import proof_node

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tools"))  # first, so that no package of the same name is in the way

from editions import without_solutions
from export import plain, read_book
from notebooks import ROOT, chapters, read_notebook

PACE = {"word": 0.4, "formula": 3, "line of a displayed formula": 20, "line of code": 3, "figure": 45, "figure with sliders": 120}
"""Seconds that a mathematician takes to read each; the instructor's guide says so to its readers."""
PROOFS = 2  # a proof takes so many times as long as other text
PLAIN_BRANCH = "notebooks"  # where .github/workflows/pages.yml puts the chapters in plain Markdown

logger = logging.getLogger(__name__)


def setup(app: Sphinx) -> ExtensionMetadata:
    app.add_config_value("clt_extension", extension_fingerprint(), "env")  # a change of these files makes all pages anew
    app.add_config_value("clt_edition", os.environ.get("CLT_EDITION", ""), "env")  # "student": a site without solutions
    app.add_node(chapter_facts)
    app.add_node(generated_content)
    app.add_directive("chapter-facts", ChapterFacts)
    generated(app, "execution-table", execution_table)
    app.connect("env-updated", lambda app, env: sorted(getattr(env, "generated_pages", set()) & env.all_docs.keys()))
    app.add_node(nodes.citation, override=True, html=(visit_citation, HTML5Translator.depart_citation))
    app.connect("config-inited", configure)
    app.connect("env-before-read-docs", run_chapters)
    app.connect("doctree-read", leave_solutions_out)
    app.connect("doctree-resolved", fill_in_generated)
    app.connect("doctree-resolved", fill_in_facts)
    app.connect("doctree-resolved", make_ids_unique)
    app.connect("doctree-resolved", label_cells, priority=900)  # after the tables are there
    app.connect("html-page-context", finish_page, priority=900)  # after everyone who adds scripts
    app.connect("build-finished", offer_plain_notebooks)
    app.connect("build-finished", forget_old_caches)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}


# ---- settings and cache

def fingerprint(root: Path = ROOT) -> str:
    """A hash of all that chapters compute with besides their own cells: the package and the recorded runs."""
    digest = hashlib.sha256()
    for path in sorted([*(root / "clt_utils").rglob("*.py"), *(root / "clt_utils").rglob("*.json"),
                        *(root / "book" / "results").rglob("*.json")]):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root)}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def extension_fingerprint() -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("clt_*.py")))).hexdigest()[:16]


def executed_chapters(build: Path) -> Path:
    """The cache of the chapters as run with the present state of the package; ``build`` is the folder that holds all builds."""
    return build / ".jupyter_cache" / f"{fingerprint()}-{os.environ.get('CLT_PRESET') or 'mini'}"


def configure(app: Sphinx, config: Config) -> None:
    """Set what depends on another setting or on the state of the package."""
    os.environ["CLT_SITE_BUILD"] = "1"  # tells the kernels that figures must work without one
    # The matrices of the chapters are small: one thread computes them fastest, and the same on any number of cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ["TQDM_DISABLE"] = "1"  # a progress bar is over before anyone reads the page
    # jupyter-cache looks at the code of the cells only; one cache for each state of the package makes it see the rest.
    # The path is a setting of the environment, so a new one also makes Sphinx read all chapters again.
    config.nb_execution_cache_path = str(executed_chapters(Path(app.outdir).parent))
    options = config.html_theme_options
    if options.get("repository_url"):
        options |= {f"use_{name}_button": True for name in ("repository", "issues", "edit_page")}
        options["launch_buttons"] = {"notebook_interface": "jupyterlab", "binderhub_url": "https://mybinder.org"}
        if options["repository_url"].startswith("https://github.com/"):  # Colab reads from no other place
            options["launch_buttons"]["colab_url"] = "https://colab.research.google.com"


def run_chapters(app: Sphinx, env: BuildEnvironment, docnames: list[str]) -> None:
    """Run what the cache lacks of the chapters about to be read, as many at a time as the variable CORES says (2).

    myst-nb, which would run one after the other, then finds all of them in the cache.
    """
    cache = get_cache(app.config.nb_execution_cache_path)
    missing = {}
    for path in filter(lambda path: path.suffix == ".ipynb", (Path(env.doc2path(name)) for name in docnames)):
        notebook = read_notebook(path)
        if not is_cached(cache, notebook):
            missing[path] = notebook
    failed = []
    with ThreadPoolExecutor(int(os.environ.get("CORES", 2))) as pool:  # each thread waits for a kernel
        runs = pool.map(lambda path: single_nb_execution(missing[path], str(path.parent), app.config.nb_execution_timeout, False), missing)
        for (path, notebook), run in zip(missing.items(), runs, strict=True):
            if run.err:
                failed.append(str(path))
                logger.error("%s failed:\n%s", path, run.err)
                continue
            bundle = CacheBundleIn(notebook, str(path), data={"execution_seconds": run.time})
            cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
            logger.info("%s ran in %.0f seconds", path.relative_to(app.srcdir), run.time)
    if failed:
        raise SphinxError(f"Chapters failed, see above: {', '.join(failed)}")


def is_cached(cache: JupyterCacheAbstract, notebook: NotebookNode) -> bool:
    """Whether the cache has what a chapter printed; half an entry, which an interrupted build leaves, is taken out."""
    try:
        record = cache.match_cache_notebook(notebook)
    except KeyError:
        return False
    try:
        cache.get_cache_bundle(record.pk)
    except (KeyError, ValueError):  # no file, or half of one
        shutil.rmtree(Path(cache.path, "executed", record.hashkey), ignore_errors=True)
        return False
    return True


def forget_old_caches(app: Sphinx, error: Exception | None) -> None:
    """Keep the caches of the last few states: switching back is quick and the disk stays small."""
    caches = sorted((Path(app.outdir).parent / ".jupyter_cache").glob("*/"), key=lambda path: path.stat().st_mtime)
    for old in caches[:-5]:
        shutil.rmtree(old)


# ---- pages

def leave_solutions_out(app: Sphinx, doctree: nodes.document) -> None:
    """The student's site has none, and neither has its search. What they compute was computed: the chapters run as they are."""
    if app.config.clt_edition == "student":
        for node in list(doctree.findall(solution_node)):
            node.parent.remove(node)


def offer_plain_notebooks(app: Sphinx, error: Exception | None) -> None:
    """What the download button gives: chapters that any notebook program shows, in place of their sources."""
    if error or app.builder.format != "html":
        return
    for path in chapters():
        page = path.relative_to(ROOT / "book").with_suffix("").as_posix()
        target = Path(app.outdir, "_sources", f"{page}.ipynb")
        if target.exists():
            notebook = read_notebook(path)
            notebook = without_solutions(notebook) if app.config.clt_edition == "student" else notebook
            nbformat.write(plain(notebook, page, read_book(), alone=True), target)


def make_ids_unique(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """An id may occur once a page; sphinx-proof and sphinx-exercise give the same ones to every statement and exercise."""
    repeated = {"proof", "proof-content", "exercise-content", "solution-content"}
    for node in doctree.findall(nodes.Element):
        if repeated & set(node.get("ids", ())):
            node["ids"] = [name for name in node["ids"] if name not in repeated]


def visit_citation(self: HTML5Translator, node: nodes.Element) -> None:
    """docutils gives the references ARIA roles whose rules (a list holds only list items) their own links break."""
    HTML5Translator.visit_citation(self, node)
    self.body[-2:] = [tag.replace(' role="list"', "").replace(' role="doc-biblioentry"', "") for tag in self.body[-2:]]


def finish_page(app: Sphinx, pagename: str, templatename: str, context: dict[str, Any], doctree: nodes.document | None) -> None:
    """What the theme leaves out: a description, search without a server, no script twice, no button that leads nowhere."""
    metatags = context.get("metatags", "")
    if 'name="description"' not in metatags:
        first = next(doctree.findall(nodes.paragraph), None) if doctree else None
        text = first.astext() if first else f"{context.get('title', '')}: {app.config.html_title}"
        text = textwrap.shorten(" ".join(text.split()), 160, placeholder="…")
        context["metatags"] = f'{metatags}\n<meta name="description" content="{html.escape(text)}" />'
    notebook = str(app.env.doc2path(pagename)).endswith(".ipynb")
    branch = app.config.html_theme_options.get("repository_branch") or "main"
    for group in context.get("header_buttons", []):
        if group.get("label") == "launch-buttons":
            group["buttons"] = [button for button in group["buttons"] if notebook or button["text"] != "Colab"]  # it opens nothing else
            for button in group["buttons"]:
                button["url"] = re.sub(rf"/{re.escape(branch)}(?=[/?])", f"/{PLAIN_BRANCH}", button["url"], count=1)
    scripts = context["script_files"]
    context["script_files"] = [script for i, script in enumerate(scripts) if script not in scripts[:i]]


# ---- pages that are made when all chapters have been read

Build = Callable[[Sphinx, str], nodes.Node | list[nodes.Node]]

BUILDERS: dict[str, Build] = {}
"""What each directive of ``generated`` is replaced by."""


def generated(app: Sphinx, name: str, build: Build) -> None:
    """Make the directive ``{name}``, replaced by ``build(app, docname)``; its pages are written anew at every build."""
    BUILDERS[name] = build
    app.add_directive(name, Generated)


class generated_content(nodes.General, nodes.Element):
    """Where the content goes once all chapters have been read."""


class Generated(SphinxDirective):
    """Any directive that ``generated`` made; ``self.name`` says which."""

    def run(self) -> list[nodes.Node]:
        env: Any = self.env  # extensions keep what they find there
        env.generated_pages = getattr(env, "generated_pages", set()) | {env.docname}
        return [generated_content(directive=self.name)]


def fill_in_generated(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    for node in list(doctree.findall(generated_content)):
        node.replace_self(BUILDERS[node["directive"]](app, docname))


def table(head: Sequence[str], rows: Iterable[Sequence[Sequence[nodes.Node]]], *classes: str, caption: str = "") -> nodes.table:
    """A table, named by its first class; each cell is a list of inline nodes."""
    def line(cells: Iterable[Sequence[nodes.Node]]) -> nodes.row:
        return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", *cell)) for cell in cells))

    group = nodes.tgroup("", *(nodes.colspec(colwidth=1) for _ in head), cols=len(head))
    group += [nodes.thead("", line([nodes.Text(name)] for name in head)), nodes.tbody("", *map(line, rows))]
    return nodes.table("", *([nodes.title("", caption)] if caption else []), group, ids=[f"{classes[0]}-table"],
                       classes=list(classes))


def label_cells(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Give a nameless column a name for screen readers; in tables of the class "cards" repeat each head in its cells, for phones."""
    for node in doctree.findall(nodes.table):
        head, *rows = node.findall(nodes.row)
        for entry in head if isinstance(head.parent, nodes.thead) else ():
            if not entry.astext().strip():
                entry.children = []
                entry += nodes.paragraph("", "", nodes.inline("", "Row", classes=["visually-hidden"]))
        for row in rows if "cards" in node["classes"] else ():
            for name, entry in zip(head[1:], row[1:], strict=True):
                place = entry[0] if len(entry) else entry
                place.insert(0, nodes.inline("", f"{name.astext()}: ", classes=["cell-label"]))


def pages_in_order(env: BuildEnvironment, page: str | None = None) -> list[str]:
    """Every page of the book in the order of its table of contents."""
    page = page or env.config.root_doc
    return [page, *(name for child in env.toctree_includes.get(page, ()) for name in pages_in_order(env, child))]


def chapter_number(env: BuildEnvironment, docname: str) -> int | None:
    """The number of a chapter, None for pages that have none."""
    return next(iter(env.toc_secnumbers.get(docname, {}).get("") or ()), None)


@functools.cache
def machine() -> str:
    """What the build runs on, in words: processor, cores, memory, graphics card, system, versions."""
    import torch  # here, because it takes seconds

    from clt_utils.provenance import processor

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    memory = f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB memory" if hasattr(os, "sysconf") else ""
    return (f"{processor()}, {os.cpu_count()} cores{memory}, {gpu}; "
            f"{platform.system()}, Python {platform.python_version()}, torch {torch.__version__}, numpy {version('numpy')}")


# ---- how long a chapter takes

class chapter_facts(nodes.General, nodes.Element):
    """Where the facts go once the chapter has been read and run."""


class ChapterFacts(SphinxDirective):
    """``{chapter-facts}``: minutes to read and to run the chapter; option ``gpu`` says whether it wants one."""

    option_spec = {"gpu": str}

    def run(self) -> list[nodes.Node]:
        return [chapter_facts(gpu=self.options.get("gpu", "not needed"))]


def time_to_read(env: BuildEnvironment, *pages: str) -> str:
    """What reading pages takes, proofs included and exercises apart, to five minutes; the one place that says it."""
    return counted(max(5, 5 * round(sum(seconds_to_read(env.get_doctree(page)) for page in pages) / 300)), "minute")


def seconds_to_read(node: nodes.Node) -> float:
    """From its words, formulas, figures and code, at the pace of ``PACE``."""
    if isinstance(node, nodes.Text):
        return PACE["word"] * len(node.split())
    if isinstance(node, (exercise_node, exercise_enumerable_node, solution_node, nodes.comment, nodes.raw)):
        return 0
    if isinstance(node, nodes.math):
        return PACE["formula"]
    if isinstance(node, nodes.math_block):
        return PACE["line of a displayed formula"] * (1 + node.astext().count(r"\\"))
    if isinstance(node, nodes.literal_block):
        return PACE["line of code"] * (1 + node.astext().count("\n"))
    if isinstance(node, nodes.Element) and node.get("nb_element") == "mime_bundle":
        shown = node.astext()
        if "clt-figure" in shown:
            return PACE["figure with sliders" if "<clt-explorer" in shown else "figure"]
        return max(map(seconds_to_read, node.children), default=0)  # one thing in several formats
    return sum(map(seconds_to_read, node.children)) * (PROOFS if isinstance(node, proof_node) else 1)


def fill_in_facts(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Replace the placeholder: reading time as ``time_to_read`` says it, running time as measured."""
    for node in doctree.findall(chapter_facts):
        facts = [("To read", time_to_read(app.env, docname))]
        run = NbMetadataCollector.get_exec_data(app.env, docname)
        if run and run["runtime"] is not None:
            facts.append(("To run", f"{duration(run['runtime'])} where this page was built ({os.cpu_count()} CPU cores)"))
            facts.append(("GPU", node["gpu"]))
        line = nodes.paragraph(classes=["chapter-facts"])
        for i, (name, value) in enumerate(facts):
            line += [nodes.Text(" · " * (i > 0)), nodes.strong("", name), nodes.Text(f" {value}")]
        node.replace_self(line)


def execution_table(app: Sphinx, docname: str) -> nodes.table:
    """How long each chapter ran, when, and on what; the slowest is no surprise then."""
    cache = get_cache(app.config.nb_execution_cache_path)
    ran_on = {Path(record.uri): record.created for record in cache.list_cache_records()}
    rows, total = [], 0.0
    for page in pages_in_order(app.env):
        run = NbMetadataCollector.get_exec_data(app.env, page)
        if run and run["runtime"] is not None:
            total += run["runtime"]
            date = ran_on.get(Path(app.env.doc2path(page)))
            number = chapter_number(app.env, page)
            title = f"{number}. " * bool(number) + app.env.titles[page].astext()
            rows.append([[make_refnode(app.builder, docname, page, "", nodes.Text(title))], [nodes.Text(f"{run['runtime']:.1f}")],
                         [nodes.Text("ran to its end" if run["succeeded"] else "FAILED")],
                         [nodes.Text(f"{date:%Y-%m-%d %H:%M} UTC" if date else "in this build")]])
    rows.append([[nodes.strong("", "All")], [nodes.strong("", f"{total:.1f}")], [], []])
    return table(["Chapter", "Seconds to run", "Outcome", "Run on"], rows, "execution", "cards",
                 caption=f"Run on {machine()}.")


def duration(seconds: float) -> str:
    """Seconds as exactly as a reader needs: "8 seconds", "3 minutes"."""
    return counted(seconds, "second") if seconds < 90 else counted(seconds / 60, "minute")


def counted(number: float, unit: str) -> str:
    number = max(1, round(number))
    return f"{number} {unit}{'s' * (number > 1)}"
