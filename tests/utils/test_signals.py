import os
import signal
import subprocess
import sys
import time

import pytest

from mmgraph_robust.utils import uninterrupted

INTERRUPTED = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"


def test_for_a_moment_nothing_is_interrupted():
    with uninterrupted():
        os.kill(os.getpid(), signal.SIGINT)
        child = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True)
    assert child.returncode == 0
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
