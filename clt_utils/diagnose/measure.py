"""What is measured: risk and largest loss on the samples read, spectra and energies on some of them, before it how long it takes."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor
from tqdm.auto import tqdm

from .._spacing import evenly_spaced
from ..bounds import max_loss
from ..duality import SHANNON, as_mean, fenchel_young_loss
from ..finite import number_rows
from ..interval import risk_interval, together
from ..structure import Probe, gradient_correlation, gradient_energy, probe
from ..structure.engine import out_of_memory
from . import cost
from .compare import compared, copies, halves, mean_and_error, neighbours, ordered, shift
from .cost import without_matrices
from .inside import DRAWS, INSIDE, STEPPED, inside
from .layers import what_layers_keep
from .report import Layer, Report, wrapped
from .rules import advice_on
from .samples import Subject, one_line


def report_on(subject: Subject, layers: Sequence[str], probes: int, cells: int, progress: bool, test: Subject | None = None,
              candidates: int = 1, delta: float = 0.05) -> Report:
    """Measure all that can be of a subject, and of held-out samples -> the report."""
    n, K = len(subject.inputs), subject.K
    chosen = torch.as_tensor(evenly_spaced(n, probes))
    problems: list[str] = []
    numbers: dict[str, float] = {}
    places: dict[str, str] = {}
    kept: list[Layer] = []
    try:
        matrix, less = _formed(subject, len(chosen))
        problems += less
        if progress:
            _announce(subject, len(chosen), layers, (*subject.notes, *problems), matrix, test)
        with tqdm(total=n + len(chosen) + (len(test.inputs) if test else 0), unit="sample", disable=not progress) as bar:
            with _spared("risk, accuracy and largest loss", problems):
                outputs = _outputs(subject, bar)
                numbers |= _risks(subject, outputs)
            with _spared("the floor from duplicates", problems):
                numbers |= _floor(subject)
            with _spared("bounds and eigenvalues", problems, _many_outputs(K)):
                numbers |= _spectra(subject, chosen, bar) if matrix else without_matrices(subject, chosen, problems)
            if "energy" not in numbers:
                with _spared("the gradient energy", problems):
                    numbers |= _energies(subject, chosen)
            with _spared("the gradient correlation", problems):
                numbers["correlation"] = gradient_correlation(*subject.part(chosen))
            if test and "risk" in numbers:
                numbers |= _held_out(subject, test, outputs, _outputs(test, bar), problems, candidates, delta)
        if layers and subject.has_labels:
            kept = what_layers_keep(subject, layers, cells, problems)
    except Exception as error:  # whatever a reader's model raises belongs into the diagnosis
        return Report(problems=(f"It could not be measured: {one_line(error)}",))
    with _told("What is inside", problems):
        found, places = inside(subject, chosen, halves(n)[0].sort()[0][:INSIDE] if n > 2 * INSIDE else torch.arange(n)[:INSIDE])
        numbers |= found
    numbers |= _derived(numbers)
    advice = advice_on(numbers, len(chosen), kept, places)
    return Report(tuple(problems), numbers, tuple(kept), tuple(advice), (n, len(chosen)), places, subject.notes)


def _held_out(train: Subject, test: Subject, seen: Tensor, unseen: Tensor, problems: list[str], candidates: int,
              delta: float) -> dict[str, float]:
    """What held-out samples tell; a part that fails costs no other."""
    numbers: dict[str, float] = {"test_samples": len(test.inputs)}
    with _told("The gap", problems):
        numbers |= compared(train, test, seen, unseen, candidates, delta)
        numbers |= {f"test_{name}": value for name, value in _floor(test).items()}
    with _told("Copies", problems):
        numbers |= copies(train, test, fenchel_young_loss(test.generator, test.targets, unseen))
    with _told("Whether inputs differ", problems):
        numbers |= shift(train, test)
    if train.has_labels and train.K >= 2:
        with _told("The vote of neighbours", problems):
            numbers |= neighbours(train, test, unseen)
    if test.generator is SHANNON and test.has_labels and test.K >= 2:
        numbers |= ordered(test, unseen)
    return numbers


def _derived(n: dict[str, float]) -> dict[str, float]:
    """Shares of the way from the best constant to the floor, and ρ with random signs."""
    found = {}
    if {"risk", "floor"} <= n.keys() and n["label_entropy"] > n["floor"]:
        found["progress"] = (n["label_entropy"] - n["risk"]) / (n["label_entropy"] - n["floor"])
    if {"test_risk", "test_floor"} <= n.keys() and n["test_constant"] > n["test_floor"]:
        found["test_progress"] = (n["test_constant"] - n["test_risk"]) / (n["test_constant"] - n["test_floor"])
    if "signs_low" in n and n.get("energy"):
        found |= {"rho_low": n["signs_low"] / n["energy"], "rho_high": n["signs_high"] / n["energy"]}
    return found | ({"shared": 1 - n["delta"]} if "delta" in n else {})


@contextmanager
def _told(what: str, problems: list[str]) -> Iterator[None]:
    """What fails inside the block is told, and costs nothing else."""
    try:
        yield
    except Exception as error:
        problems.append(f"{what} could not be measured: {one_line(error)}")


def _many_outputs(K: int) -> str:
    return f"With K = {K} outputs one structure matrix takes {8 * K**2 / 1e9:.2g} GB, and its eigenvalues several times that. {MATRIX_FREE}"


MATRIX_FREE = "`structure.matrix_free_eigenvalues` finds the extreme ones without the matrix, one sample at a time."


@contextmanager
def _spared(what: str, problems: list[str], advice: str = "Try fewer samples, or a machine with more.") -> Iterator[None]:
    """Where memory runs out, only what the block measures is lost."""
    try:
        yield
    except (RuntimeError, ValueError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or out_of_memory(error)):
            raise
        problems.append(f"Memory ran out over {what}. {advice} ({one_line(error)})")


def _formed(subject: Subject, probes: int) -> tuple[bool, list[str]]:
    """Whether structure matrices are formed, and what is lost if not."""
    if subject.K > cost.MOST_OUTPUTS:
        why = _many_outputs(subject.K)
    elif (needed := cost.room(subject, probes, matrix=True)) > (free := cost.free_memory(subject.device)):
        why = f"Structure matrices would take {needed / 1e9:.2g} GB of memory, and {free / 1e9:.2g} GB are free. {MATRIX_FREE}"
    else:
        return True, []
    return False, [f"Bounds are not measured, and eigenvalues of {min(probes, cost.FEW)} samples only. {why}"]


def _announce(subject: Subject, probes: int, layers: Sequence[str], problems: Sequence[str], matrix: bool,
              test: Subject | None) -> None:
    """Print what the work will take, and what of it will not be done."""
    for problem in problems:
        print(wrapped(problem))
    with _told("The estimate", []):  # what fails here fails again where it is measured, or does not matter
        room = cost.room(subject, probes, matrix)
        n = len(subject.inputs)
        others = (len(test.inputs) if test else 0) + STEPPED * min(n, INSIDE) + 3 * DRAWS * probes  # a way back takes two passes
        seconds = cost.seconds(subject, probes, 1 + 2 * bool(layers) + others / n, matrix)
        spectra = f"spectra of {probes}" if matrix else f"energies of {probes}"
        print(f"About {seconds:.0f} s and {room / 2**20:.0f} MiB: {len(subject.inputs)} samples forward, {spectra}.")


def _outputs(subject: Subject, bar: tqdm) -> Tensor:
    """Of all samples, (n, K), in float64."""
    parts = []
    for x in subject.inputs.split(64):
        parts.append(subject.outputs(x).double())
        bar.update(len(x))
    return torch.cat(parts)


def _risks(subject: Subject, outputs: Tensor) -> dict[str, float]:
    """What the outputs of all samples tell."""
    K, generator = subject.K, subject.generator
    losses = torch.cat([fenchel_young_loss(generator, y, f) for f, y in zip(outputs.split(64), subject.targets.split(64))])
    largest = losses.max().item()
    if generator is SHANNON and K >= 2:
        largest = max_loss((outputs.amax(-1) - outputs.amin(-1)).max().item(), K)
    numbers = {"largest_loss": float(largest)}
    numbers["risk"], numbers["risk_error"] = mean_and_error(losses)
    if subject.has_labels and K >= 2:
        numbers["accuracy"] = (outputs.argmax(-1) == subject.targets).double().mean().item()
        if generator is SHANNON:
            numbers |= ordered(subject, outputs)
    return numbers


def _floor(subject: Subject) -> dict[str, float]:
    """Ent_Φ(Y|X), Ent_Φ(Y) and how many samples share their input with another target, under the samples' distribution."""
    generator = subject.generator
    mu = as_mean(generator, subject.targets, torch.zeros(len(subject.targets), subject.K, dtype=torch.float64))
    groups = torch.from_numpy(number_rows(subject.rows()))
    size = torch.bincount(groups).to(mu)
    means = torch.zeros(len(size), mu.shape[1], dtype=mu.dtype).index_add(0, groups, mu) / size[:, None]
    spread = (mu - means[groups]).abs().amax(-1) > 1e-9
    average = generator.value(mu).mean()
    floor = (average - (size / size.sum() * generator.value(means)).sum()).item() if spread.any() else 0.0  # else it is rounding
    return {"floor": max(floor, 0.0), "label_entropy": max((average - generator.value(mu.mean(0))).item(), 0.0),
            "conflicts": float(spread.sum())}


def _spectra(subject: Subject, chosen: Tensor, bar: tqdm) -> dict[str, float]:
    """What the structure matrices of the chosen samples tell."""
    found = []
    for indices in chosen.split(cost.together(subject.K)):
        found.append(probe(*subject.part(indices)))
        bar.update(len(indices))
    seen = Probe(**{name: torch.cat([getattr(part, name).cpu() for part in found]) for name in vars(found[0])})
    whole = together(seen)
    lower, upper = risk_interval(seen, subject.generator, subject.K if subject.has_labels else None)
    measured = {"risk_probed": whole.loss, "lower": lower.mean(), "upper": upper.mean(), "lam_min": whole.lam_min, "lam_max": whole.lam_max,
                "condition": (seen.lam_max / seen.lam_min.clamp(min=1e-300)).median(), "energy": whole.energy, "residual": whole.residual}
    empty = _without_content(subject)
    return {name: float(value) for name, value in measured.items() if name not in empty}


def _without_content(subject: Subject) -> list[str]:
    """What is true whatever the model: one eigenvalue a sample has condition 1, and one output and a squared loss are their own bounds."""
    if subject.K - subject.generator.on_simplex > 1:
        return []
    exact = subject.K == 1 and subject.generator.strong_convexity == subject.generator.smoothness
    return ["condition"] + ["lower", "upper"] * exact


def _energies(subject: Subject, chosen: Tensor) -> dict[str, float]:
    """What can be told of the chosen samples without their structure matrices."""
    energy, residual = [], []
    for indices in chosen.split(8):
        energy.append(gradient_energy(*subject.part(indices)).cpu())
        f = subject.outputs(subject.inputs[indices]).double()
        residual.append((subject.generator.predict(f) - as_mean(subject.generator, subject.targets[indices], f)).square().sum(-1))
    return {"energy": torch.cat(energy).mean().item(), "residual": torch.cat(residual).mean().item()}
