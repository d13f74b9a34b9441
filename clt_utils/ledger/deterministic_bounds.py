"""Deterministic bounds: what the generalization gap cannot exceed, whatever the sample."""

import numpy as np
import torch

from ..bounds import generalization_range, max_loss, tv_gap_bound
from ..duality import BINARY, HUBER, SHANNON, SQUARED, fenchel_young_loss, power
from ..entropy import conditional_entropy, total_variation
from ..finite import cross_entropies, draw, merge
from .core import at_least, at_most, identity, statement
from .instances import STRONGLY_CONVEX, random_joint, random_world

CHAPTER = "generalization/deterministic-bounds"


@statement("max-loss", "Bounded outputs bound the cross-entropy", kind="lemma", chapter=CHAPTER, trials=100,
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


@max_loss_lemma.witness("The true output low, all others high; many classes with equal outputs; a head with weights along its input")
def _(rng):
    K, osc = 4, 1.5
    worst = np.array([[0.0, osc, osc, osc]])
    target = torch.tensor([[0.999, 0.001, 0.0, 0.0]], dtype=torch.float64)
    yield at_most("one-hot targets", cross_entropies(worst).max(-1), bound=max_loss(osc, K))
    yield at_most("soft targets", fenchel_young_loss(SHANNON, target, torch.from_numpy(worst)), bound=max_loss(osc, K))
    yield at_most("against log K + osc", max_loss(osc, 1000), bound=np.log(1000) + osc)
    yield at_most("temperature", cross_entropies(worst / 0.5).max(-1), bound=max_loss(osc / 0.5, K))
    yield at_most("clipping", cross_entropies((3 * worst - 2).clip(-1, 1)).max(-1), bound=max_loss(2.0, K))
    w, a, b = np.array([[3.0, 4.0], [-3.0, -4.0]]), np.array([[0.6, 0.8]]), np.array([0.5, -0.5])
    yield at_most("norms of a linear head and its inputs", cross_entropies(a @ w.T + b).max(-1), bound=max_loss(10.0 + 1.0, 2))


@max_loss_lemma.breaks("The range is taken over a training sample: an input outside has a larger one")
def _(rng):
    outputs = rng.standard_normal((20, 4))
    outputs[0] = [-9.0, 9.0, 0.0, 0.0]  # in the population, not in the sample
    yield at_most("loss", cross_entropies(outputs).max(), bound=max_loss(np.ptp(outputs[1:], axis=-1).max(), 4))


@max_loss_lemma.breaks("K logistic losses instead of a softmax: equal outputs (5, 5, 5) have no range and still a large loss")
def _(rng):
    outputs = torch.full((3,), 5.0, dtype=torch.float64)
    yield at_most("loss", fenchel_young_loss(BINARY, torch.tensor(0), outputs), bound=max_loss(0.0, 3))


@statement("generalization-range", "Entropy and the largest loss fence the gap in", kind="theorem", chapter=CHAPTER,
           paper="deterministic bound, by topic",
           assumptions=("the loss lies in [0, γ] on the support of the population", "f = h∘g, U = g(X)",
                        "the loss is the one Φ generates"), words="70f0250c")
def generalization_range_theorem(rng):
    joint, features, losses, gamma = random_world(rng)
    empirical = draw(rng, joint, int(rng.integers(3, 50)))
    floors, risks = zip(*[(conditional_entropy(merge(q, features), SHANNON), (q * losses[features]).sum())
                          for q in (joint, empirical)])
    yield at_least("floor of each risk", risks, bound=floors, unit=1.0)
    yield at_most("ceiling of each risk", risks, bound=gamma)
    gap, (lower, upper) = risks[0] - risks[1], generalization_range(gamma, *floors)
    yield at_least("lower", gap, bound=lower, unit=gamma)
    yield at_most("upper", gap, bound=upper, unit=gamma)


@generalization_range_theorem.witness("Two inputs, one of them rare, and a sample of the rare one alone")
def _(rng):
    wrong, right = cross_entropies(np.array([0.0, 9.0]))
    joint, empirical = np.diag([0.999, 0.001]), np.diag([0.0, 1.0])  # each input has one label: no entropy
    bounds = generalization_range(wrong, conditional_entropy(joint, SHANNON), conditional_entropy(empirical, SHANNON))
    for losses in ([wrong, right], [right, wrong]):  # of the frequent and of the rare input
        risk, sample_risk = joint.diagonal() @ losses, empirical.diagonal() @ losses
        yield at_least("lower", risk - sample_risk, bound=bounds[0], unit=wrong)
        yield at_most("upper", risk - sample_risk, bound=bounds[1], unit=wrong)
        yield at_most("ceiling of each risk", [risk, sample_risk], bound=wrong)
    noisy = np.array([[0.7, 0.3]])
    yield at_least("floor of each risk", (noisy * cross_entropies(np.log(noisy))).sum(), bound=conditional_entropy(noisy, SHANNON))


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
           chapter=CHAPTER,
           assumptions=("the loss lies in [0, γ] on the support of the population", "f = h∘g, U = g(X)"), words="886f2d9f")
def tv_bound(rng):
    joint, features, losses, gamma = random_world(rng)
    empirical = draw(rng, joint, int(rng.integers(3, 50)))
    merged, merged_sample = merge(joint, features), merge(empirical, features)
    tv, tv_inputs = total_variation(merged, merged_sample), total_variation(joint, empirical)
    yield at_most("gap", abs(((joint - empirical) * losses[features]).sum()), bound=tv_gap_bound(gamma, tv))
    yield at_most("features against inputs", tv, bound=tv_inputs)
    worst = gamma * (merged > merged_sample)  # a loss in [0, γ], chosen after the sample
    yield identity("attained", ((merged - merged_sample) * worst).sum(), tv_gap_bound(gamma, tv))


@tv_bound.witness("A confident predictor that is wrong where the sample has too little; features that merge nothing it tells apart")
def _(rng):
    wrong, right = cross_entropies(np.array([0.0, 12.0]))
    joint, empirical = np.array([[0.3, 0.0], [0.0, 0.7]]), np.array([[0.5, 0.0], [0.0, 0.5]])
    losses = np.array([[right, wrong], [right, wrong]])
    yield at_most("gap", abs(((joint - empirical) * losses).sum()), bound=tv_gap_bound(wrong, total_variation(joint, empirical)))
    yield at_most("features against inputs", total_variation(merge(joint, [0, 0]), merge(empirical, [0, 0])),
                  bound=total_variation(joint, empirical))


@tv_bound.breaks("f does not factor through U: a constant U has TV = 0, the f that sees X a gap")
def _(rng):
    risk, sample_risk, gamma = _memorizer()
    yield at_most("gap", risk - sample_risk, bound=tv_gap_bound(gamma, 0.0))


@tv_bound.breaks("γ is the largest loss on the training sample")
def _(rng):
    risk, sample_risk, _ = _memorizer()
    yield at_most("gap", risk - sample_risk, bound=tv_gap_bound(sample_risk, 1.0))


@statement("excess-risk", "A small excess risk makes the plug-in classifier nearly optimal", kind="proposition",
           chapter=CHAPTER, trials=60,
           assumptions=("Φ σ-strongly convex", "the classifier takes the largest prediction", "one-hot labels",
                        "excess over Ent_Φ(Y|X)"), words="3c22e94c")
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


@excess_risk.witness("A label a little likelier than the other, and a prediction a little on the wrong side", {
    "regret (Tsallis": "as in fy-quadratic-sandwich: in ℓ₂ 2^(2−α) seems to do for σ, which is worth a factor 0.84 here"})
def _(rng):
    joint, outputs = np.array([[0.52, 0.48]]), torch.tensor([[-1e-6, 1e-6]], dtype=torch.float64)
    for generator in STRONGLY_CONVEX:
        shifted = outputs + 0.5 * (generator in (SQUARED, HUBER))  # whose predictions are the outputs
        regret, excess = _regret(joint, generator.predict(shifted).argmax(-1)), _excess(joint, generator, shifted)
        yield at_most(f"regret ({generator.name})", regret, bound=2 * np.sqrt(excess / generator.strong_convexity))


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
