"""What to try next: a table of rules, each with its condition, the statement it rests on, what it cannot know, what to do and its gain.

A condition reads nothing but the report's numbers; a number that was not measured is nan, and with nan no rule speaks.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from .report import Advice, Layer

Numbers = Mapping[str, float]
RERUN = "Not measured: only another training run can tell."


def clear(n: Numbers, name: str, times: float = 3.0) -> bool:
    """Whether a number lies above zero by more than so many of its standard errors."""
    return n[name] > times * n[f"{name}_error"]


def large(n: Numbers, name: str, share: float) -> bool:
    """Whether it is more than a share of what the best constant prediction risks."""
    return n[name] > share * n["label_entropy"]


def still_gains(n: Numbers) -> bool:
    """Whether gradient steps still gain something."""
    return clear(n, "step_gain") and large(n, "step_gain", 0.02)


def held_out(n: Numbers) -> float:
    """The risk on held-out samples, or what there is."""
    return n["test_risk"] if math.isfinite(n["test_risk"]) else n["risk"]


@dataclass(frozen=True)
class Rule:
    """One line of the table.

    Attributes:
        name: What it finds.
        slug: The statement that it rests on.
        applies: Its condition on the numbers.
        seen: What was measured, with the names of numbers in braces.
        do: What to do.
        gain: What that should change: measured where it can be, in the same form.
        cannot: What it cannot know.
        unless: Rules that explain the same numbers better: where one of them speaks, this one is silent.
    """

    name: str
    slug: str
    applies: Callable[[Numbers], bool]
    seen: str
    do: str
    gain: str
    cannot: str
    unless: tuple[str, ...] = ()


INNER = ("dead units", "saturated units", "layers out of reach", "frozen")
RULES = (
    Rule("outputs in another order", "risk-decomposition",
         lambda n: clear(n, "order_gain") and n["order_gain"] > 0.5 * held_out(n),
         "The outputs seem to stand in another order than the labels.",
         "Compare the class names of the checkpoint with those of the data set, and reorder.",
         "Measured: the order that half of the samples suggests gains {order_gain:.3g} ± {order_gain_error:.2g} on the others.",
         "which of the two orders is the wrong one"),
    Rule("copies in the test", "fixed-predictor-tail",
         lambda n: n["copies"] > 0.01 * n["test_samples"],
         "{copies:.0f} of {test_samples:.0f} held-out samples were read in training as well, bit for bit.",
         "Take them out before you trust a held-out number: the certificate asks for samples that the model has not seen.",
         "Measured: the risk is {copies_risk:.3g} on the copies and {clean_risk:.3g} ± {clean_risk_error:.2g} on the others.",
         "near copies, and copies beyond the samples that were read"),
    Rule("worse than a constant", "risk-decomposition",
         lambda n: n["risk"] - 1.02 * n["label_entropy"] > 3 * n["risk_error"],
         "The risk {risk:.3g} is above the {label_entropy:.3g} of the best constant prediction.",
         "Look first at what differs from training: how inputs are scaled or, with batch normalization, running statistics that lag. "
         "If nothing does, it was never trained, or it diverged: start again from an earlier checkpoint with a smaller step.",
         "Exact, on these samples: a constant would already lower the risk by {above:.3g}.",
         "whether it was ever trained, and on what", ("outputs in another order",)),
    Rule("not trained to the end", "descent-lemma",
         still_gains,
         "Six steps of plain gradient descent, the first with a learning rate of {step:.2g}, still lower the risk on samples that they "
         "were not computed from.",
         "Train on, if inputs are scaled as in training; a learning rate of plain gradient descent far below {step:.2g} was too small.",
         "Measured: the six steps lower the risk by {step_gain:.3g} ± {step_gain_error:.2g}.",
         "whether steps were too few or too small", ("outputs in another order", "worse than a constant", "frozen")),
    Rule("dead units", "mlp-structure",
         lambda n: n["dead"] > 0.9 and n["progress"] < 0.9,
         "{dead:.0%} of what enters `{dead_at}` is zero on every sample looked at: no gradient passes there.",
         "Start again with a smaller step or smaller biases, or use a leaky activation.", RERUN,
         "whether they died in training or were born dead"),
    Rule("saturated units", "depth-plain",
         lambda n: n["saturated"] > 0.8 and n["progress"] < 0.9,
         "{saturated:.0%} of what enters `{saturated_at}` lies at the ends of its range, where slopes vanish.",
         "Start again with smaller weights, and inputs of size one.", RERUN,
         "whether values at the ends are meant, as with binary features", ("dead units",)),
    Rule("layers out of reach", "variance-propagation",
         lambda n: n["reach"] < 1e-3 and n["progress"] < 0.9,
         "The gradient energy of `{reach_at}` is {reach:.1g} of that of the layer with the most: training hardly moves it.",
         "Give ReLU layers weights of variance 2 ÷ fan-in, or put in skips or normalization.", RERUN,
         "whether the scale of the weights or the depth itself is at fault", ("dead units", "saturated units")),
    Rule("frozen", "block-sum",
         lambda n: n["frozen"] > 0 and n["progress"] < 0.9 and (
             (n["frozen"] > 0.5 and n["progress"] < 0.7 and not still_gains(n))
             or (clear(n, "thaw_step_gain") and n["thaw_step_gain"] - max(n["step_gain"], 0) > 0.02 * n["label_entropy"])),
         "{frozen:.0%} of the parameters are frozen, and it has come {progress:.0%} of the way.",
         "If you did not mean that, thaw them and train on: no eigenvalue of a structure matrix falls.",
         "Measured: steps of all parameters gain {thaw_step_gain:.3g} ± {thaw_step_gain_error:.2g}, of the free ones {step_gain:.3g}.",
         "whether you froze them on purpose"),
    Rule("large inputs", "mlp-structure",
         lambda n: n["input_scale"] > 10,
         "What enters the first layer has the mean square {input_scale:.3g}²: its part of the structure matrix grows with that.",
         "Bring inputs to mean zero and size one, and train again.", RERUN,
         "whether a normalization behind that layer takes the size out again"),
    Rule("noise in the training labels", "risk-floor",
         lambda n: clear(n, "noise") and n["noise"] > 0.05 and n["progress"] > 0.5,
         "{disagree:.0%} of training labels differ from a vote of the five nearest others, of held-out labels {neighbours_error:.0%}.",
         "Look at these samples: leave them out, or relabel them.",
         "Measured: the vote, which fits no single label, errs less than the model by {neighbours_gain:.1%} ± {neighbours_gain_error:.1%}.",
         "whether near inputs mean the same in your data; and noise that held-out labels share"),
    Rule("labels distributed otherwise", "fy-calibration",
         lambda n: n["test_constant"] - n["test_label_entropy"] > 0.1 * n["label_entropy"] and clear(n, "prior_gain")
         and large(n, "prior_gain", 0.01),
         "Held-out labels have other frequencies than those of training.",
         "If you will meet the held-out frequencies, add log(observed ÷ predicted frequency) to the outputs.",
         "Measured, beyond a temperature, on halves in turn: the held-out risk falls by {prior_gain:.3g} ± {prior_gain_error:.2g}.",
         "which of the two frequencies your model will meet", ("outputs in another order",)),
    Rule("held-out inputs from elsewhere", "tv-bound",
         lambda n: clear(n, "shift", 5) and n["shift"] > 0.2 and clear(n, "gap"),
         "A linear rule tells held-out from training inputs: their total variation is at least {shift:.2f} ± {shift_error:.2f}.",
         "Find out what differs, and train on samples like those you will meet.", RERUN,
         "which of the two your model will meet", ("labels distributed otherwise",)),
    Rule("learned by heart", "generalization-range",
         lambda n: clear(n, "gap_cooled") and large(n, "gap_cooled", 0.1) and clear(n, "error_gap"),
         "Held-out risk is above training risk by {gap:.3g} ± {gap_error:.2g}; after one temperature still by {gap_cooled:.3g}.",
         "Stop earlier, regularize, or bring more samples; choose between them on held-out samples.", RERUN,
         "whether samples are too few, the model too free, or labels noisy",
         ("held-out inputs from elsewhere", "labels distributed otherwise")),
    Rule("wrong temperature", "fy-temperature",
         lambda n: clear(n, "cooled_gain", 2) and large(n, "cooled_gain", 0.01),
         "The outputs are {confidence}.",
         "Divide them by {temperature:.3g}; no decision changes.",
         "Measured on halves in turn: the held-out risk falls by {cooled_gain:.3g} ± {cooled_gain_error:.2g}.",
         "whether one temperature serves other data",
         ("outputs in another order", "worse than a constant", "held-out inputs from elsewhere")),
    Rule("conflicting labels", "risk-floor",
         lambda n: large(n, "floor", 0.05),
         "{conflicts:.0f} samples share their input with another target: no model gets below {floor:.3g} on these samples.",
         "Merge copies into one sample with their mean target, and train no longer than to that floor.",
         "Exact: training can lower this risk by no more than {above_floor:.3g}.",
         "whether it is noise, or inputs that lack what the label depends on"),
    Rule("at rest, far from the floor", "gradient-correlation-factor",
         lambda n: n["progress"] < 0.7 and not still_gains(n),
         "It has come {progress:.0%} of the way to a risk of {floor:.3g}, and six gradient steps gain nothing more on samples that they "
         "were not computed from; {agreement}.",
         "Noise in the labels, or too small a model? Try a larger one or better inputs, and keep them only if the held-out risk falls.",
         "For a larger model speaks a vote of the five nearest training inputs, if it errs less: error rate of the model minus that of the "
         "vote {neighbours_gain:+.1%} ± {neighbours_gain_error:.1%}.",
         "which of the two it is: without duplicates among the inputs noise raises a floor that nobody sees",
         ("outputs in another order", "worse than a constant", *INNER)),
)
"""All rules, the most pressing first."""


def forgets(layers: Sequence[Layer]) -> list[Advice]:
    """The one rule about named layers: the last knows less of the label than the first, by more than three standard errors."""
    if not layers or layers[-1].left <= layers[0].left + 3 * (layers[0].error + layers[-1].error):
        return []
    first, last = layers[0], layers[-1]
    return [Advice("layers that forget", "entropy-data-processing",
                   f"After `{last.name}` the label is harder to read off than after `{first.name}`.", "Look at what lies between them.",
                   f"Estimated: {last.left - first.left:.3g} nats are lost on the way.", "more than features quantized to cells show")]


def advice_on(numbers: Numbers, looked: int, layers: Sequence[Layer], places: Mapping[str, str] | None = None) -> list[Advice]:
    """What to try next, the most pressing first."""
    n = defaultdict(lambda: math.nan, numbers)  # what was not measured gives no advice
    words = Filled({**n, "above": n["risk"] - n["label_entropy"], "above_floor": n["risk"] - n["floor"], "agreement": agreement(n, looked),
                    "confidence": "too sure" if n["temperature"] > 1 else "not sure enough", **(places or {})})
    spoken = [rule for rule in RULES if rule.applies(n)]
    names = {rule.name for rule in spoken}
    said = []
    for rule in spoken:
        if not names & set(rule.unless):
            seen, do, gain = (text.format_map(words) for text in (rule.seen, rule.do, rule.gain))
            gain = RERUN if "nan" in gain else gain  # held-out samples were not given, and the gain not measured
            said.append(Advice(rule.name, rule.slug, seen, do, gain, rule.cannot))
    return said + forgets(layers)


class Filled(dict[str, float | str]):
    """Numbers and words for a text; what is missing is nan."""

    def __missing__(self, key: str) -> float:
        return math.nan


def agreement(n: Numbers, looked: int) -> str:
    """ρ beside 1/n and beside what random signs of the samples' gradients would give."""
    low, high = n["rho_low"], n["rho_high"]
    said = ("the gradients cancel" if n["correlation"] < low else "the gradients agree" if n["correlation"] > high else
            "the gradients neither agree nor cancel")
    return f"{said} (ρ = {n['correlation']:.2g}; with random signs it is {low:.2g} to {high:.2g}, about 1/n = {1 / looked:.2g})"
