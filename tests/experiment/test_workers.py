import os
import signal
import time

import pytest

from mmgraph_robust.errors import ConfigError, MMGraphError
from mmgraph_robust.experiment import RunConfig, run
from mmgraph_robust.experiment.workers import Workers
from tests.experiment.test_run import CONFIG, LISTS_PROCESSES, all_end, numbers


def square(x):
    return x * x


def die(x):
    if x == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return x


def test_every_task_is_done_once():
    with Workers(2) as workers:
        assert sorted(workers(square, range(7))) == [x * x for x in range(7)]


@pytest.mark.parametrize("tasks", [3, 12])
def test_a_dead_process_is_told(tasks, capfd):
    with Workers(2) as workers, pytest.raises(MMGraphError, match="a process died.*run again"):
        list(workers(die, range(tasks)))
    assert "Traceback" not in capfd.readouterr().err


def wait(folder):
    """Leaves a file with its process's number and waits, where a folder is given."""
    if folder is not None:
        (folder / str(os.getpid())).touch()
        time.sleep(60)


@LISTS_PROCESSES
def test_whoever_leaves_between_two_results_ends_them_without_a_word(tmp_path, recwarn):
    with Workers(2) as workers, pytest.raises(KeyboardInterrupt):
        for _ in workers(wait, [None, *[tmp_path] * 9]):
            while len(list(tmp_path.iterdir())) < 2:
                time.sleep(0.05)
            raise KeyboardInterrupt
    assert all_end([int(path.name) for path in tmp_path.iterdir()])
    assert not recwarn


def test_a_cluster_gives_the_numbers_of_one_process(tmp_path):
    distributed = pytest.importorskip("distributed")
    config = RunConfig(CONFIG | {"models": CONFIG["models"][1:]})
    run(config, tmp_path / "one", progress=False, threads=1)
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        run(config, tmp_path / "cluster", progress=False, threads=1, cluster=cluster.scheduler_address)
    assert numbers(tmp_path / "one") == numbers(tmp_path / "cluster")


def test_a_cluster_that_is_not_there_is_told(monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("mmgraph_robust.experiment.workers._CONNECT_S", 1)
    with pytest.raises(ConfigError, match=r"no Dask scheduler answers at 'tcp://127\.0\.0\.1:1'"):
        Workers(1, "tcp://127.0.0.1:1")
    with pytest.raises(ConfigError, match="no Dask scheduler answers at 'nonsense://'"):
        Workers(1, "nonsense://")
