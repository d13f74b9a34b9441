"""Random instances for the checks: numbers, matrices, small networks and finite worlds, all in float64."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..bounds import max_loss
from ..duality import BINARY, GINI, HUBER, SHANNON, SQUARED, ZOO, Generator, dual, tsallis
from ..finite import cross_entropies

STRONGLY_CONVEX = (SHANNON, SQUARED, GINI, tsallis(1.5), BINARY, HUBER)


def normal(rng: np.random.Generator, *shape: int) -> Tensor:
    """Standard normal numbers, a tensor of this shape."""
    return torch.from_numpy(rng.standard_normal(shape))


def simplex_points(rng: np.random.Generator, n: int, K: int) -> Tensor:
    """Probability vectors with a few large entries, (n, K)."""
    return torch.from_numpy(rng.dirichlet(np.full(K, 0.7), size=n))


def inside(rng: np.random.Generator, generator: Generator, n: int, K: int) -> Tensor:
    """``n`` mean vectors inside the domain, (n, K), where Φ is differentiable along the domain."""
    mu = generator.predict(normal(rng, n, K))
    return 0.9 * mu + 0.1 * generator.predict(torch.zeros(K, dtype=mu.dtype))


def nearly_touching(rng: np.random.Generator) -> Iterator[tuple[Generator, Tensor, Tensor]]:
    """Of every generator means (4, 3) and the outputs that predict them, off by a millionth: there Φ(μ) + Φ*(f) is nearly ⟨μ, f⟩."""
    for generator in ZOO:
        mu = inside(rng, generator, 4, 3)
        yield generator, mu, dual(generator, mu) * (1 + 1e-6)


def inner(mu: Tensor, f: Tensor) -> Tensor:
    """⟨μ, f⟩ over the last dimension."""
    return (mu * f).sum(-1)


def means(rng: np.random.Generator, generator: Generator, n: int, K: int) -> Tensor:
    """``n`` mean vectors of the domain, (n, K): predictions of random outputs, some of them on the border."""
    mu = generator.predict(2 * normal(rng, n, K))
    return torch.where(torch.from_numpy(rng.random((n, 1))) < 0.2, torch.eye(K, dtype=mu.dtype)[rng.integers(K, size=n)], mu)


def random_psd(rng: np.random.Generator, K: int, rank: int | None = None) -> Tensor:
    """A = JJᵀ with a wide spread of scales, (K, K); singular if rank < K."""
    J = normal(rng, K, rank or K + int(rng.integers(0, 4))) * torch.exp(normal(rng, K, 1))
    return J @ J.mT


def random_network(rng: np.random.Generator, num_classes: int | None = None) -> tuple[torch.nn.Module, Tensor, int]:
    """A random multilayer perceptron, a batch for it, and its number of outputs -> (model, inputs, K)."""
    torch.manual_seed(int(rng.integers(2**31)))
    K = int(rng.integers(2, 6)) if num_classes is None else num_classes
    sizes = [int(rng.integers(2, 7)) for _ in range(int(rng.integers(2, 5)))]
    activation = [torch.nn.Tanh, torch.nn.ReLU, torch.nn.GELU][int(rng.integers(3))]
    layers = [m for a, b in zip(sizes, sizes[1:]) for m in (torch.nn.Linear(a, b), activation())]
    model = torch.nn.Sequential(*layers, torch.nn.Linear(sizes[-1], K)).double()
    return model, normal(rng, int(rng.integers(1, 6)), sizes[0]), K


# Finite worlds: an input x is a row, a label y a column, and the population q an (n_x, K) array of probabilities.
# There every risk, entropy and gap is a finite sum, so nothing is estimated.

def random_joint(rng: np.random.Generator, n_x: int, K: int) -> np.ndarray:
    """Probabilities of the pairs (x, y), (n_x, K), none below 1e-9."""
    q = rng.dirichlet(np.full(n_x * K, 0.7)).reshape(n_x, K).clip(1e-9)
    return q / q.sum()


def random_features(rng: np.random.Generator, n_x: int, n_u: int) -> np.ndarray:
    """A map from n_x inputs onto n_u ≤ n_x features, an int array (n_x,)."""
    return rng.permutation(np.concatenate([np.arange(n_u), rng.integers(n_u, size=n_x - n_u)]))


def random_world(rng: np.random.Generator, n_x: int | None = None,
                 n_u: int | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """A population, features, and the losses of a predictor on them -> (joint (n_x, K), features (n_x,), losses (n_u, K), γ)."""
    n_x = int(rng.integers(3, 9)) if n_x is None else n_x
    n_u, K = int(rng.integers(2, n_x)) if n_u is None else n_u, int(rng.integers(2, 5))
    outputs = 2 * rng.standard_normal((n_u, K))
    gamma = max_loss(np.ptp(outputs, axis=-1).max(), K)
    return random_joint(rng, n_x, K), random_features(rng, n_x, n_u), cross_entropies(outputs), gamma
