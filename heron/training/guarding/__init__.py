"""What stands between a run and what goes wrong in it: steps that are skipped, memory that runs out, claims that are checked.

`guard` skips and goes back, `dumps` keeps what did it; `rescue` cuts work finer where memory runs out, `dry_step` meets the largest work
first; `identities` checks in each step what must be true of it.
"""
