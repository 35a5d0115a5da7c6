"""Heron side by side with its peers, and with itself. One command each: it measures, prints a table, and ends with a bar.

    python -m benchmarks.step_vs_trl     whole training steps, against TRL's GRPOTrainer
    python -m benchmarks.learning        held-out accuracy of the default recipe, and of a control that cannot learn

The last line says whether the bar is met, and so does the exit code. `--quick` takes a few minutes on two cores; `--write` appends
the table, with date and machine, to `benchmarks/results/`.
"""
