"""Architecture: what it does to the structure matrix."""

import math

import torch
from scipy import stats
from torch import nn
from torch.func import functional_call, jacrev

from ..bounds import near_isometry_bounds
from ..models import Skip
from ..structure import extreme_eigenvalues, structure_matrix
from .core import at_least, at_most, coverage, identity, rarely, statement
from .instances import normal, random_network

CHAPTER = "trainability/architecture"


def _seeded(rng, make):
    """The module that ``make()`` builds, in float64, its weights drawn from ``rng``."""
    torch.manual_seed(int(rng.integers(2**31)))
    return make().double()


def _top_singular_value(matrix):
    return torch.linalg.matrix_norm(matrix, 2)


def _layerwise(model, x):
    """A plain network at one input x (d,) -> layer by layer the inputs a_{l−1}, pre-activations z_l, and G_l = ∂f/∂z_l (K, ·)."""
    inputs, sums, h = [], [], x
    for layer in model:
        if isinstance(layer, nn.Linear):
            inputs.append(h.detach())
            h = layer(h)
            sums.append(h)
        else:
            h = layer(h)
    rows = [torch.autograd.grad(f, sums, retain_graph=True) for f in h]
    return inputs, sums, [torch.stack(columns) for columns in zip(*rows)]


def _spread(A):
    return _top_singular_value(A).max()


def _dominates(name, larger, smaller):
    """The claim larger ⪰ smaller, up to rounding relative to the larger: its smallest eigenvalue is 0 or more."""
    difference = extreme_eigenvalues(larger - smaller)[0] / _spread(larger)
    return at_least(name, difference, bound=0.0, unit=1.0)


@statement("mlp-structure", "A = Σ_l (‖a_{l−1}‖² + 1) G_l G_lᵀ, layer by layer", kind="proposition",
           assumptions=("a plain network of dense layers with bias", "all weights trainable, none shared"),
           chapter=CHAPTER, trials=30, words="593d8d11")
def mlp_structure(rng):
    model, inputs, _ = random_network(rng)
    activations, _, sensitivities = _layerwise(model, inputs[0])
    layers = [(a.square().sum() + 1) * G @ G.mT for a, G in zip(activations, sensitivities)]
    yield identity("sum over layers", sum(layers), structure_matrix(model, inputs[:1])[0])


class _Twice(nn.Module):
    """One layer, used twice in a row: x ↦ tanh(W tanh(Wx + b) + b)."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        return self.layer(self.layer(x).tanh()).tanh()


@mlp_structure.breaks("A layer used twice: its gradients add up before they are multiplied, and the cross terms count")
def _(rng):
    shared = _seeded(rng, lambda: nn.Linear(3, 3))
    unrolled = nn.Sequential(shared, nn.Tanh(), shared, nn.Tanh())
    x = normal(rng, 3)
    activations, _, sensitivities = _layerwise(unrolled, x)
    layers = [(a.square().sum() + 1) * G @ G.mT for a, G in zip(activations, sensitivities)]
    yield identity("sum over layers", sum(layers), structure_matrix(_Twice(shared), x[None])[0])


def _plain_chain(rng, depth, width, gain):
    """Equal dense layers with tanh, each weight of spectral norm ``gain``."""
    model = _seeded(rng, lambda: nn.Sequential(*[m for _ in range(depth) for m in (nn.Linear(width, width), nn.Tanh())]))
    for layer in model[::2]:
        layer.weight.data *= gain / _top_singular_value(layer.weight.data)
    return model


def _product_bounds(model, x):
    """σ_max(G_l) of each layer and its bound ‖φ'_D‖ Π_{j>l} ‖W_j‖ ‖φ'_{j−1}‖, φ'_l being the slopes of layer l's activation."""
    _, sums, sensitivities = _layerwise(model, x)
    slopes = [jacrev(model[1])(z.detach()).abs().max() for z in sums]
    norms = [_top_singular_value(layer.weight.detach()) for layer in model[::2]]
    bounds, product = [], 1.0
    for slope, norm in zip(reversed(slopes), reversed(norms)):
        bounds.insert(0, product * slope)
        product = product * slope * norm
    return torch.stack([_top_singular_value(G) for G in sensitivities]), torch.stack(bounds)


@statement("depth-plain", "Without skips a layer's sensitivity is at most the product of the gains above it", kind="proposition",
           paper="by topic", assumptions=("a plain chain of dense layers and entrywise activations",
                                          "gains below one for «vanishes geometrically»"), chapter=CHAPTER, trials=20,
           words="8abecf8b")
def depth_plain(rng):
    depth, width, gain = int(rng.integers(2, 16)), int(rng.integers(2, 8)), rng.uniform(0.3, 1.5)
    model, x = _plain_chain(rng, depth, width, gain), normal(rng, width)
    sensitivities, bounds = _product_bounds(model, x)
    yield at_most("product of gains", sensitivities, bound=bounds)
    above = torch.arange(depth - 1, -1, -1, dtype=torch.float64)
    yield at_most("geometric", sensitivities, bound=gain**above)  # tanh has slopes of at most one


@depth_plain.witness("One unit a layer, where tanh is steepest")
def _(rng):
    model = _plain_chain(rng, 5, 1, 0.7)
    for layer in model[::2]:
        layer.bias.data.zero_()
    sensitivities, bounds = _product_bounds(model, torch.zeros(1, dtype=torch.float64))
    yield at_most("product of gains", sensitivities, bound=bounds)
    yield at_most("geometric", sensitivities, bound=0.7 ** torch.arange(4, -1, -1, dtype=torch.float64))


@depth_plain.breaks("Skips: the same weights in h + F(h) keep the first layer's sensitivity above the product")
def _(rng):
    plain, x = _plain_chain(rng, 12, 4, 0.5), normal(rng, 4)
    skipped = [Skip(plain[k:k + 2]) for k in range(0, 24, 2)]
    after_first = jacrev(nn.Sequential(*skipped[1:]))(skipped[0](x).detach())
    yield at_most("product of gains", _top_singular_value(after_first), bound=0.5**11)


@depth_plain.breaks("Weights alone, slopes forgotten: GELU is steeper than one around √2")
def _(rng):
    model = nn.Sequential(*[m for _ in range(8) for m in (nn.Linear(1, 1), nn.GELU())]).double()
    for layer in model[::2]:
        layer.weight.data.fill_(1.0)
        layer.bias.data.zero_()
    model[0].bias.data.fill_(2**0.5)
    for layer in model[2::2]:
        layer.bias.data.fill_(2**0.5 - nn.functional.gelu(torch.tensor(2**0.5)).item())
    _, _, sensitivities = _layerwise(model, torch.zeros(1, dtype=torch.float64))
    yield at_most("product of norms", _top_singular_value(sensitivities[0]), bound=1.0)


def _every_layer(rng, n_out, n_in, c):
    """All matrices whose n_out rows are among ±√c q_k, q_k the rows of a random orthogonal matrix, (N, n_out, n_in).

    Drawn at random, the rows are symmetric and independent, and their entries are uncorrelated with variance c/n_in.
    """
    Q, _ = torch.linalg.qr(normal(rng, n_in, n_in))
    index = torch.cartesian_prod(*[torch.arange(2 * n_in)] * n_out).reshape(-1, n_out)
    return c**0.5 * torch.cat([Q, -Q])[index]


def _after(layers, x, activation=torch.relu, bias=0.0):
    """a_0, a_1, … of every choice of the layers' matrices: a new axis for each layer, (…, n_l); means over all are expectations."""
    activations = [x]
    for W in layers:
        activations.append(activation(torch.einsum("koi,...i->...ko", W, activations[-1]) + bias))
    return activations


def _mean_square(a):
    return a.square().mean()


def _backwards(layers, activations, second):
    """E[uuᵀ | the layers up to l] for u = ∂f/∂a_l, l = D … 0, each (…, n_l, n_l), from ``second`` = E[wwᵀ] of the head w."""
    moments = [second.expand(*activations[-1].shape[:-1], *second.shape)]
    for W, a in zip(reversed(layers), reversed(activations[1:])):
        passed = (a > 0).double()[..., None] * W
        moments.append((passed.mT @ moments[-1] @ passed).mean(-3))
    return moments[::-1]


@statement("variance-propagation", "A random ReLU layer multiplies the mean square by c/2, forwards and backwards", kind="proposition",
           assumptions=("ReLU, no biases, nothing but dense layers", "the layers' rows are independent of each other",
                        "a row and its negative are equally likely", "a row's entries are uncorrelated, of variance c over the fan-in"),
           chapter=CHAPTER, trials=8, words="e5b12d2c")
def variance_propagation(rng):
    c, widths = rng.uniform(0.2, 4.0), [int(n) for n in rng.integers(2, 4, size=3)] + [2]
    layers = [_every_layer(rng, n_out, n_in, c) for n_in, n_out in zip(widths, widths[1:])]
    x = normal(rng, widths[0])
    activations = _after(layers, x)
    for before, after in zip(activations, activations[1:]):
        yield identity("forwards, over all weights", _mean_square(after), c / 2 * _mean_square(before))
    eye = torch.eye(2, dtype=torch.float64)
    for left, (a, moment) in enumerate(zip(reversed(activations), reversed(_backwards(layers, activations, c / 2 * eye)))):
        alive, n = moment[a.any(-1)], a.shape[-1]
        yield identity("backwards, given the layers below", n * alive, (c / 2) ** left * c * torch.eye(n).double().expand_as(alive))
    for name, c, start in (("PyTorch's default: c = 1/3", 1 / 3, None), ("He's: c = 2", 2.0, nn.init.kaiming_normal_)):
        a = x.expand(20_000, -1)
        for n_out in (3, 4):
            layer = _seeded(rng, lambda: nn.Linear(a.shape[1], len(a) * n_out, bias=False))  # one layer for each draw
            if start:
                start(layer.weight)
            W = layer.weight.detach().view(len(a), n_out, -1)
            a = torch.relu((W @ a[..., None])[..., 0])
        squares = a.square().mean(-1)
        off = (squares.mean() - (c / 2) ** 2 * _mean_square(x)).abs()
        yield at_most(name + ", in standard errors", off / (squares.std() / len(a) ** 0.5), bound=5.0)


def _two_layers(rng, c=2.0):
    return [_every_layer(rng, 2, 3, c), _every_layer(rng, 2, 2, c)], normal(rng, 3)


@variance_propagation.witness("All signs of the weights: the two identities are exact", {
    "PyTorch's default": "the bound is five standard errors of a sample, no bound of the statement",
    "He's": "the bound is five standard errors of a sample, no bound of the statement"})
def _(rng):
    (first, _), x = _two_layers(rng)
    before, after = _after([first], x)
    yield identity("forwards, over all weights", _mean_square(after), _mean_square(before))


@variance_propagation.breaks("Weights with a mean: a row and its negative are no longer equally likely")
def _(rng):
    (first, second), x = _two_layers(rng)
    _, a, b = _after([first, second + 0.5], x)
    yield identity("forwards", _mean_square(b), (2 + 2 * 0.5**2) / 2 * _mean_square(a))  # c of E w² = (c + nm²)/n


@variance_propagation.breaks("Mean zero is not symmetry: weights 2 and −1 with probabilities 1/3 and 2/3, of variance 2")
def _(rng):
    W = torch.tensor([2.0, -1.0, -1.0]).double().view(3, 1, 1)
    x, a = _after([W], torch.ones(1).double())
    yield identity("forwards", _mean_square(a), _mean_square(x))


@variance_propagation.breaks("An activation that is not positively homogeneous: tanh")
def _(rng):
    (first, _), x = _two_layers(rng)
    _, a = _after([first], x, torch.tanh)
    yield identity("forwards", _mean_square(a), _mean_square(x))


@variance_propagation.breaks("Biases: they put the same floor under every layer")
def _(rng):
    (first, _), x = _two_layers(rng, c=1 / 3)
    _, a = _after([first], x, bias=0.3)
    yield identity("forwards", _mean_square(a), _mean_square(x) / 6)


@variance_propagation.breaks("The same weights in every layer, as in a recurrent network")
def _(rng):
    W = _every_layer(rng, 1, 1, 2.0)
    _, a = _after([W], normal(rng, 1))
    again = torch.relu((W @ a[..., None])[..., 0])
    yield identity("forwards", _mean_square(again), _mean_square(a))


def _branch_slopes(blocks, h):
    """‖∂F_l‖ at the input of each block of h ↦ h + F_l(h), (D,)."""
    slopes = []
    for block in blocks:
        slopes.append(_top_singular_value(jacrev(block.block)(h)))
        h = block(h).detach()
    return torch.stack(slopes)


def _skip_chain(rng, depth, width, slope):
    """Blocks h ↦ h + W tanh(Vh + c), scaled so that every ‖∂F‖ is at most ``slope`` (tanh's own slope is at most one)."""
    def block():
        return nn.Sequential(nn.Linear(width, 2 * width), nn.Tanh(), nn.Linear(2 * width, width))

    model = _seeded(rng, lambda: nn.Sequential(*[Skip(block()) for _ in range(depth)]))
    for module in model:
        first, _, last = module.block
        last.weight.data *= slope / (_top_singular_value(last.weight.data) * _top_singular_value(first.weight.data))
    return model


@statement("depth-skip", "Identity skips keep the chain's singular values in [(1−b)^D, (1+b)^D]", kind="proposition",
           paper="by topic", assumptions=("h⁺ = h + F(h), equal widths, nothing after the sum", "‖∂F‖ ≤ b < 1 at every block",
                        "b = c/D with c < D for «at any depth»"), chapter=CHAPTER, trials=12, words="fa99aff8")
def depth_skip(rng):
    width, depth, c = int(rng.integers(2, 6)), int(2 ** rng.integers(1, 6)), rng.uniform(0.2, 1.5)
    model, h = _skip_chain(rng, depth, width, c / depth), normal(rng, width)
    b = _branch_slopes(model, h).max()
    singular = torch.linalg.svdvals(jacrev(model)(h))
    yield at_most("branches", b, bound=c / depth)
    yield at_least("lower", singular[-1], bound=(1 - b) ** depth)
    yield at_most("upper", singular[0], bound=(1 + b) ** depth)
    yield at_least("lower, any depth", singular[-1], bound=(1 - c / 2) ** 2)  # the smallest of (1 − c/D)^D over D ≥ 2
    yield at_most("upper, any depth", singular[0], bound=math.exp(c))


@depth_skip.witness("One unit: all branches add, or all take away")
def _(rng):
    for sign, depth, c in ((1, 64, 0.5), (-1, 2, 1.5)):
        model, h = _skip_chain(rng, depth, 1, c / depth), torch.zeros(1, dtype=torch.float64)
        for module in model:
            module.block[0].weight.data.fill_(1.0), module.block[0].bias.data.zero_()
            module.block[2].weight.data.fill_(sign * c / depth / 2), module.block[2].bias.data.zero_()
        b = _branch_slopes(model, h).max()
        singular = torch.linalg.svdvals(jacrev(model)(h))
        yield at_most("branches", b, bound=c / depth)
        if sign > 0:
            yield at_most("upper", singular[0], bound=(1 + b) ** depth)
            yield at_most("upper, any depth", singular[0], bound=math.exp(c))
        else:
            yield at_least("lower", singular[-1], bound=(1 - b) ** depth)
            yield at_least("lower, any depth", singular[-1], bound=(1 - c / 2) ** 2)


@depth_skip.breaks("ReLU after the sum, as in the original residual network: what it cuts is lost")
def _(rng):
    model, h = _skip_chain(rng, 8, 4, 0.1), normal(rng, 4) - 1
    relued = nn.Sequential(*[m for block in model for m in (block, nn.ReLU())])
    yield at_least("lower", torch.linalg.svdvals(jacrev(relued)(h))[-1], bound=0.9**8)


class _Projected(nn.Module):
    """h ↦ Ph + F(h): a shortcut with weights of its own."""

    def __init__(self, block, width):
        super().__init__()
        self.block, self.shortcut = block, nn.Linear(width, width, bias=False)

    def forward(self, h):
        return self.shortcut(h) + self.block(h)


@depth_skip.breaks("Projection shortcuts: a random matrix in place of the identity is a plain chain again")
def _(rng):
    model, h = _skip_chain(rng, 8, 4, 0.1), normal(rng, 4)
    projected = _seeded(rng, lambda: nn.Sequential(*[_Projected(block.block, 4) for block in model]))
    yield at_least("lower", torch.linalg.svdvals(jacrev(projected)(h))[-1], bound=0.9**8)


def _ball_gram(rng, draws, K, P):
    """A = JJᵀ with the K rows of J uniform in the unit ball of ℝ^P, (draws, K, K)."""
    rows = normal(rng, draws, K, P)
    rows = rows / rows.norm(dim=-1, keepdim=True) * torch.from_numpy(rng.random((draws, K, 1))) ** (1 / P)
    return rows @ rows.mT


@statement("width-near-isometry", "With many more parameters than outputs, independent rows are nearly orthogonal",
           kind="theorem", paper="by topic", assumptions=("the K rows of J are independent, uniform in a ball of ℝ^P",
                                                          "2 ln K ≤ P"),
           chapter=CHAPTER, trials=150, draws_at_once=True, words="4458b905")
def width_near_isometry(rng, trials):
    for K, P in ((2, 40), (5, 300), (10, 400), (10, 2000)):
        A = _ball_gram(rng, trials, K, P)
        yield coverage(f"K={K}, P={P}: probability 1 − 3/(2K)", _inside(A, K, P), trials, at_least=1 - 1.5 / K)
    K, P, shrunk, t, draws = 2, 400, 0.05, 0.075, 20 * trials
    low, high = extreme_eigenvalues(_ball_gram(rng, draws, K, P))
    inside = (low >= (1 - shrunk) ** 2 - (K - 1) * t) & (high <= 1 + (K - 1) * t)
    promised = 1 - K * (1 - shrunk) ** P - K * (K - 1) / 2 * (1 - t**2) ** ((P - 1) / 2)
    yield coverage("K=2, P=400: a window of our choice", int(inside.sum()), draws, at_least=promised)


def _inside(A, K, P):
    """How many of the matrices have all eigenvalues between the bounds."""
    (low, high), (lower, upper) = extreme_eigenvalues(A), near_isometry_bounds(K, P)
    return int(((low >= lower) & (high <= upper)).sum())


@width_near_isometry.witness("The three steps of the proof, each where it is nearly attained; all three at once never are")
def _(rng):
    K, P = 10**18, 10**8
    lower, upper = near_isometry_bounds(K, P)
    slope = (upper - 1) / (K - 1)  # of one inner product, √(6 ln K/(P − 1)): but for a share 1/K³ of all pairs
    between = stats.beta(0.5, (P - 1) / 2)  # the squared inner product of two directions
    yield rarely("two rows", lambda t: between.sf((t * slope) ** 2), delta=float(K) ** -3)
    K, P = 50, 5000
    lower, upper = near_isometry_bounds(K, P)
    shortest = lower + upper - 1  # (1 − 2 ln K/P)², a row's squared length: but for a share 1/K² of all rows
    yield rarely("a short row", lambda t: min(1.0, (1 - t * (1 - shortest**0.5)) ** P), delta=K**-2.0)
    alike = torch.full((K, K), (upper - 1) / (K - 1), dtype=torch.float64).fill_diagonal_(1.0)
    yield at_most("all inner products at their limit", extreme_eigenvalues(alike[None])[1], bound=upper)


@width_near_isometry.breaks("Dependent rows: logits that share their last hidden layer have gradients with a common direction")
def _(rng):
    model = _seeded(rng, lambda: nn.Sequential(nn.Linear(20, 60), nn.ReLU(), nn.Linear(60, 60), nn.ReLU(), nn.Linear(60, 3)))
    A = structure_matrix(model, normal(rng, 100, 20))
    A = A / A.diagonal(dim1=-2, dim2=-1).amax(-1)[:, None, None]  # the smallest ball around the three rows has radius one
    yield coverage("inside", _inside(A, 3, sum(p.numel() for p in model.parameters())), 100, at_least=0.5)


@width_near_isometry.breaks("«The probability tends to one with P», in the window that shrinks with P: "
                            "for two outputs four draws in a hundred stay outside")
def _(rng):
    yield coverage("probability 0.99", _inside(_ball_gram(rng, 2000, 2, 500), 2, 500), 2000, at_least=0.99)


def _keeping(model, inputs, mask):
    """Structure matrices from the entries of the parameters that ``mask`` keeps, (B, K, K), at the weights as they are."""
    parameters = {k: p.detach() for k, p in model.named_parameters()}
    jacobians = jacrev(lambda p: functional_call(model, p, (inputs,)))(parameters)
    flat = torch.cat([(jacobians[k] * mask[k]).flatten(2) for k in parameters], -1)
    return flat @ flat.mT


@statement("sparsity", "Pruning zero weights never raises an eigenvalue of the structure matrix", kind="proposition",
           paper="by topic", assumptions=("the pruned weights are zero already, or keep their values and are only frozen",),
           chapter=CHAPTER, trials=20, words="280b70aa")
def sparsity(rng):
    model, inputs, _ = random_network(rng)
    mask = {k: torch.from_numpy(rng.random(p.shape) < 0.6).double() for k, p in model.named_parameters()}
    for name, zero in (("frozen", False), ("pruned at zero", True)):
        if zero:
            for k, p in model.named_parameters():
                p.data *= mask[k]
        full, kept = structure_matrix(model, inputs), _keeping(model, inputs, mask)
        yield _dominates(f"{name}: A ⪰ A_kept", full, kept)
        yield at_most(f"{name}: λ_max", extreme_eigenvalues(kept)[1], bound=extreme_eigenvalues(full)[1])


@sparsity.witness("Nothing is pruned")
def _(rng):
    model, inputs, _ = random_network(rng)
    full, kept = structure_matrix(model, inputs), _keeping(model, inputs, {k: torch.ones_like(p) for k, p in model.named_parameters()})
    for name in ("frozen", "pruned at zero"):
        yield at_most(f"{name}: λ_max", extreme_eigenvalues(kept)[1], bound=extreme_eigenvalues(full)[1])


@sparsity.breaks("Pruning weights that are not zero: cutting an inhibiting weight wakes a dead unit")
def _(rng):
    model = nn.Sequential(nn.Linear(2, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False)).double()
    model[0].weight.data, model[2].weight.data = torch.tensor([[1.0, -3.0]]).double(), torch.ones(1, 1).double()
    x = torch.ones(1, 2, dtype=torch.float64)
    before = structure_matrix(model, x)
    model[0].weight.data[0, 1] = 0.0
    mask = {k: (p != 0).double() for k, p in model.named_parameters()}
    yield at_most("λ_max", extreme_eigenvalues(_keeping(model, x, mask))[1], bound=extreme_eigenvalues(before)[1])


class _Stack(nn.Module):
    """Blocks tanh(layer(·)) one after the other, then a head; the layers may be one and the same."""

    def __init__(self, layers, head):
        super().__init__()
        self.layers, self.head = nn.ModuleList(layers), head

    def forward(self, x):
        for layer in self.layers:
            x = layer(x).tanh()
        return self.head(x)


@statement("sharing", "Sharing weights s times multiplies eigenvalues by at most s", kind="proposition", paper="by topic",
           assumptions=("the shared network and its untied copy have the same values and outputs",
                        "each shared parameter is used at most s times"), chapter=CHAPTER, trials=20, words="7539abdc")
def sharing(rng):
    s, width, K = int(rng.integers(2, 5)), int(rng.integers(2, 5)), int(rng.integers(1, 4))
    tied, untied, inputs = _tied_pair(rng, s, width, K)
    shared, separate = structure_matrix(tied, inputs), structure_matrix(untied, inputs)
    yield _dominates("s ΣJ_jJ_jᵀ ⪰ (ΣJ_j)(ΣJ_j)ᵀ", s * separate, shared)
    yield at_most("λ_max", extreme_eigenvalues(shared)[1], bound=s * extreme_eigenvalues(separate)[1])


def _tied_pair(rng, s, width, K):
    """The same function with one layer used s times and with s equal layers, both without trainable head, and inputs."""
    layer, head = _seeded(rng, lambda: nn.Linear(width, width)), _seeded(rng, lambda: nn.Linear(width, K))
    copies = [nn.Linear(width, width).double() for _ in range(s)]
    for copy in copies:
        copy.load_state_dict(layer.state_dict())
    for p in head.parameters():
        p.requires_grad_(False)
    return _Stack([layer] * s, head), _Stack(copies, head), normal(rng, 3, width)


@sharing.witness("Two uses that agree: one weight at two positions with the same input")
def _(rng):
    tied, untied, x = _two_positions(rng)
    yield at_most("λ_max", extreme_eigenvalues(structure_matrix(tied, x))[1], bound=2 * extreme_eigenvalues(structure_matrix(untied, x))[1])


def _two_positions(rng):
    """A weight that is used at two positions, two weights in its place, and an input."""
    x = torch.ones(1, 2, dtype=torch.float64)
    twice = nn.Conv1d(1, 1, 1, bias=False).double()
    tied = nn.Sequential(nn.Unflatten(1, (1, 2)), twice, nn.Flatten(), _frozen_sum())
    return tied, nn.Sequential(_seeded(rng, lambda: _Scale(2)), _frozen_sum()), x


@sharing.breaks("The factor s left out: uses that agree add up to s² of one, against s of them apart")
def _(rng):
    tied, untied, x = _two_positions(rng)
    shared, separate = extreme_eigenvalues(structure_matrix(tied, x))[1], extreme_eigenvalues(structure_matrix(untied, x))[1]
    yield at_most("λ_max", shared, bound=separate)


class _Scale(nn.Module):
    """x ↦ w ∘ x, a weight a position."""

    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return self.weight * x


def _frozen_sum():
    layer = nn.Linear(2, 1, bias=False).double().requires_grad_(False)
    layer.weight.fill_(1.0)
    return layer


def _relu_network(rng, depth, bias=False, skip=False, norm=False):
    """Dense ReLU layers of width 5, the last one linear: ``depth`` weight matrices, freshly drawn each call."""
    def hidden():
        between = [nn.LayerNorm(5, elementwise_affine=False)] if norm else []
        layer = nn.Sequential(nn.Linear(5, 5, bias=bias), *between, nn.ReLU())
        return Skip(layer) if skip else layer

    return _seeded(rng, lambda: nn.Sequential(*[hidden() for _ in range(depth - 1)], nn.Linear(5, 3, bias=bias)))


def _scaling(name, model, inputs, depth, c):
    before = structure_matrix(model, inputs)
    for p in model.parameters():
        p.data *= c
    return identity(name, structure_matrix(model, inputs), c ** (2 * (depth - 1)) * before)


@statement("homogeneity", "Scaling the weights of a bias-free ReLU network of depth D by c scales A by c^(2(D−1))",
           kind="proposition", assumptions=("ReLU or another 1-homogeneous activation", "no biases, no skips, no normalization",
                                            "c > 0"), chapter=CHAPTER, trials=30, words="b2fdd312")
def homogeneity(rng):
    depth, c = int(rng.integers(1, 6)), 10 ** rng.uniform(-0.5, 0.5)
    yield _scaling("A(cθ) = c^(2(D−1)) A(θ)", _relu_network(rng, depth), normal(rng, 3, 5), depth, c)


for _why, _options in {"Biases: they enter with another degree than the weights": dict(bias=True),
                       "Skips: the paths have different lengths, hence different degrees": dict(skip=True),
                       "Normalization: it removes the scale that the layers before it put in": dict(norm=True)}.items():
    @homogeneity.breaks(_why)
    def _(rng, options=_options):
        yield _scaling("A(cθ) = c^(2(D−1)) A(θ)", _relu_network(rng, 3, **options), normal(rng, 3, 5), 3, 2.0)


def _normalized_block(rng, eps, c, scale_bias=True):
    """A of the layer before a LayerNorm, at θ and with that layer scaled by c -> the identity claimed of the two."""
    model = _seeded(rng, lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6, eps=eps), nn.Tanh(), nn.Linear(6, 3)))
    for p in model[1:].parameters():
        p.requires_grad_(False)
    inputs = normal(rng, 3, 4)
    before = structure_matrix(model, inputs)
    model[0].weight.data *= c
    if scale_bias:
        model[0].bias.data *= c
    return identity("A_block(cθ) = A_block(θ)/c²", structure_matrix(model, inputs), before / c**2)


@statement("scale-invariance", "Weights before a normalization: scaling them by c scales their part of A by 1/c²",
           kind="proposition", assumptions=("a normalization with ε = 0 follows the layer", "weights and bias scale together",
                                            "c > 0"), chapter=CHAPTER, trials=30, words="0d80fa13")
def scale_invariance(rng):
    yield _normalized_block(rng, eps=0.0, c=10 ** rng.uniform(-1, 1))


@scale_invariance.breaks("ε > 0: small weights see the floor of the normalization")
def _(rng):
    yield _normalized_block(rng, eps=0.1, c=0.3)


@scale_invariance.breaks("The bias left as it is: the direction changes, not only the scale")
def _(rng):
    yield _normalized_block(rng, eps=0.0, c=3.0, scale_bias=False)
