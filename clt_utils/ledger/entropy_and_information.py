"""Entropy and information: what features know about the label, and what layers lose."""

import dataclasses
import itertools

import numpy as np
import torch
from scipy import special

from ..duality import GINI, HUBER, SHANNON, SQUARED, ZOO, bregman_divergence
from ..entropy import conditional_entropy, entropy, information_loss, mutual_information
from ..finite import merge
from .core import at_least, identity, statement
from .instances import STRONGLY_CONVEX, random_features, random_joint

CHAPTER = "generalization/entropy-and-information"


@statement("entropy-nonnegative", "The entropy of a convex generator is not negative", kind="lemma", chapter=CHAPTER, trials=100,
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
    for generator in STRONGLY_CONVEX:
        yield at_least(f"zero only for a known label ({generator.name})", float(entropy(p, generator) > 0.01 * (1 - p.max())), 1.0)


@entropy_nonnegative.witness("Two laws of the label that are close to each other; a nearly known label")
def _(rng):
    p = rng.dirichlet(np.ones(3))
    other = 0.99 * p + 0.01 / 3
    for generator in ZOO:
        yield at_least("concave in the distribution", entropy((p + other) / 2, generator),
                       bound=(entropy(p, generator) + entropy(other, generator)) / 2)
        yield at_least(f"{generator.name} entropy", entropy([1 - 1e-9, 1e-9], generator), bound=0.0)


def _minus(generator):
    return dataclasses.replace(generator, name=f"minus {generator.name}", value=lambda mu: -generator.value(mu))


@entropy_nonnegative.breaks("Φ not convex: −½‖μ‖² has a negative entropy")
def _(rng):
    yield at_least("entropy", entropy(rng.dirichlet(np.ones(3)), _minus(SQUARED)), bound=0.0)


@entropy_nonnegative.breaks("Φ infinite at the targets: Huber's generator gives the targets −2 and 2 no finite entropy")
def _(rng):
    targets = torch.tensor([[-2.0], [2.0]], dtype=torch.float64)
    spread = HUBER.value(targets).mean() - HUBER.value(targets.mean(0))  # the mean, 0, lies in the box
    yield at_least("a finite entropy", float(spread.isfinite()), 1.0)


@entropy_nonnegative.breaks("Φ not strictly convex: max μ_k calls (0.9, 0.1) and (0.6, 0.4) no less certain than a label that is known")
def _(rng):
    conditional = torch.tensor([[0.9, 0.1], [0.6, 0.4]], dtype=torch.float64)
    value = conditional.amax(-1)
    yield at_least("zero only for a constant", float(value.mean() - conditional.mean(0).amax() > 1e-9), 1.0)


@statement("information-nonnegative", "Information is an expected Bregman divergence, so it is not negative", kind="proposition",
           chapter=CHAPTER, trials=80,
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
        yield at_least("of dependent variables alone", float(information > 1e-12), 1.0)
    yield identity("Shannon, as a Kullback–Leibler divergence", mutual_information(joint, SHANNON),
                   special.rel_entr(joint, np.outer(p_x, p_y)).sum())


@information_nonnegative.witness("Labels that hardly depend on the input")
def _(rng):
    p_x, p_y = rng.dirichlet(np.ones(4)), rng.dirichlet(np.ones(3))
    joint = np.outer(p_x, p_y) * (1 + 1e-6 * rng.standard_normal((4, 3)))
    yield at_least("information", mutual_information(joint / joint.sum(), SHANNON), bound=0.0)


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
           paper="information loss, by topic", chapter=CHAPTER, trials=60,
           assumptions=("U = g(X) and nothing else", "Φ convex, for the equality case strictly", "finite entropies"),
           words="7a358a22")
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
        if generator.strong_convexity:
            yield at_least(f"loss against the spread merged ({generator.name})", loss,
                           bound=generator.strong_convexity / 2 * _spread(joint, features, merged))


@entropy_data_processing.witness("Two inputs that look alike are merged: labels close to a fair coin", {
    "loss against the spread merged (Tsallis": "as in fy-quadratic-sandwich: in ℓ₂ 2^(2−α) seems to do for σ"})
def _(rng):
    joint, features = np.array([[0.26, 0.24], [0.24, 0.26]]), np.array([0, 0])
    merged = merge(joint, features)
    for generator in ZOO:
        loss = information_loss(joint, features, generator)
        yield at_least(f"entropy of the label ({generator.name})", conditional_entropy(merged, generator),
                       bound=conditional_entropy(joint, generator))
        if generator.strong_convexity:
            yield at_least(f"loss against the spread merged ({generator.name})", loss,
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


@statement("information-loss-chain", "Along a chain of layers the losses add up", kind="corollary", chapter=CHAPTER, trials=60,
           paper="information loss, by topic",
           assumptions=("each layer sees only the layer before", "Φ convex", "finite entropies"), words="4285a04b")
def information_loss_chain(rng):
    sizes = [12, 8, 5, 2]
    joint = random_joint(rng, sizes[0], int(rng.integers(2, 5)))
    layers = [random_features(rng, a, b) for a, b in itertools.pairwise(sizes)]
    for generator in [ZOO[rng.integers(len(ZOO))]]:
        losses, current, composed = [], joint, np.arange(sizes[0])
        for layer in layers:
            losses.append(information_loss(current, layer, generator))
            current, composed = merge(current, layer), layer[composed]
        yield at_least(f"each layer's loss ({generator.name})", losses, bound=0.0, unit=1.0)
        yield identity("sum", sum(losses), information_loss(joint, composed, generator))


@information_loss_chain.breaks("A skip connection: the second layer sees the input again and recovers what the first lost")
def _(rng):
    joint, nothing = random_joint(rng, 6, 3), np.zeros(6, dtype=int)
    known = [mutual_information(merge(joint, g), SHANNON) for g in (np.arange(6), nothing, 6 * nothing + np.arange(6))]
    yield at_least("each layer's loss", -np.diff(known), bound=0.0, unit=1.0)


@information_loss_chain.breaks("Not a chain: two features of the same input lose by themselves what they do not lose together")
def _(rng):
    joint = random_joint(rng, 6, 3)
    alone = [information_loss(joint, g, SHANNON) for g in (np.arange(6) // 3, np.arange(6) % 3)]
    yield identity("sum", sum(alone), information_loss(joint, np.arange(6), SHANNON))


@statement("absolute-information-loss", "What a layer forgets about the label it forgets about the input", kind="proposition",
           chapter=CHAPTER, trials=100, paper="absolute information loss, by topic",
           assumptions=("X discrete", "Shannon entropy", "finite entropies"), words="df1a14e6")
def absolute_information_loss(rng):
    n_x, n_u = int(rng.integers(3, 9)), 2
    joint, features = random_joint(rng, n_x, int(rng.integers(2, 5))), random_features(rng, n_x, n_u)
    yield at_least("H(X|U)", _input_entropy(joint.sum(1), features), bound=information_loss(joint, features, SHANNON))
    yield identity("equality when Y tells X", _input_entropy(joint.sum(1), features),
                   information_loss(np.diag(joint.sum(1)), features, SHANNON))


@absolute_information_loss.witness("The label tells the input, all but for a hundredth")
def _(rng):
    p_x, features = rng.dirichlet(np.ones(5)), np.array([0, 0, 0, 1, 1])
    joint = 0.999 * np.diag(p_x) + 0.001 * np.outer(p_x, p_x)
    yield at_least("H(X|U)", _input_entropy(p_x, features), bound=information_loss(joint, features, SHANNON))


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
