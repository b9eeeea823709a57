#!/usr/bin/env bash
# datatrove 0.10.1: TokensCounter and DocumentTokenizer cut and pad texts as tokenizer.json says.
#
# A tokenizer of transformers keeps the truncation and padding of its last call, and save_pretrained of 5.24.0 writes them
# to tokenizer.json: so beside a classifier whose training cut and padded texts. AutoTokenizer sets both for each call,
# so nobody sees it there. DataTrove reads the file with the tokenizers library, which obeys it: each document has the
# same token_count, and what is written to train a language model on has padding, and no text behind the cut. No warning.
# no_truncation() and no_padding() of tokenizers.Tokenizer, saved again, make the file right.
#
# Output seen:
#     saved before a call: AutoTokenizer gives 2 and 100 tokens, TokensCounter 2 and 100, DocumentTokenizer writes 102
#     saved after a call: AutoTokenizer gives 2 and 100 tokens, TokensCounter 8 and 8, DocumentTokenizer writes 16
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check datatrove==0.10.1 transformers==5.24.0 \
    tokenizers==0.23.3 humanize regex 2> "$folder/pip.log" || { cat "$folder/pip.log"; exit 1; }
cat > "$folder/show.py" <<'PYTHON'
import sys
from pathlib import Path

import numpy as np
import transformers
from datatrove.data import Document
from datatrove.pipeline.tokens import DocumentTokenizer, TokensCounter
from tokenizers import Tokenizer, models, pre_tokenizers

transformers.logging.set_verbosity_error()
TEXTS = ["a b", "a b " * 50]
words = Tokenizer(models.WordLevel({"[UNK]": 0, "[PAD]": 1, "a": 2, "b": 3}, unk_token="[UNK]"))
words.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_object=words, unk_token="[UNK]", pad_token="[PAD]")
for when in ("before", "after"):
    if when == "after":
        tokenizer(TEXTS, truncation=True, max_length=8, padding="max_length")
    folder = Path(sys.argv[1], when)
    tokenizer.save_pretrained(folder)
    file = str(folder / "tokenizer.json")
    given = [len(ids) for ids in transformers.AutoTokenizer.from_pretrained(folder)(TEXTS)["input_ids"]]
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(TEXTS)]
    counted = [document.metadata["token_count"] for document in TokensCounter(file)(documents)]
    DocumentTokenizer(str(folder / "out"), tokenizer_name_or_path=file, eos_token=None, shuffle_documents=False)(documents)
    written = sum(len(np.fromfile(path, np.uint16)) for path in (folder / "out").glob("*.ds"))
    print(
        f"saved {when} a call: AutoTokenizer gives {given[0]} and {given[1]} tokens, "
        f"TokensCounter {counted[0]} and {counted[1]}, DocumentTokenizer writes {written}"
    )
PYTHON
"$folder/venv/bin/python" "$folder/show.py" "$folder/saved" 2> "$folder/errors" | tee "$folder/output" ||
    cat "$folder/errors"
diff <(sed -n 's/^#     \(saved .*\)/\1/p' "$0") "$folder/output"
