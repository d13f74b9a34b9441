"""Layer rules of the structure engine: how D cotangents cross a node of the autograd graph, and what its parameters receive.

Every tensor here carries the D directions first: a cotangent is (D, *shape of the node's output). A rule returns one entry for
each input of its node: a cotangent for data, a ``Use`` for a parameter, None for what nobody asks for. Nodes without a rule are
called as they are, under ``torch.func.vmap``; the table holds only what is worth doing better.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap


class Use(NamedTuple):
    """What one use of a parameter adds to its per-sample gradients, not yet computed.

    Attributes:
        gram: () -> (B, D, D), the inner products of the per-sample gradients, by the cheapest way.
        explicit: () -> (D, B, *shape), the gradients themselves; needed when a parameter is used twice.
    """

    gram: Callable[[], Tensor]
    explicit: Callable[[], Tensor]


class Site(NamedTuple):
    """Where a node stands: which axis holds the samples, and which of its inputs are asked for.

    Attributes:
        outer: How many numbers of the node's output stand before the sample axis, in row-major order.
        samples: B, the length of that axis.
        wants: For each input None, "data", "alone" (a parameter used only here) or "shared" (used elsewhere too).
    """

    outer: int
    samples: int
    wants: tuple

    def rows(self, x, trailing=1):
        """(X, *shape) -> (X, B, T, *last ``trailing`` dims): tokens of each sample, whatever stood before the features."""
        features = x.shape[x.dim() - trailing:]
        return x.reshape(len(x), self.outer, self.samples, -1, *features).transpose(1, 2).flatten(2, 3)

    def param(self, i):
        return self.wants[i] in ("alone", "shared")


# --- contractions ------------------------------------------------------------------------------------------------------------

def inner(x):
    """(D, B, ...) -> (B, D, D): inner products over everything else."""
    x = x.flatten(2).transpose(0, 1)
    return torch.bmm(x, x.mT).double()


def formed(gradients):
    """Per-sample gradients (D, B, *shape) that are small enough to be formed at once."""
    return Use(lambda: inner(gradients), lambda: gradients)


def outer_products(delta, tokens, bias, shape):
    """Per-sample gradients Σ_t δ_t ⊗ a_t of a matrix that acts on every token.

    Args:
        delta: Cotangents of the output, (D, B, T, o).
        tokens: What the matrix acts on, (B, T, i).
        bias: Whether its bias is contracted along: as if every token had one more entry, 1.
        shape: Shape of the parameter.
    """
    D, B, T, o = delta.shape
    i = tokens.shape[-1]

    def explicit():
        return torch.einsum("dbto,bti->dboi", delta, tokens).reshape(D, B, *shape)

    def gram():
        if T == 1:
            return inner(delta) * (tokens.double().square().sum((1, 2)) + bias)[:, None, None]
        if T * (T * i + D * T * o + D * D * o) < D * T * o * i + D * D * o * i:
            return torch.stack([ghost(delta[:, b], tokens[b] @ tokens[b].mT + bias) for b in range(B)])
        return torch.stack([weight(delta[:, b], tokens[b], bias) for b in range(B)])

    return Use(gram, explicit)


def ghost(delta, kernel):
    """Σ_tt' kernel_tt' δ_t·δ'_t', no gradient formed; delta (D, T, o), kernel (T, T) -> (D, D)."""
    kernel = kernel.expand(len(delta), -1, -1)
    if delta.stride(-1) == 1:
        spread = torch.bmm(kernel, delta)
    else:
        delta = delta.mT
        spread = torch.bmm(delta, kernel)
    gram = (delta.flatten(1) @ spread.flatten(1).T).double()
    return (gram + gram.T) / 2


def weight(delta, tokens, bias):
    """The same by forming the gradient, one sample at a time; delta (D, T, o), tokens (T, i) -> (D, D)."""
    gradient = torch.bmm(delta.mT, tokens.expand(len(delta), -1, -1)).flatten(1)
    gram = (gradient @ gradient.T).double()
    if bias:
        total = delta.sum(1)
        gram += (total @ total.T).double()
    return gram


# --- rules: (node, g, site) -> one entry an input ----------------------------------------------------------------------------

def addmm(node, g, site):
    """A linear layer: bias + rows @ weightᵀ."""
    b, x, w = site.wants
    return _linear(g, node._saved_mat1, node._saved_mat2, site, b, x, w, node)


def mm(node, g, site):
    """A linear layer without bias (or whose bias is added by itself)."""
    return _linear(g, node._saved_self, node._saved_mat2, site, None, *site.wants, node)[1:]


def _linear(g, rows, weight_t, site, b, x, w, node):
    out = [None, None, None]
    if x == "data":
        out[1] = g @ weight_t.mT
    fold = w == b == "alone"
    if w in ("alone", "shared"):
        out[2] = outer_products(site.rows(g), site.rows(rows[None])[0], fold, (g.shape[-1], rows.shape[-1]))
    if b in ("alone", "shared") and not fold:
        out[0] = formed(site.rows(g).sum(2))
    return out


def convolution(node, g, site):
    """Convolutions of any dimension, stride, padding, dilation and groups."""
    x, w = node._saved_input, node._saved_weight
    stride, padding, dilation = node._saved_stride, node._saved_padding, node._saved_dilation
    groups = node._saved_groups
    out = [None, None, None]
    if site.wants[0] == "data":
        out[0] = torch.ops.aten.convolution_backward(
            g.flatten(0, 1), x.new_empty(1).expand(len(g) * len(x), *x.shape[1:]), w, None, stride, padding, dilation, False,
            node._saved_output_padding, groups, [True, False, False])[0].unflatten(0, g.shape[:2])
    fold = site.wants[1] == site.wants[2] == "alone"
    if site.param(1):
        patches = windows(x, w.shape[2:], stride, padding, dilation, g.shape[3:])
        tokens = site.rows(patches.unflatten(1, (groups, -1))[None], 3)[0]  # (B, m, groups, i, S)
        delta = site.rows(g.flatten(3).unflatten(2, (groups, -1)), 3)  # (D, B, m, groups, o, S)
        uses = [outer_products(_tokens(delta[:, :, :, j]), _tokens(tokens[:, :, j]), fold, (delta.shape[4], *w.shape[1:]))
                for j in range(groups)]
        out[1] = uses[0] if groups == 1 else Use(lambda: sum(use.gram() for use in uses),
                                                 lambda: torch.cat([use.explicit() for use in uses], 2))
    if site.param(2) and not fold:
        out[2] = formed(site.rows(g, g.dim() - 2).flatten(4).sum((2, 4)))
    return out


def _tokens(x):
    """(..., m, features, S) -> (..., m·S, features); a view where there is one image a sample, m = 1."""
    return x.squeeze(-3).mT if x.shape[-3] == 1 else x.mT.flatten(-3, -2)


def windows(x, kernel, stride, padding, dilation, positions):
    """What a convolution sees at each position: (N, C, *size) -> (N, C·prod(kernel), prod(positions)), a copy."""
    x = F.pad(x, [p for pad in reversed(padding) for p in (pad, pad)])
    n, c, *s = x.stride()
    view = x.as_strided((*x.shape[:2], *kernel, *positions),
                        (n, c, *(a * d for a, d in zip(s, dilation)), *(a * t for a, t in zip(s, stride))))
    return view.reshape(len(x), -1, math.prod(positions))


def layer_norm(node, g, site):
    x, w = node._saved_input, node._saved_weight
    features = len(node._saved_normalized_shape)
    normal = (x - node._saved_result1) * node._saved_result2
    dims = tuple(range(-features, 0))
    out = [_normalized(g if w is None else g * w, normal, node._saved_result2, dims) if site.wants[0] else None, None, None]
    if site.param(1):
        out[1] = formed(site.rows(g * normal, features).sum(2))
    if site.param(2):
        out[2] = formed(site.rows(g, features).sum(2))
    return out


def group_norm(node, g, site):
    x, w, groups = node._saved_input, node._saved_weight, node._saved_group
    mean, rstd = (s.reshape(len(x), groups, 1) for s in (node._saved_result1, node._saved_result2))
    normal = (x.reshape(len(x), groups, -1) - mean) * rstd
    out = [None, None, None]
    if site.wants[0]:
        scaled = g if w is None else g * w.reshape(-1, *[1] * (x.dim() - 2))
        out[0] = _normalized(scaled.reshape(len(g), *normal.shape), normal, rstd, (-1,)).reshape(g.shape)
    if site.param(1):
        out[1] = formed(site.rows(g * normal.reshape(x.shape), x.dim() - 1).sum(2).flatten(3).sum(-1))
    if site.param(2):
        out[2] = formed(site.rows(g, x.dim() - 1).sum(2).flatten(3).sum(-1))
    return out


def _normalized(g, normal, rstd, dims):
    """Back through x ↦ (x − mean) / deviation over ``dims``."""
    return rstd * (g - g.mean(dims, keepdim=True) - normal * (g * normal).mean(dims, keepdim=True))


def batch_norm(node, g, site):
    """BatchNorm in evaluation mode scales and shifts; in training mode it mixes samples, which the dye finds."""
    if node._saved_training:
        return call(node, [g, None, None], site)
    x, w = node._saved_input, node._saved_weight
    shape = (-1, *[1] * (x.dim() - 2))
    rstd = torch.rsqrt(node._saved_running_var + node._saved_eps).reshape(shape)
    out = [g * (rstd if w is None else rstd * w.reshape(shape)) if site.wants[0] else None, None, None]
    if site.param(1):
        normal = (x - node._saved_running_mean.reshape(shape)) * rstd
        out[1] = formed(site.rows(g * normal, x.dim() - 1).sum(2).flatten(3).sum(-1))
    if site.param(2):
        out[2] = formed(site.rows(g, x.dim() - 1).sum(2).flatten(3).sum(-1))
    return out


def embedding(node, g, site):
    """A linear layer on one-hot rows: tokens meet where they are the same word."""
    words = node._saved_indices
    vocabulary, width = node.next_functions[0][0]._input_metadata[0].shape
    delta = site.rows(g)
    tokens = site.rows(words.reshape(1, -1, 1))[0][..., 0]  # (B, T)
    if node._saved_padding_idx < vocabulary:
        delta = delta * (tokens != node._saved_padding_idx)[..., None]

    def gram():
        return torch.stack([ghost(delta[:, b], (t[:, None] == t).to(delta)) for b, t in enumerate(tokens)])

    def explicit():
        full = delta.new_zeros(*delta.shape[:2], vocabulary, width)
        return full.scatter_add_(2, tokens[None, ..., None].expand_as(delta), delta)

    return [Use(gram, explicit)]


def expand(node, g, site):
    """Left as it is: whoever receives it sums over the copies, a parameter within each sample only."""
    return [g]


def repeat(node, g, site):
    """The same where single entries are repeated."""
    if all(size == 1 or times == 1 for size, times in zip(reversed(node._saved_self_sym_sizes), reversed(node._saved_repeats))):
        return [g]
    return call(node, [g], site)


def relu(node, g, site):
    return [g * (node._saved_result > 0)]


def call(node, gs, site):
    """A node without a rule: called as autograd would, for all directions at once where ``vmap`` can, one by one elsewhere."""
    given = [i for i, g in enumerate(gs) if g is not None]
    wanted = [i for i, want in enumerate(site.wants) if want]

    def one(*g):
        full = [None] * len(gs)
        for i, value in zip(given, g):
            full[i] = value
        result = node(*full)
        result = result if isinstance(result, tuple) else (result,)
        return tuple(result[i] for i in wanted)

    present = [gs[i] for i in given]
    try:
        results = vmap(one)(*present)
    except RuntimeError:
        results = [torch.stack(r) for r in zip(*(one(*g) for g in zip(*present)))]
    out = [None] * len(site.wants)
    for i, result in zip(wanted, results):
        out[i] = result
    return out


RULES = {
    "AddmmBackward0": addmm,
    "MmBackward0": mm,
    "ConvolutionBackward0": convolution,
    "NativeLayerNormBackward0": layer_norm,
    "NativeGroupNormBackward0": group_norm,
    "NativeBatchNormBackward0": batch_norm,
    "CudnnBatchNormBackward0": batch_norm,
    "EmbeddingBackward0": embedding,
    "ExpandBackward0": expand,
    "RepeatBackward0": repeat,
    "ReluBackward0": relu,
}
