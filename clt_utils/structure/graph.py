"""One walk back through the graph that autograd recorded, with all directions at once.

The graph of a forward pass *is* the computation. Walking it from the outputs with D cotangents, we meet each parameter where it
was used; there its share of the Gram matrix is contracted and dropped (``rules``), so the Jacobian never exists.

Which axis of a cotangent holds the samples? We find out by *dyeing*: give sample b the colour c_b, pass a random cotangent u
and its coloured twin c·u through a node, and see where the colours come out. They tell the axis, and whether samples mix.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

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
        coarsest: The coarsest precision that any node computes in.
        width: Numbers in the largest cotangent of one sample and direction.
        settled: Whether the plan holds for all graphs of its form: every axis was certain (a cotangent that is all zero tells
            nothing), and no node picks its samples by index.
    """

    sites: list
    axes: dict
    general: set
    coarsest: torch.dtype
    width: int
    settled: bool


class Step(NamedTuple):
    """All of one node that a plan depends on, read once a pass. What it has saved in tensors is left out; see ``told_by_its_form``.

    Attributes:
        name: Its kind.
        edges: For each input what it leads to, the number of a node or the name of a parameter or None, and to which of its outputs.
        metas: Shape and precision of each output.
        settings: Axes, strides, flags.
    """

    name: str
    edges: tuple[tuple[Any, int], ...]
    metas: tuple[tuple[tuple[int, ...], torch.dtype], ...]
    settings: tuple


Form: TypeAlias = tuple[Step, ...]


def recorded(root: Node, params: dict[int, str]) -> tuple[list[Node], Form]:
    """The nodes on the way from ``root`` to ``params`` (a dict by id), each before the nodes that it feeds, and their form."""
    order, inputs, stack = [], {root: root.next_functions}, [(root, iter(root.next_functions))]
    while stack:
        node, children = stack[-1]
        child = next((child for child, _ in children if child is not None and child not in inputs), None)
        if child is None:
            order.append(node)
            stack.pop()
        else:
            inputs[child] = child.next_functions
            stack.append((child, iter(inputs[child])))
    goal: dict = {None: None}  # of each node behind an input: the name of a parameter, True on the way to one, or None
    for node in order:
        goal[node] = leaf(node, params) if node.name() == LEAF else any(goal[child] for child, _ in inputs[node]) or None
    order = [node for node in reversed(order) if goal[node] is True]
    number = {node: i for i, node in enumerate(order)}
    return order, tuple(Step(node.name(), tuple((number.get(child, goal[child]), slot) for child, slot in inputs[node]),
                             tuple((tuple(meta.shape), meta.dtype) for meta in node._input_metadata), _settings(node)) for node in order)


def leaf(node: Node, params: dict[int, str]) -> str | None:
    """Name of the parameter whose leaf this node is, or None."""
    return params.get(id(node.variable)) if node is not None and node.name() == LEAF else None


def target(form: Form, i: int, edge: int) -> str | None:
    """Name of the parameter that this input of a node is, or None; the weight of a linear layer may come transposed."""
    child = form[i].edges[edge][0]
    if isinstance(child, int) and form[child].name in TRANSPOSED and form[i].name in ("AddmmBackward0", "MmBackward0") \
            and edge == len(form[i].edges) - 1:
        child = form[child].edges[0][0]
    return child if isinstance(child, str) else None


def _settings(node: Node) -> tuple:
    """What a node has saved that is no tensor: axes, strides, flags."""
    kind = type(node)
    if kind not in _setting_names:
        _setting_names[kind] = [name for name in _saved_names(kind) if not list(_tensors(getattr(node, name)))]
    values = (getattr(node, name) for name in _setting_names[kind])
    return tuple(value for value in values if not isinstance(value, Tensor))


_setting_names: dict[type, list[str]] = {}  # by kind of node: reading a tensor that was saved costs more than a number


def _saved_names(kind: type) -> list[str]:
    return [name for name in dir(kind) if name.startswith("_saved_")]


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in what a node has saved: in one, in a tuple or list of some, or none."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (tuple, list)):
        for part in value:
            yield from _tensors(part)


BY_ENTRY = ("WhereBackward0", "MaskedFillBackward0", "MaskedFillBackward1")
"""Nodes that save truth values but treat each entry by itself."""


def told_by_its_form(node: Node) -> bool:
    """Whether a node leads the samples along the same way each time that its form is the same; what picks by index may not."""
    if node.name() in RULES or node.name() in BY_ENTRY:
        return True
    return not any(not (t.is_floating_point() or t.is_complex()) and t.numel() > 1
                   for name in _saved_names(type(node)) for t in _tensors(getattr(node, name)))


def pull_back(node: Node, step: Step, gs: Sequence[Any], site: Site) -> Sequence[Entry]:
    """Cotangents of the node's outputs -> one entry for each of its inputs, by its rule if it has one that applies."""
    rule, data = RULES.get(step.name), LAYERS.get(step.name, "any")
    if any(dtype.is_complex for _, dtype in step.metas):
        rule = None  # which would have to conjugate
    # a weight that is computed from other weights is data to autograd, and no rule expects it
    computed = data != "any" and any(want == "data" and i != data for i, want in enumerate(site.wants))
    if rule is None or computed:
        return call(node, [whole(g) for g in gs], site)
    return rule(node, gs[0] if rule in TAKE_WINNERS else whole(gs[0]), site)


def walk(order: list[Node], form: Form, plan: Plan, samples: int, g: Tensor) -> Tensor:
    """Cotangents of the outputs (D, B, K) -> (B, D, D), summed over the parameters that have rules."""
    gram = g.new_zeros(samples, len(g), len(g), dtype=torch.float64)
    shared: defaultdict = defaultdict(list)  # name -> per-sample gradients of its uses
    waiting = Waiting(form)
    waiting.add(0, 0, g)
    for i, (node, step) in enumerate(zip(order, form)):
        gs = waiting.take(i)
        outer, wants = plan.sites[i]
        if not any(wants) or all(g is None for g in gs):
            continue
        results = pull_back(node, step, gs, Site(outer, samples, wants))
        for edge, (result, want) in enumerate(zip(results, wants)):
            if result is None or want is None:
                continue
            if want == "data":
                waiting.add(*step.edges[edge], result)
                continue
            if not isinstance(result, Use):
                shape = node.next_functions[edge][0]._input_metadata[0].shape
                gradients = per_sample(result, plan.axes[i, edge], samples, shape)
                assert gradients is not None  # else the plan would have left this parameter to the general path
                result = formed(gradients)
            if want == "alone":
                gram += result.gram()
            else:
                shared[target(form, i, edge)].append(result.explicit())
    for uses in shared.values():
        gram += formed(sum(uses)).gram()
    return (gram + gram.mT) / 2


def out_of_memory(error: Exception) -> bool:
    """Whether an error says that memory ran out, on a GPU or elsewhere."""
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error) or "can't allocate memory" in str(error)


class Waiting(dict[tuple[int, int], Any]):
    """Cotangents on their way, by number of a node and output; those that meet are added."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        self.form = form
        self.writable: set = set()  # keys of tensors made here

    def add(self, i: int, slot: int, g: Entry) -> None:
        """Put a cotangent where it is waited for, on top of what is there."""
        key, (shape, dtype) = (i, slot), self.form[i].metas[slot]
        if key in self:
            self[key], g = whole(self[key]), whole(g)
        if isinstance(g, Part):
            if key not in self.writable:
                self[key] = self[key].clone() if key in self else g.value.new_zeros(len(g.value), *shape)
                self.writable.add(key)
            g.place(self[key]).add_(g.value.to(self[key].dtype))
        elif key in self.writable:
            self[key] += fitted(g, shape, dtype)
        elif key in self:
            self[key] = self[key] + fitted(g, shape, dtype)
            self.writable.add(key)
        else:
            self[key] = g if isinstance(g, Winners) else fitted(g, shape, dtype)

    def take(self, i: int) -> list:
        """Remove and return what waits at the node, one entry an output."""
        return [self.pop((i, slot), None) for slot in range(len(self.form[i].metas))]


def fitted(g: Any, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """A cotangent (D, *S) in the form of the output that it belongs to: its precision, and summed over what was broadcast to S."""
    if g.dtype != dtype:
        g = (g.real if g.is_complex() and not dtype.is_complex else g).to(dtype)
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
    aligned = [1] * (len(sizes) - len(shape)) + list(shape)
    if len(aligned) != len(sizes) or any(o not in (1, s) for o, s in zip(aligned, sizes)):
        return None
    before = 1
    for d, size in enumerate(sizes):
        pre = outer // before
        if size % (pre * samples) == 0:
            if aligned[d] != 1:
                return None
            g = g.reshape(len(g), *sizes[:d], pre, samples, -1, *sizes[d + 1:]).movedim(d + 2, 1)
            aligned = aligned[:d] + [1, 1] + aligned[d + 1:]
            g = g.sum([k + 2 for k, o in enumerate(aligned) if o == 1], keepdim=True)
            return g.reshape(*g.shape[:2], *shape)
        before *= size
    return None


# --- dye -----------------------------------------------------------------------------------------------------------------------

def plan_for(order: list[Node], form: Form, params: dict[int, str], samples: int, example: Tensor) -> Plan:
    """Walk once with dye in place of cotangents -> ``Plan``. ``example`` gives dtype and device."""
    return Survey(order, form, params, Dye(samples, example)).plan()


class Survey:
    """The walk with dye: what it has found out so far.

    Attributes:
        outers: For each (number of a node, output) that dye has reached, how many numbers stand before the sample axis.
        uses: How often each parameter is used.
        axes, general, settled: As in ``Plan``.
    """

    def __init__(self, order: list[Node], form: Form, params: dict[int, str], dye: "Dye") -> None:
        self.order, self.form, self.params, self.dye = order, form, params, dye
        self.outers: dict = {(0, 0): 1}
        self.uses: Counter = Counter()
        self.axes: dict = {}
        self.general: set = set()
        self.settled = all(map(told_by_its_form, order))

    def plan(self) -> Plan:
        """Visit every node, then say what each walk has to do there."""
        wants = [self.visit(i) for i in range(len(self.order))]
        sites = [(self.axis(i) or 1, tuple(self.final(i, edge, want) for edge, want in enumerate(found)))
                 for i, found in enumerate(wants)]
        width = max(math.prod(self.form[i].metas[slot][0]) for i, slot in self.outers) // len(self.dye.colours)
        return Plan(sites, self.axes, self.general, coarsest(self.order), width, self.settled)

    def visit(self, i: int) -> list[str | None]:
        """Send dye through a node -> for each input "data", "parameter", or None where nothing goes sample by sample."""
        node, step = self.order[i], self.form[i]
        wants = [self.asked(i, edge) for edge in range(len(step.edges))]
        outer = self.axis(i)
        if outer is None:
            return [None] * len(wants)
        self.uses.update(target(self.form, i, edge) for edge, want in enumerate(wants) if want == "parameter")
        axes = [self.outers.get((i, slot)) for slot in range(len(step.metas))]
        gs = [None if axis is None else self.dye.fresh(shape, axis, dtype) for (shape, dtype), axis in zip(step.metas, axes)]
        site = Site(outer, len(self.dye.colours), tuple("shared" if want == "parameter" else want for want in wants))
        try:
            results = pull_back(node, step, gs, site)
        except (RuntimeError, TypeError) as error:  # a node that no one can call but autograd itself
            if out_of_memory(error):
                raise
            self.leave(node)
            return [None] * len(wants)
        for edge in range(len(wants)):
            result = results[edge]
            if wants[edge] is None or result is None or isinstance(result, Use):
                continue
            follow = self.follow_data if wants[edge] == "data" else self.follow_parameter
            if not follow(i, edge, result, outer):
                wants[edge] = None
        return wants

    def follow_data(self, i: int, edge: int, result: Entry, outer: int) -> bool:
        """Whether the samples lie along one axis behind this input; else all parameters there go the general way."""
        key, crossed = self.form[i].edges[edge], Waiting(self.form)
        crossed.add(*key, result)
        found = self.find(self.order[i], whole(crossed[key]), outer)
        if found is not None and self.outers.setdefault(key, found) == found:
            return True
        self.leave(self.order[i].next_functions[edge][0])
        return False

    def follow_parameter(self, i: int, edge: int, result: Entry, outer: int) -> bool:
        """Whether what a parameter receives here can be told sample by sample; else it goes the general way."""
        node = self.order[i]
        found = self.axes[i, edge] = self.find(node, result, outer)
        shape = node.next_functions[edge][0]._input_metadata[0].shape
        if found is not None and per_sample(result, found, len(self.dye.colours), shape) is not None:
            return True
        self.general.add(target(self.form, i, edge))
        return False

    def leave(self, node: Node) -> None:
        """Every parameter at or below the node goes the general way."""
        self.general |= {self.params[id(p)] for p in leaves(node) if id(p) in self.params}

    def find(self, node: Node, result: Any, outer: int) -> int | None:
        """Where the colours came out; a rule is trusted to keep an axis that the colours leave open."""
        found, certain = self.dye.find(result, hint=outer)
        self.settled &= certain or (found == outer and node.name() in RULES)
        return found

    def axis(self, i: int) -> int | None:
        """The sample axis of a node's first output that dye has reached, or None."""
        return next((self.outers[i, slot] for slot in range(len(self.form[i].metas)) if (i, slot) in self.outers), None)

    def asked(self, i: int, edge: int) -> str | None:
        """What a node's input leads to."""
        if target(self.form, i, edge):
            return "parameter"
        return "data" if isinstance(self.form[i].edges[edge][0], int) else None

    def final(self, i: int, edge: int, want: str | None) -> str | None:
        """The same in the words of ``Site``, now that every use of every parameter is known."""
        if want != "parameter":
            return want
        name = target(self.form, i, edge)
        return None if name in self.general else "alone" if self.uses[name] == 1 else "shared"


def coarsest(nodes: Iterable[Node]) -> torch.dtype:
    """The coarsest precision that any of the nodes computes in."""
    found = {meta.dtype for node in nodes if node.name() != LEAF for meta in node._input_metadata}
    return max(found, key=lambda dtype: torch.finfo(dtype).eps)


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
        self.colours = self._random([samples], example.dtype)
        self.tolerance = 1e-4 if torch.finfo(example.dtype).eps < 1e-5 else 1e-1

    def _random(self, shape: Sequence[int], dtype: torch.dtype) -> Tensor:
        return torch.randn(tuple(shape), generator=self.generator, dtype=torch.complex128 if dtype.is_complex else torch.float64).to(
            self.example.device, dtype)

    def fresh(self, shape: Sequence[int], outer: int, dtype: torch.dtype | None = None) -> Tensor:
        """(2, *shape): a random cotangent and its coloured twin."""
        u = self._random(shape, dtype or self.example.dtype)
        return torch.stack([u, self.coloured(u, outer)])

    def coloured(self, u: Tensor, outer: int) -> Tensor:
        """u times the colour of its sample, the sample axis behind ``outer`` numbers."""
        return (u.reshape(outer, len(self.colours), -1) * self.colours[:, None].to(u.dtype)).reshape(u.shape)

    def find(self, pair: Any, hint: int) -> tuple[int | None, bool]:
        """(outer, certain): how many numbers stand before the sample axis, None if the colours are mixed."""
        u, twin = pair
        samples, shape = len(self.colours), u.shape
        if u.numel() % samples or not u.numel():
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
