"""From a run to what others can use: a Hugging Face model, an adapter, or a GGUF file; read again, compared, with a model card."""

from heron.export.pushing import push
from heron.export.writing import DTYPES, FORMATS, QUANTIZATIONS, Exported, export

__all__ = ["DTYPES", "FORMATS", "QUANTIZATIONS", "Exported", "export", "push"]
