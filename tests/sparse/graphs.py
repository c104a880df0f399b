"""Small sparse matrices for the tests of this folder."""

import torch
from hypothesis import strategies as st


@st.composite
def edges(draw):
    """``(edge_index, values, rows, cols)``: isolated rows and columns, duplicates and no edges at all among them."""
    rows, cols = draw(st.integers(1, 7)), draw(st.integers(1, 7))
    pairs = draw(st.lists(st.tuples(st.integers(0, rows - 1), st.integers(0, cols - 1)), max_size=20))
    edge_index = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).t()
    values = torch.tensor(draw(st.lists(st.floats(0.1, 2), min_size=len(pairs), max_size=len(pairs))))
    return edge_index, values, rows, cols
