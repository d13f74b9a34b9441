"""A device that is not the CPU, for machines without a GPU: its tensors keep their numbers on the CPU, and refuse to meet the CPU's.

So what a GPU would refuse is refused here too: tensors of two devices in one operation, a random generator of the other device, a
numpy array of what does not lie on the CPU. It must be set up before anything else asks autograd for a gradient; ``conftest`` does so
where the variable CLT_PRETENDED is set. What it stands on is private to torch, and not in every version.
"""

import torch
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_iter, tree_map

DEVICE = torch.device("cpu")  # until ``set_up``
FLOAT64 = True  # not every device has it
aten = torch.ops.aten
MEETING = {aten._to_copy, aten.copy_, aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}  # as on a GPU


def set_up():
    """Make the device known to torch."""
    global DEVICE
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend
    _setup_privateuseone_for_python_backend("pretended")
    DEVICE = torch.device("pretended:0")


class Pretended(torch.Tensor):
    """A tensor there, around the one on the CPU that has its numbers."""

    @staticmethod
    def __new__(cls, numbers):
        tensor = torch.Tensor._make_wrapper_subclass(
            cls, numbers.shape, strides=numbers.stride(), storage_offset=numbers.storage_offset(), dtype=numbers.dtype,
            layout=numbers.layout, device=DEVICE, requires_grad=numbers.requires_grad)
        tensor.numbers = numbers
        return tensor

    def __repr__(self):
        return f"Pretended({self.numbers})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return computed(func, args, kwargs or {})


def computed(func, args, kwargs):
    """An operation, on the CPU, after what a GPU would refuse has been refused."""
    given = [x for x in tree_iter((args, kwargs)) if isinstance(x, torch.Tensor)]
    there = any(isinstance(x, Pretended) for x in given)
    device = torch.device(kwargs.get("device") or (DEVICE if there else "cpu"))
    if there and func._overloadpacket not in MEETING and any(x.dim() and not isinstance(x, Pretended) for x in given):
        raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two, in {func}")
    if kwargs.get("generator") is not None and kwargs["generator"].device.type != device.type:
        raise RuntimeError(f"Expected a {device.type} generator, in {func}")
    args, plain = tree_map(_on_the_cpu, args), tree_map(_on_the_cpu, kwargs)
    result = func(*args, **plain)
    if device.type == "cpu":
        return result
    if not FLOAT64 and any(isinstance(x, torch.Tensor) and x.dtype == torch.float64 for x in tree_iter(result)):
        raise TypeError(f"The device has no float64, in {func}")
    return tree_map(lambda x: Pretended(x) if isinstance(x, torch.Tensor) else x, result)


def _on_the_cpu(x):
    return x.numbers if isinstance(x, Pretended) else torch.device("cpu") if isinstance(x, torch.device) else x


class Here(TorchDispatchMode):
    """While it lasts, tensors can be made and moved there."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        there = any(isinstance(x, Pretended) for x in tree_iter((args, kwargs)))
        asked = kwargs.get("device") is not None and torch.device(kwargs["device"]).type == DEVICE.type
        if not (there or asked):
            return func(*args, **kwargs)
        result = computed(func, args, kwargs)
        aliases = there and func._overloadpacket is not aten._to_copy and "device" not in kwargs
        return return_and_correct_aliasing(func, args, kwargs, result) if aliases else result
