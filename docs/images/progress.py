"""Draw docs/images/progress.png: a terminal as it was while a command ran, caught from a real pseudo-terminal.

    python docs/images/progress.py docs/images/progress.png --seconds 20 -- \
        datatrove-quality filter data/ --output /tmp/filtered --min-score 2

The picture holds the last lines that a terminal of 132 columns showed after so many seconds; then the command is
ended.
"""

import argparse
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image


COLUMNS, LINES = 132, 4
COLORS = {"31": "#ff8a80", "32": "#6fd68b", "33": "#f2b155", "34": "#58a6ff", "35": "#d2a8ff", "36": "#76e3ea"}
TEXT, GROUND = "#e6edf3", "#0e1116"
STEPS = re.compile(r"\x1b\[([0-9;]*)([A-Za-z])|(\r\n)|([\r\n])|(.)", re.DOTALL)


def output_of(command: list[str], seconds: float) -> str:
    """What a command writes to its terminal until then."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, COLUMNS, 0, 0))
    found, end = b"", time.monotonic() + seconds
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                found += os.read(terminal, 65_536)
            except OSError:  # it has ended
                break
    os.kill(pid, signal.SIGTERM)
    return found.decode(errors="replace")


def screen(output: str) -> list[list[tuple[str, str]]]:
    """The terminal's lines, each as characters with their colors."""
    lines: list[list[tuple[str, str]]] = [[]]
    column, color = 0, TEXT
    for codes, kind, both, control, character in STEPS.findall(output):
        if kind == "m":
            color = next((COLORS[code] for code in codes.split(";") if code in COLORS), TEXT)
        elif kind == "K":
            del lines[-1][column:]
        elif control == "\r":
            column = 0
        elif both or control:
            lines.append([])
            column = 0
        elif character:
            line = lines[-1]
            line += [(" ", TEXT)] * (column + 1 - len(line))
            line[column] = (character, color)
            column += 1
    return lines


def draw(lines: list[list[tuple[str, str]]], path: str) -> None:
    """Write the lines as a picture."""
    width, height, size = 0.082, 0.19, 9.8
    inches = (COLUMNS * width + 0.3, len(lines) * height + 0.3)
    figure = Figure(figsize=inches, facecolor=GROUND, dpi=120)
    canvas = FigureCanvasAgg(figure)
    for row, line in enumerate(lines):
        for column, (character, color) in enumerate(line):
            x, y = (0.15 + column * width) / inches[0], 1 - (0.15 + (row + 0.8) * height) / inches[1]
            figure.text(x, y, character, color=color, family="DejaVu Sans Mono", fontsize=size, parse_math=False)
    canvas.draw()
    Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB").quantize(16).save(path, optimize=True)


def main() -> None:
    """Run the command and draw its terminal."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture")
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    lines = [line for line in screen(output_of(options.command, options.seconds)) if line]
    wrapped = [line[at : at + COLUMNS] for line in lines for at in range(0, len(line), COLUMNS)]
    draw(wrapped[-LINES:], options.picture)


if __name__ == "__main__":
    main()
