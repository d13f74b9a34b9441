"""Probabilistic bounds: what the generalization gap rarely exceeds."""

import numpy as np
from scipy import stats

from ..bounds import best_of_tail, fixed_predictor_tail, generalization_tail, max_loss, tv_mean_bound
from ..duality import SHANNON
from ..entropy import conditional_entropy, renyi_entropy
from ..finite import cross_entropies, draw, expected_tv, fitted_gap, largest_gap, merge
from .core import at_least, at_most, coverage, identity, rarely, rate, statement
from .instances import random_features, random_joint, random_world

CHAPTER = "generalization/probabilistic-bounds"


@statement("tv-mean", "The expected total variation is at most ½√((s−1)/n)", kind="theorem", chapter=CHAPTER, trials=40,
           assumptions=("n i.i.d. samples", "s, the number of pairs of positive probability, is finite"), words="1e5ca08f")
def tv_mean(rng):
    s, n = int(rng.integers(2, 20)), int(rng.integers(1, 80))
    q = rng.dirichlet(np.full(s, 10 ** rng.uniform(-1, 1))).clip(1e-12)
    counts = np.arange(n + 1)
    mean = 0.5 * (stats.binom.pmf(counts, n, q[:, None]) * np.abs(counts / n - q[:, None])).sum()  # E TV, by enumeration
    yield identity("De Moivre's closed form", expected_tv(q, n), mean)
    yield at_most("cell by cell", mean, bound=tv_mean_bound(q, n))
    yield at_most("½√((s−1)/n)", tv_mean_bound(q, n), bound=0.5 * np.sqrt((s - 1) / n))
    yield at_most("Rényi-½", tv_mean_bound(q, n), bound=0.5 * np.sqrt(np.exp(renyi_entropy(q, 0.5)) / n))
    if n >= 2 and (q >= 1 / n).all() and (q <= 1 - 1 / n).all():
        yield at_least("from below, all q ≥ 1/n", mean, bound=tv_mean_bound(q, n) / np.sqrt(2))
    sizes = np.geomspace(30, 3000, 8).astype(int) * s
    yield rate("uniform q, in n", sizes, [expected_tv(np.full(s, 1 / s), n) for n in sizes], slope=-0.5, tol=0.02)
    supports = np.geomspace(2, 200, 8).astype(int)
    means = [expected_tv(np.full(s, 1 / s), 20_000) for s in supports]
    yield rate("uniform q, in s − 1", supports - 1, means, slope=0.5, tol=0.05)


@tv_mean.witness("One toss of a fair coin, and two; many equal cells")
def _(rng):
    coin, even = np.full(2, 0.5), np.full(1000, 1e-3)
    yield at_most("cell by cell", expected_tv(coin, 1), bound=tv_mean_bound(coin, 1))
    yield at_least("from below, all q ≥ 1/n", expected_tv(coin, 2), bound=tv_mean_bound(coin, 2) / np.sqrt(2))
    yield at_most("½√((s−1)/n)", tv_mean_bound(even, 7), bound=0.5 * np.sqrt(999 / 7))
    yield at_most("Rényi-½", tv_mean_bound(even, 7), bound=0.5 * np.sqrt(np.exp(renyi_entropy(even, 0.5)) / 7))


@tv_mean.breaks("The samples are n copies of one draw")
def _(rng):
    q, n = np.full(5, 0.2), 50
    yield at_most("½√((s−1)/n)", 1 - np.square(q).sum(), bound=0.5 * np.sqrt(4 / n))


@tv_mean.breaks("s counts the pairs seen in the sample, not those of the population")
def _(rng):
    q, n = np.full(1000, 1e-3), 20
    yield at_most("½√((s−1)/n)", expected_tv(q, n), bound=0.5 * np.sqrt((n - 1) / n))


@statement("tv-tail", "The total variation stays close to its mean", kind="theorem", chapter=CHAPTER, trials=4000,
           assumptions=("n i.i.d. samples",), draws_at_once=True, words="df05004a")
def tv_tail(rng, draws):
    for s, n in ((2, 20), (6, 30), (40, 100)):
        q = rng.dirichlet(np.ones(s))
        excess = np.abs(q - draw(rng, q, n, draws)).sum(-1) / 2 - expected_tv(q, n)
        for delta in (0.5, 0.1, 0.01):
            hits = (excess < np.sqrt(np.log(1 / delta) / (2 * n))).sum()
            yield coverage(f"δ = {delta}", hits, draws, at_least=1 - delta)


def _beyond(distance, n, p=0.5):
    """Pr(|p̂ − p| > distance) for n tosses of a coin, exactly."""
    above = stats.binom.sf(np.floor(n * (p + distance) + 1e-6), n, p)
    return above + stats.binom.cdf(np.ceil(n * (p - distance) - 1e-6) - 1, n, p)


@tv_tail.witness("A fair coin, tossed so often that the tail is normal, and δ so small that its exponent decides")
def _(rng):
    n, delta = 10**6, 1e-100
    mean, reach = expected_tv(np.full(2, 0.5), n), np.sqrt(np.log(1 / delta) / (2 * n))
    yield rarely("δ → 0", lambda t: _beyond(mean + t * reach, n), delta)


@tv_tail.breaks("The samples come in ten equal copies each")
def _(rng):
    q, n = np.full(6, 1 / 6), 200
    excess = np.abs(q - draw(rng, q, n // 10, 2000)).sum(-1) / 2 - expected_tv(q, n)
    yield coverage("δ = 0.1", (excess < np.sqrt(np.log(10) / (2 * n))).sum(), 2000, at_least=0.9)


@statement("generalization-tail", "With high probability the gap of every predictor on fixed features is small", kind="theorem",
           chapter=CHAPTER, paper="probabilistic bound, by topic", trials=4000, draws_at_once=True,
           assumptions=("n i.i.d. samples", "g fixed before the sample", "the loss lies in [0, γ] on the population support",
                        "s, the number of pairs (u, y) of positive probability, is finite"), words="527404a1")
def generalization_tail_theorem(rng, draws):
    n_x, n_u, K, n, delta, clip = 12, 4, 3, 60, 0.1, 2.0
    joint, gamma = random_joint(rng, n_x, K), max_loss(2 * clip, K)
    features = np.stack([random_features(rng, n_x, n_u) for _ in range(20)])
    first, second = draw(rng, joint, n, draws), draw(rng, joint, n, draws)

    bound = generalization_tail(gamma, n_u * K, n, delta)
    q, seen = merge(joint, features[0]), merge(first, features[0], n_u)
    yield coverage("the predictor fitted to the sample", (np.abs(fitted_gap(q, seen, n, clip)) <= bound).sum(), draws, 1 - delta)
    yield coverage("the worst table", (largest_gap(q - seen, clip) <= bound).sum(), draws, 1 - delta)

    learned = _majority_features(first)  # from a first sample, judged on a second
    gap = fitted_gap(merge(joint, learned, K + 1), merge(second, learned, K + 1), n, clip)
    bound = generalization_tail(gamma, (K + 1) * K, n, delta)
    yield coverage("features from a held-out sample", (np.abs(gap) <= bound).sum(), draws, 1 - delta)

    gaps = [fitted_gap(merge(joint, g), merge(first, g, n_u), n, clip) for g in features]
    bound = generalization_tail(gamma, n_u * K, n, delta / len(features))
    yield coverage("the worst of 20 feature maps, δ/20 each", (np.abs(gaps).max(0) <= bound).sum(), draws, 1 - delta)


@generalization_tail_theorem.witness("A coin for a label, outputs ±20: δ so small that the tail decides, or one toss, always off by ½")
def _(rng):
    clip = 20.0
    gap = largest_gap(np.array([[1.0, -1.0]]), clip)  # for a coin that falls on one side more often by 1
    for name, n, delta in (("every table, δ → 0", 10**6, 1e-200), ("every table, one toss, δ → 1", 1, 0.999)):
        bound = generalization_tail(max_loss(2 * clip, 2), 2, n, delta) / gap
        yield rarely(name, lambda t: _beyond(t * bound, n), delta)


def _majority_features(empirical):
    """The label seen most often with each input, and one more feature for those never seen, (..., n_x, K) -> (..., n_x)."""
    return np.where(empirical.sum(-1) > 0, empirical.argmax(-1), empirical.shape[-1])


@generalization_tail_theorem.breaks("g is learned from the same sample: it remembers the labels, which are pure noise")
def _(rng):
    n_x, n, draws, delta, clip = 400, 200, 200, 0.1, 2.0
    joint = np.full((n_x, 2), 0.5 / n_x)
    empirical = draw(rng, joint, n, draws)
    learned = _majority_features(empirical)
    gap = fitted_gap(merge(joint, learned, 3), merge(empirical, learned, 3), n, clip)
    bound = generalization_tail(max_loss(2 * clip, 2), 6, n, delta)
    yield coverage("memorizing features", (np.abs(gap) <= bound).sum(), draws, 1 - delta)


@generalization_tail_theorem.breaks("The samples come in twenty equal copies each")
def _(rng):
    q, n, draws, delta, clip = random_joint(rng, 4, 2), 400, 500, 0.1, 2.0
    worst = largest_gap(q - draw(rng, q, n // 20, draws), clip)
    bound = generalization_tail(max_loss(2 * clip, 2), 8, n, delta)
    yield coverage("the worst table", (worst <= bound).sum(), draws, 1 - delta)


@generalization_tail_theorem.breaks("γ is the largest loss seen on the training sample: a rare, very expensive pair is missed")
def _(rng):
    q, n, draws, delta = np.array([[0.98, 0.02]]), 20, 2000, 0.4
    losses = np.array([[1e-3, 50.0]])
    empirical = draw(rng, q, n, draws)
    seen = np.where(empirical > 0, losses, 0).max((-1, -2))
    gap = np.abs(((q - empirical) * losses).sum((-1, -2)))
    yield coverage("the fixed predictor", (gap <= generalization_tail(seen, 2, n, delta)).sum(), draws, 1 - delta)


@statement("fixed-predictor-tail", "For one predictor, fixed before the sample, the support does not matter", kind="theorem",
           chapter=CHAPTER, trials=4000, draws_at_once=True,
           assumptions=("n i.i.d. samples", "f fixed before the sample", "the loss lies in [0, γ] on the population support",
                        "for the entropy version Ent_Φ(Y|U) ≥ γ/2"), words="d281937c")
def fixed_predictor_tail_theorem(rng, draws):
    for _ in range(40):
        joint, features, losses, gamma = random_world(rng)
        risk, variance = _mean_and_variance(joint, losses[features])
        yield at_most("Var ≤ R(γ − R)", variance, bound=(gamma - risk) * risk)
        yield at_most("R(γ − R) ≤ γ²/4", (gamma - risk) * risk, bound=gamma**2 / 4)
    for clip in (2.0, 0.2):  # the second is so tame that Ent ≥ γ/2
        q, K = random_joint(rng, 40, 3), 3
        losses, gamma = cross_entropies(clip * rng.choice([-1.0, 1.0], size=(40, K))), max_loss(2 * clip, K)
        floor = conditional_entropy(q, SHANNON) if clip == 2.0 else None
        if clip == 0.2:
            q = 0.05 * q + 0.95 * q.sum(1, keepdims=True) / K
            floor = conditional_entropy(q, SHANNON)
            yield at_least("Ent ≥ γ/2", floor, bound=gamma / 2)
            yield at_most("Var ≤ Ent(γ − Ent)", _mean_and_variance(q, losses)[1], bound=floor * (gamma - floor))
        for n, delta in ((10, 0.1), (100, 0.1), (100, 0.5)):
            gap = np.abs(((q - draw(rng, q, n, draws)) * losses).sum((-1, -2)))
            hits = (gap <= fixed_predictor_tail(gamma, n, delta, floor)).sum()
            yield coverage(f"δ = {delta}", hits, draws, 1 - delta)


@fixed_predictor_tail_theorem.witness("A loss of 0 or γ: one toss (Chebyshev), many with a tiny δ (Hoeffding), and rarely 0 (Bernstein)")
def _(rng):
    # four labels: certain at one input, and predicted; all the same at the other, and predicted so
    certain, open_, gamma = np.eye(4)[:1], np.full((1, 4), 0.25), np.log(4)
    losses = cross_entropies(np.concatenate([50 * certain, 0 * open_]))
    for r in (0.5, 0.98):
        joint = np.concatenate([(1 - r) * certain, r * open_])
        (risk, variance), floor = _mean_and_variance(joint, losses), conditional_entropy(joint, SHANNON)
        yield at_most("Var ≤ R(γ − R)", variance, bound=(gamma - risk) * risk)
        yield at_most("R(γ − R) ≤ γ²/4", (gamma - risk) * risk, bound=gamma**2 / 4)
        yield at_least("Ent ≥ γ/2", floor, bound=gamma / 2)
        yield at_most("Var ≤ Ent(γ − Ent)", variance, bound=floor * (gamma - floor))
    n, delta = 10**8, 1e-100
    bernstein = fixed_predictor_tail(gamma, n, delta, floor) / gamma  # the loss is γ at 98 in 100 inputs
    yield rarely("Bernstein, δ → 0", lambda t: _beyond(t * bernstein, n, 0.98), delta)
    hoeffding = fixed_predictor_tail(gamma, n, delta) / gamma
    yield rarely("Hoeffding, δ → 0", lambda t: _beyond(t * hoeffding, n), delta)
    chebyshev = fixed_predictor_tail(gamma, 1, 0.99) / gamma
    yield rarely("Chebyshev, one toss, δ → 1", lambda t: _beyond(t * chebyshev, 1), 0.99)


def _mean_and_variance(q, losses):
    mean = (q * losses).sum()
    return mean, (q * (losses - mean) ** 2).sum()


@fixed_predictor_tail_theorem.breaks("f is chosen after the sample: the best of 1000 on it")
def _(rng):
    n_x, n, draws, delta, clip = 200, 100, 300, 0.1, 2.0
    q = np.full((n_x, 2), 0.5 / n_x)
    sign = rng.choice([-1.0, 1.0], size=(1000, n_x, 1))
    losses = cross_entropies(clip * sign * [1.0, -1.0])
    sample_risks = np.tensordot(draw(rng, q, n, draws), losses, ([1, 2], [1, 2]))
    gap = np.abs((q * losses).sum((-1, -2)) - sample_risks)[np.arange(draws), sample_risks.argmin(-1)]
    bound = fixed_predictor_tail(max_loss(2 * clip, 2), n, delta)
    yield coverage("the best on the sample", (gap <= bound).sum(), draws, 1 - delta)


@fixed_predictor_tail_theorem.breaks("Ent below γ/2: without label noise Ent = 0, and the loss varies all the same")
def _(rng):
    q = np.diag([0.5, 0.5])
    losses = cross_entropies(np.array([[1.0, -1.0], [1.0, -1.0]]))
    floor = conditional_entropy(q, SHANNON)
    yield at_most("Var ≤ Ent(γ − Ent)", _mean_and_variance(q, losses)[1], bound=floor * (max_loss(2.0, 2) - floor))


@statement("best-of-m", "The best of M predictors on one held-out sample pays for M with √(ln M)", kind="theorem", chapter=CHAPTER,
           trials=2000, draws_at_once=True,
           assumptions=("n i.i.d. samples", "all M predictors fixed before the sample", "every loss lies in [0, γ]"),
           words="f32cf6f8")
def best_of_m(rng, draws):
    for _ in range(40):  # independent candidates, each with loss 0 or γ: the probability of a failure, exactly
        candidates, n, delta = int(rng.integers(1, 200)), int(rng.integers(20, 500)), 10 ** rng.uniform(-3, -0.5)
        gamma, risks = rng.uniform(0.5, 3), rng.uniform(0.1, 0.9, size=candidates)
        width = best_of_tail(gamma, candidates, n, delta) / gamma
        yield rarely("independent candidates, exactly", lambda t, w=width, r=risks, n=n: _failure(r, t * w, n), delta)
    joint, clip, delta = random_joint(rng, 30, 3), 2.0, 0.05  # candidates that share their inputs, on one sample
    for candidates, n in ((1, 40), (20, 40), (100, 200)):
        losses, gamma = cross_entropies(clip * rng.choice([-1.0, 1.0], size=(candidates, 30, 3))), max_loss(2 * clip, 3)
        risks, seen = _risks(joint, losses), _risks(draw(rng, joint, n, draws), losses)
        bound = best_of_tail(gamma, candidates, n, delta)
        yield coverage(f"M = {candidates}: all at once", ((risks - seen).max(-1) <= bound).sum(), draws, 1 - delta)
        best = seen.argmin(-1)
        gap = risks[best] - seen[np.arange(draws), best]
        yield coverage(f"M = {candidates}: the best on the sample", (gap <= bound).sum(), draws, 1 - delta)
    for name, candidates, n, share in (("50", 50, 200, 0.8), ("10¹⁸", 10**18, 10**6, 0.96)):  # the gap of the best coin, and the bound
        each = -np.expm1(np.log1p(-0.05) / candidates)  # the probability with which one may fail, so that any of M does with 0.05
        needed = 0.5 - stats.binom.ppf(each, n, 0.5) / n
        bound = best_of_tail(1.0, candidates, n, 0.05)
        yield at_most(f"fair coins, M = {name}", needed, bound=bound)
        yield at_least(f"nearly attained, M = {name}", needed, bound=share * bound)


def _risks(q, losses):
    """Σ q ℓ of each predictor, losses (M, n_x, K) and q (..., n_x, K) -> (..., M)."""
    return np.tensordot(q, losses, ([-2, -1], [1, 2]))


def _failure(risks, width, n):
    """The probability that any of independent candidates with losses 0 and 1 has R > R̂ + width."""
    most = np.ceil(n * (risks - width) - 1e-9) - 1  # wrong ones of n, at most, for R̂ < R − width
    return -np.expm1(np.log1p(-stats.binom.cdf(most, n, risks)).sum())


@best_of_m.witness("Very many fair coins, judged on a million tosses", {
    "fair coins, M = 50": "Hoeffding's inequality is sharp only as the deviation grows against 1/√n, with many candidates or a small δ"})
def _(rng):
    candidates, n, delta = 10**18, 10**6, 0.05
    width = best_of_tail(1.0, candidates, n, delta)

    def fails(t):
        one = stats.binom.cdf(np.ceil(n * (0.5 - t * width) - 1e-9) - 1, n, 0.5)
        return -np.expm1(candidates * np.log1p(-one))
    yield rarely("independent candidates, exactly", fails, delta)


@best_of_m.breaks("The ln M left out: the best of 50 fair coins, judged like a single one")
def _(rng):
    yield at_most("independent candidates, exactly", _failure(np.full(50, 0.5), best_of_tail(1.0, 1, 200, 0.1), 200), bound=0.1)


@best_of_m.breaks("Predictors trained on the held-out sample: one that remembers its labels, and says 0 elsewhere")
def _(rng):
    labels, n, draws = rng.integers(2, size=1000), 100, 400
    drawn = rng.integers(1000, size=(draws, n))
    wrong = np.array([labels[np.setdiff1d(np.arange(1000), seen)].sum() / 1000 for seen in drawn])  # its risk; on the sample none is wrong
    yield coverage("the one that remembers", (wrong <= best_of_tail(1.0, 1, n, 0.1)).sum(), draws, 0.9)


@best_of_m.breaks("A score is used to make the next predictor: of 300 random ones, those better than half vote")
def _(rng):
    n, looks, draws = 200, 300, 200
    right = rng.random((draws, looks, n)) < 0.5  # on the sample; off it, a vote of coins is a coin: R = ½
    better = np.where(right.mean(-1, keepdims=True) > 0.5, 1, -1)
    votes = (better * np.where(right, 1, -1)).sum(1)
    gap = 0.5 - ((votes < 0) + 0.5 * (votes == 0)).mean(-1)
    yield coverage("the vote", (gap <= best_of_tail(1.0, looks + 1, n, 0.1)).sum(), draws, 0.9)


@best_of_m.breaks("γ is the largest loss on the sample: the rare, very expensive pair was not in it")
def _(rng):
    n, draws = 20, 2000
    rare = rng.random((draws, n)) < 0.02
    losses = np.where(rare, 50.0, 1e-3)
    gap = 0.02 * 50.0 + 0.98 * 1e-3 - losses.mean(-1)
    yield coverage("one predictor", (gap <= best_of_tail(1.0, 1, n, 0.4) * losses.max(-1)).sum(), draws, 0.6)


@best_of_m.breaks("The samples come in ten equal copies each")
def _(rng):
    yield at_most("independent candidates, exactly", _failure(np.full(20, 0.5), best_of_tail(1.0, 20, 400, 0.1), 40), bound=0.1)
