"""A run that keeps a part of the rows of three files; shared by the tests of claims and of changed inputs."""

import json

from datatrove_quality import ConversationAdapter, Run


FILES, ROWS = 3, 8


def write_files(folder):
    folder.mkdir()
    for file in range(FILES):
        rows = [{"id": f"{file}-{row}", "messages": [{"role": "user", "content": "Oi?"}]} for row in range(ROWS)]
        (folder / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


class Keep:
    """Keeps the rows from a number on; calls a function before a row of a file."""

    def __init__(self, first, before=None, at=None):
        self.first = first
        self.before = before
        self.at = at

    def __call__(self, data, rank, world_size):
        for document in data:
            if self.before and document.id == self.at:
                self.before()
            if int(document.id.split("-")[1]) >= self.first:
                yield document


def run(source, output, keep, **options):
    made = Run(source, output, **options)
    return made.execute([made.reader(ConversationAdapter()), keep, made.writer("kept")])


def kept(output):
    return sorted(json.loads(line)["id"] for path in (output / "kept").glob("*") for line in path.open())


def expected(first):
    return [f"{file}-{row}" for file in range(FILES) for row in range(first, ROWS)]


def second_run_at(monkeypatch, owner, name, source, output, at=1):
    """The second run takes the folder and runs to its end within the first one's call of a function."""
    real, calls = getattr(owner, name), []

    def called(*arguments, **options):
        calls.append(name)
        if len(calls) == at:
            (output / "logs/active.json").unlink()  # as of a machine that cannot be asked
            run(source, output, Keep(5), overwrite=True)
        return real(*arguments, **options)

    monkeypatch.setattr(owner, name, called)
