"""The ways in which a trial ends, and what each means to Optuna."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import optuna

Ending = Literal["complete", "pruned", "failed", "surplus", "interrupted", "taken", "exhausted"]
"""How a trial ended, for the loop that runs trials and for Optuna:

complete     trained to its last epoch                                    Optuna: COMPLETE, with values
pruned       ended early, diverged or out of memory                       Optuna: PRUNED
failed       its build or its process failed; the search continues        Optuna: FAIL
surplus      proposed after enough others; the search continues           Optuna: FAIL
interrupted  the search ends; a new trial is queued that resumes it       Optuna: FAIL
taken        another process has taken it; the search continues           Optuna: FAIL, set by that process
exhausted    no network of the space is left; the search ends             Optuna: FAIL
"""


@dataclass(frozen=True)
class TrialEnd:
    """How a trial ended, and what it reached."""

    ending: Ending
    values: tuple[float, ...] = ()
    """Of the objectives, where it is complete."""

    def for_optuna(self) -> tuple[float, ...]:
        """Returns the values of a complete trial; `Study.optimize` takes every other ending as an exception."""
        if self.ending == "complete":
            return self.values
        if self.ending == "pruned":
            raise optuna.TrialPruned
        raise TrialFailed


class TrialFailed(Exception):
    """Makes `Study.optimize` note a trial as FAIL and return."""
