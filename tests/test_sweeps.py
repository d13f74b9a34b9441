"""Sweeps: nothing is computed twice, a kill loses at most the running point, and a record can be recomputed."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from distributed import LocalCluster
from filelock import FileLock
from joblib.externals.loky import get_reusable_executor

from clt_utils import bounds, models, provenance, sweeps
from clt_utils.provenance import read_record, seal, write_record
from clt_utils.sweeps import EARLY, RESULTS, SWEEPS, Sweep, differences
from clt_utils.training import COLUMNS, GENERATORS, HELD_OUT, Trace, TrainConfig, train

HANGS = 1800  # seconds after which a process is given up; a loaded machine may need a hundred times what a quiet one does
TINY = TrainConfig.mini(limit=4, size=8, epochs=1, probes=1, model="model-a", depth=1, width=2, device="cpu")


@pytest.fixture(autouse=True)
def own_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("CLT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sweeps, "RESULTS", tmp_path / "results")
    yield
    get_reusable_executor().shutdown(kill_workers=True)  # its processes remember the environment they started with


def apart(expected, actual):
    """The largest relative difference between two runs of a recipe."""
    return differences(expected, actual, expected["step"]).max()


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
        assert apart(run, train(TINY.replace(skip=True, seed=seed))) < 1e-6
    before = {file: file.stat().st_mtime_ns for file in cached_files(tmp_path)}
    again = Sweep("another-name", TINY, skip=[True, False], seed=range(2))
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
    with pytest.raises(ValueError, match=r"axis 'width'.*one of 'depth', 'skip'"):
        sweep.only(width=4)


@pytest.mark.parametrize("what", ["code", "torch", "torchvision", "numpy", "device"])
def test_what_was_made_by_other_means_is_not_served(what, monkeypatch):
    """Another code, another library, another device: another run, although the recipe says "auto"."""
    recipe = TINY.replace(device="auto")
    Sweep("a", recipe).run(workers=1, progress=False)
    if what == "device":
        monkeypatch.setattr(sweeps, "device_name", lambda device: "a graphics card")
    else:
        monkeypatch.setattr(sweeps, "made_by", lambda made_by=provenance.made_by: made_by() | {what: "other"})
    assert len(Sweep("a", recipe).run(workers=1, progress=False).computed) == 1


def test_a_device_that_is_not_here_fails_by_itself_and_not_the_sweep(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    report = Sweep("a", TINY, device=["cuda", "cpu"]).run(workers=1, progress=False)
    assert [config.device for config in report.failed] == ["cuda"] and len(report.computed) == 1


@pytest.mark.parametrize("damage", ["cut short", "empty", "binary", "unknown field", "another seed", "a column missing",
                                    "a column too short", "not a run"])
def test_what_is_wrong_in_the_cache_is_computed_again(damage, tmp_path):
    sweep = Sweep("grid", TINY, seed=range(2))
    sweep.run(workers=1, progress=False)
    good = {file: file.read_bytes() for file in cached_files(tmp_path)}
    file = next(file for file in good if json.loads(file.read_text(encoding="utf-8"))["config"]["seed"] == 1)
    saved = json.loads(file.read_text(encoding="utf-8"))
    saved["config"] |= {"unknown field": {"bath_size": 3}, "another seed": {"seed": 0}}.get(damage, {})
    if damage == "a column missing":
        del saved["columns"]["risk"]
    if damage == "a column too short":
        saved["columns"]["risk"].pop()
    text = json.dumps([1, 2] if damage == "not a run" else saved).encode()
    file.write_bytes({"cut short": text[:200], "empty": b"", "binary": b"\xff\xfe\x00"}.get(damage, text))
    report = sweep.run(workers=1, progress=False)
    assert (len(report.computed), len(report.cached), len(report.failed)) == (1, 1, 0)
    assert json.loads(file.read_text(encoding="utf-8"))["columns"] == json.loads(good[file])["columns"], "the same run, computed again"


def test_a_full_disk_leaves_nothing_behind(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    report = Sweep("full", TINY).run(workers=1, progress=False)
    assert len(report.failed) == 1 and not list((tmp_path / "cache").rglob("*.part"))


def die_elsewhere(home):
    """End any other process than this one at once, as a system short of memory does."""
    return 1 if os.getpid() == home else os._exit(9)


class Deadly(int):
    """A seed that no worker survives."""

    def __reduce__(self):
        return die_elsewhere, (os.getpid(),)


def test_a_worker_that_was_killed_is_told_in_words():
    with pytest.raises(RuntimeError, match=r"a worker that was killed.*workers=2.*with fewer workers"):
        Sweep("grid", TINY, seed=[0, Deadly(1)]).run(workers=2, progress=False)


@pytest.mark.parametrize(("axes", "error", "message"), [
    (dict(depth=[]), ValueError, "a list of values"), (dict(depth=(d for d in ())), ValueError, "a list of values"),
    (dict(depth={1, 2}), TypeError, "a list of values, in order"), (dict(loss="squared"), TypeError, "a list of values"),
    (dict(depth=3), TypeError, "a list of values"), (dict(depth=[[1], [2]]), TypeError, "names, numbers"),
    (dict(depth=[1, 2, 1]), ValueError, "each value once"), (dict(seed=[0, 0]), ValueError, "each value once"),
    (dict(depth=[1, 0]), ValueError, "depth=0.*at least 1"), (dict(loss=["square"]), ValueError, "Did you mean 'squared'"),
    (dict(depht=[1]), ValueError, "Did you mean 'depth'"),
])
def test_bad_axes(axes, error, message):
    with pytest.raises(error, match=message):
        Sweep("bad", TINY, **axes)


def test_axes_may_be_generators_or_arrays_and_names_must_be_names_of_files():
    assert Sweep("good", TINY, depth=(d for d in (1, 2)), seed=map(int, "35")).configs() == [
        TINY.replace(depth=depth, seed=seed) for depth in (1, 2) for seed in (3, 5)]
    assert Sweep("good", TINY, gain=np.array([0.5, 1.0]), seed=np.arange(2)).configs({"gain": 0.5})[1] == TINY.replace(gain=0.5, seed=1)
    for name in ("a/b", "", "a b"):
        with pytest.raises(ValueError, match="the name of a file"):
            Sweep(name, TINY)
    for workers, error in ((0, ValueError), (-2, ValueError), (1.5, ValueError), (True, TypeError), ("2", TypeError)):
        with pytest.raises(error, match="workers=.*an integer of at least 1"):
            Sweep("a", TINY).run(workers=workers)
    with pytest.raises(ValueError, match="dask='cluster'.*its port"):
        Sweep("a", TINY).run(dask="cluster")


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
    script.write_text(SCRIPT.format(**values), encoding="utf-8")
    return subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True, start_new_session=True,
                            env=os.environ | {"OMP_NUM_THREADS": "1"})


def wait_until(condition, process):
    end = time.monotonic() + HANGS
    while not condition():
        assert process.poll() is None and time.monotonic() < end, "the process ended, or hangs"
        time.sleep(0.02)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no groups of processes to kill")
def test_a_kill_loses_at_most_the_running_points_and_two_processes_share_the_rest(tmp_path):
    last = TrainConfig.mini(limit=16, epochs=20, probes=1, device="cpu", seed=7)
    folder = tmp_path / "cache" / "sweeps"
    folder.mkdir(parents=True)
    with FileLock((folder / sweeps._file_name(last)).with_suffix(".lock")):  # so that it cannot finish before it is killed
        process = start(tmp_path, epochs=20, seeds=8, workers=2)
        wait_until(lambda: len(cached_files(tmp_path)) >= 2, process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    finished = len(cached_files(tmp_path))
    assert 2 <= finished < 8
    for file in cached_files(tmp_path):
        Trace.from_dict(json.loads(file.read_text(encoding="utf-8")))  # whole, or it would not be there
    pair = [start(tmp_path, epochs=20, seeds=8, workers=1) for _ in range(2)]
    reports = [process.communicate(timeout=HANGS)[0] for process in pair]
    computed = [int(report.split(" computed, ")[0]) for report in reports]
    assert sum(computed) == 8 - finished and len(cached_files(tmp_path)) == 8, reports
    assert all(" 0 failed" in report for report in reports)


def test_a_dask_cluster_by_its_address_whose_workers_have_another_disk(tmp_path):
    sweep = Sweep("dask", TINY, limit=[4, 5000], seed=range(3))
    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, env={"CLT_CACHE": str(tmp_path / "far")}) as cluster:
        report = sweep.run(dask=cluster.scheduler_address, progress=False)
    assert len(report.computed) == 3 and len(report.failed) == 3
    assert apart(sweep[{"limit": 4}][1], train(TINY.replace(seed=1))) < 1e-6
    far = {file.name for file in (tmp_path / "far" / "sweeps").glob("*.json")}
    assert len(far) == 3 and far == {file.name for file in cached_files(tmp_path)}


def test_a_cluster_with_other_code_is_refused():
    for other in ({"code": "other"}, {"torch": "1.0"}):
        outcome = sweeps._compute(TINY, False, provenance.made_by() | other)
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
    assert 0 < apart(thin, full) < 1e-5
    assert list((tmp_path / "results").iterdir()) == [file]


def test_points_that_are_not_there_are_named():
    sweep = Sweep("grid", TINY, skip=[False, True])
    sweep.run(workers=1, progress=False)
    with pytest.raises(ValueError, match="axis 'skipp'.*Did you mean 'skip'"):
        sweep[{"skipp": True}]
    with pytest.raises(ValueError, match="a value for each of"):
        sweep[{}]


def test_differences_are_relative_and_see_what_is_missing():
    trace = train(TINY.replace(epochs=15, probes=None))

    def changed(name, factor):
        return Trace(trace.config, trace.columns | {name: trace[name] * factor}, trace.provenance)

    step = trace["step"]
    assert differences(trace, trace, step).shape == (len(COLUMNS) - 1, len(step)) and apart(trace, trace) == 0
    for name, factor in [("energy", 1.01), ("lam_min", 0.99)]:
        assert apart(trace, changed(name, factor)) == pytest.approx(0.01, rel=0.02)
    moment = np.where(step == 7, 2, 1)
    assert np.argwhere(differences(trace, changed("upper", moment), step)).tolist() == [[list(trace.columns).index("upper"), 7]]
    for factor in (np.inf, np.nan):
        assert apart(trace, changed("upper", factor)) == apart(changed("upper", factor), trace) == np.inf
    assert apart(trace, trace.thin(3)) == np.inf and apart(trace.thin(3), trace) == 0
    assert differences(trace.thin(3), trace.thin(3), step).max() == 0, "missing in both"
    assert apart(trace, changed("accuracy", 0.5)) == 0, "one sample more or less is rounding where two outputs are equal"


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
    assert capsys.readouterr().out.count("agrees: 2 measurements up to step 2, apart by") == 5
    assert sweeps.main(["run", "all", "--workers", "1"]) == 1, "one of all fails"
    assert "3 from the cache" in capsys.readouterr().out
    file = sweeps.SWEEPS["tiny"].file
    record = json.loads(file.read_text(encoding="utf-8"))
    record["runs"][1]["columns"]["risk"] = [value * 1.001 for value in record["runs"][1]["columns"]["risk"]]
    file.write_text(json.dumps(record), encoding="utf-8")
    assert sweeps.main(["verify", "tiny"]) == 2
    assert "which is not as it was recorded" in capsys.readouterr().err
    write_record(file, record)
    assert sweeps.main(["verify", "tiny", "--count", "3"]) == 1
    assert capsys.readouterr().out.count("DIFFERS") == 1
    assert sweeps.main(["run", "bad", "--workers", "1"]) == 1
    assert not sweeps.SWEEPS["bad"].file.exists()
    for wrong, said in ((["run", "tinny"], "Did you mean 'tiny'"), (["run", "tiny", "--workers", "0"], "workers=0"),
                        (["verify", "tiny", "--count", "-1"], "count=-1")):
        assert sweeps.main(wrong) == 2
        assert said in capsys.readouterr().err


def test_the_module_runs_as_a_program(tmp_path):
    listed = subprocess.run([sys.executable, "-m", "clt_utils.sweeps", "list"], capture_output=True, text=True, check=True)
    assert [line.split(":")[0] for line in listed.stdout.splitlines()] == list(SWEEPS)


def test_groups_hold_what_needs_no_download_and_the_book_has_it_recorded():
    groups = {group: [sweep.name for sweep in sweeps._named(group)] for group in ("mini", "all", "paper", "lenet-mnist-full")}
    assert groups["lenet-mnist-full"] == ["lenet-mnist-full"]
    assert "lenet-digits" in groups["mini"] and "lenet-digits-full" not in groups["mini"]
    assert {*groups["all"]} - {*groups["mini"]} >= {"lenet-digits-full", "resnet18-digits-full", "vit-digits-full"}
    assert len(groups["paper"]) == 3 * 4 and not {*groups["paper"]} & {*groups["all"]}
    missing = [name for name in groups["all"] if not (RESULTS / f"{name}.json").exists()]
    assert not missing, (f"Given: {missing} without a record. Expected: every sweep on digits recorded in book/results. Run "
                         f"`python -m clt_utils.sweeps run {missing[0]}` and commit the file that it names.")
    with pytest.raises(ValueError, match="Did you mean 'mini'"):
        sweeps._named("minni")


# ---- the records of the book

RECORDED = [name for name in SWEEPS if (RESULTS / f"{name}.json").exists()]
recorded = pytest.mark.parametrize("name", RECORDED)


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.stem)
def test_nobody_changed_a_record(path):
    read_record(path)


@recorded
def test_records_are_whole_and_small_and_their_columns_belong_together(name, monkeypatch):
    monkeypatch.setattr(sweeps, "RESULTS", RESULTS)
    sweep = SWEEPS[name]
    assert sweep.file.stat().st_size < 1.5e6
    json.loads(sweep.file.read_text(encoding="utf-8"), parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
    runs = sweep.load()
    assert list(runs) == sweep.configs()
    for run in runs.values():
        assert {"date", "seconds", "device", "threads", "torch", "code"} <= run.provenance.keys()
        assert set(run.columns) == {*COLUMNS, *(HELD_OUT if run.config.held_out else ())} and run["step"][0] == 0
        assert len(run) >= 2 or run.stopped  # the first step may have been the last
        for lower, upper in (("lower", "upper"), ("lower_sharp", "upper_sharp")):
            assert (run[lower] <= run["risk"] * (1 + 1e-5)).all() and (run["risk"] <= run[upper] * (1 + 1e-5)).all(), run.config
        assert (run["lam_min"] >= -1e-5 * run["lam_max"]).all()  # of a run that blows up, the smallest drowns in rounding
        assert (run["lam_min"] <= run["lam_max"]).all()
        sound = slice(None, -1 if run.stopped else None)  # in its last measurement a run that blows up has drowned in rounding
        assert (run["correlation"][sound] <= 1 + 1e-5).all()
        check_identities(run)


def check_identities(run):
    """What follows from other columns must be what it follows as; six digits of each are recorded."""
    def agree(one, other):
        np.testing.assert_allclose(one, other, rtol=3e-5, err_msg=str(run.config))

    generator = GENERATORS[run.config.loss]
    agree(run["correlation"], run["grad_norm_sq"] / run["energy"])
    lower, upper = bounds.risk_bounds(*(torch.from_numpy(run[name]) for name in ("energy", "lam_min", "lam_max")), generator,
                                      torch.from_numpy(run["p_min"]) if generator.on_simplex else None)
    agree(run["lower"], lower)
    agree(run["upper"], upper)
    if run.config.loss == "squared":
        agree(run["risk"], run["residual"] / 2)
    share = run["step"] / (run["step"][-1] if not run.stopped else np.nan)
    if run.config.schedule == "cosine" and not run.stopped:
        first = run.config.learning_rate
        if run.config.of_limit:
            lam_max, config = run["lam_max"][0], run.config
            first = config.of_limit * bounds.step_limit(lam_max, batch_size=config.batch_size, momentum=config.momentum)
        np.testing.assert_allclose(run["learning_rate"], first * (1 + np.cos(np.pi * share)) / 2, rtol=1e-5, atol=1e-12)


@pytest.mark.parametrize("column", ["risk", "grad_norm_sq", "lam_max", "p_min", "learning_rate"])
def test_an_edited_column_is_seen_although_its_seal_is_renewed(column):
    run = train(TINY.replace(loss="squared" if column == "risk" else "cross-entropy", epochs=3, probes=None))
    check_identities(run)
    moment = np.where(run["step"] == 3, 1.02, 1)
    with pytest.raises(AssertionError):
        check_identities(replace(run, columns=run.columns | {column: run[column] * moment}))


def test_a_seal_sees_every_change(tmp_path):
    file = tmp_path / "record.json"
    write_record(file, {"runs": [{"risk": [1.5, 2], "note": ("a", None)}], "provenance": {"device": "cpu"}})
    content = read_record(file)
    assert content["runs"][0]["note"] == ["a", None] and content["seal"] == seal(content)
    for old, new in (("1.5", "1.6"), ('"cpu"', '"H100"'), ("2]", "2.0]"), ("null", "0"), (content["seal"], "0" * 16)):
        file.write_text(json.dumps(content).replace(old, new), encoding="utf-8")
        with pytest.raises(ValueError, match="not as it was recorded"):
            read_record(file)
    for broken in ("", "{", "[]", "\x00"):
        file.write_text(broken, encoding="utf-8")
        with pytest.raises(ValueError, match=r"Given: the record .*record\.json"):
            read_record(file)


# On digits, which are on every machine. A large network is repeated on sixteen of them, which takes a minute for ResNet-18; all of
# them, and steps in multiples of the limit, are repeated with smaller ones. The rest is left to `python -m clt_utils.sweeps verify`.
REPEATED = [name for name in RECORDED if SWEEPS[name].base.dataset == "digits"
            and name not in ("resnet18-digits-full", "vit-digits-full", "step-resnet18-digits")]


@pytest.mark.parametrize("name", REPEATED)
def test_the_beginning_of_a_recorded_run_can_be_repeated(name, monkeypatch):
    monkeypatch.setattr(sweeps, "RESULTS", RESULTS)
    [verified] = SWEEPS[name].verify(1, seed=0)
    assert verified.agrees, verified


def another_activation(*arguments, build=models.build):
    """A network with one layer swapped: its first ReLU is a GELU."""
    model = build(*arguments)
    for module in model.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.ReLU):
                setattr(module, name, torch.nn.GELU())
                return model
    raise AssertionError("no ReLU")


CHANGES = {"momentum": lambda config: {"momentum": config.momentum * 1.01},
           "step": lambda config: {"learning_rate": config.learning_rate * 1.01},
           "seed": lambda config: {"seed": config.seed + 1},
           "loss": lambda config: {"loss": "squared" if config.loss == "cross-entropy" else "cross-entropy"},
           "layer": lambda config: {}}


@pytest.mark.parametrize(("name", "change"), [
    *[(name, change) for name in ("lenet-digits", "vit-digits", "gain-digits") for change in CHANGES
      if (name, change) != ("vit-digits", "layer")],  # it has no ReLU
    ("resnet18-digits", "momentum")])  # the network that amplifies rounding most, and the change that shows least
def test_verifying_sees_a_changed_recipe_or_network(name, change, monkeypatch):
    """The record is of another recipe than the one that is repeated: by one percent, or of another network."""
    monkeypatch.setattr(sweeps, "RESULTS", RESULTS)
    config, run = next(iter(SWEEPS[name].load().items()))
    if change == "layer":
        monkeypatch.setattr("clt_utils.training.models.build", another_activation)
    other = config.replace(**CHANGES[change](config))
    rates = run["learning_rate"] * other.learning_rate / config.learning_rate  # the column that would tell a changed step by itself
    changed = replace(run, config=other, columns=run.columns | {"learning_rate": rates})
    assert not sweeps._verify_run(changed, EARLY).agrees


def test_verifying_sees_another_start_and_on_request_another_end():
    sweep = Sweep("verified", TINY.replace(epochs=30, probes=None), keep=61)
    sweep.run(workers=1, progress=False)
    file = sweep.record()
    assert all(verified.agrees and verified.difference < 1e-5 for verified in [*sweep.verify(), *sweep.verify(whole=True)])
    record = json.loads(file.read_text(encoding="utf-8"))
    risks = record["runs"][0]["columns"]["risk"]
    for changed, early, whole in (([*risks[:-10], *(2 * r for r in risks[-10:])], True, False), ([2 * risks[0], *risks[1:]], False, False)):
        record["runs"][0]["columns"]["risk"] = changed
        write_record(file, record)
        assert (sweep.verify()[0].agrees, sweep.verify(whole=True)[0].agrees) == (early, whole)


def test_a_run_that_diverges_can_be_verified():
    sweep = Sweep("diverges", TINY.replace(learning_rate=1e3, loss="squared", epochs=9, probes=None))
    with pytest.warns(UserWarning, match="Diverged"):
        sweep.run(workers=1, progress=False)
    sweep.record()
    [verified] = sweep.verify(whole=True)
    assert verified.agrees and verified.measurements < 10


def test_nudges_are_as_coarse_as_the_coarser_of_two_devices(monkeypatch):
    sizes = []
    monkeypatch.setattr(sweeps, "_nudge", lambda seed, size: sizes.append(size))
    run = train(TINY)
    for precision in ("float32", "tf32"):
        sweeps._verify_run(replace(run, provenance=run.provenance | {"precision": precision}), EARLY)
    assert sizes == [times * size for size in (2.0**-23, 2.0**-11) for times in sweeps.NUDGES]


# ---- runs that are worth a GPU

@pytest.fixture
def no_gpu(monkeypatch):
    monkeypatch.setattr(sweeps, "find_device", lambda name="auto": torch.device("cpu"))
    monkeypatch.setattr(sweeps, "RESULTS", RESULTS)


def test_without_a_gpu_a_run_is_shown_as_recorded_on_one(no_gpu):
    trace, where = sweeps.live_or_recorded(SWEEPS["resnet18-cifar10"], {"loss": "squared"})
    assert where.startswith("No GPU here. Recorded on NVIDIA H100") and trace.provenance["device"].startswith("NVIDIA H100")
    assert (trace.config.model, trace.config.dataset, trace.config.loss, trace.config.seed) == ("resnet18", "cifar10", "squared", 0)


def test_without_a_gpu_and_a_record_of_one_it_is_the_processors(no_gpu):
    trace, where = sweeps.live_or_recorded(SWEEPS["lenet-digits"], {"loss": "squared"})
    assert trace is SWEEPS["lenet-digits"][{"loss": "squared"}][0]
    assert where.startswith("No GPU here, and none when it was recorded")


def test_with_a_gpu_it_is_trained_on_it(monkeypatch):
    if not torch.cuda.is_available():
        pytest.skip("torch sees no GPU")
    trace, where = sweeps.live_or_recorded(Sweep("tiny", TINY), {}, progress=False)
    assert where.startswith("Trained here, on ") and trace.provenance["device"] == torch.cuda.get_device_name()


def test_the_runs_of_another_machine_are_recipes_of_the_book():
    recipes = [config for name in SWEEPS for config in SWEEPS[name].configs()]
    for run in map(Trace.from_dict, read_record(sweeps.ON_A_GPU)["runs"]):
        assert any(sweeps._alike(run.config, recipe) for recipe in recipes), run.config
        assert run.provenance["device"].startswith("NVIDIA") and run.provenance["code"]
        check_identities(run)
