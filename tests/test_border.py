"""The border of the package: nonsense at any argument of any public function gives a result or the house's error, never a raw one.

``CALLS`` has one valid call of each public function and method; ``self`` is the object whose method it is. ``ZOO`` has the nonsense,
which is put at one argument at a time. How many of the pairs are tried is decided by the profile in conftest.py; ``make fuzz`` draws
others.
"""

import dataclasses
import functools
import importlib
import inspect
import re
import warnings

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from torch import nn

from clt_utils import (
    bounds,
    data,
    diagnose,
    dual_steps,
    entropy,
    exercises,
    explore,
    figures,
    finite,
    plots,
    sgd,
    structure,
    sweeps,
    training,
)
from clt_utils._checks import require_integer, require_number
from clt_utils.duality import GINI, SHANNON, as_mean
from clt_utils.sweeps import Sweep
from clt_utils.training import COLUMNS, Trace, TrainConfig

P, Q, JOINT = np.array([0.2, 0.8]), np.array([0.5, 0.5]), np.array([[0.1, 0.2], [0.3, 0.4]])
INPUTS, LABELS = torch.linspace(-1, 1, 12).reshape(4, 3), torch.tensor([0, 1, 1, 0])
SANDWICH = dict(energy=np.array([1.0, 2.0]), lam_min=0.5, lam_max=np.array([2.0, 3.0]))
SGD_RUN = dict(risk_drop=1.0, interference=0.1, n=10, batch_size=2, smoothness=1.0, step=0.5, num_steps=5)
LINEAR = dict(inputs=INPUTS, targets=LABELS, generator=SHANNON)


def linear():
    torch.manual_seed(0)
    return nn.Linear(3, 2)


def squares(theta):
    return (theta - torch.arange(4.0)[:, None]).square().sum(-1)


TINY = TrainConfig.mini(limit=4, size=8, epochs=1, probes=1, model="model-a", depth=1, width=2, device="cpu")
POINT = {"width": 2}
TRACE = Trace(TINY, {name: np.array([1.0, 2.0, 3.0]) for name in COLUMNS}, {}, "")
SEEN = structure.Probe(*torch.ones(6, 4, dtype=torch.float64))
ANSWER = {"kind": "number", "digits": 3, "salt": "", "hashes": [""]}


def sweep():
    return Sweep("tiny", TINY, width=[2], seed=[0])


def blank(*known):
    return Figure()


def in_words(*known):
    return "A figure without any lines."


def explorer():
    return explore.explore(sweep(), blank, alt=in_words, **sweep().axes)


def watch():
    return diagnose.Watch(linear(), INPUTS, LABELS, SHANNON, 0.2)


def axes():
    return Figure().add_subplot()


CALLS = {
    "duality.require_generator": lambda: dict(generator=SHANNON),
    "duality.tsallis": lambda: dict(alpha=1.5),
    "duality.power": lambda: dict(p=3.0),
    "duality.fenchel_young_loss": lambda: dict(generator=SHANNON, targets=LABELS, outputs=torch.zeros(4, 2)),
    "duality.as_mean": lambda: dict(generator=GINI, targets=torch.full((4, 2), 0.5), outputs=torch.zeros(4, 2)),
    "duality.dual": lambda: dict(generator=SHANNON, mu=torch.tensor(Q)),
    "duality.bregman_divergence": lambda: dict(generator=SHANNON, mu=torch.tensor(P), nu=torch.tensor(Q)),
    "entropy.entropy": lambda: dict(p=P, generator=SHANNON),
    "entropy.conditional_entropy": lambda: dict(joint=JOINT, generator=SHANNON),
    "entropy.mutual_information": lambda: dict(joint=JOINT, generator=SHANNON),
    "entropy.information_loss": lambda: dict(joint=JOINT, features=np.array([0, 0]), generator=SHANNON),
    "entropy.renyi_entropy": lambda: dict(p=P, order=0.5),
    "entropy.total_variation": lambda: dict(p=P, q=Q),
    "bounds.residual_bounds": lambda: dict(SANDWICH),
    "bounds.risk_bounds": lambda: SANDWICH | dict(generator=SHANNON, p_min=0.1),
    "bounds.ce_bounds_from_residual": lambda: dict(residual=0.5, num_classes=3),
    "bounds.risk_bounds_sharp": lambda: SANDWICH | dict(num_classes=3, p_min=0.1),
    "bounds.chi_squared": lambda: dict(p=P, q=Q),
    "bounds.kl_upper_bound": lambda: dict(p=P, q=Q),
    "bounds.batch_energy": lambda: dict(energy=2.0, gradient_norm_sq=1.0, n=10, batch_size=2),
    "bounds.sgd_gradient_bound": lambda: dict(SGD_RUN),
    "bounds.sgd_energy_bound": lambda: dict(SGD_RUN),
    "bounds.step_limit": lambda: dict(lam_max=2.0, batch_size=2, momentum=0.9),
    "bounds.near_isometry_bounds": lambda: dict(num_outputs=10, num_parameters=1000, radius=1.0),
    "bounds.max_loss": lambda: dict(output_range=2.0, num_classes=3),
    "bounds.generalization_range": lambda: dict(max_loss=2.0, entropy_population=0.5, entropy_sample=0.4),
    "bounds.tv_gap_bound": lambda: dict(max_loss=2.0, tv=0.1),
    "bounds.tv_mean_bound": lambda: dict(probabilities=P, n=10),
    "bounds.generalization_tail": lambda: dict(max_loss=2.0, support=6, n=100, delta=0.05),
    "bounds.fixed_predictor_tail": lambda: dict(max_loss=2.0, n=100, delta=0.05, entropy=1.5),
    "bounds.effective_sample_size": lambda: dict(correlations=np.array([0.5, 0.25]), n=10),
    "bounds.best_of_tail": lambda: dict(max_loss=1.0, candidates=50, n=100, delta=0.05),
    "finite.brighter_half": lambda: dict(pixels=4, noise=0.1),
    "finite.strip_features": lambda: dict(inputs=np.eye(4)),
    "finite.number_rows": lambda: dict(rows=np.eye(3)),
    "finite.merge": lambda: dict(joint=JOINT, features=np.array([0, 0]), num_features=2),
    "finite.draw": lambda: dict(rng=np.random.default_rng(0), joint=JOINT, n=5, draws=3),
    "finite.cross_entropies": lambda: dict(outputs=np.zeros((3, 2))),
    "finite.label_losses": lambda: dict(outputs=np.eye(3), labels=np.array([0, 1, 1]), reach=0.5),
    "finite.fit_table": lambda: dict(counts=np.array([[1, 2], [3, 4]]), clip=2.0),
    "finite.fitted_gap": lambda: dict(joint=JOINT, empirical=JOINT.T, n=10, clip=2.0),
    "finite.largest_gap": lambda: dict(difference=JOINT - 0.25, clip=2.0),
    "finite.expected_tv": lambda: dict(probabilities=P, n=10),
    "finite.count": lambda: dict(features=np.array([0, 1, 1]), targets=np.array([0, 1, 0]), num_classes=2),
    "finite.estimate_conditional_entropy": lambda: dict(counts=np.array([[1, 2], [3, 4]]), generator=SHANNON),
    "dual_steps.power_smoothness": lambda: dict(L=1.0, p=2.0),
    "dual_steps.separable_smoothness": lambda: dict(L=np.ones(3), p=2.0),
    "dual_steps.quadratic_smoothness": lambda: dict(H=np.eye(3)),
    "dual_steps.ball_smoothness": lambda: dict(L=1.0, radius=0.5),
    "dual_steps.power_regression": lambda: dict(a=np.eye(3), y=np.ones(3), p=1.5),
    "dual_steps.descend": lambda: dict(objective=dual_steps.power_regression(np.eye(3), np.ones(3), 1.5)[0], theta=np.zeros(3),
                                       step=lambda g: 0.1 * g, num_steps=2),
    "sgd.flat_losses": lambda: dict(model=linear(), **LINEAR),
    "sgd.draw_batches": lambda: dict(n=4, batch_size=2, num_steps=3, seed=0),
    "sgd.run": lambda: dict(losses=squares, theta=torch.ones(3), batches=torch.tensor([[0, 1], [2, 3]]), step=0.1, points=1),
    "sgd.segment_smoothness": lambda: dict(gradient=lambda t: 2 * t, start=torch.zeros(3), end=torch.ones(3), points=2),
    "sgd.hessian_norm": lambda: dict(loss=lambda t: t @ t, theta=torch.ones(3), tolerance=1e-3, max_products=5, seed=0),
    "correlation.pearson": lambda: dict(x=np.array([1.0, 2.0, 5.0]), y=np.array([2.0, 1.0, 3.0])),
    "correlation.local_pearson": lambda: dict(x=np.array([1.0, 2.0, 5.0]), y=np.array([2.0, 1.0, 3.0]), window=2),
    "correlation.changes_pearson": lambda: dict(x=np.array([1.0, 2.0, 5.0]), y=np.array([2.0, 1.0, 3.0])),
    "sgd.Run.gradient_bound": lambda: dict(self=sgd.run(squares, torch.ones(3), torch.tensor([[0, 1]]), 0.1, points=1), smoothness=2.0),
    "data.load": lambda: dict(name="digits", split="test", size=8, limit=5, seed=0, root=None),
    "data.cache_folder": dict,
    "data.writable": lambda: dict(folder=PLACE),
    "data.Dataset.draw": lambda: dict(self=data.load("digits", size=8, limit=5), number=2, seed=0),
    "models.build": lambda: dict(name="model-a", num_classes=2, in_channels=1, image_size=8, depth=1, width=2, skip=False, norm=None,
                                 gain=1.0, sparsity=0.0),
    "models.dense": lambda: dict(widths=[3, 4, 2], dropout=0.5),
    "fitting.fit": lambda: dict(net=linear(), inputs=INPUTS, targets=LABELS, steps=2, loss=nn.functional.cross_entropy, learning_rate=0.1,
                                weight_decay=0.1, schedule="cosine", on_step=lambda step, outputs: None),
    "fitting.best_temperature": lambda: dict(outputs=torch.tensor([[2.0, 0.0], [0.0, 1.0]]), targets=torch.tensor([0, 1])),
    "fitting.risk_of": lambda: dict(generator=SHANNON),
    "fitting.population_risk": lambda: dict(outputs=torch.zeros(2, 2), joint=torch.tensor(JOINT)),
    "provenance.code_hash": lambda: dict(module="clt_utils.training"),
    "provenance.made_by": dict,
    "provenance.provenance": lambda: dict(device=torch.device("cpu"), seconds=1.0),
    "provenance.device_name": lambda: dict(device=torch.device("cpu")),
    "provenance.precision": lambda: dict(device=torch.device("cpu")),
    "provenance.processor": dict,
    "provenance.seal": lambda: dict(content={"a": 1}),
    "provenance.write_record": lambda: dict(path=PLACE / "record.json", content={"a": 1}),
    "provenance.read_record": lambda: dict(path=PLACE / "sealed.json"),
    "provenance.write_json": lambda: dict(path=PLACE / "plain.json", content={"a": 1}),
    "structure.structure_matrix": lambda: dict(model=linear(), inputs=INPUTS, dtype=torch.float64, chunk=2, verify="one"),
    "structure.extreme_eigenvalues": lambda: dict(A=torch.eye(3)[None], on_simplex=True),
    "structure.matrix_free_eigenvalues": lambda: dict(model=linear(), inputs=INPUTS, tolerance=1e-6, dtype=torch.float64),
    "structure.lanczos": lambda: dict(matvec=lambda v: 2 * v, size=3, tolerance=1e-6, max_steps=3, seed=0, device="cpu"),
    "structure.gradient_energy": lambda: dict(model=linear(), **LINEAR, verify="all"),
    "structure.gradient_correlation": lambda: dict(model=linear(), **LINEAR),
    "structure.probe": lambda: dict(model=linear(), **LINEAR, verify="none"),
    "interval.together": lambda: dict(seen=SEEN),
    "interval.risk_interval": lambda: dict(seen=SEEN, generator=SHANNON, num_classes=2),
    "training.TrainConfig": lambda: {name: getattr(TrainConfig(), name) for name in TrainConfig.__dataclass_fields__},
    "training.TrainConfig.mini": lambda: dict(epochs=2),
    "training.TrainConfig.full": lambda: dict(limit=4, probe_samples=2),
    "training.TrainConfig.preset": lambda: dict(seed=1),
    "training.TrainConfig.replace": lambda: dict(self=TINY, gain=2.0),
    "training.Trace.__getitem__": lambda: dict(self=TRACE, name="risk"),
    "training.Trace.thin": lambda: dict(self=TRACE, keep=2),
    "training.Trace.to_dict": lambda: dict(self=TRACE, digits=6),
    "training.Trace.from_dict": lambda: dict(saved=TRACE.to_dict()),
    "training.train": lambda: dict(config=TINY, progress=False, on_probe=print, should_stop=lambda: False, prepare=print),
    "training.measure": lambda: dict(model=linear(), **LINEAR),
    "training.find_device": lambda: dict(name="cpu"),
    "sweeps.Sweep": lambda: dict(name="tiny", base=TINY, keep=2, width=[2, 3], seed=range(2)),
    "sweeps.Sweep.only": lambda: dict(self=sweep(), width=2),
    "sweeps.Sweep.configs": lambda: dict(self=sweep(), point=POINT),
    "sweeps.Sweep.run": lambda: dict(self=sweep(), workers=1, dask=None, progress=False),
    "sweeps.Sweep.__getitem__": lambda: dict(self=sweep(), point=POINT),
    "sweeps.Sweep.verify": lambda: dict(self=sweep(), count=1, seed=0, whole=False),
    "sweeps.live_or_recorded": lambda: dict(sweep=sweeps.SWEEPS["resnet18-cifar10"], point={"loss": "squared"}, progress=False),
    "sweeps.differences": lambda: dict(first=TRACE, second=TRACE, steps=np.array([1.0, 2.0])),
    "explore.explore": lambda: dict(source=sweep(), figure=blank, alt=in_words, caption="Nothing.", width=[2]),
    "explore.Explorer": lambda: dict(source=None, figure=blank, alt=in_words, axes={"width": [2]}, caption="Nothing."),
    "explore.Explorer.draw": lambda: dict(self=explorer(), point=POINT, runs=[TRACE]),
    "explore.Explorer.frame": lambda: dict(self=explorer(), point=POINT),
    "explore.Explorer.is_recorded": lambda: dict(self=explorer(), point=POINT),
    "explore.Live": lambda: dict(explorer=explorer()),
    "explore.Live.train_at": lambda: dict(self=explorer().live, turn=1, point=POINT, later=lambda call, *values: call(*values)),
    "diagnose.diagnose": lambda: dict(model=linear(), train=[(INPUTS, LABELS)], test=[(INPUTS + 1, LABELS)], generator=SHANNON, layers=[""],
                                      probes=2, limit=4, cells=2, candidates=2, delta=0.1, progress=False),
    "diagnose.Report.compare": lambda: dict(self=diagnose.Report(), other=diagnose.Report()),
    "diagnose.Watch": lambda: dict(model=linear(), inputs=INPUTS, targets=LABELS, generator=SHANNON, share=0.2, every=1, live=False,
                                   csv=None, tensorboard=None),
    "diagnose.Watch.__call__": lambda: dict(self=watch(), step=0),
    "plots.show": lambda: dict(fig=blank(), alt=in_words()),
    "plots.png": lambda: dict(fig=blank()),
    "plots.svg": lambda: dict(fig=blank(), alt=in_words(), prefix="clt"),
    "plots.unique_prefix": lambda: dict(text="<p>"),
    "plots.describe": lambda: dict(fig=blank()),
    "plots.log_scale": lambda: dict(ax=axes(), names="xy"),
    "plots.legend": lambda: dict(fig=blank(), ncols=2),
    "plots.fixed_axes": lambda: dict(legend_rows=1),
    "plots.simplex_place": lambda: dict(p=np.full((4, 3), 1 / 3)),
    "plots.draw_simplex": lambda: dict(ax=axes(), title="p"),
    "plots.risk_between_bounds": lambda: dict(traces=TRACE, sharp=True, against="epoch"),
    "plots.spectrum": lambda: dict(traces=[TRACE], against="step"),
    "plots.draw_curve": lambda: dict(ax=axes(), traces=[TRACE], name="risk", against="step", points=9),
    "figures.side_by_side": lambda: dict(groups={"all": [TRACE]}, names=["risk"]),
    "figures.one_below_the_other": lambda: dict(rows={"all": {"runs": [TRACE]}}, names=["risk"]),
    "figures.watched": lambda: dict(traces=[TRACE], window=2),
    "figures.start_and_end": lambda: dict(groups={"depth": {1: ([TRACE], [TRACE])}}),
    "figures.time_against_arithmetic": lambda: dict(machines={"one": ({"a": ([1.0, 2.0], [3.0, 4.0])}, 5.0)}),
    "figures.energy_and_optimum": dict,
    "figures.framework": dict,
    "figures.models_ab": dict,
    "exercises.check_answer": lambda: dict(exercise=next(iter(exercises.load_answers())), value=0.5),
    "exercises.verdict": lambda: dict(answer=ANSWER, value=0.5),
    "exercises.load_answers": lambda: dict(path=PLACE / "answers.json"),
    "exercises.record": lambda: dict(path=PLACE / "answers.json", exercise="ex-a", value=0.5),
    "ledger.check": lambda: dict(slug="batch-energy-identity", seed=0, trials=1),
    "ledger.breaks": lambda: dict(slug="batch-energy-identity", seed=0),
}
PLACE = None  # a folder of the test


def twisted(how):
    """Nonsense made of the valid value: the same tensor or array, but for ..."""
    return lambda value: how(value) if isinstance(value, (torch.Tensor, np.ndarray)) else object()


ZOO = {
    "None": lambda _: None,
    "the name of a thing": lambda _: "shannon",
    "an empty text": lambda _: "",
    "bytes": lambda _: b"digits",
    "nan": lambda _: float("nan"),
    "inf": lambda _: float("inf"),
    "-inf": lambda _: float("-inf"),
    "-1": lambda _: -1,
    "0": lambda _: 0,
    "2.5": lambda _: 2.5,
    "2**70": lambda _: 2**70,
    "-2**70": lambda _: -2**70,
    "True": lambda _: True,
    "a complex number": lambda _: 1j,
    "an object": lambda _: object(),
    "a type": lambda _: SHANNON.__class__,
    "a dtype that is none": lambda _: torch.int64,
    "[]": lambda _: [],
    "a list of lists of unequal length": lambda _: [[1.0], [1.0, 2.0]],
    "a list of texts": lambda _: ["0.5", "0.5"],
    "a dict": lambda _: {"a": object()},
    "a set": lambda _: {0.5, 0.25},
    "a generator": lambda _: (x for x in (0.5, 0.5)),
    "an empty array": lambda _: np.zeros(0),
    "an array of another shape": lambda _: np.full((7, 5), 0.2),
    "an array with three dimensions": lambda _: np.zeros((2, 2, 2)),
    "an array of texts": lambda _: np.array(["a", "b"]),
    "an array of objects": lambda _: np.array([None, object()]),
    "probabilities that are none": lambda _: np.array([0.7, 0.7]),
    "labels of -1": lambda _: torch.tensor([0, 1, -1, 0]),
    "labels of K": lambda _: np.array([0, 2, 1]),
    "an empty tensor": lambda _: torch.zeros(0),
    "a tensor of another shape": lambda _: torch.full((7, 5), 0.2),
    "a number in a tensor": lambda _: torch.tensor(0.5),
    "a sparse tensor": lambda _: torch.eye(2).to_sparse(),
    "a tensor on meta": lambda _: torch.zeros(4, 2, device="meta"),
    "a number on meta": lambda _: torch.tensor(1.0, device="meta"),
    "a model on meta": lambda _: nn.Linear(3, 2, device="meta"),
    "a model of another width": lambda _: nn.Linear(7, 2),
    "the same, complex": twisted(lambda x: x + 0j),
    "the same, on meta": twisted(lambda x: torch.as_tensor(x).to("meta")),
    "the same, negative": twisted(lambda x: -x - 1),
    "the same, NaN": twisted(lambda x: x * float("nan")),
    "the same, in fractions": twisted(lambda x: x + 0.5),
    "the same in float16": twisted(lambda x: torch.as_tensor(x).half()),
    "the same, one row less": twisted(lambda x: x[1:]),
    "the same, one dimension more": twisted(lambda x: x[None]),
    "the same, axes swapped": twisted(lambda x: x.swapaxes(0, -1)),
}


def public(name):
    """The public functions that a module defines, and of its classes what takes an argument; a command line is argparse's border."""
    module = importlib.import_module(f"clt_utils.{name}")
    for key, thing in vars(module).items():
        is_its_own = getattr(thing, "__module__", None) == module.__name__ or key in getattr(module, "__all__", ())
        if not is_its_own or key.startswith("_") or key == "main":
            continue
        if inspect.isfunction(inspect.unwrap(thing)):
            yield f"{name}.{key}"
        elif inspect.isclass(thing) and not issubclass(thing, nn.Module) and not getattr(thing, "_is_protocol", False):
            yield from methods_with_arguments(f"{name}.{key}", thing)


def methods_with_arguments(name, kind):
    """Of a class; its construction too, unless dataclass wrote it and nothing is checked there."""
    if "__post_init__" in vars(kind) or ("__init__" in vars(kind) and not dataclasses.is_dataclass(kind)):
        yield name
    for key, thing in vars(kind).items():
        is_method = inspect.isfunction(thing) or isinstance(thing, classmethod)
        if is_method and (not key.startswith("_") or key in ("__call__", "__getitem__")) and parameters_of(getattr(kind, key)):
            yield f"{name}.{key}"


def parameters_of(function):
    return {key: value for key, value in inspect.signature(function).parameters.items() if key != "self"}


def function_of(name):
    module, _, path = name.partition(".")
    return functools.reduce(getattr, path.split("."), importlib.import_module(f"clt_utils.{module}"))


MODULES = ("duality", "entropy", "bounds", "finite", "dual_steps", "sgd", "correlation", "data", "models", "fitting", "provenance",
           "structure", "interval", "training", "sweeps", "explore", "diagnose", "plots", "figures", "exercises")


@pytest.mark.parametrize("module", MODULES)
def test_every_public_function_has_a_valid_call(module):
    here = {name for name in CALLS if name.split(".")[0] == module}
    there = set(public(module))
    assert here == there, (f"Given: {sorted(here ^ there)}, in one of the two only. Expected: one call in CALLS of each "
                                    f"public function and method of {module}. Enter it there, with all its arguments.")


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder for what is written, with a record in it, and one of a sweep."""
    global PLACE
    PLACE = tmp_path_factory.mktemp("place")
    function_of("provenance.write_record")(PLACE / "sealed.json", {"a": 1})
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CLT_CACHE", str(PLACE))
        patch.setattr(sweeps, "RESULTS", PLACE)
        (tiny := sweep()).run(workers=1, progress=False)
        tiny.record()
        yield


@pytest.fixture(autouse=True)
def no_figure_stays_open():
    yield
    plt.close("all")


@pytest.mark.parametrize("name", CALLS)
def test_the_valid_calls_are_valid(name):
    function, call = function_of(name), CALLS[name]()
    named = {key for key, value in parameters_of(function).items() if value.kind != value.VAR_KEYWORD}
    assert named <= set(call), f"CALLS[{name!r}] does not name each argument"
    function(**call)


FORM = re.compile(r"Given: .+\. Expected: .+", re.DOTALL)


def complaint(name, argument, nonsense):
    """What a person should know if the function answers nonsense by something else than a result or the house's error, or ""."""
    call = CALLS[name]()
    valid, call[argument] = call[argument], ZOO[nonsense](call[argument])
    if callable(valid) and callable(call[argument]) and not isinstance(valid, nn.Module):
        return ""  # what a reader's own function raises is the reader's
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            function_of(name)(**call)
    except Exception as error:
        if not (isinstance(error, (TypeError, ValueError, ModuleNotFoundError)) and FORM.match(str(error))):
            return (f"Given: {name}({argument}=...) with {nonsense}, which raises {type(error).__name__}: {error}. Expected: a result, or "
                    'a TypeError or ValueError that says "Given: … Expected: …". Check the argument with clt_utils/_checks.py.')
    return ""


@pytest.mark.parametrize("name", [name for name, call in CALLS.items() if call is not dict])
@given(data=st.data())
def test_nonsense_gives_a_result_or_the_error_of_the_house(name, data):
    arguments = [argument for argument in CALLS[name]() if argument != "self"]
    said = complaint(name, data.draw(st.sampled_from(arguments), "argument"), data.draw(st.sampled_from(list(ZOO)), "nonsense"))
    assert not said, said


class SayNaN(nn.Module):
    """Samples that do not interact, one of which has no logarithm."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(1, 2)

    def forward(self, x):
        return self.linear(x).abs() * x.log()


SILENT = {
    "a label of -1": (lambda: finite.count([0, 1], [0, -1], 2), r"labels int64 from -1 to 0.*from 0 to 1"),
    "a label of K": (lambda: finite.count([0, 1], [0, 2], 2), r"labels int64 from 0 to 2.*from 0 to 1"),
    "2.5 samples": (lambda: finite.draw(np.random.default_rng(0), JOINT, 2.5), r"n=2\.5.*an integer of at least 1"),
    "True samples": (lambda: finite.draw(np.random.default_rng(0), JOINT, True), "n=True.*an integer"),
    "complex targets": (lambda: as_mean(SHANNON, torch.tensor([[0.5 + 1j, 0.5 - 1j]]), torch.zeros(1, 2)), "complex64.*real mean"),
    "complex labels": (lambda: as_mean(SHANNON, torch.tensor([1 + 1j]), torch.zeros(1, 2)), "complex64.*integer labels"),
    "complex numbers": (lambda: bounds.max_loss(np.array([1 + 1j]), 3), "complex128.*real numbers"),
    "an asymmetric matrix": (lambda: structure.extreme_eigenvalues(torch.tensor([[1.0, 2.0], [0.0, 1.0]])), "up to 2.*symmetric"),
    "a NaN matrix": (lambda: structure.extreme_eigenvalues(torch.full((1, 2, 2), torch.nan)), "4 of 4 entries NaN"),
    "K = 1 on the simplex": (lambda: structure.extreme_eigenvalues(torch.ones(2, 1, 1), on_simplex=True), "K ≥ 2"),
    "cells that sum to 1.4": (lambda: bounds.tv_mean_bound(np.array([0.7, 0.7]), 10), r"sum is off by 0\.4"),
    "cells that sum to 1.4, exactly": (lambda: finite.expected_tv(np.array([0.7, 0.7]), 10), r"sum is off by 0\.4"),
    "χ² of what is no distribution": (lambda: bounds.chi_squared(np.array([0.7, 0.7]), Q), r"`p` whose sum is off"),
    "a negative probability": (lambda: bounds.kl_upper_bound(np.array([1.5, -0.5]), Q), "`p` with negative"),
    "no samples": (lambda: finite.expected_tv(P, 0), "n=0.*at least 1"),
    "a mean gradient above the energy": (lambda: bounds.batch_energy(1.0, 1.1, n=10, batch_size=2), "‖∇R̂‖² ≤ Ê"),
    "fractional counts": (lambda: finite.estimate_conditional_entropy(np.array([[0.5, 1.0], [2.0, 1.0]])), "not all whole.*rint"),
    "an indefinite H": (lambda: dual_steps.quadratic_smoothness(np.diag([1.0, -1.0])), "the eigenvalue -1.*positive definite"),
    "an asymmetric H": (lambda: dual_steps.quadratic_smoothness(np.array([[1.0, 1.0], [0.0, 1.0]])), "symmetric"),
    "a feature for each of other rows": (lambda: finite.merge(JOINT, np.array([0, 1, 1])), r"shape \(3,\).*one feature for each row"),
    "a feature out of range": (lambda: finite.merge(JOINT, np.array([0, 2]), 2), "features up to 2"),
    "a negative clip": (lambda: finite.largest_gap(JOINT, -1.0), r"clip=-1\.0"),
    "an index of -1": (lambda: sgd.run(squares, torch.ones(3), torch.tensor([[0, -1]]), 0.1), "from -1 to 0.*from 0 to 3"),
    "shapes that do not broadcast": (lambda: bounds.residual_bounds(np.ones(2), np.ones(3), np.ones(2)), "shapes that broadcast"),
    "the name of a generator": (lambda: entropy.entropy(P, "shannon"), "generator='shannon'.*a Generator"),
    "inputs of another width": (lambda: structure.structure_matrix(nn.Linear(3, 2), torch.ones(2, 4)),
                                r"\(2, 4\), on which the model fails"),
    "inputs of another dtype": (lambda: structure.probe(nn.Linear(3, 2), INPUTS.double(), LABELS), "float64.*on which the model fails"),
    "a model on meta": (lambda: structure.structure_matrix(nn.Linear(3, 2, device="meta"), INPUTS), "meta"),
    "one NaN output": (lambda: structure.structure_matrix(SayNaN(), torch.tensor([[1.0], [2.0], [-1.0]])), "2 of 6 entries NaN"),
    "0 workers": (lambda: sweep().run(workers=0), "workers=0.*an integer of at least 1"),
    "True workers": (lambda: sweep().run(workers=True), "workers=True.*an integer of at least 1"),
    "-1 runs to verify": (lambda: sweep().verify(count=-1), "count=-1.*an integer of at least 1"),
    "an axis from a generator that is used up": (lambda: Sweep("a", TINY, depth=(d for d in ())), "depth=.* empty.*a list of values"),
    "an axis without an order": (lambda: Sweep("a", TINY, depth={1, 2}), "depth={1, 2}.*in order"),
    "an axis with a value twice": (lambda: Sweep("a", TINY, depth=[1, 1]), r"depth=\[1, 1\].*each value once"),
    "an axis of bytes": (lambda: Sweep("a", TINY, seed=b"12"), "seed=b'12'.*a list of values"),
    "an axis with a value that no recipe has": (lambda: Sweep("a", TINY, depth=[1, -1]), "depth=-1.*at least 1"),
    "a sweep whose name has a slash": (lambda: Sweep("a/b", TINY), "'a/b'.*the name of a file"),
    "a sweep over an unknown field": (lambda: Sweep("a", TINY, depht=[1]), "'depht'.*Did you mean 'depth'"),
    "a sweep that keeps one measurement": (lambda: Sweep("a", TINY, keep=1), "keep=1.*at least 2"),
    "a part that a sweep does not have": (lambda: sweep().only(width=3), r"width=3.*one of its values \[2\]"),
    "a point of another sweep": (lambda: sweep().configs({"depth": 1}), "'depth'.*one of 'width'"),
    "2.5 measurements": (lambda: TRACE.thin(2.5), r"keep=2\.5.*an integer"),
    "no digits": (lambda: TRACE.to_dict(0), "digits=0.*from 1 to 17"),
    "a run without its recipe": (lambda: Trace.from_dict({"columns": {}}), "without config, provenance, stopped"),
    "targets that are no labels": (lambda: training.measure(linear(), INPUTS, torch.ones(4, 2) / 2), "float32.*labels"),
    "2.5 samples to look at": (lambda: diagnose.diagnose(linear(), [(INPUTS, LABELS)], probes=2.5), r"probes=2\.5.*an integer"),
    "the name of a loss to diagnose": (lambda: diagnose.diagnose(linear(), [(INPUTS, LABELS)], "shannon"), "generator='shannon'"),
    "the name of a loss to watch": (lambda: diagnose.Watch(linear(), INPUTS, LABELS, "shannon"), "generator='shannon'"),
    "half of the time": (lambda: diagnose.Watch(linear(), INPUTS, LABELS, share=0.5), r"share=0\.5.*a number in \(0, 0\.5\)"),
    "the name of a step": (lambda: watch()("1"), "step='1'.*an integer"),
    "a figure in place of its function": (lambda: explore.explore(None, blank(), a=[1]), "figure=.*a function"),
    "a text in place of its function": (lambda: explore.explore(None, blank, alt=in_words(), a=[1]), "alt=.*a function.*or None"),
    "one run in place of a list": (lambda: explorer().draw(POINT, TRACE), "runs=Trace.*a list of traces"),
    "a place without a slider": (lambda: explore.explore(None, blank, a=[1]).is_recorded({"b": 1}), "the axis 'b'.*one of 'a'"),
    "a place beside the sliders": (lambda: explorer().live.train_at(1, {"width": 3}, print), r"width=3.*one of its values \[2\]"),
    "no group": (lambda: figures.side_by_side({}), "no group.*at least one group"),
    "a run in place of a pair": (lambda: figures.start_and_end({"depth": {1: TRACE}}), r"=Trace.*\(runs of Model A, runs of Model B\)"),
    "runs of one model": (lambda: figures.start_and_end({"depth": {1: ([TRACE],)}}), r"\[\(1,\)\] runs.*a pair"),
    "a run without columns": (lambda: figures.start_and_end({"depth": {1: ([TRACE], [{}])}}), "{} in place of a trace.*lam_min"),
    "an array in place of a value": (lambda: sweep().only(width=np.array([2, 3])), r"width=an array.*one of its values \[2\]"),
    "a legend without columns": (lambda: plots.legend(blank(), 0), "ncols=0.*an integer of at least 1"),
    "a figure that is none": (lambda: explore.explore(None, lambda point: "x", a=[1]).html(), "fig='x'.*a matplotlib figure"),
    "a grid of sliders without an order": (lambda: explore.explore(None, blank, a={1, 2}), "a={1, 2}.*in order"),
    "two entries in place of probabilities of three": (lambda: plots.simplex_place([0.5, 0.5]), r"\(2,\).*three"),
    "columns of two lengths": (lambda: plots.spectrum({"step": [0, 1], "lam_max": [1.0]}), r"lengths \[1, 2\]"),
    "one NaN output, for its energy": (lambda: structure.gradient_energy(SayNaN(), torch.tensor([[-1.0], [2.0]]), LABELS[:2]),
                                       "outputs` with 2 of 4 entries NaN"),
}


@pytest.mark.parametrize("what", SILENT)
def test_what_was_taken_silently_or_misread_is_refused_in_words(what):
    call, words = SILENT[what]
    with pytest.raises((TypeError, ValueError), match=rf"(?s)^Given: .*{words}"):
        call()


@pytest.mark.parametrize(("check", "good", "bad"), [
    (lambda x: require_integer("x", x, 1, 3), [1, 3, np.int32(2)], [0, 4, True, np.bool_(True), 2.0, "2", None]),
    (lambda x: require_integer("x", x, 1, optional=True), [None, 2**62], [2**63, 1.0]),
    (lambda x: require_number("x", x, "[0, 1)"), [0, 0.5, np.float32(0.25), torch.tensor(0.5)], [1, -1e-9, float("nan"), True, "0.5", 1j]),
    (lambda x: require_number("x", x, "(0, ∞)"), [1e-300, 2**62], [0, float("inf"), 2**63]),
    (lambda x: require_number("x", x, "[0, ∞]"), [0, float("inf")], [-1, None]),
])
def test_numbers_at_the_ends_of_their_range(check, good, bad):
    for x in good:
        check(x)
    for x in bad:
        with pytest.raises((TypeError, ValueError), match=r"^Given: x=.+\. Expected: (an integer|a number in).*\."):
            check(x)
