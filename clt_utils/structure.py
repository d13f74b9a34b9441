"""The structure matrix A_x = J_x J_xᵀ of every sample, its extreme eigenvalues, and the gradient energy."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.func import functional_call, jacrev, vmap

from .duality import SHANNON, as_mean, fenchel_young_loss


def structure_matrix(model, inputs, *, dtype=None, chunk=None):
    """A_x = J_x J_xᵀ for every sample, (B, K, K), exact (slug ``chain-identity``)."""
    params = {k: p for k, p in model.named_parameters() if p.requires_grad}
    rest = {k: p for k, p in model.named_parameters() if not p.requires_grad} | dict(model.named_buffers())

    def output(p, x):
        return functional_call(model, (p, rest), (x[None],))[0]

    jacobians = vmap(jacrev(output), in_dims=(None, 0), chunk_size=chunk)(params, inputs)
    flat = torch.cat([j.flatten(2) for j in jacobians.values()], -1).to(dtype or inputs.dtype)
    return flat @ flat.mT


def extreme_eigenvalues(A, on_simplex=False):
    """(λ_min, λ_max) of each structure matrix, (B,) each; on the subspace 1^⊥ if ``on_simplex``."""
    A = A.double()
    if on_simplex:
        K = A.shape[-1]
        Q = torch.linalg.qr(torch.cat([torch.ones(K, 1), torch.eye(K)[:, : K - 1]], 1).to(A))[0][:, 1:]
        A = Q.mT @ A @ Q
    lam = torch.linalg.eigvalsh(A)
    return lam[..., 0], lam[..., -1]


@dataclass(frozen=True)
class Probe:
    """What the theory needs to know about each sample, all (B,)."""

    loss: Tensor
    residual: Tensor
    energy: Tensor
    lam_min: Tensor
    lam_max: Tensor
    p_min: Tensor


def probe(model, inputs, targets, generator=SHANNON):
    """Loss, residual, energy, extreme eigenvalues and smallest predicted probability of every sample."""
    with torch.no_grad():
        outputs = model(inputs).double()
    A = structure_matrix(model, inputs, dtype=torch.float64)
    mu, prediction = as_mean(generator, targets, outputs), generator.predict(outputs)
    e = prediction - mu
    lam_min, lam_max = extreme_eigenvalues(A, generator.on_simplex)
    return Probe(fenchel_young_loss(generator, targets, outputs), e.square().sum(-1), (e * (A @ e[..., None])[..., 0]).sum(-1),
                 lam_min, lam_max, prediction.amin(-1))
