"""``benchmarks/runs.py``: runs that are worth a GPU, and the record that they become."""

import json
import sys

import pytest

from clt_utils import sweeps
from clt_utils.provenance import read_record
from clt_utils.sweeps import SWEEPS, Sweep
from clt_utils.training import Trace, TrainConfig

sys.path.insert(0, str(sweeps.RESULTS.parents[1] / "benchmarks"))
import runs

TINY = Sweep("tiny", TrainConfig.mini(limit=5, size=8, epochs=2, model="model-a", depth=1, width=2), loss=["cross-entropy", "squared"])


@pytest.fixture
def tiny(monkeypatch, tmp_path):
    monkeypatch.setitem(SWEEPS, "tiny", TINY)
    monkeypatch.setattr(runs, "RUNS", [("tiny", "cross-entropy"), ("tiny", "squared")])
    monkeypatch.setattr(runs, "ON_A_GPU", tmp_path / "on-a-gpu.json")
    monkeypatch.setenv("CLT_DEVICE", "cpu")
    return tmp_path / "runs"


def test_a_finished_run_is_kept_and_not_run_again(tiny, monkeypatch, capsys):
    runs.run(tiny, {"tiny"}, alone=True)
    assert capsys.readouterr().out.count("tiny, ") == 2 and len(list(tiny.glob("*.json"))) == 2
    monkeypatch.setattr(runs, "train", None)
    runs.run(tiny, {"tiny"}, alone=True)
    facts = json.loads((tiny / "tiny-squared.json").read_text(encoding="utf-8"))["provenance"]
    assert facts["alone"] is True and facts["memory_mb"] is None  # a processor does not say


def test_a_new_run_takes_the_place_of_an_old_one_of_its_recipe(tiny):
    runs.run(tiny, {"tiny"}, alone=False)
    runs.collect(tiny)
    (tiny / "tiny-squared.json").unlink()
    old = read_record(runs.ON_A_GPU)["runs"]
    changed = json.loads((tiny / "tiny-cross-entropy.json").read_text(encoding="utf-8"))
    changed["provenance"]["alone"], changed["config"]["probes"] = True, 3
    (tiny / "tiny-cross-entropy.json").write_text(json.dumps(changed), encoding="utf-8")
    runs.collect(tiny)
    new = {run["config"]["loss"]: run for run in read_record(runs.ON_A_GPU)["runs"]}
    assert len(old) == len(new) == 2
    assert new["cross-entropy"] == changed and new["squared"] in old


def test_every_run_is_the_first_seed_of_a_sweep():
    for name, loss in runs.RUNS:
        config = SWEEPS[name].configs({"loss": loss})[0]
        assert (config.seed, config.loss) == (0, loss)


def test_what_the_record_holds_is_whole():
    for run in map(Trace.from_dict, read_record(sweeps.ON_A_GPU)["runs"]):
        facts = run.provenance
        assert facts["seconds"] > 0 and (facts["memory_mb"] > 0 if facts["alone"] else "memory_mb" not in facts)
