"""One verdict everywhere, and a search for trouble.

An ordinary run draws the same everywhere: hypothesis is derandomized, ``seed`` is zero, and every test starts from the same global
random states, whatever ran before it. ``make fuzz`` takes the profile "fuzz" and a new seed for every round, with more examples and in
another order. It runs the tests that draw: those of hypothesis, and those that ask for ``seed``.
"""

import contextlib
import os
import random
from pathlib import Path

import numpy as np
import pretended
import pytest
import torch
from hypothesis import HealthCheck, register_random, settings
from hypothesis.database import DirectoryBasedExampleDatabase

ROOT = Path(__file__).parents[1]
anywhere = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the verdict does not depend on how fast a machine is
settings.register_profile("derandomized", anywhere, derandomize=True, database=None, max_examples=20)
settings.register_profile("fuzz", anywhere, derandomize=False, max_examples=100, print_blob=True,
                          database=DirectoryBasedExampleDatabase(ROOT / ".hypothesis" / "examples"))
settings.load_profile("derandomized")  # --hypothesis-profile comes later and wins


class TorchRandom:
    """What hypothesis needs to give every example the same random state of torch."""

    seed, getstate, setstate = staticmethod(torch.manual_seed), staticmethod(torch.get_rng_state), staticmethod(torch.set_rng_state)


torch_random = TorchRandom()  # hypothesis keeps only a weak reference
register_random(torch_random)


def base_seed(config):
    return int(config.getoption("--hypothesis-seed") or 0)


@pytest.fixture
def seed(request):
    """For tests that draw: zero, but under ``make fuzz`` the seed of the round."""
    return base_seed(request.config)


DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="cuda: torch sees no GPU"))]
if os.environ.get("CLT_PRETENDED"):
    pretended.set_up()
    DEVICES.append("pretended")


@pytest.fixture(params=DEVICES)
def device(request):
    """For tests that hold on every device: the CPU, and a GPU where torch sees one; ``-k cuda`` chooses the latter."""
    with pretended.Here() if request.param == "pretended" else contextlib.nullcontext():
        yield torch.device(request.param, 0) if request.param != "cpu" else torch.device("cpu")


@pytest.fixture(autouse=True)
def global_random_states(request):
    """No test draws what depends on the tests before it."""
    start = base_seed(request.config) % 2**32
    random.seed(start)
    np.random.seed(start)  # noqa: NPY002 (libraries draw from it)
    torch.manual_seed(start)


def is_fuzz(config):
    return config.getoption("--hypothesis-profile") == "fuzz"


def draws(item):
    return getattr(item.obj, "is_hypothesis_test", False) or "seed" in item.fixturenames


def pytest_collection_modifyitems(config, items):
    if is_fuzz(config):
        config.hook.pytest_deselected(items=[item for item in items if not draws(item)])
        items[:] = [item for item in items if draws(item)]
        random.Random(base_seed(config)).shuffle(items)


def pytest_terminal_summary(terminalreporter, config):
    if is_fuzz(config):
        again = f"OMP_NUM_THREADS=1 .venv/bin/python -m pytest --hypothesis-profile=fuzz --hypothesis-seed={base_seed(config)}"
        for report in terminalreporter.getreports("failed") + terminalreporter.getreports("error"):
            terminalreporter.write_line(f"Found. To repeat it:\n    {again} '{report.nodeid}'")
