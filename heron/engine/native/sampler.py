"""From logits to tokens: the next token of every open completion, and whether it was its last.

The one hard idea: a row of logits is shared by siblings that have said the same, so penalty, masks, filters and softmax are done once per
row, and each sibling then draws from it with its own random number. Log-probs and entropies are those of the distribution that was really
drawn from. What it leaves out: the arithmetic (`kernels.sampling`, `kernels.filters`), and how a structure is parsed (`engine.structure`).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence as List
from dataclasses import replace

import torch
from torch import Tensor

from heron.engine.native.sequence import Branch, Sequence
from heron.engine.params import SamplingParams
from heron.engine.structure import Grammar, Matcher
from heron.errors import EngineError, GuardStop
from heron.kernels.filters import lowest_logit
from heron.kernels.sampling import IMPOSSIBLE, sample, spread
from heron.models.policy import Policy
from heron.types import FinishReason


class Sampler:
    """Draws as `params` say, for one policy."""

    def __init__(self, policy: Policy, params: SamplingParams) -> None:
        self.policy = policy
        self.params = params
        self._ending = Ending(policy, params)
        self._structure = None if params.structure is None else Structured(Grammar(params.structure, policy))

    def draw(self, logits: Tensor, branches: List[Branch]) -> None:
        """The next token of every open sequence. `logits [B, V]`, before the temperature, may be written into; row b is branch b's."""
        open_ones = [(row, one) for row, branch in enumerate(branches) for one in branch.sequences if one.finish_reason is None]
        if not open_ones:
            return
        rows = torch.tensor([row for row, _ in open_ones], device=logits.device)  # [S]
        sequences = [sequence for _, sequence in open_ones]
        drawn = self._greedy(logits, branches, rows) if self.params.temperature == 0 else self._drawn(logits, branches, rows, sequences)
        tokens, logprobs, entropies = torch.stack([part.double() for part in drawn]).tolist()  # the only wait for the device
        _guard(logprobs)
        for sequence, token, logprob, entropy in zip(sequences, tokens, logprobs, entropies, strict=True):
            sequence.say(int(token), logprob, entropy, self.policy.version)
            self._close_if_ended(sequence)

    def _drawn(self, logits: Tensor, branches: List[Branch], rows: Tensor, sequences: List[Sequence]) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, log-probs and entropies `[S]`."""
        params = self.params
        uniforms = torch.tensor([one.uniforms[len(one.token_ids)] for one in sequences], dtype=torch.float64, device=logits.device)
        logits = self._adjusted(logits, branches)
        at_least = None
        if params.is_filtered:
            at_least = lowest_logit(
                logits, temperature=params.temperature, top_k=params.top_k, top_p=params.top_p, min_p=params.min_p
            )
        elif self._structure is not None:
            at_least = logits.new_full((len(logits),), IMPOSSIBLE)
        return sample(logits, uniforms, rows, temperature=params.temperature, at_least=at_least)

    def _greedy(self, logits: Tensor, branches: List[Branch], rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The likeliest tokens `[S]`, their log-probs under the model's own distribution, and entropies of zero."""
        log_total = spread(logits).log_total[rows]
        adjusted = logits if self._adjusts_nothing else self._adjusted(logits.clone(), branches)
        tokens = adjusted.argmax(-1)[rows]
        return tokens, logits[rows, tokens].double() - log_total, torch.zeros_like(log_total)

    @property
    def _adjusts_nothing(self) -> bool:
        return self.params.repetition_penalty == 1 and self._structure is None

    def _adjusted(self, logits: Tensor, branches: List[Branch]) -> Tensor:
        """Penalty and mask, written into `logits`."""
        if self.params.repetition_penalty != 1:
            _penalise(logits, [branch.token_ids for branch in branches], self.params.repetition_penalty)
        if self._structure is not None:
            allowed = self._structure.allowed(branches, logits.shape[-1])
            logits.masked_fill_(~allowed.to(logits.device), -math.inf)
        return logits

    def forget(self, sequence: Sequence) -> None:
        """It goes on no more."""
        if self._structure is not None:
            self._structure.forget(sequence)

    def _close_if_ended(self, sequence: Sequence) -> None:
        """Note why, where the token just said was the last: by its ending, or because its structure is whole."""
        reason = (sequence.ending or self._ending).reason(sequence)
        if self._structure is not None and self._structure.completes(sequence):
            reason = FinishReason.STOP
        if sequence.wrong is None and reason is not None:
            sequence.finish_reason = reason
            self.forget(sequence)


class Samplers:
    """A sampler for sequences that each have params of their own: those that draw alike draw together."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._made = functools.lru_cache(maxsize=32)(functools.partial(Sampler, policy))  # a grammar takes long to compile
        self._how: dict[Sequence, Sampler] = {}

    def enter(self, sequences: List[Sequence], params: SamplingParams) -> None:
        """They are drawn so from now on. When each of them ends is its own matter."""
        ending = Ending(self._policy, params)
        how = self._made(replace(params, max_tokens=1, stop=(), stop_token_ids=(), ignore_end=False, pause_after=0))
        for sequence in sequences:
            sequence.ending = ending
            self._how[sequence] = how

    def leave(self, sequence: Sequence) -> None:
        """It has ended, or is wanted no more, which may be told twice."""
        if (how := self._how.pop(sequence, None)) is not None:
            how.forget(sequence)

    def draw(self, logits: Tensor, branches: List[Branch]) -> None:
        """As `Sampler.draw`."""
        rows_by_how: dict[Sampler, list[int]] = {}
        for row, branch in enumerate(branches):
            rows_by_how.setdefault(self._how[branch.sequences[0]], []).append(row)
        for how, rows in rows_by_how.items():
            how.draw(logits if len(rows_by_how) == 1 else logits[rows], [branches[row] for row in rows])


class Ending:
    """When a completion has ended, as params say."""

    def __init__(self, policy: Policy, params: SamplingParams) -> None:
        self._params = params
        self._end_ids = frozenset(params.stop_token_ids) | (frozenset() if params.ignore_end else policy.end_ids)
        self._stop = StopStrings(policy, params.stop)

    def reason(self, sequence: Sequence) -> FinishReason | None:
        """Why the token just said was the last: an end token, a stop string, its length; None if it was not."""
        if sequence.token_ids[-1] in self._end_ids or self._stop.ends(sequence.token_ids):
            return FinishReason.STOP
        return sequence.reason_of_length(self._params)


class StopStrings:
    """Whether a text has just come to contain one of some strings, also across tokens or from inside one.

    Only the last tokens are decoded: a string of n bytes that ends in the newest token began at most n tokens ago, if every token holds
    a byte. Three more hold what a character of four bytes may begin in. Most tokens cannot end a string, and are not decoded again.
    """

    def __init__(self, policy: Policy, strings: tuple[str, ...]) -> None:
        self.strings = strings
        self.tail = max((len(text.encode()) for text in strings), default=0) + 4
        self._decode = policy.decode
        self._endings = {text[-1] for text in strings}
        self._may_end = functools.cache(self._may_end_with)

    def ends(self, token_ids: List[int]) -> bool:
        """The newest token completed one."""
        if not self.strings or not self._may_end(token_ids[-1]):
            return False
        text = self._decode(token_ids[-self.tail :])
        return any(string in text for string in self.strings)

    def _may_end_with(self, token: int) -> bool:
        """The token's own text holds the last character of a string, or cannot be told alone: part of a character, or a lost space."""
        text = self._decode([token])
        return "\ufffd" in text or any(ending in text or ending.isspace() for ending in self._endings)


class Structured:
    """The matcher of each completion. One that was begun elsewhere is read again from its tokens. A structure that cannot be followed is
    the trouble of the completions that it was asked of (`Sequence.wrong`), not of all that are drawn beside them."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar = grammar
        self._matchers: dict[Sequence, Matcher] = {}

    def allowed(self, branches: List[Branch], vocabulary: int) -> Tensor:
        """`[B, V]` bool: which tokens may come next."""
        bits = b"".join(map(self._allowed, branches))
        packed = torch.frombuffer(bytearray(bits), dtype=torch.uint8).view(len(branches), -1, 1)  # [B, V/8, 1]
        return ((packed >> torch.arange(8, dtype=torch.uint8)) & 1).flatten(1)[:, :vocabulary].bool()

    def completes(self, sequence: Sequence) -> bool:
        """Nothing can follow the token just said."""
        try:
            return self._matcher(sequence).is_complete
        except EngineError as error:
            sequence.wrong = sequence.wrong or error
            return False

    def forget(self, sequence: Sequence) -> None:
        """It has ended."""
        self._matchers.pop(sequence, None)

    def _allowed(self, branch: Branch) -> bytes:
        try:
            return self._matcher(branch.sequences[0]).allowed()
        except EngineError as error:
            for sequence in branch.sequences:
                sequence.wrong = sequence.wrong or error
            return self._grammar.every_token  # what is drawn then does not matter

    def _matcher(self, sequence: Sequence) -> Matcher:
        """It has read all that the sequence has said."""
        matcher = self._matchers.get(sequence)
        if matcher is None or matcher.tokens_read > len(sequence.token_ids):
            matcher = self._matchers[sequence] = self._grammar.matcher()
        for token in sequence.token_ids[matcher.tokens_read :]:
            matcher.read(token)
        return matcher


def _penalise(logits: Tensor, said: List[tuple[int, ...]], penalty: float) -> None:
    """Make what was said in row b less likely: each token once, however often it was said."""
    seen = [(row, token) for row, token_ids in enumerate(said) for token in set(token_ids)]
    rows, tokens = torch.tensor(seen, device=logits.device).T  # [n], [n]
    found = logits[rows, tokens]
    logits[rows, tokens] = torch.where(found < 0, found * penalty, found / penalty)


def _guard(logprobs: List[float]) -> None:
    """Nothing is drawn from broken weights."""
    for logprob in logprobs:
        if not math.isfinite(logprob):
            raise GuardStop(f"The model's log-probs are not finite ({logprob}): its weights are broken. Go back to an earlier "
                            "checkpoint, and lower train.learning_rate.")
