"""A run from files to files: inputs, outputs, executors, and the record of what was asked."""
