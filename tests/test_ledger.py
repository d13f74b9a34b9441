"""Every statement holds on random instances, every counterexample fails, and the ledger itself can tell the difference."""

import ast
import importlib
import inspect
import math
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from clt_utils.ledger import breaks, check, core, statements
from notebooks import ROOT, chapters


@pytest.mark.parametrize("slug", statements)
@pytest.mark.parametrize("run", [0, 1, 2])
def test_statement_holds(slug, run, seed):
    result = check(slug, seed + run)
    assert result.holds, str(result)
    assert result.worst_slack >= 0


@pytest.mark.parametrize("slug", statements)
def test_every_bound_is_nearly_attained_or_says_why_not(slug):
    """A bound 5 % better than the statement's would fail on some instance, so a wrong constant is noticed."""
    entry, result = statements[slug], check(slug, trials=None if statements[slug].draws_at_once else min(20, statements[slug].trials))
    reason = {part.name: [why for name, why in entry.loose.items() if part.name.startswith(name)] for part in result.parts}
    weak = {part.name: round(part.strength, 3) for part in result.parts if part.strength < 0.95 and not reason[part.name]}
    assert not weak, (f"Given: in `{slug}` bounds that no instance comes near; so much of each would do: {weak}. Expected: 0.95 at least. "
                      "Enter a witness with `@….witness(where)`, or say with `loose=` why there is none.")
    idle = [name for name in entry.loose if not any(part.name.startswith(name) and part.strength < 0.95 for part in result.parts)]
    assert not idle, f"Given: reasons for parts of `{slug}` that are sharp, or are not there: {idle}. Expected: none. Take them out."


@pytest.mark.parametrize("slug", [slug for slug, entry in statements.items() if entry.counterexamples])
@pytest.mark.parametrize("run", [0, 1, 2])
def test_counterexamples_fail(slug, run, seed):
    for why, result in statements[slug].broken(seed + run):
        assert not result.holds, f"{slug}: dropping «{why}» should break it"
        assert -math.inf < result.worst_slack < -1e-3, (
            f"{slug}: «{why}» breaks it only within rounding, or through ∞ or nan ({result.worst_slack}): compute a violation")


def literal_claims(source):
    """The claims of a module of the ledger that compare numbers written down, with nothing computed."""
    for call in ast.walk(ast.parse(source)):
        if isinstance(call, ast.Call) and getattr(call.func, "id", "") in ("at_least", "at_most", "identity"):
            values = call.args[1:] + [keyword.value for keyword in call.keywords if keyword.arg != "tol"]
            if not any(isinstance(node, ast.Name | ast.Call) for value in values for node in ast.walk(value)):
                yield ast.unparse(call)


def test_no_claim_compares_literals():
    assert list(literal_claims('yield at_most("freezing", 4.0, bound=2)')) == ["at_most('freezing', 4.0, bound=2)"]
    assert not list(literal_claims('yield at_most("freezing", kept, bound=2)'))
    modules = sorted((ROOT / "clt_utils/ledger").glob("*.py"))
    found = [f"{path.name}: {claim}" for path in modules for claim in literal_claims(path.read_text(encoding="utf-8"))]
    assert not found, f"Given: claims between numbers that somebody wrote down: {found}. Expected: each computed by what it is about."


@pytest.mark.parametrize("slug", statements)
def test_entry_is_complete(slug):
    entry = statements[slug]
    assert entry.title and entry.assumptions and entry.chapter
    assert entry.kind in {"theorem", "lemma", "proposition", "definition", "principle", "corollary"}


def test_the_ledger_has_the_order_of_the_book():
    labels = [label for path in chapters() for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"
              for label in re.findall(r"^:label:\s*(\S+)", cell.source, re.M) if label in statements]
    first = next((here for here, there in zip(statements, labels) if here != there), None)
    chapter = [label for label in labels if first and statements[label].chapter == statements[first].chapter]
    assert first is None, (
        f"Given: the entry `{first}` out of place in clt_utils/ledger. Expected: files in the order of _toc.yml (`ledger/__init__.py`), "
        f"in each file the entries in the order of the chapter, here {chapter}.")


@pytest.mark.parametrize("slug", statements)
def test_an_entry_is_in_the_file_of_its_chapter(slug):
    file, chapter = Path(inspect.getsourcefile(statements[slug].run)), statements[slug].chapter
    expected = Path(chapter).name.replace("-", "_")
    assert file.stem == expected, f"Given: `{slug}` of the chapter {chapter} in {file.name}. Expected: in clt_utils/ledger/{expected}.py."


@pytest.mark.parametrize("slug", statements)
def test_an_entry_draws_from_its_own_generator_only(slug):
    seen = []
    for stream in (1, 2):
        torch.manual_seed(stream)
        results = [*(broken.result for broken in breaks(slug)), check(slug, 0, trials=2)]
        seen.append([part.worst_slack for result in results for part in result.parts])
    assert seen[0] == pytest.approx(seen[1], rel=0, abs=1e-9, nan_ok=True), (
        f"Given: `{slug}` gives other numbers after `torch.manual_seed`. Expected: the same from the same seed. What to do: "
        "`torch.manual_seed(int(rng.integers(2**31)))` before a network or a `torch.distributions` law draws.")


def test_identity_sees_a_small_error():
    assert core.identity("x", np.ones(3), np.ones(3)).slack >= 0
    assert core.identity("x", np.ones(3), np.ones(3) + 1e-6).slack < 0


def test_inequality_sees_a_violation_a_nan_and_the_worst_entry():
    assert core.at_most("x", [1.0, 2.0], [1.0, 2.0]).slack >= 0
    assert core.at_most("x", [1.0, 2.1], [1.0, 2.0]).slack < 0
    assert core.at_least("x", [1.0, 1.9], [1.0, 2.0]).slack < 0
    assert core.at_most("x", [math.nan], [1.0]).slack < 0
    assert core.at_most("x", [5.0], [math.inf]).slack > 0
    assert core.at_least("x", [5.0], [math.inf]).slack < 0
    assert core.at_most("x", [2.0], [6.0]).tightness == pytest.approx(3.0)


def test_rate_sees_a_wrong_slope():
    x = np.geomspace(1, 100, 20)
    noise = np.exp(np.random.default_rng(0).normal(0, 0.02, 20))
    assert core.rate("x", x, x**-0.5 * noise, slope=-0.5).slack >= 0
    assert core.rate("x", x, x**-0.5 * noise, slope=-1.0).slack < 0


def test_coverage_sees_too_few_hits():
    assert core.coverage("x", 950, 1000, at_least=0.95).slack >= 0
    assert core.coverage("x", 900, 1000, at_least=0.95).slack < 0


def test_strength_is_the_share_of_a_bound_that_would_pass():
    assert core.at_most("x", [1.0, 3.0], [4.0, 4.0]).strength == 0.75 and core.at_least("x", [4.0, 5.0], [3.0, 1.0]).strength == 0.75
    assert core.at_most("x", -4.0, -3.0).strength == 0.75 and core.at_least("x", -3.0, -4.0).strength == 0.75
    assert core.at_most("x", -1.0, 3.0).strength == 0 and core.at_most("x", 0.0, 3.0).strength == 0
    assert math.isnan(core.at_least("x", 1.0, 0.0).strength) and math.isnan(core.at_most("x", 1.0, math.inf).strength)
    assert math.isnan(core.at_most("x", 1e-9, 2e-9, unit=1.0).strength) and math.isnan(core.identity("x", 1.0, 1.0).strength)


def test_rounding_is_measured_by_the_unit():
    assert core.at_least("x", 1e-9, 1.5e-9).slack < 0 <= core.at_least("x", 1e-9, 1.5e-9, unit=1.0).slack
    assert core.at_least("x", 1e-9, 1.5e-9, unit=1e-3).slack < 0 and core.at_most("x", 2.0, 1.0, unit=0.5).slack < 0


def test_rarely_sees_a_tail_that_is_too_heavy_and_knows_by_how_much_it_is_not():
    tail = lambda t: math.exp(-2 * t)
    claim = core.rarely("x", tail, delta=0.5)
    assert claim.slack > 0 and claim.strength == pytest.approx(math.log(2) / 2) and claim.tightness == pytest.approx(1 / claim.strength)
    assert core.rarely("x", tail, delta=0.1).slack < 0 and core.rarely("x", tail, delta=math.exp(-2)).slack >= 0


def test_a_witness_counts_for_the_verdict_and_for_strength_but_not_for_tightness():
    entry = core.Statement("x", "x", "lemma", "", ("none",), "x", run=lambda rng: iter([core.at_most("upper", 1.0, 2.0)]), trials=3)
    assert entry.check(0).strength == 0.5
    entry.witness("nearly there")(lambda rng: iter([core.at_most("upper", 1.9, 2.0)]))
    result = entry.check(0)
    assert result.holds and result.strength == 0.95 and result.tightness == 2.0 and result.trials == 3
    entry.witness("beyond")(lambda rng: iter([core.at_most("upper", 2.1, 2.0)]))
    assert not entry.check(0).holds


WRONG = {  # statements that are false, or stronger than what is proved: constants that passed before there were witnesses
    "generalization-tail": ("probabilistic_bounds", "generalization_tail", lambda f: lambda *a: 0.5 * f(*a)),
    "fixed-predictor-tail": ("probabilistic_bounds", "fixed_predictor_tail", lambda f: lambda *a: 0.6 * f(*a)),
    "generalization-range": ("deterministic_bounds", "generalization_range", lambda f: lambda gamma, *a: f(0.9 * gamma, *a)),
    "width-near-isometry": ("architecture", "near_isometry_bounds", lambda f: lambda K, P: tuple(1 + (x - 1) / 2 for x in f(K, P))),
    "risk-sandwich": ("gradient_energy", "risk_bounds", lambda f: lambda *a: (f(*a)[0], 0.7 * f(*a)[1])),
    "excess-risk": ("deterministic_bounds", "_excess", lambda f: lambda *a: 0.6**2 * f(*a)),
}


@pytest.mark.parametrize("slug", WRONG)
def test_a_wrong_constant_is_noticed(slug, monkeypatch):
    module, name, wrong = WRONG[slug]
    module = importlib.import_module(f"clt_utils.ledger.{module}")
    assert check(slug, trials=None if statements[slug].draws_at_once else 5).holds
    monkeypatch.setattr(module, name, wrong(getattr(module, name)))
    assert not check(slug, trials=None if statements[slug].draws_at_once else 5).holds


def test_unknown_slug_names_the_closest():
    with pytest.raises(ValueError, match="residual-sandwich"):
        check("residual-sandwhich")


def test_a_check_without_claims_is_an_error():
    entry = core.Statement("x", "x", "lemma", "", ("none",), "x", run=lambda rng: iter(()))
    with pytest.raises(ValueError, match="no claim"):
        entry.check(0)


def test_counterexamples_print_one_below_the_other():
    both = breaks("head-floor")
    assert len(both) == 2 and str(both) == f"{both[0]}\n{both[1]}"


def test_same_seed_same_result():
    assert check("residual-sandwich", 7) == check("residual-sandwich", 7)
