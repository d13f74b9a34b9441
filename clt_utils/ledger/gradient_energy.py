"""Gradient energy: what it says about the risk, through the structure matrix."""

import itertools

import numpy as np
import torch
from scipy import optimize

from ..bounds import batch_energy, residual_bounds, risk_bounds, risk_bounds_sharp
from ..duality import GINI, SHANNON, SQUARED, Generator, fenchel_young_loss, power
from ..structure import extreme_eigenvalues, gradient_correlation, gradient_energy, probe, structure_matrix
from .core import at_least, at_most, identity, statement
from .instances import normal, random_network, random_psd, simplex_points

CHAPTER = "trainability/gradient-energy"


def _quadratic(A, e):
    return (e * (A @ e[..., None])[..., 0]).sum(-1)


@statement("chain-identity", "The gradient is the Jacobian times the residual", kind="lemma", paper="Definitions 6–7",
           assumptions=("Φ* is differentiable at f_θ(x)", "f_θ(x) is differentiable in θ", "the loss is the one Φ generates",
                        "samples do not interact"), chapter=CHAPTER, trials=40, words="bb0d1fa0")
def chain_identity(rng):
    model, inputs, K = random_network(rng)
    targets = torch.from_numpy(rng.integers(K, size=len(inputs)))
    for generator in (SHANNON, SQUARED):
        e, jacobian, gradient = _chain(model, inputs, lambda f: fenchel_young_loss(generator, targets, f),
                                       lambda f: generator.predict(f) - torch.nn.functional.one_hot(targets, K))
        yield identity(f"gradient ({generator.name})", gradient, (e[:, None] @ jacobian)[:, 0])
        yield identity(f"energy ({generator.name})", gradient_energy(model, inputs, targets, generator),
                       _quadratic(structure_matrix(model, inputs), e))


def _chain(model, inputs, loss, residual):
    """Residuals (B, K), Jacobians (B, K, P) and loss gradients (B, P), by plain autograd on the whole batch."""
    parameters = list(model.parameters())

    def flat_gradient(scalar):
        gradient = torch.autograd.grad(scalar, parameters, retain_graph=True)
        return torch.cat([g.flatten() for g in gradient])

    outputs = model(inputs)
    jacobian = torch.stack([torch.stack([flat_gradient(f_k) for f_k in f]) for f in outputs])
    gradient = torch.stack([flat_gradient(d) for d in loss(outputs)])
    return residual(outputs).detach(), jacobian, gradient


@chain_identity.breaks("The loss is not the one Φ generates: squared error *after* softmax carries an extra factor ∇²Φ*(f)")
def _(rng):
    model, inputs, K = random_network(rng)
    target = torch.nn.functional.one_hot(torch.from_numpy(rng.integers(K, size=len(inputs))), K)
    e, jacobian, gradient = _chain(model, inputs, lambda f: 0.5 * (f.softmax(-1) - target).square().sum(-1),
                                   lambda f: f.softmax(-1) - target)
    yield identity("gradient", gradient, (e[:, None] @ jacobian)[:, 0])


@chain_identity.breaks("Samples interact: with batch normalization in training mode A_x belongs to a batch; "
                       "that of the same sample among others gives another energy")
def _(rng):
    torch.manual_seed(int(rng.integers(2**31)))
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2)).double()
    first, target = normal(rng, 1, 3), torch.from_numpy(rng.integers(2, size=5))

    def among_others():
        """Residuals, Jacobians and loss gradients of a batch that begins with the same sample; within it the identity holds."""
        return _chain(model, torch.cat([first, normal(rng, 4, 3)]), lambda f: fenchel_young_loss(SHANNON, target, f),
                      lambda f: SHANNON.predict(f) - torch.nn.functional.one_hot(target, 2))

    (e, _, gradient), (_, jacobian, _) = among_others(), among_others()
    yield identity("energy", gradient[0].square().sum(), (e[0] @ jacobian[0]).square().sum())


@statement("residual-sandwich", "The residual lies between two energy ratios", kind="theorem", paper="Theorem 10, first part",
           assumptions=("λ_min(A_x) > 0 for the upper side",), chapter=CHAPTER, words="536c872b")
def residual_sandwich(rng):
    K = int(rng.integers(1, 9))
    A, e = random_psd(rng, K), normal(rng, K)
    lower, upper = residual_bounds(_quadratic(A, e), *extreme_eigenvalues(A))
    yield at_least("lower", e.square().sum(), bound=lower)
    yield at_most("upper", e.square().sum(), bound=upper)


@residual_sandwich.witness("A residual along an eigenvector")
def _(rng):
    A = random_psd(rng, 4)
    low, high = torch.linalg.eigh(A).eigenvectors[:, [0, -1]].mT
    yield at_least("lower", high.square().sum(), bound=residual_bounds(_quadratic(A, high), *extreme_eigenvalues(A))[0])
    yield at_most("upper", low.square().sum(), bound=residual_bounds(_quadratic(A, low), *extreme_eigenvalues(A))[1])


@residual_sandwich.breaks("A_x singular: the smallest nonzero eigenvalue does not replace λ_min, a residual in the kernel has no energy")
def _(rng):
    K = int(rng.integers(3, 9))
    A = random_psd(rng, K, rank=K - 1)
    lam, vectors = torch.linalg.eigh(A)
    e = vectors[:, 0] + 0.01 * vectors[:, 1]
    yield at_most("upper", e.square().sum(), bound=_quadratic(A, e) / lam[1])


@statement("simplex-restriction", "For softmax only the eigenvalues on 1^⊥ count", kind="proposition",
           assumptions=("predictions sum to one (softmax, sparsemax)", "the target sums to one"), chapter=CHAPTER, words="91f5f506")
def simplex_restriction(rng):
    K = int(rng.integers(2, 9))
    A, f = random_psd(rng, K), 3 * normal(rng, K)
    mu = simplex_points(rng, 1, K)[0]
    for generator in (SHANNON, GINI):
        e = generator.predict(f) - mu
        yield identity(f"e ⟂ 1 ({generator.name})", e.sum() + 1, 1.0)
        yield from _restricted(A, e)


def _restricted(A, e):
    """The claims about one matrix and one residual that sums to zero."""
    (low, high), (low_s, high_s) = extreme_eigenvalues(A), extreme_eigenvalues(A, on_simplex=True)
    yield at_least("λ_min on 1^⊥", low_s, bound=low)
    yield at_most("λ_max on 1^⊥", high_s, bound=high)
    lower, upper = residual_bounds(_quadratic(A, e), low_s, high_s)
    yield at_least("residual, lower", e.square().sum(), bound=lower)
    yield at_most("residual, upper", e.square().sum(), bound=upper)


@simplex_restriction.witness("Two outputs alone have one eigenvalue on 1^⊥; its extremes are those of A where A mixes nothing with 1")
def _(rng):
    e, one = torch.tensor([[0.3, -0.3], [0.5, 0.5]], dtype=torch.float64)
    for high, low in ((5.0, 1.0), (1.0, 5.0)):
        yield from _restricted(high * torch.outer(e, e) / 0.18 + low * torch.outer(one, one) / 0.5, e)


@simplex_restriction.breaks("A target that does not sum to one: two labels at once, (1, 1, 0)")
def _(rng):
    A = torch.eye(3, dtype=torch.float64) + 5 * torch.ones(3, 3, dtype=torch.float64)
    e = normal(rng, 3).softmax(-1) - torch.tensor([1.0, 1.0, 0.0])
    lower, _ = residual_bounds(_quadratic(A, e), *extreme_eigenvalues(A, on_simplex=True))
    yield at_least("residual, lower", e.square().sum(), bound=lower)


def _sandwich_instance(rng, generator, one_hot=False):
    """Random structure matrices, outputs and targets -> (energy, λ_min, λ_max, p_min, loss), each (n,), and K."""
    K, n = int(rng.integers(2, 8)), int(rng.integers(1, 6))
    A, f = torch.stack([random_psd(rng, K) for _ in range(n)]), 2 * normal(rng, n, K)
    mu = torch.from_numpy(np.eye(K)[rng.integers(K, size=n)]) if one_hot else simplex_points(rng, n, K)
    prediction = generator.predict(f)
    energy = _quadratic(A, prediction - mu)
    return energy, *extreme_eigenvalues(A, generator.on_simplex), prediction.amin(-1), fenchel_young_loss(generator, mu, f), K


def _stretch(x):
    return torch.linspace(1, 4, x.shape[-1], dtype=x.dtype)


STRETCHED = Generator("stretched", lambda mu: 0.5 * (_stretch(mu) * mu.square()).sum(-1),
                      lambda f: 0.5 * (f.square() / _stretch(f)).sum(-1), lambda f: f / _stretch(f), SQUARED.contains, 1.0, 4.0)
"""½ Σ h_k μ_k² with weights from 1 to 4: σ and β differ."""


@statement("risk-sandwich", "The risk lies between two energy ratios", kind="theorem", paper="Theorem 10",
           assumptions=("lower side: Φ closed and σ-strongly convex", "upper side: λ_min > 0, and ∇Φ is β-Lipschitz on the segment "
                        "between prediction and target; for softmax 1/p_min takes the place of β/2"), chapter=CHAPTER,
           words="cab36791")
def risk_sandwich(rng):
    for generator in (SHANNON, SQUARED, STRETCHED):
        energy, low, high, p_min, loss, _ = _sandwich_instance(rng, generator)
        p = p_min if generator is SHANNON else None
        lower, upper = risk_bounds(energy, low, high, generator, p)
        yield at_least(f"lower ({generator.name})", loss, bound=lower)
        yield at_most(f"upper ({generator.name})", loss, bound=upper)
        lower, upper = risk_bounds(energy.mean(), low.min(), high.max(), generator, None if p is None else p.min())
        yield at_least(f"mean, lower ({generator.name})", loss.mean(), bound=lower)
        yield at_most(f"mean, upper ({generator.name})", loss.mean(), bound=upper)


@risk_sandwich.witness("A = 2I; two nearly fair coins below, above a prediction that wastes a little mass on one class of many")
def _(rng):
    K, wasted = 200, 1e-3
    even = torch.cat([torch.ones(K - 1, dtype=torch.float64) / (K - 1), torch.zeros(1, dtype=torch.float64)])
    axis = torch.eye(2, dtype=torch.float64)  # along the first STRETCHED is the flattest, along the second the steepest
    coin, tail = torch.tensor([0.51, 0.49], dtype=torch.float64), torch.cat([(1 - wasted) * even[:-1], torch.tensor([wasted])])
    for generator, mu, f in ((SHANNON, 1 - coin, coin.log()), (SHANNON, even, tail.log()), (SQUARED, coin, 1 - coin),
                             (STRETCHED, 0 * coin, axis[0]), (STRETCHED, 0 * coin, axis[1])):
        p = generator.predict(f)
        p_min = p.min() if generator is SHANNON else None
        energy, loss = 2 * (p - mu).square().sum(), fenchel_young_loss(generator, mu, f)
        lower, upper = risk_bounds(energy, 2.0, 2.0, generator, p_min)
        for mean in ("", "mean, "):
            yield at_least(f"{mean}lower ({generator.name})", loss, bound=lower)
            yield at_most(f"{mean}upper ({generator.name})", loss, bound=upper)


@risk_sandwich.breaks("Sparsemax: Φ is not differentiable on the border. Outputs (−5, 0), first class true: the loss is 5, β_Φ r/2 only 1")
def _(rng):
    f, target = torch.tensor([-5.0, 0.0], dtype=torch.float64), torch.tensor(0)
    e = GINI.predict(f) - torch.tensor([1.0, 0.0])
    yield at_most("upper", fenchel_young_loss(GINI, target, f), bound=0.5 * e.square().sum())


@risk_sandwich.breaks("Softmax with a constant in place of 1/p_min: a confident error has bounded residual and unbounded loss")
def _(rng):
    f, target = torch.tensor([-50.0, 0.0], dtype=torch.float64), torch.tensor(0)
    e = SHANNON.predict(f) - torch.tensor([1.0, 0.0])
    yield at_most("upper", fenchel_young_loss(SHANNON, target, f), bound=10 * e.square().sum())


@risk_sandwich.breaks("λ_min = 0: no energy, yet a positive risk")
def _(rng):
    J = normal(rng, 3, 2)
    A = J @ J.mT
    lam, vectors = torch.linalg.eigh(A)
    e = vectors[:, 0]
    yield at_most("upper", 0.5 * e.square().sum(), bound=0.5 * _quadratic(A, e) / lam[1])


@risk_sandwich.breaks("Lower side: Φ is not strongly convex. μ⁴/4 is so flat at zero that its loss falls below any share of the residual")
def _(rng):
    f, mu = torch.zeros(1, dtype=torch.float64), torch.tensor([0.01], dtype=torch.float64)
    loss, e = fenchel_young_loss(power(4), mu, f), power(4).predict(f) - mu
    yield at_least("lower", loss, bound=0.5 * e.square().sum())


@statement("risk-sandwich-sharp", "Cross-entropy between energy ratios, without p_min", kind="theorem",
           assumptions=("softmax cross-entropy", "one-hot targets", "(K−1)g/(Kλ_min) < 1 for the upper side"), chapter=CHAPTER,
           words="5a5f60d2")
def risk_sandwich_sharp(rng):
    energy, low, high, p_min, loss, K = _sandwich_instance(rng, SHANNON, one_hot=True)
    lower, upper = risk_bounds_sharp(energy, low, high, K, p_min)
    yield at_least("lower", loss, bound=lower)
    yield at_most("upper", loss, bound=upper)
    yield at_least("lower, against the plain bound", lower, bound=risk_bounds(energy, low, high, SHANNON, p_min)[0])
    yield at_most("upper, against the plain bound", upper, bound=risk_bounds(energy, low, high, SHANNON, p_min)[1])


@risk_sandwich_sharp.witness("Five classes, the wrong mass on one or spread evenly; certain errors; A = 2I", {
    "lower, against the plain bound": "−log(1−√(r/2)) is 1.23 r at least: Pinsker's inequality is never an equality for a one-hot target"})
def _(rng):
    for name, p in (("lower", [0.6, 0.4, 0.0, 0.0, 0.0]), ("upper", [0.6, 0.1, 0.1, 0.1, 0.1])):
        p = torch.tensor(p, dtype=torch.float64)
        e = p - torch.eye(5, dtype=torch.float64)[0]
        bounds = risk_bounds_sharp(2 * e.square().sum(), 2.0, 2.0, 5)
        yield at_least(name, -p[0].log(), bound=bounds[0]) if name == "lower" else at_most(name, -p[0].log(), bound=bounds[1])
    r = 2 * np.linspace(0.01, 0.99, 99) ** 2
    yield at_least("lower, against the plain bound", risk_bounds_sharp(r, 1.0, 1.0, 5)[0], bound=risk_bounds(r, 1.0, 1.0, SHANNON)[0])


@risk_sandwich_sharp.breaks("A soft target (½, ½) and a prediction at a corner: the residual stays below ½, the divergence "
                            "does not stay bounded")
def _(rng):
    f, mu = torch.tensor([-60.0, 0.0], dtype=torch.float64), torch.tensor([0.5, 0.5], dtype=torch.float64)
    residual = (SHANNON.predict(f) - mu).square().sum()
    yield at_most("upper", fenchel_young_loss(SHANNON, mu, f), bound=risk_bounds_sharp(residual, 1.0, 1.0, 2)[1])


@statement("energy-global-optimum", "No energy and positive structure matrices: a global minimum", kind="theorem",
           paper="Theorem 10 and Figure 2",
           assumptions=("every A_x has λ_min ≥ c > 0, along the sequence", "the lower end of the loss is reached or approached by a fit"),
           chapter=CHAPTER, trials=8, words="1a608c22")
def energy_global_optimum(rng):
    torch.manual_seed(int(rng.integers(2**31)))
    model = torch.nn.Sequential(torch.nn.Linear(3, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).double()  # its risk is not convex
    inputs = normal(rng, 3, 3)
    seen = probe(model, inputs, model(inputs).detach(), SQUARED)
    yield identity("1: a fit has no energy and no risk", 1 + torch.stack([seen.energy, seen.loss]), torch.ones(2, 3))
    seen = probe(model, inputs, normal(rng, 3, 2), SQUARED)
    yield at_least("1: no fit, so there is energy", seen.energy.mean(), bound=seen.lam_min.min() * seen.residual.mean())
    for generator, targets in ((SQUARED, normal(rng, 3, 2)), (SHANNON, torch.from_numpy(rng.integers(2, size=3)))):
        energy, floor, risk = _approach(model, inputs, targets, generator)
        yield at_least(f"2: the energy falls, λ_min ≥ 1 ({generator.name})", float(energy[-1] < 1e-4 * energy[0] and floor.min() >= 1), 1.0)
        yield at_most(f"2: risk, from the energy ({generator.name})", risk, bound=_from_the_energy(generator, energy, floor, 3, 2))


def _from_the_energy(generator, energy, floor, n, K):
    """What the mean energy and c leave of the risk; it tends to zero with the energy."""
    if generator is SQUARED:
        return risk_bounds(energy, floor, floor, generator)[1]
    return risk_bounds_sharp(n * energy, floor, floor, K)[1]  # the largest energy of a sample is at most n times the mean


def _approach(model, inputs, targets, generator):
    """Weights whose outputs come closer and closer to a fit while the hidden layer moves -> mean energies, smallest λ_min, risks."""
    hidden, head, records, drift = model[0], model[-1], [], torch.randn_like(model[0].weight)
    for k in range(12):
        hidden.weight.data += 2.0**-k * drift
        outputs = targets + 2.0**-k if generator is SQUARED else (1 + k) * torch.nn.functional.one_hot(targets, 2).double()
        features = torch.cat([model[:-1](inputs).detach(), torch.ones(len(inputs), 1)], 1)
        fit = torch.linalg.lstsq(features, outputs, driver="gelsd").solution.mT
        head.weight.data, head.bias.data = fit[:, :-1].contiguous(), fit[:, -1].contiguous()
        seen = probe(model, inputs, targets, generator)
        records.append(torch.stack([seen.energy.mean(), seen.lam_min.min(), seen.loss.mean()]))
    return torch.stack(records).T


@energy_global_optimum.witness("One sample, two classes, a linear network: A is a multiple of I")
def _(rng):
    model, inputs = torch.nn.Linear(2, 2).double(), normal(rng, 1, 2)
    model.weight.data, model.bias.data = normal(rng, 2, 2), normal(rng, 2)
    for generator, targets in ((SQUARED, normal(rng, 1, 2)), (SHANNON, torch.tensor([0]))):
        seen = probe(model, inputs, targets, generator)
        if generator is SQUARED:
            yield at_least("1: no fit, so there is energy", seen.energy, bound=seen.lam_min * seen.residual)
        yield at_most(f"2: risk, from the energy ({generator.name})", seen.loss,
                      bound=_from_the_energy(generator, seen.energy, seen.lam_min, 1, 2))


@energy_global_optimum.breaks("Zero *mean* gradient in place of zero energy: f₁=θ, y₁=½, f₂=θ², y₂=4 at θ ≈ −1.834")
def _(rng):
    risk = lambda t: 0.5 * (t - 0.5) ** 2 + 0.5 * (t**2 - 4) ** 2
    stationary = optimize.brentq(lambda t: (t - 0.5) + 2 * t * (t**2 - 4), -2.0, -1.5)
    best = optimize.minimize_scalar(risk, bounds=(1, 3), method="bounded").fun
    yield identity("mean gradient", 1 + (stationary - 0.5) + 2 * stationary * (stationary**2 - 4), 1.0)
    yield at_most("risk", risk(stationary), bound=best, tol=1e-6)


class _Product(torch.nn.Module):
    """x ↦ θ₁θ₂x."""

    def __init__(self, first, second):
        super().__init__()
        self.first, self.second = (torch.nn.Parameter(torch.tensor(x, dtype=torch.float64)) for x in (first, second))

    def forward(self, x):
        return self.first * self.second * x


@energy_global_optimum.breaks("A singular structure matrix: f = θ₁θ₂x at θ = 0 has no energy and is not a minimum")
def _(rng):
    x, y = torch.ones(1, 1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    stuck, fit = (probe(_Product(*theta), x, y, SQUARED) for theta in ((0.0, 0.0), (0.5, 2.0)))
    yield identity("no energy", 1 + stuck.energy, 1.0)
    yield at_most("risk", stuck.loss, bound=fit.loss)


@statement("block-sum", "Structure matrices add up over parameter blocks", kind="proposition",
           assumptions=("disjoint blocks", "the same parameter values"), chapter=CHAPTER, trials=40, words="ec032c46")
def block_sum(rng):
    model, inputs, _ = random_network(rng)
    whole = structure_matrix(model, inputs)
    parameters = list(model.parameters())
    kept = rng.random(len(parameters)) < 0.5
    kept[-1], kept[0] = True, False
    parts = []
    for choice in (kept, ~kept):
        for p, trainable in zip(parameters, choice):
            p.requires_grad_(bool(trainable))
        parts.append(structure_matrix(model, inputs))
    yield identity("sum", sum(parts), whole)
    (low, high), (low_kept, high_kept) = extreme_eigenvalues(whole), extreme_eigenvalues(parts[0])
    yield at_most("freezing and λ_min", low_kept, bound=low)
    yield at_most("freezing and λ_max", high_kept, bound=high)


@block_sum.witness("The frozen block is switched off: a dead unit's weights")
def _(rng):
    model = torch.nn.Sequential(torch.nn.Linear(2, 1), torch.nn.ReLU(), torch.nn.Linear(1, 2)).double()
    model[0].weight.data, model[0].bias.data = torch.zeros(1, 2).double(), -torch.ones(1).double()
    inputs = normal(rng, 3, 2)
    whole = extreme_eigenvalues(structure_matrix(model, inputs))
    model[0].requires_grad_(False)
    kept = extreme_eigenvalues(structure_matrix(model, inputs))
    yield at_most("freezing and λ_min", kept[0], bound=whole[0])
    yield at_most("freezing and λ_max", kept[1], bound=whole[1])


@block_sum.breaks("Different parameter values with equal outputs: f = θ₁θ₂ at (1, 1) and, with θ₂ frozen, at (½, 2)")
def _(rng):
    whole, frozen, x = _Product(1.0, 1.0), _Product(0.5, 2.0), torch.ones(1, 1, dtype=torch.float64)
    yield identity("equal outputs", whole(x), frozen(x))
    frozen.second.requires_grad_(False)
    (_, high), (_, kept) = (extreme_eigenvalues(structure_matrix(model, x)) for model in (whole, frozen))
    yield at_most("freezing and λ_max", kept, bound=high)


@statement("head-floor", "A linear head keeps λ_min above ‖a‖²+1", kind="proposition",
           assumptions=("the last layer is f = Wa + b", "W and b are trainable and used nowhere else", "nothing follows it"),
           chapter=CHAPTER, trials=40, words="91e11952")
def head_floor(rng):
    model, inputs, _ = random_network(rng)
    features = model[:-1](inputs)
    lam_min, _ = extreme_eigenvalues(structure_matrix(model, inputs))
    yield at_least("λ_min", lam_min, bound=features.square().sum(-1) + 1)


@head_floor.witness("Nothing before the head")
def _(rng):
    inputs = normal(rng, 3, 2)
    lam_min, _ = extreme_eigenvalues(structure_matrix(torch.nn.Linear(2, 3).double(), inputs))
    yield at_least("λ_min", lam_min, bound=inputs.square().sum(-1) + 1)


@head_floor.breaks("A tied head: f = w(1−w) + b, where the feature 1−w uses the head's own weight, at w = ½")
def _(rng):
    w, b = (torch.tensor(v, dtype=torch.float64, requires_grad=True) for v in (0.5, 0.0))
    dw, db = torch.autograd.grad(w * (1 - w) + b, (w, b))
    yield at_least("λ_min", dw**2 + db**2, bound=(1 - 0.5) ** 2 + 1)


@head_floor.breaks("Something after the head: tanh of the outputs saturates")
def _(rng):
    torch.manual_seed(int(rng.integers(2**31)))
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.Tanh()).double()
    inputs = 20 * normal(rng, 1, 3)
    lam_min, _ = extreme_eigenvalues(structure_matrix(model, inputs))
    yield at_least("λ_min", lam_min, bound=inputs.square().sum(-1) + 1)


@statement("ntk-interlacing", "The tangent kernel's spectrum contains every structure matrix's", kind="proposition",
           assumptions=("the same outputs", "the same samples"), chapter=CHAPTER, trials=40, words="c2ea46fc")
def ntk_interlacing(rng):
    model, inputs, _ = random_network(rng)
    lam_min, lam_max = extreme_eigenvalues(structure_matrix(model, inputs))
    kernel = torch.linalg.eigvalsh(_tangent_kernel(model(inputs), model))
    yield at_least("λ_min(A_x)", lam_min, bound=kernel[0])
    yield at_most("λ_max(A_x)", lam_max, bound=kernel[-1])


def _tangent_kernel(outputs, model):
    """Θ = JJᵀ over all samples and outputs, (BK, BK), by one backward pass an output."""
    rows = []
    for f in outputs.flatten():
        gradient = torch.autograd.grad(f, list(model.parameters()), retain_graph=True)
        rows.append(torch.cat([g.flatten() for g in gradient]))
    J = torch.stack(rows)
    return J @ J.mT


@ntk_interlacing.witness("A linear network, and inputs that the bias makes orthogonal: the kernel falls into its blocks")
def _(rng):
    model, inputs = torch.nn.Linear(2, 2).double(), torch.tensor([[2.0, 0.0], [-0.5, 1.0]], dtype=torch.float64)
    lam_min, lam_max = extreme_eigenvalues(structure_matrix(model, inputs))
    kernel = torch.linalg.eigvalsh(_tangent_kernel(model(inputs), model))
    yield at_least("λ_min(A_x)", lam_min, bound=kernel[0])
    yield at_most("λ_max(A_x)", lam_max, bound=kernel[-1])


@ntk_interlacing.breaks("Other outputs: the kernel of the summed logits (a common shortcut) has a λ_min above that of the A_x")
def _(rng):
    model, inputs, _ = random_network(rng, num_classes=3)
    lam_min, _ = extreme_eigenvalues(structure_matrix(model, inputs[:1]))
    kernel = torch.linalg.eigvalsh(_tangent_kernel(model(inputs[:1]).sum(-1), model))
    yield at_least("λ_min(A_x)", lam_min, bound=kernel[0])


@ntk_interlacing.breaks("Other samples: the kernel at inputs ten times smaller says nothing about λ_max at these")
def _(rng):
    model = torch.nn.Linear(3, 2).double()
    inputs = 5 + torch.from_numpy(rng.random((4, 3)))
    _, lam_max = extreme_eigenvalues(structure_matrix(model, inputs))
    yield at_most("λ_max(A_x)", lam_max, bound=torch.linalg.eigvalsh(_tangent_kernel(model(inputs / 10), model))[-1])


@statement("gradient-domination", "The squared gradient of the risk is at least ρ λ_min times the mean residual", kind="theorem",
           assumptions=("the mean energy is positive", "λ is the smallest eigenvalue of any sample's A_x, at the same weights",
                        "for softmax: one-hot targets", "for the step: the risk is L-smooth on its segment, and α ≤ 1/L"),
           chapter=CHAPTER, trials=20, words="6a181da9")
def gradient_domination(rng):
    model, inputs, K = random_network(rng)
    for generator, floor in ((SQUARED, _squared_floor), (SHANNON, _softmax_floor)):
        targets = torch.from_numpy(rng.integers(K, size=len(inputs)))
        norm, constant, seen = _dominated(model, inputs, targets, generator)
        yield at_least(f"‖∇R̂‖², from the residuals ({generator.name})", norm, bound=constant * seen.residual.mean())
        yield at_least(f"‖∇R̂‖², from the losses ({generator.name})", norm, bound=constant * floor(seen, K))
        linear, smoothness = _linear_model(inputs, K, generator)
        step, bound = rng.uniform(0.05, 1.0) / smoothness, None
        for _ in range(4):
            _, constant, seen = _dominated(linear, inputs, targets, generator)
            risk = seen.loss.mean()
            promised = 1 - step / 2 * constant * floor(seen, K) / risk  # squared: 1 − αρλ
            bound = (risk if bound is None else bound) * promised
            after = _step(linear, inputs, targets, generator, step)
            yield at_most(f"one step ({generator.name})", after, bound=risk * promised)
            yield at_most(f"four steps ({generator.name})", after, bound=bound)
    yield from _domination_attained(rng)


def _squared_floor(seen, K):
    return 2 * seen.loss.mean()


def _softmax_floor(seen, K):
    return K / (K - 1) * torch.expm1(-seen.loss).square().mean()  # at least: r ≥ (1 − e^{−d})² K/(K − 1)


def _risk_gradient(model, inputs, targets, generator):
    risk = fenchel_young_loss(generator, targets, model(inputs)).mean()
    return risk.detach(), torch.autograd.grad(risk, list(model.parameters()))


def _dominated(model, inputs, targets, generator):
    """‖∇R̂‖² by autograd, ρ times the smallest λ_min, and the probe of the samples."""
    _, gradient = _risk_gradient(model, inputs, targets, generator)
    seen = probe(model, inputs, targets, generator)
    rho = gradient_correlation(model, inputs, targets, generator)
    return sum(g.square().sum() for g in gradient), rho * seen.lam_min.min(), seen


def _step(model, inputs, targets, generator, step):
    """One step of gradient descent, in place -> the risk after it."""
    _, gradient = _risk_gradient(model, inputs, targets, generator)
    for p, g in zip(model.parameters(), gradient):
        p.data -= step * g
    return _risk_gradient(model, inputs, targets, generator)[0]


def _linear_model(inputs, K, generator):
    """A linear model with zero weights, and L of its risk: sup ‖∇²Φ*‖ times the largest curvature of the inputs."""
    model = torch.nn.Linear(inputs.shape[1], K).double()
    for p in model.parameters():
        p.data.zero_()
    rows = torch.cat([inputs, torch.ones(len(inputs), 1)], 1)
    curvature = torch.linalg.eigvalsh(rows.mT @ rows / len(rows))[-1]
    return model, (0.5 if generator is SHANNON else 1.0) * curvature.item()


def _one_weight(value):
    model = torch.nn.Linear(1, 1, bias=False).double()
    model.weight.data.fill_(value)
    return model


def _domination_attained(rng):
    """Equality: one input with two labels and a step of 1/L; and softmax that says 1/K, on inputs of one length."""
    model = _one_weight(rng.uniform(-1, 1))
    inputs, labels = torch.full((2, 1), rng.uniform(0.5, 2), dtype=torch.float64), 3 * normal(rng, 2, 1)
    norm, constant, seen = _dominated(model, inputs, labels, SQUARED)
    yield identity("attained: ‖∇R̂‖² (squared)", norm, 2 * constant * seen.loss.mean())
    step = 1 / inputs[0].square().item()
    after = _step(model, inputs, labels, SQUARED, step)
    risk = seen.loss.mean()  # against it, since what is left of it may be as small as rounding makes it
    yield identity("attained: one step (squared)", after + step * constant * risk, risk)
    K, n = int(rng.integers(2, 6)), int(rng.integers(1, 6))
    inputs = 2 * torch.nn.functional.normalize(normal(rng, n, 3), dim=1)
    model, _ = _linear_model(inputs, K, SHANNON)
    norm, constant, seen = _dominated(model, inputs, torch.from_numpy(rng.integers(K, size=n)), SHANNON)
    yield identity("attained: ‖∇R̂‖² (Shannon)", norm, constant * _softmax_floor(seen, K))


@gradient_domination.breaks("ρ left out: in the trap of Figure 2 the two gradients cancel, and λ_min = 1")
def _(rng):
    trap = optimize.brentq(lambda t: (t - 0.5) + 2 * t * (t**2 - 4), -2.0, -1.5)
    e, J = np.array([trap - 0.5, trap**2 - 4]), np.array([1.0, 2 * trap])
    yield at_least("‖∇R̂‖²", (e * J).mean() ** 2, bound=2 * np.square(J).min() * 0.5 * np.square(e).mean())


@gradient_domination.breaks("The mean of the samples' λ_min: all of the residual sits where λ_min is small")
def _(rng):
    model, inputs = _one_weight(1.0), torch.tensor([[0.1], [3.0]], dtype=torch.float64)
    labels = model(inputs).detach() - torch.tensor([[1.0], [0.0]])
    norm, constant, seen = _dominated(model, inputs, labels, SQUARED)
    yield at_least("‖∇R̂‖²", norm, bound=2 * constant / seen.lam_min.min() * seen.lam_min.mean() * seen.loss.mean())


@gradient_domination.breaks("Softmax with a soft target: from (½, ½) to a corner the divergence grows, the residual does not")
def _(rng):
    model = torch.nn.Linear(1, 2, bias=False).double()
    model.weight.data = torch.tensor([[-20.0], [20.0]], dtype=torch.float64)
    norm, constant, seen = _dominated(model, torch.ones(1, 1).double(), torch.full((1, 2), 0.5).double(), SHANNON)
    yield at_least("‖∇R̂‖²", norm, bound=constant * _softmax_floor(seen, 2))


@gradient_domination.breaks("A step of 1.9/L; with 2/L the risk would not fall at all")
def _(rng):
    model, inputs, labels = _one_weight(0.0), torch.ones(2, 1).double(), torch.tensor([[1.0], [3.0]], dtype=torch.float64)
    _, constant, seen = _dominated(model, inputs, labels, SQUARED)
    yield at_most("one step", _step(model, inputs, labels, SQUARED, 1.9), bound=(1 - 1.9 * constant) * seen.loss.mean())


@statement("batch-jacobian", "Samples that interact: all holds for one fixed batch, with the Jacobians of that batch", kind="proposition",
           assumptions=("one fixed batch", "J_i is the derivative of f_i for this batch, through all that its samples share",
                        "Φ* is differentiable at the outputs, and the loss is the one Φ generates"),
           chapter=CHAPTER, trials=30, words="662ebce4")
def batch_jacobian(rng):
    model, inputs, K = _batch_network(rng)
    targets = torch.from_numpy(rng.integers(K, size=len(inputs)))
    for generator in (SHANNON, SQUARED):
        loss = lambda f: fenchel_young_loss(generator, targets, f)
        e, J, gradient = _chain(model, inputs, loss, lambda f: generator.predict(f) - torch.nn.functional.one_hot(targets, K))
        _, of_risk = _risk_gradient(model, inputs, targets, generator)
        norm = sum(g.square().sum() for g in of_risk)
        A, energy, name = J @ J.mT, gradient.square().sum(-1), generator.name
        low, high = extreme_eigenvalues(A, generator.on_simplex)
        yield identity(f"gradients of the losses ({name})", gradient, (e[:, None] @ J)[:, 0])
        yield identity(f"gradient of the risk ({name})", torch.cat([g.flatten() for g in of_risk]), (e[:, None] @ J)[:, 0].mean(0))
        yield identity(f"energies ({name})", energy, _quadratic(A, e))
        lower, upper = residual_bounds(energy, low, high)
        yield at_least(f"residual, lower ({name})", e.square().sum(-1), bound=lower)
        yield at_most(f"residual, upper ({name})", e.square().sum(-1), bound=upper)
        yield at_least(f"domination ({name})", norm, bound=norm / energy.mean() * low.min() * e.square().sum(-1).mean())
    _, vectors = torch.linalg.eigh(A)
    for side, k, extreme in (("upper", 0, low), ("lower", -1, high)):
        mu = (model(inputs) - vectors[:, :, k]).detach()
        e, _, gradient = _chain(model, inputs, lambda f: fenchel_young_loss(SQUARED, mu, f), lambda f: f - mu)
        yield identity(f"residual, {side} side attained", e.square().sum(-1), gradient.square().sum(-1) / extreme)


def _batch_network(rng):
    """A network with batch normalization in training mode, a batch for it, and its number of outputs."""
    torch.manual_seed(int(rng.integers(2**31)))
    K, wide = int(rng.integers(2, 5)), int(rng.integers(2, 6))
    model = torch.nn.Sequential(torch.nn.Linear(3, wide), torch.nn.BatchNorm1d(wide, track_running_stats=False), torch.nn.Tanh(),
                                torch.nn.Linear(wide, K)).double()
    return model, normal(rng, int(rng.integers(4, 7)), 3), K


@batch_jacobian.witness("Only the sample with the smallest eigenvalue errs, along its eigenvector")
def _(rng):
    model, inputs, K = _batch_network(rng)
    for generator in (SHANNON, SQUARED):
        outputs = model(inputs).detach()
        _, J, _ = _chain(model, inputs, lambda f: f.square().sum(-1), lambda f: f)
        A, predicted = J @ J.mT, generator.predict(outputs)
        low, _ = extreme_eigenvalues(A, generator.on_simplex)
        worst, kept = int(low.argmin()), torch.eye(K).double() - generator.on_simplex / K
        _, vectors = torch.linalg.eigh(kept @ A[worst] @ kept)
        v = vectors[:, int(generator.on_simplex)]  # with a simplex the first is 1, whose eigenvalue here is 0
        mu = predicted.clone()
        mu[worst] -= predicted[worst].min() / 2 * v
        e, _, gradient = _chain(model, inputs, lambda f, m=mu, g=generator: fenchel_young_loss(g, m, f), lambda f, m=mu, g=generator:
                                g.predict(f) - m)
        norm = sum(g.square().sum() for g in _risk_gradient(model, inputs, mu, generator)[1])
        energy = gradient.square().sum(-1).mean()
        yield at_least(f"domination ({generator.name})", norm, bound=norm / energy * low.min() * e.square().sum(-1).mean())


@batch_jacobian.breaks("A_x as a function of x alone: in another batch the same input has another structure matrix")
def _(rng):
    model, inputs, _ = _batch_network(rng)
    _, J, _ = _chain(model, inputs, lambda f: f.square().sum(-1), lambda f: f)
    _, other, _ = _chain(model, inputs[:3], lambda f: f.square().sum(-1), lambda f: f)
    yield identity("A of the first input", other[0] @ other[0].mT, J[0] @ J[0].mT)


@batch_jacobian.breaks("The batch energy identity: the losses of a smaller batch are not those of the whole")
def _(rng):
    model, inputs, K = _batch_network(rng)
    n, targets = len(inputs), torch.from_numpy(rng.integers(K, size=len(inputs)))
    _, _, gradient = _chain(model, inputs, lambda f: fenchel_young_loss(SQUARED, targets, f), lambda f: f)
    norms = [sum(g.square().sum() for g in _risk_gradient(model, inputs[list(batch)], targets[list(batch)], SQUARED)[1])
             for batch in itertools.combinations(range(n), 2)]
    expected = batch_energy(gradient.square().sum(-1).mean(), gradient.mean(0).square().sum(), n=n, batch_size=2)
    yield identity("batches of two", sum(norms) / len(norms), expected)


@batch_jacobian.breaks("The Jacobian with the batch's statistics held constant, as evaluation mode has them")
def _(rng):
    model, inputs, K = _batch_network(rng)
    targets = torch.from_numpy(rng.integers(K, size=len(inputs)))
    _, of_risk = _risk_gradient(model, inputs, targets, SQUARED)
    z = model[0](inputs).detach()
    held = torch.nn.BatchNorm1d(z.shape[1]).double().eval()  # the same function of x at this batch, its statistics being constants
    held.running_mean, held.running_var = z.mean(0), z.var(0, unbiased=False)
    _, _, gradient = _chain(torch.nn.Sequential(model[0], held, *model[2:]), inputs,
                            lambda f: fenchel_young_loss(SQUARED, targets, f), lambda f: f)
    yield identity("gradient of the risk", torch.cat([g.flatten() for g in of_risk]), gradient.mean(0))
