"""The structure matrix A_x = J_x J_xᵀ of every sample, its extreme eigenvalues, and the gradient energy.

This file is what you call. ``engine`` computes the matrices block by block, ``graph`` walks back through what autograd recorded,
``rules`` says what happens at each layer.
"""

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .._checks import (
    mixing_or_random,
    require,
    require_callable,
    require_device,
    require_double,
    require_finite,
    require_integer,
    require_kind,
    require_name,
    require_number,
    require_symmetric,
    require_trainable,
    shown,
)
from ..duality import SHANNON, Generator, as_mean, fenchel_young_loss, require_generator
from .engine import LOW, blocks, forward, in_other_company, measured, precision, require_same, run
from .graph import coarsest, leaves, nodes_below, out_of_memory
from .rules import real


def structure_matrix(model: nn.Module, inputs: Tensor, *, dtype: torch.dtype | None = None, chunk: int | None = None,
                     verify: str = "one") -> Tensor:
    """A_x = J_x J_xᵀ for every sample, exact (slug ``chain-identity``).

    The first call on a model costs a little more: it learns the form of the model's graph. Every call is guarded: the samples pass
    the model once more in other company, and one sample's matrix is compared with a plain backward pass.

    Args:
        model: Any ``nn.Module`` that maps (B, ...) to outputs (B, K) and whose samples do not interact. Its parameters that
            require gradients make up θ, a complex one as two real ones. It is left as it was.
        inputs: (B, ...).
        dtype: Compute and return in this precision, e.g. ``torch.float64``; by default in the model's own, but in float32 for a
            model in bfloat16 or half, with the K×K sums in float64.
        chunk: Samples at a time; chosen by default. Memory grows with it; less is tried by itself when memory runs out.
        verify: "one" compares one sample of each call with autograd, "all" every one, "none" neither that nor the company.

    Returns:
        A, (B, K, K).

    Raises:
        TypeError: If the model is no module, the inputs no tensor, or the dtype no dtype.
        ValueError: Without trainable parameters, on inputs that are not finite or that the model does not take, outputs that are not
            (B, K) and finite, and on models whose samples interact or whose output is random.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> structure_matrix(net, torch.tensor([[1.0, 2.0]]))  # (‖x‖² + 1) I
        tensor([[[6., 0.],
                 [0., 6.]]])
    """
    _check(model, inputs, dtype, chunk, verify)
    with _explained(model, inputs, dtype), measured(model, inputs.device):
        A = torch.cat([_finite(outputs, gram)[1] for outputs, gram in blocks(model, inputs, None, dtype, chunk, verify)])
    return A.to(dtype or _dtype(model))


def extreme_eigenvalues(A: Tensor, on_simplex: bool = False) -> tuple[Tensor, Tensor]:
    """The extreme eigenvalues of each structure matrix, in float64.

    Args:
        A: (B, K, K).
        on_simplex: Restrict A to the subspace 1^⊥, where differences of probability vectors live.

    Returns:
        (λ_min, λ_max), (B,) each.

    Raises:
        ValueError: If A is not square, finite and symmetric.

    Example:
        >>> A = torch.diag(torch.tensor([0.5, 2.0, 4.5]))[None]
        >>> extreme_eigenvalues(A)
        (tensor([0.5000], dtype=torch.float64), tensor([4.5000], dtype=torch.float64))
    """
    require_kind("A", A, Tensor, "a tensor of matrices (B, K, K)")
    require_kind("on_simplex", on_simplex, bool, "True or False")
    require_symmetric("A", A)
    require(A.shape[-1] >= 2 or not on_simplex, f"A of shape {tuple(A.shape)} on the simplex", "K ≥ 2", "1^⊥ is empty for K = 1.")
    A = A.double()
    if on_simplex:
        K = A.shape[-1]
        Q = torch.linalg.qr(torch.cat([torch.ones(K, 1), torch.eye(K)[:, : K - 1]], 1).to(A))[0][:, 1:]
        A = Q.mT @ A @ Q
    lam = torch.linalg.eigvalsh(A)
    return lam[..., 0], lam[..., -1]


def matrix_free_eigenvalues(model: nn.Module, inputs: Tensor, *, tolerance: float = 1e-6,
                            dtype: torch.dtype | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The extreme eigenvalues of A_x where K is too large for A_x: Lanczos' method on v ↦ J_x (J_xᵀ v), one sample at a time.

    Args:
        model, inputs, dtype: As in ``structure_matrix``.
        tolerance: Stop when both residuals fall below this share of λ_max; after K steps at the latest, where it is exact.

    Returns:
        (λ_min, λ_max, error), (B,) each, float64. Within ``error``, the larger of the two residuals ‖A v − λ v‖, of each value
        lies an eigenvalue of A_x.

    Raises:
        ValueError: As ``structure_matrix``.

    Example:
        >>> net = nn.Linear(2, 1000)  # a matrix of a million entries that is never made
        >>> low, high, error = matrix_free_eigenvalues(net, torch.tensor([[1.0, 2.0]]))
        >>> round(low.item(), 3), round(high.item(), 3)
        (6.0, 6.0)
    """
    _check(model, inputs, dtype)
    require_number("tolerance", tolerance, "[0, 1)")
    dtype = dtype or _dtype(model)
    found = []
    with _explained(model, inputs, dtype), measured(model, inputs.device):
        others = in_other_company(model, inputs, dtype, 1)
        for b in range(len(inputs)):
            found.append(_extremes(model, inputs[b:b + 1], others[:, b:b + 1], dtype, tolerance))
    low, high, error = torch.tensor(found, dtype=torch.float64).to(inputs.device).T
    return low, high, error


def _extremes(model: nn.Module, x: Tensor, others: Tensor, dtype: torch.dtype, tolerance: float) -> tuple[float, float, float]:
    """(λ_min, λ_max, error) of one sample (1, ...), whose outputs in other company were ``others`` (n, 1, K)."""
    outputs, params = run(model, x, dtype)
    require_finite("outputs", outputs)
    coarse = coarsest(nodes_below(outputs.grad_fn))
    require_same(outputs.detach(), others, coarse)
    chosen = [p for p in leaves(outputs.grad_fn) if id(p) in params]
    w, largest = torch.zeros_like(outputs, requires_grad=True), 0.0

    def product(v: Tensor) -> Tensor:
        nonlocal largest
        back = torch.autograd.grad(outputs, chosen, v.to(w)[None], retain_graph=True)
        found = torch.autograd.grad(rows, w, back, retain_graph=True)[0][0].double()
        largest = max(largest, float(found.norm()))
        square = sum(float(part.abs().double().square().sum()) for part in back)  # ‖Jᵀv‖² is vᵀJJᵀv, by the first pass alone
        if abs(float(v @ found) - square) > torch.finfo(coarse).eps ** 0.5 * largest:
            raise RuntimeError("its backward pass leaves no graph behind")  # autograd leaves such a part out, without a word
        return found

    try:
        rows = torch.autograd.grad(outputs, chosen, w, create_graph=True)  # Jᵀ w, linear in w: a backward pass through it is J
        return lanczos(product, outputs.shape[1], tolerance=tolerance, device=outputs.device)
    except RuntimeError as error:
        require(outputs.shape[1] <= LARGE and not out_of_memory(error), f"a model with a layer that has no second derivative ({error})",
                f"second derivatives, or K ≤ {LARGE} outputs", "Only then can the products be formed without A.")
    A = torch.cat([gram for _, gram in blocks(model, x, dtype=dtype)])
    low, high = extreme_eigenvalues(A)
    return float(low), float(high), 0.0


LARGE = 2000  # outputs up to which A itself is formed where a layer has no second derivative


def lanczos(matvec: Callable[[Tensor], Tensor], size: int, *, tolerance: float, max_steps: int | None = None, seed: int = 0,
            device: torch.device | str = "cpu") -> tuple[float, float, float]:
    """The smallest and the largest eigenvalue of a symmetric map, by Lanczos' method from a random vector.

    Each new vector is made orthogonal to all before, twice. What is found never leaves the range of the eigenvalues.

    Args:
        matvec: The map, (size,) -> (size,), float64.
        size: Of the vectors.
        tolerance: Stop when both residuals fall below this share of the largest |eigenvalue|.
        max_steps: Stop after so many products at the latest; by default, and at most, after ``size``, where it is exact.
        seed: Of the first vector.
        device: Where the vectors live.

    Returns:
        (smallest, largest, error). Within ``error``, the larger of the two residuals ‖A v − λ v‖, of each value lies an eigenvalue.

    Raises:
        TypeError: If ``matvec`` is no function.
        ValueError: On numbers out of range, or a ``matvec`` that returns anything but (size,) finite numbers in float64.

    Example:
        >>> scale = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
        >>> low, high, error = lanczos(lambda v: scale * v, 3, tolerance=0)
        >>> round(low, 6), round(high, 6)
        (1.0, 4.0)
    """
    require_callable("matvec", matvec, "a function (size,) -> (size,)")
    require_integer("size", size, 1)
    require_number("tolerance", tolerance, "[0, 1)")
    require_integer("max_steps", max_steps, 1, optional=True)
    require_integer("seed", seed)
    require_device("device", device)
    basis = torch.randn(1, size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(device)
    basis /= basis.norm()
    last = min(size, max_steps or size)
    diagonal, beside = [], []
    while True:
        w = matvec(basis[-1])
        require(isinstance(w, Tensor) and w.shape == (size,) and w.dtype == torch.float64, f"`matvec` that returns {shown(w)}",
                f"a tensor float64 of shape ({size},)")
        diagonal.append(float(w @ basis[-1]))
        require(math.isfinite(diagonal[-1]), "`matvec` with products that are NaN or infinite", "finite numbers")
        for _ in range(2):
            w = w - basis.T @ (basis @ w)
        beside.append(float(w.norm()))
        theta, vectors = torch.linalg.eigh(torch.diag(torch.tensor(diagonal, dtype=torch.float64))
                                           + sum(torch.diag(torch.tensor(beside[:-1], dtype=torch.float64), d) for d in (-1, 1)))
        error = beside[-1] * float(vectors[-1, [0, -1]].abs().max())
        if error <= tolerance * float(theta.abs().max()) or len(basis) == last:
            return float(theta[0]), float(theta[-1]), error
        basis = torch.cat([basis, (w / beside[-1])[None]])


def gradient_energy(model: nn.Module, inputs: Tensor, targets: Tensor, generator: Generator = SHANNON, *, verify: str = "one") -> Tensor:
    """g_x = ‖∇_θ d_Φ‖² = eᵀ A_x e of every sample, in one walk back and without A.

    Args:
        model, inputs, verify: As in ``structure_matrix``.
        targets: Labels (B,) or mean vectors (B, K).
        generator: The generator of the loss.

    Returns:
        (B,), float64.

    Raises:
        ValueError: As ``structure_matrix``, and on targets that do not fit the outputs.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> _ = [nn.init.zeros_(p) for p in net.parameters()]  # so both classes have probability ½
        >>> gradient_energy(net, torch.tensor([[1.0, 2.0]]), torch.tensor([0]))  # ‖e‖² = ½, A = 6 I
        tensor([3.], dtype=torch.float64)
    """
    _check_targets(inputs, targets, generator)
    _check(model, inputs, verify=verify)

    def residual(outputs: Tensor, part: slice) -> Tensor:
        require_finite("outputs", outputs)
        return (generator.predict(outputs) - as_mean(generator, targets[part], outputs))[None]

    with _explained(model, inputs), measured(model, inputs.device):
        return torch.cat([gram[:, 0, 0] for _, gram in blocks(model, inputs, residual, verify=verify)])


def gradient_correlation(model: nn.Module, inputs: Tensor, targets: Tensor, generator: Generator = SHANNON) -> float:
    """ρ = ‖∇R̂‖² / mean g_x in [0, 1]: how far the samples' gradients agree (slug ``gradient-correlation-factor``).

    Args:
        model, inputs, targets, generator: As in ``gradient_energy``.

    Returns:
        A float; nan if every gradient is zero.

    Raises:
        ValueError: As ``gradient_energy``.

    Example:
        >>> net = nn.Linear(2, 2)
        >>> inputs, labels = torch.ones(2, 2), torch.tensor([1, 1])
        >>> round(gradient_correlation(net, inputs, labels), 3)  # twice the same sample
        1.0
    """
    energy = gradient_energy(model, inputs, targets, generator).mean()
    total: dict = {}
    with measured(model, inputs.device):
        dtype = precision(model, inputs)
        for part in torch.arange(len(inputs)).split(64):
            outputs, params = run(model, inputs[part], dtype)
            chosen = {params[id(p)]: p for p in leaves(outputs.grad_fn) if id(p) in params}
            e = generator.predict(outputs.detach()) - as_mean(generator, targets[part], outputs.detach())
            for name, gradient in zip(chosen, torch.autograd.grad(outputs, list(chosen.values()), e / len(inputs))):
                total[name] = total.get(name, 0) + real(gradient).double()
    return float(sum(gradient.square().sum() for gradient in total.values()) / energy)


@dataclass(frozen=True)
class Probe:
    """What the theory needs to know about each sample, all (B,) and float64.

    Attributes:
        loss: d_Φ, in nats for Shannon.
        residual: ‖e‖², e = prediction − target.
        energy: g_x = eᵀ A_x e.
        lam_min, lam_max: Extreme eigenvalues of A_x; on 1^⊥ where the generator lives on the simplex.
        p_min: The smallest entry of the prediction.

    Example:
        >>> seen = probe(nn.Linear(2, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
        >>> round((seen.energy / seen.residual).item(), 3)  # between the eigenvalues, here both 6
        6.0
    """

    loss: Tensor
    residual: Tensor
    energy: Tensor
    lam_min: Tensor
    lam_max: Tensor
    p_min: Tensor


def probe(model: nn.Module, inputs: Tensor, targets: Tensor, generator: Generator = SHANNON, *, verify: str = "one") -> Probe:
    """Everything about each sample from one pass forward and one walk back.

    Args:
        model, inputs, targets, generator, verify: As in ``gradient_energy``.

    Returns:
        A ``Probe``.

    Raises:
        ValueError: As ``structure_matrix``, and on targets that do not fit the outputs.

    Example:
        >>> seen = probe(nn.Linear(2, 2), torch.tensor([[1.0, 2.0]]), torch.tensor([0]))
        >>> round(seen.lam_min.item(), 3), round(seen.lam_max.item(), 3)
        (6.0, 6.0)
    """
    _check_targets(inputs, targets, generator)
    _check(model, inputs, verify=verify)
    with _explained(model, inputs), measured(model, inputs.device):
        outputs, A = (torch.cat(parts) for parts in zip(*(_finite(*block) for block in blocks(model, inputs, verify=verify))))
    outputs = outputs.double()
    prediction = generator.predict(outputs)
    e = prediction - as_mean(generator, targets, outputs)
    lam_min, lam_max = extreme_eigenvalues(A, generator.on_simplex)
    return Probe(fenchel_young_loss(generator, targets, outputs), e.square().sum(-1), (e * (A @ e[..., None])[..., 0]).sum(-1),
                 lam_min, lam_max, prediction.amin(-1))


def _dtype(model: nn.Module) -> torch.dtype:
    """The precision of the results: the model's own, but float32 at least, and real."""
    dtype = next(p for p in model.parameters() if p.requires_grad).dtype
    return torch.float32 if dtype in LOW else dtype.to_real()


def _finite(outputs: Tensor, gram: Tensor) -> tuple[Tensor, Tensor]:
    require_finite("outputs", outputs, "Look for a learning rate that is too large or inputs that are not scaled.")
    return outputs, gram


@contextlib.contextmanager
def _explained(model: nn.Module, inputs: Tensor, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Where the engine fails, look whether the model fails on these inputs by itself, or returns a NaN, which never equals itself."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        for part in inputs.split(64):
            try:
                outputs, _ = forward(model, part, dtype)
            except ValueError:
                raise
            except Exception as reason:
                raise ValueError(f"Given: inputs {shown(inputs)}, on which the model fails ({type(reason).__name__}: {reason}). Expected: "
                                 "inputs that it takes. Compare their shape, dtype and device with those of its first layer.") from error
            _finite(outputs.detach(), outputs)
        raise


def _check_targets(inputs: Tensor, targets: Tensor, generator: Generator) -> None:
    require_generator(generator)
    require_kind("inputs", inputs, Tensor, "a tensor (B, ...)")
    require_kind("targets", targets, Tensor, "a tensor of labels (B,) or mean vectors (B, K)", "Wrap it in `torch.as_tensor`.")
    require(targets.dim() >= 1 and len(targets) == len(inputs) if inputs.dim() else True, f"{shown(inputs)} as inputs and "
            f"{shown(targets)} as targets", "one target an input")


def _check(model: nn.Module, inputs: Tensor, dtype: torch.dtype | None = None, chunk: int | None = None, verify: str = "one") -> None:
    require_kind("inputs", inputs, Tensor, "a tensor (B, ...)", "Wrap it in `torch.as_tensor`.")
    require_kind("dtype", dtype, (torch.dtype, type(None)), "a dtype, such as torch.float64, or None")
    require(dtype is None or dtype.is_floating_point, f"dtype={dtype}", "a floating-point dtype")
    require_integer("chunk", chunk, 1, optional=True)
    require_trainable("model", model, "an nn.Module that maps (B, ...) to (B, K)")
    require(not inputs.is_meta, "inputs on meta, which have no values", "a device that computes")
    require_double("inputs", inputs.device)
    require_name("way to verify", verify, ("one", "all", "none"))
    require(inputs.layout == torch.strided, shown(inputs), "dense inputs")
    require(inputs.dim() >= 1 and len(inputs) >= 1, f"inputs {tuple(inputs.shape)}", "a tensor (B, ...) with at least one sample")
    if inputs.is_floating_point():
        require_finite("inputs", inputs)
    kind, name = mixing_or_random(model) or ("", "")
    require(kind != "batch normalization", f"batch normalization in training mode (`{name}`)", "samples that do not interact",
            "Else one sample has no Jacobian of its own: use `model.eval()`, or layer or group norm.")
    require(kind != "dropout", f"dropout in training mode (`{name}`)", "outputs that are not random", "Use `model.eval()`.")
