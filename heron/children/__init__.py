"""Processes that end with this one, however it ends: also after kill -9, also what they started in sessions of their own.

`start` puts a keeper (`keeper`) between this process and the one that is wanted. What it leaves out: a keeper that is itself killed with
-9; the process below it then ends as well, but not what that one has detached.
"""

from heron.children.starting import Child, start

__all__ = ["Child", "start"]
