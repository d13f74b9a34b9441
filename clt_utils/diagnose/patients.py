"""Patients: small networks on digits, each with one known disease, a healthy one among them, and the cures that the rules name.

What they teach is tried here: a rule that does not speak up on its disease, that speaks to the healthy, or whose cure makes a model worse
is seen by the tests, and the chapter's table of rules and diseases is computed from these.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from ..data import load
from ..duality import SHANNON
from ..fitting import best_temperature, fit, risk_of
from . import diagnose
from .compare import best_order, neighbour_votes, prior_shift
from .report import Report

Pair = tuple[Tensor, Tensor]
K = 10


@dataclass(frozen=True)
class Patient:
    """A network and its data, as someone would bring them.

    Attributes:
        model: The network, in evaluation mode.
        train, test: What ``diagnose`` gets, (inputs, targets) each.
        fresh: More samples like those that the model will meet, to judge cures on: neither training nor the report saw them.
        untrained: A function that makes the network as it was before training.
    """

    model: nn.Module
    train: Pair
    test: Pair
    fresh: Pair
    untrained: Callable[[], nn.Module]


def batches(pair: Pair) -> list[Pair]:
    """Samples as a loader gives them."""
    return list(zip(*(part.split(64) for part in pair)))


@cache
def _digits() -> Pair:
    splits = [load("digits", split=split, size=8) for split in ("train", "test")]
    return torch.cat([part.inputs.flatten(1) for part in splits]), torch.cat([part.targets for part in splits])


def _drawn(seed: int, n: int = 600) -> tuple[Pair, Pair, Pair]:
    """n digits to train on, 400 for the report and all others to judge cures on."""
    x, y = _digits()
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(seed))
    first, second, third = ((x[part], y[part]) for part in order.tensor_split([n, n + 400]))
    return first, second, third


def mlp(seed: int, widths: tuple[int, ...] = (64,), activation: type[nn.Module] = nn.ReLU, gain: float = 1.0) -> nn.Sequential:
    """A plain network for digits, fresh; ``gain`` multiplies all but the last layer's weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = [64, *widths]
        hidden = [nn.Linear(a, b) for a, b in zip(sizes, sizes[1:])]
        last = nn.Linear(sizes[-1], K)
    with torch.no_grad():
        for layer in hidden:
            layer.weight *= gain
    return nn.Sequential(*(part for layer in hidden for part in (layer, activation())), last).eval()


def fitted(net: nn.Module, pair: Pair, steps: int = 120, learning_rate: float = 0.01, weight_decay: float = 0.0) -> nn.Module:
    """The same network after so many steps of Adam on all samples; labels (n,) or mean vectors (n, K)."""
    fit(net, *pair, steps=steps, loss=risk_of(SHANNON), learning_rate=learning_rate, weight_decay=weight_decay)
    net.zero_grad()
    return net


def _patient(seed: int, make: Callable[[], nn.Module] | None = None, train: Pair | None = None, test: Pair | None = None,
             fresh: Pair | None = None, **training: float) -> Patient:
    """The healthy one, with what is given in its place."""
    usual = _drawn(seed)
    make = make or (lambda: mlp(seed))
    train = train or usual[0]
    return Patient(fitted(make(), train, **training), train, test or usual[1], fresh or usual[2], make)  # type: ignore[arg-type]


# ---- diseases

@cache
def healthy(seed: int) -> Patient:
    """Trained as it should be."""
    return _patient(seed)


def not_trained(seed: int) -> Patient:
    """As it was made."""
    return replace(healthy(seed), model=mlp(seed))


def step_too_small(seed: int) -> Patient:
    """A thousandth of a good step."""
    return _patient(seed, learning_rate=1e-5)


def step_too_large(seed: int) -> Patient:
    """Six steps, thirty times as long as they should be."""
    return _patient(seed, learning_rate=0.3, steps=6)


def dead_relus(seed: int) -> Patient:
    """All but a few hidden units are zero on every sample: their biases are far below."""
    def make() -> nn.Module:
        net = mlp(seed)
        with torch.no_grad():
            net.get_parameter("0.bias")[3:] -= 8
        return net

    return _patient(seed, make)


def saturated(seed: int) -> Patient:
    """Tanh units at ±1: the weights began far too large."""
    return _patient(seed, lambda: mlp(seed, (64, 64, 64), nn.Tanh, gain=60.0), learning_rate=0.001)


def vanishing_depth(seed: int) -> Patient:
    """A deep plain network with PyTorch's weights, a sixth of the variance that ReLU layers need."""
    return _patient(seed, lambda: mlp(seed, (64,) * 24), learning_rate=0.001, steps=60)


def memorized_noise(seed: int, share: float = 1 / 3) -> Patient:
    """Of the training labels a share is drawn anew, and all are learned by heart."""
    (x, y), _, _ = _drawn(seed)
    return _patient(seed, lambda: mlp(seed, (256,)), train=(x, _noisy(y, share, seed)), steps=200)


def _noisy(y: Tensor, share: float, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 + seed)
    return torch.where(torch.rand(len(y), generator=generator) < share, torch.randint(K, (len(y),), generator=generator), y)


def conflicting_duplicates(seed: int) -> Patient:
    """Every training image five times, labelled by as many people who err in half of the cases; so are those of the test."""
    (x, y), test, fresh = _drawn(seed)
    def many(pair: Pair, at: int) -> Pair:
        return pair[0], _noisy(pair[1], 0.5, seed + at)

    train = x[:200].repeat(5, 1), _noisy(y[:200].repeat(5), 0.5, seed)
    return _patient(seed, train=train, test=many(test, 1), fresh=many(fresh, 2))


def overconfident(seed: int) -> Patient:
    """A good network whose outputs are multiplied by five."""
    patient = healthy(seed)
    return replace(patient, model=Cooler(patient.model, 1 / 5))


def underfit(seed: int) -> Patient:
    """All passes through one linear unit."""
    return _patient(seed, lambda: mlp(seed, (1,), nn.Identity), steps=300, learning_rate=0.03)


def shifted_test(seed: int) -> Patient:
    """Tested on images that stand two pixels to the right."""
    _, test, fresh = _drawn(seed)
    def moved(pair: Pair) -> Pair:
        return pair[0].reshape(-1, 8, 8).roll(2, -1).flatten(1), pair[1]

    return _patient(seed, test=moved(test), fresh=moved(fresh))


def raw_inputs(seed: int) -> Patient:
    """Pixels from 0 to 255 and not around zero."""
    train, test, fresh = (((255 * x), y) for x, y in _drawn(seed))
    return _patient(seed, train=train, test=test, fresh=fresh)


def other_order(seed: int) -> Patient:
    """A good network whose outputs stand in another order than the labels."""
    patient = healthy(seed)
    return replace(patient, model=Reordered(patient.model, torch.arange(K).roll(1 + seed % (K - 1))))


def leaking_test(seed: int) -> Patient:
    """Half of the test samples were trained on as well."""
    (x, y), test, fresh = _drawn(seed, 200)
    return _patient(seed, train=(torch.cat([x, test[0][:200]]), torch.cat([y, test[1][:200]])), test=test, fresh=fresh)


def imbalanced(seed: int) -> Patient:
    """Of every class in training three fifths of the one before it; all are equally frequent where the model is used."""
    (x, y), test, fresh = _drawn(seed, 900)
    wanted = (100 * 0.6 ** torch.arange(K)).ceil()
    rank = one_hot(y, K).cumsum(0).gather(1, y[:, None])[:, 0]
    chosen = rank <= wanted[y]
    return _patient(seed, train=(x[chosen], y[chosen]), test=test, fresh=fresh)


def frozen(seed: int) -> Patient:
    """Only the biases were trained."""
    def make() -> nn.Module:
        net = mlp(seed)
        for name, p in net.named_parameters():
            p.requires_grad_(name.endswith("bias"))
        return net

    return _patient(seed, make)


DISEASES: dict[str, Callable[[int], Patient]] = {builder.__name__.replace("_", " "): builder for builder in (
    healthy, not_trained, step_too_small, step_too_large, dead_relus, saturated, vanishing_depth, memorized_noise, conflicting_duplicates,
    overconfident, underfit, shifted_test, raw_inputs, other_order, leaking_test, imbalanced, frozen)}
"""Builders of patients from a seed, by the name of what they have."""


# ---- what cures put around a network

class Cooler(nn.Module):
    """A network with all outputs divided by a temperature."""

    def __init__(self, net: nn.Module, temperature: float) -> None:
        super().__init__()
        self.net, self.temperature = net, temperature
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, K)."""
        return self.net(x) / self.temperature


class Reordered(nn.Module):
    """A network whose output j is another one's output order[j], plus ``shift[j]``."""

    def __init__(self, net: nn.Module, order: Tensor, shift: Tensor | None = None) -> None:
        super().__init__()
        self.net, self.order, self.shift = net, order, shift
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, K)."""
        f = self.net(x)[:, self.order]
        return f if self.shift is None else f + self.shift


class Standardized(nn.Module):
    """A network behind inputs brought to mean zero and size one."""

    def __init__(self, net: nn.Module, x: Tensor) -> None:
        super().__init__()
        self.net, self.mean, self.size = net, x.mean(), x.std()
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Outputs (B, K)."""
        return self.net((x - self.mean) / self.size)


# ---- cures: what a rule says to do, done

def _outputs(net: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return net(x)


def _reborn(patient: Patient) -> nn.Module:
    """Weights of variance 2 ÷ fan-in and no biases, then trained."""
    net = patient.untrained()
    for layer in net.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return fitted(net, patient.train, learning_rate=0.001 if len(net) > 9 else 0.01)  # type: ignore[arg-type]


def _thawed(patient: Patient) -> nn.Module:
    return fitted(copy.deepcopy(patient.model).requires_grad_(), patient.train)


def agreeing(pair: Pair) -> Pair:
    """The samples whose label is that of the vote of their neighbours."""
    kept = neighbour_votes(*pair, K) == pair[1]
    return pair[0][kept], pair[1][kept]


def _reweighted(patient: Patient) -> nn.Module:
    x, y = patient.test
    f = _outputs(patient.model, x)
    T = best_temperature(f, y)
    return Reordered(Cooler(patient.model, T), torch.arange(K), prior_shift(f / T, one_hot(y, K).float()))


def _stopped(patient: Patient) -> nn.Module:
    """The best of three shorter trainings and the network as it is, chosen on the held-out samples."""
    x, y = patient.test
    nets = [patient.model, *(fitted(patient.untrained(), patient.train, steps=steps) for steps in (10, 20, 40))]
    return min(nets, key=lambda net: cross_entropy(_outputs(net, x), y).item())


def _merged(patient: Patient) -> nn.Module:
    """Copies merged into one sample with their mean label, for the same training."""
    x, which = patient.train[0].unique(dim=0, return_inverse=True)
    mean = torch.zeros(len(x), K).index_add(0, which, one_hot(patient.train[1], K).float())
    return fitted(patient.untrained(), (x, mean / mean.sum(1, keepdim=True)))


CURES: dict[str, Callable[[Patient], nn.Module]] = {
    "outputs in another order": lambda p: Reordered(p.model, best_order(_outputs(p.model, p.test[0]), p.test[1])),
    "copies in the test": lambda p: p.model,  # the number was at fault
    "worse than a constant": lambda p: fitted(p.untrained(), p.train),
    "not trained to the end": lambda p: fitted(copy.deepcopy(p.model), p.train),
    "dead units": _reborn,
    "saturated units": _reborn,
    "layers out of reach": _reborn,
    "frozen": _thawed,
    "large inputs": lambda p: fitted(Standardized(p.untrained(), p.train[0]), p.train),
    "noise in the training labels": lambda p: fitted(p.untrained(), agreeing(p.train)),
    "labels distributed otherwise": _reweighted,
    "held-out inputs from elsewhere": lambda p: fitted(p.untrained(), (torch.cat([p.train[0], p.test[0]]),
                                                                       torch.cat([p.train[1], p.test[1]]))),
    "learned by heart": _stopped,
    "wrong temperature": lambda p: Cooler(p.model, best_temperature(_outputs(p.model, p.test[0]), p.test[1])),
    "conflicting labels": _merged,
    "at rest, far from the floor": lambda p: fitted(mlp(0), p.train),
}
"""What each rule says to do, done: a patient -> a network."""


def examined(patient: Patient, probes: int = 8) -> Report:
    """The report on a patient."""
    return diagnose(patient.model, batches(patient.train), batches(patient.test), probes=probes, progress=False)
