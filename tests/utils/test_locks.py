import os
import subprocess
import sys
import threading
import time

from mmgraph_robust.utils import claim

HOLD = """
import sys, time
from mmgraph_robust.utils import claim
with claim(sys.argv[1]) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""


def test_a_lock_belongs_to_one_and_dies_with_its_process(tmp_path):
    path = tmp_path / "a" / "x.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline().strip() == "True"
    with claim(path) as mine:
        assert not mine
    assert path.exists()
    holder.kill()
    holder.communicate()
    with claim(path) as mine:
        assert mine
    assert not path.exists()


def test_of_many_that_ask_again_and_again_never_two_have_it(tmp_path):
    path, inside, most = tmp_path / "x.lock", [], []

    def work():
        for _ in range(200):
            with claim(path) as mine:
                if mine:
                    inside.append(1)
                    # Long enough for a second holder to come in and be seen.
                    time.sleep(0.001)
                    most.append(len(inside))
                    inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most
    assert max(most) == 1


def test_a_file_that_its_holder_has_taken_away_is_no_lock(tmp_path, monkeypatch):
    """Opened while another one held it, and locked once he had given it back: a third may hold a new file by then."""
    path, plain = tmp_path / "x.lock", os.open
    first = claim(path)
    assert first.__enter__()

    def late(*arguments):
        handle = plain(*arguments)
        monkeypatch.undo()
        first.__exit__(None, None, None)
        return handle

    monkeypatch.setattr(os, "open", late)
    with claim(path) as mine:
        assert not mine
    with claim(path) as mine:
        assert mine
