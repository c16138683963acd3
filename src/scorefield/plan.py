"""How a budget of network evaluations is spent: a solver by its name, and the times that it walks.

Plans are found by :mod:`scorefield.calibration` and lie beside a model as `calibration.json`, an object of budgets.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from typing import Any


@dataclass(frozen=True)
class Plan:
    """A solver with one evaluation a step, its `times` from T down, and the error that was measured for it.

    `error` is the mean rms distance from where the exact flow goes, in model units; None where nobody measured it.

    >>> Plan("unipc-2", (1.0, 0.5, 0.001)).evaluations
    3
    """

    solver: str
    times: tuple[float, ...] = field(repr=False)
    error: float | None = None

    def __post_init__(self) -> None:
        times = self.times
        if len(times) < 2 or not all(math.isfinite(t) and s < t for t, s in pairwise(times)) or not times[-1] >= 0:
            raise ValueError(
                f"plan of {self.solver} with times {times}, expected two or more that descend to 0 or more"
            )

    @property
    def evaluations(self) -> int:
        """One for each step and one to denoise at the end."""
        return len(self.times)


def write_plans(plans: Mapping[int, Plan]) -> str:
    """Plans by their budgets, as JSON."""
    return json.dumps({str(budget): asdict(plan) for budget, plan in sorted(plans.items())}, indent=1) + "\n"


def read_plans(text: str) -> dict[int, Plan]:
    """The plans in a text of JSON. Raises ValueError where it is something else.

    >>> plans = {3: Plan("unipc-2", (1.0, 0.5, 0.001), 0.25)}
    >>> read_plans(write_plans(plans)) == plans
    True
    """
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError(f"{type(content).__name__}, expected an object of budgets")
    return {int(budget): _plan(value) for budget, value in content.items()}


def _plan(value: Any) -> Plan:
    try:
        return Plan(str(value["solver"]), tuple(map(float, value["times"])), value["error"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"a plan without {error}, expected solver, times and error") from None
