"""The run directory: the one record of a training run, written by the trainer and read by everything else.

A run is a folder of plain files, so a viewer works alike on a live, a dead and a copied one. `RunWriter` is the only thing
that writes it; `Run` reads it; the terminal view, the report, the curve and the doctor are built on those two.
"""

from heron.run.alerts import Alert, History, examine
from heron.run.curve import reward_curve_svg, sparkline
from heron.run.doctor import diagnose
from heron.run.machine import machine_report
from heron.run.reader import Evaluation, Run, list_runs
from heron.run.report import print_report, report
from heron.run.terminal import TerminalView
from heron.run.watchman import Watchman
from heron.run.writer import Listener, RunWriter

__all__ = [
    "Alert",
    "Evaluation",
    "History",
    "Listener",
    "Run",
    "RunWriter",
    "TerminalView",
    "Watchman",
    "diagnose",
    "examine",
    "list_runs",
    "machine_report",
    "print_report",
    "report",
    "reward_curve_svg",
    "sparkline",
]
