"""Install what the book needs into .venv; `make` calls this, and so can you: python tools/install.py

It needs nothing but a Python, and reads on a Python that is too old for the book, to say so: no syntax after Python 2.7.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import time

OLDEST = (3, 10)
SPACE = 9  # GB: what is installed takes 7, and pip unpacks it somewhere
ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
VENV = os.path.join(ROOT, ".venv")
PYTHON = os.path.join(VENV, "Scripts", "python.exe") if os.name == "nt" else os.path.join(VENV, "bin", "python")
ASK = "import pip, sys; sys.exit(sys.version_info < {})".format(OLDEST)  # is this a whole environment, and not too old?

# What pip says, and what it means. The first that fits is told.
TROUBLE = [
    (("no space left", "disk quota"), "no space is left on the disk. Expected: about {space} GB for what is installed and for pip's "
     "temporary files. Free some, or name another disk for the latter in TMPDIR"),
    (("certificate_verify_failed", "certificate verify failed"), "a certificate that Python does not trust, as behind a company's proxy. "
     "Expected: one it trusts. Name your certificates in PIP_CERT"),
    (("connection", "name resolution", "getaddrinfo", "unreachable", "timed out", "proxyerror", "retries exceeded"),
     "no network, or none that pip can use. Expected: a connection to the Python package index for this one step; the book itself needs "
     "none. Connect, or name a proxy in HTTPS_PROXY or a mirror in PIP_INDEX_URL"),
    (("permission denied", "read-only file system"), "a folder that cannot be written to, above. Expected: one of yours. Copy the book to "
     "a folder of your own"),
    (("no matching distribution", "resolutionimpossible"), "no release of a package, named above, fits Python {python} and this "
     "system. Expected: Python 3.10 to 3.13 on 64-bit Linux, macOS 14 or later on Apple silicon, or Windows. Try another Python: "
     "make PYTHON=/path/to/python"),
]


def stop(given):
    """End with a message that holds what was given, what was expected and what to do."""
    sys.stdout.flush()
    sys.exit("\nGiven: {}. Then try again.".format(given))


def runs(*command):
    """Whether a command ends well."""
    try:
        return subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) == 0
    except OSError:
        return False


def check_python():
    if sys.version_info < OLDEST:
        stop("Python {}, {}. Expected: 3.10 or later. Install one, or say where it is: make PYTHON=/path/to/python".format(
            ".".join(map(str, sys.version_info[:3])), sys.executable))


def check_space(space):
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < space:
        stop("{:.1f} GB free in {}. Expected: {:.0f} GB, most of them for torch. Free some; or, if you know that less will do (as for "
             "torch without CUDA), say how much: make SPACE=2".format(free, ROOT, space))


def environment(space):
    """A virtual environment that works; one that is broken is made anew."""
    if runs(PYTHON, "-c", ASK):
        return
    if os.path.islink(VENV):
        stop("the environment .venv is a link to {}, which is broken. Expected: a whole one. Mend it, or delete the link".format(
            os.path.realpath(VENV)))
    if os.path.exists(VENV):
        print("The environment .venv is broken: its Python is gone or too old, or has no pip. It is made anew.")
        shutil.rmtree(VENV)
    check_space(space)
    if subprocess.call([sys.executable, "-m", "venv", VENV]) != 0:
        shutil.rmtree(VENV, ignore_errors=True)
        stop("Python {} that cannot make an environment, see above. Expected: the module venv with pip. On Debian and Ubuntu: apt-get "
             "install python3-venv".format(sys.executable))


def packages():
    """How many packages the list of exact versions has; not each is for every system."""
    with open(os.path.join(ROOT, "constraints.txt"), encoding="utf-8") as lines:
        return len({line.split("==")[0] for line in lines if "==" in line})


def install(arguments):
    """Run pip and say how far it is; if it fails, say what its error means."""
    command = [PYTHON, "-u", "-m", "pip", "install", "--disable-pip-version-check", "--progress-bar", "off"]
    pip = subprocess.Popen(command + arguments, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
                           errors="replace")
    start, said, found, errors = time.time(), [], 0, []
    for line in pip.stdout:
        said.append(line)
        large = re.search(r"Downloading (\S+) \((\d{2,}(\.\d+)? MB|.* GB)\)", line)
        if line.startswith("Collecting "):
            found += 1
            if found % 20 == 0:
                print("  {} of about {} packages are here, after {:.0f} s".format(found, packages(), time.time() - start))
        elif large:
            print("  Downloading {} of {}".format(large.group(2), large.group(1).split("/")[-1].split("-")[0]))
        elif line.startswith("Installing collected packages"):
            print("  All are here, after {:.0f} s; unpacking them takes a minute or two".format(time.time() - start))
        elif line.lstrip().lower().startswith("error"):
            errors.append(line)
        sys.stdout.flush()
    if pip.wait() == 0:
        return
    print("".join(errors[-10:] or said[-10:]))
    everything = "".join(said).lower()
    for words, meaning in TROUBLE:
        if any(word in everything for word in words):
            stop(meaning.format(space=SPACE, python=sys.version.split()[0]))
    stop("an error of pip, above, that this script does not know. Expected: an installation. Mend what it names; `make clean` and "
         "deleting .venv start from nothing")


def main():
    check_python()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--space", type=float, default=SPACE, help="GB that must be free before a first installation")
    options, for_pip = parser.parse_known_args()
    environment(options.space)
    print("Installing into .venv what the book needs: the first time about 5 minutes, and 3 GB to download.")
    sys.stdout.flush()
    install(for_pip or ["-c", "constraints.txt", "-r", "requirements.txt"])


if __name__ == "__main__":
    main()
