import pytest

from mmgraph_robust.attacks import Square
from mmgraph_robust.errors import ConfigError


def test_bad_arguments_of_square():
    with pytest.raises(ConfigError, match="share"):
        Square(share=0.0)
