"""The program itself: a fresh `__main__`, its traceback without our frames, and, where asked for, calls of one of its functions.

A program whose function is called is imported, as a file of tests imports it: what stands under `if __name__ == "__main__":` is for
people who start it, waits for input or exits, and does not run then.

The hard idea: from here on nothing in this process can be believed, this file included, since the program may rewrite it. So no expected
value ever comes here; results leave as tagged JSON (`calls`) on a descriptor, and a program that writes there itself can only claim
results that it knows.
"""

from __future__ import annotations

import sys

from heron.sandbox.inside import REPORT

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Any

NAME, MODULE = "program.py", "program"


class Program:
    """What runs when everything else has been given up."""

    def __init__(self, order: Mapping[str, Any]) -> None:
        self.source: str = order["code"]
        self.calls: Mapping[str, Any] | None = order["calls"]

    def __call__(self) -> None:
        """Runs the source, as `__main__` or, for calls, as a module, then the calls."""
        main = type(sys)("__main__" if self.calls is None else MODULE)
        sys.modules["__main__"] = sys.modules[main.__name__] = main
        sys.argv = [NAME]
        sys.excepthook = self.show
        report = self._reporter()
        for name in [name for name in sys.modules if name.split(".")[0] == "heron"]:
            del sys.modules[name]
        exec(compile(self.source.encode("utf-8", "surrogatepass"), NAME, "exec"), main.__dict__)
        if report is not None:
            report(REPORT, main, self.calls)

    def _reporter(self) -> Callable[..., None] | None:
        """What makes the calls, where there are any: loaded before the program can change what it is made of."""
        if self.calls is None:
            return None
        from heron.sandbox.calls import report

        return report

    def show(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        """A traceback as an interpreter prints it, from the program's first line on."""
        import linecache
        import traceback

        linecache.cache[NAME] = (len(self.source), None, self.source.splitlines(keepends=True), NAME)
        while trace is not None and trace.tb_frame.f_code.co_filename != NAME:
            trace = trace.tb_next
        traceback.print_exception(kind, error, trace)
