"""The benchmark on small cases, that of a GPU included: all but the calls of torch.cuda themselves."""

import importlib.util

import pytest
import torch
from sitemap import ROOT

from clt_utils.provenance import read_record
from clt_utils.structure import structure_matrix

SMALL = ("lenet", 1, 12, 3, 2)  # model, channels, image size, K, batch


@pytest.fixture(scope="module")
def bench():
    spec = importlib.util.spec_from_file_location("structure_benchmark", ROOT / "benchmarks" / "structure.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def card(bench, monkeypatch):
    """What measures on a GPU, with the CPU in place of the card; ``calls`` has what it asked torch.cuda for."""
    calls, held = [], iter(range(0, 10**12, 2**20))
    said = {"synchronize": None, "reset_peak_memory_stats": None, "memory_allocated": 0, "mem_get_info": (2**34, 2**35)}
    for name, value in said.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, name=name, value=value: calls.append(name) or value)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: next(held))
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn
    before = products.allow_tf32, convolutions.allow_tf32
    products.allow_tf32 = convolutions.allow_tf32 = True
    machine = bench.Card(torch.device("cpu"))
    machine.calls = calls
    yield machine
    products.allow_tf32, convolutions.allow_tf32 = before


def test_a_row_of_a_gpu_has_every_methods_memory_and_waits_for_the_work(bench, card):
    row = bench.measure(SMALL, 2, card)
    ours = {"ours", "train_step", "data_sweeps", "full_backwards", "vmap_jacrev", "one_by_one", "batched_grads"}
    assert "per_parameter" in row["skipped"] and ours <= row["median_ms"].keys() == row["peak_mb"].keys()
    assert list(row["peak_mb"].values()) == [float(i) for i in range(len(row["peak_mb"]))]  # MB above what was there
    assert card.calls.count("synchronize") >= 2 * 2 * len(row["median_ms"])  # before and after each repeat
    assert set(row["repeats"].values()) == {2}
    card.patience = 0.0
    assert set(bench.measure(SMALL, 2, card)["repeats"].values()) == {1}
    assert max(row["error"].values()) < 1e-5
    assert not torch.backends.cudnn.allow_tf32 and not torch.backends.cuda.matmul.allow_tf32
    assert bench.probing(card, steps=5)["ratio"] > 0


def test_what_does_not_fit_a_card_is_left_out(bench, card, monkeypatch):
    model = bench.build("lenet", 10, 1, 28)
    numbers = 1024 * 10 * sum(p.numel() for p in model.parameters())
    left_out = lambda method: bench.unfit(method, "lenet", model, 1024, 10, card)
    assert left_out("vmap_jacrev") is None and left_out("ours") is None
    assert "sample by sample" in left_out("one_by_one")
    card.numbers = numbers - 1
    assert "GB" in left_out("vmap_jacrev")
    monkeypatch.setattr(card, "device", torch.device("cuda"))
    assert "processor" in left_out("neural_tangents")


def test_running_out_of_memory_costs_one_method_and_not_the_case(bench, card, monkeypatch):
    def scarce(model, x):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setitem(bench.METHODS, "vmap_jacrev", scarce)
    row = bench.measure(SMALL, 1, card)
    assert "out of memory" in row["skipped"]["vmap_jacrev"] and "vmap_jacrev" not in row["median_ms"]


def test_operations_are_counted(bench):
    """Twice the multiplications of a linear layer; K sweeps through it for its inputs; and in proportion to the samples."""
    layer, x = torch.nn.Linear(5, 3), torch.randn(4, 5)
    assert bench.operations(layer, x) == 2 * 4 * 5 * 3
    counts = [[bench.operations(bench.METHODS[method], *bench.problem("lenet", 1, 12, 3, batch)) for batch in (2, 4)]
              for method in ("data_sweeps", "train_step")]
    assert all(two * 2 == four > 0 for two, four in counts)
    unguarded = []
    for batch in (2, 4):
        model, x = bench.problem("lenet", 1, 12, 3, batch)
        for _ in range(2):
            structure_matrix(model, x)  # learns how many samples fit in a block, and the graph of so many
        unguarded.append(bench.operations(lambda: structure_matrix(model, x, verify="none")))
    assert unguarded[0] * 2 == unguarded[1] > counts[0][1]


def test_the_record_of_a_quick_run(bench, monkeypatch, tmp_path, capsys):
    """The command line, with one case: every field that the book's page reads, from a run that takes seconds."""
    monkeypatch.setattr(bench.Processor, "cases", [("lenet", 1, 12, 3, (2,))])
    monkeypatch.setattr(bench, "peak_megabytes", lambda *case: 1.0)
    monkeypatch.setattr(bench, "ceiling", lambda machine: {"gflop_per_s": 1.0})
    monkeypatch.setattr(bench, "probing", lambda machine: {"ratio": 1.0})
    bench.main(["--folder", str(tmp_path), "--threads", str(torch.get_num_threads())])
    record = read_record(tmp_path / "structure-benchmark.json")
    case, = record["cases"]
    assert {"model", "K", "batch", "parameters", "median_ms", "min_ms", "error", "best_peer", "ratios", "peak_mb", "gflop"} <= case.keys()
    assert {"device", "precision", "processor", "ceiling", "threads", "torch"} <= record["provenance"].keys()
    assert record["probing"] and "lenet K=3 B=2" in capsys.readouterr().out
    bench.main(["--folder", str(tmp_path / "none"), "--quick"])
    assert not (tmp_path / "none").exists()


def test_peaks_of_a_process_of_its_own(bench):
    assert bench.peak_megabytes(*SMALL, "ours") >= 0


def test_a_gpu_that_is_not_there_is_refused(bench, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="torch sees no GPU"):
        bench.main(["--device", "cuda"])


def test_a_gpu_has_cases_and_a_record_of_its_own(bench):
    assert {(model, K): batches for model, _, _, K, batches in bench.CUDA_CASES} == {
        ("lenet", 10): (16, 64, 1024), ("model-b", 10): (16, 64), ("resnet18", 10): (1, 16, 64), ("resnet18", 100): (1, 16),
        ("vit", 10): (1, 16, 64)}
    assert bench.RECORDS["cuda"] != bench.RECORDS["cpu"] and bench.MACHINES["cuda"] is bench.Card
