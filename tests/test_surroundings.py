"""Bad surroundings, made for real: whoever meets one reads what was given, what was expected and what to do."""

import ast
import os
import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pytest
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn

import clt_book

ROOT = Path(__file__).resolve().parents[1]

needs_posix = pytest.mark.skipif(os.name == "nt", reason="make and shell scripts; Windows has no make")


def script(path, text):
    """A program at ``path``, in the language of the shell."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


PYTHON_39 = f"""exec {sys.executable} -c 'import runpy, sys
sys.version_info, sys.argv = (3, 9, 2, "final", 0), sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")' "$@" """

WORKS = "case \"$*\" in *'pip install'*) echo Collecting everything; exit 0;; esac"  # a Python that does all that is asked, at once


@pytest.fixture
def house(tmp_path):
    """An empty copy of the book, and a function that calls make there."""
    folder = tmp_path / "house"
    for name in ("Makefile", "pyproject.toml", "requirements.txt", "constraints.txt", "tools/install.py", "_toc.yml", "_config.yml"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    home = tmp_path / "home"
    home.mkdir()

    def make(*arguments, **variables):
        environment = {name: value for name, value in os.environ.items() if not re.match("PIP_|MAKE|MFLAGS|PYTHON", name)}
        environment |= {"HOME": str(home), "PIP_CONFIG_FILE": os.devnull} | variables
        done = subprocess.run(["make", *arguments], cwd=folder, env=environment, capture_output=True, encoding="utf-8", check=False)
        done.said = done.stdout + done.stderr
        return done

    return SimpleNamespace(folder=folder, make=make, stamp=folder / ".venv" / ".installed", python=folder / ".venv" / "bin" / "python")


def environment_of(house, text):
    """An environment that is there already, whose Python does what ``text`` says."""
    script(house.python, text)
    return house


def was_told(done, *words):
    """The command failed with one message in the house's form, and without a traceback."""
    assert done.returncode != 0, done.said
    assert "Traceback" not in done.said and done.said.count("Given: ") == 1, done.said
    for word in ("Expected: ", *words):
        assert word in done.said, done.said


@needs_posix
class TestInstallation:
    def test_no_python(self, house):
        was_told(house.make(".venv/.installed", "PYTHON=/nowhere/python"), "no such Python", "make PYTHON=/path/to/python")
        was_told(house.make(".venv/.installed", "PYTHON="), "no such Python")

    def test_an_old_python(self, house, tmp_path):
        old = script(tmp_path / "python3.9", PYTHON_39)
        was_told(house.make(".venv/.installed", f"PYTHON={old}"), "Python 3.9.2", "3.10 or later", "make PYTHON=/path/to/python")
        assert not house.stamp.exists()

    def test_too_little_space(self, house):
        done = house.make(".venv/.installed", f"PYTHON={sys.executable}", "SPACE=123456789")
        was_told(done, "GB free", "123456789 GB", "make SPACE=")
        assert not (house.folder / ".venv").exists()

    def test_a_disk_that_is_full_in_the_middle(self, house):
        environment_of(house, "case \"$*\" in *'pip install'*) echo 'ERROR: [Errno 28] No space left on device'; exit 1;; esac")
        was_told(house.make(".venv/.installed", f"PYTHON={sys.executable}"), "no space is left", "Free some", "Errno 28")
        assert not house.stamp.exists()

    def test_no_network(self, house):
        """pip itself, against an index that does not answer."""
        (house.folder / "requirements.txt").write_text("a-package-that-is-not-there\n", encoding="utf-8")
        environment_of(house, f'exec {sys.executable} "$@"')
        done = house.make(".venv/.installed", f"PYTHON={sys.executable}", PIP_INDEX_URL="http://127.0.0.1:9/simple", PIP_RETRIES="1")
        was_told(done, "no network", "HTTPS_PROXY", "a-package-that-is-not-there")

    def test_an_error_that_nobody_foresaw(self, house):
        environment_of(house, "case \"$*\" in *'pip install'*) echo the moon is full; exit 1;; esac")
        was_told(house.make(".venv/.installed", f"PYTHON={sys.executable}"), "the moon is full", "does not know")

    def test_it_shows_that_it_lives(self, house):
        said = "".join(f"echo Collecting package-{i};" for i in range(45)) + "echo 'Downloading torch-2.whl (530.2 MB)';"
        environment_of(house, f"case \"$*\" in *'pip install'*) {said} echo Installing collected packages: all;; esac")
        done = house.make(".venv/.installed", f"PYTHON={sys.executable}")
        assert done.returncode == 0 and house.stamp.exists(), done.said
        for words in ("about 5 minutes", "20 of about", "40 of about", "Downloading 530.2 MB of torch", "unpacking"):
            assert words in done.stdout

    def test_a_whole_environment_is_left_alone(self, house):
        environment_of(house, WORKS)
        assert "Installing" in house.make(".venv/.installed", f"PYTHON={sys.executable}").stdout
        assert "Installing" not in house.make(".venv/.installed", f"PYTHON={sys.executable}").stdout
        (house.folder / "constraints.txt").write_text("numpy==3\n", encoding="utf-8")
        os.utime(house.folder / "constraints.txt", (2e9, 2e9))
        assert "Installing" in house.make(".venv/.installed", f"PYTHON={sys.executable}").stdout

    @pytest.mark.parametrize("broken", ["exit 1", None], ids=["no pip", "no Python"])
    def test_a_broken_environment_is_made_anew(self, house, tmp_path, broken):
        """The Python that makes the new one is a stand-in that does it at once."""
        environment_of(house, broken)
        if broken is None:
            house.python.unlink()
            house.python.symlink_to("/nowhere/python")
        house.stamp.touch()
        os.utime(house.stamp, (2e9, 2e9))  # newer than all that it depends on
        leftover = house.folder / ".venv" / "leftover"
        leftover.touch()
        maker = script(tmp_path / "python", f"""case "$*" in
            '-m venv '*) mkdir -p "$3/bin"; printf '#!/bin/sh\\n' > "$3/bin/python"; chmod +x "$3/bin/python";;
            *) exec {sys.executable} -c 'import runpy, sys; sys.executable = sys.argv[1]; sys.argv = sys.argv[2:]
runpy.run_path(sys.argv[0], run_name="__main__")' "$0" "$@";;
            esac""")
        done = house.make(".venv/.installed", f"PYTHON={maker}", "SPACE=0")
        assert done.returncode == 0 and "is broken" in done.stdout and "made anew" in done.stdout, done.said
        assert house.stamp.exists() and not leftover.exists()

    def test_an_environment_that_is_elsewhere_is_not_deleted(self, house, tmp_path):
        (tmp_path / "shared").mkdir()
        (tmp_path / "shared" / "precious").touch()
        (house.folder / ".venv").symlink_to(tmp_path / "shared")
        was_told(house.make(".venv/.installed", f"PYTHON={sys.executable}"), "is a link to", str(tmp_path / "shared"))
        assert (tmp_path / "shared" / "precious").exists()

    def test_a_home_where_nothing_can_be_written(self, house):
        environment_of(house, WORKS)
        done = house.make(".venv/.installed", f"PYTHON={sys.executable}", HOME="/proc/nowhere")
        assert done.returncode == 0 and "_build/home stands in" in done.stdout, done.said
        assert (house.folder / "_build" / "home").is_dir()


@needs_posix
def test_no_chromium_and_not_root(house, tmp_path):
    tools = tmp_path / "bin"
    for name in ("bash", "make", "mkdir", "sh", "test", "echo"):
        tools.mkdir(exist_ok=True)
        (tools / name).symlink_to(shutil.which(name))
    script(tools / "id", "echo 1000")
    script(tools / "apt-get", "echo it must not be called; exit 1")
    done = house.make("browser", PATH=str(tools))
    was_told(done, "no Chromium", "apt-get install chromium")
    assert "must not be called" not in done.said


@needs_posix
def test_a_half_finished_site_is_written_anew(house):
    """The builder is a stand-in: it writes one page, and may end before the other."""
    environment_of(house, "exit 0")
    house.stamp.touch()
    assignments = house.folder / "_build" / "assignments" / ".made"
    assignments.parent.mkdir(parents=True)
    assignments.touch()
    for path in (house.stamp, assignments):
        os.utime(path, (2e9, 2e9))
    site, cache = house.folder / "_build" / "html", house.folder / "_build" / ".jupyter_cache" / "chapter"
    builder = house.folder / ".venv" / "bin" / "jupyter-book"

    script(builder, "mkdir -p _build/html _build/.jupyter_cache; touch _build/html/old.html _build/.jupyter_cache/chapter; exit 1")
    assert house.make("site").returncode != 0 and (site / "old.html").exists()
    script(builder, "mkdir -p _build/html; touch _build/html/new.html")
    done = house.make("site")
    assert done.returncode == 0 and "did not finish" in done.stdout, done.said
    assert not (site / "old.html").exists() and (site / "new.html").exists() and cache.exists()
    done = house.make("site")
    assert done.returncode == 0 and "did not finish" not in done.stdout and (site / "new.html").exists()


@pytest.mark.parametrize("left", ["nothing", "an empty folder", "half a file", "all"])
def test_half_an_entry_in_the_cache_of_chapters_is_run_again(tmp_path, left):
    cache = get_cache(tmp_path / "cache")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("1 + 1")])
    assert not clt_book.is_cached(cache, notebook)
    bundle = CacheBundleIn(notebook, "chapter.ipynb", data={"execution_seconds": 1})
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    (file,) = (tmp_path / "cache" / "executed").rglob("*.ipynb")
    if left in ("nothing", "an empty folder"):
        file.unlink()
        if left == "nothing":
            file.parent.rmdir()
    elif left == "half a file":
        file.write_text(file.read_text(encoding="utf-8")[:40], encoding="utf-8")
    assert clt_book.is_cached(cache, notebook) == (left == "all")
    cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)
    assert clt_book.is_cached(cache, notebook)


def test_an_old_python_can_read_the_installer():
    """Nothing in it is newer than Python 2.7, or an old Python would complain of the syntax and not of itself."""
    tree = ast.parse((ROOT / "tools" / "install.py").read_text(encoding="utf-8"), feature_version=(3, 4))
    new = [node for node in ast.walk(tree) if isinstance(node, (ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.AsyncFunctionDef))
           or getattr(node, "annotation", None) or getattr(node, "returns", None) or getattr(node, "kwonlyargs", None)]
    assert not new, f"Given: new syntax in line {new[0].lineno}. Expected: none, see the first lines of the file."


def test_the_readme_says_what_to_type_without_make():
    """The commands of the README are those of the Makefile, one by one, so that they stay right."""
    readme, makefile = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "Makefile"))
    commands = re.search(r"Without `make`.*?```bash\n(.*?)```", readme, re.DOTALL)[1]
    for written, meant in {"\\\n\t\t": "", '"$(CURDIR)/_toc.yml"': "_toc.yml", "$(CORES)": "2", "$(BIN)": ".venv/bin"}.items():
        makefile = makefile.replace(written, meant)
    typed = commands.splitlines()
    assert typed[0] == "python3 tools/install.py" and len(typed) == 4
    for line in typed[1:]:
        assert line in makefile, f"Given: `{line}` in README.md. Expected: a command of the Makefile."
