"""Generalized entropy, information and information loss of finite distributions, for every generator.

A *joint* is an array (n_x, K) of probabilities q(x, y) that sum to one; labels are counted by one-hot vectors. All functions take
numpy arrays or tensors and answer in kind, in float64, a tensor on its own device. Informations are sums of Bregman divergences,
so they are never negative, and zero far below rounding when nothing is lost.
"""

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from ._checks import integers, real_tensor, require, require_distribution, require_number
from .duality import SHANNON, Generator, bregman_divergence, require_generator

Array = Any  # an array or a tensor of numbers; the same comes out, in float64


def entropy(p: Array, generator: Generator = SHANNON) -> Array:
    """Ent_Φ(Y) = E Φ(1_Y) − Φ(E 1_Y) of label distributions (slug ``entropy-nonnegative``).

    Args:
        p: Probabilities of the K labels, (..., K).
        generator: The generator Φ; Shannon gives the entropy in nats, Gini ½(1 − Σ p²).

    Returns:
        The entropy of each distribution, (...,).

    Raises:
        ValueError: If p holds NaNs, negative numbers, or does not sum to one.

    Example:
        >>> fair, biased = entropy([[0.5, 0.5], [0.9, 0.1]])
        >>> print(round(fair, 4), round(biased, 4))  # in nats; the fair coin log 2
        0.6931 0.3251
    """
    require_generator(generator)
    p_ = _distribution(p, "p", dims=1)
    return _like(p, _entropy(p_, generator))


def conditional_entropy(joint: Array, generator: Generator = SHANNON) -> Array:
    """Ent_Φ(Y|X) = Σ_x q(x) Ent_Φ(Y|X=x), the floor of every risk (slug ``risk-floor``).

    Args:
        joint: Probabilities q(x, y), (n_x, K).
        generator: The generator Φ.

    Returns:
        The conditional entropy, a number.

    Raises:
        ValueError: If the joint is not one distribution over (n_x, K).

    Example:
        >>> joint = np.array([[0.5, 0.0], [0.25, 0.25]])  # the first input decides the label, the second does not
        >>> print(round(conditional_entropy(joint), 4))  # ½ log 2
        0.3466
    """
    require_generator(generator)
    q = _distribution(joint, "joint", dims=2)
    weight, conditional = _split(q)
    return _like(joint, (weight * _entropy(conditional, generator)).sum())


def mutual_information(joint: Array, generator: Generator = SHANNON) -> Array:
    """I_Φ(X;Y) = Ent_Φ(Y) − Ent_Φ(Y|X) = E B_Φ(E[1_Y|X], E 1_Y) ≥ 0 (slug ``information-nonnegative``).

    Args:
        joint: Probabilities q(x, y), (n_x, K).
        generator: The generator Φ.

    Returns:
        The information, a number; in nats for Shannon.

    Raises:
        ValueError: If the joint is not one distribution over (n_x, K).

    Example:
        >>> print(round(mutual_information([[0.5, 0.0], [0.0, 0.5]]), 4))  # X decides Y: log 2
        0.6931
        >>> print(mutual_information([[0.25, 0.25], [0.25, 0.25]]))  # X says nothing
        0.0
    """
    q = _distribution(joint, "joint", dims=2)
    return _like(joint, _information_loss(q, torch.zeros(len(q), dtype=torch.long, device=q.device), generator))


def information_loss(joint: Array, features: Array, generator: Generator = SHANNON) -> Array:
    """Ent_Φ(Y|g(X)) − Ent_Φ(Y|X) ≥ 0: what merging inputs costs (slug ``entropy-data-processing``).

    Args:
        joint: Probabilities q(x, y), (n_x, K).
        features: g as integers, (n_x,): inputs with the same number are merged.
        generator: The generator Φ.

    Returns:
        The information lost, a number; zero iff merged inputs have the same conditional mean of 1_Y.

    Raises:
        ValueError: If the joint is not a distribution, or features is not one integer for each input.

    Example:
        >>> joint = np.array([[0.3, 0.0], [0.3, 0.0], [0.0, 0.4]])
        >>> print(information_loss(joint, [0, 0, 1]))  # merges what has the same label
        0.0
        >>> print(round(information_loss(joint, [0, 1, 1]), 4))
        0.478
    """
    q = _distribution(joint, "joint", dims=2)
    numbers = integers("features", features)
    require(numbers.shape == q.shape[:1], f"features of shape {numbers.shape}", f"integers of shape {tuple(q.shape[:1])}")
    return _like(joint, _information_loss(q, torch.from_numpy(numbers.astype(np.int64)).to(q.device), generator))


def renyi_entropy(p: Array, order: float) -> Array:
    """H_a = log(Σ p^a) / (1 − a) of one distribution; order ½ bounds the error of sampling it (slug ``tv-mean``).

    Args:
        p: Probabilities, any shape, all together one distribution.
        order: a ≥ 0; 0 counts the support, 1 is Shannon's entropy, ∞ is −log max p.

    Returns:
        The entropy in nats, a number.

    Raises:
        ValueError: If p is not a distribution or the order is negative.

    Example:
        >>> p = [0.5, 0.25, 0.25]
        >>> print(*(round(renyi_entropy(p, order), 4) for order in (0, 0.5, 1, np.inf)))  # from log 3 down to log 2
        1.0986 1.0696 1.0397 0.6931
    """
    require_number("order", order, "[0, ∞]")
    log_p = _distribution(p, "p").flatten().log()
    log_p = log_p[log_p > -torch.inf]
    if order == 1:
        value = -(log_p.exp() * log_p).sum()
    elif order == np.inf:
        value = -log_p.max()
    else:
        value = torch.logsumexp(order * log_p, 0) / (1 - order)
    return _like(p, value)


def total_variation(p: Array, q: Array) -> Array:
    """TV(p, q) = ½ Σ |p − q|, the largest difference in probability of any event (slug ``tv-bound``).

    Args:
        p, q: Two distributions of the same shape, each array as a whole one distribution (a joint, for instance).

    Returns:
        A number in [0, 1].

    Raises:
        ValueError: If one is not a distribution or the shapes differ.

    Example:
        >>> print(round(total_variation([0.5, 0.5], [0.8, 0.2]), 4))
        0.3
    """
    p_, q_ = _distribution(p, "p"), _distribution(q, "q")
    require(p_.shape == q_.shape, f"shapes {tuple(p_.shape)} and {tuple(q_.shape)}", "two distributions of the same shape")
    return _like(p, 0.5 * (p_ - q_.to(p_.device)).abs().sum())


def _entropy(p: Tensor, generator: Generator) -> Tensor:
    K = p.shape[-1]
    seen = (p > 0).reshape(-1, K).any(0).nonzero()[:, 0]
    at_vertices = torch.cat([generator.value(one_hot(labels, K).to(p.dtype)) for labels in seen.split(512)])  # never K² numbers
    return (p[..., seen] * at_vertices).sum(-1) - generator.value(p)


def _information_loss(q: Tensor, features: Tensor, generator: Generator) -> Tensor:
    weight, conditional = _split(q)
    _, group = features.unique(return_inverse=True)
    _, merged = _split(q.new_zeros(int(group.max()) + 1, q.shape[1]).index_add(0, group, q))
    seen = weight > 0
    return (weight[seen] * bregman_divergence(generator, conditional[seen], merged[group[seen]])).sum()


def _split(q: Tensor) -> tuple[Tensor, Tensor]:
    """The joint (n_x, K) as marginal weights (n_x,) and conditional distributions (n_x, K); uniform where the weight is 0."""
    weight = q.sum(-1)
    return weight, torch.where(weight[:, None] > 0, q / torch.where(weight > 0, weight, 1)[:, None], 1 / q.shape[1])


def _distribution(p: Array, name: str, dims: int | None = None) -> Tensor:
    """The array as a float64 tensor, checked: nonnegative, and summing to one over the last ``dims`` (all by default)."""
    p = real_tensor(name, p).detach()
    require_distribution(name, p, dims)
    return p


def _like(given: Array, result: Tensor) -> Array:
    return result if isinstance(given, Tensor) else result.numpy()[()]
