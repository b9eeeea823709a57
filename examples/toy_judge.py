"""A toy judge: a small server with OpenAI's interface that rates the demo conversations by plain rules.

    python examples/toy_judge.py datatrove-quality annotate examples/conversations.jsonl --output annotated \
        --rubric instruct-quality-pt --model toy-judge --endpoint {endpoint}

serves while the command runs, with its own address in the place of {endpoint}. Without a command it serves until it is
interrupted.

It understands nothing. It looks for words that question and answer share, and knows some phrases of the demo. With it
the whole circle can be tried without a GPU and without an account. It needs nothing but Python.
"""

import argparse
import asyncio
import contextlib
import json
import re
import sys
from dataclasses import dataclass
from itertools import pairwise
from typing import Any


MODEL = "toy-judge"
COMMON = """
a ao aos as até bom boa com como da das de depois dia do dos e ela ele em essa esse esta este eu faz fazer foi há isso
já mais mas me melhor meu minha muito na não nas no nos o oi olá onde os ou para pela pelo pergunta por posso preciso
qual quando quanto que quem se ser seu sobre sua tarde tenho um uma você ajuda favor obrigada obrigado
"""
VAGUE = re.compile(
    r"várias opiniões|depende muito|me escapa|não me lembro|pode ser que|ouvi dizer|creio que|fico na dúvida|por alto|"
    r"não sei (qual|bem)|não garanto|muita certeza|confirmar|dizem que|se não me engano|já li alguma coisa",
    re.IGNORECASE,
)
EVASIVE = re.compile(
    r"kkk|blz|procura la|na net\b|pesquisa ai|vive falando|só fala de|já ouvi falar|sempre achei|parece interessante|"
    r"na minha rua|um amigo meu|conheço uma pessoa|pergunte ao|muita gente gosta|fizeram até uma música|outro dia vi",
    re.IGNORECASE,
)
LONG_ANSWER = 2


def rate(question: str, answer: str) -> tuple[int, str]:
    """A level from 1 to 5 and the rule that gave it.

    Args:
        question: of the user.
        answer: of the assistant.
    """
    if EVASIVE.search(answer):
        return 2, "a resposta foge da pergunta"
    names = set(re.findall(r"(?<=[\w,] )[A-ZÀ-Ý]\w+", question))
    if not _words(question) & _words(answer) or (names and not any(name in answer for name in names)):
        return 1, "a resposta não é sobre a pergunta"
    if VAGUE.search(answer):
        return 3, "a resposta é vaga"
    sentences = len(re.findall(r"[.!?](\s|$)", answer))
    if sentences < LONG_ANSWER:
        return 4, "uma resposta direta, em uma frase"
    return 5, "uma resposta direta, com explicações"


def _words(text: str) -> set[str]:
    return {word for word in re.findall(r"\w{2,}", text.lower()) if word not in COMMON.split()}


def rate_prompt(prompt: str) -> tuple[int, str]:
    """The level of the conversation between the markers of a prompt: that of its worst answer.

    Args:
        prompt: as `datatrove-quality annotate` makes it.
    """
    marked = re.search(r"<<<([0-9a-f]{12})\n(.*)\n\1>>>", prompt, re.DOTALL)
    if not marked:
        return 1, "não há conversa"
    turns = re.split(rf"\[{marked[1]}\] (\S+):\n", marked[2])[1:]
    pairs = list(zip(turns[0::2], turns[1::2], strict=True))
    rated = [
        rate(before[1], after[1])
        for before, after in pairwise(pairs)
        if (before[0], after[0]) == ("user", "assistant")
    ]
    return min(rated, default=(1, "não há resposta"))


@dataclass
class Reply:
    """What is sent back.

    Args:
        body: JSON, or bytes as they are.
        status: of HTTP.
        headers: beside length and type.
        closes: whether the connection ends with it.
    """

    body: Any
    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    closes: bool = False

    def to_bytes(self) -> bytes:
        """The reply as HTTP has it."""
        body = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        head = f"HTTP/1.1 {self.status} -\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        return (head + "".join(f"{name}: {value}\r\n" for name, value in self.headers) + "\r\n").encode() + body


class ToyJudge:
    """The server: `models` and `chat/completions` of OpenAI's interface over HTTP/1.1."""

    def models(self) -> Reply:
        """The list of models."""
        return Reply({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def complete(self, request: dict[str, Any]) -> Reply:
        """A chat completion.

        Args:
            request: its body.
        """
        level, reason = rate_prompt(request["messages"][0]["content"])
        return completion(json.dumps({"reason": reason, "score": level}, ensure_ascii=False))

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection, one after the other."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError), contextlib.closing(writer):
            while line := await reader.readline():
                length = 0
                while (header := await reader.readline()).strip():
                    name, _, value = header.decode("latin-1").partition(":")
                    length = int(value) if name.lower() == "content-length" else length
                body = await reader.readexactly(length)
                reply = await self.reply(line.split()[1].decode(), body)
                writer.write(reply.to_bytes())
                await writer.drain()
                if reply.closes:
                    return

    async def reply(self, path: str, body: bytes) -> Reply:
        """The reply to one request."""
        if path.endswith("/models"):
            return self.models()
        if not path.endswith("/chat/completions"):
            return Reply({"error": {"message": f"there is no {path}"}}, 404)
        return await self.complete(json.loads(body))


def completion(text: str, model: str = MODEL, finish_reason: str = "stop") -> Reply:
    """A reply with an answer of the model.

    Args:
        text: of the answer.
        model: that is said to have answered.
        finish_reason: why it ended.
    """
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}
    usage = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return Reply({"id": "toy", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage})


async def serve(judge: ToyJudge, host: str, port: int) -> asyncio.Server:
    """Start to serve.

    Args:
        judge: that answers.
        host: the address.
        port: 0: any that is free.
    """
    return await asyncio.start_server(judge.handle, host, port, backlog=1024, limit=2**20)


async def main() -> None:
    """Serve until interrupted, or while a command runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="default: one that is free")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="to run meanwhile")
    options = parser.parse_args()
    server = await serve(ToyJudge(), options.host, options.port)
    endpoint = f"http://{options.host}:{server.sockets[0].getsockname()[1]}/v1"
    async with server:
        if options.command:
            command = [word.replace("{endpoint}", endpoint) for word in options.command]
            process = await asyncio.create_subprocess_exec(*command)
            sys.exit(await process.wait())
        print(f"The toy judge listens on {endpoint}", flush=True)
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
