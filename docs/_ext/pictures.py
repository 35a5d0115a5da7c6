"""Pictures that there are a light and a dark one of. GitHub wants `<picture>`; on the site, the reader may choose light or dark by hand."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

PICTURE = re.compile(
    r'<picture><source media="\(prefers-color-scheme: dark\)" srcset="(?P<dark>[^"]+)">'
    r'<img (?P<alt>alt="[^"]*") src="(?P<light>[^"]+)"></picture>'
)
BOTH = r'<img src="\g<light>" \g<alt> class="only-light"><img src="\g<dark>" \g<alt> class="only-dark">'


def _process(app: Sphinx, name: str, source: list[str]) -> None:
    source[0] = PICTURE.sub(BOTH, source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    """Listens to pages that are read."""
    app.connect("source-read", _process)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
