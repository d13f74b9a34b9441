"""What a record says it was made by: a hash of the code that runs, on every Python the same."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clt_utils import provenance, training

PACKAGE = Path(training.__file__).parent


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package -> hash_of(file, text): the hash of ``own.start`` after this edit, undone again; a process reads it anew."""
    files = {"__init__.py": "", "start.py": "from . import a\nfrom .b import f\nimport own.c\n", "a.py": "x = 1\n",
             "b/__init__.py": "from .deep import f\n", "b/deep.py": "from ..a import x\n\n\ndef f():\n    return x\n",
             "c.py": "import json\n", "other.py": "y = 1\n"}
    for name, text in files.items():
        path = tmp_path / "own" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="\n")

    monkeypatch.syspath_prepend(tmp_path)

    def hash_of(name=None, text=None):
        edited = tmp_path / "own" / (name or "start.py")
        edited.write_text(files[name or "start.py"] if text is None else text, encoding="utf-8", newline="\n")
        try:
            return provenance._hash.__wrapped__("own.start")  # past its memory
        finally:
            edited.write_text(files[name or "start.py"], encoding="utf-8", newline="\n")

    yield hash_of
    for name in [name for name in sys.modules if name.split(".")[0] == "own"]:
        del sys.modules[name]


def test_the_hash_sees_every_byte_of_what_is_imported_and_nothing_else(package):
    before = package()
    assert len(before) == 12 and package() == before
    for name in ("__init__.py", "start.py", "a.py", "b/__init__.py", "b/deep.py", "c.py"):
        assert package(name, "# an edit\n") != before, name
    assert package("other.py", "y = 2\n") == before
    assert package("a.py", "x = 1  # a comment\n") != before


@pytest.mark.parametrize("text", ["from .gone import z\n", "import own.gone\n", "from . import a\nfrom .gone.deeper import z\n"])
def test_a_module_that_is_not_there_is_an_error(text, package):
    with pytest.raises(ModuleNotFoundError, match="own.gone"):
        package("c.py", text)


def test_the_hash_is_of_what_was_imported(tmp_path):
    """A file that changes after the import is not what runs."""
    (tmp_path / "clt_utils").mkdir()
    for path in PACKAGE.rglob("*.py"):
        copy = tmp_path / "clt_utils" / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())
    code = ("from pathlib import Path; from clt_utils import training, provenance, models; path = Path(models.__file__); "
            "path.write_text(path.read_text(encoding='utf-8') + '# later', encoding='utf-8'); print(provenance.code_hash())")
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(tmp_path)},
                          capture_output=True, text=True, check=True)
    assert done.stdout.strip() == training.code_hash()


def test_the_book_hashes_all_that_training_needs():
    names = {"training", "models", "data", "duality", "interval", "provenance", "_checks"}
    source = (PACKAGE / "training.py").read_bytes()
    assert {f"clt_utils.{name}" for name in names - {"training"}} <= set(provenance._imports(source, "clt_utils", "clt_utils"))


def test_the_processor_has_a_name():
    assert provenance.processor().strip() and "\n" not in provenance.processor()
