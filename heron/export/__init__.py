"""From a run to a model folder that anything can load: adapter merged, dtype chosen, checked, with a model card."""

from heron.export.writing import DTYPES, export

__all__ = ["DTYPES", "export"]
