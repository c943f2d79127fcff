"""All orders of a case, walked on a stage and judged."""

from __future__ import annotations

from dataclasses import dataclass, field

from . import schedule
from .model import Case, judge
from .stage import Stage

ATTEMPTS = 5


@dataclass
class Tally:
    """What came of one case."""

    case: Case
    orders: int = 0
    steps: int = 0
    anomalies: int = 0
    examples: list[str] = field(default_factory=list)


class Walker:
    """Walks cases, on a stage for each lock, which it keeps."""

    def __init__(self, is_patient: bool = True) -> None:
        self._is_patient = is_patient
        self._stages: dict[str, Stage] = {}

    def close(self) -> None:
        for stage in self._stages.values():
            stage.close()

    def walk(self, case: Case) -> Tally:
        """All orders of a case; one that is not patient ends at the first anomaly.

        A script is sent as source the first time, which makes other choices possible
        than later: then the walk begins anew.
        """
        if case.lock not in self._stages:
            self._stages[case.lock] = Stage(case.lock)
        for attempt in range(ATTEMPTS):
            try:
                return self._tally(case)
            except schedule.Diverged:
                if attempt + 1 == ATTEMPTS:
                    raise
        raise AssertionError

    def _tally(self, case: Case) -> Tally:
        tally, stage = Tally(case), self._stages[case.lock]
        with schedule.no_naps():
            for trial in schedule.walk(lambda choose: stage.play(case, choose)):
                tally.orders += 1
                tally.steps += len(trial.steps)
                wrong = judge(trial)
                if wrong:
                    tally.anomalies += 1
                    tally.examples.append(f"{schedule.told(trial.steps)}: {wrong}")
                    if not self._is_patient:
                        break
        return tally

    def __enter__(self) -> Walker:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
