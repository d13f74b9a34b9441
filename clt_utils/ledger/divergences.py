"""Divergences: how far two distributions are apart, in KL, χ² and plain distance."""

import numpy as np
from scipy import special

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
