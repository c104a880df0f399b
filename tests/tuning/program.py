"""A study of nothing in particular, in processes of its own: FOLDER STORAGE WORKERS TRIALS."""

import json
import os
import sys
import time
from pathlib import Path

from mmgraph_robust.errors import NonFiniteError
from mmgraph_robust.tuning import StudyConfig, tune

TOY = json.loads((Path(__file__).parent / "data" / "study-1.json").read_text())


def meet(folder, number, sign):
    """Waits until two processes have come to a trial of their own of this number."""
    (folder / f"trial{number}-{os.getpid()}").touch()
    end = time.monotonic() + 600
    while len(list(folder.glob(f"trial{number}-*"))) < 2:
        if time.monotonic() > end:
            raise TimeoutError("no second process came")
        time.sleep(0.01)
        sign()


def make(config, study, data, device, sign):
    """Trials that take no time; one that finds a file 'hang' takes it away and waits to be killed.

    Where there is a place to meet, two processes begin their first ten trials together, however fast either is.
    """
    folder, meeting, begun = Path(os.environ["STUDY_FOLDER"]), os.environ.get("STUDY_MEETING"), []

    def objective(trial):
        values = config.suggest(trial)
        begun.append(trial.number)
        if meeting is not None and len(begun) <= 10:
            meet(Path(meeting), len(begun), sign)
        try:
            (folder / "hang").rename(folder / f"hanging-{os.getpid()}-{trial.number}")
        except FileNotFoundError:
            pass
        else:
            for _ in range(6000):
                time.sleep(0.05)
                sign()
        for name, error in (("bug", ZeroDivisionError), ("nan", NonFiniteError)):
            if (folder / name).exists():
                raise error("on purpose")
        trial.set_user_attr("clean", values["models.VBPR.reg"])
        trial.set_user_attr("pid", os.getpid())
        time.sleep(0.02)
        return values["models.VBPR.reg"]

    return objective


if __name__ == "__main__":
    folder, storage, workers, trials = sys.argv[1:]
    os.environ["STUDY_FOLDER"] = folder
    Path(folder).mkdir(parents=True, exist_ok=True)
    settings = TOY["study"] | {"trials": int(trials)}
    tune(StudyConfig(TOY | {"study": settings}), folder, workers=int(workers), storage=storage, threads=1, make=make)
