"""langchain-openai asks a proxy whose address is the first argument; what is wrong ends it with an error.

Runs in an environment of its own, so it imports nothing of ours.
"""

import sys

from langchain_core.messages import HumanMessage  # pyright: ignore[reportMissingImports]
from langchain_core.tools import tool  # pyright: ignore[reportMissingImports]
from langchain_openai import ChatOpenAI, OpenAIEmbeddings  # pyright: ignore[reportMissingImports]
from pydantic import BaseModel

ADDRESS = sys.argv[1]
QUESTION = "What is 12 plus 30?"


class Number(BaseModel):
    """An answer."""

    answer: str


@tool
def add(question: str) -> str:
    """Adds two numbers."""
    return question


def main() -> None:
    model = ChatOpenAI(base_url=ADDRESS, api_key="none", model="auto", max_retries=0)
    whole = model.invoke(QUESTION)
    assert "The answer is" in whole.content and whole.usage_metadata["output_tokens"] > 0
    assert "".join(chunk.content for chunk in model.stream(QUESTION)) == whole.content
    called = model.bind_tools([add]).invoke(QUESTION)
    assert called.tool_calls[0]["name"] == "add" and called.tool_calls[0]["args"] == {"question": QUESTION}
    parsed = model.with_structured_output(Number, method="json_schema").invoke(QUESTION)
    assert parsed.answer.isdigit()
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}
    assert model.invoke([HumanMessage([{"type": "text", "text": "What is it?"}, image])]).content
    embedding = OpenAIEmbeddings(base_url=ADDRESS, api_key="none", model="sim-nano", check_embedding_ctx_length=False)
    assert len(embedding.embed_query("one")) == 16
    try:
        ChatOpenAI(base_url=ADDRESS, api_key="none", model="nothing", max_retries=0).invoke(QUESTION)
    except Exception as error:  # noqa: BLE001, whichever class it has, it says this
        assert "does not exist here" in str(error)
    else:
        raise AssertionError("an unknown model has answered")
    print("all is well")


main()
