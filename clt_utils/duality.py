"""Generators, their conjugates, the predictions they induce, and the losses they generate.

A generator Φ of the zoo is a sum of one-dimensional convex functions, restricted to a convex domain (all of ℝ^K, a box,
the orthant, the simplex). Everything acts on the last dimension K, is batched over the others, and is made of plain
tensor operations: autograd twice, ``torch.func``, ``torch.compile`` and any device work.

Accuracy. The sum Φ(μ) + Φ*(f) − ⟨μ, f⟩ cancels when the loss is small. Each generator of the zoo therefore knows its
loss as a sum of nonnegative terms: it is never below zero, and with ε = torch.finfo(dtype).eps its error stays within
4 ε (1 + max|f|) (d + ‖ŷ − μ‖₁), which is about what rounding the outputs costs anyway.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid, one_hot, softplus
from torch.special import entr

from ._checks import require, require_kind, require_number, require_tensor


@dataclass(frozen=True)
class Generator:
    """A convex, closed, proper function Φ with what follows from it; all maps act on the last dimension K.

    Attributes:
        name: How the generator is called in tables and errors.
        value: Φ(μ), shape (..., K) -> (...,); +∞ outside the domain.
        conjugate: Φ*(f) = sup_μ ⟨μ, f⟩ − Φ(μ), shape (..., K) -> (...,).
        predict: ∇Φ*(f), the prediction, shape (..., K) -> (..., K).
        contains: Whether μ lies in the domain of Φ up to rounding, shape (..., K) -> (...,) bool.
        strong_convexity: σ with d_Φ(μ; f) ≥ (σ/2)‖μ − ŷ‖₂² for every f and every μ in the domain, any K; 0 if none.
        smoothness: β_Φ with d_Φ(μ; f) ≤ (β_Φ/2)‖μ − ŷ‖₂² for the same; inf if none (slug ``fy-quadratic-sandwich``).
        on_simplex: Whether the domain is the probability simplex, so that residuals sum to zero.
        loss: d_Φ(μ; f) without cancellation, (..., K), (..., K) -> (...,); None for Φ(μ) + Φ*(f) − ⟨μ, f⟩ as it stands.
        domain: The domain in symbols.
        constants: What else is known of σ and β_Φ: other norms, smaller regions.

    Example:
        >>> outputs = torch.tensor([0.0, 0.0])
        >>> SHANNON.predict(outputs), SHANNON.conjugate(outputs)  # ½ and ½; log 2
        (tensor([0.5000, 0.5000]), tensor(0.6931))
    """

    name: str
    value: Callable[[Tensor], Tensor]
    conjugate: Callable[[Tensor], Tensor]
    predict: Callable[[Tensor], Tensor]
    contains: Callable[[Tensor], Tensor]
    strong_convexity: float
    smoothness: float
    on_simplex: bool = False
    loss: Callable[[Tensor, Tensor], Tensor] | None = None
    domain: str = ""
    constants: str = ""


def require_generator(generator: object) -> None:
    """Raise ``TypeError`` unless ``generator`` is one: its name in quotes, or the function ``tsallis`` itself, is not.

    Args:
        generator: What was given where a ``Generator`` is expected.

    Raises:
        TypeError: If it is none.

    Example:
        >>> require_generator(tsallis(1.5))
    """
    require_kind("generator", generator, Generator, "a Generator, such as `clt_utils.duality.SHANNON`")


# Domains, up to rounding ---------------------------------------------------------------------------------------------

def _tolerance(x: Tensor) -> float:
    return max(1e-6, 16 * torch.finfo(x.dtype).eps)


def _in_space(mu: Tensor) -> Tensor:
    return torch.isfinite(mu).all(-1)


def _in_simplex(mu: Tensor) -> Tensor:
    return _in_orthant(mu) & ((mu.sum(-1) - 1).abs() <= _tolerance(mu))


def _in_orthant(mu: Tensor) -> Tensor:
    return (mu >= -_tolerance(mu)).all(-1) & _in_space(mu)


def _in_box(low: float, high: float) -> Callable[[Tensor], Tensor]:
    return lambda mu: ((mu >= low - _tolerance(mu)) & (mu <= high + _tolerance(mu))).all(-1)


def _nonnegative(x: Tensor) -> Tensor:
    return torch.where(x < 0, 0, x)  # unlike clamp, with derivative 1 at the border


# Deformed exponential and logarithm: the ordinary ones at α = 1, powers otherwise, without loss of digits in between ---

def _deformed_exp(x: Tensor, alpha: float) -> Tensor:
    """[1 + (α−1)x]₊^(1/(α−1)); e^x at α = 1."""
    if alpha == 1:
        return x.exp()
    inside = (alpha - 1) * x > -1
    return torch.where(inside, (torch.log1p((alpha - 1) * torch.where(inside, x, 0)) / (alpha - 1)).exp(), 0)


def _deformed_log(x: Tensor, alpha: float) -> Tensor:
    """(x^(α−1) − 1)/(α−1) for x ≥ 0, α > 1; its derivative at 0 is taken as 0."""
    positive = x > 0
    log = torch.where(positive, x, 1).log()
    return torch.where(positive, torch.expm1((alpha - 1) * log) / (alpha - 1), -1 / (alpha - 1))


MASKED = -1e4
"""What stands for an output of −∞ below a largest of 0, or for log 0: in every precision its prediction is 0 just the same."""


def _entropic_loss(mu: Tensor, log_p: Tensor, alpha: float = 1.0) -> Tensor:
    """Σ_k of the divergence of μ_k from p_k ≥ 0 under (t^α − t)/(α(α−1)), t log t at α = 1, from the deformed log of p.

    Where log_p says "below zero" (off the support of entmax) the linear part that a restricted domain adds is included.
    """
    mu = _nonnegative(mu)
    log_p = torch.where((mu == 0) & (log_p == -torch.inf), MASKED, log_p)  # 0 · ∞ is 0 here
    p = _deformed_exp(log_p, alpha)
    power = 1 + (alpha - 1) * log_p.clamp_min(-1 / (alpha - 1)) if alpha > 1 else 1.0  # p^(α−1)
    mu_log_mu = -entr(mu) if alpha == 1 else mu * _deformed_log(mu, alpha)
    terms = (mu_log_mu - mu + power * p) / alpha - mu * log_p
    with torch.no_grad():  # where μ ≈ p these terms cancel to second order: replace the value, keep the derivatives
        t = mu.log() - (log_p if alpha == 1 else p.log())
        stretched = t if alpha == 1 else torch.expm1((alpha - 1) * t) / (alpha - 1)
        accurate = p * power / alpha * (t.exp() * stretched - torch.expm1(t))
        correction = torch.where(t.abs() < 0.5, accurate.clamp_min(0), terms.clamp_min(0)) - terms
    return (terms + torch.where(correction.isfinite(), correction, 0)).sum(-1)


# The zoo -------------------------------------------------------------------------------------------------------------

SQUARED = Generator(
    name="squared",
    value=lambda mu: 0.5 * mu.square().sum(-1),
    conjugate=lambda f: 0.5 * f.square().sum(-1),
    predict=lambda f: f,
    contains=_in_space,
    strong_convexity=1.0,
    smoothness=1.0,
    loss=lambda mu, f: 0.5 * (f - mu).square().sum(-1),
    domain="ℝ^K",
    constants="both exact, everywhere",
)
"""Φ = ½‖μ‖²: squared loss; the prediction is the output."""

SHANNON = Generator(
    name="Shannon",
    value=lambda mu: torch.where(_in_simplex(mu), -entr(_nonnegative(mu)).sum(-1), torch.inf),
    conjugate=lambda f: torch.logsumexp(f, -1),
    predict=lambda f: torch.softmax(f, -1),
    contains=_in_simplex,
    strong_convexity=2.0,
    smoothness=math.inf,
    on_simplex=True,
    loss=lambda mu, f: _entropic_loss(mu, torch.log_softmax(f, -1)),
    domain="simplex",
    constants="σ = 1 in ℓ₁; β = 1/c where both μ and ŷ stay ≥ c",
)
"""Φ = Σ μ log μ on the simplex: softmax and cross-entropy (Kullback–Leibler divergence for soft targets)."""

BINARY = Generator(
    name="binary",
    value=lambda mu: torch.where(_in_box(0, 1)(mu), -(entr(_nonnegative(mu)) + entr(_nonnegative(1 - mu))).sum(-1), torch.inf),
    conjugate=lambda f: softplus(f, threshold=torch.inf).sum(-1),
    predict=lambda f: torch.sigmoid(f),
    contains=_in_box(0, 1),
    strong_convexity=4.0,
    smoothness=math.inf,
    loss=lambda mu, f: _entropic_loss(torch.stack([mu, 1 - mu], -1), logsigmoid(torch.stack([f, -f], -1))).sum(-1),
    domain="[0, 1]^K",
    constants="β = 1/(c(1−c)) where both μ and ŷ stay in [c, 1−c]",
)
"""Φ = Σ μ log μ + (1−μ) log(1−μ): K separate yes-or-no questions, logistic loss. Targets are 0/1 means (..., K)."""


POISSON = Generator(
    name="Poisson",
    value=lambda mu: torch.where(_in_orthant(mu), -(entr(_nonnegative(mu)) + mu).sum(-1), torch.inf),
    conjugate=lambda f: f.exp().sum(-1),
    predict=lambda f: f.exp(),
    contains=_in_orthant,
    strong_convexity=0.0,
    smoothness=math.inf,
    loss=_entropic_loss,
    domain="[0, ∞)^K",
    constants="σ = 1/M where both μ and ŷ stay ≤ M; β = 1/c where both stay ≥ c",
)
"""Φ = Σ μ log μ − μ: counts; the prediction is e^f, the loss the Poisson deviance (half of it, as statisticians scale it)."""

HUBER = Generator(
    name="Huber",
    value=lambda mu: torch.where(_in_box(-1, 1)(mu), 0.5 * mu.square().sum(-1), torch.inf),
    conjugate=lambda f: (f.clamp(-1, 1) * (f - 0.5 * f.clamp(-1, 1))).sum(-1),
    predict=lambda f: f.clamp(-1, 1),
    contains=_in_box(-1, 1),
    strong_convexity=1.0,
    smoothness=math.inf,
    loss=lambda mu, f: _huber_loss(mu.clamp(-1, 1), f),
    domain="[−1, 1]^K",
    constants="σ exact; β = 1 where |f| ≤ 1",
)
"""Φ = ½‖μ‖² on the box [−1, 1]^K, whose conjugate is Huber's function. Targets lie in the box: not Huber regression."""


def _huber_loss(mu: Tensor, f: Tensor) -> Tensor:
    prediction = f.clamp(-1, 1)
    return (0.5 * (mu - prediction).square() + (prediction - mu) * (f - prediction)).sum(-1)


def _sparsemax_threshold(f: Tensor) -> Tensor:
    """τ with Σ_k [f_k − τ]₊ = 1, (..., 1), by sorting."""
    top = f.sort(-1, descending=True).values
    excess = top.cumsum(-1) - 1
    ranks = torch.arange(1, f.shape[-1] + 1, device=f.device, dtype=f.dtype)
    size = (ranks * top > excess).sum(-1, keepdim=True)
    return excess.gather(-1, (size - 1).clamp_min(0)) / size  # size is 0 only for NaNs


def _shifted(f: Tensor) -> tuple[Tensor, Tensor]:
    """(f − max f, max f): generators on the simplex see only differences of outputs. Those of −∞ become very low ones."""
    top = f.detach().amax(-1, keepdim=True)
    return torch.where(f == -torch.inf, MASKED, f - top), top


def _gini_loss(mu: Tensor, f: Tensor) -> Tensor:
    f, _ = _shifted(f)
    threshold = _sparsemax_threshold(f)
    return (0.5 * (mu - (f - threshold).relu()).square() + _nonnegative(mu) * (threshold - f).relu()).sum(-1)


def _gini_conjugate(f: Tensor) -> Tensor:
    f, top = _shifted(f)
    threshold = _sparsemax_threshold(f)
    return (top + threshold)[..., 0] + 0.5 * (f - threshold).relu().square().sum(-1)


def _gini_predict(f: Tensor) -> Tensor:
    f, _ = _shifted(f)
    return (f - _sparsemax_threshold(f)).relu()


GINI = Generator(
    name="Gini",
    value=lambda mu: torch.where(_in_simplex(mu), 0.5 * mu.square().sum(-1), torch.inf),
    conjugate=_gini_conjugate,
    predict=_gini_predict,
    contains=_in_simplex,
    strong_convexity=1.0,
    smoothness=math.inf,
    on_simplex=True,
    loss=_gini_loss,
    domain="simplex",
    constants="σ exact; β = 1 where every ŷ_k > 0",
)
"""Φ = ½‖μ‖² on the simplex: sparsemax, the projection of the outputs onto the simplex."""


def _normalizer(f: Tensor, alpha: float) -> Tensor:
    """λ with Σ_k [1 + (α−1)(f_k − λ)]₊^(1/(α−1)) = 1 for outputs with max f = 0, (..., 1), once differentiable."""
    with torch.no_grad():
        low = torch.zeros_like(f[..., :1])
        high = low - math.expm1(-(alpha - 1) * math.log(f.shape[-1])) / (alpha - 1)  # where f is constant
        for _ in range(2 - int(math.log2(torch.finfo(f.dtype).eps))):
            middle = 0.5 * (low + high)
            above = _deformed_exp(f - middle, alpha).sum(-1, keepdim=True) > 1
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        p = _deformed_exp(f - low, alpha)
        weights = torch.where(p > 0, p ** (2 - alpha), 0)
        weights = weights / weights.sum(-1, keepdim=True)
    return low + (weights * (f - f.detach())).sum(-1, keepdim=True)  # the implicit function theorem


def tsallis(alpha: float) -> Generator:
    """Φ = Σ (μ^α − μ)/(α(α−1)) on the simplex: the loss of α-entmax, between softmax (α→1) and ever sparser ones.

    The prediction is p = [1 + (α−1)(f − λ)]₊^(1/(α−1)) with λ found by bisection to the rounding ε of the dtype: the error
    of p_k is of order ε for α ≤ 2, ε p_k^(2−α) beyond. No digits are lost as α→1, where λ becomes log Σ exp f.
    σ = 1 for 1 < α ≤ 2 (also in ℓ_s, s = 2/(3−α)), 0 beyond.

    Args:
        alpha: A number α > 1.

    Returns:
        The ``Generator``; ``tsallis(2)`` is ``GINI`` up to the constant ½ in Φ.

    Raises:
        ValueError: If alpha is not a finite number above 1.

    Example:
        >>> outputs = torch.tensor([1.0, 0.8, -2.0])
        >>> tsallis(1.5).predict(outputs)
        tensor([0.5705, 0.4295, 0.0000])
        >>> SHANNON.predict(outputs)  # softmax never says zero
        tensor([0.5352, 0.4382, 0.0266])
    """
    require_number("alpha", alpha, "(1, ∞)", "Use SHANNON for alpha = 1.")
    alpha = float(alpha)

    def value(mu: Tensor) -> Tensor:
        return torch.where(_in_simplex(mu), (_nonnegative(mu) * _deformed_log(mu, alpha)).sum(-1) / alpha, torch.inf)

    def conjugate(f: Tensor) -> Tensor:
        f, top = _shifted(f)
        log_p = f - _normalizer(f, alpha)
        power = (1 + (alpha - 1) * log_p).relu()
        return (top + f - log_p)[..., 0] + ((power * _deformed_exp(log_p, alpha)).sum(-1) - 1) / alpha

    def predict(f: Tensor) -> Tensor:
        f, _ = _shifted(f)
        p = _deformed_exp(f - _normalizer(f, alpha), alpha)
        return p / p.detach().sum(-1, keepdim=True)  # rounding alone keeps the sum from 1

    def loss(mu: Tensor, f: Tensor) -> Tensor:
        f, _ = _shifted(f)
        return _entropic_loss(mu, f - _normalizer(f, alpha), alpha)

    return Generator(f"Tsallis-{alpha:.12g}", value, conjugate, predict, _in_simplex, 1.0 if alpha <= 2 else 0.0, math.inf,
                     on_simplex=True, loss=loss, domain="simplex",
                     constants=f"σ = 1 also in ℓ_s, s = {2 / (3 - alpha):.3g}" if alpha <= 2 else "σ > 0 only where μ, ŷ ≥ c > 0")


def power(p: float) -> Generator:
    """Φ = Σ |μ|^p / p on ℝ^K, p > 1, whose conjugate is the same with q = p/(p−1).

    Args:
        p: A number above 1; ``power(2)`` is ``SQUARED``.

    Returns:
        The ``Generator``; σ and β_Φ are both 1 at p = 2, elsewhere there are none that hold everywhere.

    Raises:
        ValueError: If p is not a finite number above 1.

    Example:
        >>> cubic = power(3)
        >>> cubic.predict(torch.tensor([5.0, -2.0]))  # the root, with its sign
        tensor([ 2.2361, -1.4142])
    """
    require_number("p", p, "(1, ∞)")
    p = float(p)
    q = p / (p - 1)

    def loss(mu: Tensor, f: Tensor) -> Tensor:
        nu = predict(f)
        terms = mu.abs() ** p / p + f.abs() ** q / q - mu * f
        with torch.no_grad():  # as in _entropic_loss
            t = (mu / nu).log()
            accurate = nu.abs() ** p * (torch.expm1(p * t) / p - torch.expm1(t))
            correction = torch.where(t.abs() < 0.5, accurate.clamp_min(0), terms.clamp_min(0)) - terms
        return (terms + torch.where(correction.isfinite(), correction, 0)).sum(-1)

    def predict(f: Tensor) -> Tensor:
        return f.sign() * f.abs() ** (q - 1)

    local = {-1: f"σ = {p - 1:g}·M^{p - 2:g} where both μ and ŷ stay in [−M, M]", 0: "both exact, everywhere",
             1: f"β = {p - 1:g}·M^{p - 2:g} where both μ and ŷ stay in [−M, M]"}
    return Generator(f"power-{p:.12g}", lambda mu: (mu.abs() ** p).sum(-1) / p, lambda f: (f.abs() ** q).sum(-1) / q, predict,
                     _in_space, float(p == 2), 1.0 if p == 2 else math.inf, loss=loss, domain="ℝ^K",
                     constants=local[(p > 2) - (p < 2)])


ZOO = (SQUARED, SHANNON, BINARY, GINI, tsallis(1.5), POISSON, HUBER, power(3))
"""One generator of each kind, for tables and for checks that go through all of them."""


# Losses --------------------------------------------------------------------------------------------------------------

def fenchel_young_loss(generator: Generator, targets: Tensor, outputs: Tensor) -> Tensor:
    """d_Φ(μ; f) = Φ(μ) + Φ*(f) − ⟨μ, f⟩, the loss that Φ generates (slug ``fy-nonnegative-zero``).

    Its gradient in the outputs is ``generator.predict(outputs) - targets`` (slug ``fy-convex-gradient``).

    Args:
        generator: The generator Φ.
        targets: Integer labels (...,), or mean vectors (..., K) in the domain of Φ, integers too. One output off the simplex
            takes no labels: the only one, 0, would mean 1.
        outputs: Model outputs f, the dual variable, (..., K); −∞ where prediction and target are 0, as of a masked class.

    Returns:
        The loss of each sample, (...,), in nats for Shannon.

    Raises:
        TypeError: If targets or outputs are not tensors.
        ValueError: On labels out of range, shapes that do not match, NaNs, or targets outside the domain.

    Example:
        >>> outputs = torch.tensor([[0.0, 0.0], [2.0, 0.0]])
        >>> fenchel_young_loss(SHANNON, torch.tensor([0, 0]), outputs)  # cross-entropy
        tensor([0.6931, 0.1269])
        >>> fenchel_young_loss(SQUARED, torch.tensor([0, 0]), outputs)
        tensor([0.5000, 0.5000])
    """
    return _loss(generator, as_mean(generator, targets, outputs), outputs)


def _loss(generator: Generator, mu: Tensor, f: Tensor) -> Tensor:
    if generator.loss is not None:
        return generator.loss(mu, f)
    return generator.value(mu) + generator.conjugate(f) - (mu * f).sum(-1)


def as_mean(generator: Generator, targets: Tensor, outputs: Tensor) -> Tensor:
    """The targets as mean vectors (..., K) of the outputs' dtype: labels become one-hot, means are checked.

    The checks of values cost one synchronization on a GPU; inside ``torch.compile`` and ``torch.func.vmap``, where values are not
    known, they are left out.

    Args:
        generator, targets, outputs: As for ``fenchel_young_loss``.

    Returns:
        The mean vectors, (..., K).

    Raises:
        TypeError: As ``fenchel_young_loss``.
        ValueError: As ``fenchel_young_loss``.

    Example:
        >>> as_mean(SHANNON, torch.tensor([2, 0]), torch.zeros(2, 3))
        tensor([[0., 0., 1.],
                [1., 0., 0.]])
    """
    require_generator(generator)
    for name, given in {"targets": targets, "outputs": outputs}.items():
        require(isinstance(given, Tensor), f"`{name}` of type {type(given).__name__}", "a torch tensor",
                "Wrap it in `torch.as_tensor`.", TypeError)
    require(outputs.is_floating_point() and outputs.ndim >= 1 and outputs.shape[-1] >= 1,
            f"outputs {outputs.dtype} of shape {tuple(outputs.shape)}", "floating-point outputs of shape (..., K)")
    require(not targets.is_complex() and targets.layout == outputs.layout == torch.strided,
            f"targets {targets.dtype} and outputs {outputs.dtype}, {targets.layout} and {outputs.layout}",
            "integer labels or real mean vectors, dense")
    require(targets.device == outputs.device, f"targets on {targets.device} and outputs on {outputs.device}", "one device",
            "Move the targets with `.to(outputs.device)`.")
    num_classes = outputs.shape[-1]
    has_classes = num_classes > 1 or generator.on_simplex
    is_label = not targets.is_floating_point() and targets.shape == outputs.shape[:-1] and has_classes
    require(is_label or targets.shape == outputs.shape,
            f"{targets.dtype} targets of shape {tuple(targets.shape)} for outputs of shape {tuple(outputs.shape)}",
            f"integer labels {tuple(outputs.shape[:-1])} or mean vectors {tuple(outputs.shape)}" if has_classes else
            f"mean vectors {tuple(outputs.shape)}", "" if has_classes else "One output has no classes: give means, `targets[..., None]`.")
    finite = outputs.isfinite().all()
    if is_label:
        labels = targets.long()
        mu = one_hot(labels.clamp(0, num_classes - 1), num_classes).to(outputs.dtype)
        valid = (labels >= 0).all() & (labels < num_classes).all()
    else:
        mu = targets.to(outputs.dtype)
        valid = generator.contains(mu).all()
    if _known_false(finite & valid):
        _require_masked(generator, mu, outputs)
        if not valid:
            _explain(generator, targets, mu, is_label, num_classes)
    return mu


def _known_false(condition: Tensor) -> bool:
    if torch.compiler.is_compiling():
        return False
    try:
        return not condition
    except RuntimeError:  # inside vmap
        return False


def _require_masked(generator: Generator, mu: Tensor, outputs: Tensor) -> None:
    """Outputs of −∞ are masked classes where this makes prediction and target 0: then the loss is finite."""
    masked = (outputs == -torch.inf) & (mu == 0) & (generator.predict(outputs.detach()) == 0)
    bad = int((~outputs.isfinite() & ~masked).sum())
    require(bad == 0, f"outputs with {bad} of {outputs.numel()} entries NaN or infinite", "finite numbers, or −∞ where the target and "
            "the prediction are 0", "Look for a learning rate that is too large, inputs that are not scaled, or targets on masked classes.")


def _explain(generator: Generator, targets: Tensor, mu: Tensor, is_label: bool, num_classes: int) -> None:
    require(not is_label, f"labels from {int(targets.min())} to {int(targets.max())}" if is_label else "",
            f"labels from 0 to {num_classes - 1}", "Give the model one output for each class, or remap the labels.")
    bad = int((~mu.isfinite()).sum())
    require(bad == 0, f"targets with {bad} of {mu.numel()} entries NaN or infinite", "finite numbers")
    outside = ~generator.contains(mu)
    first = [round(x, 6) for x in mu[outside].reshape(-1, mu.shape[-1])[0].tolist()[:8]]
    require(False, f"{int(outside.sum())} targets outside the domain of {generator.name}, the first {first}",
            "probabilities that are nonnegative and sum to one" if generator.on_simplex
            else f"targets in {generator.domain or 'the domain'}")


def dual(generator: Generator, mu: Tensor) -> Tensor:
    """∇Φ(μ), outputs whose prediction is μ (slug ``gradient-inverse``).

    On the simplex other outputs with the same prediction differ from these by a constant. Where Φ is infinitely steep at
    the border of its domain (Shannon, Poisson: μ_k = 0) an output is infinite.

    Args:
        generator: The generator Φ.
        mu: Points of its domain, (..., K).

    Returns:
        The outputs, (..., K).

    Raises:
        TypeError: If ``generator`` is no ``Generator`` or ``mu`` no tensor of real numbers.

    Example:
        >>> outputs = dual(SHANNON, torch.tensor([0.2, 0.8]))
        >>> SHANNON.predict(outputs)
        tensor([0.2000, 0.8000])
    """
    require_generator(generator)
    require_tensor("mu", mu, dims=1)
    return torch.func.grad(lambda x: generator.value(x).sum())(mu)


def bregman_divergence(generator: Generator, mu: Tensor, nu: Tensor) -> Tensor:
    """B_Φ(μ, ν) = Φ(μ) − Φ(ν) − ⟨∇Φ(ν), μ − ν⟩, computed as d_Φ(μ; ∇Φ(ν)), its equal (slug ``fy-bregman``).

    Args:
        generator: The generator Φ.
        mu: Points of the domain, (..., K).
        nu: Points of the domain where Φ is differentiable, (..., K); on the simplex: along the simplex. Where a
            coordinate of ∇Φ(ν) is −∞ (Shannon, Poisson: ν_k = 0) the divergence is finite only if μ_k = 0 too.

    Returns:
        The divergence, (...,): for Shannon the Kullback–Leibler divergence in nats.

    Raises:
        ValueError: If mu or nu lies outside the domain or the shapes do not match.

    Example:
        >>> mu, nu = torch.tensor([0.5, 0.5]), torch.tensor([0.9, 0.1])
        >>> bregman_divergence(SHANNON, mu, nu), bregman_divergence(SHANNON, nu, mu)  # KL, both ways
        (tensor(0.5108), tensor(0.3681))
    """
    mu, nu = as_mean(generator, mu, nu), as_mean(generator, nu, nu)
    slope = dual(generator, nu)
    large = min(1e30, torch.finfo(slope.dtype).max)
    slope = torch.where(mu == nu, slope.clamp(-large, large), slope)  # 0 · ∞ is 0 here
    return _loss(generator, mu, slope)
