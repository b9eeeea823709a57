"""Ask an LLM judge about conversations, so that a classifier can learn from its answers.

    python pipelines/annotate_conversations.py data/ annotated/ --endpoint http://localhost:8000/v1 --model NAME

reads JSONL or Parquet files in any usual layout and writes `annotated/rows`: each row as it was, with the judge's
level and reason as new columns, or with `judge_error`. The endpoint is any server with OpenAI's interface; an API key
is read from the environment variable OPENAI_API_KEY. Started again, it requests only the missing answers. Copy this
file and change it.
"""

import argparse

from datatrove_quality import Connection, ConversationAdapter, JudgeConfig, LLMJudge, Run, load_rubric


RUBRIC = "instruct-quality-pt"


def main() -> None:
    """Read, ask, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", help="folder, file, or glob in quotes")
    parser.add_argument("output", help="folder, outside of the input")
    parser.add_argument("--endpoint", required=True, help="its address up to and including /v1")
    parser.add_argument("--model", required=True, help="the name under which the endpoint serves the judge")
    parser.add_argument("--rubric", default=RUBRIC, help="a .toml file, or the name of a shipped one")
    parser.add_argument("--concurrency", type=int, default=64, help="requests in flight per task")
    parser.add_argument("--tasks", type=int, help="parts that run and resume one by one (default: files)")
    parser.add_argument("--overwrite", action="store_true", help="delete what an earlier run wrote")
    options = parser.parse_args()

    run = Run(options.input, options.output, tasks=options.tasks, overwrite=options.overwrite, name="annotate")
    pipeline = [
        run.reader(ConversationAdapter()),
        # Any DataTrove step can go here: what it drops is not sent.
        LLMJudge(
            JudgeConfig(model=options.model, rubric=load_rubric(options.rubric)),
            Connection(options.endpoint, concurrency=options.concurrency),
            checkpoints_dir=run.checkpoints,
        ),
        run.writer("rows"),
    ]
    run(pipeline)


if __name__ == "__main__":  # worker processes import this file
    main()
