import sys

import pytest

from mmgraph_robust.experiment import RunConfig
from mmgraph_robust.tuning.toml import to_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def test_what_is_written_reads_back():
    values = {
        "text": 'quotes " and \\ and\nlines, ümlauts, \x7f and \x01', "whole": 3, "real": 1e-7, "large": 1e22,
        "yes": True,
        "list": [1, 2.5, "a", [True]], "empty": [],
        "table": {"a.b": {"deep": {"x": 1}}, "list": [{"y": 2}], "none": None},
        "tables": [{"name": "a", "inner": {"z": 0.5}}, {"name": "b"}],
    }  # fmt: skip
    text = to_toml(values, "made\nof\n\nthree")
    assert text.startswith("# made\n# of\n#\n# three\n\n")
    del values["table"]["none"]
    assert tomllib.loads(text) == values


def test_a_run_reads_back():
    config = RunConfig(
        {
            "name": "t", "data": {"format": "synthetic"}, "models": [{"name": "MMGCN"}, {"name": "GRCN"}],
            "attacks": [{"name": "PGD"}], "defenses": [{"name": "AdversarialTraining"}],
        }
    )  # fmt: skip
    assert RunConfig(tomllib.loads(to_toml(config.describe()))).describe() == config.describe()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_none_are_refused(value):
    with pytest.raises(ValueError, match="JSON"):
        to_toml({"x": value})
