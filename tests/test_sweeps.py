"""Sweeps: nothing is computed twice, a kill loses at most the running point, and a record can be recomputed."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from distributed import LocalCluster
from joblib.externals.loky import get_reusable_executor

from clt_utils import sweeps
from clt_utils.sweeps import RESULTS, SWEEPS, TOLERANCE, Sweep, compare
from clt_utils.training import Trace, TrainConfig, code_hash, train

TINY = TrainConfig.mini(limit=4, size=8, epochs=1, probes=1, model="model-a", depth=1, width=2, device="cpu")


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("CLT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sweeps, "RESULTS", tmp_path / "results")
    yield
    get_reusable_executor().shutdown(kill_workers=True)  # its processes remember the environment they started with


def cached_files(tmp_path):
    return sorted((tmp_path / "cache" / "sweeps").glob("*.json"))


def test_points_are_all_combinations_and_seeds_are_runs_of_a_point():
    sweep = Sweep("grid", TINY, depth=[1, 2], skip=[False, True], seed=[3, 5])
    assert sweep.points() == [{"depth": 1, "skip": False}, {"depth": 1, "skip": True}, {"depth": 2, "skip": False},
                              {"depth": 2, "skip": True}]
    assert sweep.configs({"depth": 2, "skip": True}) == [TINY.replace(depth=2, skip=True, seed=seed) for seed in (3, 5)]
    assert len(set(sweep.configs())) == 8
    assert Sweep("one", TINY.replace(seed=7)).points() == [{}] and Sweep("one", TINY.replace(seed=7)).configs() == [TINY.replace(seed=7)]


def test_a_sweep_gives_what_train_gives_and_computes_it_once(tmp_path):
    sweep = Sweep("grid", TINY, skip=[False, True], seed=range(2))
    report = sweep.run(workers=1, progress=False)
    assert (len(report.computed), len(report.cached), len(report.failed)) == (4, 0, 0)
    for run, seed in zip(sweep[{"skip": True}], range(2), strict=True):
        assert compare(run, train(TINY.replace(skip=True, seed=seed))) < 1e-6
    before = {file: file.stat().st_mtime_ns for file in cached_files(tmp_path)}
    again = Sweep("another name", TINY, skip=[True, False], seed=range(2))
    assert str(again.run(workers=2, progress=False)) == "0 computed, 4 from the cache, 0 failed"
    assert before == {file: file.stat().st_mtime_ns for file in cached_files(tmp_path)}
    assert Sweep("more", TINY, skip=[True], seed=range(3)).run(workers=1, progress=False).computed == (TINY.replace(skip=True, seed=2),)


def test_a_part_of_a_sweep_is_a_sweep_over_the_other_axes():
    sweep = Sweep("grid", TINY, depth=[1, 2], skip=[False, True], seed=[3, 5])
    part = sweep.only(depth=2)
    assert (part.name, part.points()) == ("grid", [{"skip": False}, {"skip": True}])
    assert all(part.configs(point) == sweep.configs(point | {"depth": 2}) for point in part.points())
    with pytest.raises(ValueError, match=r"depth=7.*one of its values"):
        sweep.only(depth=7)
    with pytest.raises(ValueError, match=r"width=4"):
        sweep.only(width=4)


def test_other_code_is_another_cache(monkeypatch):
    Sweep("a", TINY).run(workers=1, progress=False)
    monkeypatch.setattr(sweeps, "code_hash", lambda: "other")
    assert len(Sweep("a", TINY).run(workers=1, progress=False).computed) == 1


def test_local_processes_and_a_progress_bar(tmp_path, capsys):
    sweep = Sweep("parallel", TINY, seed=range(4))
    assert len(sweep.run(workers=2).computed) == 4 and len(cached_files(tmp_path)) == 4
    assert "parallel: 100%" in capsys.readouterr().err
    assert len({run["risk"][0] for run in sweep[{}]}) == 4


def test_a_failed_run_is_reported_with_its_recipe_and_stops_nothing(capsys):
    sweep = Sweep("fails", TINY, limit=[4, 5000, 5], keep=5)
    report = sweep.run(workers=1, progress=False)
    assert report.failed == (TINY.replace(limit=5000),) and len(report.computed) == 2
    error = capsys.readouterr().err
    assert '"limit": 5000' in error and "from 1 to the 1442 samples" in error
    assert len(sweep[{"limit": 5}]) == 1
    with pytest.raises(KeyError, match="not recorded"):
        sweep[{"limit": 5000}]
    with pytest.raises(ValueError, match="1 of 3 runs missing"):
        sweep.record()


SCRIPT = """
import sys
from clt_utils.sweeps import Sweep
from clt_utils.training import TrainConfig
base = TrainConfig.mini(limit=16, epochs={epochs}, probes=1, device="cpu")
if __name__ == "__main__":
    print(Sweep("script", base, seed=range({seeds})).run(workers={workers}, progress=False), flush=True)
"""


def start(tmp_path, **values):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(**values))
    return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, start_new_session=True,
                            env=os.environ | {"OMP_NUM_THREADS": "1"})


def wait_until(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end, "the process ended, or took too long"
        time.sleep(0.002)


def test_a_kill_loses_at_most_the_running_points_and_two_processes_share_the_rest(tmp_path):
    process = start(tmp_path, epochs=20, seeds=8, workers=2)
    wait_until(lambda: len(cached_files(tmp_path)) >= 2, process)
    time.sleep(random.uniform(0, 0.5))
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    finished = len(cached_files(tmp_path))
    assert 2 <= finished < 8, "it was killed in the middle"
    for file in cached_files(tmp_path):
        Trace.from_dict(json.loads(file.read_text()))  # whole, or it would not be there
    pair = [start(tmp_path, epochs=20, seeds=8, workers=1) for _ in range(2)]
    reports = [process.communicate(timeout=120)[0] for process in pair]
    computed = [int(report.split(" computed, ")[0]) for report in reports]
    assert sum(computed) == 8 - finished and len(cached_files(tmp_path)) == 8, reports
    assert all(" 0 failed" in report for report in reports)


def test_a_dask_cluster_by_its_address_whose_workers_have_another_disk(tmp_path):
    sweep = Sweep("dask", TINY, limit=[4, 5000], seed=range(3))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, env={"CLT_CACHE": str(tmp_path / "far")}) as cluster:
        report = sweep.run(dask=cluster.scheduler_address, progress=False)
    assert len(report.computed) == 3 and len(report.failed) == 3
    assert compare(sweep[{"limit": 4}][1], train(TINY.replace(seed=1))) < 1e-6
    far = {file.name for file in (tmp_path / "far" / "sweeps").glob("*.json")}
    assert len(far) == 3 and far == {file.name for file in cached_files(tmp_path)}


def test_a_cluster_with_other_code_is_refused():
    outcome = sweeps._compute(TINY, False, "other code")
    assert outcome.kind == "failed" and "Install the same version" in outcome.error


def test_a_record_is_thinned_rounded_and_read_back(tmp_path):
    sweep = Sweep("recorded", TINY.replace(epochs=4, probes=None), keep=3, loss=["cross-entropy", "squared"], seed=range(2))
    with pytest.raises(FileNotFoundError, match="sweeps run recorded"):
        sweep.load()
    with pytest.raises(ValueError, match="Call `run"):
        sweep.record()
    sweep.run(workers=1, progress=False)
    full = sweep[{"loss": "squared"}][1]
    assert len(full) == 9
    file = sweep.record()
    assert file == tmp_path / "results" / "recorded.json"
    fresh = Sweep("recorded", sweep.base, loss=["cross-entropy", "squared"], seed=range(2))
    thin = fresh[{"loss": "squared"}][1]
    assert thin["step"].tolist() == [0, 4, 8] and thin.config == full.config and thin.provenance == full.provenance
    assert 0 < compare(thin, full) < 1e-5
    assert list((tmp_path / "results").iterdir()) == [file]


def test_points_that_are_not_there_are_named():
    sweep = Sweep("grid", TINY, skip=[False, True])
    sweep.run(workers=1, progress=False)
    with pytest.raises(ValueError, match="axis 'skipp'.*Did you mean 'skip'"):
        sweep[{"skipp": True}]
    with pytest.raises(ValueError, match="a value for each of"):
        sweep[{}]
    with pytest.raises(ValueError, match="Did you mean 'depth'"):
        Sweep("bad", TINY, depht=[1])
    with pytest.raises(ValueError, match="a list of values"):
        Sweep("bad", TINY, loss="squared")
    with pytest.raises(ValueError, match="a list of values"):
        Sweep("bad", TINY, seed=[])


def test_compare_sees_every_difference_but_a_moment():
    trace = train(TINY.replace(epochs=15, probes=None))  # 31 measurements, of which one may differ

    def changed(name, factor):
        return Trace(trace.config, trace.columns | {name: trace[name] * factor}, trace.provenance)

    assert compare(trace, trace) == 0
    for name, factor in [("energy", 1.01), ("lam_min", 0.99)]:
        assert compare(trace, changed(name, factor)) == pytest.approx(0.01, rel=0.02)
    step = trace["step"]
    for factor, seen in [(np.inf, np.inf), (np.nan, np.inf), (np.where(step == 7, 2, 1), 0), (np.where(step < 7, 2, 1), 0.5)]:
        assert compare(trace, changed("upper", factor)) == compare(changed("upper", factor), trace) == seen
    assert compare(trace, trace.thin(3)) == np.inf and compare(trace.thin(3), trace) == 0


def test_the_command_line_lists_runs_and_verifies(capsys, monkeypatch):
    monkeypatch.setattr(sweeps, "SWEEPS", {"tiny": Sweep("tiny", TINY, seed=range(3)), "bad": Sweep("bad", TINY, limit=[5000])})
    assert sweeps.main(["list"]) == 0
    assert "tiny: 3 runs, 0 recorded, 0 cached" in capsys.readouterr().out
    assert sweeps.main(["verify", "tiny"]) == 2
    assert "sweeps run tiny" in capsys.readouterr().err
    assert sweeps.main(["run", "tiny", "--workers", "1"]) == 0
    assert "3 computed" in capsys.readouterr().out
    assert sweeps.main(["list"]) == 0
    assert re.search(r"tiny: 3 runs, 3 recorded in \d+ s of one core, 3 cached", capsys.readouterr().out)
    assert sweeps.main(["verify", "tiny", "--count", "3"]) == 0
    assert sweeps.main(["verify", "tiny", "--whole"]) == 0
    assert capsys.readouterr().out.count("agrees") == 5
    assert sweeps.main(["run", "all", "--workers", "1"]) == 1, "one of all fails"
    assert "3 from the cache" in capsys.readouterr().out
    file = sweeps.SWEEPS["tiny"].file
    record = json.loads(file.read_text())
    record["runs"][1]["columns"]["risk"] = [value * (1 + 2 * TOLERANCE) for value in record["runs"][1]["columns"]["risk"]]
    file.write_text(json.dumps(record))
    assert sweeps.main(["verify", "tiny", "--count", "3"]) == 1
    assert capsys.readouterr().out.count("DIFFERS") == 1
    assert sweeps.main(["run", "bad", "--workers", "1"]) == 1
    assert not sweeps.SWEEPS["bad"].file.exists()
    assert sweeps.main(["run", "tinny"]) == 2
    assert "Did you mean 'tiny'" in capsys.readouterr().err


def test_the_module_runs_as_a_program(tmp_path):
    listed = subprocess.run([sys.executable, "-m", "clt_utils.sweeps", "list"], capture_output=True, text=True, check=True)
    assert [line.split(":")[0] for line in listed.stdout.splitlines()] == list(SWEEPS)


def test_groups_hold_what_needs_no_download_and_the_book_has_it_recorded():
    groups = {group: [sweep.name for sweep in sweeps._named(group)] for group in ("mini", "all", "lenet-mnist-full")}
    assert groups["lenet-mnist-full"] == ["lenet-mnist-full"]
    assert "lenet-digits" in groups["mini"] and "lenet-digits-full" not in groups["mini"]
    assert groups["all"] == [*groups["mini"], "lenet-digits-full", "resnet18-digits-full", "vit-digits-full"]
    assert [name for name in groups["all"] if not (RESULTS / f"{name}.json").exists()] == []
    with pytest.raises(ValueError, match="Did you mean 'mini'"):
        sweeps._named("minni")


recorded = pytest.mark.parametrize("name", [name for name in SWEEPS if (RESULTS / f"{name}.json").exists()])


@recorded
def test_records_are_whole_small_and_obey_the_sandwich(name, monkeypatch):
    monkeypatch.setattr(sweeps, "RESULTS", RESULTS)
    sweep = SWEEPS[name]
    assert sweep.file.stat().st_size < 1.5e6
    json.loads(sweep.file.read_text(), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    runs = sweep.load()
    assert list(runs) == sweep.configs()
    for run in runs.values():
        assert {"date", "seconds", "device", "threads", "torch", "code"} <= run.provenance.keys()
        assert len(run) >= 2 and run["step"][0] == 0
        for lower, upper in (("lower", "upper"), ("lower_sharp", "upper_sharp")):
            assert (run[lower] <= run["risk"] * (1 + 1e-5)).all() and (run["risk"] <= run[upper] * (1 + 1e-5)).all(), run.config
        assert (run["lam_min"] >= 0).all() and (run["lam_min"] <= run["lam_max"]).all()
        assert (run["correlation"] <= 1 + 1e-5).all()


@recorded
def test_the_beginning_of_a_random_recorded_run_can_be_recomputed(name, monkeypatch):
    monkeypatch.setattr(sweeps, "RESULTS", RESULTS)
    [(config, gap)] = SWEEPS[name].verify(1)
    assert gap < TOLERANCE, config


def test_verifying_sees_another_start_and_on_request_another_end():
    sweep = Sweep("verified", TINY.replace(epochs=30, probes=None), keep=61)
    sweep.run(workers=1, progress=False)
    file = sweep.record()
    assert [gap < 1e-5 for _, gap in [*sweep.verify(), *sweep.verify(whole=True)]] == [True, True]
    record = json.loads(file.read_text())
    risks = record["runs"][0]["columns"]["risk"]
    for changed, early, whole in (([*risks[:-10], *(2 * r for r in risks[-10:])], True, False), ([2 * risks[0], *risks[1:]], False, True)):
        record["runs"][0]["columns"]["risk"] = changed
        file.write_text(json.dumps(record))
        assert (sweep.verify()[0][1] < TOLERANCE, sweep.verify(whole=True)[0][1] < TOLERANCE) == (early, whole)
