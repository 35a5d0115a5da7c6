"""A local web page over run directories: `Dashboard("runs").serve_forever()`. It reads, and changes nothing."""

from heron.dashboard.server import Dashboard

__all__ = ["Dashboard"]
