"""What is exported: the run's model as it was trained, what it answers, and its weights as one model without an adapter.

The one hard idea: an adapter is merged in float32, whatever the base's dtype, so that the only rounding is the last cast; and merged it
must answer as it did unmerged. An adapter that was trained on a base of 4 or 8 bits is added to the base of 16 bits, which it was
quantised from: the answers may then part, and the card says how far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from heron.config import Config, ModelConfig
from heron.errors import ModelError
from heron.export.agreement import QUESTIONS, TOLERANCE, Agreement, compare, conversations, greedy
from heron.models import Policy, load_policy
from heron.models.of_run import config_of, newest_model, policy_of_run
from heron.run import Run
from heron.types import Completion, Message

LOOKED_AT = 32
"""Conversations that are looked at for their system prompts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A run's model, and what it says."""

    run: Run
    """Where it was trained."""
    config: Config
    """Of the run."""
    policy: Policy
    """With its adapter, if it has one."""
    asked: Sequence[Sequence[Message]]
    """A few of the run's own questions."""
    expected: Sequence[Completion]
    """The model's likeliest answers to them."""
    prompts: Sequence[tuple[int, ...]]
    """The tokens of the questions."""
    systems: tuple[str | None, ...] = (None,)
    """The different system prompts of its conversations, as far as they were looked at; None is that of one without."""

    @property
    def system(self) -> str | None:
        """The system prompt that all of them begin with, or None."""
        return self.systems[0] if len(self.systems) == 1 else None

    @property
    def continues_texts(self) -> bool:
        """Its chat template writes a question as it is, so that the text is continued."""
        text = self.policy.render_text([{"role": "user", "content": "a"}])
        return text.removeprefix(str(self.policy.tokenizer.bos_token or "")) == "a"

    def answers_of(self, policy: Policy) -> list[Completion]:
        """Another model's answers to the same questions; ModelError if its tokenizer and template ask them otherwise."""
        for messages, wanted in zip(self.asked, self.prompts, strict=True):
            if (got := policy.render(messages)) != wanted:
                raise ModelError(f"The exported tokenizer and chat template make other tokens of a question of this run, {len(got)} "
                                 f"instead of {len(wanted)}: {policy.render_text(messages)[:200]!r}. Nothing was exported.")
        return greedy(policy, self.asked, self.config.rollout.max_completion_length)

    def agreement_with(self, policy: Policy) -> Agreement:
        """How alike another model answers."""
        return compare(self.expected, self.answers_of(policy))


def load_trained(run: Run) -> Trained:
    """Load the run's model and ask it."""
    config = config_of(run)
    known = conversations(run, config, most=LOOKED_AT)
    policy, asked = policy_of_run(run), known[:QUESTIONS]
    expected = greedy(policy, asked, config.rollout.max_completion_length)
    prompts = [policy.render(messages) for messages in asked]
    return Trained(run=run, config=config, policy=policy, asked=asked, expected=expected, prompts=prompts, systems=_systems(known))


def _systems(known: Sequence[Sequence[Message]]) -> tuple[str | None, ...]:
    """What stands before everything else, each once."""
    first = (messages[0] for messages in known)
    return tuple(dict.fromkeys(str(message["content"]) if message["role"] == "system" else None for message in first))


def merged(trained: Trained) -> Policy:
    """The trained model without an adapter: itself, or the base with the adapter added to its weights, in float32."""
    if not trained.policy.is_lora:
        return trained.policy
    config, run = trained.config, trained.run
    wide = ModelConfig(name=config.model.name, device=config.model.device, chat_template=config.model.chat_template,
                       revision=config.model.revision, method="lora", dtype="float32")
    folder = newest_model(run)
    policy = load_policy(wide, config.tags, source=run.start_model, adapter=folder)
    if policy.is_quantized:
        raise ModelError(f"{policy.source} is quantised itself: there are no weights of 16 bits to add the adapter to. Use the adapter in "
                         f"{folder} on it as it is (--format adapter), or train on the checkpoint of 16 bits. Nothing was exported.")
    before = trained.answers_of(policy)
    whole = Policy(policy.model.merge_and_unload(), policy.tokenizer, tags=config.tags, source=policy.source)
    require(compare(before, trained.answers_of(whole)), "The base with the adapter merged")
    return whole


def require(agreement: Agreement, what: str) -> None:
    """ModelError where the answers differ by more than the order of float32 sums."""
    if agreement.gap > TOLERANCE:
        raise ModelError(f"{what} does not answer like the trained one: {agreement.sentence} Nothing was exported. "
                         "If this installation's transformers or peft is new, try the versions in the run's run.json.")
