"""Other processors: a slice of the numeric tests on two of them, emulated, and the command that runs all."""

import subprocess
import sys

import portable


def test_a_slice_passes_on_other_processors():
    result = subprocess.run([sys.executable, portable.__file__, "--quick"], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr


def test_a_failure_on_one_processor_is_a_failure(tmp_path, capfd):
    test = tmp_path / "test_picky.py"
    test.write_text("import os\n\n\ndef test_processor():\n    assert os.environ.get('ATEN_CPU_CAPABILITY') != 'avx2'\n",
                    encoding="utf-8")
    assert portable.main(["--tests", str(test), "--quick"]) == 1
    said = capfd.readouterr().out
    assert "SSE4, 1 thread       passed" in said and "AVX2, 1 thread       FAILED" in said and "ATEN_CPU_CAPABILITY=avx2" in said
    test.write_text("def test_processor():\n    pass\n", encoding="utf-8")
    assert portable.main(["--tests", str(test), "--quick"]) == 0
