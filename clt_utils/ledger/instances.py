"""Random instances for the checks: numbers, matrices and small networks, all in float64."""

import numpy as np
import torch
from torch import Tensor

from ..duality import Generator


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
