"""Finite inputs: a solvable world, merging its inputs, sampling it, and estimating entropies from counts, biases included.

A *joint* is an (n_x, K) array of probabilities q(x, y). Where inputs are finite and q is known, every risk, entropy and
gap is a finite sum; where q is not known, counts are all there is, and every entropy computed from them is biased.
"""

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import stats
from scipy.special import log_softmax

from ._checks import (
    integers,
    real_array,
    real_tensor,
    require,
    require_broadcast,
    require_distribution,
    require_integer,
    require_kind,
    require_nonnegative,
    require_number,
    span,
)
from .duality import SHANNON, Generator, require_generator
from .entropy import conditional_entropy, entropy


def brighter_half(pixels: int = 6, noise: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    """The solvable world of the book: which half of a strip of black and white pixels has more white ones?

    All strips are equally likely; the label is wrong with probability ``noise``, each wrong label equally often.

    Args:
        pixels: Length of the strip, even.
        noise: Probability of a wrong label.

    Returns:
        (inputs (2^pixels, pixels) of zeros and ones, joint (2^pixels, 3)); labels: 0 right half, 1 a tie, 2 left half.

    Raises:
        ValueError: On an odd number of pixels, or numbers out of range.

    Example:
        >>> inputs, joint = brighter_half(pixels=2, noise=0.1)
        >>> print(inputs[1], joint[1].round(4))  # white on the right: class 0, up to noise
        [0 1] [0.225  0.0125 0.0125]
    """
    require_integer("pixels", pixels, 2)
    require(pixels % 2 == 0, f"pixels={pixels}", "an even number of pixels")
    require_number("noise", noise, "[0, 1]")
    noise = float(noise)
    inputs = np.array(list(itertools.product([0, 1], repeat=pixels)))
    left, right = inputs[:, : pixels // 2].sum(1), inputs[:, pixels // 2:].sum(1)
    truth = np.eye(3)[1 + np.sign(left - right)]
    return inputs, (truth * (1 - noise) + (1 - truth) * noise / 2) / len(inputs)


def strip_features(inputs: np.ndarray) -> dict[str, np.ndarray]:
    """Feature maps of the strips of ``brighter_half``, by name.

    Args:
        inputs: The strips, (n_x, pixels).

    Returns:
        For each name the features as numbers from 0 on, (n_x,). "sums", "maxima" and "first pixels" are those of the two halves,
        "difference" is that of the sums, "sign" its sign, "total" the sum of all pixels, and "nothing" is always the same.

    Raises:
        ValueError: If the strips are not (n_x, pixels), or have an odd number of pixels.

    Example:
        >>> inputs, joint = brighter_half(pixels=2)
        >>> print(strip_features(inputs)["difference"])  # of 00, 01, 10 and 11
        [1 0 2 1]
    """
    inputs = real_array("inputs", inputs, dims=2)
    require(inputs.ndim == 2 and inputs.shape[1] % 2 == 0, f"strips of shape {inputs.shape}", "(n_x, pixels), an even number of pixels")
    halves = inputs.reshape(len(inputs), 2, -1)
    left, right = halves.sum(-1).astype(np.float64).T
    features = {"all pixels": inputs, "sums": halves.sum(-1), "maxima": halves.max(-1), "first pixels": halves[:, :, 0],
                "difference": left - right, "sign": np.sign(left - right), "total": left + right, "nothing": 0 * left}
    return {name: number_rows(values) for name, values in features.items()}


def number_rows(rows: np.ndarray) -> np.ndarray:
    """Numbers 0, 1, … for the distinct rows of an array: features as the functions here want them.

    Args:
        rows: Numbers, (n, ...).

    Returns:
        Integers, (n,): rows are equal if their numbers are.

    Raises:
        TypeError: If ``rows`` holds anything but real numbers.
        ValueError: If it is a single number, or holds a NaN.

    Example:
        >>> print(number_rows([[0.5, 0.5], [0.1, 0.9], [0.5, 0.5]]))
        [1 0 1]
    """
    rows = real_array("rows", rows, dims=1)
    return np.unique(rows.reshape(len(rows), -1), axis=0, return_inverse=True)[1].ravel()


def merge(joint: np.ndarray, features: np.ndarray, num_features: int | None = None) -> np.ndarray:
    """The joint of (g(X), Y): rows with the same feature are added up (slug ``entropy-data-processing``).

    Args:
        joint: Probabilities or counts, (..., n_x, K).
        features: g as integers from 0 on, (..., n_x).
        num_features: n_u; by default the largest feature plus one.

    Returns:
        (..., n_u, K).

    Raises:
        ValueError: On features that are no integers from 0 on, or not one for each row.

    Example:
        >>> print(merge([[0.2, 0.1], [0.3, 0.0], [0.0, 0.4]], features=[0, 0, 1]))
        [[0.5 0.1]
         [0.  0.4]]
    """
    joint = real_array("joint", joint, dims=2)
    features = integers("features", features, 0, advice="Number them with `number_rows`.")
    require_integer("num_features", num_features, 1, optional=True)
    if num_features is None:
        num_features = int(features.max()) + 1
    require(features.max() < num_features, f"features up to {features.max()} with num_features={num_features}",
            "features below num_features")
    require(features.shape[-1] == joint.shape[-2], f"features of shape {features.shape} for a joint of shape {joint.shape}",
            "one feature for each row, (..., n_x) and (..., n_x, K)")
    require_broadcast(features=features[..., 0], joint=joint[..., 0, 0])
    indicator = np.eye(num_features)[features]
    return np.swapaxes(indicator, -1, -2) @ joint


def draw(rng: np.random.Generator, joint: np.ndarray, n: int, draws: int | None = None) -> np.ndarray:
    """Empirical joints q̂ of n i.i.d. pairs.

    Args:
        rng: A random generator of numpy.
        joint: Probabilities, or numbers proportional to them, any shape.
        n: Sample size.
        draws: How many samples to draw; None for one.

    Returns:
        Shares of the sample, of the joint's shape; with ``draws`` so many of them, (draws, ...).

    Raises:
        TypeError: If ``rng`` is no random generator of numpy.
        ValueError: On numbers out of range, or a joint without a positive and finite sum.

    Example:
        >>> sample = draw(np.random.default_rng(0), [[0.5, 0.0], [0.25, 0.25]], n=100)
        >>> print(sample.shape, sample.sum().round(6), sample[0, 1])
        (2, 2) 1.0 0.0
    """
    require_kind("rng", rng, np.random.Generator, "a random generator of numpy", "Make one with `np.random.default_rng(seed)`.")
    require_integer("n", n, 1)
    require_integer("draws", draws, 0, optional=True)
    joint = real_array("joint", joint, dims=1).astype(np.float64, copy=False)
    require_nonnegative(joint=joint)
    require(0 < joint.sum() < np.inf, f"a joint with the sum {joint.sum():g}", "a positive and finite sum")
    counts = rng.multinomial(n, joint.ravel() / joint.sum(), size=draws)
    return counts.reshape(counts.shape[:-1] + joint.shape) / n


def cross_entropies(outputs: np.ndarray) -> np.ndarray:
    """−log p_y of every label y: multiply by a joint and add up for the risk of a predictor.

    Args:
        outputs: Of the predictor, one row a feature, (..., K).

    Returns:
        The cross-entropies in nats, (..., K).

    Raises:
        ValueError: If ``outputs`` is a single number, or holds a NaN.

    Example:
        >>> print(cross_entropies([0.0, 0.0]).round(4))  # log 2, whatever the label
        [0.6931 0.6931]
    """
    return -log_softmax(real_array("outputs", outputs, dims=1), axis=-1)


def label_losses(outputs: np.ndarray, labels: np.ndarray, reach: float = np.inf) -> np.ndarray:
    """−log p_y of each sample's label, after outputs far below the largest have been raised (slug ``max-loss``).

    Args:
        outputs: (..., n, K).
        labels: Integers, (..., n).
        reach: How far below the sample's largest output the others may lie; then no loss exceeds ``bounds.max_loss(reach, K)``.

    Returns:
        (..., n).

    Raises:
        ValueError: On labels out of range, or not one for each sample.

    Example:
        >>> print(label_losses([[0.0, 9.0], [0.0, 9.0]], [0, 1], reach=1.0).round(3))
        [1.313 0.313]
    """
    outputs = real_array("outputs", outputs, dims=1)
    labels = integers("labels", labels, 0, outputs.shape[-1] - 1)
    require(labels.shape == outputs.shape[:-1], f"labels of shape {labels.shape} for outputs of shape {outputs.shape}",
            "one label a sample, (..., n) and (..., n, K)")
    require_number("reach", reach, "[0, ∞]")
    near = np.maximum(outputs - outputs.max(-1, keepdims=True), -reach)
    return np.take_along_axis(cross_entropies(near), labels[..., None], -1)[..., 0]


def fit_table(counts: np.ndarray, clip: float) -> np.ndarray:
    """Outputs fitted to counts of (u, y): smoothed log frequencies, centred and clipped to [−clip, clip].

    Args:
        counts: How often each feature u came with each label y, (..., n_u, K).
        clip: The largest output, at least 0.

    Returns:
        The outputs, (..., n_u, K).

    Raises:
        ValueError: On negative counts or a negative clip.

    Example:
        >>> print(fit_table([[9, 1], [0, 5]], clip=1.5).round(3))
        [[ 1.056 -1.056]
         [-1.5    1.5  ]]
    """
    counts = real_array("counts", counts, dims=1)
    require_nonnegative(counts=counts)
    require_number("clip", clip, "[0, ∞)")
    outputs = np.log(counts + 0.1)
    return (outputs - outputs.mean(-1, keepdims=True)).clip(-clip, clip)


def fitted_gap(joint: np.ndarray, empirical: np.ndarray, n: int, clip: float) -> np.ndarray:
    """R − R̂ of the table that is fitted to a sample, see ``fit_table``.

    Args:
        joint: q on the pairs (u, y), (..., n_u, K).
        empirical: q̂ of n pairs, as from ``draw``, (..., n_u, K).
        n: The size of the sample.
        clip: As in ``fit_table``.

    Returns:
        (...,).

    Raises:
        ValueError: If the shapes do not fit, or on numbers out of range.

    Example:
        >>> print(fitted_gap(np.full((1, 2), 0.5), np.array([[0.9, 0.1]]), n=10, clip=1.0).round(4))
        0.8
    """
    joint, empirical = real_array("joint", joint, dims=2), real_array("empirical", empirical, dims=2)
    require_broadcast(joint=joint, empirical=empirical)
    require_integer("n", n, 1)
    return ((joint - empirical) * cross_entropies(fit_table(n * empirical, clip))).sum((-1, -2))


def largest_gap(difference: np.ndarray, clip: float) -> np.ndarray:
    """Largest |R − R̂| over all tables of outputs ±clip, one row a feature.

    Args:
        difference: q − q̂ on the pairs (u, y), (..., n_u, K).
        clip: The outputs' size.

    Returns:
        (...,): the worst row is found for each feature by itself.

    Raises:
        ValueError: On fewer than two dimensions, or a negative clip.

    Example:
        >>> difference = np.array([[0.1, -0.1], [0.0, 0.0]])
        >>> print(largest_gap(difference, clip=1.0).round(4))  # 0.1 times the difference of two outputs, 2
        0.2
    """
    difference = real_array("difference", difference, dims=2)
    require_number("clip", clip, "[0, ∞)")
    rows = cross_entropies(clip * np.array(list(itertools.product([-1.0, 1.0], repeat=difference.shape[-1]))))
    gaps = difference @ rows.T
    return np.maximum(gaps.max(-1).sum(-1), -gaps.min(-1).sum(-1))


def expected_tv(probabilities: np.ndarray, n: int) -> np.ndarray:
    """E TV(q, q̂_n), exactly: half the sum of De Moivre's mean absolute deviations (slug ``tv-mean``).

    Args:
        probabilities: q of s outcomes, (..., s).
        n: Sample size.

    Returns:
        The expectation, (...,).

    Raises:
        ValueError: If ``probabilities`` are none, or ``n`` is no positive integer.

    Example:
        >>> print(expected_tv([[0.5, 0.5], [0.9, 0.1]], n=25).round(4))
        [0.0806 0.0489]
    """
    require_distribution("probabilities", real_tensor("probabilities", probabilities), dims=1)
    require_integer("n", n, 1)
    q = np.asarray(probabilities)
    m = np.floor(n * q) + 1
    return (m * (1 - q) * stats.binom.pmf(m, n, q)).sum(-1) / n


def count(features: np.ndarray, targets: np.ndarray, num_classes: int) -> np.ndarray:
    """How often each feature came with each label.

    Args:
        features: A number, or a row of them, for each sample, (n,) or (n, ...).
        targets: Labels from 0 to K − 1, (n,).
        num_classes: Number K of classes.

    Returns:
        Counts, (n_u, K); features that never came are left out.

    Raises:
        ValueError: On labels out of range, or not one a feature.

    Example:
        >>> print(count(features=[3, 3, 8], targets=[0, 1, 1], num_classes=2))
        [[1 1]
         [0 1]]
    """
    require_integer("num_classes", num_classes, 1)
    features, targets = number_rows(features), integers("labels", targets, 0, num_classes - 1)
    require(targets.shape == features.shape, f"targets of shape {targets.shape} for {len(features)} features", "one label a feature, (n,)")
    table = np.zeros((features.max() + 1, num_classes), dtype=np.int64)
    np.add.at(table, (features, targets), 1)
    return table


@dataclass(frozen=True)
class Estimate:
    """An estimated Ent_Φ(Y|U).

    Attributes:
        plug_in: The entropy of the empirical joint; on average too low.
        jackknife: The same with the bias of order 1/n removed by leaving out one sample at a time.
        miller_madow: Shannon only: the plug-in plus (cells seen − features seen)/(2n); nan for other generators.
        error: Standard error by the jackknife.

    Example:
        >>> estimate = estimate_conditional_entropy([[3, 1], [0, 4]])
        >>> print(round(estimate.plug_in, 4), round(estimate.miller_madow, 4))  # 3 cells and 2 features were seen
        0.2812 0.3437
    """

    plug_in: float
    jackknife: float
    miller_madow: float
    error: float


def estimate_conditional_entropy(counts: np.ndarray, generator: Generator = SHANNON) -> Estimate:
    """Estimate Ent_Φ(Y|U) from counts, with two corrections of its bias and its standard error.

    All three estimates fail where most features were seen once: there is nothing left to correct with.

    Args:
        counts: How often each feature u came with each label y, integers (n_u, K).
        generator: The generator Φ.

    Returns:
        An ``Estimate``.

    Raises:
        ValueError: If there are fewer than two samples, or counts that are not whole.

    Example:
        >>> estimate = estimate_conditional_entropy([[3, 1], [0, 4]])
        >>> print(f"{estimate.jackknife:.3f} ± {estimate.error:.3f} nats")
        0.409 ± 0.270 nats
    """
    require_generator(generator)
    counts = real_array("counts", counts, dims=2)
    require(counts.ndim == 2, f"`counts` of shape {counts.shape}", "one table (n_u, K)")
    require_nonnegative(counts=counts)
    require(bool((counts == np.rint(counts)).all()) and counts.max() < 2**53, f"`counts` {span(counts)}, not all whole",
            "how often each pair was seen", "If they are frequencies times n, round them with `np.rint`.")
    n = int(counts.sum())
    require(n >= 2, f"{n} samples", "at least two")
    counts = counts[counts.sum(-1) > 0]
    plug_in = float(conditional_entropy(counts / n, generator))

    rows = _unnormalized(counts, generator)  # n_u · Ent(Y | U=u)
    u, y = np.nonzero(counts)
    fewer = counts[u]
    fewer[np.arange(len(u)), y] -= 1
    without = (rows.sum() - rows[u] + _unnormalized(fewer, generator)) / (n - 1)
    weight = counts[u, y] / n
    mean = weight @ without
    miller_madow = plug_in + (len(u) - len(counts)) / (2 * n) if generator is SHANNON else float("nan")
    return Estimate(plug_in, float(n * plug_in - (n - 1) * mean), miller_madow,
                    float(np.sqrt((n - 1) * (weight @ (without - mean) ** 2))))


def _unnormalized(counts: np.ndarray, generator: Generator) -> np.ndarray:
    """Σ_y c_y Φ(1_y) − c Φ(c_·/c) of rows of counts with sum c, 0 for an empty row, (m, K) -> (m,)."""
    total = counts.sum(-1, keepdims=True)
    p = np.where(total > 0, counts / np.maximum(total, 1), np.eye(1, counts.shape[-1]))
    return total[:, 0] * entropy(p, generator)
