"""Inside the network: what a step along the gradient would gain, whether gradients cancel, layers dead, saturated or out of reach."""

import math
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from ..duality import fenchel_young_loss
from ..structure.engine import converted, measured
from .compare import mean_and_error
from .samples import Subject

WEIGHTED = (nn.Linear, nn.modules.conv._ConvNd)
AT_ONCE = 64
"""Samples in one pass."""

STEPS = 6
"""Gradient steps that are tried."""

INSIDE = 256
"""Samples on which steps are tried, half to step by and half to judge by."""

STEPPED = 17
"""Passes of these samples, about, that it takes."""

DRAWS = 9
"""Draws of signs: were samples' gradients symmetric and independent, ρ would lie below the smallest of them in one case of ten."""


class Thawed:
    """A subject's loss as a function of its parameters, the frozen ones among them if asked; the model itself stays as it is."""

    def __init__(self, subject: Subject, thaw: bool) -> None:
        self.subject = subject
        named = {name: p for name, p in subject.model.named_parameters() if p.is_floating_point()}
        self.fixed = {name: converted(t.detach(), subject.dtype) for name, t in (*named.items(), *subject.model.named_buffers())}
        self.params = {name: self.fixed[name].clone().requires_grad_() for name, p in named.items() if thaw or p.requires_grad}

    def losses(self, indices: Tensor, params: dict[str, Tensor] | None = None) -> Tensor:
        """The loss of each of some samples, at the model's parameters or at others."""
        _, x, y, generator = self.subject.part(indices)
        swapped = self.fixed | (self.params if params is None else params)
        buffers = {name: t.clone() for name, t in swapped.items() if name not in self.params}  # a pass may write to them
        f = functional_call(self.subject.model, swapped | buffers, (converted(x.detach(), self.subject.dtype),))
        return fenchel_young_loss(generator, y, f)

    def all_losses(self, indices: Tensor, params: dict[str, Tensor] | None = None) -> Tensor:
        """The same for any number of samples, without a graph."""
        with torch.no_grad():
            return torch.cat([self.losses(part, params) for part in indices.split(AT_ONCE)])

    def gradient(self, indices: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
        """Of the mean loss, each sample's times its weight, by parameter."""
        weights = torch.ones(len(indices)) if weights is None else weights
        total = {name: torch.zeros_like(p) for name, p in self.params.items()}
        for part, weight in zip(indices.split(AT_ONCE), weights.split(AT_ONCE)):
            with torch.enable_grad():
                losses = self.losses(part)
                share = (losses * weight.to(losses)).sum() / len(indices)
                found = torch.autograd.grad(share, list(self.params.values()), allow_unused=True)
            for name, gradient in zip(self.params, found):
                if gradient is not None:
                    total[name] += gradient
        return total


def squares(gradient: dict[str, Tensor]) -> float:
    """‖g‖² over all parameters."""
    return float(sum(g.detach().abs().double().square().sum() for g in gradient.values()))


def inside(subject: Subject, chosen: Tensor, rest: Tensor) -> tuple[dict[str, float], dict[str, str]]:
    """All of it -> numbers, and the layers that they speak of; ``chosen`` are the probed samples, ``rest`` up to ``INSIDE`` others."""
    numbers: dict[str, float] = {}
    with measured(subject.model, subject.device):
        own = Thawed(subject, thaw=False)
        numbers |= _steps(own, rest)
        frozen = sum(p.numel() for p in subject.model.parameters() if not p.requires_grad)
        numbers["frozen"] = frozen / max(sum(p.numel() for p in subject.model.parameters()), 1)
        if frozen:
            numbers |= {f"thaw_{name}": value for name, value in _steps(Thawed(subject, thaw=True), rest).items()}
        numbers |= _signs(own, chosen)
        found, places, layers = _units(subject, rest[:AT_ONCE])
        reach, least = _reach(subject, chosen[:4], layers)
    return numbers | found | reach, places | least


def _steps(own: Thawed, rest: Tensor) -> dict[str, float]:
    """A few gradient steps on one half of the samples, of lengths that lower their risk, and what they gain on the other half.

    The first length is half of the best of those around risk ÷ ‖gradient‖², with which a straight line would reach zero.
    """
    learn, judge = rest[::2], rest[1::2]
    params, gradient = own.params, own.gradient(learn)
    before, size = own.all_losses(learn).mean().item(), squares(gradient)
    if not size or not math.isfinite(size) or not len(judge):
        return {"step": 0.0, "step_gain": 0.0, "step_gain_error": 0.0}

    def risk_at(length: float) -> tuple[float, dict[str, Tensor]]:
        moved = {name: (p - length * gradient[name]).detach().requires_grad_() for name, p in own.params.items()}
        return own.all_losses(learn, moved).mean().item(), moved

    risks = {length: risk_at(length)[0] for length in (before / size * 2.0**k for k in range(-7, 3, 2))}
    length = first = min(risks, key=lambda length: risks[length] if math.isfinite(risks[length]) else math.inf) / 2
    start, risk = own.all_losses(judge), before
    for step in range(STEPS):
        gradient = own.gradient(learn) if step else gradient
        after, moved = risk_at(length)
        if after < risk:
            own.params, risk, length = moved, after, 1.5 * length
        else:
            length /= 4
    gain, error = mean_and_error(start - own.all_losses(judge))
    own.params = params
    return {"step": first, "step_gain": gain, "step_gain_error": error}


def _signs(own: Thawed, chosen: Tensor) -> dict[str, float]:
    """ρ if each sample's gradient had a random sign, relative to 1/n: the smallest and the largest of some draws."""
    generator = torch.Generator().manual_seed(0)
    drawn = [squares(own.gradient(chosen, torch.randint(2, (len(chosen),), generator=generator) * 2.0 - 1)) for _ in range(DRAWS)]
    return {"signs_low": min(drawn), "signs_high": max(drawn)}  # ‖∇‖², to be divided by the energy


@dataclass
class _Entering:
    """What enters each layer with weights, on some samples: the share of dead units, and of values at the ends of their range."""

    modules: dict[str, nn.Module]
    dead: dict[str, float] = field(default_factory=dict)
    full: dict[str, float] = field(default_factory=dict)
    scale: float = math.nan
    raw: Tensor | None = None

    def see(self, name: str, h: Any) -> None:
        """Look at what enters a layer; the first one sees the data, where a dead pixel is no dead unit."""
        if not isinstance(h, Tensor) or h.dim() < 2:
            return
        h = h.detach()
        if self.raw is None:
            self.raw, self.scale = h, h.double().square().mean().sqrt().item()
        if h.numel() == self.raw.numel() and torch.equal(h.flatten(), self.raw.flatten()):
            self.dead[name] = self.full[name] = 0.0
            return
        units = h.movedim(-1 if isinstance(self.modules[name], nn.Linear) else 1, 0).flatten(1)
        self.dead[name] = (units == 0).all(1).double().mean().item()
        low, high = h.min(), h.max()
        near = 0.02 * (high - low)
        ends = (h <= low + near).double().mean().item(), (h >= high - near).double().mean().item()
        self.full[name] = sum(ends) if high > low and min(ends) > 0.05 else 0.0


def _units(subject: Subject, some: Tensor) -> tuple[dict[str, float], dict[str, str], list[str]]:
    """Units that are zero on every sample, values at either end of their range, the size of what comes in; and the layers in use."""
    seen = _Entering({name: m for name, m in subject.model.named_modules() if isinstance(m, WEIGHTED)})
    with ExitStack() as stack:
        for name, module in seen.modules.items():
            stack.enter_context(module.register_forward_pre_hook(lambda _, given, name=name: seen.see(name, given[0] if given else None)))
        subject.outputs(subject.inputs[some])
    numbers, places = {"input_scale": seen.scale}, {}
    for what, found in (("dead", seen.dead), ("saturated", seen.full)):
        worst = max(found, key=found.__getitem__, default="")
        numbers[what], places[f"{what}_at"] = found.get(worst, 0.0), worst.removeprefix("model.")
    return numbers, places, list(seen.dead)


def _reach(subject: Subject, few: Tensor, layers: Sequence[str]) -> tuple[dict[str, float], dict[str, str]]:
    """The gradient energy of the layer with the least, over that of the layer with the most."""
    own = Thawed(subject, thaw=True)
    energy = dict.fromkeys((name for name in layers if f"{name}.weight" in own.params), 0.0)
    for i in few:
        gradient = own.gradient(i[None])
        for name in energy:
            energy[name] += gradient[f"{name}.weight"].abs().double().square().sum().item()
    most = max(energy.values(), default=0.0)
    if len(energy) < 2 or not most:
        return {}, {}
    least = min(energy, key=energy.__getitem__)
    return {"reach": energy[least] / most}, {"reach_at": least.removeprefix("model.")}
