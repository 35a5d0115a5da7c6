"""A run's index: curves, groups, search and lengths of a run that is too large to be read for each look at it.

    index = Index(Run("runs/first"))
    index.refresh()
    index.curves(["reward"])["reward"].values

It is made by whoever reads a run, lies in the user's cache folder, and can be thrown away at any time: the run's files are the truth.
"""

from heron.run.index.groups import FILTERS, ORDERS, GroupCard, Page, Sibling
from heron.run.index.index import Index
from heron.run.index.lengths import Lengths
from heron.run.index.reading import Progress
from heron.run.index.thinning import Curve

__all__ = ["FILTERS", "ORDERS", "Curve", "GroupCard", "Index", "Lengths", "Page", "Progress", "Sibling"]
