"""The command `datatrove-quality`, one file a subcommand."""
