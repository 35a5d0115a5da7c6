"""What a model card must not leave out: the license of the base, and what the run's own checks found wrong with its rewards."""

from __future__ import annotations

import re
from pathlib import Path

from heron.run import Run

GAMED = ("reward-without-accuracy", "format-only", "one-reward-decides", "length-creep", "length-collapse", "duplicate-completions")
"""Alerts that show, or may show, that the model earned rewards otherwise than they were meant."""


def known_flaws(run: Run) -> str:
    """A section on what the run's alerts found, gaming first."""
    found = {str(alert.get("id")): alert for alert in run.alerts()}
    ordered = sorted(found, key=lambda name: name not in GAMED)
    rows = [f"- **{found[name].get('title', name)}** (`{name}`, step {found[name].get('step', '?')}): {found[name].get('evidence', '')}"
            for name in ordered]
    gamed = any(name in GAMED for name in found)
    verdict = ("Some of these are signs that rewards were earned otherwise than they were meant." if gamed else
               "Nothing that Heron's checks look for says that a reward was gamed; they do not look for everything.")
    return "\n".join(["## Known flaws and reward hacks", "", verdict, *([""] if rows else []), *rows])


def license_of(*sources: str, revision: str | None) -> str | None:
    """The license that the base's own card names in its front matter; None if none of the sources, folders or hub ids, has such a card on
    this machine."""
    return next((found for source in sources if (found := _license(source, revision)) is not None), None)


def _license(source: str, revision: str | None) -> str | None:
    from huggingface_hub import try_to_load_from_cache

    card = Path(source) / "README.md" if Path(source).is_dir() else try_to_load_from_cache(source, "README.md", revision=revision)
    if not isinstance(card, str | Path) or not Path(card).is_file():
        return None
    front = re.match(r"---\n(.*?)\n---", Path(card).read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    found = re.search(r"^license:\s*([\w.-]+)\s*$", front[1], re.MULTILINE) if front else None
    return found[1] if found else None
