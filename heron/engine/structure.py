"""Text that a completion must be: a regular expression or a JSON schema, enforced token by token.

The one hard idea: a matcher reads the tokens of one completion and says which may follow, so whatever is drawn is a beginning of a valid
text, and an end token is possible only where the text is whole. `llguidance` (extra `structured`) does the parsing; it is imported here
alone. What it leaves out: the masking of logits, and which matcher belongs to which completion (`engine.native.sampler`).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from heron.errors import ConfigError, EngineError, MissingExtra

if TYPE_CHECKING:
    from heron.models.policy import Policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    """One of the two."""

    regex: str = ""
    """A regular expression (the syntax of Rust's `regex`) that the whole text matches."""
    json_schema: str = ""
    """A JSON schema, as JSON text, that the whole text satisfies; `Structure.of_schema` takes it as a dictionary."""

    def __post_init__(self) -> None:
        if not isinstance(self.regex, str) or not isinstance(self.json_schema, str):
            raise ConfigError(f"regex and json_schema must be text, but they are {self.regex!r} and {self.json_schema!r}. "
                              "Give a schema that is a dictionary to Structure.of_schema.")
        if bool(self.regex) == bool(self.json_schema):
            raise ConfigError(f"A structure has either a regex or a json_schema, but they are {self.regex!r} and {self.json_schema!r}. "
                              "Give exactly one of them.")

    @classmethod
    def of_schema(cls, schema: Mapping[str, Any]) -> Structure:
        """From a JSON schema as a dictionary."""
        return cls(json_schema=json.dumps(schema))


class Grammar:
    """A structure, compiled for the tokens of a policy."""

    def __init__(self, structure: Structure, policy: Policy) -> None:
        guidance = _llguidance()
        size = max(policy.vocabulary_size, len(policy.tokenizer))
        self._tokens = _token_table(policy.tokenizer, size, tuple(sorted(policy.end_ids)))
        self._grammar = _compiled(guidance, structure)
        self.every_token = b"\xff" * (-(-size // 32) * 4)
        """`Matcher.allowed` where anything may come next."""
        if problem := guidance.LLMatcher.validate_grammar(self._grammar, self._tokens):
            raise ConfigError(f"The structure {structure!r:.400} cannot be used: {_first_words(problem)}. Correct the regex or the schema.")
        self._new = functools.partial(guidance.LLMatcher, self._tokens, self._grammar, log_level=0)

    def matcher(self, token_ids: Sequence[int] = ()) -> Matcher:
        """For a completion that has said `token_ids`."""
        matcher = Matcher(self._new())
        for token in token_ids:
            matcher.read(token)
        return matcher


class Matcher:
    """How far one completion has come."""

    def __init__(self, matcher: Any) -> None:
        self._matcher = matcher
        self.tokens_read = 0

    def read(self, token: int) -> None:
        """The completion goes on with `token`."""
        if not self._matcher.consume_token(token):
            reason = _first_words(self._matcher.get_error()) or "it is not allowed here"
            raise EngineError(f"Token {token}, number {self.tokens_read} of a completion, does not fit its structure: {reason}. Continue "
                              "only completions that were begun with the same structure, or make the regex or the schema simpler.")
        self.tokens_read += 1

    @property
    def is_complete(self) -> bool:
        """The text is whole, and nothing can follow but an end token."""
        return bool(self._matcher.is_stopped())

    def allowed(self) -> bytes:
        """One bit for each token, lowest first: whether it may come next."""
        bits = self._matcher.compute_bitmask()
        if self._matcher.is_error():
            problem = _first_words(self._matcher.get_error())
            raise EngineError(f"The structure could not be followed after {self.tokens_read} tokens: {problem}. Make the regex or the "
                              "schema simpler.")
        return bytes(bits)


def _first_words(problem: str) -> str:
    """What went wrong, without the parser's state and the whole grammar behind it."""
    return problem.partition("<state>")[0].strip()[:400]


def _compiled(guidance: Any, structure: Structure) -> str:
    if structure.regex:
        return str(guidance.LLMatcher.grammar_from_regex(structure.regex))
    try:
        schema = json.loads(structure.json_schema)
    except json.JSONDecodeError as error:
        raise ConfigError(f"json_schema is not JSON: {error}. It is {structure.json_schema!r}.") from error
    return str(guidance.LLMatcher.grammar_from_json_schema(schema))


@functools.lru_cache(maxsize=2)
def _token_table(tokenizer: Any, size: int, end_ids: tuple[int, ...]) -> Any:
    """The bytes of every token. It takes a second for a large vocabulary, and a run asks for it in every step."""
    import llguidance.hf

    return llguidance.hf.from_tokenizer(tokenizer, n_vocab=size, eos_token=list(end_ids))


def _llguidance() -> Any:
    try:
        import llguidance
    except ImportError as error:
        raise MissingExtra("llguidance", "structured", "A structure (regex or JSON schema)") from error
    return llguidance
