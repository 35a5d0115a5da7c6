"""Pictures of every screen, light and dark: `python tests/browser/screenshots.py RUNS OUT [RUN [SCREEN ...]]`.

RUNS is a folder of runs, RUN the one that is shown (the newest, if none is named), OUT the folder of the pictures.
"""

from __future__ import annotations

import sys
from pathlib import Path

from browsing import LAPTOP, PHONE, SCREENS, chromium, go, open_page, settled

from heron.dashboard import open_dashboard

PLACES = (("laptop", LAPTOP, SCREENS), ("phone", PHONE, ("now", "groups")))
"""Where, how large, and what."""


def main(runs: Path, out: Path, run: str | None = None, *wanted: str) -> None:
    """Take them all."""
    dashboard = open_dashboard(runs)
    dashboard.start()
    out.mkdir(parents=True, exist_ok=True)
    name = run or dashboard.shelf.runs()[0][0]
    early = dashboard.shelf.open(name).index.last_step() // 12 + 1  # by then some answers are right, and some are not
    with chromium() as browser:
        for place, size, screens in PLACES:
            for scheme in ("light", "dark"):
                page, complaints = open_page(browser, dashboard.url, dark=scheme == "dark", size=size)
                settled(page, "now")
                for screen in wanted or screens:
                    go(page, name, screen, f"?step={early}&filter=signal" if screen == "groups" else "")
                    page.screenshot(path=out / f"{screen}-{place}-{scheme}.png", full_page=screen != "explain")
                assert complaints.none(), complaints
                page.context.close()
    dashboard.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *sys.argv[3:])
