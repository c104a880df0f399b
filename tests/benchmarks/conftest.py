import sys
from pathlib import Path

# The benchmarks stand beside the package and are not installed.
sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
