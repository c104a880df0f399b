import pytest
import torch

from mmgraph_robust.errors import ConfigError
from mmgraph_robust.sparse import faiss_search, knn_search
from mmgraph_robust.typing import WITH_FAISS


@pytest.mark.skipif(not WITH_FAISS, reason="needs faiss")
@pytest.mark.parametrize("include_self", [True, False])
def test_faiss_equals_torch_on_distinct_rows(include_self):
    x = torch.randn(400, 16, generator=torch.Generator().manual_seed(0))
    x[5] = x[6] = x[7]  # a row need not find itself first among equals
    ours, theirs = (knn_search(x, 4, include_self=include_self, engine=engine) for engine in ("torch", "faiss"))
    distinct = torch.ones(400, dtype=torch.bool)
    distinct[5:8] = False
    assert torch.allclose(ours[0], theirs[0], atol=1e-5)
    assert float((ours[1] == theirs[1])[distinct].float().mean()) > 0.99
    assert not (theirs[1][:, int(include_self) :] == torch.arange(400).unsqueeze(1)).any()


@pytest.mark.skipif(not WITH_FAISS, reason="needs faiss")
def test_many_rows_are_searched_by_cells(monkeypatch):
    monkeypatch.setattr(faiss_search, "_EXACT_ROWS", 1000)
    x = torch.randn(4000, 8, generator=torch.Generator().manual_seed(0))
    exact, near = knn_search(x, 10)[1], knn_search(x, 10, engine="faiss")[1]
    found = (exact.unsqueeze(2) == near.unsqueeze(1)).any(2).float().mean()
    assert 0.7 < float(found) <= 1.0


def test_without_faiss_the_error_names_it(monkeypatch):
    monkeypatch.setattr(faiss_search, "WITH_FAISS", False)
    with pytest.raises(ConfigError, match="pip install"):
        knn_search(torch.randn(5, 2), 2, engine="faiss")


@pytest.mark.skipif(not WITH_FAISS, reason="needs faiss")
def test_a_row_alone_is_its_own_neighbour():
    x = torch.randn(5, 3)
    for ours, theirs in zip(knn_search(x, 1), knn_search(x, 1, engine="faiss"), strict=True):
        assert torch.allclose(ours.float(), theirs.float())
