"""The chart library, served from its Python package, so that it runs under a policy without inline styles.

The one hard idea: plotly adds style sheets to the page as it goes, which a strict policy forbids; but it leaves them out where an element
of the right name stands already. Its general rules are looked for under `plotly.js-style-global`, with the class `no-inline-styles`:
the page names its own sheet so. The sheet of its maps, which are not drawn here, is looked for under an id that changes with every
version: it is read out of the script. With both in place nothing inline is tried, and no hash or nonce is needed.
"""

from __future__ import annotations

import functools
import importlib.util
import re
from pathlib import Path

_SHEET = re.compile(rb'if\(!document\.getElementById\("([0-9a-f]{16,128})"\)\)\{var \w+=document\.createElement\("style"\)')


@functools.cache
def bundle() -> Path:
    """The script's file."""
    package = importlib.util.find_spec("plotly")
    assert package is not None and package.origin is not None, "`open_dashboard` has looked"
    return Path(package.origin).parent / "package_data" / "plotly.min.js"


@functools.cache
def sheet_ids() -> tuple[str, ...]:
    """Ids under which the script looks for style sheets that it would otherwise add."""
    return tuple(found.decode() for found in dict.fromkeys(_SHEET.findall(bundle().read_bytes())))
