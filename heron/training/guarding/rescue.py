"""Memory that ran out: what was under way is dropped, and done again in smaller parts.

The one hard idea: the same work in smaller parts is the same mathematics. The weights of an optimizer step's tokens are counted before it
is cut into micro-batches, and what a completion draws depends on its own seed and not on its neighbours. So `micro_batch_tokens` and
`max_concurrent` are halved, for the rest of the sitting, until the work fits or cannot be cut any more. The run is told each time, with
the settings by which the planner would have it take less.

Left out: memory that runs out beside this process, for which the system kills it; loading; and a vLLM, which keeps its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar, runtime_checkable

from heron.config.schema import Config
from heron.engine import Engine
from heron.errors import MemoryStop
from heron.run import RunWriter
from heron.training.batch import Microbatch
from heron.training.guarding.advice import cheapest_settings
from heron.training.guarding.memory import free, is_out_of_memory

Result = TypeVar("Result")


@runtime_checkable
class Bounded(Protocol):
    """An engine whose completions at once can be bounded while it lives."""

    max_concurrent: int


class Rescue:
    """The sizes that this sitting works with.

    Args:
        config: what was asked for.
        run: is told.
        prompt_tokens: asks for the length of the longest prompt, when the planner is asked.
    """

    def __init__(self, config: Config, run: RunWriter, prompt_tokens: Callable[[], int]) -> None:
        self.micro_batch_tokens = config.train.micro_batch_tokens
        self.step = 0
        """The step under way."""
        self._config, self._run, self._prompt_tokens = config, run, prompt_tokens
        self._halved = 0

    def sampling(self, phase: str, engine: Engine, rows: int, work: Callable[[], Result]) -> Result:
        """What `work`, which samples `rows` completions with this engine, returns; with fewer of them at once where memory ran out."""
        while True:
            try:
                return work()
            except (RuntimeError, MemoryError) as error:  # boundary: an allocator raises kinds of its own
                if not is_out_of_memory(error):
                    raise
                words = str(error)
            free()
            self._fewer_at_once(phase, engine, rows, words)

    def smaller(self, batch: Microbatch, words: str) -> int:
        """Half of the micro-batch that was too large, of which every part is at least a sample."""
        free()
        if batch.num_rows < 2:
            raise self.stop("training on a single answer", words)
        before, self.micro_batch_tokens = self.micro_batch_tokens, min(self.micro_batch_tokens, batch.num_tokens) // 2
        self._tell("training", "train.micro_batch_tokens", before, self.micro_batch_tokens, words)
        return self.micro_batch_tokens

    def stop(self, phase: str, words: str) -> MemoryStop:
        """What to raise where nothing is left to halve."""
        free()
        return MemoryStop(
            f"Memory ran out in step {self.step}, while {phase}, and it cannot be cut smaller: {_first_line(words)} {self._advice()} "
            f"Begin a run with one of them; where there is more memory, this one goes on with: heron resume {self._run.path}"
        )

    def metrics(self) -> dict[str, float]:
        """How often something was halved since the last step that was recorded; nothing if it was not."""
        halved, self._halved = self._halved, 0
        return {"memory/halved": float(halved)} if halved else {}

    def _fewer_at_once(self, phase: str, engine: Engine, rows: int, words: str) -> None:
        now = min(engine.max_concurrent, rows) if isinstance(engine, Bounded) else 1
        if now < 2:
            raise self.stop(f"{phase}, one answer at a time", words)
        assert isinstance(engine, Bounded)
        before, engine.max_concurrent = engine.max_concurrent, now // 2
        self._tell(phase, "rollout.max_concurrent", before, engine.max_concurrent, words)

    def _tell(self, phase: str, setting: str, before: int, after: int, words: str) -> None:
        self._halved += 1
        self._run.event("memory_halved", step=self.step, phase=phase, setting=setting, before=before, after=after, error=words)
        self._run.event("message", text=f"Memory ran out in step {self.step}, while {phase}: {_first_line(words)} It is done again with "
                                        f"{setting} = {after} (it was {before}), and so is the rest of this sitting; the result is the "
                                        f"same. {self._advice()}")

    def longest_prompt(self) -> int:
        """Tokens of the longest prompt of the run."""
        return self._prompt_tokens()

    def _advice(self) -> str:
        return cheapest_settings(self._config, self.longest_prompt())


def _first_line(words: str) -> str:
    """An allocator's own words, which are many."""
    line = next(iter(words.strip().splitlines()), "no more was said").strip()
    return line if line.endswith(".") else f"{line}."
