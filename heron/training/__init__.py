"""The loop and everything that it is made of: batches, optimizer, checkpoints, evaluation, the embedded model's warm-up."""
