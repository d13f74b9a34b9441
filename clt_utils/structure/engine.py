"""Running the structure engine: blocks of samples, one pass forward, one walk back, and what guards them.

The walk is in ``graph``, what happens at each layer in ``rules``.
"""

import contextlib
import math
import warnings
import weakref
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap
from torch.nn.attention import SDPBackend, sdpa_kernel

from .._checks import require
from .graph import Plan, leaves, nodes_below, nodes_of, plan_for, walk
from .rules import quietly

Directions = Callable[[Tensor, slice], Tensor]

BLOCK = 3000000
"""Numbers in the largest tensor of a block of samples: enough to keep the cores busy, few enough to stay near the cache."""


def blocks(model: nn.Module, inputs: Tensor, directions: Directions | None = None, dtype: torch.dtype | None = None,
           chunk: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """Forward and back, block of samples by block of samples.

    Args:
        model: An ``nn.Module`` whose samples do not interact.
        inputs: (B, ...).
        directions: outputs (b, K), a slice of the samples -> cotangents (D, b, K); by default the K unit vectors.
        dtype: Compute in this precision rather than in the model's own.
        chunk: Samples a block; by default as many as keep the largest tensor small.

    Yields:
        For each block the outputs (b, K) and the Gram matrices V J_x J_xᵀ Vᵀ (b, D, D) in float64, V the directions.
    """
    plans, sizes = _plans.setdefault(model, ({}, {}))
    kind = inputs.shape[1:], directions is None, dtype
    size, start = chunk or sizes.get(kind, 2), 0
    while start < len(inputs):
        left = len(inputs) - start
        part = slice(start, start + (size if chunk else math.ceil(left / math.ceil(left / size))))  # blocks of even size
        try:
            with full_precision():
                outputs, gram, width = _block(model, plans, inputs[part], part, directions, dtype)
        except RuntimeError as error:
            size = min(size, left)
            if size == 1 or not _out_of_memory(error):
                raise
            size //= 2
            warnings.warn(f"Out of memory; going on with {size} sample{'s' * (size > 1)} at a time.", stacklevel=3)
            chunk = size
            continue
        start += len(outputs)
        if chunk is None:
            size = sizes[kind] = max(1, BLOCK // (gram.shape[-1] * width))
        yield outputs, gram


_plans: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()  # model -> ({form of a graph: Plan}, {kind of walk: samples a block})


@contextlib.contextmanager
def full_precision() -> Iterator[None]:
    """float32 means float32: no TF32 or bfloat16 inside products."""
    before, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn
    torch.set_float32_matmul_precision("highest")
    try:
        with cudnn.flags(cudnn.enabled, cudnn.benchmark, deterministic=cudnn.deterministic, allow_tf32=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)


def _out_of_memory(error: RuntimeError) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or "not enough memory" in str(error) or "can't allocate memory" in str(error)


def _block(model: nn.Module, plans: dict[tuple, Plan], x: Tensor, part: slice, directions: Directions | None,
           dtype: torch.dtype | None) -> tuple[Tensor, Tensor, int]:
    """One block of samples -> outputs (b, K), Gram matrices (b, D, D), and the plan's width."""
    outputs, params = forward(model, x, dtype)
    samples = len(x)
    with torch.no_grad():
        order = nodes_of(outputs.grad_fn, params)
        form = tuple(node.name() for node in order), tuple(params.values()), tuple(x.shape[1:]), samples == 1, outputs.dtype
        plan, values, first = plans.get(form), outputs.detach(), None
        if plan is None:
            require(not any("CheckpointFunction" in node.name() for node in nodes_below(outputs.grad_fn)),
                    "a model with reentrant checkpointing, which hides its parameters from the graph",
                    "a graph that reaches every parameter", "Use `checkpoint(..., use_reentrant=False)`, or none here.")
            plan = plan_for(order, params, samples, outputs)
            first = by_itself(model, x, dtype, values)
        K = outputs.shape[1]
        g = (directions(values, part) if directions else torch.eye(K).to(values)[:, None].expand(K, samples, K))
        gram = walk(order, plan, params, samples, g)
    if plan.general:
        gram += general(model, x, dtype, plan.general, g)
    if first is not None:
        plan, gram = verified(model, plan, x, dtype, first, g, gram)
        if plan.settled:
            plans[form] = plan
    return values, gram, plan.width


def forward(model: nn.Module, x: Tensor, dtype: torch.dtype | None = None) -> tuple[Tensor, dict[int, str]]:
    """Run the model -> outputs (B, K) with their graph, and its trainable parameters {id: name}.

    The model stays as it is: another precision and buffers that a pass may write to are put in its place for this pass only.
    """
    swapped: dict[str, Tensor] = {}
    if dtype is not None:
        swapped = {name: p.detach().to(dtype).requires_grad_(p.requires_grad) for name, p in model.named_parameters()}
        x = x.to(dtype) if x.is_floating_point() else x
    if dtype is not None or model.training:
        swapped |= {name: b.to(dtype, copy=True) if dtype and b.is_floating_point() else b.clone()
                    for name, b in model.named_buffers()}
    with torch.inference_mode(False), torch.enable_grad(), sdpa_kernel(SDPBackend.MATH), \
            torch.autocast(x.device.type, enabled=False):
        x = x.clone() if x.is_inference() else x
        outputs = functional_call(model, swapped, (x,)) if swapped else model(x)
    require(isinstance(outputs, torch.Tensor) and outputs.dim() == 2 and len(outputs) == len(x),
            f"a model whose output is {tuple(outputs.shape) if isinstance(outputs, torch.Tensor) else type(outputs).__name__} "
            f"for {len(x)} samples", f"outputs of shape ({len(x)}, K)", "Wrap the model so that it returns one row a sample.")
    require(outputs.requires_grad, "outputs that depend on no trainable parameter", "at least one that they depend on",
            "Look for `torch.no_grad`, `.detach()` or frozen parameters.")
    params = {id(p): name for name, p in (swapped if dtype else dict(model.named_parameters())).items() if p.requires_grad}
    return outputs, params


def general(model: nn.Module, inputs: Tensor, dtype: torch.dtype | None, names: set[str], g: Tensor) -> Tensor:
    """The share of the parameters ``names``, from their Jacobian, one sample at a time: exact for whatever autograd can do."""
    grams = []
    for b, x in enumerate(inputs.split(1)):
        outputs, params = forward(model, x, dtype)
        chosen = [p for p in leaves(outputs.grad_fn) if params.get(id(p)) in names]

        def rows(v: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(outputs, chosen, v[None], retain_graph=True, materialize_grads=True)

        try:
            with quietly():
                parts = list(vmap(rows)(g[:, b]))
        except RuntimeError:
            parts = [torch.stack(r) for r in zip(*map(rows, g[:, b]))]
        jacobian = torch.cat([part.flatten(1) for part in parts], 1).double()
        grams.append(jacobian @ jacobian.T)
    return torch.stack(grams)


def by_itself(model: nn.Module, x: Tensor, dtype: torch.dtype | None, outputs: Tensor) -> tuple[Tensor, dict[int, str]]:
    """The first sample alone, through the model; refuse a model whose output then differs."""
    try:
        alone, params = forward(model, x[:1], dtype)
        close = bool((alone.detach() - outputs[:1]).abs().max() <= 1e3 * torch.finfo(outputs.dtype).eps * outputs.abs().max())
    except (ValueError, RuntimeError):  # batch normalization refuses a single sample
        close = False
    require(close, "a model whose output for a sample changes with the rest of the batch, or from one pass to the next",
            "samples that do not interact", "J_x is not defined otherwise: use `model.eval()`, layer or group norm rather than "
            "batch norm, attention within a sample, and no dropout.")
    return alone, params


def verified(model: nn.Module, plan: Plan, x: Tensor, dtype: torch.dtype | None, first: tuple[Tensor, dict[int, str]], g: Tensor,
             gram: Tensor) -> tuple[Plan, Tensor]:
    """Compare the first sample with one plain backward pass by autograd; where they differ, go on without rules."""
    alone, params = first
    eps = torch.finfo(g.dtype).eps
    v = torch.linspace(-1, 1, len(g) + 1)[1:].to(g)
    gradients = torch.autograd.grad(alone, [p for p in leaves(alone.grad_fn) if id(p) in params], (v @ g[:, 0])[None])
    expected = sum(gradient.double().square().sum() for gradient in gradients)
    v = v.double()
    if (v @ gram[0] @ v - expected).abs() <= 1e4 * eps * v.square().sum() * gram[0].diagonal().sum():
        return plan, gram
    warnings.warn("The rules of the structure engine and autograd disagree on this model; going on without the rules, slowly.",
                  stacklevel=5)
    plan = plan._replace(sites=[(1, (None,) * len(wants)) for _, wants in plan.sites], general=set(params.values()))
    return plan, general(model, x, dtype, plan.general, g)
