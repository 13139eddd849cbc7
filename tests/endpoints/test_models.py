"""`models.yaml`: everything that is wrong in one bounded message with its place, and no key in any of them."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import fields
from pathlib import Path

import pytest

from jaxroute.endpoints import Endpoint, TokenPrice, Usage, load_models, read_keys
from jaxroute.errors import EndpointError, JaxrouteWarning

SECRET = "sk-proj-Ab3dEf6hIj9lMn2pQr5tUv8x"


@pytest.fixture
def write(tmp_path: Path):
    def written(text: str) -> Path:
        path = tmp_path / "models.yaml"
        path.write_text(textwrap.dedent(text))
        return path

    return written


def said(path: Path) -> str:
    with pytest.raises(EndpointError) as raised:
        load_models(path)
    message = str(raised.value)
    assert len(message) < 4_000
    return message


def test_every_field_is_read(write) -> None:
    path = write(
        """
        models:
          small:
            base_url: https://api.example.com/v1/
            model: small-2026-05
            api_key_env: EXAMPLE_API_KEY
            price: {input: 0.15, cached_input: 0.075, output: 0.6, reasoning: 0.7}
            context_tokens: 128000
            output_tokens: 2048
            accepts: [json_schema, tools]
            requests_per_minute: 500
            concurrent_requests: 32
          edge:
            base_url: http://127.0.0.1:8000/v1
            local: true
            concurrent_requests: 2
        """
    )
    small, edge = load_models(path).values()
    assert small == Endpoint(
        name="small",
        base_url="https://api.example.com/v1",
        model="small-2026-05",
        price=TokenPrice(0.15, 0.6, 0.075, 0.7),
        api_key_env="EXAMPLE_API_KEY",
        context_tokens=128_000,
        output_tokens=2048,
        accepts=("tools", "json_schema"),
        requests_per_minute=500,
        concurrent_requests=32,
    )
    assert edge.local and edge.model == "edge" and edge.price == TokenPrice(0, 0) and edge.concurrent_requests == 2


def test_the_page_in_the_docstring_is_read(write) -> None:
    from jaxroute.endpoints import models

    example = (models.__doc__ or "").split("\n\n")[1].replace("prices: genai-prices", "prices: list.json")
    found = load_models(write(example))
    assert list(found) == ["small", "edge"] and found["small"].context_tokens == 128_000


def test_one_mapping_takes_what_another_has(write) -> None:
    path = write(
        """
        models:
          a: &a
            base_url: https://api.example.com/v1
            price: {input: 1, output: 2}
          b: {<<: *a, model: b-large, price: {input: 3e0, output: 1e1}}
        """
    )
    b = load_models(path)["b"]
    assert (b.base_url, b.model, b.price) == ("https://api.example.com/v1", "b-large", TokenPrice(3.0, 10.0))


def test_everything_that_is_wrong_is_in_one_message_with_its_line(write) -> None:
    message = said(
        write(
            """\
            model: {}
            models:
              a:
                base_url: ftp://example.com
                prise: {input: 1}
                price: {input: -1, outptu: 2}
                requests_per_minute: fast
                concurrent_requests: 2.5
                accepts: [tools, music]
                local: maybe
              b:
                price: 3
                output_tokens: 200
                context_tokens: 100
              b: {}
              c: [1, 2]
            """
        )
    )
    for part in (
        "line 1: model is unknown; did you mean models?",
        "line 4: models.a.base_url must be an address",
        "line 5: models.a.prise is unknown; did you mean price?",
        "line 6: models.a.price.input is -1 and must be a number from 0 to 1,000,000",
        "line 6: models.a.price.outptu is unknown; did you mean output?",
        "line 7: models.a.requests_per_minute must be a number, not 'fast'",
        "line 8: models.a.concurrent_requests is 2.5 and must be a whole number",
        "line 9: models.a.accepts holds 'music'; known are tools, images, json_schema",
        "line 10: models.a.local must be true or false",
        "line 15: models.b is there twice",
    ):
        assert part in message
    assert re.search(r"; and [1-9] more$", message)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        ("models: {}", "line 1: models must hold a mapping for at least one model"),
        ("- a\n- b", "line 1: the file must be a mapping, not a list"),
        ("models: {a: {", "is not YAML: line 1"),
        ("models: {a: {base_url: 'http://h/v1', local: true}}", "local needs a capacity"),
        ("models: {a: {base_url: 'http://h/v1'}}", "models.a.price is missing: dollars per million tokens"),
        ("models: {a: {price: {input: 1, output: 1}}}", "models.a.base_url is missing"),
        ("models: {a: {base_url: 'http://h/v1', price: {input: 1}}}", "models.a.price.output is missing"),
        ("models: {a: {base_url: 'http://h/v1/chat/completions', price: {input: 1, output: 1}}}", "give the address up to /v1"),
        (
            "models: {a: {base_url: 'http://h', local: true, concurrent_requests: 1, price: {input: 1, output: 1}}}",
            "leave price",
        ),
        ("models: {a: {base_url: 'http://h', prices: none.json}}", "none.json cannot be read as a price list"),
        ("models: {1.5: {base_url: }}", "which is not a name"),
        (
            "models: {a: {base_url: http://h, model: , price: {input: 1, output: 1}}}",
            "a.model must be a text, not empty",
        ),
    ],
)
def test_a_wrong_file_is_named(write, text: str, says: str) -> None:
    assert says in said(write(text))


@pytest.mark.parametrize(
    "text",
    [
        f"models: {{a: {{base_url: 'http://h/v1', api_key_env: {SECRET}, price: {{input: 1, output: 1}}}}}}",
        f"models: {{a: {{base_url: 'http://h/v1', api_key: {SECRET}, price: {{input: 1, output: 1}}}}}}",
        f"models: {{a: {{base_url: 'http://me:{SECRET}@h/v1', price: {{input: 1, output: 1}}}}}}",
        f"models: {{a: {{base_url: 'http://h/v1?key={SECRET}', price: {{input: 1, output: 1}}}}}}",
        f"models: {{a: {{base_url: 'http://h/v1', requests_per_minute: {SECRET}, price: {{input: 1, output: 1}}}}}}",
        f"models: {{a: {{{SECRET}: 1}}}}",
        f"models: {{a: {{accepts: [{SECRET}]}}}}",
        f"models: {{a: {{base_url: 'http://h/v1', api_key_env: 'x\n{SECRET}: {{",
        f"models:\n  a:\n    api_key_env: {SECRET}: {SECRET}\n",
        f"models:\n  a: *{SECRET}\n",
    ],
)
def test_no_key_is_in_a_message(write, text: str) -> None:
    message = said(write(text))
    assert SECRET not in message and SECRET[8:24] not in message


def test_keys_come_from_the_environment_and_are_in_no_repr(write, monkeypatch: pytest.MonkeyPatch) -> None:
    found = load_models(
        write(
            """
            models:
              a: &a {base_url: "http://h/v1", api_key_env: FIRST_KEY, price: {input: 1, output: 1}}
              b: {<<: *a, api_key_env: SECOND_KEY}
              c: {<<: *a, api_key_env: SECOND_KEY}
            """
        )
    )
    monkeypatch.setenv("FIRST_KEY", SECRET)
    monkeypatch.delenv("SECOND_KEY", raising=False)
    with pytest.raises(EndpointError, match=r"set the environment variable: SECOND_KEY \(of b, c\)$") as raised:
        read_keys(found.values())
    assert SECRET not in str(raised.value)
    monkeypatch.setenv("SECOND_KEY", "second")
    assert read_keys(found.values()) == {"a": SECRET, "b": "second", "c": "second"}
    assert SECRET not in repr(found)
    monkeypatch.setenv("SECOND_KEY", "two\nlines")
    with pytest.raises(EndpointError, match="SECOND_KEY holds blanks"):
        read_keys(found.values())


LITELLM = {
    "small": {
        "input_cost_per_token": 2e-07,
        "output_cost_per_token": 6e-07,
        "cache_read_input_token_cost": 1e-07,
        "mode": "chat",
    },
    "thinker": {"input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06, "output_cost_per_reasoning_token": 5e-06},
    "long": {"input_cost_per_token": 1e-06, "output_cost_per_token": 4e-06, "input_cost_per_token_above_200k_tokens": 2e-06},
    "broken": {"input_cost_per_token": "much", "output_cost_per_token": None},
}
ARENA = {"small": {"input_token_price_per_million": 0.2, "output_token_price_per_million": 0.6}, "odd": "free"}


def test_price_lists_are_read_for_the_models_that_are_named(write, tmp_path: Path) -> None:
    (tmp_path / "litellm.json").write_text(json.dumps(LITELLM))
    (tmp_path / "arena.json").write_text(json.dumps(ARENA))
    found = load_models(
        write(
            """
            prices: litellm.json
            models:
              small: {base_url: "http://h/v1"}
              mine: {base_url: "http://h/v1", model: thinker}
              long: {base_url: "http://h/v1", context_tokens: 200000}
              cheap: {base_url: "http://h/v1", model: x, prices: arena.json, price_name: small}
            """
        )
    )
    assert [one.price for one in found.values()] == [
        TokenPrice(0.2, 0.6, 0.1),
        TokenPrice(1.0, 4.0, None, 5.0),
        TokenPrice(1.0, 4.0),
        TokenPrice(0.2, 0.6),
    ]


def test_prices_that_do_not_help_are_named(write, tmp_path: Path) -> None:
    (tmp_path / "litellm.json").write_text(json.dumps(LITELLM))
    message = said(
        write(
            """\
            prices: litellm.json
            models:
              smal: {base_url: "http://h/v1"}
              long: {base_url: "http://h/v1"}
              broken: {base_url: "http://h/v1"}
            """
        )
    )
    assert "line 3: models.smal has no price: litellm.json has no price of 'smal'; near it are small" in message
    assert "line 4: models.long has no price: its price rises from 200,000 tokens on" in message
    assert "line 5: models.broken has no price: input_cost_per_token='much'" in message


def test_prices_of_hosted_models_come_from_their_package(write) -> None:
    pytest.importorskip("genai_prices")
    path = write(
        """
        prices: genai-prices
        models:
          mini: {base_url: "https://api.openai.com/v1", model: gpt-4o-mini}
          proxied: {base_url: "http://proxy.local/v1", price_name: openai/gpt-4o-mini}
        """
    )
    mini, proxied = load_models(path).values()
    assert mini.price == proxied.price and mini.price.input < mini.price.output
    assert mini.price.cached_input is not None and mini.price.cached_input < mini.price.input
    message = said(write('prices: genai-prices\nmodels: {a: {base_url: "http://proxy.local/v1", model: no-such}}'))
    assert "genai-prices has no price of 'no-such' at this base_url" in message


def test_dollars_per_token_are_warned_of(write) -> None:
    with pytest.warns(JaxrouteWarning, match="are these dollars per token"):
        load_models(write('models: {a: {base_url: "http://h/v1", price: {input: 2e-7, output: 6e-7}}}'))


def test_a_call_costs_what_its_kinds_of_tokens_cost() -> None:
    price = TokenPrice(input=1.0, output=4.0, cached_input=0.25, reasoning=8.0)
    usage = Usage(prompt_tokens=1000, cached_tokens=400, completion_tokens=500, reasoning_tokens=100)
    assert price.cost_usd(usage) == pytest.approx((600 * 1 + 400 * 0.25 + 400 * 4 + 100 * 8) / 1e6)
    assert TokenPrice(1.0, 4.0).cost_usd(usage) == pytest.approx((1000 + 4 * 500) / 1e6)
    assert price.cost_usd(Usage(prompt_tokens=1000)) is None
    assert price.worst_case_usd(1000, 500) == pytest.approx((1000 * 1 + 500 * 8) / 1e6)


def test_every_field_has_a_description() -> None:
    source = Path(__file__).parents[2] / "jaxroute" / "endpoints" / "models.py"
    text = source.read_text()
    for one in fields(Endpoint):
        assert f"    {one.name}: " in text
