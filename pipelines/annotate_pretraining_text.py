"""Annotate pretraining text with an encoder: every row gets its score, and none is dropped.

    python pipelines/annotate_pretraining_text.py web/ annotated/ --model your/bert-edu --tasks 64

reads JSONL or Parquet files with a column `text`, and writes `annotated/kept`: each row as it was, with the columns
`edu_score`, `edu_int_score`, `edu_tokens` and `edu_truncated`, or `edu_error` where a row has no text. Choose a
threshold later, by `datatrove-quality report annotated/`, and filter without the model:

    datatrove-quality filter annotated/ --output edu/ --scores-from-columns --prefix edu --text --min-score 3
"""

import argparse

from datatrove_quality import QualityFilter, Run, ScorerConfig, ScoreScale, TextAdapter


# Where the model's config.json has a "score_scale", None. This one is that of the FineWeb-Edu classifier: 0 to 5.
SCALE = ScoreScale(offset=0, low=0, high=5)


def main() -> None:
    """Read, score, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="folder, file, or glob in quotes")
    parser.add_argument("output", help="folder, outside of the input")
    parser.add_argument("--model", required=True, help="hub id or folder of an encoder with one output")
    parser.add_argument("--text-key", default="text", help="the column of the text (default: text)")
    parser.add_argument("--tasks", type=int, help="parts that run and resume one by one (default: files)")
    parser.add_argument("--workers", type=int, help="tasks at a time (default: 1)")
    options = parser.parse_args()

    run = Run(options.input, options.output, tasks=options.tasks, workers=options.workers)
    pipeline = [
        run.reader(TextAdapter(options.text_key)),
        QualityFilter(
            ScorerConfig(model=options.model, scale=SCALE),
            messages_key=None,  # score the document's text
            prefix="edu",
            checkpoints_dir=run.checkpoints,
        ),
        # A second QualityFilter with another model and prefix can follow, for toxicity, say.
        run.writer("kept"),
    ]
    run(pipeline)


if __name__ == "__main__":  # worker processes import this file
    main()
