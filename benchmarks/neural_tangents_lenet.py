"""LeNet in JAX, its structure matrices by neural-tangents: the diagonal blocks of the empirical kernel.

Started by ``structure.py`` in an interpreter that has neural-tangents. It reads weights and inputs from an .npz file, writes the
matrices beside it, then answers each line on its standard input with the milliseconds of one run.

    python benchmarks/neural_tangents_lenet.py problem.npz
"""

import sys
import time

import jax
import jax.numpy as jnp
import neural_tangents as nt
import numpy as np
from jax import lax


def lenet(params, x):
    for w, b in (params[:2], params[2:4]):
        padding = "SAME" if x.shape[1] == 1 else "VALID"
        x = lax.conv_general_dilated(x, w, (1, 1), padding) + b[:, None, None]
        x = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")
    x = x.reshape(len(x), -1)
    for w, b in (params[4:6], params[6:8], params[8:]):
        x = x @ w.T + b
        x = jax.nn.relu(x) if len(w) > len(params[-1]) else x
    return x


problem = np.load(sys.argv[1])
params, x = [jnp.asarray(problem[f"p{i}"]) for i in range(10)], jnp.asarray(problem["x"])
implementations = [nt.NtkImplementation[name] for name in ("JACOBIAN_CONTRACTION", "NTK_VECTOR_PRODUCTS", "STRUCTURED_DERIVATIVES")]
kernels = [jax.jit(nt.empirical_ntk_fn(lenet, trace_axes=(), diagonal_axes=(0,), vmap_axes=0, implementation=implementation))
           for implementation in implementations]


def run(kernel):
    start = time.perf_counter()
    found = kernel(x, None, params).block_until_ready()
    return 1e3 * (time.perf_counter() - start), found


for kernel in kernels:
    run(kernel)  # compile
kernel = min(kernels, key=lambda kernel: min(run(kernel)[0] for _ in range(5)))
np.save(sys.argv[1] + ".npy", np.asarray(run(kernel)[1]))
print(implementations[kernels.index(kernel)].name, flush=True)
for _ in sys.stdin:
    print(run(kernel)[0], flush=True)
