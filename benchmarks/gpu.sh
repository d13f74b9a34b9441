#!/usr/bin/env bash
# What a borrowed GPU is for, in one command and under ten minutes: the package's tests on it, the benchmark, the runs that chapters show
# where there is none, all chapters, and the recordings that are missing, as far as the time goes. What comes of it lies in FOLDER: logs/,
# results/ to copy into book/results/, and runs/, which `python benchmarks/runs.py collect FOLDER/runs` puts there.
#
#     benchmarks/gpu.sh FOLDER [--device cuda] [--minutes 9] [--chapters "book/practice/beyond.ipynb ..."] [--sweeps "NAME ..."] [--quick]
#
# --quick makes it a rehearsal that a processor finishes: the benchmark's small cases only, and no runs. `--chapters none` runs none, and
# `--sweeps none` records nothing on whole data sets either.
# A step that fails or takes too long is named at the end, does not stop the others, and makes the exit status 1.
#
# The machine needs Python with torch and torchvision that see the GPU, and no network: what else is imported comes along in a folder
# wheels/ beside README.md, made where there is one, with the other machine's version of Python:
#
#     pip download -d wheels --only-binary=:all: --python-version 3.12 --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \
#         numpy scipy scikit-learn matplotlib ipython ipywidgets ipykernel nbformat nbclient nbval tqdm joblib filelock entmax \
#         pytest pytest-xdist hypothesis networkx pyyaml
#
# and, to compare with the peers, by `pip download -d wheels --no-deps` what requirements.txt beside this file names. The data sets of
# the missing recordings lie in $CLT_CACHE/data; FOLDER/cache is CLT_CACHE unless that is set. PYTHON names the interpreter.
set -uo pipefail

usage() {
    echo "Given: $1. Expected: benchmarks/gpu.sh FOLDER [--device NAME] [--minutes N] [--chapters \"FILES\"] [--sweeps \"NAMES\"] [--quick]" >&2
    exit 2
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
[[ $# -ge 1 && $1 != -* ]] || usage "no folder for the results"
folder=$1
shift
device=cuda minutes=9 chapters=book sweeps='' quick=''
while (($#)); do
    case $1 in
        --quick) quick=--quick; shift; continue ;;
        --device | --minutes | --chapters | --sweeps) [[ $# -ge 2 ]] || usage "$1 without a value" ;;
        *) usage "$1" ;;
    esac
    case $1 in
        --device) device=$2 ;;
        --minutes) minutes=$2 ;;
        --chapters) chapters=$2 ;;
        --sweeps) sweeps=$2 ;;
    esac
    shift 2
done
[[ $minutes =~ ^[0-9]+$ ]] || usage "--minutes $minutes"

mkdir -p "$folder/logs" "$folder/results" || usage "the folder $folder, where nothing can be written"
folder=$(cd "$folder" && pwd)
cd "$root" || exit 2
python=python3
[[ ! -x .venv/bin/python ]] || python=$root/.venv/bin/python
python=${PYTHON:-$python}
export CLT_DEVICE=$device PYTHONPATH=$root PYTHONUNBUFFERED=1 MPLBACKEND=agg CLT_CACHE=${CLT_CACHE:-$folder/cache}
end=$((60 * minutes)) summary=() failed=0

# step NAME LIMIT COMMAND...: at most LIMIT seconds, and no longer than there is time; prints as it comes and keeps it in logs/NAME.log.
step() {
    local name=$1 limit=$2 start=$SECONDS status
    shift 2
    ((limit <= end - SECONDS)) || limit=$((end - SECONDS))
    if ((limit < 5)); then
        summary+=("$name: not begun, the $minutes minutes were over") failed=1
        return 1
    fi
    printf '\n==== %s, %d seconds at most\n' "$name" "$limit"
    timeout --signal=INT --kill-after=10 "$limit" "$@" 2>&1 | tee "$folder/logs/$name.log"
    status=${PIPESTATUS[0]}
    case $status in
        0) summary+=("$name: ok, $((SECONDS - start)) s") ;;
        124 | 137) summary+=("$name: NOT FINISHED in $limit s") failed=1 ;;
        *) summary+=("$name: FAILED with status $status, see logs/$name.log") failed=1 ;;
    esac
    return "$status"
}

if [[ -d wheels ]]; then
    # by name, so that what the machine has already stays as it is
    names=(wheels/*.whl)
    names=("${names[@]#wheels/}")
    step wheels 60 "$python" -m pip install --quiet --break-system-packages --no-index --no-deps --find-links wheels "${names[@]%%-*}"
fi

step machine 60 "$python" -c "
import torch
from clt_utils.provenance import device_name, processor
from clt_utils.training import find_device
device = find_device()
print(device_name(device), '|', processor(), '| torch', torch.__version__)
torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)"
usable=$?

if ((usable == 0)); then
    # The tests first, since what follows means little without them.
    step tests 150 "$python" -m pytest -q -p no:cacheprovider -n 4 tests/test_devices.py -k "${device%%:*}"

    [[ -n $quick ]] || step runs 120 "$python" benchmarks/runs.py run "$folder/runs" --small

    # shellcheck disable=SC2086  # none or one word
    step benchmark 240 "$python" benchmarks/structure.py --device "$device" --folder "$folder/results" $quick

    # Four kernels at a time: they are small, and wait for their processor more than for the card.
    # shellcheck disable=SC2086  # a list of files
    [[ $chapters = none ]] || step chapters 300 "$python" -m pytest -q -p no:cacheprovider -n 4 --dist loadscope \
        --nbval-lax --nbval-current-env --nbval-cell-timeout 300 $chapters

    [[ -n $quick || $sweeps = none ]] || step whole-data 600 "$python" benchmarks/runs.py run "$folder/runs"

    # Killed in the middle, a sweep goes on from its finished runs, which are kept in \$CLT_CACHE: carry that folder to the next machine.
    if [[ -z $sweeps ]]; then
        sweeps=$("$python" -c "
import sys
from clt_utils.data import load
from clt_utils.sweeps import SWEEPS
for name, sweep in SWEEPS.items():
    if not sweep.file.exists():
        try:
            load(sweep.base.dataset, limit=1)
            print(name)
        except ConnectionError as error:
            print(f'{name} is not recorded: {str(error).split(chr(46))[0]}.', file=sys.stderr)")
    fi
    for sweep in ${sweeps/none/}; do
        step "sweep-$sweep" $((end - SECONDS)) "$python" -m clt_utils.sweeps run --workers 1 "$sweep" &&
            cp "book/results/$sweep.json" "$folder/results/"
    done
fi

printf '\n==== Summary of %d s on %s; everything is in %s\n' "$SECONDS" "$device" "$folder"
printf '%s\n' "${summary[@]}"
exit "$failed"
