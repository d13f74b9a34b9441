"""Which bounds are chosen: sharp ones where they are true, and the same from all samples together."""

import math

import pytest
import torch
from torch import nn

from clt_utils.bounds import risk_bounds_sharp
from clt_utils.duality import GINI, SHANNON, SQUARED
from clt_utils.interval import risk_interval, together
from clt_utils.structure import Probe, probe


def seen_by(generator, targets, seed=0):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3)).double()
    return probe(net, torch.randn(len(targets), 4, dtype=torch.float64), targets, generator)


@pytest.mark.parametrize("generator", [SHANNON, SQUARED, GINI], ids=lambda generator: generator.name)
@pytest.mark.parametrize("targets", [torch.tensor([0, 1, 2, 2, 1]), torch.softmax(torch.arange(15.0).view(5, 3).sin(), -1).double()],
                         ids=["labels", "means"])
def test_losses_lie_in_their_intervals_and_the_risk_in_that_of_all_together(generator, targets, seed):
    seen = seen_by(generator, targets, seed)
    for given in (seen, together(seen)):
        lower, upper = risk_interval(given, generator)
        assert (lower <= given.loss).all() and (given.loss <= upper).all()


def test_all_samples_together_are_means_and_extremes():
    whole = together(Probe(*torch.tensor([[1.0, 3], [2, 6], [5, 7], [0.1, 0.2], [8, 9], [0.3, 0.4]]).double()))
    assert [round(float(value), 6) for value in vars(whole).values()] == [2, 4, 6, 0.1, 9, 0.3]


def test_labels_give_cross_entropy_its_sharp_bounds_and_nothing_else():
    labels = torch.tensor([0, 1, 2, 2, 1])
    seen, squared = seen_by(SHANNON, labels), seen_by(SQUARED, labels)
    sharp = risk_bounds_sharp(seen.energy, seen.lam_min, seen.lam_max, 3, seen.p_min)
    assert all(map(torch.equal, risk_interval(seen, SHANNON, 3), sharp))
    assert (risk_interval(seen, SHANNON, 3)[0] > risk_interval(seen, SHANNON)[0]).all()
    assert all(map(torch.equal, risk_interval(squared, SQUARED, 3), risk_interval(squared, SQUARED)))


def test_an_eigenvalue_below_zero_is_rounding_and_leaves_no_upper_bound():
    lower, upper = risk_interval(Probe(*torch.tensor([1.0, 1, 1, -1e-3, 2, 0.1]).double()), SQUARED)
    assert lower > 0 and upper == math.inf


def test_what_cannot_be_is_named():
    seen = seen_by(SHANNON, torch.tensor([0, 1]))
    for call in (lambda: together(vars(seen)), lambda: risk_interval(vars(seen), SHANNON)):
        with pytest.raises(TypeError, match="Given: seen={.*Expected: a `Probe`"):
            call()
    for num_classes, error in ((0, ValueError), (2.5, ValueError), ("3", TypeError), (True, TypeError)):
        with pytest.raises(error, match="num_classes=.*an integer of at least 1 or None"):
            risk_interval(seen, SHANNON, num_classes)
