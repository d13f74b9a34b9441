"""One walk back through the graph that autograd recorded, with all directions at once.

The graph of a forward pass *is* the computation. Walking it from the outputs with D cotangents, we meet each parameter where it
was used; there its share of the Gram matrix is contracted and dropped (``rules``), so the Jacobian never exists.

Which axis of a cotangent holds the samples? We find out by *dyeing*: give sample b the colour c_b, pass a random cotangent u
and its coloured twin c·u through a node, and see where the colours come out. They tell the axis, and whether samples mix.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .rules import LAYERS, RULES, TAKE_WINNERS, Entry, Node, Part, Site, Use, Winners, call, formed, whole

LEAF = "torch::autograd::AccumulateGrad"
TRANSPOSED = ("TBackward0", "PermuteBackward0", "TransposeBackward0")


class Plan(NamedTuple):
    """What the first walk over a graph learns, for all later walks over graphs of the same form.

    Attributes:
        sites: For each node (outer, wants), as in ``Site``.
        axes: For each (node number, input) with a parameter behind plain broadcasting: where its cotangent holds the samples.
        general: Names of the parameters that no rule reaches sample by sample.
        width: Numbers in the largest cotangent of one sample and direction.
        settled: Whether every axis was certain; a cotangent that is all zero tells nothing.
    """

    sites: list
    axes: dict
    general: set
    width: int
    settled: bool


def nodes_of(root: Node, params: dict[int, str]) -> list[Node]:
    """The nodes on the way from ``root`` to ``params`` (a dict by id), each before the nodes that it feeds; leaves excluded."""
    order, seen, stack = [], {root}, [(root, iter(root.next_functions))]
    while stack:
        node, children = stack[-1]
        child = next((child for child, _ in children if child is not None and child not in seen), None)
        if child is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(child)
            stack.append((child, iter(child.next_functions)))
    alive = set()
    for node in order:
        if leaf(node, params) or any(child in alive for child, _ in node.next_functions):
            alive.add(node)
    return [node for node in reversed(order) if node in alive and node.name() != LEAF]


def leaf(node: Node, params: dict[int, str]) -> str | None:
    """Name of the parameter whose leaf this node is, or None."""
    return params.get(id(node.variable)) if node is not None and node.name() == LEAF else None


def target(node: Node, edge: int, params: dict[int, str]) -> str | None:
    """Name of the parameter that this input of the node is, or None; the weight of a linear layer may come transposed."""
    child = node.next_functions[edge][0]
    if child is not None and child.name() in TRANSPOSED and node.name() in ("AddmmBackward0", "MmBackward0") \
            and edge == len(node.next_functions) - 1:
        child = child.next_functions[0][0]
    return leaf(child, params)


def pull_back(node: Node, gs: Sequence[Any], site: Site) -> Sequence[Entry]:
    """Cotangents of the node's outputs -> one entry for each of its inputs, by its rule if it has one that applies."""
    rule, data = RULES.get(node.name()), LAYERS.get(node.name(), "any")
    # a weight that is computed from other weights is data to autograd, and no rule expects it
    computed = data != "any" and any(want == "data" and i != data for i, want in enumerate(site.wants))
    if rule is None or computed:
        return call(node, [whole(g) for g in gs], site)
    return rule(node, gs[0] if rule in TAKE_WINNERS else whole(gs[0]), site)


def walk(order: list[Node], plan: Plan, params: dict[int, str], samples: int, g: Tensor) -> Tensor:
    """Cotangents of the outputs (D, B, K) -> (B, D, D), summed over the parameters that have rules."""
    gram = g.new_zeros(samples, len(g), len(g), dtype=torch.float64)
    shared: defaultdict = defaultdict(list)  # name -> per-sample gradients of its uses
    waiting = Waiting()
    waiting.add(order[0], 0, g)
    for i, node in enumerate(order):
        gs = waiting.take(node)
        outer, wants = plan.sites[i]
        if not any(wants) or all(g is None for g in gs):
            continue
        results = pull_back(node, gs, Site(outer, samples, wants))
        for edge, (child, slot) in enumerate(node.next_functions):
            result, want = results[edge], wants[edge]
            if result is None or want is None:
                continue
            if want == "data":
                waiting.add(child, slot, result)
                continue
            if not isinstance(result, Use):
                gradients = per_sample(result, plan.axes[i, edge], samples, child._input_metadata[0].shape)
                assert gradients is not None  # else the plan would have left this parameter to the general path
                result = formed(gradients)
            if want == "alone":
                gram += result.gram()
            else:
                shared[target(node, edge, params)].append(result.explicit())
    for uses in shared.values():
        gram += formed(sum(uses)).gram()
    return gram


class Waiting(dict[tuple[Node, int], Any]):
    """Cotangents on their way, by node and output; those that meet are added."""

    def __init__(self) -> None:
        super().__init__()
        self.own: set = set()  # tensors made here, which may be written to

    def add(self, node: Node, slot: int, g: Entry) -> None:
        """Put a cotangent where it is waited for, on top of what is there."""
        key, shape = (node, slot), node._input_metadata[slot].shape
        if key in self:
            self[key], g = whole(self[key]), whole(g)
        if isinstance(g, Part):
            if key not in self.own:
                self[key] = self[key].clone() if key in self else g.value.new_zeros(len(g.value), *shape)
                self.own.add(key)
            g.place(self[key]).add_(g.value)
        elif key in self.own:
            self[key] += reduce_to(g, shape)
        elif key in self:
            self[key] = self[key] + reduce_to(g, shape)
            self.own.add(key)
        else:
            self[key] = g if isinstance(g, Winners) else reduce_to(g, shape)

    def take(self, node: Node) -> list:
        """Remove and return what waits at the node, one entry an output."""
        return [self.pop((node, slot), None) for slot in range(len(node._input_metadata))]


def reduce_to(g: Any, shape: Sequence[int]) -> Tensor:
    """Sum a cotangent (D, *S) over what was broadcast from ``shape`` to S."""
    if g.shape[1:] == shape:
        return g
    extra = g.dim() - 1 - len(shape)
    g = g.sum(tuple(range(1, 1 + extra))) if extra else g
    broadcast = [d + 1 for d, size in enumerate(shape) if size == 1 and g.shape[d + 1] != 1]
    return g.sum(broadcast, keepdim=True) if broadcast else g


def per_sample(g: Any, outer: int, samples: int, shape: Sequence[int]) -> Tensor | None:
    """Sum a cotangent (D, *S) over what was broadcast from ``shape`` to S, but not over samples -> (D, B, *shape).

    None where S is no broadcast of ``shape``, or where the samples lie along one of its own axes.
    """
    sizes = list(g.shape[1:])
    own = [1] * (len(sizes) - len(shape)) + list(shape)
    if len(own) != len(sizes) or any(o not in (1, s) for o, s in zip(own, sizes)):
        return None
    before = 1
    for d, size in enumerate(sizes):
        pre = outer // before
        if size % (pre * samples) == 0:
            if own[d] != 1:
                return None
            g = g.reshape(len(g), *sizes[:d], pre, samples, -1, *sizes[d + 1:]).movedim(d + 2, 1)
            own = own[:d] + [1, 1] + own[d + 1:]
            g = g.sum([k + 2 for k, o in enumerate(own) if o == 1], keepdim=True)
            return g.reshape(*g.shape[:2], *shape)
        before *= size
    return None


# --- dye -----------------------------------------------------------------------------------------------------------------------

def plan_for(order: list[Node], params: dict[int, str], samples: int, example: Tensor) -> Plan:
    """Walk once with dye in place of cotangents -> ``Plan``. ``example`` gives dtype and device."""
    uses: Counter = Counter()
    alive = set(order)
    dye = Dye(samples, example)
    outers: dict = {(order[0], 0): 1}
    axes: dict = {}
    general: set = set()
    wants: list[list[str | None]] = []
    settled = True
    for i, node in enumerate(order):
        want: list[str | None] = []
        for edge, (child, _) in enumerate(node.next_functions):
            want.append("shared" if target(node, edge, params) else "data" if child in alive else None)
        slots = [outers.get((node, slot)) for slot in range(len(node._input_metadata))]
        if all(outer is None for outer in slots):
            wants.append([None] * len(want))
            continue
        uses.update(target(node, edge, params) for edge, w in enumerate(want) if w == "shared")
        gs = [None if outer is None else dye.fresh(meta.shape, outer) for meta, outer in zip(node._input_metadata, slots)]
        outer = next(outer for outer in slots if outer is not None)
        results = pull_back(node, gs, Site(outer, samples, tuple(want)))
        for edge, (child, slot) in enumerate(node.next_functions):
            result = results[edge]
            if result is None or want[edge] is None or isinstance(result, Use):
                continue
            if want[edge] == "data":
                crossed = Waiting()
                crossed.add(child, slot, result)
                result = whole(crossed[child, slot])
            found, certain = dye.find(result, hint=outer)
            settled &= certain or (found == outer and node.name() in RULES)
            if want[edge] == "data":
                if found is not None and outers.setdefault((child, slot), found) == found:
                    continue
                general |= {params[id(p)] for p in leaves(child) if id(p) in params}
            else:
                axes[i, edge] = found
                if found is not None and per_sample(result, found, samples, child._input_metadata[0].shape) is not None:
                    continue
                general.add(target(node, edge, params))
            want[edge] = None
        wants.append(want)
    sites = []
    for node, want in zip(order, wants):
        names = [target(node, edge, params) for edge in range(len(want))]
        asked = tuple(w if w != "shared" else None if name in general else "alone" if uses[name] == 1 else "shared"
                      for w, name in zip(want, names))
        sites.append((next((outers[node, s] for s in range(len(node._input_metadata)) if (node, s) in outers), 1), asked))
    width = max(math.prod(node._input_metadata[slot].shape) for node, slot in outers) // samples
    return Plan(sites, axes, general, width, settled)


def leaves(node: Node) -> Iterator[Tensor]:
    """Every tensor whose leaf lies at or below ``node``."""
    return (below.variable for below in nodes_below(node) if below.name() == LEAF)


def nodes_below(node: Node) -> Iterator[Node]:
    """``node`` and every node that it hands gradients to."""
    seen, stack = {node}, [node]
    while stack:
        node = stack.pop()
        yield node
        new = {child for child, _ in node.next_functions if child is not None} - seen
        seen |= new
        stack += new


class Dye:
    """Colours c_b, one a sample; dyed cotangents; and where the colours are found again."""

    def __init__(self, samples: int, example: Tensor) -> None:
        self.generator = torch.Generator().manual_seed(0)
        self.example = example
        self.colours = self._random(samples)
        self.tolerance = 1e-4 if torch.finfo(example.dtype).eps < 1e-5 else 1e-1

    def _random(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64).to(self.example)

    def fresh(self, shape: Sequence[int], outer: int) -> Tensor:
        """(2, *shape): a random cotangent and its coloured twin."""
        u = self._random(*shape)
        return torch.stack([u, self.coloured(u, outer)])

    def coloured(self, u: Tensor, outer: int) -> Tensor:
        """u times the colour of its sample, the sample axis behind ``outer`` numbers."""
        return (u.reshape(outer, len(self.colours), -1) * self.colours[:, None]).reshape(u.shape)

    def find(self, pair: Any, hint: int) -> tuple[int | None, bool]:
        """(outer, certain): how many numbers stand before the sample axis, None if the colours are mixed."""
        u, twin = pair
        samples, shape = len(self.colours), u.shape
        if u.numel() % samples:
            return None, True
        bound = self.tolerance * twin.abs().max()
        fits = [outer for outer in divisors(u.numel() // samples) if (self.coloured(u, outer) - twin).abs().max() <= bound]
        if not fits:
            return None, True
        boundaries = [math.prod(shape[:d]) for d in range(len(shape))]
        best = min(fits, key=lambda outer: (outer != hint, outer not in boundaries, outer))
        return best, len(fits) == 1 or samples == 1


def divisors(n: int) -> list[int]:
    """Every divisor of n, in order."""
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return sorted({*small, *(n // d for d in small)})
