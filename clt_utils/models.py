"""The networks of the book, none of whose samples interact: Models A and B, LeNet, ResNet-18 and ViT, without BatchNorm."""

import itertools
from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn.utils import prune

from ._checks import require, require_integer, require_kind, require_name, require_number


def build(name: str, num_classes: int, in_channels: int, image_size: int, depth: int | None = None, width: int | None = None,
          skip: bool | None = None, norm: str | None = None, gain: float = 1.0, sparsity: float = 0.0) -> nn.Module:
    """A freshly initialized network that maps images (B, in_channels, image_size, image_size) to outputs (B, num_classes).

    Weights come from PyTorch's global random state; call ``torch.manual_seed`` first to fix them.

    Args:
        name: "model-a" (plain repeated blocks), "model-b" (the same with identity skips), "lenet", "resnet18" or "vit".
        num_classes: Number K of classes.
        in_channels: Channels of the images.
        image_size: Side of the images in pixels.
        depth: Number n_d of repeated blocks; of Models A and B (4 by default) and of ViT (6).
        width: Number n_w of channels of each block; of Models A and B (16 by default) and of ViT (192, a multiple of 64).
        skip: True turns "model-a" into "model-b"; None leaves the name's choice.
        norm: Of Models A and B: "layer" puts a layer norm over the whole feature map, ``GroupNorm(1, channels)``, after the
            convolution of every block; None puts nothing there.
        gain: Of Models A and B: what PyTorch's initial weights are multiplied by; the biases are left as they are.
        sparsity: Of Models A and B: this share of each layer's weights, the smallest ones, is set to zero by a mask that
            stays: the pruned weights are no part of θ any more (slug ``sparsity``). Biases are not pruned.

    Returns:
        An ``nn.Module``.

    Raises:
        ValueError: On an unknown name, or a number that the network cannot have.

    Example:
        >>> net = build("model-b", num_classes=10, in_channels=1, image_size=28, depth=2, width=8)
        >>> sum(p.numel() for p in net.parameters())
        5234
    """
    require_name("model", name, NAMES)
    for what, value in {"num_classes": num_classes, "in_channels": in_channels, "image_size": image_size}.items():
        require_integer(what, value, 1)
    require_integer("depth", depth, 1, optional=True)
    require_integer("width", width, 1, optional=True)
    require_kind("skip", skip, (bool, type(None)), "True, False or None")
    require_kind("norm", norm, (str, type(None)), '"layer" or None')
    require(norm in (None, "layer"), f"norm={norm!r}", '"layer" or None', "Batch norm is missing on purpose: it couples the samples.")
    require_number("gain", gain, "(0, ∞)")
    require_number("sparsity", sparsity, "[0, 1)")
    if name in ("model-a", "model-b"):
        require(name == "model-a" or skip is not False, "model-b with skip=False", "skips", 'Model B without skips is "model-a".')
        model = _repeated_blocks(num_classes, in_channels, image_size, depth or 4, width or 16, name == "model-b" or bool(skip), norm)
        return _scaled_and_pruned(model, float(gain), float(sparsity))
    chosen = {"skip": (skip, None), "norm": (norm, None), "gain": (gain, 1.0), "sparsity": (sparsity, 0.0)}
    for what, (given, usual) in chosen.items():
        require(given == usual, f"{what}={given!r} for {name}", str(usual), f"Only Models A and B have a {what} to choose.")
    if name == "vit":
        return _vit(num_classes, in_channels, image_size, depth or 6, width or 192)
    require(depth is None and width is None, f"depth={depth}, width={width} for {name}", "None", f"The shape of {name} is fixed.")
    return (_lenet if name == "lenet" else _resnet18)(num_classes, in_channels, image_size)


NAMES = ("model-a", "model-b", "lenet", "resnet18", "vit")


def dense(widths: Sequence[int], dropout: float = 0.0) -> nn.Sequential:
    """A freshly initialized network of linear layers with ReLU between them.

    Weights come from PyTorch's global random state, as in ``build``.

    Args:
        widths: Of the inputs, which are flattened first, of each hidden layer, and of the outputs.
        dropout: After each ReLU; 0 puts nothing there.

    Returns:
        An ``nn.Sequential`` of Flatten, then Linear and ReLU (and Dropout) for each hidden layer, then Linear.

    Raises:
        TypeError: If ``widths`` is no list of integers.
        ValueError: On fewer than two widths, or numbers out of range.

    Example:
        >>> [type(layer).__name__ for layer in dense([64, 32, 10])]
        ['Flatten', 'Linear', 'ReLU', 'Linear']
    """
    require_kind("widths", widths, (list, tuple), "a list of integers, such as [64, 32, 10]")
    require(len(widths) >= 2, f"widths={widths}", "at least two, of inputs and outputs")
    for width in widths:
        require_integer("width", width, 1)
    require_number("dropout", dropout, "[0, 1)")
    hidden = [layer for before, after in itertools.pairwise(widths[:-1])
              for layer in (nn.Linear(before, after), nn.ReLU(), *[nn.Dropout(dropout)] * (dropout > 0))]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(widths[-2], widths[-1]))


class Skip(nn.Module):
    """h ↦ h + F(h), with nothing after the sum (slug ``depth-skip``).

    Example:
        >>> from torch import ones
        >>> Skip(nn.ReLU())(ones(2))
        tensor([2., 2.])
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, h: Tensor) -> Tensor:
        return h + self.block(h)


def _repeated_blocks(num_classes: int, in_channels: int, image_size: int, depth: int, width: int, skip: bool,
                     norm: str | None) -> nn.Module:
    """Model A, or B with ``skip``: a 4×4 patch stem, ``depth`` blocks of 3×3 convolution (norm) and ReLU, a linear head."""
    require(image_size >= 4, f"image_size={image_size}", "at least 4 for Models A and B")

    def block() -> nn.Module:
        return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), *[nn.GroupNorm(1, width)] * (norm == "layer"), nn.ReLU())

    return nn.Sequential(
        nn.Conv2d(in_channels, width, 4, stride=4), nn.ReLU(),
        *[Skip(block()) if skip else block() for _ in range(depth)],
        nn.Flatten(), nn.Linear(width * (image_size // 4) ** 2, num_classes))


def _scaled_and_pruned(model: nn.Module, gain: float, sparsity: float) -> nn.Module:
    for layer in [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]:
        layer.weight.data.mul_(gain)
        if sparsity:
            prune.l1_unstructured(layer, "weight", sparsity)
    return model


def _lenet(num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """LeNet-5 with ReLU and max pooling; no normalization."""
    side = (image_size // 2 - 4) // 2
    require(side >= 1, f"image_size={image_size}", "at least 12 for lenet")
    return nn.Sequential(
        nn.Conv2d(in_channels, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(16 * side**2, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, num_classes))


def _resnet18(num_classes: int, in_channels: int, image_size: int) -> nn.Module:
    """torchvision's ResNet-18 with a layer norm over each whole feature map, and a 3×3 stem without pooling for small images."""
    from torchvision.models.resnet import BasicBlock, ResNet  # imported here: the other models need not wait for it

    model = ResNet(BasicBlock, [2, 2, 2, 2], num_classes, norm_layer=lambda channels: nn.GroupNorm(1, channels))
    model.conv1 = nn.Conv2d(in_channels, 64, 3, padding=1, bias=False)
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")  # as torchvision does
    model.maxpool = nn.Identity()
    return model


def _vit(num_classes: int, in_channels: int, image_size: int, depth: int, width: int) -> nn.Module:
    """torchvision's VisionTransformer on 4×4 patches, without dropout, heads of 64 channels."""
    from torchvision.models import VisionTransformer  # imported here, as above

    require(image_size % 4 == 0, f"image_size={image_size}", "a multiple of 4 for vit, whose patches are 4×4")
    require(width % 64 == 0, f"width={width}", "a multiple of 64 for vit, whose heads have 64 channels")
    model = VisionTransformer(image_size, 4, depth, width // 64, width, 4 * width, num_classes=num_classes)
    model.conv_proj = nn.Conv2d(in_channels, width, 4, stride=4)
    # As torchvision does for three channels; its cut at ±2, which is eight deviations or more, is left out: PyTorch 2.14 draws
    # a cut normal otherwise than 2.11, so that the same seed would give another network, and a record another run.
    nn.init.normal_(model.conv_proj.weight, std=(in_channels * 16) ** -0.5)
    nn.init.zeros_(model.conv_proj.bias)
    return model
