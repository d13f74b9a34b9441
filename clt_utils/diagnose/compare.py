"""Training samples against held-out ones: gaps, a temperature, an order of labels, copies, shifts, and a certificate.

Whatever is fitted to held-out samples is fitted to one half of them and judged on the other, in turn, so that a gain is not the fit's.
"""

import math

import numpy as np
import torch
from torch import Tensor

from .._spacing import evenly_spaced
from ..bounds import best_of_tail, fixed_predictor_tail
from ..duality import SHANNON, as_mean, fenchel_young_loss
from ..finite import number_rows
from ..fitting import best_temperature
from .samples import Subject

MOST_CLASSES = 1000
"""Classes up to which their best order is looked for: the table of labels and outputs has their square."""

MOST_COLUMNS = 1024
"""Numbers of a sample that are looked at where whole inputs are compared: beyond, some at even spaces."""


def halves(n: int) -> tuple[Tensor, Tensor]:
    """Two halves of n samples, drawn always alike; a loader may be sorted."""
    first, second = torch.randperm(n, generator=torch.Generator().manual_seed(0)).tensor_split(2)
    return first, second


def in_turn(n: int) -> list[tuple[Tensor, Tensor]]:
    """Two halves of n samples, once to learn from the first and judge by the second, once the other way."""
    first, second = halves(n)
    return [(first, second), (second, first)]


def mean_and_error(x: Tensor) -> tuple[float, float]:
    """The mean of samples and its standard error, inf for one."""
    return x.mean().item(), x.std().item() / math.sqrt(len(x)) if len(x) > 1 else math.inf


# ---- what can be fitted to held-out outputs

def best_order(outputs: Tensor, labels: Tensor) -> Tensor:
    """Which output stands for which label (K,), so that the most samples are right."""
    from scipy.optimize import linear_sum_assignment

    K = outputs.shape[1]
    seen = torch.bincount(labels * K + outputs.argmax(1), minlength=K * K).reshape(K, K) + 0.5 * torch.eye(K)  # ties: as it is
    return torch.as_tensor(linear_sum_assignment(seen.numpy(), maximize=True)[1])


def prior_shift(outputs: Tensor, means: Tensor) -> Tensor:
    """What to add to outputs (K,), so that predicted frequencies come near those of the targets: log of observed over predicted."""
    return ((means.sum(0) + 1) / (outputs.softmax(-1).sum(0) + 1)).log()


# ---- the comparison

def compared(train: Subject, test: Subject, seen: Tensor, unseen: Tensor, candidates: int, delta: float) -> dict[str, float]:
    """What two sets of outputs, (n, K) and (m, K), tell of the gap and of what would close it."""
    losses = [fenchel_young_loss(s.generator, s.targets, f) for s, f in ((train, seen), (test, unseen))]
    numbers: dict[str, float] = {}
    (numbers["risk"], e0), (numbers["test_risk"], e1) = map(mean_and_error, losses)
    numbers |= {"test_risk_error": e1, "gap": numbers["test_risk"] - numbers["risk"], "gap_error": math.hypot(e0, e1)}
    mean = as_mean(train.generator, train.targets, seen[:1].expand(len(seen), -1)).mean(0)
    numbers["test_constant"] = _constant(test, mean, len(train.targets), unseen)
    numbers["test_largest_loss"] = losses[1].max().item()
    if train.has_labels and train.K >= 2:
        right = [(f.argmax(1) == s.targets).double() for s, f in ((train, seen), (test, unseen))]
        (a0, e0), (a1, e1) = map(mean_and_error, right)
        numbers |= {"test_accuracy": a1, "test_accuracy_error": e1, "error_gap": a0 - a1, "error_gap_error": math.hypot(e0, e1)}
        numbers["certificate_error"] = float(best_of_tail(1.0, candidates, len(unseen), delta))
    gamma = numbers["test_largest_loss"]
    tail = fixed_predictor_tail(gamma, len(unseen), delta) if candidates == 1 else best_of_tail(gamma, candidates, len(unseen), delta)
    numbers |= {"certificate_risk": float(tail), "candidates": candidates, "delta": delta}
    if train.generator is SHANNON and train.K >= 2:
        numbers |= _cooled(train, test, seen, unseen, losses[1])
    return numbers


def _constant(test: Subject, mean: Tensor, n: int, outputs: Tensor) -> float:
    """Held-out risk of the one prediction that was best in training, a little towards even."""
    if test.generator is not SHANNON:
        return _bregman_to(test, mean, outputs)
    mean = (mean * n + 1 / test.K) / (n + 1)
    return fenchel_young_loss(SHANNON, test.targets, mean.log().expand(len(test.targets), -1)).mean().item()


def _bregman_to(test: Subject, mean: Tensor, outputs: Tensor) -> float:
    """Φ(μ) − Φ(m) − ⟨∇Φ(m), μ − m⟩ in the mean."""
    mu = as_mean(test.generator, test.targets, outputs)
    m = mean.clone().requires_grad_()
    with torch.enable_grad():
        (slope,) = torch.autograd.grad(test.generator.value(m), m)
    value = test.generator.value(mu) - test.generator.value(mean) - (mu - mean) @ slope
    return value.mean().item()


def _cooled(train: Subject, test: Subject, seen: Tensor, unseen: Tensor, losses: Tensor) -> dict[str, float]:
    """One temperature, and then the frequencies of the labels, fitted to one half of the held-out samples and judged on the other."""
    y = test.targets
    cooled, shifted = torch.empty_like(losses), torch.empty_like(losses)
    for learn, judge in in_turn(len(y)):
        T = best_temperature(unseen[learn], y[learn])
        cooled[judge] = fenchel_young_loss(SHANNON, y[judge], unseen[judge] / T)
        by = prior_shift(unseen[learn] / T, as_mean(SHANNON, y[learn], unseen[learn]))
        shifted[judge] = fenchel_young_loss(SHANNON, y[judge], unseen[judge] / T + by)
    T = best_temperature(unseen, y)
    (gain, error), (after, after_error) = mean_and_error(losses - cooled), mean_and_error(cooled)
    seen_cooled, seen_error = mean_and_error(fenchel_young_loss(SHANNON, train.targets, seen / T))
    prior_gain, prior_error = mean_and_error(cooled - shifted)
    return {"temperature": T, "cooled_risk": after, "cooled_gain": gain, "cooled_gain_error": error, "gap_cooled": after - seen_cooled,
            "gap_cooled_error": math.hypot(after_error, seen_error), "prior_gain": prior_gain, "prior_gain_error": prior_error}


def ordered(subject: Subject, outputs: Tensor) -> dict[str, float]:
    """What another order of the outputs would gain, fitted to one half of the samples and judged on the other, in turn."""
    y = subject.targets
    if subject.K > MOST_CLASSES:
        return {}
    gain = torch.empty(len(y), dtype=outputs.dtype)
    for learn, judge in in_turn(len(y)):
        f = outputs[judge]
        other = fenchel_young_loss(SHANNON, y[judge], f[:, best_order(outputs[learn], y[learn])])
        gain[judge] = fenchel_young_loss(SHANNON, y[judge], f) - other
    mean, error = mean_and_error(gain)
    return {"order_gain": mean, "order_gain_error": error}


# ---- inputs

def columns(subject: Subject) -> Tensor:
    """The samples as rows (n, d) in float32, with at most ``MOST_COLUMNS`` of their numbers."""
    x = torch.from_numpy(np.asarray(subject.rows(), dtype=np.float32))
    return x if x.shape[1] <= MOST_COLUMNS else x[:, torch.as_tensor(evenly_spaced(x.shape[1], MOST_COLUMNS))]


def copies(train: Subject, test: Subject, losses: Tensor) -> dict[str, float]:
    """How many held-out samples were read in training too, to the bit, and the risk of the others."""
    both = number_rows(np.concatenate([train.rows(), test.rows()]))
    known = torch.from_numpy(np.isin(both[len(train.targets):], both[: len(train.targets)]))
    numbers = {"copies": float(known.sum())}
    if known.any() and not known.all():
        numbers["clean_risk"], numbers["clean_risk_error"] = mean_and_error(losses[~known])
        numbers["copies_risk"] = losses[known].mean().item()
    return numbers


def shift(train: Subject, test: Subject) -> dict[str, float]:
    """How well a linear rule tells held-out inputs from training inputs, on samples that it has not seen: at most their total variation.

    Each distinct input counts once, else a copy would be on both sides.
    """
    from sklearn.linear_model import LogisticRegression

    sides = [torch.from_numpy(np.unique(columns(subject).numpy(), axis=0)) for subject in (train, test)]
    x, unseen = torch.cat(sides), torch.arange(sum(map(len, sides))) >= len(sides[0])
    x = (x - x.mean(0)) / x.std(0).clamp(min=1e-6)
    x = torch.cat([x, x.square().mean(1, keepdim=True), x.abs().mean(1, keepdim=True)], 1)
    if x.shape[1] > 50:
        x = x @ torch.pca_lowrank(x, 50, niter=2)[2]
    x = (x / x.std(0).clamp(min=1e-6)).double()
    said = torch.zeros(len(x), dtype=torch.double)
    for learn, judge in in_turn(len(x)):
        rule = LogisticRegression(C=0.1, class_weight="balanced", max_iter=200).fit(x[learn].numpy(), unseen[learn].numpy())
        said[judge] = torch.from_numpy(rule.predict(x[judge].numpy())).double()
    (hit, e1), (false, e0) = mean_and_error(said[unseen]), mean_and_error(said[~unseen])
    return {"shift": hit - false, "shift_error": math.hypot(e0, e1)}


def neighbour_votes(x: Tensor, labels: Tensor, K: int, at: Tensor | None = None) -> Tensor:
    """What the five nearest samples say of the label of each input in ``at``, or of each sample's own without itself, (n,)."""
    from sklearn.neighbors import NearestNeighbors

    around = NearestNeighbors(n_neighbors=5).fit(x.numpy()).kneighbors(None if at is None else at.numpy(), return_distance=False)
    return torch.nn.functional.one_hot(labels[torch.from_numpy(around)], K).sum(1).argmax(1)


def neighbours(train: Subject, test: Subject, unseen: Tensor) -> dict[str, float]:
    """What a vote of five nearest training inputs says: of held-out labels, and of each training label without itself."""
    given = columns(train), train.targets, train.K
    wrong = (neighbour_votes(*given, at=columns(test)) != test.targets).double()
    mine = (unseen.argmax(1) != test.targets).double()
    disagree = (neighbour_votes(*given) != train.targets).double()
    numbers = {}
    numbers["neighbours_error"] = wrong.mean().item()
    numbers["neighbours_gain"], numbers["neighbours_gain_error"] = mean_and_error(mine - wrong)
    excess = mean_and_error(disagree), mean_and_error(wrong)
    numbers["disagree"] = excess[0][0]
    numbers["noise"], numbers["noise_error"] = excess[0][0] - excess[1][0], math.hypot(excess[0][1], excess[1][1])
    return numbers
