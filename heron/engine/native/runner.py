"""The tensors of the engine: prompts in, logits out; one more token per row in, logits out.

On a GPU decoding is captured (`graphs`, not yet run on a GPU); elsewhere, and where that cannot be, it runs as it stands (`decode`).
What it leaves out: what runs (the scheduler says) and what is drawn (the sampler does).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heron.engine.native.decode import DecodePlan
from heron.engine.native.graphs import captured_decode
from heron.engine.native.layout import Layout, layout_of
from heron.engine.native.prefill import prefill_plan
from heron.engine.native.scheduler import Chunk, Moves
from heron.engine.native.sequence import Branch
from heron.engine.native.store import Store
from heron.models.policy import Policy


class Runner:
    """Runs the policy's own modules over pages."""

    def __init__(self, policy: Policy, store: Store) -> None:
        self.policy = policy
        self.store = store
        self._captured = captured_decode(policy, store)
        self._layout: Layout | None = None
        self._pages: list[tuple[int, ...]] = []  # of each row, as the layout has them

    def prefill(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute chunks of prompts; logits `[n, V]` after the last token of those that are complete, in order."""
        plan, tokens, positions, last = prefill_plan(chunks, self.store, self.policy.device)
        hidden = self.policy.hidden(tokens, positions, plan)  # [1, T, D]
        complete = torch.tensor([chunk.is_last for chunk in chunks], device=last.device)
        return self.policy.logits(hidden[0, last[complete]])

    def decode(self, branches: Sequence[Branch]) -> Tensor:
        """Compute the newest token of each row; logits `[B, V]` of the next ones."""
        hidden = self._plain(branches) if self._captured is None else self._captured.hidden(branches)
        for branch in branches:
            branch.length += 1
        return self.policy.logits(hidden)

    def copy(self, moves: Moves) -> None:
        """Copy pages as the scheduler wants it."""
        self.store.copy(moves)

    def _plain(self, branches: Sequence[Branch]) -> Tensor:
        """Last hidden states `[B, D]` of the newest tokens."""
        device = self.policy.device
        tokens = torch.tensor([[branch.sequences[0].token_ids[-1]] for branch in branches], device=device)  # [B, 1]
        positions = torch.tensor([branch.length for branch in branches], device=device)  # [B]
        plan = DecodePlan(
            store=self.store, layout=self._laid_out(branches), positions=positions, offsets=positions % self.store.page_size,
        )
        return self.policy.hidden(tokens, positions[:, None], plan)[:, 0]

    def _laid_out(self, branches: Sequence[Branch]) -> Layout:
        """The layout of these rows: the last one if they read the same pages."""
        pages = [(*branch.shared, -1, *branch.own) for branch in branches]
        if self._layout is None or pages != self._pages:
            self._layout = layout_of(branches, self.store.page_size, self.policy.device)
            self._pages = pages
        return self._layout
