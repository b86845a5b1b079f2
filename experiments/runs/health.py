"""What goes wrong in the numbers of a run, noticed at the step where it does."""

from __future__ import annotations

import math
from collections.abc import Callable

from experiments.config import Config
from experiments.errors import Diverged, UserError
from experiments.runs.metrics import MetricsLog
from nvpjax.parallel import unreplicate
from nvpjax.places import ERROR


class Health:
    """Reports steps that were skipped and a loss that explodes; too many skipped in a row end the run.

    ``say`` prints a line for people; the numbers go to the log, as split "fault".
    """

    MARGIN = 1.0
    """Bits an entry above the worst of what is normal: where a run began, and what knowing nothing costs."""

    def __init__(self, config: Config, limit: int, say: Callable[[str], None], log: MetricsLog):
        self._limit, self._say, self._log = limit, say, log
        self._bound = config.training.reconstruction_bound
        self._data, self._normal = config.data, config.data.nothing_costs
        self._margin = self.MARGIN * math.log(2) * math.prod(config.data.event_shape) / config.data.nats_per_unit
        self._not_looked_at: tuple[int, dict] | None = None
        self._began = False
        self._exploded = False

    def after(self, step: int, metrics: dict) -> None:
        """Take a step's replicated metrics, and look at those of the step before: they are there by now."""
        self.look()
        self._not_looked_at = step, metrics

    def look(self) -> None:
        """Look at the metrics of the last step for whether it was taken."""
        if self._not_looked_at is None:
            return
        (step, metrics), self._not_looked_at = self._not_looked_at, None
        in_a_row = int(unreplicate(metrics["skipped_in_a_row"]))
        if not in_a_row:
            return
        loss, error = (float(unreplicate(metrics[name])) if name in metrics else 0.0 for name in ("loss", ERROR))
        badly_rebuilt = math.isfinite(loss) and not error <= self._bound
        cause = "loss or gradients not finite"
        if badly_rebuilt:
            cause = f"activations were rebuilt with a relative error of {error:.1e}, above {self._bound:.1e}"
        self._say(f"step {step}: {cause}; step skipped, {in_a_row} in a row of {self._limit} allowed")
        self._log.write(step, "fault", skipped_in_a_row=in_a_row, **({ERROR: error} if badly_rebuilt else {}))
        if in_a_row > self._limit and badly_rebuilt:
            raise UserError(
                f"{in_a_row} steps in a row up to step {step} could not be walked back by inversion: {cause}; the "
                "last checkpoint is kept. Go on from there with --memory checkpointed, which needs no inverse"
            )
        if in_a_row > self._limit:
            raise Diverged(
                f"training diverged: {in_a_row} steps in a row up to step {step} had a loss or gradients that are not "
                "finite; the last checkpoint is kept. Look for images that are not finite, or use a lower "
                "--learning-rate with a new --run-dir"
            )

    def loss(self, step: int, score: float) -> None:
        """Look at a step's loss, in the unit of the data, for one that explodes."""
        if not math.isfinite(score):
            return  # counted as skipped
        if not self._began:
            self._began, self._normal = True, max(self._normal, score)
        exploded = score > self._normal + self._margin
        if exploded and not self._exploded:
            self._say(
                f"step {step}: the loss explodes: {score:.4g} {self._data.said_unit}, where {self._normal:.4g} is what "
                "knowing nothing costs, or a run begins with; if it stays, use a lower --learning-rate with a new "
                "--run-dir"
            )
            self._log.write(step, "fault", exploded=score)
        self._exploded = exploded
