"""Report the longest Python files of the package; fail if one is longer than the limit."""

from __future__ import annotations

import sys
from pathlib import Path

LIMIT = 350


def main() -> int:
    lines = {path: len(path.read_text().splitlines()) for path in Path("heron").rglob("*.py")}
    longest = sorted(lines.items(), key=lambda item: -item[1])
    print(f"{len(lines)} files, {sum(lines.values())} lines; the longest:")
    for path, count in longest[:8]:
        print(f"{count:5} {path}{'  TOO LONG' if count > LIMIT else ''}")
    return int(longest[0][1] > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
