"""Score conversations with a classifier, and keep those at or above a threshold.

    python pipelines/filter_conversations.py data/ filtered/ --tasks 16

reads JSONL or Parquet files in any usual layout (messages, ShareGPT, Alpaca, prompt and response) and writes
`filtered/kept` and `filtered/excluded`: each row as it was, with its score as new columns. Started again, it
continues where it stopped. Copy this file and change it; a changed pipeline refuses the old folder: give another one,
or `--overwrite`, after which scores that were computed before are found in `filtered/logs/checkpoints`.
"""

import argparse

from datatrove_quality import ConversationAdapter, QualityFilter, Run


MODEL = "Polygl0t/portuguese-qwen3-4b-instruct-quality-classifier"
MIN_SCORE = 4


def main() -> None:
    """Read, score, keep or exclude."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="folder, file, or glob in quotes")
    parser.add_argument("output", help="folder, outside of the input")
    parser.add_argument("--model", default=MODEL, help="hub id or folder")
    parser.add_argument("--min-score", type=float, default=MIN_SCORE)
    parser.add_argument("--tasks", type=int, help="parts that run and resume one by one (default: files)")
    parser.add_argument("--workers", type=int, help="tasks at a time (default: 1)")
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier run wrote")
    options = parser.parse_args()

    run = Run(
        options.input,
        options.output,
        tasks=options.tasks,
        workers=options.workers,
        overwrite=options.overwrite,
    )
    pipeline = [
        run.reader(ConversationAdapter()),
        # Any DataTrove step can go here: its own filters judge a document's text, which is that of all messages.
        QualityFilter(
            options.model,
            min_score=options.min_score,
            exclusion_writer=run.writer("excluded"),
            checkpoints_dir=run.checkpoints,
        ),
        run.writer("kept"),
    ]
    run(pipeline)


if __name__ == "__main__":  # worker processes import this file
    main()
