"""A study of nothing in particular, in processes of its own: FOLDER STORAGE WORKERS TRIALS."""

import json
import os
import sys
import time
from pathlib import Path

from mmgraph_robust.errors import NonFiniteError
from mmgraph_robust.tuning import StudyConfig, tune

TOY = json.loads((Path(__file__).parent / "data" / "study-1.json").read_text())


def make(config, study, data, device, sign):
    """Trials that take no time; one that finds a file 'hang' takes it away and waits to be killed."""
    folder = Path(os.environ["STUDY_FOLDER"])

    def objective(trial):
        values = config.suggest(trial)
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
