"""One symbol, one meaning: a letter of the page of notation is used in the forms that have this meaning, and in no other."""

import re

import nbformat
import pytest

from notebooks import ROOT, chapters

FORMULA = re.compile(r"\$\$[\s\S]+?\$\$|(?<![\\$])\$[^$\n]+\$")
NEVER = r"(?!)"
# letter: (the forms that it may have, as they go on behind it or begin before it, what they mean, what else it was taken for)
FORMS = {
    "g": (r"g_|g\(X|g\(x\)|\\circ g|:g\}", "$g_x$, $g_i$: the energy of a sample; $g$, $g(x)$: a feature map",
          "write the energy with its sample, and take another letter for a function of a proof"),
    "D": (r"D", "$D$: the depth", "write $\\phi'_l$ for slopes and $\\partial F$ for a derivative"),
    r"\\beta": (r"\\beta(?!_)|\\beta_\\Phi", "$\\beta$: momentum; $\\beta_\\Phi$: the smoothness of $\\Phi$",
                "write $\\beta_\\Phi$ in front of a squared residual or an energy"),
    "m": (r"m", "$m$: the batch size", "write $n_x$ for the number of labels of one input, $\\bar y_x$ for a mean"),
    r"\\ell": (NEVER, "the loss of a sample is $d_i$", "write $d_i$; $l$ counts layers"),
}
# What the forms alone cannot tell: a meaning that the words or the formula around a letter give away.
TAKEN = {
    "D": r"D_\{?[lj1]\b|D_D\b|(?<![A-Za-z\\])DF|\\mathrm\{?D\}?F",
    r"\\beta": r"\\(?:d?t?frac)\{?\\beta\}?\{?[2}]|\\beta\$?-Lipschitz|\\sigma\s*=\s*\\beta(?!_)|\\beta\s*r\b",
    "m": r"\b(?:labels|annotators)\b[^$.=]{0,30}\$m\$|\$m\$ (?:labels|annotators)|\\frac\{s-1\}\{2m\}"
         r"|m\([xX]\)|(?<![A-Za-z\\])m=(?:\\mathbb )?E",
}
CHECKED = [path for path in chapters() if path.parent.name in ("foundations", "trainability")]


def texts(path):
    """The words of a chapter, cell by cell: prose as it stands, of code the lines with a formula; or a deck of slides."""
    if path.suffix == ".md":
        return [("slides", path.read_text(encoding="utf-8"))]
    return [(cell.id, cell.source if cell.cell_type == "markdown" else
             "\n".join(line for line in cell.source.split("\n") if FORMULA.search(line)))
            for cell in nbformat.read(path, 4).cells]


def clashes(text, features=False):
    """(letter, formula) of what is used in another meaning than the page of notation gives it; g alone is a map where features are."""
    for letter, (allowed, _, _) in FORMS.items():
        allowed += r"|^\$g\$$" if letter == "g" and features else ""
        alone = ("" if letter.startswith("\\") else r"(?<![A-Za-z\\])") + letter + r"(?![A-Za-z])"  # no part of a word or a command
        for formula in FORMULA.finditer(text):
            for at in re.finditer(alone, formula[0]):
                around = [found for found in re.finditer(allowed, formula[0]) if found.start() <= at.start() < found.end()]
                if not around:
                    yield letter, formula[0]
        for found in re.finditer(TAKEN.get(letter, NEVER), text):
            yield letter, found[0]


@pytest.mark.parametrize("path", [*CHECKED, ROOT / "book/practice/what-did-not-hold.ipynb", *(
    ROOT / f"book/teach/slides/{part}.md" for part in ("foundations", "trainability"))], ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_letter_has_the_meaning_of_the_notation(path):
    features = any("g(X)" in text for _, text in texts(path))
    for cell, text in texts(path):
        for letter, formula in clashes(text, features):
            if letter == r"\\ell" and path.parent.name == "foundations":
                continue  # norms have it, and a loss that no generator need make
            _, meaning, advice = FORMS[letter]
            raise AssertionError(f"Given: {formula} in {path.stem}, {cell}. Expected: one meaning a letter, {meaning}. "
                                 f"To mend it, {advice}.")


@pytest.mark.parametrize("text, letter", [
    ("where $g$ is the squared gradient", "g"), (r"bounds $\frac{\sigma}{2}\,\frac{g}{\lambda_{\max}}$", "g"),
    (r"Let $g(t)=\frac12(1-t^2)$.", "g"), (r"so $g'(t)\ge0$", "g"),
    (r"let $D_l=\mathrm{diag}\,\phi'(z_l)$", "D"), (r"with $\|DF_l\|\le b$", "D"), (r"$G_l=D_DW_D\cdots D_l$", "D"),
    (r"at most $\tfrac{\beta}{2}\|e\|^2$", r"\\beta"), (r"is $\beta$-Lipschitz", r"\\beta"), (r"as $\sigma = \beta = 1$", r"\\beta"),
    (r"write $m(x)=E[T(Y)\mid x]$", "m"), (r"and $m=\mathbb E\,T(Y)$", "m"),
    ("The entropy of $x$ and $m$ labels", "m"), (r"label=r'labels an image $m$ (log scale)'", "m"), (r"by $\frac{s-1}{2m}$", "m"),
    (r"where $\langle\nabla\ell_i,\nabla\ell_j\rangle\ge0$", r"\\ell"),
])
def test_another_meaning_is_seen(text, letter):
    assert letter in {found for found, _ in clashes(text)}


@pytest.mark.parametrize("text", [
    r"$g_x = e^\top A_xe$, $g_i\le n\hat E$, $f=h\circ g$, $\mathrm{Ent}(Y\mid g(X))$ with $g(x)$",
    r"$(1-b)^D$ and $D\ge D_0$", r"$\frac{\beta_\Phi}2r$, $2(1+\beta)m/\lambda_{\max}$", r"batches of $m$", r"layer $l$",
    r"$\log(1+t)$, $\operatorname{diag}$"])
def test_the_meanings_of_the_notation_pass(text):
    assert not list(clashes(text))


def test_the_page_of_notation_has_the_letters():
    page = (ROOT / "book/notation.md").read_text(encoding="utf-8")
    for symbol in (r"g_x =", r"U = g(X)", r"\beta_\Phi$", r"\beta,", "[$D$]", ",\\ m,"):
        assert symbol in page, f"Given: notation.md without {symbol!r}. Expected: a row for every letter of FORMS in {__file__}."
