"""The watch along training: what it costs, what it takes, where it shows and writes, and other people's loops."""

import csv
import math
import sys
import warnings
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from test_diagnose import batches, small_net, whole
from test_diagnose_takes import Text, texts
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from clt_utils.diagnose import Watch, cost
from clt_utils.diagnose import watch as watch_module
from clt_utils.duality import SQUARED
from clt_utils.structure import gradient_energy, probe


def few(n=6):
    return tuple(part[:n] for part in whole(batches()))


def watched(**options):
    return Watch(small_net(), *few(), **{"share": None} | options)


def steps_of(watch, steps):
    for step in steps:
        watch(step)
    return [row["step"] for row in watch.rows]


# ---- what it costs

def test_every_so_many_steps():
    assert steps_of(watched(every=10), range(35)) == [0, 10, 20, 30]
    assert steps_of(watched(every=10), [3, 9, 12, 13, 30, 35, 40, 40, 52]) == [3, 13, 30, 40, 52]  # a loop may call it at few steps
    assert steps_of(watched(), [1, 1, 2, 2, 2, 3]) == [1, 2, 3]  # gradients gathered of several batches are one step
    assert steps_of(watched(every=2), [0, 1, 2, 0, 1, 2]) == [0, 2, 0, 2]  # an epoch that counts from zero


def test_both_limits_hold(monkeypatch):
    """A step takes one second and a measurement one: a fifth of the time allows every fifth step, ``every`` every eighth of them."""
    clock, measure = SimpleNamespace(now=0.0), watch_module.probe
    monkeypatch.setattr(watch_module.time, "perf_counter", lambda: clock.now)

    def slow(*arguments):
        clock.now += 1
        return measure(*arguments)

    monkeypatch.setattr(watch_module, "probe", slow)
    for every, share, gap in ((1, 0.2, 4), (8, 0.2, 8), (8, None, 8), (2, 0.1, 9)):
        clock.now = 1000.0  # what went before its first call does not count as training
        watch = watched(every=every, share=share)
        clock.now += 1000.0
        for step in range(60):
            watch(step)
            clock.now += 1
        assert set(np.diff(watch.trace()["step"])) <= {gap, gap + 1} and watch.spent == len(watch.rows)


# ---- what it measures

def test_a_row_is_what_probe_says():
    net, (x, y) = small_net(), few()
    watch = Watch(net, x, y)
    watch(7)
    seen = probe(net, x, y)
    assert watch.rows[0] | {"lower": 0, "upper": 0} == pytest.approx({
        "step": 7, "risk": seen.loss.mean().item(), "energy": seen.energy.mean().item(), "lam_min": seen.lam_min.min().item(),
        "lam_max": seen.lam_max.max().item(), "lower": 0, "upper": 0})
    assert watch.rows[0]["lower"] <= watch.rows[0]["risk"] <= watch.rows[0]["upper"]


def test_it_takes_what_the_report_takes():
    ids, mask, y = texts()
    by_name, by_place = Watch(Text(), {"input_ids": ids, "attention_mask": mask}, y), Watch(Text(), (ids, mask), y.float())
    by_name(0), by_place(0)
    assert by_name.rows and by_name.rows == by_place.rows and not by_name.problems
    x, targets = few()
    plain, one = Watch(small_net(1), x, targets[:, None].float(), SQUARED), Watch(small_net(1), x, targets, SQUARED)
    plain(0), one(0)
    assert plain.rows == one.rows != []


def test_many_outputs_cost_no_matrix(monkeypatch):
    net, (x, y) = small_net(), few()
    monkeypatch.setattr(cost, "MOST_OUTPUTS", 2)
    watch = Watch(net, x, y)
    watch(0)
    row = watch.rows[0]
    assert math.isnan(row["lam_min"]) and math.isnan(row["upper"]) and "nan" not in watch.words() and watch.plot()
    assert row["energy"] == pytest.approx(gradient_energy(net, x, y).mean().item())
    assert row["risk"] == pytest.approx(nn.functional.cross_entropy(net(x), y).item())


def test_a_measurement_that_fails_ends_no_training():
    net, (x, y) = small_net(), few()
    watch = Watch(net, x, y)
    watch(0)
    good = net[0].weight.detach().clone()
    with torch.no_grad():
        net[0].weight.fill_(float("nan"))
    watch.spent = 0
    with pytest.warns(UserWarning, match=r"training goes on. Step 1: ValueError.*NaN"):
        watch(1)
    watch.spent = 0
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # said once
        watch(2)
    with torch.no_grad():
        net[0].weight.copy_(good)
    watch.spent = 0
    watch(3)
    assert [row["step"] for row in watch.rows] == [0, 3] and len(watch.problems) == 1 and watch.rows[0]["risk"] == watch.rows[1]["risk"]


@pytest.mark.parametrize("net, words", [
    (nn.Linear(5, 3), "mat1 and mat2"), (nn.LazyLinear(3), "no shape yet"), (nn.Flatten(), "No parameter requires a gradient"),
    (small_net(2), "labels from 0 to 2"),
    (nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3, track_running_stats=False)), "running statistics"),
])
def test_models_that_cannot_be_measured(net, words):
    watch = Watch(net, *few())
    with pytest.warns(UserWarning, match=words):
        watch(0)
    assert len(watch.problems) == 1 and not watch.rows and watch.words() == "Nothing was measured yet."
    with pytest.raises(ValueError, match="without measurements"):
        watch.plot()


# ---- where it shows and writes

def test_rows_in_a_file_each_as_soon_as_it_is_there(tmp_path):
    path = tmp_path / "run.csv"
    path.write_text("of an older run", encoding="utf-8")
    watch = watched(csv=path)
    for step in range(3):
        watch(step)
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == step + 1 and [{name: float(value) for name, value in row.items()} for row in rows] == watch.rows


def test_a_file_that_cannot_be_written_ends_no_training(tmp_path):
    watch = watched(csv=tmp_path / "no such folder" / "run.csv")
    with pytest.warns(UserWarning, match="no such folder"):
        watch(0)
    assert len(watch.rows) == 1 and len(watch.problems) == 1


def test_a_writer_gets_every_number():
    said = []
    writer = SimpleNamespace(add_scalar=lambda *row: said.append(row), flush=lambda: said.append("flush"))
    watch = watched(tensorboard=writer, every=2)
    assert steps_of(watch, range(3)) == [0, 2]
    assert said == [row for at in watch.rows for row in [*((f"watch/{name}", value, at["step"]) for name, value in at.items()
                                                           if name != "step"), "flush"]]


def test_tensorboard_that_is_not_installed(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ImportError, match=r"Given: no package tensorboard.*`pip install tensorboard`.*csv="):
        watched(tensorboard=tmp_path)


def test_tensorboard(tmp_path):
    pytest.importorskip("tensorboard")
    watch = watched(tensorboard=tmp_path)
    watch(0)
    assert not watch.problems and list(tmp_path.glob("events.out.*"))


def test_a_live_drawing_takes_the_place_of_the_last(monkeypatch):
    said = []
    for name in ("display", "update_display"):
        monkeypatch.setattr(watch_module, name, lambda data, raw, display_id, name=name: said.append((name, data, display_id)))
    watch, open_before = watched(live=True), watch_module.plots.plt.get_fignums()
    steps_of(watch, range(3))
    assert [name for name, *_ in said] == ["display", "update_display", "update_display"] and len({place for *_, place in said}) == 1
    page, words = said[-1][1]["text/html"], said[-1][1]["text/plain"]
    assert words == watch.words() and words.startswith("3 measurements from step 0 to 2: the risk was") and words in page
    assert "<svg" in page and watch_module.plots.plt.get_fignums() == open_before


# ---- other people's loops

@pytest.mark.parametrize("name, install", [("lightning", "lightning"), ("transformers", "transformers")])
def test_a_library_that_is_not_installed(monkeypatch, name, install):
    for module in ("lightning", "lightning.pytorch", "pytorch_lightning", "transformers"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=f"Given: no package {install}.*pip install {install}"):
        getattr(watched(), name)()


def test_callbacks_as_the_libraries_call_them(monkeypatch):
    """With stand-ins for the libraries, which the tests need not install; the two below are the real ones."""
    for module, base in (("lightning.pytorch", "Callback"), ("transformers", "TrainerCallback")):
        monkeypatch.setitem(sys.modules, module.partition(".")[0], ModuleType(module.partition(".")[0]))
        stand_in = ModuleType(module)
        setattr(stand_in, base, type(base, (), {}))
        monkeypatch.setitem(sys.modules, module, stand_in)
    watch = watched()
    lightning, transformers = watch.lightning(), watch.transformers()
    for rank_zero, step in ((True, 1), (False, 2), (True, 3)):
        lightning.on_train_batch_end(SimpleNamespace(is_global_zero=rank_zero, global_step=step), None, {}, ([], []), 0)
    for rank_zero, step in ((True, 4), (False, 5), (True, 6)):
        transformers.on_step_end(None, SimpleNamespace(is_world_process_zero=rank_zero, global_step=step), None, model=None)
    assert [row["step"] for row in watch.rows] == [1, 3, 4, 6]


def test_lightning(tmp_path):
    module = pytest.importorskip("lightning.pytorch")

    class Classifier(module.LightningModule):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.2), nn.Linear(6, 3))

        def training_step(self, batch):
            return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 0.1)

    def weights(watching):
        torch.manual_seed(0)
        model = Classifier()
        watch = Watch(model.net, *few(), share=None, every=2)
        module.Trainer(max_epochs=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
                       enable_model_summary=False, callbacks=[watch.lightning()] * watching,
                       default_root_dir=tmp_path).fit(model, DataLoader(TensorDataset(*whole(batches())), batch_size=16))
        return watch, model.state_dict()

    (watch, seen), (_, alone) = weights(True), weights(False)
    assert [row["step"] for row in watch.rows] == [1, 3, 5, 7] and not watch.problems
    assert all(torch.equal(seen[name], value) for name, value in alone.items())  # watched or not, the training is the same


def test_transformers(tmp_path):
    library = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    config = library.BertConfig(vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8, num_labels=3)
    ids, mask, y = texts()
    rows = [{"input_ids": i, "attention_mask": m, "labels": label} for i, m, label in zip(ids, mask, y)]

    def weights(watching):
        torch.manual_seed(0)
        model = library.BertForSequenceClassification(config)
        watch = Watch(model, {"input_ids": ids[:4], "attention_mask": mask[:4]}, y[:4], share=None, every=2)
        arguments = library.TrainingArguments(str(tmp_path), max_steps=5, per_device_train_batch_size=8, report_to=[], use_cpu=True,
                                              save_strategy="no", disable_tqdm=True)
        trainer = library.Trainer(model, arguments, train_dataset=rows)
        if watching:
            trainer.add_callback(watch.transformers())
        trainer.train()
        return watch, model.state_dict()

    (watch, seen), (_, alone) = weights(True), weights(False)
    assert [row["step"] for row in watch.rows] == [1, 3, 5] and not watch.problems
    assert all(torch.equal(seen[name], value) for name, value in alone.items())
