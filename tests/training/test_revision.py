"""A run from the hub: the commit that it began with is recorded, and stays its start when the hub has something newer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from tinymodels import save_tiny

TESTS = Path(__file__).parents[1]
OLD, NEW = "a" * 40, "b" * 40
RUN = """
import json, sys
sys.path[:0] = sys.argv[1:3]
from pathlib import Path
from small_runs import make_trainer, small_config
from heron.models.of_run import policy_of_run
from heron.run import Run

cache, run_dir = Path(sys.argv[3]), Path(sys.argv[4])
trainer = make_trainer(small_config("owner/tiny"), run_dir, rewards=["format.follows_format"])
(cache / "models--owner--tiny" / "refs" / "main").write_text("b" * 40)
again = policy_of_run(Run(run_dir), start=True)
print(json.dumps({
    "manifest": Run(run_dir).manifest["model_revision"], "revision": again.revision,
    "same": bool((again.model.model.embed_tokens.weight == trainer.policy.model.model.embed_tokens.weight).all()),
}))
"""


def test_commit_of_a_hub_id_is_recorded_and_kept(tmp_path: Path) -> None:
    """Prevents: a run that is resumed, evaluated or compared with another model than it began with, since a branch has moved.

    The hub is a cache folder, and HF_HUB_OFFLINE is honoured: without it there would be a request.
    """
    model = tmp_path / "cache" / "models--owner--tiny"
    for seed, commit in enumerate((OLD, NEW)):
        save_tiny("qwen3", model / "snapshots" / commit, seed=seed)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(OLD)
    folders = [str(TESTS), str(TESTS / "training"), str(tmp_path / "cache"), str(tmp_path / "run")]
    environment = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(tmp_path / "cache"), "HF_ENDPOINT": "http://127.0.0.1:9"}
    done = subprocess.run([sys.executable, "-c", RUN, *folders], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == {"manifest": OLD, "revision": OLD, "same": True}
