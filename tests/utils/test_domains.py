import numpy as np
import pytest

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.utils import Categorical, Float, Int


def test_what_lies_inside():
    assert 0.5 in Float(0.0, 1.0)
    assert 1 in Float(0.0, 1.0)
    assert 1.5 not in Float(0.0, 1.0)
    assert True not in Float(0.0, 1.0)
    assert 2 in Int(1, 3)
    assert 2.0 not in Int(1, 3)
    assert True not in Int(1, 3)
    assert 4 not in Int(1, 3)
    assert "a" in Categorical(["a", None])
    assert None in Categorical(["a", None])
    assert 1 not in Categorical([True, 2])
    assert 1 in Categorical([True, 1])


def test_ends_show_the_whole_range():
    assert Float(1, 2).ends == (1.0, 2.0)
    assert Float(np.float32(0.5), np.int64(2)).ends == (0.5, 2.0)
    assert Int(1, 5).ends == (1, 5)
    assert Categorical(["a", "b", "c"]).ends == ("a", "b", "c")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Float(1.0, 1.0), "low < high"),
        (lambda: Float(0.0, float("inf")), "finite"),
        (lambda: Float(0.0, 1.0, log=True), "low > 0"),
        (lambda: Float("a", 1.0), r"'Float' expects numbers \(got 'a'\)"),
        (lambda: Float(False, 1.0), r"'Float' expects numbers \(got False\)"),
        (lambda: Int(3, 3), r"\(got 3 and 3\); a parameter of one value is set, not searched"),
        (lambda: Int(0.5, 2), "whole numbers"),
        (lambda: Int(True, 2), "whole numbers"),
        (lambda: Int(3, 2), "low < high"),
        (lambda: Int(0, 2, log=True), "low > 0"),
        (lambda: Categorical([]), "at least one"),
        (lambda: Categorical("abc"), r"a list of choices \(got 'abc'\)"),
        (lambda: Categorical(3), r"a list of choices \(got 3\)"),
        (lambda: Categorical(["a", "a"]), "different"),
        (lambda: Categorical([[1, 2]]), r"expects text, numbers, truth values or None \(got \[1, 2\]\)"),
    ],
)
def test_empty_ranges_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
