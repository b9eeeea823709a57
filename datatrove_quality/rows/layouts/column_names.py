"""Every layout that is read: which columns may hold a part of a conversation, and what each of them is.

This is the one place to add a layout. A row with a list of messages is read by the names in `CHATS`; a row with a
column for the question and one for the answer by an entry of `PAIRS`. `SAYS` is the closed list of all columns that
can say something about the conversation: before a row is scored, each of them that is filled is in it, or
the row is refused. Other columns are data that is carried along. docs/layouts.md has the table for users.
"""

from dataclasses import dataclass


CHATS = ("messages", "conversations", "conversation")
"""Columns of a list of messages; the first that is filled is read."""

TURNS = "data"
"""UltraChat's column: a list of texts, the user's first."""

CONTENTS = "contents"
"""Gemini's column: a list of role and parts."""

ANSWERS = ("chosen", "response", "completion", "answer", "output")
"""Columns of the answer, beside a question or a list of messages that ends before the answer, in this order."""

CHOICES = "choices"
"""OpenAI's column of alternatives; multiple-choice questions call their options so."""

LATER_ANSWERS = (CHOICES, "preferred_output")
"""The same, in OpenAI's formats."""

REJECTED = frozenset({"rejected", "non_preferred_output"})
"""Columns of answers that are not the row's answer: they are never read, and no reason to refuse the row."""

SEVERAL_ANSWERS = ("completions", "generations", "responses")
"""Columns of a list of answers, which is read only with `all_answers`."""

CONTEXTS = ("input", "context")
"""Columns of a text that is joined to the question by a blank line."""

SYSTEMS = ("system", "system_prompt", "system_message", "system_instruction", "systemInstruction", "instructions")
"""Columns of the system prompt."""

HISTORY = "history"
"""The column of the turns before the question: pairs of question and answer, or messages."""

TEMPLATE_ARGUMENTS = "chat_template_kwargs"
"""The column of arguments for the chat template."""

TOOLS = ("tools", "functions")
"""Columns of tool definitions, which are rendered only with `QualityFilter(render_tools=True)`."""

API_ANSWERS = ("response", "choices", "result")
"""Columns of what an API gave back, beside the request's object or alone."""

ENVELOPES = ("body", "request", "params")
"""Columns of an object that holds a row: batch requests of OpenAI, Gemini and Anthropic."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A layout with a column for the question and one for the answer.

    Args:
        schema: the name by which the user can choose it.
        question: the column of the question: a text, or a list of messages.
        answers: the columns of the answer; the first that is filled is read.
        contexts: columns of a text that belongs to the question.
        own: of the columns of the answer those that are meant where the user names the schema.
    """

    schema: str
    question: str
    answers: tuple[str, ...] = ANSWERS
    contexts: tuple[str, ...] = CONTEXTS
    own: tuple[str, ...] = ()


PAIRS = (
    # Alpaca, Dolly, LLaMA-Factory, Evol-Instruct
    Pair("alpaca", "instruction", own=("chosen", "output")),
    # TRL, UltraFeedback, Anthropic's completions
    Pair("prompt_response", "prompt", own=("chosen", "response", "completion", "answer")),
    # OpenOrca, GSM8K
    Pair("question_answer", "question"),
    # MetaMathQA, CodeFeedback
    Pair("query_response", "query"),
    # Aya, xP3, FLAN
    Pair("inputs_targets", "inputs", ("targets",)),
    # NuminaMath, Magicoder
    Pair("problem_solution", "problem", ("chosen", "solution")),
    # distilabel, OpenAI's Responses and preferences
    Pair("input_output", "input", (*ANSWERS, "preferred_output"), ("context",)),
    # Gemini's tuning, PaLM's tuning
    Pair("input_output", "text_input", ("output",), ()),
    Pair("input_output", "input_text", ("output_text",), ()),
)

OTHER_CHATS = ("dialog", "dialogue", "dialogs", "turns", "chat")
"""Columns of conversations in forms of their own, which are read only where `messages_key` names them."""

THOUGHTS = (
    "reasoning",
    "reasoning_content",
    "thinking",
    "thought",
    "thoughts",
    "rationale",
    "chain_of_thought",
    "cot",
)
"""Columns of what was thought before the answer, or of how much: Nemotron has `reasoning: "on"`."""

SWITCHES = frozenset({"on", "off", "true", "false", "yes", "no", "none", "low", "medium", "high", "auto"})
"""Values of these columns that say nothing."""

REFUSED = frozenset(
    {
        *OTHER_CHATS,
        *("chat_history", "conversation_history", "dialogue_history", "previous_messages"),
        *SEVERAL_ANSWERS,
        *("definition", "preamble", "sys_prompt", "custom_instructions", "custom_system_prompt"),
        *("generation", "generated_text", "model_output", "model_response", "answers", "options"),
        *("document", "documents", "passage", "passages", "article", "story", "paragraph", "contexts", "knowledge"),
        *("background", "evidence", "excerpt", "transcript"),
        *("retrieved_documents", "retrieved_docs", "retrieved_contexts"),
        *THOUGHTS,
    }
)
"""Columns that often hold a part of the conversation, but not the same part in every data set: none is read."""

SCHEMAS = ("auto", "messages", "sharegpt", *dict.fromkeys(pair.schema for pair in PAIRS))

SAYS = frozenset(
    {
        *(*CHATS, TURNS, CONTENTS, HISTORY, TEMPLATE_ARGUMENTS, *ANSWERS, *LATER_ANSWERS, *CONTEXTS, *SYSTEMS),
        *(pair.question for pair in PAIRS),
        *(answer for pair in PAIRS for answer in pair.answers),
        *REFUSED,
    }
)
"""Every column that can say something about the conversation."""

MEDIA = frozenset(
    {
        *("image", "images", "image_url", "image_urls", "video", "videos", "video_url", "video_urls"),
        *("audio", "audios", "audio_url", "audio_urls", "input_audio"),
        *("file", "files", "file_url", "file_urls", "media", "multimedia"),
    }
)
"""Keys of what a message shows or plays beside its content, which a classifier of text does not get."""

NOT_LONG_TEXT = SAYS | REJECTED | {*TOOLS, *ENVELOPES, "id", "text", "metadata", "images"}
"""Columns that are not named in the log when they hold long text beside a conversation."""
