"""Mini-batch SGD: what it controls. For a task, see ``clt_utils.sgd``."""

import itertools
import math

import torch
from torch.func import grad, jacrev, vmap

from .. import sgd
from ..bounds import batch_energy, sgd_energy_bound, sgd_gradient_bound
from ..duality import SHANNON, SQUARED, fenchel_young_loss
from ..structure import gradient_correlation
from .core import at_least, at_most, identity, statement
from .instances import normal, random_network

CHAPTER = "trainability/mini-batch-sgd"


def _linear_task(rng, generator, n):
    """A linear model -> (losses, start, L), every batch loss being L-smooth everywhere: ‖∇²d‖ ≤ ‖∇²Φ*‖ (‖x‖² + 1)."""
    K, width = int(rng.integers(2, 4)), int(rng.integers(2, 5))
    inputs = torch.cat([normal(rng, n, width), torch.ones(n, 1)], -1)
    targets = torch.from_numpy(rng.integers(K, size=n))

    def losses(theta):
        return fenchel_young_loss(generator, targets, inputs @ theta.view(width + 1, K))

    curvature = 0.5 if generator is SHANNON else 1.0  # sup ‖∇²Φ*‖
    return losses, normal(rng, (width + 1) * K), curvature * inputs.square().sum(-1).max().item()


def _network_task(rng, n):
    """A small tanh network with cross-entropy -> (losses, start)."""
    torch.manual_seed(int(rng.integers(2**31)))
    model = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 3)).double()
    return sgd.flat_losses(model, 2 * normal(rng, n, 3), torch.from_numpy(rng.integers(3, size=n)))


def _two_opposed(theta):
    """The losses ½(θ − 1)² and ½(θ + 1)², (1,) -> (2,): the smallest data set whose samples cannot agree; L = 1."""
    return 0.5 * (theta - torch.tensor([1.0, -1.0], dtype=torch.float64)).square()


def _sample_gradients(losses, theta):
    return jacrev(losses)(theta).detach()


@statement("batch-energy-identity", "A batch's expected squared gradient mixes energy and mean gradient", kind="proposition",
           assumptions=("the batch is uniform among all subsets of its size", "drawn without replacement"),
           chapter=CHAPTER, trials=20, words="d13de789")
def batch_energy_identity(rng):
    n = int(rng.integers(2, 7))
    losses, theta = _network_task(rng, n)
    gradients = _sample_gradients(losses, theta)
    energy, mean_norm = gradients.square().sum(-1).mean(), gradients.mean(0).square().sum()
    for m in range(1, n + 1):
        norms = [gradients[list(batch)].mean(0).square().sum() for batch in itertools.combinations(range(n), m)]
        yield identity("expectation", sum(norms) / len(norms), batch_energy(energy, mean_norm, n=n, batch_size=m))
    yield identity("m = 1", batch_energy(energy, mean_norm, n=n, batch_size=1), energy)
    yield identity("m = n", batch_energy(energy, mean_norm, n=n, batch_size=n), mean_norm)


@batch_energy_identity.breaks("Sampling with replacement: the weights become 1/m and (m−1)/m")
def _(rng):
    n, m = 4, 2
    gradients = _sample_gradients(*_network_task(rng, n))
    norms = [gradients[list(batch)].mean(0).square().sum() for batch in itertools.product(range(n), repeat=m)]
    energy, mean_norm = gradients.square().sum(-1).mean(), gradients.mean(0).square().sum()
    yield identity("expectation", sum(norms) / len(norms), batch_energy(energy, mean_norm, n=n, batch_size=m))


@batch_energy_identity.breaks("Fixed batches: the same n/m groups of neighbours in every epoch")
def _(rng):
    gradients = _sample_gradients(*_network_task(rng, 6))
    norms = [gradients[k:k + 2].mean(0).square().sum() for k in (0, 2, 4)]
    energy, mean_norm = gradients.square().sum(-1).mean(), gradients.mean(0).square().sum()
    yield identity("expectation", sum(norms) / 3, batch_energy(energy, mean_norm, n=6, batch_size=2))


@statement("gradient-correlation-factor", "ρ lies in [0, 1]: 1 if all gradients agree, 1/n if orthogonal and equally long",
           kind="proposition", paper="by topic", assumptions=("the mean energy is positive",), chapter=CHAPTER, trials=30,
           words="664fd156")
def gradient_correlation_factor(rng):
    model, inputs, K = random_network(rng)
    targets = torch.from_numpy(rng.integers(K, size=len(inputs)))
    rho = gradient_correlation(model, inputs, targets)
    yield at_least("≥ 0", rho, bound=0.0)
    yield at_most("≤ 1", rho, bound=1.0)
    yield identity("copies: 1", gradient_correlation(model, inputs[:1].expand(5, -1), targets[:1].expand(5)), 1.0)
    n = int(rng.integers(2, 9))
    yield identity("orthogonal: 1/n", gradient_correlation(*_one_weight_each(n), SQUARED), 1 / n)
    # one weight: the gradients are numbers e·x, equal or not, pulling together or apart
    model, x, y = torch.nn.Linear(1, 1, bias=False).double(), normal(rng, n, 1), normal(rng, n, 1)
    model.weight.data = normal(rng, 1, 1)
    for equal in (False, True):
        if equal:
            y = model.weight.data * x - 0.7 / x
        gradients, rho = ((model.weight.data * x - y) * x)[:, 0], gradient_correlation(model, x, y, SQUARED)
        inner = gradients.sum() ** 2 - gradients.square().sum()  # over all pairs of two different samples
        yield identity("1 iff all equal", float(rho > 1 - 1e-9), float((gradients - gradients[0]).abs().max() < 1e-9))
        yield identity("below 1/n iff they pull apart", float(rho < 1 / n), float(inner < 0))


def _one_weight_each(n):
    """A model, inputs and targets of n samples whose gradients are orthogonal and equally long: sample i sees weight i alone."""
    model = torch.nn.Linear(n, 1, bias=False).double()
    model.weight.data.zero_()
    return model, torch.eye(n, dtype=torch.float64), torch.ones(n, 1, dtype=torch.float64)


@gradient_correlation_factor.witness("Two samples that agree, and two that are opposed")
def _(rng):
    model, x = torch.nn.Linear(1, 1, bias=False).double(), torch.ones(2, 1, dtype=torch.float64)
    model.weight.data.zero_()
    for name, y, rho in (("≤ 1", [1.0, 1.0], 1.0), ("≥ 0", [1.0, -1.0], 0.0)):
        found = gradient_correlation(model, x, torch.tensor(y, dtype=torch.float64)[:, None], SQUARED)
        yield identity("below 1/n iff they pull apart", 1 + found, 1 + rho)
        yield at_most(name, found, bound=1.0) if rho else at_least(name, found, bound=0.0)


@gradient_correlation_factor.breaks("«Uncorrelated gradients have ρ = 0»: orthogonal gradients of equal norm have ρ = 1/n")
def _(rng):
    yield at_most("uncorrelated", gradient_correlation(*_one_weight_each(4), SQUARED), bound=0.0)


@gradient_correlation_factor.breaks("«Batch size 1 means uncorrelated gradients»: n copies of one sample have ρ = 1")
def _(rng):
    model, inputs, _ = random_network(rng)
    copies, targets = inputs[:1].expand(8, -1), torch.zeros(8, dtype=torch.long)
    yield at_most("uncorrelated", gradient_correlation(model, copies, targets), bound=1 / 8)


@statement("descent-lemma", "A gradient step on an L-smooth function lowers it by at least α(1 − Lα/2)‖∇F‖²", kind="lemma",
           assumptions=("∇F is L-Lipschitz on the segment from θ to θ − α∇F(θ)",), chapter=CHAPTER, trials=20, words="d4f798b4")
def descent_lemma(rng):
    for generator in (SHANNON, SQUARED):
        losses, theta, smoothness = _linear_task(rng, generator, n=5)
        step = rng.uniform(0, 2) / smoothness
        yield _descent(f"decrease ({generator.name})", lambda t: losses(t).mean(), theta, smoothness, step)
    losses, theta = _network_task(rng, n=5)
    step = 10 ** rng.uniform(-2, 1)
    risk = lambda t: losses(t).mean()
    smoothness = sgd.segment_smoothness(grad(risk), theta, theta - step * grad(risk)(theta), points=50)
    yield _descent("decrease (tanh network)", risk, theta, smoothness, step)


def _descent(name, F, theta, smoothness, step):
    gradient, before = grad(F)(theta), F(theta)
    decrease = before - F(theta - step * gradient)
    return at_least(name, decrease, bound=step * (1 - smoothness * step / 2) * gradient.square().sum(), unit=float(before))


@descent_lemma.witness("½Lθ², whatever the step; a fair coin and a network, with a short one")
def _(rng):
    for step in (0.5, 1.0, 1.9):
        yield _descent("decrease (squared)", lambda t: 0.5 * t.square().sum(), normal(rng, 3), 1.0, step)
    coin = lambda t: fenchel_young_loss(SHANNON, torch.tensor(0), t)
    yield _descent("decrease (Shannon)", coin, torch.zeros(2, dtype=torch.float64), 0.5, 0.1)
    losses, theta = _network_task(rng, n=5)
    risk = lambda t: losses(t).mean()
    after = theta - 0.01 * grad(risk)(theta)
    yield _descent("decrease (tanh network)", risk, theta, sgd.segment_smoothness(grad(risk), theta, after), 0.01)


@descent_lemma.breaks("A step beyond 2/L: F = ½Lθ² goes up")
def _(rng):
    F = lambda t: 0.5 * t.square().sum()
    theta = normal(rng, 3)
    yield at_most("decrease", F(theta - 2.5 * theta), bound=F(theta))


@descent_lemma.breaks("L measured at θ alone: a softmax that is wrong with confidence is flat, a step 1/L overshoots by far")
def _(rng):
    inputs, targets = torch.tensor([[1.0], [-0.5]], dtype=torch.float64), torch.tensor([0, 0])
    F = lambda t: fenchel_young_loss(SHANNON, targets, inputs * torch.stack([t, -t])).mean()
    theta = torch.tensor(-10.0, dtype=torch.float64)
    smoothness = grad(grad(F))(theta).item()
    gradient = grad(F)(theta)
    yield at_most("decrease", F(theta - gradient / smoothness), bound=F(theta) - gradient**2 / (2 * smoothness))


@statement("sgd-batch-gradient", "Progress and interference bound the mean squared batch gradient of an SGD run", kind="theorem",
           paper="Theorem 12", assumptions=("every batch loss is L-smooth on the segments visited", "a constant step α ≤ 1/L",
                                            "M is the run's own out-of-batch change"), chapter=CHAPTER, trials=6, words="c458984e")
def sgd_batch_gradient(rng):
    n, num_steps = int(rng.integers(2, 7)), 6
    m = int(rng.integers(1, n + 1))
    batches = sgd.draw_batches(n, m, num_steps, seed=int(rng.integers(2**31)))
    for generator in (SHANNON, SQUARED):
        losses, theta, smoothness = _linear_task(rng, generator, n)
        run = sgd.run(losses, theta, batches, rng.uniform(0.1, 1) / smoothness, points=0)
        yield at_most(f"bound ({generator.name})", run.gradient_norms.mean(), bound=run.gradient_bound(smoothness))
        run = sgd.run(losses, theta, batches, 1 / (2 * smoothness), points=0)
        bound = 8 / 3 * smoothness * n * run.drop / (m * num_steps) + 4 * smoothness * (n - m) / m * run.interference.abs().max()
        yield at_most(f"the paper's form ({generator.name})", run.gradient_norms.mean(), bound=bound)
    losses, theta = _network_task(rng, n)
    step, run = 1.0, None
    while run is None or step * run.smoothness.max() > 1:  # L of a network is known only after the run
        step /= 2
        run = sgd.run(losses, theta, batches, step, points=16)
    yield at_most("bound (tanh network)", run.gradient_norms.mean(), bound=run.gradient_bound())


@sgd_batch_gradient.witness("Losses of curvature L, two samples that are opposed; with a full batch; a network with a short step")
def _(rng):
    for name, losses, start, step in (("squared", _two_opposed, 0.3, 0.8), ("Shannon", _fair_coins, 0.0, 0.05)):
        theta = torch.full((1,), start, dtype=torch.float64)
        run = sgd.run(losses, theta, torch.tensor([[0], [1]]), step)
        yield at_most(f"bound ({name})", run.gradient_norms.mean(), bound=run.gradient_bound(1.0))
        run = sgd.run(losses, theta, torch.tensor([[0, 1]]), step=0.5)
        yield at_most(f"the paper's form ({name})", run.gradient_norms.mean(), bound=8 / 3 * run.drop)
    losses, theta = _network_task(rng, 3)
    run = sgd.run(losses, theta, torch.tensor([[0, 1], [1, 2]]), 0.01, points=16)
    yield at_most("bound (tanh network)", run.gradient_norms.mean(), bound=run.gradient_bound())


def _fair_coins(theta):
    """Two logistic losses of one number that agree, curvature 1 at zero, (1,) -> (2,)."""
    return 4 * torch.nn.functional.softplus(-theta).expand(2)


@sgd_batch_gradient.breaks("A step beyond 2/L: with L = 1, curvature ½ and α = 3 the constant c is negative, and so is the bound")
def _(rng):
    theta, step, smoothness = 1.0, 3.0, 1.0
    after = theta - step * 0.5 * theta
    c = step * (1 - smoothness * step / 2)
    yield at_most("bound", (0.5 * theta) ** 2, bound=(0.25 * theta**2 - 0.25 * after**2) / c)


@sgd_batch_gradient.breaks("L of the mean loss only: curvatures 10 and −8 average to 1, a step of 1 is too long for both")
def _(rng):
    curvatures, theta = torch.tensor([10.0, -8.0], dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    run = sgd.run(lambda t: 0.5 * curvatures * t**2, theta, torch.tensor([[0]]), step=1.0)
    yield at_most("bound", run.gradient_norms.mean(), bound=run.gradient_bound(smoothness=1.0))


@sgd_batch_gradient.breaks("M left out: near the minimum of the mean, two samples pull against each other for ever")
def _(rng):
    run = sgd.run(_two_opposed, torch.zeros(1, dtype=torch.float64), torch.tensor([[0], [1]] * 20), step=0.5)
    bound = sgd_gradient_bound(run.drop, 0.0, n=2, batch_size=1, smoothness=1.0, step=0.5, num_steps=40)
    yield at_most("bound", run.gradient_norms.mean(), bound=bound)


def _all_runs(losses, theta, n, batch_size, step, num_steps):
    """Every run of SGD with fresh uniform batches, all equally likely.

    Returns:
        The mean over runs of the mean energy Ê along them, the drop R̂(θ_0) − R̂(θ_N) of each run (S,), its mean out-of-batch
        change (S,) and its own mean energy (S,).
    """
    batches = [list(b) for b in itertools.combinations(range(n), batch_size)]
    thetas, start = theta[None], losses(theta).mean()
    energy, interference = torch.zeros(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    for _ in range(num_steps):
        gradients = vmap(jacrev(losses))(thetas).detach()
        values = vmap(losses)(thetas)
        energy = energy + gradients.square().sum(-1).mean(-1) / num_steps
        steps = torch.stack([gradients[:, b].mean(1) for b in batches], 1)
        after = thetas[:, None] - step * steps
        change = vmap(vmap(losses))(after) - values[:, None]
        out = torch.stack([change[:, k].sum(-1) - change[:, k, b].sum(-1) for k, b in enumerate(batches)], 1) / (n - batch_size)
        interference = (interference[:, None] + out / num_steps).flatten()
        energy, thetas = energy.repeat_interleave(len(batches)), after.flatten(0, 1)
    return energy, start - vmap(losses)(thetas).mean(-1), interference


@statement("sgd-energy", "In expectation, the record of a run with fresh small batches bounds its mean energy", kind="theorem",
           assumptions=("n > 1 and m < n", "every batch loss is L-smooth on the segments visited",
                        "every step draws a fresh uniform batch, given θ_k",
                        "a constant step α ≤ 1/L, no momentum, no weight decay", "expectations on both sides"),
           chapter=CHAPTER, trials=8, words="07fd1ec8")
def sgd_energy(rng):
    n, num_steps = int(rng.integers(2, 5)), 3
    m = int(rng.integers(1, n))
    for generator in (SHANNON, SQUARED):
        losses, theta, smoothness = _linear_task(rng, generator, n)
        step = rng.uniform(0.1, 1) / smoothness
        energy, drop, interference = _all_runs(losses, theta, n, m, step, num_steps)
        bound = sgd_energy_bound(drop.mean(), interference.mean(), n=n, batch_size=m, smoothness=smoothness, step=step,
                                 num_steps=num_steps)
        yield at_most(f"bound ({generator.name})", energy.mean(), bound=bound)


@sgd_energy.witness("Losses of curvature L; nearly fair coins with a short step")
def _(rng):
    for name, losses, start, step in (("squared", _two_opposed, 0.3, 0.8), ("Shannon", _fair_coins, 0.0, 0.02)):
        energy, drop, interference = _all_runs(losses, torch.full((1,), start, dtype=torch.float64), 2, 1, step, 2)
        bound = sgd_energy_bound(drop.mean(), interference.mean(), n=2, batch_size=1, smoothness=1.0, step=step, num_steps=2)
        yield at_most(f"bound ({name})", energy.mean(), bound=bound)


@sgd_energy.breaks("The run's own M in place of the expected one: some runs are lucky with their batches")
def _(rng):
    losses, theta, smoothness = _linear_task(rng, SHANNON, n=4)
    energy, drop, interference = _all_runs(losses, theta, 4, 1, 1 / smoothness, 3)
    bound = sgd_energy_bound(drop, interference, n=4, batch_size=1, smoothness=smoothness, step=1 / smoothness, num_steps=3)
    yield at_most("bound", energy, bound=bound)


@sgd_energy.breaks("Batches reshuffled once an epoch: given the first step, the second batch is not uniform")
def _(rng):
    losses, theta, smoothness = _linear_task(rng, SQUARED, n=2)
    seen, expected = [], []
    for first, second in ((0, 1), (1, 0)):  # n = 2, m = 1: the second batch is what the first left over
        after = theta - _sample_gradients(losses, theta)[first] / smoothness
        gradients = _sample_gradients(losses, after)
        seen.append(gradients[second].square().sum())
        expected.append(batch_energy(gradients.square().sum(-1).mean(), gradients.mean(0).square().sum(), n=2, batch_size=1))
    yield identity("batch energy at the second step", sum(seen), sum(expected))


@sgd_energy.breaks("A full batch: the mean gradient vanishes, the energy does not")
def _(rng):
    run = sgd.run(_two_opposed, torch.full((1,), 0.3, dtype=torch.float64), torch.tensor([[0, 1]] * 50), step=0.5)
    energy = 2 * run.losses[:-1].mean()  # the squared gradient of ½(θ − y)² is twice the loss
    yield at_most("bound", energy, bound=run.gradient_bound(smoothness=1.0))


@statement("sgd-classical", "Three classical rates: bounded variance, strong growth, Polyak–Łojasiewicz by the tangent kernel",
           kind="theorem", assumptions=("an unbiased gradient of an L-smooth R̂, α ≤ 1/L", "(a) variance at most σ² on the way",
                                        "(b) E‖∇L_B‖² ≤ κ‖∇R̂‖² on the way, α ≤ 1/(κL)",
                                        "(c) squared loss, full batch, λ_min(Θ) ≥ nμ > 0 on the way"), chapter=CHAPTER, trials=6,
           words="591b2892")
def sgd_classical(rng):
    n, num_steps = 4, 3
    losses, theta, smoothness = _linear_task(rng, SHANNON, n)
    step = rng.uniform(0.1, 1) / smoothness
    mean_norm, batch_norm, drop = _one_sample_runs(losses, theta, step, num_steps)
    variance = max((b - g).max().item() for g, b in zip(mean_norm, batch_norm))
    yield at_most("(a) variance", _mean(mean_norm), bound=2 * drop / (step * num_steps) + step * smoothness * variance)
    growth, needed = 1.0, math.inf
    while needed > growth:  # shorter steps run elsewhere, so κ is found by trying
        growth = 1.5 * growth if needed == math.inf else 1.5 * needed
        step = 1 / (growth * smoothness)
        mean_norm, batch_norm, drop = _one_sample_runs(losses, theta, step, num_steps)
        needed = max((b / g).max().item() for g, b in zip(mean_norm, batch_norm))
    yield at_most("(b) strong growth", _mean(mean_norm), bound=2 * drop / (step * num_steps))
    features, targets = normal(rng, 4, 8), normal(rng, 4, 1)
    risks, rate = _kernel_descent(features, targets, num_steps=30)
    yield at_most("(c) PL", risks[1:], bound=risks[0] * rate ** torch.arange(1, 31))


def _one_sample_runs(losses, theta, step, num_steps):
    """All runs with batches of one -> ‖∇R̂‖² and E‖∇L_B‖² at each step, each a list of (n^k,), and the mean drop of the risk."""
    thetas, mean_norm, batch_norm = theta[None], [], []
    for _ in range(num_steps):
        gradients = vmap(jacrev(losses))(thetas).detach()
        mean_norm.append(gradients.mean(1).square().sum(-1))
        batch_norm.append(gradients.square().sum(-1).mean(1))
        thetas = (thetas[:, None] - step * gradients).flatten(0, 1)
    return mean_norm, batch_norm, losses(theta).mean() - vmap(losses)(thetas).mean()


def _mean(levels):
    """The mean over steps of the means over runs."""
    return torch.stack([level.mean() for level in levels]).mean()


def _kernel_descent(features, targets, num_steps):
    """Gradient descent on ½‖Fw − y‖²/n with step 1/L -> risks (N+1,) and the rate 1 − μ/L of the PL constant μ = λ_min(Θ)/n."""
    n, w = len(features), torch.zeros(features.shape[1], 1, dtype=torch.float64)
    kernel = torch.linalg.eigvalsh(features @ features.mT)
    step, risks = n / kernel[-1], []
    for _ in range(num_steps + 1):
        residual = features @ w - targets
        risks.append(0.5 * residual.square().sum() / n)
        w = w - step * features.mT @ residual / n
    return torch.stack(risks), 1 - kernel[0] / kernel[-1]


@sgd_classical.witness("Losses of curvature L and a step of 1/L: opposed, in agreement, and flat in one direction but for a hundredth")
def _(rng):
    for name, losses in (("(a) variance", _two_opposed), ("(b) strong growth", lambda t: _two_opposed(t)[:1].expand(2))):
        mean_norm, batch_norm, drop = _one_sample_runs(losses, torch.full((1,), 0.3, dtype=torch.float64), 1.0, 2)
        variance = max((b - g).max().item() for g, b in zip(mean_norm, batch_norm))  # (b): κ = 1, no variance
        yield at_most(name, _mean(mean_norm), bound=2 * drop / 2 + (variance if name[1] == "a" else 0))
    risks, rate = _kernel_descent(torch.diag(torch.tensor([1.0, 0.1], dtype=torch.float64)), torch.tensor([[0.0], [1.0]]), num_steps=2)
    yield at_most("(c) PL", risks[1:], bound=risks[0] * rate ** torch.arange(1, 3))


@sgd_classical.breaks("(a) A biased gradient: batches that see one class only never reach stationarity of the whole")
def _(rng):
    theta, norms = torch.zeros(1, dtype=torch.float64), []
    for _ in range(60):
        gradients = _sample_gradients(_two_opposed, theta)
        norms.append(gradients.mean(0).square())
        theta = theta - 0.1 * gradients[0]  # the second sample is never drawn, so what is drawn has no variance
    drop = (_two_opposed(torch.zeros(1)) - _two_opposed(theta)).mean()
    yield at_most("(a)", torch.stack(norms).mean(), bound=2 * drop / (0.1 * 60))


@sgd_classical.breaks("(b) No interpolation: where the mean gradient vanishes and the samples' do not, no κ exists")
def _(rng):
    mean_norm, _, drop = _one_sample_runs(_two_opposed, torch.zeros(1, dtype=torch.float64), 0.5, 4)
    yield at_most("(b)", _mean(mean_norm), bound=2 * drop / (0.5 * 4))


@sgd_classical.breaks("(c) More samples than features: λ_min(Θ) = 0, and the next eigenvalue does not replace it")
def _(rng):
    features, targets = normal(rng, 8, 3), normal(rng, 8, 1)
    risks, _ = _kernel_descent(features, targets, num_steps=300)
    kernel = torch.linalg.eigvalsh(features @ features.mT)
    yield at_most("(c)", risks[-1], bound=risks[0] * (1 - kernel[-3] / kernel[-1]) ** 300)
