import math

import pytest
import torch

from benchmarks.speed.__main__ import main
from benchmarks.speed.case import Case, Contestant, Run, Settings
from benchmarks.speed.cases import OPERATIONS, find
from benchmarks.speed.graphs import available, power_law, user_item
from benchmarks.speed.measure import measure, steps
from benchmarks.speed.memory import peak_memory
from benchmarks.speed.table import COLUMNS, order_engines, render
from benchmarks.speed.table import main as write_tables
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.sparse import ENGINES
from mmgraph_robust.utils import read_json, write_json

SMOKE = Settings(smoke=True, repeats=1, memory=False)
BANDWIDTH = 1e10


@pytest.fixture(scope="module")
def record(tmp_path_factory):
    """All cases once, at their smallest."""
    path = tmp_path_factory.mktemp("speed") / "here.json"
    main(repeats=1, smoke=True, memory=False, out=path)
    return read_json(path)


def numbers(value):
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for part in value:
            yield from numbers(part)
    elif isinstance(value, float):
        yield value


def results(record):
    return [(case, result) for case in record["cases"] for result in case["results"]]


def test_every_contestant_of_every_case_runs_and_agrees_with_the_judge(record):
    assert {case["operation"] for case in record["cases"]} == set(OPERATIONS)
    for case, result in results(record):
        assert result["status"] == "ok", (case["case"], result["contestant"], result["reason"])
        assert result["error"] is not None or result["role"] == "bound"
        assert result["forward"]["median"] >= result["forward"]["min"] > 0
        if case["operation"] in ("spmm", "sddmm", "segment", "softmax", "attention", "lattice"):
            assert result["backward"]["median"] > 0
        if case["operation"] in ("spmm", "sddmm", "segment"):
            assert set(result["share_of_bandwidth"]["forward"]) == {"compulsory", "gather"}
    assert all(math.isfinite(number) for number in numbers(record))


def test_every_case_has_one_default_of_ours_and_somebody_to_compare_with(record):
    for case in record["cases"]:
        roles = [result["role"] for result in case["results"]]
        assert roles.count("ours") == 1
        assert "reference" in roles


def test_a_record_says_how_it_came_about(record):
    (run,) = record["runs"].values()
    assert record["type"] == "cpu"
    assert record["smoke"]
    assert run["copy_bandwidth"] > 0
    assert {"machine", "cores", "threads", "load", "commit", "created", "versions"} <= set(run)
    assert run["versions"]["torch"] in torch.__version__


def test_measuring_again_replaces_a_case_and_keeps_the_others(tmp_path):
    path = tmp_path / "here.json"
    main(only="softmax,sampling", repeats=1, smoke=True, memory=False, out=path)
    before = read_json(path)
    main(only="sampling", named="uniform", repeats=2, smoke=True, memory=False, out=path)
    after = read_json(path)
    names = {(case["operation"], case["case"]) for case in before["cases"]}
    assert len(after["cases"]) == len(names)
    assert {(case["operation"], case["case"]) for case in after["cases"]} == names
    repeats = {(case["operation"], case["case"]): result["forward"]["repeats"] for case, result in results(after)}
    assert repeats == {name: 1 + (name == ("sampling", "power-law, uniform")) for name in names}
    assert {case["run"] for case in after["cases"]} == set(after["runs"])
    write_json(path, after | {"device": "an abacus"})
    with pytest.raises(ConfigError, match="holds what was measured on 'an abacus': name another file by --out"):
        main(only="sampling", named="uniform", repeats=1, smoke=True, memory=False, out=path)
    assert read_json(path)["cases"] == after["cases"]


def test_whoever_is_wrong_is_named_and_not_timed():
    x = torch.ones(3, requires_grad=True)

    def fail():
        raise RuntimeError("too large\nand more")

    case = Case(
        operation="spmm",
        name="planted",
        build=lambda: x,
        contestants=(
            Contestant("judge", lambda x: Run(lambda: 2 * x, (x,))),
            Contestant("right", lambda x: Run(lambda: x + x, (x,))),
            Contestant("wrong value", lambda x: Run(lambda: 2.1 * x, (x,))),
            Contestant("wrong gradient", lambda x: Run(lambda: 2 * x.detach() + 0 * x, (x,))),
            Contestant("not a number", lambda x: Run(lambda: torch.nan * x, (x,))),
            Contestant("other shape", lambda x: Run(lambda: (2 * x).sum()[None] + 0 * x[:1], (x,))),
            Contestant("broken", lambda x: Run(fail, (x,))),
            Contestant("part", lambda x: Run(lambda: x.detach()), role="bound"),
        ),
    )
    found = {result["contestant"]: result for result in measure(case, SMOKE, BANDWIDTH)["results"]}
    status = {name: result["status"] for name, result in found.items()}
    assert status.pop("other shape") in ("wrong", "failed")
    assert status == {
        "judge": "ok", "right": "ok", "wrong value": "wrong", "wrong gradient": "wrong", "not a number": "wrong",
        "broken": "failed", "part": "ok",
    }  # fmt: skip
    assert found["wrong value"]["error"] == pytest.approx(0.05)
    assert "differs from judge" in found["wrong value"]["reason"]
    assert found["broken"]["reason"] == "RuntimeError: too large"
    assert all((result["forward"] is None) == (result["status"] != "ok") for result in found.values())


def test_slow_contestants_get_fewer_repeats_and_the_bar_ends_full():
    case = Case(
        operation="sampling",
        name="planted",
        build=lambda: torch.ones(2),
        contestants=(
            Contestant("fast", lambda x: Run(lambda: x + 1)),
            Contestant("slow", lambda x: Run(lambda: x + 1), most_repeats=2),
        ),
    )
    settings, calls = Settings(smoke=True, repeats=5, memory=False), []
    fast, slow = measure(case, settings, BANDWIDTH, calls.append)["results"]
    assert (fast["forward"]["repeats"], slow["forward"]["repeats"]) == (5, 2)
    assert len(calls) == steps(case, settings) == 9


def test_memory_is_that_of_the_pass_alone():
    """Neighbours of 500 rows take a few megabytes; the process, with torch in it, takes hundreds."""
    settings = Settings(smoke=True, million="torch")
    peak = peak_memory(find("knn", "1,000,000 x 64", settings), "ours (torch)", settings)
    assert peak.forward is not None, peak.reason
    assert peak.added is None or 0 < peak.added < 64e6
    assert peak.total is None or peak.total > 100e6


def test_traffic_of_a_product_counts_every_byte():
    case = find("spmm", "power-law, users x items", SMOKE)
    product = case.build()
    adj, traffic = product.adj, case.traffic(product)
    met = torch.unique(adj.col).numel()
    pattern = 4 * (adj.num_rows + 1 + 2 * adj.num_edges)
    assert traffic["forward"].compulsory == pattern + 4 * 64 * (adj.num_rows + met)
    assert traffic["forward"].gather == pattern + 4 * 64 * (adj.num_rows + adj.num_edges)
    assert set(traffic) == {"forward", "backward"}


def test_the_power_law_graph_is_what_it_says():
    adj = power_law(500, 300, 4000)
    assert adj.shape == (500, 300)
    assert torch.unique(adj.edge_index(), dim=1).size(1) == adj.num_edges == 4000
    assert torch.equal(adj.edge_index(), power_law(500, 300, 4000).edge_index())
    degree = adj.t().degree().sort(descending=True).values
    assert degree[:30].sum() > 3 * 4000 * 30 / 300


def test_real_graphs_are_their_training_edges_and_skipped_where_absent(tmp_path, capsys):
    folder = tmp_path / "amazon-baby"
    folder.mkdir()
    rows = [
        "userID\titemID\trating\ttimestamp\tx_label",
        "1\t2\t5\t0\t0",
        "0\t1\t5\t0\t0",
        "0\t3\t5\t0\t1",
        "1\t1\t5\t0\t2",
    ]
    (folder / "amazon-baby.inter").write_text("\n".join(rows) + "\n")
    settings = Settings(data=tmp_path)
    assert available(settings) == ["amazon-baby", "power-law"]
    assert "amazon-sports is skipped" in capsys.readouterr().err
    adj = user_item("amazon-baby", settings)
    assert adj.shape == (2, 4)
    assert adj.edge_index().tolist() == [[0, 1], [1, 2]]


def test_the_page_has_a_row_per_contestant_and_a_block_of_columns_per_device(record):
    page = render([record])
    assert "no measurement" in page
    for case, result in results(record):
        assert f"| {case['case']} | {result['contestant']} |" in page
    assert "A: forward, ms" not in page
    two = render([record, {**record, "device": "Another", "cases": record["cases"][:1]}])
    assert "**B**: Another" in two
    for line in two.splitlines():
        if line.startswith("| "):
            assert line.count(" | ") == 1 + 2 * len(COLUMNS), line
    first = next(line for line in page.splitlines() if line.startswith("| amazon-baby, users x items | ours ("))
    assert first.split(" | ")[4] == "1.00"


def test_the_command_writes_the_page_and_the_order_of_engines(record, tmp_path):
    write_json(tmp_path / "results" / "a.json", {**record, "smoke": False})
    table = {device: {"matmul": ["torch"], "dot": [], "segment": ["gather"]} for device in ("cpu", "cuda")}
    write_json(tmp_path / "engines.json", table)
    write_tables(tmp_path / "results", tmp_path / "speed.md", tmp_path / "engines.json")
    assert "python -m benchmarks.speed --device cuda" in (tmp_path / "speed.md").read_text()
    written = read_json(tmp_path / "engines.json")
    assert set(written) == {"cpu", "cuda"}
    for operations in written.values():
        for operation, names in operations.items():
            assert sorted(names) == sorted(name for name in ENGINES if operation in ENGINES[name].operations)


def measured(**seconds):
    """A case in which engines took so many seconds; 0 stands for a wrong result."""
    entries = [
        {
            "engine": {"operation": "matmul", "name": name},
            "status": "ok" if time else "wrong",
            "forward": {"median": time} if time else None,
        }
        for name, time in seconds.items()
    ]
    return {"type": "cpu", "smoke": False, "cases": [{"results": [{"engine": None}, *entries]}]}


UNMEASURED = ["embedding_bag", "torch_sparse"]


def order(*records):
    table = {"cpu": {"matmul": ["torch", "gather"], "dot": ["gather", "torch"], "segment": ["gather"]}}
    return order_engines(records, table)["cpu"]


def test_the_faster_engine_comes_first_and_the_unmeasured_last():
    assert order(measured(torch=2.0, gather=1.0))["matmul"] == ["gather", "torch", *UNMEASURED]
    assert order(measured(torch=1.0, gather=2.0))["matmul"] == ["torch", "gather", *UNMEASURED]
    assert order(measured(torch_sparse=1.0))["matmul"] == ["torch_sparse", "torch", "gather", "embedding_bag"]
    assert order(measured(torch=1.0))["dot"] == ["gather", "torch"]


def test_engines_are_rated_over_all_cases():
    records = measured(torch=1.0, gather=4.0), measured(torch=20.0, gather=10.0)
    assert order(*records)["matmul"][0] == "torch"


def test_a_wrong_engine_is_left_out_and_a_smoke_run_counts_for_nothing():
    assert order(measured(torch=1.0, gather=2.0), measured(torch=0, gather=2.0))["matmul"] == ["gather", *UNMEASURED]
    assert order({**measured(torch=2.0, gather=1.0), "smoke": True})["matmul"] == ["torch", "gather", *UNMEASURED]
