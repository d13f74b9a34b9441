"""The report without a notebook.

    python -m clt_utils.diagnose model.py:build data.py:loaders
    python -m clt_utils.diagnose model.py:build data.py:loaders --json report.json --html report.html --candidates 8

``build()`` returns the model, with its weights. ``loaders()`` returns the loader of the training samples, or a pair of it and of one with
held-out samples.
"""

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .. import duality
from . import diagnose

GENERATORS = {name.lower(): thing for name, thing in vars(duality).items() if isinstance(thing, duality.Generator)}


def called(what: str) -> Any:
    """What the function returns that FILE.py:FUNCTION names; the folder of the file is searched for its imports."""
    file, _, name = what.rpartition(":")
    path = Path(file)
    if not (file and path.is_file()):
        raise SystemExit(f"Given: {what}. Expected: FILE.py:FUNCTION, with a file that is there. Correct the path.")
    sys.path.insert(0, str(path.resolve().parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # for classes that are saved and loaded by name
    spec.loader.exec_module(module)
    if not callable(getattr(module, name, None)):
        raise SystemExit(f"Given: {what}. Expected: a function {name!r} in {path.name}. It has: "
                         f"{', '.join(key for key, thing in vars(module).items() if callable(thing) and not key.startswith('_'))}.")
    return getattr(module, name)()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns the exit status, 1 if nothing could be measured."""
    parser = argparse.ArgumentParser("python -m clt_utils.diagnose", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", metavar="MODEL.py:FUNCTION")
    parser.add_argument("data", metavar="DATA.py:FUNCTION")
    parser.add_argument("--generator", choices=sorted(GENERATORS), default="shannon", help="of the loss; shannon is cross-entropy")
    parser.add_argument("--candidates", type=int, default=1, help="how many models were compared on the held-out samples")
    parser.add_argument("--layers", nargs="*", default=[], metavar="NAME", help="submodules whose information loss is estimated")
    parser.add_argument("--probes", type=int, default=32)
    parser.add_argument("--limit", type=int, default=2000, help="samples read from each loader")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--html", type=Path, metavar="FILE")
    options = parser.parse_args(arguments)
    model, data = called(options.model), called(options.data)
    train, test = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    report = diagnose(model, train, test, GENERATORS[options.generator], layers=options.layers, probes=options.probes,
                      limit=options.limit, candidates=options.candidates)
    print(report)
    if not report.numbers and "generator" in " ".join(report.problems):
        print(f"Here the loss is named by `--generator`: {', '.join(sorted(GENERATORS))}.")
    for path, text in ((options.json, report.to_json), (options.html, report._repr_html_)):
        if path:
            path.write_text(text(), encoding="utf-8")
    return int(not report.numbers)


if __name__ == "__main__":
    sys.exit(main())
