"""A stream of texts in, their scores out, while devices compute: batches, threads, the score store."""
