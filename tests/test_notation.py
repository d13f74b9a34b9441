"""One symbol, one meaning: a letter of the page of notation is used in the forms that have this meaning, and in no other."""

import re

import nbformat
import pytest

from notebooks import ROOT, chapters

FORMULA = re.compile(r"\$\$[\s\S]+?\$\$|(?<![\\$])\$[^$\n]+\$")
NEVER = r"(?!)"
# letter: (the forms that it may have, as they go on behind it or begin before it, what they mean, what else it was taken for)
FORMS = {
    "g": (r"g_|g\(X|g\(x\)|\\circ g|of \}g|:g\}", "$g_x$, $g_i$: the energy of a sample; $g$, $g(x)$: a feature map",
          "write the energy with its sample, and take another letter for a function of a proof"),
    "D": (r"D", "$D$: the depth", "write $\\phi'_l$ for slopes and $\\partial F$ for a derivative"),
    r"\\beta": (r"\\beta(?!_)|\\beta_\\Phi", "$\\beta$: momentum; $\\beta_\\Phi$: the smoothness of $\\Phi$",
                "write $\\beta_\\Phi$ in front of a squared residual or an energy"),
    "m": (r"m", "$m$: the batch size", "write $n_x$ for the number of labels of one input, $n$ for that of samples, $k$ for another "
          "count, $\\bar y_x$ for a mean"),
    r"\\ell": (r"\\ell(?!_\{?[ijk]\b)", "the loss of a sample is $d_i$; $\\ell$: a loss that no generator need make, and norms",
               "write $d_i$; $l$ counts layers"),
    r"\\rho": (r"\\rho", "$\\rho$: the gradient correlation factor", "take another letter for a radius"),
}
# What the forms alone cannot tell: a meaning that the words or the formula around a letter give away.
TAKEN = {
    "D": r"\\Psi\(D\)|D\^\\top|D_\{?[lj1]\b|D_D\b|(?<![A-Za-z\\])DF|\\mathrm\{?D\}?F",
    r"\\beta": r"\\(?:d?t?frac)\{?\\beta\}?\{?[2}]|\\beta\$?-Lipschitz|\\sigma\s*=\s*\\beta(?!_)|\\beta\s*r\b",
    "m": r"\b(?:labels|annotators)\b[^$.=]{0,30}\$m\$|\$m\$ (?:labels|annotators)|\\frac\{s-1\}\{2m\}"
         r"|m\([xX]\)|(?<![A-Za-z\\])m=(?:\\mathbb )?E|F\(\\theta\)=\\frac1m|into \$m\$ equal pieces",
    r"\\rho": r"L\\rho|\\rho\^2\$|\bradius \$\\rho",
    r"\\ell": r"\\nabla\\ell_\{?[ij]",
}
GENERAL = ("foundations", "generalization")  # the parts that know no batches, and losses that no generator need make
CHECKED = [*chapters(), *(ROOT / "book/teach/assignments").glob("*.ipynb"), *(ROOT / "book/teach/slides").glob("*.md"),
           *(ROOT / "book" / page for page in ("glossary.md", "questions.md", "teach/instructor-guide.md"))]


def texts(path):
    """The words of a chapter, cell by cell: prose as it stands, of code the lines with a formula; or a page of words, such as slides."""
    if path.suffix == ".md":
        return [("the page", path.read_text(encoding="utf-8"))]
    return [(cell.id, cell.source if cell.cell_type == "markdown" else
             "\n".join(line for line in cell.source.split("\n") if FORMULA.search(line)))
            for cell in nbformat.read(path, 4).cells]


def clashes(text, features=False, general=False):
    """(letter, formula) of what has another meaning than the page of notation gives it; g alone is a map where features are. In the
    general parts, which know no batches, m has no meaning, and ℓ is a loss that no generator need make."""
    for letter, (allowed, _, _) in FORMS.items():
        allowed += r"|^\$g\$$" if letter == "g" and features else ""
        allowed = NEVER if (letter == "m" if general else letter == r"\\ell") else allowed
        alone = ("" if letter.startswith("\\") else r"(?<![A-Za-z\\])") + letter + r"(?![A-Za-z])"  # no part of a word or a command
        for formula in FORMULA.finditer(text):
            for at in re.finditer(alone, formula[0]):
                around = [found for found in re.finditer(allowed, formula[0]) if found.start() <= at.start() < found.end()]
                if not around:
                    yield letter, formula[0]
        for found in re.finditer(TAKEN.get(letter, NEVER), text):
            yield letter, found[0]


@pytest.mark.parametrize("path", CHECKED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_a_letter_has_the_meaning_of_the_notation(path):
    features = any("g(X)" in text for _, text in texts(path))
    for cell, text in texts(path):
        for letter, formula in clashes(text, features, {path.parent.name, path.stem} & {*GENERAL}):
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
    (r"$F(\theta)=\frac1m\sum_i|\theta-y_i|$", "m"), ("Cut the way into $m$ equal pieces", "m"),
    (r"So $\Psi(D)=\frac14\operatorname{tr}(D^\top HD)$", "D"), (r"at a gradient of norm $L\rho$", r"\\rho"),
    (r"In general $\Psi^*(g)=L^{1-q}\|g\|^q/q$", "g"),
])
def test_another_meaning_is_seen(text, letter):
    assert letter in {found for found, _ in clashes(text)}


@pytest.mark.parametrize("text", [
    r"Write $m_X=\mathbb E[T(Y)|X]$", "A feature with $m$ strips", "on a right one, with margin $m=6$", r"by $\sqrt{1/(2\pi m)}$",
    r"$\frac1m e^{-y/m}$", r"$\kappa_{m}=f_{(1)}$"])
def test_where_there_are_no_batches_m_has_no_meaning(text):
    assert {letter for letter, _ in clashes(text, general=True)} == {"m"}


def test_a_loss_without_a_generator_is_one_only_where_the_notation_has_it():
    text = r"a loss $\ell(y,\nu)\ge0$, strongly convex in $\ell_1$"
    assert not list(clashes(text, general=True)) and list(clashes(text))
    assert list(clashes(r"where $\langle\nabla\ell_i,\nabla\ell_j\rangle\ge0$", general=True))


@pytest.mark.parametrize("text", [
    r"$g_x = e^\top A_xe$, $g_i\le n\hat E$, $f=h\circ g$, $\mathrm{Ent}(Y\mid g(X))$ with $g(x)$",
    r"$(1-b)^D$ and $D\ge D_0$", r"$\frac{\beta_\Phi}2r$, $2(1+\beta)m/\lambda_{\max}$", r"batches of $m$", r"layer $l$",
    r"$\log(1+t)$, $\operatorname{diag}$"])
def test_the_meanings_of_the_notation_pass(text):
    assert not list(clashes(text))


def test_the_page_of_notation_has_the_letters():
    page = (ROOT / "book/notation.md").read_text(encoding="utf-8")
    for symbol in (r"g_x =", r"U = g(X)", r"\beta_\Phi$", r"\beta,", "[$D$]", ",\\ m,", r"[$\ell", r"[$\rho"):
        assert symbol in page, f"Given: notation.md without {symbol!r}. Expected: a row for every letter of FORMS in {__file__}."
