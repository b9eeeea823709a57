"""A terminal for tests of what a person sees on it."""

import io


class Screen(io.StringIO):
    """A terminal that remembers what was written to it."""

    name = "<stderr>"
    terminal = True

    def isatty(self) -> bool:
        return self.terminal
