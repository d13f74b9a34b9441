"""Part III of the ledger: entropy and information, the generalization gap, and the step beyond.

Most instances are finite worlds: an input x is a row, a label y a column, and the population q an (n_x, K) array of
probabilities. There every risk, entropy and gap is a finite sum, so nothing is estimated.
"""

import dataclasses
import itertools

import numpy as np
import torch
from scipy import special, stats

from ..bounds import fixed_predictor_tail, generalization_range, generalization_tail, max_loss, tv_gap_bound, tv_mean_bound
from ..dual_steps import ball_smoothness, power_regression, power_smoothness, quadratic_smoothness, separable_smoothness
from ..duality import BINARY, GINI, HUBER, SHANNON, SQUARED, ZOO, bregman_divergence, fenchel_young_loss, power, tsallis
from ..entropy import conditional_entropy, entropy, information_loss, mutual_information, renyi_entropy, total_variation
from ..finite import cross_entropies, draw, expected_tv, fit_table, largest_gap, merge
from .core import at_least, at_most, coverage, identity, rate, statement

ENTROPY = "generalization/entropy-and-information"
DETERMINISTIC = "generalization/deterministic-bounds"
PROBABILISTIC = "generalization/probabilistic-bounds"
BEYOND = "practice/beyond"

STRONGLY_CONVEX = (SHANNON, SQUARED, GINI, tsallis(1.5), BINARY, HUBER)


# Finite worlds

def random_joint(rng, n_x, K):
    """Probabilities of the pairs (x, y), (n_x, K), none below 1e-9."""
    q = rng.dirichlet(np.full(n_x * K, 0.7)).reshape(n_x, K).clip(1e-9)
    return q / q.sum()


def random_features(rng, n_x, n_u):
    """A map from n_x inputs onto n_u ≤ n_x features, an int array (n_x,)."""
    return rng.permutation(np.concatenate([np.arange(n_u), rng.integers(n_u, size=n_x - n_u)]))


def random_world(rng, n_x=None, n_u=None):
    """A population, features, and the losses of a predictor on them -> (joint (n_x, K), features (n_x,), losses (n_u, K), γ)."""
    n_x = int(rng.integers(3, 9)) if n_x is None else n_x
    n_u, K = int(rng.integers(2, n_x)) if n_u is None else n_u, int(rng.integers(2, 5))
    outputs = 2 * rng.standard_normal((n_u, K))
    gamma = max_loss(np.ptp(outputs, axis=-1).max(), K)
    return random_joint(rng, n_x, K), random_features(rng, n_x, n_u), cross_entropies(outputs), gamma


# Entropy and information

@statement("entropy-nonnegative", "The entropy of a convex generator is not negative", kind="lemma", chapter=ENTROPY, trials=100,
           assumptions=("Φ convex", "E Φ(T(Y)) and Φ(E T(Y)) finite"), words="ce899962")
def entropy_nonnegative(rng):
    K = int(rng.integers(2, 7))
    p, other, t = rng.dirichlet(np.ones(K)), rng.dirichlet(np.ones(K)), rng.random()
    for generator in ZOO:
        yield at_least(f"{generator.name} entropy", entropy(p, generator), bound=0.0)
        yield identity("of a known label", 1 + entropy(np.eye(K)[0], generator), 1.0)
        yield at_least("concave in the distribution", entropy(t * p + (1 - t) * other, generator),
                       bound=t * entropy(p, generator) + (1 - t) * entropy(other, generator))
    yield identity("Shannon", entropy(p, SHANNON), -(p * np.log(p)).sum())
    yield identity("Gini", entropy(p, GINI), (1 - (p**2).sum()) / 2)


def _minus(generator):
    return dataclasses.replace(generator, name=f"minus {generator.name}", value=lambda mu: -generator.value(mu))


@entropy_nonnegative.breaks("Φ not convex: −½‖μ‖² has a negative entropy")
def _(rng):
    yield at_least("entropy", entropy(rng.dirichlet(np.ones(3)), _minus(SQUARED)), bound=0.0)


@entropy_nonnegative.breaks("Φ infinite at the targets: all targets at 2, Huber's generator, gives ∞ − ∞")
def _(rng):
    value = HUBER.value(torch.tensor([2.0]))
    yield at_least("entropy", value - value, bound=0.0)


@statement("information-nonnegative", "Information is an expected Bregman divergence, so it is not negative", kind="proposition",
           chapter=ENTROPY, trials=80,
           assumptions=("Φ convex and differentiable where it is used", "finite entropies", "one joint distribution of X and Y"),
           words="859dbc37")
def information_nonnegative(rng):
    joint = random_joint(rng, int(rng.integers(2, 8)), int(rng.integers(2, 5)))
    p_x, p_y = joint.sum(1), joint.sum(0)
    conditional = joint / p_x[:, None]
    for generator in [ZOO[rng.integers(len(ZOO))]]:
        information = entropy(p_y, generator) - conditional_entropy(joint, generator)
        divergence = bregman_divergence(generator, torch.from_numpy(conditional), torch.from_numpy(p_y).expand(conditional.shape))
        yield identity(f"E B_Φ ({generator.name})", information, p_x @ divergence.numpy())
        yield identity("mutual_information", mutual_information(joint, generator), information)
        yield at_least("information", information, bound=0.0)
        yield identity("of independent variables", 1 + mutual_information(np.outer(p_x, p_y), generator), 1.0)
    yield identity("Shannon, as a Kullback–Leibler divergence", mutual_information(joint, SHANNON),
                   special.rel_entr(joint, np.outer(p_x, p_y)).sum())


@information_nonnegative.breaks("Two distributions: the marginal entropy of another, more certain population")
def _(rng):
    joint = random_joint(rng, 5, 3)
    certain = np.array([0.998, 0.001, 0.001])
    yield at_least("information", entropy(certain, SHANNON) - conditional_entropy(joint, SHANNON), bound=0.0)


@information_nonnegative.breaks("Φ not convex")
def _(rng):
    joint, concave = random_joint(rng, 5, 3), _minus(GINI)
    yield at_least("information", entropy(joint.sum(0), concave) - conditional_entropy(joint, concave), bound=0.0)


@statement("entropy-data-processing", "Features never know more about the label than the input does", kind="theorem",
           paper="information loss, by topic", chapter=ENTROPY, trials=60,
           assumptions=("U = g(X) and nothing else", "Φ convex, for the equality case strictly", "finite entropies"),
           words="a4b58da6")
def entropy_data_processing(rng):
    n_x, n_u, K = int(rng.integers(4, 9)), 3, int(rng.integers(2, 5))
    joint, features = random_joint(rng, n_x, K), random_features(rng, n_x, n_u)
    merged = merge(joint, features)
    same = random_joint(rng, n_u, K)[features] * rng.dirichlet(np.ones(n_x))[:, None]  # E[1_Y|X] depends on g(X) alone
    for generator in [ZOO[rng.integers(len(ZOO))]]:
        loss = information_loss(joint, features, generator)
        yield at_least(f"entropy of the label ({generator.name})", conditional_entropy(merged, generator),
                       bound=conditional_entropy(joint, generator))
        yield identity("loss = difference of entropies", loss,
                       conditional_entropy(merged, generator) - conditional_entropy(joint, generator))
        yield identity("loss = difference of informations", loss,
                       mutual_information(joint, generator) - mutual_information(merged, generator))
        yield identity("no loss when equals are merged", 1 + information_loss(same / same.sum(), features, generator), 1.0)
        if generator in STRONGLY_CONVEX:
            yield at_least("loss against the spread merged", loss,
                           bound=generator.strong_convexity / 2 * _spread(joint, features, merged))


def _spread(joint, features, merged):
    """E‖E[1_Y|X] − E[1_Y|g(X)]‖², what merging does to the conditional means."""
    p_x, p_u = joint.sum(1), merged.sum(1)
    return p_x @ np.square(joint / p_x[:, None] - (merged / p_u[:, None])[features]).sum(-1)


@entropy_data_processing.breaks("U is not a function of X: a feature that has seen the label")
def _(rng):
    joint = random_joint(rng, 4, 2)
    seen = np.concatenate([joint * [1, 0], joint * [0, 1]])  # U = (X, Y)
    yield at_least("entropy of the label", conditional_entropy(seen, SHANNON), bound=conditional_entropy(joint, SHANNON))


@entropy_data_processing.breaks("Φ not convex")
def _(rng):
    joint, features = random_joint(rng, 6, 3), random_features(rng, 6, 2)
    concave = _minus(GINI)
    yield at_least("entropy of the label", 1 + conditional_entropy(merge(joint, features), concave),
                   bound=1 + conditional_entropy(joint, concave))


@entropy_data_processing.breaks("Φ not strictly convex: max μ_k loses nothing when (0.9, 0.1) and (0.6, 0.4) are merged")
def _(rng):
    joint, features = np.array([[0.45, 0.05], [0.3, 0.2]]), np.array([0, 0])
    largest, merged = dataclasses.replace(GINI, name="max", value=lambda mu: mu.amax(-1)), merge(joint, features)
    loss = conditional_entropy(merged, largest) - conditional_entropy(joint, largest)
    yield at_least("loss against the spread merged", 1 + loss, bound=1 + 0.5 * _spread(joint, features, merged))


@statement("information-loss-chain", "Along a chain of layers the losses add up", kind="corollary", chapter=ENTROPY, trials=60,
           paper="information loss, by topic",
           assumptions=("each layer sees only the layer before", "Φ convex", "finite entropies"), words="d7354f82")
def information_loss_chain(rng):
    sizes = [12, 8, 5, 2]
    joint = random_joint(rng, sizes[0], int(rng.integers(2, 5)))
    layers = [random_features(rng, a, b) for a, b in itertools.pairwise(sizes)]
    for generator in [ZOO[rng.integers(len(ZOO))]]:
        losses, current, composed = [], joint, np.arange(sizes[0])
        for layer in layers:
            losses.append(information_loss(current, layer, generator))
            current, composed = merge(current, layer), layer[composed]
        yield at_least(f"each layer's loss ({generator.name})", 1 + np.array(losses), bound=1.0)
        yield identity("sum", sum(losses), information_loss(joint, composed, generator))


@information_loss_chain.breaks("A skip connection: the second layer sees the input again and recovers what the first lost")
def _(rng):
    joint = random_joint(rng, 6, 3)
    first = information_loss(joint, np.zeros(6, dtype=int), SHANNON)
    yield at_least("each layer's loss", 1 + np.array([first, 0.0 - first]), bound=1.0)


@information_loss_chain.breaks("Not a chain: two features of the same input lose by themselves what they do not lose together")
def _(rng):
    joint = random_joint(rng, 6, 3)
    alone = [information_loss(joint, g, SHANNON) for g in (np.arange(6) // 3, np.arange(6) % 3)]
    yield identity("sum", sum(alone), information_loss(joint, np.arange(6), SHANNON))


@statement("absolute-information-loss", "What a layer forgets about the label it forgets about the input", kind="proposition",
           chapter=ENTROPY, trials=100, paper="absolute information loss, by topic",
           assumptions=("X discrete", "Shannon entropy", "finite entropies"), words="21dead22")
def absolute_information_loss(rng):
    n_x, n_u = int(rng.integers(3, 9)), 2
    joint, features = random_joint(rng, n_x, int(rng.integers(2, 5))), random_features(rng, n_x, n_u)
    yield at_least("H(X|U)", _input_entropy(joint.sum(1), features), bound=information_loss(joint, features, SHANNON))
    yield identity("equality when Y tells X", _input_entropy(joint.sum(1), features),
                   information_loss(np.diag(joint.sum(1)), features, SHANNON))


def _input_entropy(p_x, features, generator=SHANNON):
    """Ent_Φ(X|g(X)) of a discrete input, (n_x,) probabilities and features."""
    return conditional_entropy(merge(np.diag(p_x), features), generator)


@absolute_information_loss.breaks("X continuous: the differential entropy of X uniform on [0, 0.1] is negative")
def _(rng):
    label = np.diag([0.5, 0.5])  # Y says in which half X lies; g is constant
    yield at_least("h(X|U)", np.log(0.1), bound=information_loss(label, np.zeros(2, dtype=int), SHANNON))


@absolute_information_loss.breaks("Another generator on one side: Gini's ½ − ½Σp² stays below ½, Shannon's loss does not")
def _(rng):
    p_x, constant = np.full(8, 1 / 8), np.zeros(8, dtype=int)
    yield at_least("Gini of X given U", _input_entropy(p_x, constant, GINI),
                   bound=information_loss(np.diag(p_x), constant, SHANNON))


# The largest loss

@statement("max-loss", "Bounded outputs bound the cross-entropy", kind="lemma", chapter=DETERMINISTIC, trials=100,
           paper="maximum attainable loss, by topic",
           assumptions=("softmax cross-entropy", "targets on the simplex",
                        "the range of the outputs is taken over the population support"), words="da34f86b")
def max_loss_lemma(rng):
    K, n = int(rng.integers(2, 8)), 20
    outputs = 3 * rng.standard_normal((n, K))
    osc = np.ptp(outputs, axis=-1)
    yield at_most("one-hot targets", cross_entropies(outputs).max(-1), bound=max_loss(osc, K))
    soft = torch.from_numpy(rng.dirichlet(np.ones(K), size=n))
    yield at_most("soft targets", fenchel_young_loss(SHANNON, soft, torch.from_numpy(outputs)), bound=max_loss(osc, K))
    yield at_most("against log K + osc", max_loss(osc, K), bound=np.log(K) + osc)
    worst = np.where(np.arange(K) == 0, 0.0, osc[:, None])
    yield identity("attained: the true output low, all others high", cross_entropies(worst)[:, 0], max_loss(osc, K))
    temperature, clip = np.exp(rng.normal()), 2 * rng.random()
    yield at_most("temperature", cross_entropies(outputs / temperature).max(-1), bound=max_loss(osc / temperature, K))
    yield at_most("clipping", cross_entropies(outputs.clip(-clip, clip)).max(-1), bound=max_loss(2 * clip, K))
    W, b, a = rng.standard_normal((K, 5)), rng.standard_normal(K), rng.standard_normal((n, 5))
    pairs = np.abs(W[:, None] - W[None])
    reach = np.linalg.norm(a, axis=-1).max() * np.linalg.norm(pairs, axis=-1).max() + np.ptp(b)
    yield at_most("norms of a linear head and its inputs", cross_entropies(a @ W.T + b).max(-1), bound=max_loss(reach, K))


@max_loss_lemma.breaks("The range is taken over a training sample: an input outside has a larger one")
def _(rng):
    outputs = rng.standard_normal((20, 4))
    outputs[0] = [-9.0, 9.0, 0.0, 0.0]  # in the population, not in the sample
    yield at_most("loss", cross_entropies(outputs).max(), bound=max_loss(np.ptp(outputs[1:], axis=-1).max(), 4))


@max_loss_lemma.breaks("K logistic losses instead of a softmax: equal outputs (5, 5, 5) have no range and still a large loss")
def _(rng):
    outputs = torch.full((3,), 5.0, dtype=torch.float64)
    yield at_most("loss", fenchel_young_loss(BINARY, torch.tensor(0), outputs), bound=max_loss(0.0, 3))


# Deterministic bounds

@statement("generalization-range", "Entropy and the largest loss fence the gap in", kind="theorem", chapter=DETERMINISTIC,
           paper="deterministic bound, by topic",
           assumptions=("the loss lies in [0, γ] on the support of the population", "f = h∘g, U = g(X)",
                        "the loss is the one Φ generates"), words="70f0250c")
def generalization_range_theorem(rng):
    joint, features, losses, gamma = random_world(rng)
    empirical = draw(rng, joint, int(rng.integers(3, 50)))
    floors, risks = zip(*[(conditional_entropy(merge(q, features), SHANNON), (q * losses[features]).sum())
                          for q in (joint, empirical)])
    yield at_least("floor of each risk", 1 + np.array(risks), bound=1 + np.array(floors))
    yield at_most("ceiling of each risk", risks, bound=gamma)
    gap, (lower, upper) = risks[0] - risks[1], generalization_range(gamma, *floors)
    yield at_least("lower, from −γ", gamma + gap, bound=gamma + lower)
    yield at_most("upper, from −γ", gamma + gap, bound=gamma + upper)


def _memorizer(confidence=6.0):
    """Ten thousand inputs, half of each label, and an f that fits ten and calls all others wrong -> (R, R̂, γ)."""
    wrong, right = cross_entropies(np.array([0.0, confidence]))
    return 0.999 * wrong + 0.001 * right, right, wrong


@generalization_range_theorem.breaks("f does not factor through U: a constant U in place of an f that sees X")
def _(rng):
    risk, sample_risk, gamma = _memorizer()
    yield at_most("upper", risk - sample_risk, bound=generalization_range(gamma, np.log(2), np.log(2))[1])


@generalization_range_theorem.breaks("γ is the largest loss on the training sample")
def _(rng):
    risk, sample_risk, _ = _memorizer()
    yield at_most("upper", risk - sample_risk, bound=generalization_range(sample_risk, 0.0, 0.0)[1])


@statement("tv-bound", "The gap is at most γ times a total variation, and features shrink it", kind="theorem",
           chapter=DETERMINISTIC,
           assumptions=("the loss lies in [0, γ] on the support of the population", "f = h∘g, U = g(X)"), words="0808ffc9")
def tv_bound(rng):
    joint, features, losses, gamma = random_world(rng)
    empirical = draw(rng, joint, int(rng.integers(3, 50)))
    merged, merged_sample = merge(joint, features), merge(empirical, features)
    tv, tv_inputs = total_variation(merged, merged_sample), total_variation(joint, empirical)
    yield at_most("gap", abs(((joint - empirical) * losses[features]).sum()), bound=tv_gap_bound(gamma, tv))
    yield at_most("features against inputs", tv, bound=tv_inputs)
    worst = gamma * (merged > merged_sample)  # a loss in [0, γ], chosen after the sample
    yield identity("attained", ((merged - merged_sample) * worst).sum(), tv_gap_bound(gamma, tv))


@tv_bound.breaks("f does not factor through U: a constant U has TV = 0, the f that sees X a gap")
def _(rng):
    risk, sample_risk, gamma = _memorizer()
    yield at_most("gap", risk - sample_risk, bound=tv_gap_bound(gamma, 0.0))


@tv_bound.breaks("γ is the largest loss on the training sample")
def _(rng):
    risk, sample_risk, _ = _memorizer()
    yield at_most("gap", risk - sample_risk, bound=tv_gap_bound(sample_risk, 1.0))


@statement("excess-risk", "A small excess risk makes the plug-in classifier nearly optimal", kind="proposition",
           chapter=DETERMINISTIC, trials=60,
           assumptions=("Φ σ-strongly convex", "the classifier takes the largest prediction", "one-hot labels",
                        "excess over Ent_Φ(Y|X)"), words="24612218")
def excess_risk(rng):
    n_x, K = int(rng.integers(2, 8)), int(rng.integers(2, 6))
    joint, outputs = random_joint(rng, n_x, K), torch.from_numpy(rng.standard_normal((n_x, K)))
    for generator in STRONGLY_CONVEX:
        regret, excess = _regret(joint, generator.predict(outputs).argmax(-1)), _excess(joint, generator, outputs)
        yield at_most(f"regret ({generator.name})", regret, bound=2 * np.sqrt(excess / generator.strong_convexity))


def _excess(joint, generator, outputs):
    """R − Ent_Φ(Y|X)."""
    n_x, K = joint.shape
    losses = fenchel_young_loss(generator, torch.arange(K).expand(n_x, K), outputs[:, None].expand(n_x, K, K))
    return (joint * losses.numpy()).sum() - conditional_entropy(joint, generator)


def _regret(joint, decisions):
    """Probability of error above the smallest possible."""
    return joint.max(1).sum() - joint[np.arange(len(joint)), decisions.numpy()].sum()


@excess_risk.breaks("Another classifier: the smallest prediction")
def _(rng):
    joint = np.array([[0.475, 0.025], [0.025, 0.475]])
    outputs = torch.from_numpy(np.log(joint))
    yield at_most("regret", _regret(joint, outputs.argmin(-1)), bound=np.sqrt(2 * max(_excess(joint, SHANNON, outputs), 0.0)))


@excess_risk.breaks("Excess over the empirical risk of a memorized sample: without a floor the difference can be negative")
def _(rng):
    joint, outputs = np.array([[0.9, 0.1]]), torch.tensor([[0.0, 0.1]], dtype=torch.float64)
    losses = cross_entropies(outputs.numpy())
    seen_only_the_second = losses[0, 1]
    excess = (joint * losses).sum() - seen_only_the_second
    yield at_most("regret", _regret(joint, outputs.argmax(-1)), bound=2 * np.sqrt(max(excess, 0.0) / 2))


@excess_risk.breaks("Φ without strong convexity: the fourth power is flat near 0, no σ > 0 serves many rare labels")
def _(rng):
    eta = np.full((1, 20), 0.94 / 19)
    eta[0, 0] = 0.06
    outputs = torch.from_numpy(np.roll(eta, 1) ** 3)  # predicts label 1 where label 0 is the likeliest
    yield at_most("regret", _regret(eta, outputs.argmax(-1)), bound=2 * np.sqrt(_excess(eta, power(4), outputs)))


# Probabilistic bounds

@statement("tv-mean", "The expected total variation is at most ½√((s−1)/n)", kind="theorem", chapter=PROBABILISTIC, trials=40,
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


@tv_mean.breaks("The samples are n copies of one draw")
def _(rng):
    q, n = np.full(5, 0.2), 50
    yield at_most("½√((s−1)/n)", 1 - np.square(q).sum(), bound=0.5 * np.sqrt(4 / n))


@tv_mean.breaks("s counts the pairs seen in the sample, not those of the population")
def _(rng):
    q, n = np.full(1000, 1e-3), 20
    yield at_most("½√((s−1)/n)", expected_tv(q, n), bound=0.5 * np.sqrt((n - 1) / n))


@statement("tv-tail", "The total variation stays close to its mean", kind="theorem", chapter=PROBABILISTIC, trials=4000,
           assumptions=("n i.i.d. samples",), draws_at_once=True, words="aa06c9ac")
def tv_tail(rng, draws):
    for s, n in ((2, 20), (6, 30), (40, 100)):
        q = rng.dirichlet(np.ones(s))
        excess = np.abs(q - draw(rng, q, n, draws)).sum(-1) / 2 - expected_tv(q, n)
        for delta in (0.5, 0.1, 0.01):
            hits = (excess < np.sqrt(np.log(1 / delta) / (2 * n))).sum()
            yield coverage(f"δ = {delta}", hits, draws, at_least=1 - delta)


@tv_tail.breaks("The samples come in ten equal copies each")
def _(rng):
    q, n = np.full(6, 1 / 6), 200
    excess = np.abs(q - draw(rng, q, n // 10, 2000)).sum(-1) / 2 - expected_tv(q, n)
    yield coverage("δ = 0.1", (excess < np.sqrt(np.log(10) / (2 * n))).sum(), 2000, at_least=0.9)


@statement("generalization-tail", "With high probability the gap of every predictor on fixed features is small", kind="theorem",
           chapter=PROBABILISTIC, paper="probabilistic bound, by topic", trials=4000, draws_at_once=True,
           assumptions=("n i.i.d. samples", "g fixed before the sample", "the loss lies in [0, γ] on the population support",
                        "s, the number of pairs (u, y) of positive probability, is finite"), words="527404a1")
def generalization_tail_theorem(rng, draws):
    n_x, n_u, K, n, delta, clip = 12, 4, 3, 60, 0.1, 2.0
    joint, gamma = random_joint(rng, n_x, K), max_loss(2 * clip, K)
    features = np.stack([random_features(rng, n_x, n_u) for _ in range(20)])
    first, second = draw(rng, joint, n, draws), draw(rng, joint, n, draws)

    bound = generalization_tail(gamma, n_u * K, n, delta)
    q, seen = merge(joint, features[0]), merge(first, features[0], n_u)
    yield coverage("the predictor fitted to the sample", (np.abs(_fitted_gap(q, seen, n, clip)) <= bound).sum(), draws, 1 - delta)
    yield coverage("the worst table", (largest_gap(q - seen, clip) <= bound).sum(), draws, 1 - delta)

    learned = _majority_features(first)  # from a first sample, judged on a second
    gap = _fitted_gap(merge(joint, learned, K + 1), merge(second, learned, K + 1), n, clip)
    bound = generalization_tail(gamma, (K + 1) * K, n, delta)
    yield coverage("features from a held-out sample", (np.abs(gap) <= bound).sum(), draws, 1 - delta)

    gaps = [_fitted_gap(merge(joint, g), merge(first, g, n_u), n, clip) for g in features]
    bound = generalization_tail(gamma, n_u * K, n, delta / len(features))
    yield coverage("the worst of 20 feature maps, δ/20 each", (np.abs(gaps).max(0) <= bound).sum(), draws, 1 - delta)


def _fitted_gap(q, empirical, n, clip):
    """R − R̂ of the table fitted to n samples, (..., n_u, K) -> (...,)."""
    return ((q - empirical) * cross_entropies(fit_table(n * empirical, clip))).sum((-1, -2))


def _majority_features(empirical):
    """The label seen most often with each input, and one more feature for those never seen, (..., n_x, K) -> (..., n_x)."""
    return np.where(empirical.sum(-1) > 0, empirical.argmax(-1), empirical.shape[-1])


@generalization_tail_theorem.breaks("g is learned from the same sample: it remembers the labels, which are pure noise")
def _(rng):
    n_x, n, draws, delta, clip = 400, 200, 200, 0.1, 2.0
    joint = np.full((n_x, 2), 0.5 / n_x)
    empirical = draw(rng, joint, n, draws)
    learned = _majority_features(empirical)
    gap = _fitted_gap(merge(joint, learned, 3), merge(empirical, learned, 3), n, clip)
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
    hits = sum(g <= generalization_tail(m, 2, n, delta) for g, m in zip(gap, seen))
    yield coverage("the fixed predictor", hits, draws, 1 - delta)


@statement("fixed-predictor-tail", "For one predictor, fixed before the sample, the support does not matter", kind="theorem",
           chapter=PROBABILISTIC, trials=4000, draws_at_once=True,
           assumptions=("n i.i.d. samples", "f fixed before the sample", "the loss lies in [0, γ] on the population support",
                        "for the entropy version Ent_Φ(Y|U) ≥ γ/2"), words="f02b2da2")
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


# Beyond

@statement("psi-smooth-descent", "A step of length one in the dual lowers the risk by Ψ* of the gradient", kind="theorem",
           paper="topic of the author's follow-up", chapter=BEYOND, trials=60,
           assumptions=("F(θ+d) ≤ F(θ) + ⟨∇F(θ), d⟩ + Ψ(d)", "Ψ even, Legendre, Ψ ≥ 0 = Ψ(0)", "∇F(θ) inside the domain of Ψ*"),
           words="23ed0aa4")
def psi_smooth_descent(rng):
    dim, m = int(rng.integers(1, 5)), 6
    a, y, theta = rng.standard_normal((m, dim)), rng.standard_normal(m), 2 * rng.standard_normal(dim)
    least_squares, _ = power_regression(a, y, 2.0)
    instances = {f"power {p}": power_regression(a, y, p) for p in (1.2, 1.5, 2.0)} | {
        "matrix": (least_squares, quadratic_smoothness(a.T @ a / m + 0.01 * np.eye(dim))),
        "separable": (power_regression(np.diag(a[0]), y[:dim], 1.5)[0], separable_smoothness(2**0.5 * np.abs(a[0]) ** 1.5 / dim, 1.5)),
        "ball": (least_squares, ball_smoothness(np.square(a).sum(-1).mean(), 0.5))}
    for name, (objective, psi) in instances.items():
        value, gradient = objective(theta)
        step, drop = psi.step(gradient), psi.conjugate(gradient)
        moves = rng.standard_normal((50, dim)) * np.geomspace(1e-3, 0.05 if name == "ball" else 2, 50)[:, None]
        majorant = value + moves @ gradient + psi.value(moves)
        yield at_most(f"majorant ({name})", np.array([objective(theta + d)[0] for d in moves]), bound=majorant)
        yield at_least(f"decrease ({name})", value - objective(theta - step)[0], bound=drop)
        yield identity("smallest value of the majorant", value - step @ gradient + psi.value(step), value - drop)
        yield at_least("any other step", 1 + majorant, bound=1 + value - drop)


@psi_smooth_descent.breaks("No majorant: Ψ a third of what it must be, the step overshoots")
def _(rng):
    theta = np.array([1.0])
    objective, _ = power_regression(np.eye(1), np.zeros(1), 1.5)
    psi = power_smoothness(2**0.5 / 3, 1.5)
    value, gradient = objective(theta)
    yield at_least("decrease", value - objective(theta - psi.step(gradient))[0], bound=psi.conjugate(gradient))


@psi_smooth_descent.breaks("Ψ not even: e^d − d − 1, at a θ where F(θ+d) = F(θ) − 0.9d + Ψ(d)")
def _(rng):
    psi, gradient = (lambda d: np.exp(d) - d - 1), -0.9
    step = np.log1p(gradient)  # ∇Ψ*
    yield at_least("decrease", gradient * step - psi(-step), bound=(1 + gradient) * np.log1p(gradient) - gradient)


@psi_smooth_descent.breaks("∇F outside the domain of Ψ*: Ψ = √(1+d²) − 1 has slopes below one, F = 2d has slope two")
def _(rng):
    d = -np.geomspace(1, 1e6, 20)  # the majorant has no smallest value
    majorant = 2 * d + np.sqrt(1 + d**2) - 1
    yield at_least("any other step", majorant, bound=-1e3)
