"""Kernels in C for a CPU: compiled on the user's machine, with a plain torch way beside each of them for machines without a compiler."""
