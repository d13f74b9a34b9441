"""Layer rules of the structure engine: how D cotangents cross a node of the autograd graph, and what its parameters receive.

Every tensor here carries the D directions first: a cotangent is (D, *shape of the node's output). A rule returns one entry for
each input of its node: a cotangent for data, a ``Use`` for a parameter, None for what nobody asks for. Nodes without a rule are
called as they are, under ``torch.func.vmap``; the table at the end holds only what is worth doing better.
"""

import contextlib
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

aten = torch.ops.aten
Node: TypeAlias = Any  # torch.autograd.graph.Node; no type checker knows what a node saves


class Use(NamedTuple):
    """What one use of a parameter adds to its per-sample gradients, not yet computed.

    Attributes:
        gram: () -> (B, D, D), the inner products of the per-sample gradients, by the cheapest way.
        explicit: () -> (D, B, *shape), the gradients themselves; needed when a parameter is used twice.
    """

    gram: Callable[[], Tensor]
    explicit: Callable[[], Tensor]


class Part(NamedTuple):
    """A cotangent that is zero but for a part: ``value`` (D, ...) belongs to ``place(g)``, a view of the whole (D, *shape)."""

    value: Tensor
    place: Callable[[Tensor], Tensor]


class Winners(NamedTuple):
    """A cotangent that is zero but where an entry has won a pooling window, once for each plane of positions.

    Attributes:
        value: (D, *planes, W).
        places: Where in its plane each of the W values belongs, (*planes, W).
        shape: (*planes, *positions), that of a whole.
    """

    value: Tensor
    places: Tensor
    shape: tuple[int, ...]

    def whole(self) -> Tensor:
        """(D, *planes, *positions)."""
        D, planes = len(self.value), self.places.dim() - 1
        flat = self.value.new_zeros(D, *self.shape[:planes], math.prod(self.shape[planes:]))
        return flat.scatter_add_(-1, self.places.expand_as(self.value), self.value).view(D, *self.shape)


def whole(g: Any) -> Any:
    """A cotangent without gaps; None stays None."""
    return g.whole() if isinstance(g, Winners) else g


Entry: TypeAlias = Tensor | Part | Winners | Use | None
"""What a rule returns for one input of its node."""


class Site(NamedTuple):
    """Where a node stands: which axis of its output holds the samples, and which of its inputs are asked for.

    Attributes:
        outer: How many numbers stand before the sample axis, in row-major order.
        samples: B, the length of that axis.
        wants: For each input None, "data", "alone" (a parameter used only here) or "shared" (used elsewhere too).
    """

    outer: int
    samples: int
    wants: tuple

    def rows(self, x: Tensor, trailing: int = 1) -> Tensor:
        """(X, *shape) -> (X, B, T, *last ``trailing`` dims): tokens of each sample, whatever stood before the features."""
        features = x.shape[x.dim() - trailing:]
        if self.outer == 1:
            return x.reshape(len(x), self.samples, -1, *features)
        return x.reshape(len(x), self.outer, self.samples, -1, *features).transpose(1, 2).flatten(2, 3)

    def param(self, i: int) -> bool:
        """Whether this input is a parameter."""
        return self.wants[i] in ("alone", "shared")


# --- contractions ------------------------------------------------------------------------------------------------------------

def dense(t: Any) -> Any:
    """A gradient with its zeros, as embeddings may leave them out; None stays None."""
    return t.to_dense() if t is not None and t.layout != torch.strided else t


def real(t: Tensor) -> Tensor:
    """A gradient as dense real numbers: a complex parameter is two real ones."""
    t = dense(t)
    return torch.view_as_real(t.resolve_conj()) if t.is_complex() else t


def inner(x: Tensor, y: Tensor | None = None) -> Tensor:
    """(B, D, ...) -> (B, D, D): inner products over everything else, with ``y`` of the same size if given."""
    x = real(x)
    x = x.reshape(*x.shape[:2], -1)
    return torch.bmm(x, (x if y is None else y.reshape(x.shape)).mT)


def formed(gradients: Tensor) -> Use:
    """Per-sample gradients (D, B, *shape) that are small enough to be formed at once."""
    return Use(lambda: inner(gradients.transpose(0, 1)), lambda: gradients)


def outer_products(delta: Tensor, tokens: Tensor, bias: bool, shape: Sequence[int]) -> Use:
    """Per-sample gradients Σ_t δ_t ⊗ a_t of a matrix that acts on every token.

    Args:
        delta: Cotangents of the output, (D, B, o, T).
        tokens: What the matrix acts on, (B, i, T).
        bias: Whether its bias is contracted along: as if every token had one more entry, 1.
        shape: Shape of the parameter.
    """
    D, B, o, T = delta.shape
    use = contracted(delta, lambda: torch.bmm(delta.transpose(0, 1).reshape(B, D * o, T), tokens.mT).view(B, D, -1), lambda: tokens,
                     bias, shape)
    if T > 1:
        return use
    return Use(lambda: inner(delta.transpose(0, 1)) * (tokens.double().square().sum((1, 2)) + bias)[:, None, None], use.explicit)


def contracted(delta: Tensor, gradients: Callable[[], Tensor], tokens: Callable[[], Tensor] | None, bias: bool, shape: Sequence[int],
               speed: float = 1) -> Use:
    """Per-sample gradients in the cheaper of two ways: those of one layer formed, contracted and dropped, or none formed at all.

    Args:
        delta: Cotangents of the output, (D, B, o, T).
        gradients: Gives them, (B, D, o·i).
        tokens: Gives what the matrix acts on, (B, i, T); None where several matrices act.
        bias: As in ``outer_products``, and so is ``shape``.
        speed: How many times as fast as a batch of products ``gradients`` is.
    """
    D, B, o, T = delta.shape

    def gram() -> Tensor:
        if tokens is not None and ghost_pays(D, o, math.prod(shape) // o, T, speed):
            a = tokens()
            return ghost(delta, torch.bmm(a.mT, a), bias)
        return inner(gradients()) + (inner(delta.sum(-1).transpose(0, 1)) if bias else 0)

    return Use(gram, lambda: gradients().transpose(0, 1).reshape(D, B, *shape))


def ghost_pays(D: int, o: int, i: int, T: int, speed: float = 1) -> bool:
    """Whether T × T kernels take less time than gradients, whose products go ``speed`` times as fast.

    Counted in multiplications; the last product of each, with D × D numbers a sample, goes at half the speed of the large ones.
    """
    return T * (T * i + D * T * o + 2 * D * D * o) < D * T * o * i / speed + 2 * D * D * o * i


def ghost(delta: Tensor, kernel: Tensor, bias: bool = False) -> Tensor:
    """Σ_tt' (kernel_tt' + 1 if ``bias``) δ_t·δ'_t', no gradient formed; delta (D, B, o, T), kernel (B, T, T) symmetric -> (B, D, D)."""
    D, B, o, T = delta.shape
    if bias:
        kernel += 1
    if delta.stride(-1) == 1:
        rows = delta.transpose(0, 1).reshape(B, D * o, T)
        return inner(rows.view(B, D, -1), torch.bmm(rows, kernel))
    rows = delta.mT.transpose(0, 1)  # tokens stand before features
    return inner(rows, torch.matmul(kernel[:, None], rows))


def windows(x: Tensor, kernel: Sequence[int], stride: Sequence[int], padding: Sequence[int], dilation: Sequence[int],
            positions: Sequence[int]) -> Tensor:
    """What a convolution sees at each position: (N, C, *size) -> (N, C·prod(kernel), prod(positions)), a copy."""
    x = F.pad(x, [p for pad in reversed(padding) for p in (pad, pad)])
    n, c, *s = x.stride()
    view = x.as_strided((*x.shape[:2], *kernel, *positions),
                        (n, c, *(a * d for a, d in zip(s, dilation)), *(a * t for a, t in zip(s, stride))))
    return view.reshape(len(x), -1, math.prod(positions))


# --- layers with parameters: (node, g, site) -> one entry an input -----------------------------------------------------------

def addmm(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """A linear layer: bias + rows @ weightᵀ."""
    b, x, w = site.wants
    return _linear(node, g, site, node._saved_mat1, b, x, w)


def mm(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """A linear layer without bias, or whose bias is added by itself."""
    return _linear(node, g, site, node._saved_self, None, *site.wants)[1:]


def _linear(node: Node, g: Tensor, site: Site, rows: Tensor, b: str | None, x: str | None, w: str | None) -> list[Entry]:
    out: list[Entry] = [None, None, None]
    if x == "data":
        out[1] = g @ node._saved_mat2.mT
    fold = w == b == "alone"
    if w in ("alone", "shared"):
        use = outer_products(site.rows(g).mT, site.rows(rows[None])[0].mT, fold, (g.shape[-1], rows.shape[-1]))
        bare = node.next_functions[-1][0].name() == "torch::autograd::AccumulateGrad"  # x @ W rather than x @ Wᵀ
        out[2] = Use(use.gram, lambda: use.explicit().mT) if bare else use
    if b in ("alone", "shared") and not fold:
        out[0] = formed(site.rows(g).sum(2))
    return out


def convolution(node: Node, g: Tensor | Winners, site: Site) -> Sequence[Entry]:
    """Convolutions of any dimension, stride, padding, dilation and groups."""
    if node._saved_transposed:
        return call(node, [whole(g)], site)
    if isinstance(g, Winners):
        if _sparse_pays(node, g, site):
            return [None,
                    formed(_at_winners(g, _seen(node, g.shape[2:])).unflatten(-1, node._saved_weight.shape[1:])) if site.param(1) else None,
                    formed(g.value.sum(-1)) if site.param(2) else None]
        g = g.whole()
    fold = site.wants[1] == site.wants[2] == "alone"  # the bias is contracted along with the weight
    return [_back_through_convolution(node, g.flatten(0, 1)).unflatten(0, g.shape[:2]) if site.wants[0] == "data" else None,
            _kernel_use(node, g, site, fold) if site.param(1) else None,
            formed(site.rows(g, g.dim() - 2).flatten(4).sum((2, 4))) if site.param(2) and not fold else None]


def _seen(node: Node, positions: Sequence[int]) -> Tensor:
    """The patches of the input that a convolution sees, (N, C·prod(kernel), prod(positions))."""
    kernel = node._saved_weight.shape[2:]
    return windows(node._saved_input, kernel, node._saved_stride, node._saved_padding, node._saved_dilation, positions)


def _kernel_use(node: Node, g: Tensor, site: Site, fold: bool) -> Use:
    """A kernel acts on every patch as a matrix does on a token."""
    def tokens() -> Tensor:
        return site.rows(_seen(node, g.shape[3:])[None], 2)[0].transpose(1, 2).flatten(2)  # the images of a sample side by side

    delta = site.rows(g, g.dim() - 2).transpose(2, 3).flatten(3)
    return contracted(delta, lambda: _kernel_gradients(node, g, site), tokens if node._saved_groups == 1 else None, fold,
                      node._saved_weight.shape, speed=1.5 if many_groups_are_fast(g.device) else 1)


def _kernel_gradients(node: Node, g: Tensor, site: Site) -> Tensor:
    """Per-sample gradients of a kernel, (B, D, o·i·prod(kernel)); best from one convolution in which each sample is a group."""
    groups, shape, x = node._saved_groups, node._saved_weight.shape, node._saved_input
    D, B, o = len(g), site.samples, shape[0] // groups
    delta = site.rows(g, g.dim() - 2).unflatten(3, (groups, o)).permute(2, 1, 3, 0, 4, *range(5, g.dim() + 2))  # (m, B, groups, D, o, ...)
    if not many_groups_are_fast(g.device):
        tokens = site.rows(_seen(node, g.shape[3:]).unflatten(1, (groups, -1))[None], 3)[0]  # (B, m, groups, i, S)
        found = torch.bmm(delta.flatten(5).permute(1, 2, 3, 4, 0, 5).reshape(B * groups, D * o, -1),
                          tokens.permute(0, 2, 1, 4, 3).reshape(B * groups, -1, tokens.shape[3]))
    else:
        images = site.rows(x[None], x.dim() - 1)[0].transpose(0, 1).flatten(1, 2)  # (m, B·channels, ...)
        found = aten.convolution_backward(delta.flatten(1, 4), images, x.new_empty(1).expand(B * groups * D * o, *shape[1:]), None,
                                          node._saved_stride, node._saved_padding, node._saved_dilation, False,
                                          node._saved_output_padding, B * groups, [False, True, False])[1]
    return found.view(B, groups, D, -1).transpose(1, 2).reshape(B, D, -1)


def many_groups_are_fast(device: torch.device) -> bool:
    """Whether a convolution in hundreds of groups beats a batch of products over unfolded patches: not on a GPU."""
    return device.type == "cpu"


def _sparse_pays(node: Node, g: Winners, site: Site) -> bool:
    """Whether the patches that won have fewer numbers than the whole cotangent, and nothing but parameters asks for it."""
    patches = node._saved_weight[0].numel() * g.places.shape[-1]
    cotangent = len(g.value) * math.prod(g.shape[2:])  # of each channel, as are the patches
    return node._saved_groups == 1 and site.wants[0] is None and len(node._saved_input) == site.samples and patches <= cotangent


def _at_winners(g: Winners, patches: Tensor) -> Tensor:
    """Weight gradients below a pooling: a channel meets only the patches that won; patches (B, i, S) -> (D, B, o, i)."""
    B, i, S = patches.shape
    start = torch.arange(0, B * S, S, device=patches.device)[:, None, None]
    seen = patches.mT.reshape(B * S, i).index_select(0, (g.places + start).flatten()).view(-1, g.places.shape[-1], i)
    gradients = torch.bmm(g.value.flatten(1, 2).transpose(0, 1), seen)  # (B·o, D, i)
    return gradients.unflatten(0, (B, -1)).permute(2, 0, 1, 3)


def _back_through_convolution(node: Node, g: Tensor) -> Tensor:
    """(N, o, *positions) -> (N, i, *size): a transposed convolution, which needs no copy of the input for each direction."""
    w, stride, padding, dilation = node._saved_weight, node._saved_stride, node._saved_padding, node._saved_dilation
    unseen = [size - (n - 1) * t + 2 * p - d * (k - 1) - 1 for size, n, t, p, d, k in
              zip(node._saved_input.shape[2:], g.shape[2:], stride, padding, dilation, w.shape[2:])]  # rows that no window reached
    return aten.convolution(g, w, None, stride, padding, dilation, True, unseen, node._saved_groups)


def layer_norm(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """Normalization over the last dimensions, then scale and shift."""
    x, mean, rstd, w = node._saved_input, node._saved_result1, node._saved_result2, node._saved_weight
    features = len(node._saved_normalized_shape)
    out: list[Entry] = [None, None, None]
    if site.wants[0]:
        x_, mean_, rstd_ = _copies(len(g), x, mean, rstd)
        out[0] = aten.native_layer_norm_backward(g, x_, node._saved_normalized_shape, mean_, rstd_, w, w, [True, False, False])[0]
    if site.param(1):
        out[1] = formed(site.rows(g * ((x - mean) * rstd), features).sum(2))
    if site.param(2):
        out[2] = formed(site.rows(g, features).sum(2))
    return out


def group_norm(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """Normalization over groups of channels and all positions, then scale and shift of each channel."""
    x, mean, rstd, w = node._saved_input, node._saved_result1, node._saved_result2, node._saved_weight
    N, C, groups = len(x), x.shape[1], node._saved_group
    out: list[Entry] = [None, None, None]
    if site.wants[0]:
        x_, mean_, rstd_ = (t.flatten(0, 1) for t in _copies(len(g), x, mean, rstd))
        out[0] = aten.native_group_norm_backward(g.flatten(0, 1).contiguous(), x_, mean_, rstd_, w, len(x_), C, x[0, 0].numel(),
                                                 groups, [True, False, False])[0].view(g.shape)
    if site.param(1):
        normal = (x.reshape(N, groups, -1) - mean[..., None]) * rstd[..., None]
        out[1] = formed(site.rows(torch.linalg.vecdot(g.flatten(3), normal.view(N, C, -1))).sum(2))
    if site.param(2):
        out[2] = formed(site.rows(g.reshape(*g.shape[:3], -1).sum(-1)).sum(2))
    return out


def _copies(times: int, *tensors: Tensor) -> list[Tensor]:
    return [t.expand(times, *t.shape).contiguous() for t in tensors]


def batch_norm(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """BatchNorm in evaluation mode scales and shifts; in training mode it mixes samples, which the dye finds."""
    if node._saved_training:
        return call(node, [g] + [None] * (len(node._input_metadata) - 1), site)
    x, w = node._saved_input, node._saved_weight
    shape = (-1, *[1] * (x.dim() - 2))
    eps = node._saved_eps if hasattr(node, "_saved_eps") else node._saved_epsilon  # torch's own node, and cuDNN's on a GPU
    rstd = torch.rsqrt(node._saved_running_var + eps).reshape(shape)
    out: list[Entry] = [g * (rstd if w is None else rstd * w.reshape(shape)) if site.wants[0] else None, None, None]
    if site.param(1):
        normal = (x - node._saved_running_mean.reshape(shape)) * rstd
        out[1] = formed(site.rows((g * normal).reshape(*g.shape[:3], -1).sum(-1)).sum(2))
    if site.param(2):
        out[2] = formed(site.rows(g.reshape(*g.shape[:3], -1).sum(-1)).sum(2))
    return out


def embedding(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """A linear layer on one-hot rows: tokens meet where they are the same word."""
    vocabulary, width = node.next_functions[0][0]._input_metadata[0].shape
    delta = site.rows(g)
    words = site.rows(node._saved_indices.reshape(1, -1, 1))[0, ..., 0]  # (B, T)
    if node._saved_padding_idx < vocabulary:
        delta = delta * (words != node._saved_padding_idx)[..., None]

    def explicit() -> Tensor:
        full = delta.new_zeros(*delta.shape[:2], vocabulary, width)
        return full.scatter_add_(2, words[None, ..., None].expand_as(delta), delta)

    return [Use(lambda: ghost(delta.mT, (words[:, None] == words[..., None]).to(delta)), explicit)]


# --- nodes without parameters that are better not called D times, or not copied -----------------------------------------------

def expand(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """Left as it is: whoever receives it sums over the copies, a parameter within each sample only."""
    return [g]


def repeat(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """The same where single entries are repeated."""
    times = node._saved_repeats
    size = (1,) * (len(times) - len(node._saved_self_sym_sizes)) + tuple(node._saved_self_sym_sizes)
    return [g] if all(s == 1 or t == 1 for s, t in zip(size, times)) else call(node, [g], site)


def reshape(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """The same numbers in the shape of the input."""
    child, slot = node.next_functions[0]
    return [g.reshape(len(g), *child._input_metadata[slot].shape)]


def transpose(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """The two axes back in their places."""
    ndim = g.dim() - 1
    return [g.transpose(_axis(node._saved_dim0, ndim) + 1, _axis(node._saved_dim1, ndim) + 1)]


def permute(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """All axes back in their places."""
    order = [_axis(d, g.dim() - 1) for d in node._saved_dims]
    return [g.permute(0, *(order.index(d) + 1 for d in range(len(order))))]


def select(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """Zero but for the slice that was taken."""
    sizes = node._saved_self_sym_sizes
    dim = _axis(node._saved_dim, len(sizes))
    index = _axis(node._saved_index, sizes[dim])
    return [Part(g, lambda whole: whole.select(dim + 1, index))]


def _axis(d: int, n: int) -> int:
    """Autograd stores axes and indices as unsigned 64-bit numbers: −1 comes as 2⁶⁴ − 1."""
    d = d - 2**64 if d >= 2**63 else d
    return d + n if d < 0 else d


def add(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """A sum hands the cotangent to both, to the second times its factor."""
    alpha = getattr(node, "_saved_alpha", 1)
    return [g, g if alpha == 1 else g * alpha][:len(site.wants)]


def multiply(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """A product hands to each factor the cotangent times the other."""
    out: list[Entry] = [None, None]
    if site.wants[0]:
        out[0] = g * node._saved_other
    if len(site.wants) > 1 and site.wants[1]:
        out[1] = g * node._saved_self
    return out[:len(site.wants)]


def bmm(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """A product of matrices, batch by batch."""
    x, y = site.wants
    return [_bmm(g, node._saved_mat2.mT) if x else None,
            _bmm(g.mT, node._saved_self).mT if y else None]


def _bmm(g: Tensor, matrix: Tensor) -> Tensor:
    """(D, n, a, b) times (n, b, c) without copying the matrices D times."""
    out = g.new_empty(*g.shape[:3], matrix.shape[-1])
    for x, y in zip(g, out):
        torch.bmm(x, matrix, out=y)
    return out


def softmax(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """g ∘ y less the share that keeps the sum of y at one."""
    y, dim = node._saved_result, _axis(node._saved_dim, g.dim() - 1) + 1
    g = g * y
    return [g.addcmul_(g.sum(dim, keepdim=True), y, value=-1)]


def elementwise(node: Node, g: Tensor | Winners, site: Site) -> Sequence[Entry]:
    """One number in, one number out: ask the node for its derivative once, for all directions."""
    if isinstance(g, Winners):
        slope = node(g.value.new_ones(()).expand(g.shape)).flatten(g.places.dim() - 1)
        return [g._replace(value=g.value * slope.gather(-1, g.places))]
    return [g * node(g.new_ones(()).expand(g.shape[1:]))]


def max_pool(node: Node, g: Tensor, site: Site) -> Sequence[Entry]:
    """Each cotangent goes to the position that won; most of the others are left out as long as that pays."""
    planes = g.dim() - 1 - len(node._saved_kernel_size)
    return [Winners(g.flatten(planes + 1), node._saved_result1.flatten(planes), tuple(node._saved_self.shape))]


def call(node: Node, gs: Sequence[Tensor | None], site: Site) -> Sequence[Entry]:
    """A node without a rule: called as autograd would, for all directions at once where ``vmap`` can, one by one elsewhere."""
    given = [i for i, g in enumerate(gs) if g is not None]
    wanted = [i for i, want in enumerate(site.wants) if want]

    def one(*g: Tensor) -> tuple[Tensor, ...]:
        full: list[Tensor | None] = [None] * len(gs)
        for i, value in zip(given, g):
            full[i] = value
        result = node(*full)
        result = result if isinstance(result, tuple) else (result,)
        return tuple(result[i] for i in wanted)

    present: list = [gs[i] for i in given]
    try:
        with quietly():
            results = list(vmap(one)(*present))
    except RuntimeError:
        results = [torch.stack(r) for r in zip(*(one(*g) for g in zip(*present)))]
    out: list[Entry] = [None] * len(site.wants)
    for i, result in zip(wanted, results):
        out[i] = dense(result)
    return out


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Without torch's advice that some node is called D times, which is what we ask for."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "There is a performance drop")
        yield


LAYERS: dict[str, int | None] = {"AddmmBackward0": 1, "MmBackward0": 0, "ConvolutionBackward0": 0, "NativeLayerNormBackward0": 0,
          "NativeGroupNormBackward0": 0, "NativeBatchNormBackward0": 0, "CudnnBatchNormBackward0": 0, "EmbeddingBackward0": None}
"""Nodes whose inputs are data at this place and parameters elsewhere; where it is otherwise, their rule does not apply."""

TAKE_WINNERS = (convolution, elementwise)
"""Rules that take a cotangent as pooling leaves it."""

# A rule gets the cotangent of its node's first output only, so a node of which several outputs are used has none here. It may count on
# nothing but the node's form (``graph.Step``) to tell where the samples go.
RULES: dict[str, Callable[[Node, Any, Site], Sequence[Entry]]] = {
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
    "TransposeBackward0": transpose,
    "PermuteBackward0": permute,
    "SelectBackward0": select,
    "CloneBackward0": expand,
    "AddBackward0": add,
    "MulBackward0": multiply,
    "MulBackward1": multiply,
    "BmmBackward0": bmm,
    "SoftmaxBackward0": softmax,
    "SafeSoftmaxBackward0": softmax,
    "MaxPool2DWithIndicesBackward0": max_pool,
    **dict.fromkeys(("ViewBackward0", "UnsafeViewBackward0", "ReshapeAliasBackward0", "UnsqueezeBackward0", "SqueezeBackward0",
                     "SqueezeBackward1", "SqueezeBackward2"), reshape),
    **{f"{name}Backward0": elementwise for name in ("Relu", "Gelu", "Silu", "Tanh", "Sigmoid", "LeakyRelu", "Elu", "Softplus",
                                                    "Mish", "Hardtanh", "Exp", "Sin", "Cos")},
}
