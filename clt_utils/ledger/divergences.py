"""Divergences: how far two distributions are apart, in KL, χ² and plain distance."""

import numpy as np
from scipy import optimize, special

from ..bounds import ce_bounds_from_residual, chi_squared, kl_upper_bound
from .core import at_least, at_most, identity, statement

CHAPTER = "foundations/divergences"


def random_distribution(rng, K):
    """A point of the simplex, (K,), from nearly a vertex to nearly uniform; no entry below 1e-6."""
    p = rng.dirichlet(np.full(K, 10 ** rng.uniform(-1, 1)))
    return (p + 1e-6) / (1 + 1e-6 * K)


@statement("pinsker", "KL is at least half the squared ℓ₁ distance", kind="lemma", paper="Lemma 6",
           assumptions=("p, q probability vectors",), chapter=CHAPTER, words="367bbd28")
def pinsker(rng):
    K = int(rng.integers(2, 12))
    p, q = random_distribution(rng, K), random_distribution(rng, K)
    yield at_least("KL ≥ ½‖p−q‖₁²", special.rel_entr(p, q).sum(), 0.5 * np.abs(p - q).sum() ** 2)


@pinsker.witness("Two nearly fair coins")
def _(rng):
    p, q = np.array([0.51, 0.49]), np.array([0.49, 0.51])
    yield at_least("KL ≥ ½‖p−q‖₁²", special.rel_entr(p, q).sum(), 0.5 * np.abs(p - q).sum() ** 2)


@pinsker.breaks("Not normalized: the KL of positive vectors (with −p+q) grows slower than the squared distance")
def _(rng):
    p, q = rng.uniform(5, 10, 3), rng.uniform(0.5, 1, 3)
    yield at_least("KL ≥ ½‖p−q‖₁²", special.kl_div(p, q).sum(), 0.5 * np.abs(p - q).sum() ** 2)


@statement("pinsker-euclidean", "KL is at least the squared Euclidean distance, with constant one", kind="corollary",
           assumptions=("p, q probability vectors (their difference sums to zero)",), chapter=CHAPTER, words="cfcb3b97")
def pinsker_euclidean(rng):
    K = int(rng.integers(2, 12))
    p, q = random_distribution(rng, K), random_distribution(rng, K)
    yield at_least("‖p−q‖₁² ≥ 2‖p−q‖₂²", np.abs(p - q).sum() ** 2, 2 * np.square(p - q).sum())
    yield at_least("KL ≥ ‖p−q‖₂²", special.rel_entr(p, q).sum(), np.square(p - q).sum())


@pinsker_euclidean.witness("Two nearly fair coins")
def _(rng):
    p, q = np.array([0.51, 0.49]), np.array([0.49, 0.51])
    yield at_least("‖p−q‖₁² ≥ 2‖p−q‖₂²", np.abs(p - q).sum() ** 2, 2 * np.square(p - q).sum())
    yield at_least("KL ≥ ‖p−q‖₂²", special.rel_entr(p, q).sum(), np.square(p - q).sum())


@pinsker_euclidean.breaks("The difference does not sum to zero: ‖d‖₁² ≥ 2‖d‖₂² is false for a single coordinate")
def _(rng):
    d = np.array([rng.uniform(0.5, 2), 0.0, 0.0])
    yield at_least("‖p−q‖₁² ≥ 2‖p−q‖₂²", np.abs(d).sum() ** 2, 2 * np.square(d).sum())


@pinsker_euclidean.breaks("A constant above one: two nearly equal coins violate KL ≥ 1.1‖p−q‖²")
def _(rng):
    step = rng.uniform(0.01, 0.1)
    p, q = np.array([0.5 + step, 0.5 - step]), np.array([0.5, 0.5])
    yield at_least("KL ≥ 1.1‖p−q‖₂²", special.rel_entr(p, q).sum(), 1.1 * np.square(p - q).sum())


def smallest_kl(tv):
    """The smallest KL(p‖q) at total variation ``tv`` in [0, 1), and the q₁ of the two-entry pair p = q + (tv, −tv) that has it."""
    def binary(b):
        return special.rel_entr(b + tv, b) + special.rel_entr(1 - b - tv, 1 - b)

    best = optimize.minimize_scalar(binary, bounds=(0, 1 - tv), method="bounded", options={"xatol": 1e-12})
    return float(best.fun), float(best.x)


def _frontier_curve(s):
    """The same curve by the formula of Fedotov, Harremoës and Topsøe: (total variation, KL) at the parameter s > 0."""
    coth = 1 / np.tanh(s)
    return 0.5 * s * (1 - (coth - 1 / s) ** 2), np.log(s / np.sinh(s)) + s * coth - (s / np.sinh(s)) ** 2


def _pair_at(distance, K):
    """A pair of distributions with K entries on the frontier at this Euclidean distance: two entries, and zeros."""
    tv = distance / np.sqrt(2)
    b, zeros = smallest_kl(tv)[1], np.zeros(K - 2)
    return np.array([b + tv, 1 - b - tv, *zeros]), np.array([b, 1 - b, *zeros])


def _above_the_frontier(name, p, q, scale=np.sqrt(2)):
    yield at_least(name, special.kl_div(p, q).sum(), smallest_kl(min(np.linalg.norm(p - q) / scale, 1 - 1e-9))[0])


@statement("euclidean-frontier", "The exact frontier of KL over the Euclidean distance is that of two classes", kind="theorem",
           assumptions=("p, q probability vectors with K ≥ 2 entries",), chapter=CHAPTER, trials=60, words="4138c7d9")
def euclidean_frontier(rng):
    K, distance = int(rng.integers(2, 12)), rng.uniform(0.1, 1.3)
    p, q = random_distribution(rng, K), random_distribution(rng, K)
    yield from _above_the_frontier("KL ≥ V(d/√2)", p, q)
    best = _pair_at(distance, K)
    yield identity("attained by two entries", special.rel_entr(*best).sum(), smallest_kl(distance / np.sqrt(2))[0])
    near = [(1 - mix) * x + mix * random_distribution(rng, K) for x in best for mix in [10.0 ** rng.uniform(-4, -1)]]
    yield from _above_the_frontier("KL ≥ V(d/√2), close to it", *near)
    yield at_least("TV ≥ d/√2", 0.5 * np.abs(p - q).sum(), np.linalg.norm(p - q) / np.sqrt(2))
    yield at_most("V increases", smallest_kl(distance / np.sqrt(2))[0], smallest_kl(1.01 * distance / np.sqrt(2))[0])
    tv, kl = _frontier_curve(10.0 ** rng.uniform(-1, 1))
    yield identity("V in parametric form", smallest_kl(tv)[0], kl, tol=1e-7)
    yield at_least("above d²", smallest_kl(distance / np.sqrt(2))[0], distance**2)


@euclidean_frontier.witness("Two entries and zeros, close to the best pair; d² where they are close to each other")
def _(rng):
    near = [0.9999 * x + 0.0001 / 4 for x in _pair_at(rng.uniform(0.2, 1.2), 4)]
    yield from _above_the_frontier("KL ≥ V(d/√2)", *near)
    yield at_least("TV ≥ d/√2", 0.5 * np.abs(near[0] - near[1]).sum(), np.linalg.norm(near[0] - near[1]) / np.sqrt(2))
    yield at_least("above d²", smallest_kl(0.2 / np.sqrt(2))[0], 0.2**2)


@euclidean_frontier.breaks("Not normalized: one entry alone may differ, and the KL (with −p+q) of large entries is small")
def _(rng):
    q = rng.uniform(1, 2, 3)
    yield from _above_the_frontier("KL ≥ V(d/√2)", q + [rng.uniform(0.5, 1), 0, 0], q)


@euclidean_frontier.breaks("V(d) in place of V(d/√2): the total variation may be smaller than the Euclidean distance")
def _(rng):
    yield from _above_the_frontier("KL ≥ V(d)", *_pair_at(rng.uniform(0.2, 0.9), int(rng.integers(2, 6))), scale=1)


@euclidean_frontier.breaks("«Any number of classes» for one entry: with the other difference spread over many, the frontier is not reached")
def _(rng):
    b, K, tv = smallest_kl(0.5)[1], 6, 0.5
    p, q = (np.array([x, *np.full(K - 1, (1 - x) / (K - 1))]) for x in (b + tv, b))
    yield identity("attained", special.rel_entr(p, q).sum(), smallest_kl(np.linalg.norm(p - q) / np.sqrt(2))[0])


@statement("kl-upper-bound", "KL is at most log(1+χ²), χ², and the squared distance over the smallest probability",
           kind="lemma", paper="Lemma 5", assumptions=("p, q probability vectors", "q > 0 in every entry"), chapter=CHAPTER,
           words="9996b6ca")
def kl_upper(rng):
    K = int(rng.integers(2, 12))
    p, q = random_distribution(rng, K), random_distribution(rng, K)
    chi2 = chi_squared(p, q)
    yield at_most("KL ≤ log(1+χ²)", special.rel_entr(p, q).sum(), np.log1p(chi2))
    yield at_most("log(1+χ²) ≤ χ²", np.log1p(chi2), chi2)
    yield at_most("χ² ≤ ‖p−q‖²/min q", chi2, kl_upper_bound(p, q))


@kl_upper.witness("p is q given an event: certain, nearly certain; q uniform")
def _(rng):
    p, q = np.array([0.4, 0.6, 0.0]), np.array([0.2, 0.3, 0.5])
    yield at_most("KL ≤ log(1+χ²)", special.rel_entr(p, q).sum(), np.log1p(chi_squared(p, q)))
    q = np.array([0.4, 0.6, 0.0]) * 0.99 + np.array([0.0, 0.0, 0.01])
    yield at_most("log(1+χ²) ≤ χ²", np.log1p(chi_squared(p, q)), chi_squared(p, q))
    q = np.full(3, 1 / 3)
    yield at_most("χ² ≤ ‖p−q‖²/min q", chi_squared(p, q), kl_upper_bound(p, q))


@kl_upper.breaks("A constant in place of 1/min q: p = (1, 0), q = (ε, 1−ε)")
def _(rng):
    q = np.array([10.0 ** -rng.uniform(15, 30), 1.0])
    p = np.array([1.0, 0.0])
    yield at_most("KL ≤ 10‖p−q‖²", special.rel_entr(p, q).sum(), 10 * np.square(p - q).sum())


@statement("ce-from-residual", "The residual alone encloses the cross-entropy of a one-hot target", kind="theorem",
           assumptions=("one-hot target", "for the upper side: (K−1)r/K < 1"), chapter=CHAPTER, words="83aed51a")
def ce_from_residual(rng):
    K = int(rng.integers(2, 12))
    others = rng.uniform(0.001, 0.999) * random_distribution(rng, K - 1) if K > 2 else rng.uniform(0.001, 0.999, 1)
    wrong = others.sum()
    yield from _between("", -np.log1p(-wrong), wrong**2 + np.square(others).sum(), K)
    one_class = 2 * wrong**2
    yield identity("lower is reached on one class", ce_bounds_from_residual(one_class, K)[0], -np.log1p(-wrong))
    spread = wrong**2 + wrong**2 / (K - 1)
    yield identity("upper is reached when spread", ce_bounds_from_residual(spread, K)[1], -np.log1p(-wrong))


@ce_from_residual.witness("Five classes, the wrong mass on one or spread evenly")
def _(rng):
    wrong = rng.uniform(0.05, 0.95)
    yield at_least("lower", -np.log1p(-wrong), ce_bounds_from_residual(2 * wrong**2, 5)[0])
    yield at_most("upper", -np.log1p(-wrong), ce_bounds_from_residual(wrong**2 * 5 / 4, 5)[1])


def _between(suffix, loss, residual, K):
    lower, upper = ce_bounds_from_residual(residual, K)
    yield at_least("lower" + suffix, loss, lower)
    yield at_most("upper" + suffix, loss, upper)


@ce_from_residual.breaks("A soft target: at p = target the residual is zero and the cross-entropy is the target's entropy")
def _(rng):
    target = random_distribution(rng, 4) * 0.5 + 0.125
    yield from _between("", special.entr(target).sum(), 0.0, 4)
