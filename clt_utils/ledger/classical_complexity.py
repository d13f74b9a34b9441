"""Classical complexity: which interpolant gradient descent finds, and what survives a shift or dependent data."""

import itertools

import numpy as np

from ..bounds import effective_sample_size, tv_gap_bound
from ..entropy import total_variation
from ..finite import cross_entropies, draw, merge
from .core import at_least, at_most, identity, statement
from .instances import random_joint, random_world

CHAPTER = "practice/classical-complexity"


@statement("minimum-norm", "Gradient descent on least squares ends at the solution nearest to its start", kind="proposition",
           chapter=CHAPTER, trials=20,
           assumptions=("outputs linear in the parameters", "some parameters fit every target", "a fixed step below 2/λ_max"),
           words="eaaf2fec")
def minimum_norm(rng):
    n = int(rng.integers(1, 5))
    features, targets = rng.standard_normal((n, int(rng.integers(6, 9)) * n)), rng.standard_normal(n)
    start = rng.standard_normal(features.shape[1])
    limit = start + np.linalg.pinv(features) @ (targets - features @ start)
    found = _descend(features, targets, start, rng.uniform(0.5, 1.8), 1000)
    yield identity("limit", found, limit, tol=1e-6)
    yield identity("fits", features @ found, targets, tol=1e-6)
    other = limit + _null(features, rng.standard_normal(limit.shape) * 10 ** rng.uniform(-3, 0))
    yield at_least("no other is nearer", np.linalg.norm(other - start), bound=np.linalg.norm(found - start), tol=1e-6)


def _descend(features, targets, start, step, num_steps):
    """Gradient descent on ‖Zθ − y‖²/2n, the step in units of 1/λ_max."""
    theta, scale = start, step / np.linalg.norm(features, 2) ** 2
    for _ in range(num_steps):
        theta = theta - scale * features.T @ (features @ theta - targets)
    return theta


def _null(features, direction):
    """What no output notices of a direction."""
    return direction - np.linalg.pinv(features) @ (features @ direction)


@minimum_norm.breaks("A step beyond 2/λ_max")
def _(rng):
    features, targets = rng.standard_normal((2, 8)), rng.standard_normal(2)
    yield identity("limit", _descend(features, targets, np.zeros(8), 2.5, 50), np.linalg.pinv(features) @ targets)


@minimum_norm.breaks("Started elsewhere, and taken for the solution of smallest norm")
def _(rng):
    features, targets = rng.standard_normal((2, 8)), rng.standard_normal(2)
    yield identity("limit", _descend(features, targets, np.ones(8), 1.0, 1000), np.linalg.pinv(features) @ targets)


@minimum_norm.breaks("Not linear in the parameters: f = θ₁²x₁ + θ₂²x₂ from a small start prefers the larger input to a mixture")
def _(rng):
    x, theta = np.array([1.0, 2.0]), np.full(2, 0.1)
    for _ in range(4000):
        theta = theta - 0.02 * 2 * theta * x * (theta**2 @ x - 1)
    yield identity("fits", theta**2 @ x, 1.0, tol=1e-6)
    yield identity("limit", theta**2, x / (x @ x))


@statement("shift-bound", "Under another law the risk changes by at most γ times a total variation", kind="corollary",
           chapter=CHAPTER, assumptions=("the loss lies in [0, γ] on the supports of both laws", "f = h∘g, U = g(X)"), words="b39bcb03")
def shift_bound(rng):
    joint, features, losses, gamma = random_world(rng)
    other, empirical = random_joint(rng, *joint.shape), draw(rng, joint, int(rng.integers(3, 50)))
    yield from _shift_claims(joint, other, empirical, features, losses, gamma)
    merged, merged_other = merge(joint, features), merge(other, features)
    worst = gamma * (merged_other > merged)
    yield identity("attained", ((merged_other - merged) * worst).sum(), tv_gap_bound(gamma, total_variation(merged, merged_other)))


def _shift_claims(joint, other, empirical, features, losses, gamma):
    merged, merged_other, merged_sample = (merge(q, features) for q in (joint, other, empirical))
    shift, luck = total_variation(merged, merged_other), total_variation(merged, merged_sample)
    risk, risk_other, seen = ((q * losses).sum() for q in (merged, merged_other, merged_sample))
    yield at_most("risk", abs(risk_other - risk), bound=tv_gap_bound(gamma, shift))
    yield at_most("features against inputs", shift, bound=total_variation(joint, other))
    yield at_most("from the sample", risk_other - seen, bound=tv_gap_bound(gamma, shift) + tv_gap_bound(gamma, luck))


@shift_bound.witness("Luck and shift both take from a cheap label and give to one that costs γ")
def _(rng):
    right, wrong = cross_entropies(np.array([12.0, 0.0]))
    sample, joint, other = (np.diag([p, 1 - p]) for p in (0.5, 0.4, 0.3))
    yield from _shift_claims(joint, other, sample, np.array([0, 0]), np.array([[right, wrong]]), wrong)


@shift_bound.breaks("γ holds where the first law lives: the other brings an input never seen, and its loss is fifty times γ")
def _(rng):
    joint, other = np.array([[1.0, 0.0], [0.0, 0.0]]), np.array([[0.9, 0.0], [0.0, 0.1]])
    yield from _shift_claims(joint, other, joint, np.array([0, 1]), np.array([[1.0, 1.0], [1.0, 50.0]]), 1.0)


@shift_bound.breaks("Only the inputs are compared: they stay as they were, and the labels change their meaning")
def _(rng):
    joint, other, losses = np.array([[0.5, 0.0], [0.0, 0.5]]), np.array([[0.0, 0.5], [0.5, 0.0]]), 1 - np.eye(2)
    yield at_most("risk", ((other - joint) * losses).sum(), bound=tv_gap_bound(1.0, total_variation(joint.sum(1), other.sum(1))))


@shift_bound.breaks("f does not factor through U: a constant U sees no shift of the inputs, the f that sees X does")
def _(rng):
    joint, other, losses = np.array([[0.9, 0.0], [0.1, 0.0]]), np.array([[0.1, 0.0], [0.9, 0.0]]), np.array([[0.0, 1.0], [1.0, 0.0]])
    shift = total_variation(merge(joint, [0, 0]), merge(other, [0, 0]))
    yield at_most("risk", ((other - joint) * losses).sum(), bound=tv_gap_bound(1.0, shift))


@statement("dependent-sample", "A sample of dependent draws is worth fewer independent ones", kind="proposition", chapter=CHAPTER,
           trials=40, assumptions=("every draw has the law q, whose support is finite",
                                   "at lag j the indicator of no outcome has a correlation above κ_j ≥ 0"), words="33278514")
def dependent_sample(rng):
    s = int(rng.integers(2, 4))
    n = int(rng.integers(1, 9 if s == 2 else 7))
    q, repeat = rng.dirichlet(np.ones(s)).clip(1e-3), rng.uniform()
    yield from _dependent_claims(q / q.sum(), n, repeat)


def _chain(q, n, repeat):
    """All sequences of n draws, each a copy of the last with probability ``repeat``, else fresh -> (probabilities, frequencies)."""
    draws = np.array(list(itertools.product(range(len(q)), repeat=n)))
    steps = repeat * (draws[:, 1:] == draws[:, :-1]) + (1 - repeat) * q[draws[:, 1:]]
    return q[draws[:, 0]] * steps.prod(1), np.stack([(draws == k).mean(1) for k in range(len(q))], 1)


def _distance(q, probability, shares):
    """The expected total variation between q and the frequencies in a sample."""
    return probability @ np.abs(shares - q).sum(1) / 2


def _dependent_claims(q, n, repeat):
    probability, shares = _chain(q, n, repeat)
    effective = effective_sample_size(repeat ** np.arange(1, n), n) if n > 1 else 1.0
    spread = q * (1 - q) / effective
    yield identity("variance of a share", probability @ (shares - q) ** 2, spread)
    yield at_most("expected total variation", _distance(q, probability, shares), bound=np.sqrt(spread).sum() / 2)
    yield at_most("by the support", np.sqrt(spread).sum() / 2, bound=0.5 * np.sqrt((len(q) - 1) / effective))


@dependent_sample.witness("Four copies of one toss of a fair coin: half off, whatever falls")
def _(rng):
    yield from _dependent_claims(np.full(2, 0.5), 4, 1.0)


@dependent_sample.breaks("n in place of the effective number: draws that repeat the last one nine times in ten")
def _(rng):
    q = np.full(2, 0.5)
    yield at_most("expected total variation", _distance(q, *_chain(q, 6, 0.9)), bound=0.5 * np.sqrt(1 / 6))


@dependent_sample.breaks("Only neighbours are counted, though every draw is a copy of the first")
def _(rng):
    q = np.full(2, 0.5)
    yield at_most("expected total variation", _distance(q, *_chain(q, 6, 1.0)), bound=0.5 / np.sqrt(effective_sample_size([1.0], 6)))


@dependent_sample.breaks("The draws are independent, but of another law than q")
def _(rng):
    drawn = _chain(np.array([0.9, 0.1]), 6, 0.0)
    yield at_most("expected total variation", _distance(np.full(2, 0.5), *drawn), bound=0.5 * np.sqrt(1 / 6))
