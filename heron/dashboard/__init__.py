"""A local web page over run directories: `serve("runs")`. It reads, and changes nothing."""

from heron.dashboard.server import Dashboard, serve

__all__ = ["Dashboard", "serve"]
