"""What a run may be short of."""

from __future__ import annotations

from heron.run.alerts.history import Alert, History


def disk(history: History) -> Alert | None:
    """The disk has no room for two more checkpoints."""
    size, free = history.checkpoint.get("bytes"), history.checkpoint.get("free_bytes")
    if size is None or free is None or free >= 2 * size:
        return None
    return Alert(
        id="disk",
        title="The disk is nearly full",
        evidence=f"{free / 2**30:.2f} GiB were free after the last checkpoint of {size / 2**30:.2f} GiB",
        advice="Make room, or lower train.save_total_limit: a checkpoint is written whole before an older one is removed.",
    )


def out_of_memory(history: History) -> Alert | None:
    """Memory ran out, and the work was cut smaller."""
    halved = history.last.get("memory/halved")
    if not halved:
        return None
    return Alert(
        id="out-of-memory",
        title="Memory ran out",
        evidence=f"up to step {history.last.get('step')} the micro-batch or the answers at once were halved {halved:.0f} time(s)",
        advice="The results are the same and the steps slower. The messages name the settings by which a run takes less.",
    )
