"""The page at `/`: it shows what happens, runs no script, and names no key."""

from __future__ import annotations

import re
from pathlib import Path

from jaxroute.serve.clients import new_key
from tests.serve.proxies import MESSAGES, QUESTION, proxy


def test_it_shows_answers_money_and_errors(tmp_path: Path) -> None:
    key, lines = new_key("alice")
    (tmp_path / "clients.yaml").write_text(lines)
    with proxy(tmp_path, clients=tmp_path / "clients.yaml") as one:
        for model in ("auto", "sim-nano", "<script>"):
            one.post({"model": model, "messages": MESSAGES}, headers={"api-key": key})
        one.running.service.wrong_files = "models.yaml: <b>line 3</b>"
        reply = one.request("GET", "/")
    page = reply.body.decode()
    assert reply.status == 200 and reply.headers["content-security-policy"].startswith("default-src 'none'")
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert key not in page and QUESTION not in page
    for part in ("model_not_found", "&lt;b&gt;line 3", "of $5.00 per day", "of $1.00 per day"):
        assert part in page, part
    assert re.search(r"<td>sim-large</td><td class='text'>auto</td>.*?<td>1</td>", page)
    assert page.count("<tr>") == page.count("</tr>") and page.count("<div") == page.count("</div>")
