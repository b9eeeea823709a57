"""Errors of the command name the options that its user typed, in one line."""

import pickle

import pytest

from datatrove_quality.cli.main import InOptions, Parser, command
from datatrove_quality.cli.messages import in_one_line, in_options


@pytest.fixture(scope="module")
def parser():
    made = Parser()
    command("filter").add_options(made)
    return made


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("output='/a b/c': a run is active", "--output '/a b/c': a run is active"),
        ("model='org/name' cannot be loaded.", "--model org/name cannot be loaded."),
        ("executor='slurm': none; or set executor='local'.", "--executor slurm: none; or set --executor local."),
        ("needs executor='ray' (--executor ray)", "needs --executor ray"),
        ("Another folder, or overwrite=True (--overwrite) to delete", "Another folder, or --overwrite to delete"),
        ("compile=True fails. Set compile=False.", "--compile fails. Omit --compile."),
        ("set add_bos_token=True (--add-bos-token) if so, else add_bos_token=False (--no-add-bos-token).",
         "set --add-bos-token if so, else --no-add-bos-token."),
        ("min_score=4.5 is above 4: set min_score=None", "--min-score 4.5 is above 4: omit --min-score"),
        ("device='cuda:1': set device=\"cuda:0\"", "--device cuda:1: set --device cuda:0"),
        ("allow_unexpected=('lm_head.*',) (--allow-unexpected 'lm_head.*').", "--allow-unexpected 'lm_head.*'."),
        ("reuse_scores (--reuse-scores): the scores", "--reuse-scores: the scores"),
        ("set chat_template=... to the template", "set --chat-template to the template"),
        ("plain text is scored with messages_key=None.", "plain text is scored with --text."),
        ("with prompt_key= of ConversationAdapter; plain text with TextAdapter and messages_key=None.",
         "with --prompt-key; plain text with --text COLUMN."),
        ("scorer=None (--scores-from-columns): no score", "--scores-from-columns: no score"),
        ("name them with prompt_key= and answer_key=.", "name them with --prompt-key and --answer-key."),
    ],
)  # fmt: skip
def test_parameters_become_the_options_that_were_typed(parser, text, shown):
    """Whatever the form of the value; what a shell would take apart is quoted."""
    assert in_options(text, parser) == shown


@pytest.mark.parametrize(
    "text",
    [
        "input /data/schema=1/model=3/x.jsonl: there is no such file or folder.",
        "input model=3/x.jsonl: there is no such file or folder.",
        "'schema=1' is a folder",
        "the model has a scale, and executor names are typed (see --help)",
        "a transform=3, tokens_per_batch_of=2 and x.model=4 are no options",
        "cluster=Cluster(wait=1): give a Cluster",
    ],
)
def test_what_is_no_parameter_is_left_as_it_is(parser, text):
    """Paths of folders that are named by a column, other names, and plain words."""
    shown = in_options(text, parser)
    assert shown == text.replace("(wait=1)", "(--wait 1)")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("one line", "one line"),
        ("It differs:\n  min_score: was 4, is now 5\n  model: was a, is now b\nGive another folder.",
         "It differs: min_score: was 4, is now 5; model: was a, is now b; Give another folder."),
        ("Cannot be loaded. Check it.\n\nNot found.\n", "Cannot be loaded. Check it. Not found."),
        ("", ""),
    ],
)  # fmt: skip
def test_a_message_of_several_lines_is_shown_in_one(text, line):
    """Logs and other programs take the last line of what a command printed for its error."""
    assert in_one_line(text) == line


def test_workers_name_the_options_too():
    """A worker process gets the subcommand's name, and makes its parser where there is a message."""
    in_worker = pickle.loads(pickle.dumps(InOptions("filter")))
    assert (
        in_worker("tasks=64: a task reads whole files.\nSee above.")
        == "--tasks 64: a task reads whole files. See above."
    )
