"""A run with one quality filter, as the tests of `runs` start it."""

from datatrove_quality import ConversationAdapter, QualityFilter, Run


def pipeline(run, model, min_score=-1.0, **options):
    """Reader, filter and two writers of a run; the rest are arguments of the filter."""
    return [
        run.reader(ConversationAdapter()),
        QualityFilter(
            model,
            min_score=min_score,
            exclusion_writer=run.writer("excluded"),
            checkpoints_dir=run.checkpoints,
            **options,
        ),
        run.writer("kept"),
    ]


def start(folder, model, min_score=-1.0, options=None, **arguments):
    """Run it from `in` to `out`; `options` are those of the filter, the rest arguments of the run."""
    run = Run(folder / "in", folder / "out", **arguments)
    return run(pipeline(run, model, min_score, **(options or {})))
