"""Run the numeric tests as other machines would: on emulated processors and with other numbers of threads.

    python tools/portable.py                    the numeric tests under every setting, a table of verdicts at the end
    python tools/portable.py --quick            a few of them on the two emulated processors, as the ordinary tests do
    python tools/portable.py --tests FILE ...   other tests

The libraries choose their kernels by what the processor can do, and so round differently. The variables make them believe in a lesser
processor.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
SSE4 = {"ATEN_CPU_CAPABILITY": "default", "ONEDNN_MAX_CPU_ISA": "SSE41", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"}
AVX2 = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
EMULATED = {"SSE4, 1 thread": SSE4 | {"OMP_NUM_THREADS": "1"}, "AVX2, 1 thread": AVX2 | {"OMP_NUM_THREADS": "1"}}
SETTINGS = EMULATED | {
    "SSE4, 4 threads": SSE4 | {"OMP_NUM_THREADS": "4"},
    "as it is, 1 thread": {"OMP_NUM_THREADS": "1"},
    "as it is, 2 threads": {"OMP_NUM_THREADS": "2"},
    "as it is, 4 threads": {"OMP_NUM_THREADS": "4"},
}
NUMERIC = [f"tests/test_{name}.py" for name in ("structure", "guards", "sgd", "ledger", "duality", "entropy", "bounds", "finite",
                                                "dual_steps", "models", "diagnose", "training")]
QUICK = ["tests/test_structure.py::test_the_networks_of_the_book", "tests/test_structure.py::test_small_eigenvalues_survive_float32",
         "tests/test_sgd.py::test_run_is_torchs_sgd", "tests/test_training.py::test_training_is_plain_sgd",
         "tests/test_duality.py::test_gradient_is_prediction_minus_target", "tests/test_ledger.py::test_counterexamples_fail"]


def run(tests: list[str], setting: dict[str, str]) -> int:
    """Run pytest on ``tests`` in a process of its own under ``setting``; returns its exit status."""
    mine = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_") and name not in SSE4}
    return subprocess.run([sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests], cwd=ROOT, env=mine | setting).returncode


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit status, 1 if a test fails under any setting."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tests", nargs="+", metavar="FILE")
    options = parser.parse_args(arguments)
    tests = options.tests or (QUICK if options.quick else NUMERIC)
    rows, failed = [], False
    for name, setting in (EMULATED if options.quick else SETTINGS).items():
        print(f"== {name}: {' '.join(f'{key}={value}' for key, value in setting.items())}", flush=True)
        started = time.monotonic()
        status = run(tests, setting)
        failed |= status != 0
        rows.append(f"{name:20s} {'passed' if status == 0 else 'FAILED':10s} {time.monotonic() - started:5.0f} s")
    print("\n".join(["", *rows]))
    if failed:
        print("To see a failure again, put the variables after its «==» before: python -m pytest TEST")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
