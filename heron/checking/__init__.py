"""What is wrong with a recipe, found before training: its rows, its rewards, and whether the model can learn from them."""

from heron.checking.checking import check
from heron.checking.findings import Finding, Level, Report
from heron.checking.printing import print_report
from heron.checking.view import CheckView

__all__ = ["CheckView", "Finding", "Level", "Report", "check", "print_report"]
