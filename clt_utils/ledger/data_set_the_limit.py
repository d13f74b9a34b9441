"""The data set, the limit: what no model can go below."""

import numpy as np
import torch

from ..duality import GINI, SHANNON, SQUARED, dual, fenchel_young_loss
from ..entropy import conditional_entropy
from ..structure import gradient_energy, structure_matrix
from .core import at_least, identity, statement
from .instances import normal, random_network, simplex_points

CHAPTER = "trainability/data-set-the-limit"


def _random_joint(rng, n, K):
    """Probabilities of inputs (n,) and of labels given the input (n, K); their product is the joint."""
    return torch.from_numpy(rng.dirichlet(np.ones(n))), simplex_points(rng, n, K)


def _risk(generator, inputs, label_means, outputs):
    """E d_Φ(1_Y; f(X)) under the joint with these marginals and conditionals, a number."""
    K = label_means.shape[1]
    losses = [fenchel_young_loss(generator, torch.full(outputs.shape[:1], k), outputs) for k in range(K)]
    return (inputs * (label_means * torch.stack(losses, -1)).sum(-1)).sum()


FLOOR_GENERATORS = (SHANNON, SQUARED, GINI)


@statement("risk-floor", "No model has less risk than the conditional entropy of the labels", kind="proposition",
           paper="by topic", assumptions=("risk and entropy belong to the same distribution", "the outputs are a function of x",
                                          "for «equality iff»: Φ strictly convex"), chapter=CHAPTER, trials=25, words="731618c7")
def risk_floor(rng):
    K, n = int(rng.integers(2, 6)), int(rng.integers(1, 6))
    inputs, label_means = _random_joint(rng, n, K)
    outputs = 2 * normal(rng, n, K)
    for generator in FLOOR_GENERATORS:
        floor = float(conditional_entropy(inputs[:, None] * label_means, generator))
        risk, best = (_risk(generator, inputs, label_means, f) for f in (outputs, dual(generator, label_means)))
        yield at_least(f"floor ({generator.name})", risk, bound=floor)
        yield identity(f"attained ({generator.name})", best, floor)
        yield at_least(f"attained nowhere else ({generator.name})", float(risk > floor + 1e-9), 1.0)
        excess = (inputs * fenchel_young_loss(generator, label_means, outputs)).sum()
        yield identity(f"excess ({generator.name})", risk, floor + excess)


@risk_floor.witness("Outputs a thousandth away from the best ones")
def _(rng):
    inputs, label_means = _random_joint(rng, 3, 3)
    for generator in FLOOR_GENERATORS:
        f = dual(generator, label_means) + 1e-3
        yield at_least(f"floor ({generator.name})", _risk(generator, inputs, label_means, f),
                       bound=float(conditional_entropy(inputs[:, None] * label_means, generator)))


@risk_floor.breaks("Risk on a sample, entropy of the population: memorized noise has no risk")
def _(rng):
    K, n = 3, 5
    labels = torch.from_numpy(rng.integers(K, size=n))
    memorized = 30 * torch.eye(K, dtype=torch.float64)[labels]
    population = torch.full((n, K), 1 / (n * K), dtype=torch.float64)  # every label at every input
    floor = float(conditional_entropy(population, SHANNON))
    yield at_least("floor", fenchel_young_loss(SHANNON, labels, memorized).mean(), bound=floor)


@risk_floor.breaks("The outputs see more than x: an input seen twice with opposite labels, and the model is told which time")
def _(rng):
    outputs = torch.tensor([[9.0, 0.0], [0.0, 9.0]], dtype=torch.float64)
    joint = torch.tensor([[0.5, 0.5]], dtype=torch.float64)  # one input, two labels
    floor = float(conditional_entropy(joint, SHANNON))
    yield at_least("floor", fenchel_young_loss(SHANNON, torch.tensor([0, 1]), outputs).mean(), bound=floor)


@statement("feature-floor", "A model that reads features has no less risk than the entropy given the features", kind="corollary",
           paper="by topic", assumptions=("f = h∘g: the outputs depend on x through g(x) alone",
                                          "risk and entropy belong to the same distribution"), chapter=CHAPTER, trials=25,
           words="28156aa4")
def feature_floor(rng):
    K, n = int(rng.integers(2, 6)), int(rng.integers(3, 8))
    inputs, label_means = _random_joint(rng, n, K)
    joint, features = inputs[:, None] * label_means, torch.from_numpy(rng.integers(3, size=n))
    merged = torch.zeros(3, K, dtype=torch.float64).index_add(0, features, joint)
    merged = merged[merged.sum(-1) > 0]  # the joint distribution of features and labels
    features = torch.unique(features, return_inverse=True)[1]
    for generator in FLOOR_GENERATORS:
        floor = float(conditional_entropy(merged, generator))
        risk = _risk(generator, inputs, label_means, 2 * normal(rng, len(merged), K)[features])
        yield at_least(f"floor ({generator.name})", risk, bound=floor)
        yield at_least(f"attained nowhere else ({generator.name})", float(risk > floor + 1e-9), 1.0)
        best = dual(generator, merged / merged.sum(-1, keepdim=True))[features]
        yield identity(f"attained ({generator.name})", _risk(generator, inputs, label_means, best), floor)
        yield at_least(f"above the floor of x ({generator.name})", floor, bound=float(conditional_entropy(joint, generator)))


@feature_floor.witness("Features that merge inputs with equal labels, and outputs a thousandth away from the best ones")
def _(rng):
    inputs, label_means = _random_joint(rng, 4, 3)
    label_means[1] = label_means[0]
    joint = inputs[:, None] * label_means
    merged = torch.stack([joint[0] + joint[1], joint[2], joint[3]])
    for generator in FLOOR_GENERATORS:
        floor, outputs = float(conditional_entropy(merged, generator)), dual(generator, label_means) + 1e-3
        yield at_least(f"floor ({generator.name})", _risk(generator, inputs, label_means, outputs), bound=floor)
        yield at_least(f"above the floor of x ({generator.name})", floor, bound=float(conditional_entropy(joint, generator)))


@feature_floor.breaks("A skip connection around g: the outputs see x, and only the lower floor of x binds them")
def _(rng):
    label_means = torch.tensor([[0.95, 0.05], [0.05, 0.95]], dtype=torch.float64)  # two inputs that g merges
    inputs = torch.tensor([0.5, 0.5], dtype=torch.float64)
    merged = (inputs[:, None] * label_means).sum(0, keepdim=True)
    floor = float(conditional_entropy(merged, SHANNON))
    yield at_least("floor", _risk(SHANNON, inputs, label_means, label_means.log()), bound=floor)


def _expected_energies(model, inputs, label_means):
    """E[g | x] under the label distribution of each input, (n,), one label after the other."""
    energies = [gradient_energy(model, inputs, torch.full((len(inputs),), k)) for k in range(label_means.shape[1])]
    return (label_means * torch.stack(energies, -1)).sum(-1)


def _energy_floor(model, inputs, label_means):
    """tr(A_x Cov(1_Y | x)), (n,)."""
    covariance = torch.diag_embed(label_means) - label_means[:, :, None] * label_means[:, None, :]
    return (structure_matrix(model, inputs) * covariance).sum((-2, -1))


@statement("energy-floor", "Conflicting labels keep the expected energy above tr(A_x Cov(1_Y|x))", kind="proposition",
           paper="by topic", assumptions=("the loss is the one Φ generates", "the average runs over the distribution whose "
           "conditional mean and covariance enter", "samples do not interact"), chapter=CHAPTER, trials=12, words="d2aed012")
def energy_floor(rng):
    model, inputs, K = random_network(rng)
    label_means = simplex_points(rng, len(inputs), K)
    expected, floor = _expected_energies(model, inputs, label_means), _energy_floor(model, inputs, label_means)
    e = model(inputs).softmax(-1) - label_means
    yield identity("split", expected, (e * (structure_matrix(model, inputs) @ e[..., None])[..., 0]).sum(-1) + floor)
    yield at_least("floor", expected, bound=floor)


@energy_floor.witness("Predictions that are the label distributions")
def _(rng):
    model, inputs, _ = random_network(rng)
    label_means = model(inputs).softmax(-1).detach()
    yield at_least("floor", _expected_energies(model, inputs, label_means), bound=_energy_floor(model, inputs, label_means))


@energy_floor.breaks("Labels drawn once at distinct inputs: the sample knows no noise, and a wide enough head fits it all")
def _(rng):
    n, K = 4, 3
    inputs, labels = normal(rng, n, 6), torch.from_numpy(rng.integers(K, size=n))
    model = torch.nn.Linear(6, K, bias=False).double()
    model.weight.data = torch.linalg.lstsq(inputs, torch.eye(K, dtype=torch.float64)[labels]).solution.mT
    label_means = torch.full((n, K), 1 / K, dtype=torch.float64)  # what the labels were drawn from
    energy = gradient_energy(model, inputs, labels, SQUARED)
    yield at_least("floor", energy.mean(), bound=_energy_floor(model, inputs, label_means).mean())


@energy_floor.breaks("The label frequencies of the whole data set in place of those at x")
def _(rng):
    model, inputs, K = random_network(rng, num_classes=3)
    label_means = torch.eye(K, dtype=torch.float64)[torch.arange(len(inputs)) % K]  # labels are certain at every input
    overall = torch.full((len(inputs), K), 1 / K, dtype=torch.float64)
    model[-1].bias.data += 20 * torch.eye(K, dtype=torch.float64)[0]  # the first input is labelled 0, and fit
    yield at_least("floor", _expected_energies(model, inputs, label_means)[0], bound=_energy_floor(model, inputs, overall)[0])
