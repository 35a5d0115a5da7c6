"""The tensors of the engine: prompts in, logits out; one more token per row in, logits out.

A step of decoding runs in one of three ways. On a GPU it is captured (`graphs`, not yet run on a GPU). On a CPU it is replayed from a
recording, with compiled kernels (`models.recording`, `kernels.host`). Elsewhere, and where neither can be, the modules run as they
stand. What it leaves out: what runs (the scheduler says) and what is drawn (the sampler does).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from heron.engine.native.decode import DecodePlan, HostPlan
from heron.engine.native.graphs import captured_decode
from heron.engine.native.layout import Layout, layout_of
from heron.engine.native.prefill import prefill_plan
from heron.engine.native.scheduler import Chunk, Moves
from heron.engine.native.sequence import Branch
from heron.engine.native.store import Store
from heron.kernels.attention import AttentionPlan
from heron.kernels.host.attend import Readers, readers_of
from heron.models.policy import Policy
from heron.models.recording import Replay


class Runner:
    """Runs the policy's own modules over pages. `replay` is a recording of them."""

    def __init__(self, policy: Policy, store: Store, *, replay: Replay | None = None) -> None:
        self.policy = policy
        self.store = store
        self.is_hosted = policy.is_hosted
        self._captured = captured_decode(policy, store)
        self._replay = replay
        self._read: Layout | Readers | None = None
        self._pages: list[tuple[int, ...]] = []  # of each row, as `_read` has them

    def prefill(self, chunks: Sequence[Chunk]) -> Tensor:
        """Compute chunks of prompts; logits `[n, V]` after the last token of those that are complete, in order."""
        plan, tokens, positions, last = prefill_plan(chunks, self.store, self.policy.device)
        hidden = self.policy.hidden(tokens, positions, plan)  # [1, T, D]
        complete = torch.tensor([chunk.is_last for chunk in chunks], device=last.device)
        return self.policy.logits(hidden[0, last[complete]])

    def decode(self, branches: Sequence[Branch]) -> Tensor:
        """Compute the newest token of each row; logits `[B, V]` of the next ones."""
        if self._captured is None:
            logits = self._by_modules(branches)
        else:
            logits = self.policy.logits(self._captured.hidden(branches))
        for branch in branches:
            branch.length += 1
        return logits

    def copy(self, moves: Moves) -> None:
        """Copy pages as the scheduler wants it."""
        self.store.copy(moves)

    def _by_modules(self, branches: Sequence[Branch]) -> Tensor:
        """Logits `[B, V]` after the newest tokens, by the modules or their recording."""
        lengths = [branch.length for branch in branches]
        tokens = torch.tensor([branch.sequences[0].token_ids[-1] for branch in branches], device=self.policy.device)  # [B]
        positions = torch.tensor(lengths, device=self.policy.device)  # [B]
        forward = self._replay or self.policy.forward
        return self.policy.logits(forward(tokens[None], positions[None], self._plan(branches, positions, lengths))[0])

    def _plan(self, branches: Sequence[Branch], positions: Tensor, lengths: list[int]) -> AttentionPlan:
        """Who reads what; as in the last step if rows and pages are the same."""
        pages = [(*branch.shared, -1, *branch.own) for branch in branches]
        is_known, self._pages = self._read is not None and pages == self._pages, pages
        if self.is_hosted:
            if not is_known:
                self._read = readers_of([branch.shared + branch.own for branch in branches], self.store.page_size)
            assert isinstance(self._read, Readers)
            self._read.move(lengths)
            return HostPlan(store=self.store, readers=self._read)
        if not is_known:
            self._read = layout_of(branches, self.store.page_size, self.policy.device)
        assert isinstance(self._read, Layout)
        return DecodePlan(store=self.store, layout=self._read, positions=positions, offsets=positions % self.store.page_size)
