"""What a statement is, and what it means to check one: typed claims, collected over random trials.

An entry is a generator function that draws one random instance and yields *claims* about it::

    @statement("residual-sandwich", "The residual lies between two energy ratios", kind="theorem",
               paper="Theorem 10, part", assumptions=("λ_min(A_x) > 0",), chapter="trainability/gradient-energy")
    def residual_sandwich(rng):
        ...
        yield at_least("lower", residual, bound=energy / lam_max)
        yield at_most("upper", residual, bound=energy / lam_min)

    @residual_sandwich.breaks("A singular matrix: the smallest *nonzero* eigenvalue does not do")
    def _(rng):
        ...
        yield at_most("upper", residual, bound=energy / smallest_nonzero)

The check runs the function many times and every claim must hold; the counterexample drops an assumption and at least
one of its claims must fail. What a pass means, and what it does not prove, is said by type in ``A_PASS_MEANS``.

Random instances seldom come close to a bound, so a wrong constant could pass. A *witness* is an instance that does, and the
check runs it too::

    @residual_sandwich.witness("A residual along one eigenvector: the sides meet their bounds")
    def _(rng):
        ...
        yield at_most("upper", residual, bound=energy / lam_min)

How wrong a constant may be before the check notices is its *strength*, see ``Part``.
"""

import difflib
import html
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from .._checks import require, require_integer, require_kind

Seed = int | np.random.Generator

statements: dict[str, "Statement"] = {}
"""Every statement of the book by its slug, in the order of the book."""

A_PASS_MEANS = {
    "identity": "agreement on random instances up to rounding; not the identity for all",
    "inequality": "no violation on the instances drawn; a rare one may exist",
    "rate": "the slope over the range measured; not the limit",
    "probability": "coverage within a binomial interval; not the exact probability",
}


@dataclass(frozen=True)
class Claim:
    """One typed claim about one instance.

    Attributes:
        name: Which part of the statement ("lower", "upper", ...).
        kind: "identity", "inequality", "rate" or "probability".
        slack: How far the claim is from failing, relative; the claim holds iff ``slack >= 0``.
        tightness: bound ÷ actual value; 1 is equality, nan where there is no bound to compare.
        strength: The share of the bound, in [0, 1], that this instance would forgive: a wrong bound between it and 1 passes here.
            nan where there is no constant to get wrong.

    Example:
        >>> from clt_utils.ledger.core import at_most
        >>> claim = at_most("upper", 1.0, bound=2.0)
        >>> claim.kind, claim.slack >= 0, claim.tightness
        ('inequality', True, 2.0)
    """

    name: str
    kind: str
    slack: float
    tightness: float = math.nan
    strength: float = math.nan


def identity(name: str, left: Any, right: Any, tol: float = 1e-08) -> Claim:
    """``left == right`` up to the relative error ``tol`` (float64; largest entry sets the scale).

    Args:
        name: Which part of the statement this is.
        left, right: Numbers, arrays or tensors.
        tol: How far they may be apart.

    Returns:
        A ``Claim``.

    Example:
        >>> identity("sum", 0.1 + 0.2, 0.3).slack >= 0, identity("sum", 0.1 + 0.2, 0.4).slack >= 0
        (True, False)
    """
    left, right = _array(left), _array(right)
    scale = max(np.abs(left).max(), np.abs(right).max(), 1e-300)
    return Claim(name, "identity", float(tol - np.abs(left - right).max() / scale), 1.0)


def at_most(name: str, value: Any, bound: Any, tol: float = 1e-09, unit: float = 0.0) -> Claim:
    """``value <= bound`` entrywise; the worst entry counts.

    Args:
        name: Which part of the statement this is.
        value, bound: Numbers, arrays or tensors that broadcast.
        tol: The relative rounding error that is forgiven.
        unit: Rounding is relative to at least this: the size of what was subtracted to get there.

    Returns:
        A ``Claim``.

    Example:
        >>> claim = at_most("upper", [1.0, 3.0], bound=[4.0, 4.0])
        >>> round(claim.tightness, 3), claim.strength  # of the worst entry: three quarters of the bound would do
        (1.333, 0.75)
    """
    return _inequality(name, value, bound, tol, unit, sign=1)


def at_least(name: str, value: Any, bound: Any, tol: float = 1e-09, unit: float = 0.0) -> Claim:
    """``value >= bound`` entrywise; the worst entry counts.

    Args:
        name, value, bound, tol, unit: As in ``at_most``.

    Returns:
        A ``Claim``.

    Example:
        >>> at_least("lower", 1.0, bound=2.0).slack >= 0
        False
    """
    return _inequality(name, value, bound, tol, unit, sign=-1)


def _inequality(name: str, value: Any, bound: Any, tol: float, unit: float, sign: int) -> Claim:
    value, bound = np.broadcast_arrays(_array(value), _array(bound))
    finite = np.isfinite(bound)
    larger = np.maximum(np.abs(value), np.abs(np.where(finite, bound, 0)))
    scale = np.where(finite, np.maximum(larger, max(unit, 1e-300)), 1.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        slack = sign * (bound - value) / scale + tol
        tightness = bound / value
        share = np.clip(np.minimum(value / bound, bound / value), 0, 1)
    slack = np.where(np.isnan(slack), -np.inf, slack)  # a NaN is never a pass
    worst = int(slack.argmin())
    tells = finite & (np.abs(bound) > 1e-6 * unit) & (bound != 0)  # of zero, and of what rounding drowns, no multiple is wrong
    strength = float(np.where(value == 0, 0.0, share)[tells].max()) if tells.any() else math.nan
    return Claim(name, "inequality", float(slack.flat[worst]), float(tightness.flat[worst]), strength)


def rate(name: str, x: Any, y: Any, slope: float, tol: float = 0.0, confidence: float = 0.99) -> Claim:
    """The slope of log y against log x is ``slope``: its confidence interval, widened by ``tol``, contains it.

    Args:
        name: Which part of the statement this is.
        x, y: Positive numbers, (n,) each, n ≥ 3.
        slope: What the statement says.
        tol: By how much the interval is widened.
        confidence: Of the interval.

    Returns:
        A ``Claim``.

    Example:
        >>> n = np.array([10, 100, 1000])
        >>> rate("1/√n", n, 3 / np.sqrt(n), slope=-0.5, tol=1e-6).slack >= 0
        True
    """
    fit = stats.linregress(np.log(_array(x)), np.log(_array(y)))
    half = stats.t.ppf(0.5 + confidence / 2, len(_array(x)) - 2) * fit.stderr + tol
    return Claim(name, "rate", float(half - abs(fit.slope - slope)), float(fit.slope / slope) if slope else math.nan)


def coverage(name: str, hits: int, draws: int, at_least: float, confidence: float = 0.999) -> Claim:
    """An event that must have probability ``at_least`` was seen ``hits`` times in ``draws``.

    Args:
        name: Which part of the statement this is.
        hits: How often the event was seen.
        draws: How often it could have been.
        at_least: The probability that the statement promises.
        confidence: Of the interval.

    Returns:
        A ``Claim``, which fails only if the exact (Clopper–Pearson) upper confidence limit lies below ``at_least``.

    Example:
        >>> coverage("95 %", hits=93, draws=100, at_least=0.95).slack >= 0, coverage("95 %", 80, 100, 0.95).slack >= 0
        (True, False)
    """
    upper = 1.0 if hits == draws else stats.beta.ppf(confidence, hits + 1, draws - hits)
    return Claim(name, "probability", float(upper - at_least), float(at_least / max(hits / draws, 1e-300)))


def rarely(name: str, tail: Callable[[float], float], delta: float, tol: float = 1e-9) -> Claim:
    """A bound is exceeded with probability at most ``delta``, where that probability is known exactly.

    Args:
        name: Which part of the statement this is.
        tail: The probability that the value exceeds t times the bound, a function of t that does not grow.
        delta: The probability with which the bound may fail.
        tol: The relative rounding error that is forgiven.

    Returns:
        A ``Claim``; it knows with what share of the bound the probability would still be ``delta`` at most.

    Example:
        >>> claim = rarely("a standard normal number beyond √(2 ln 1/δ)", lambda t: stats.norm.sf(t * 1.7941), delta=0.2)
        >>> claim.slack >= 0, round(claim.strength, 3)
        (True, 0.469)
    """
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (low, middle) if tail(middle) <= delta * (1 + tol) else (middle, high)
    return Claim(name, "probability", float(1 - tail(1.0) / delta + tol), 1 / high, high)


def _array(x: Any) -> np.ndarray:
    x = x.detach().cpu().numpy() if hasattr(x, "detach") else x
    return np.atleast_1d(np.asarray(x, dtype=float))


Run = Callable[..., Iterator[Claim]]  # run(rng), or run(rng, trials) with ``draws_at_once``


@dataclass(frozen=True)
class Part:
    """What the trials and the witnesses say about one named part of a statement.

    Attributes:
        name, kind: As in ``Claim``.
        holds, worst_slack: Over trials and witnesses.
        tightness: bound ÷ actual value, median over trials.
        strength: How wrong the constant may be before the check notices: the smallest share of the bound that would still have
            passed. 1 if any stronger bound fails on some instance; nan without a constant.

    Example:
        >>> check("residual-sandwich", trials=5).parts[0].name
        'lower'
    """

    name: str
    kind: str
    holds: bool
    worst_slack: float
    tightness: float
    strength: float = math.nan


@dataclass(frozen=True, repr=False)
class Result:
    """The outcome of a check or of a counterexample.

    Attributes:
        slug: The statement.
        holds: Whether every claim of every trial and witness held.
        worst_slack: The smallest relative slack over trials, witnesses and parts; negative iff something failed.
        tightness: bound ÷ actual of the loosest part (the one farthest from 1), median over trials; nan if no part has one.
        trials: How many random instances were drawn.
        parts: The same part by part.
        strength: Of the weakest part, see ``Part``; nan if no part has one.

    Example:
        >>> result = check("residual-sandwich", trials=5)
        >>> result.holds, result.trials
        (True, 5)
    """

    slug: str
    holds: bool
    worst_slack: float
    tightness: float
    trials: int
    parts: tuple[Part, ...]
    strength: float = math.nan

    def __str__(self) -> str:
        lines = [f"{self.slug}: {'holds' if self.holds else 'FAILS'} in {self.trials} trial{'s' * (self.trials != 1)}"]
        width = max(len(p.name) for p in self.parts)
        for p in self.parts:
            lines.append(f"  {p.name:{width}s}  {p.kind:11s}  {'holds' if p.holds else 'FAILS'}")
        return "\n".join(lines)

    __repr__ = __str__

    def _repr_html_(self) -> str:
        """A table, one row a part: verdict and tightness with a meter; below it what a pass means."""
        rows = "".join(
            f"<tr><th scope='row'>{html.escape(p.name)}</th><td>{p.kind}</td><td>{'holds' if p.holds else '<strong>fails</strong>'}</td>"
            f"<td>{_meter(p.tightness)}</td></tr>" for p in self.parts)
        caveats = ". ".join(f"{kind.capitalize()}: {A_PASS_MEANS[kind]}" for kind in dict.fromkeys(p.kind for p in self.parts))
        return (f"<table class='clt-check'><caption>{self.slug}, {self.trials} trial{'s' * (self.trials != 1)}</caption><thead><tr>"
                "<th scope='col'>part</th><th scope='col'>kind</th><th scope='col'>verdict</th><th scope='col'>bound ÷ actual, median</th>"
                f"</tr></thead><tbody>{rows}</tbody></table><p><small>What a pass means. {caveats}.</small></p>")


def _meter(tightness: float) -> str:
    """The ratio in figures, and a bar that is full when bound and actual value agree and halves with every factor e."""
    if not math.isfinite(tightness):
        return "no bound to compare"
    full = 2 ** -abs(math.log(tightness)) if tightness > 0 else 0.0
    return (f"<span aria-hidden='true' style='display:inline-block;width:5em;height:.6em;border:1px solid currentColor'>"
            f"<span style='display:block;height:100%;width:{100 * full:.0f}%;background:currentColor'></span></span> {tightness:.2g}")


class Broken(NamedTuple):
    """What a counterexample drops, and the outcome, whose ``holds`` must be False.

    Example:
        >>> broken = breaks("residual-sandwich")[0]
        >>> broken.result.holds
        False
    """

    why: str
    result: Result

    def __str__(self) -> str:
        failed = ", ".join(p.name for p in self.result.parts if not p.holds)
        return f"{self.why}\n  -> {'FAILS: ' + failed if failed else 'still holds'}"


class Breaks(list[Broken]):
    """The counterexamples of a statement; printed, one below the other.

    Example:
        >>> any(broken.result.holds for broken in breaks("residual-sandwich"))
        False
    """

    def __str__(self) -> str:
        return "\n".join(map(str, self))


@dataclass(frozen=True)
class Statement:
    """A statement of the book: the thread from theorem to proof, code and test.

    Attributes:
        slug: Its one name: label in the chapter, key here, id of its test.
        title: A short sentence in words.
        kind: "theorem", "lemma", "proposition", "definition", "principle" or "corollary".
        paper: Where the paper has it ("Theorem 10"), or "" if it is not in the paper.
        assumptions: Each assumption in words.
        chapter: The page that proves it, relative to ``book/``, without suffix.
        trials: How many random instances its check draws.
        draws_at_once: Whether one call of ``run`` draws them all.
        run: Generator of claims about random instances.
        words: Fingerprint of the statement as the chapter has it, when its check was last read beside it.
        counterexamples: (what is dropped, generator of claims of which one must fail).
        witnesses: (where the bounds are nearly attained, generator of claims about that instance).
        loose: Why a part is not sharp, by its name or what several begin with: no known instance comes within 5 % of its bound.

    Example:
        >>> entry = statements["residual-sandwich"]
        >>> entry.title, entry.check(0, trials=5).holds
        ('The residual lies between two energy ratios', True)
    """

    slug: str
    title: str
    kind: str
    paper: str
    assumptions: tuple[str, ...]
    chapter: str
    run: Run
    trials: int = 200
    draws_at_once: bool = False
    words: str = ""
    counterexamples: list[tuple[str, Run]] = field(default_factory=list)
    witnesses: list[tuple[str, Run]] = field(default_factory=list)
    loose: dict[str, str] = field(default_factory=dict)

    def check(self, rng: Seed, trials: int | None = None) -> Result:
        """Run the statement on ``trials`` random instances drawn from ``rng`` (numpy Generator or seed), and its witnesses -> Result."""
        trials = self.trials if trials is None else trials
        require_integer("trials", trials, 1)
        rng = _random(rng)
        drawn = list(self.run(rng, trials)) if self.draws_at_once else [claim for _ in range(trials) for claim in self.run(rng)]
        return self._result(drawn, trials, [claim for _, run in self.witnesses for claim in run(rng)])

    @property
    def counterexample(self) -> Callable[..., Result] | None:
        """``counterexample(rng) -> Result`` of the first counterexample (``holds`` is False), or None."""
        return (lambda rng=0: self.broken(rng)[0][1]) if self.counterexamples else None

    def broken(self, rng: Seed = 0) -> Breaks:
        """Run every counterexample -> list of ``Broken(why, result)``; no ``result`` may hold."""
        rng = _random(rng)
        return Breaks(Broken(why, self._result(list(run(rng)), 1)) for why, run in self.counterexamples)

    def breaks(self, why: str) -> Callable[[Run], Run]:
        """Decorator: register a counterexample that drops what ``why`` names."""
        def enter(run: Run) -> Run:
            self.counterexamples.append((why, run))
            return run
        return enter

    def witness(self, where: str, loose: Mapping[str, str] | None = None) -> Callable[[Run], Run]:
        """Decorator: register an instance on which bounds are nearly attained.

        Args:
            where: The instance in words.
            loose: For parts that are not sharp, by name or what several begin with, why not; the instance is then the best known.

        Returns:
            What registers the generator of claims.
        """
        def enter(run: Run) -> Run:
            self.witnesses.append((where, run))
            self.loose.update(loose or {})
            return run
        return enter

    def _result(self, claims: list[Claim], trials: int, witnessed: Sequence[Claim] = ()) -> Result:
        require(claims, f"no claim from the check of `{self.slug}`", "at least one claim", "A check that claims nothing proves nothing.")
        parts = []
        for name in dict.fromkeys(c.name for c in [*claims, *witnessed]):
            mine, near = ([c for c in some if c.name == name] for some in (claims, witnessed))
            ratios = [c.tightness for c in mine or near if math.isfinite(c.tightness)]
            worst = min(c.slack for c in mine + near)
            strength = max((c.strength for c in mine + near if not math.isnan(c.strength)), default=math.nan)
            parts.append(Part(name, (mine or near)[0].kind, worst >= 0, worst, float(np.median(ratios)) if ratios else math.nan, strength))
        rated = [p.tightness for p in parts if math.isfinite(p.tightness)]
        loosest = max(rated, key=lambda t: abs(math.log(t)) if t > 0 else math.inf, default=math.nan)
        worst = min(p.worst_slack for p in parts)
        weakest = min((p.strength for p in parts if not math.isnan(p.strength)), default=math.nan)
        return Result(self.slug, worst >= 0, worst, loosest, trials, tuple(parts), weakest)


def statement(slug: str, title: str, *, kind: str, assumptions: Sequence[str], chapter: str, paper: str = "", trials: int = 200,
              draws_at_once: bool = False, words: str = "") -> Callable[[Run], Statement]:
    """Decorator: enter a statement into the ledger; the function draws an instance from ``rng`` and yields claims.

    Args:
        slug: Its one name.
        title: A short sentence in words.
        kind: "theorem", "lemma", "proposition", "definition", "principle" or "corollary".
        assumptions: Each in words.
        chapter: The page that proves it, relative to ``book/``, without suffix.
        paper: Where the paper has it, or "".
        trials: How many random instances its check draws.
        draws_at_once: The function is called once as ``run(rng, trials)`` (rates and coverages need all draws).
        words: Fingerprint of the statement in the chapter: a test asks for it anew when the statement's words change.

    Returns:
        What turns the function into a ``Statement``.

    Raises:
        ValueError: If the ledger has an entry of that name.

    Example:
        >>> @statement("one-below-two", "One lies below two", kind="lemma", assumptions=(), chapter="intro")
        ... def one_below_two(rng):
        ...     yield at_most("upper", 1, bound=2)
        >>> one_below_two.check(0, trials=1).holds
        True
        >>> statements.pop("one-below-two").title  # it was only an example
        'One lies below two'
    """
    def enter(run: Run) -> Statement:
        require(slug not in statements, f"a second entry `{slug}`", "one entry a slug")
        statements[slug] = Statement(slug, title, kind, paper, tuple(assumptions), chapter, run, trials, draws_at_once, words)
        return statements[slug]
    return enter


def check(slug: str, seed: int = 0, trials: int | None = None) -> Result:
    """Check one statement on random instances.

    Args:
        slug: The statement's name, e.g. "risk-sandwich".
        seed: Seed of the instances.
        trials: How many; the entry's own number by default.

    Returns:
        A ``Result``; print it for one line a part.

    Raises:
        ValueError: On a name that is not in the ledger, with the closest ones.

    Example:
        >>> print(check("residual-sandwich", trials=5))
        residual-sandwich: holds in 5 trials
          lower  inequality   holds
          upper  inequality   holds
    """
    return _find(slug).check(seed, trials)


def breaks(slug: str, seed: int = 0) -> Breaks:
    """Run the counterexamples of one statement: each drops an assumption, and the conclusion must fail.

    Args:
        slug: The statement's name, e.g. "risk-sandwich".
        seed: Seed of the instances.

    Returns:
        A list of ``Broken(why, result)``; print it.

    Raises:
        ValueError: On a name that is not in the ledger, with the closest ones.

    Example:
        >>> print(breaks("residual-sandwich"))
        A_x singular: the smallest nonzero eigenvalue does not replace λ_min, a residual in the kernel has no energy
          -> FAILS: upper
    """
    return _find(slug).broken(seed)


def _random(seed: Seed) -> np.random.Generator:
    if not isinstance(seed, np.random.Generator):
        require_integer("seed", seed, 0)
    return np.random.default_rng(seed)


def _find(slug: str) -> Statement:
    require_kind("slug", slug, str, "a slug of the ledger", "See `clt_utils.ledger.statements`.")
    close = difflib.get_close_matches(slug, statements, 3)
    require(slug in statements, f"the name {slug!r}", "a slug of the ledger",
            f"Did you mean {', '.join(close)}?" if close else "See `clt_utils.ledger.statements`.")
    return statements[slug]
