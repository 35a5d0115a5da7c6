"""A checked folder to the hub: only when it is asked for, and private unless that is asked for, too.

A repository that exists and is public is not written to unless `public` was said: a push must never be what makes a model public.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from heron.errors import ConfigError, HeronError, RunError


class Hub(Protocol):
    """What is used of `huggingface_hub.HfApi`."""

    def create_repo(self, repo_id: str, *, private: bool, exist_ok: bool) -> Any: ...

    def repo_info(self, repo_id: str) -> Any: ...

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> Any: ...


def check_repository(repository: str) -> None:
    """ConfigError if this cannot be the name of a repository, before any time is spent."""
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise ConfigError(f"{repository!r} cannot be the name of a repository: {error} Write OWNER/NAME.") from error


def push(folder: str | Path, repository: str, *, public: bool = False, hub: Hub | None = None) -> str:
    """Upload the folder as one commit and return the commit's address.

    Args:
        folder: that `export` made.
        repository: `owner/name`; made if there is none.
        public: everybody may see it. Else a repository that is public already is left alone.
        hub: to talk to; None: the hub that this machine is logged in to.
    """
    check_repository(repository)
    if hub is None:
        from huggingface_hub import HfApi

        hub = HfApi()
    try:
        return _push(hub, Path(folder), repository, public)
    except HeronError:
        raise
    except Exception as error:  # boundary: the hub's client raises many kinds where the hub refuses or cannot be reached
        raise RunError(f"The hub did not take {repository}: {error}. The export is whole in {folder}. Log in with `hf auth login`, and "
                       f"upload it with `hf upload {repository} {folder}`.") from error


def _push(hub: Hub, folder: Path, repository: str, public: bool) -> str:
    hub.create_repo(repository, private=not public, exist_ok=True)
    if not public and not hub.repo_info(repository).private:
        raise RunError(f"{repository} is public, so nothing was uploaded; the export is whole in {folder}. Say --public if everybody may "
                       "see it, or name another repository.")
    done = hub.upload_folder(repo_id=repository, folder_path=str(folder), commit_message="Export from Heron")
    return str(getattr(done, "commit_url", done))
