"""The examples run, at a small size, and show what they say."""

import re
import runpy
import sys
from pathlib import Path

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"


def test_attack_pixels(monkeypatch, capsys):
    sizes = ["--users", "120", "--items", "90", "--epochs", "12", "--steps", "6"]
    monkeypatch.setattr(sys, "argv", ["attack_pixels.py", *sizes])
    runpy.run_path(str(EXAMPLES / "attack_pixels.py"), run_name="__main__")
    printed = capsys.readouterr().out
    clean = float(re.search(r"recall@20 clean: ([\d.]+)", printed)[1])
    lines = re.findall(r"(\d) of 255 per pixel: attacked ([\d.]+), noise ([\d.]+) {}", printed)
    assert [int(step) for step, _, _ in lines] == [1, 2, 4, 8]
    attacked, noise = float(lines[-1][1]), float(lines[-1][2])
    assert attacked < 0.5 * clean
    assert noise > 0.7 * clean
