"""Fetching published files: from a mirror on this machine, whole and unaltered or not at all."""

from __future__ import annotations

import functools
import hashlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from jaxroute import SourceError, load_source
from jaxroute.data.sources.fetch import PUBLISHED, fetch


@dataclass
class Mirror:
    """A folder, served; `asked` lists the paths in the order of the requests."""

    address: str
    folder: Path
    asked: list[str] = field(default_factory=list)


class Handler(SimpleHTTPRequestHandler):
    def __init__(self, *arguments, asked: list[str], **options):
        self.asked = asked
        super().__init__(*arguments, **options)

    def do_GET(self) -> None:
        self.asked.append(self.path.removeprefix("/"))
        super().do_GET()

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """An empty mirror on a free port of this machine; no proxy stands between."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    folder = tmp_path / "mirror"
    folder.mkdir()
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder), asked=asked))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield Mirror(f"http://127.0.0.1:{server.server_port}", folder, asked)
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def tiny(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """A published source of three small files, which the mirror serves."""
    content = {"part/one.csv": b"one\n", "part/two.csv": b"two\n", "three.json": b"[3]\n"}
    files = {name: {"path": name, "sha256": hashlib.sha256(text).hexdigest()} for name, text in content.items()}
    monkeypatch.setitem(PUBLISHED, "tiny", {"folder": "tiny", "base": "http://127.0.0.1:1/nowhere", "files": files})
    for name, text in content.items():
        put(mirror.folder / name, text)
    return content


def put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def serve_published(name: str, data: Path, folder: Path) -> None:
    """Lay the real files of a source out as their authors do."""
    for local, file in PUBLISHED[name]["files"].items():
        link = folder / file["path"]
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(data / PUBLISHED[name]["folder"] / local)


def kept(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


# --- the published bytes ---


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("routellm-mmlu", {"": 14_042}),
        ("routellm-gsm8k", {"": 1_319}),
        ("routerdc", {"mmlu_train.json": 2_000, "mmlu_test.json": 4_213}),
        ("paretobandit", {"val_k4.jsonl": 1_766, "test_k4.jsonl": 1_793}),
        (
            "routerbench",
            {
                "arc_challenge_train.csv": 1_039,
                "arc_challenge_test.csv": 445,
                "mbpp_train.csv": 299,
                "mbpp_test.csv": 128,
            },
        ),
    ],
)
def test_real_files_are_fetched_and_load(data: Path, mirror: Mirror, tmp_path: Path, name: str, counts: dict[str, int]):
    """The real bytes have the published hashes, arrive where experiments look, and are what the loader expects."""
    serve_published(name, data, mirror.folder)
    folder = fetch(name, tmp_path / "fetched", mirror=mirror.address)
    assert sorted(kept(folder).values()) == sorted(kept(mirror.folder).values())
    assert folder == tmp_path / "fetched" / PUBLISHED[name]["folder"]
    assert {path: len(load_source(name, folder / path)) for path in counts} == counts


# --- mirrors that are wrong ---


def test_files_come_from_the_mirror_in_their_folders(mirror: Mirror, tiny: dict[str, bytes], tmp_path: Path):
    """A slash at the end of the address, or none, is the same."""
    for slash in ("", "/"):
        folder = fetch("tiny", tmp_path / f"fetched{len(slash)}", mirror=mirror.address + slash)
        assert folder == tmp_path / f"fetched{len(slash)}" / "tiny"
        assert kept(folder) == tiny


def test_what_is_there_is_not_fetched_again_unless_it_is_damaged(mirror: Mirror, tiny: dict[str, bytes], tmp_path: Path):
    folder = fetch("tiny", tmp_path, mirror=mirror.address)
    assert sorted(mirror.asked) == sorted(tiny)
    fetch("tiny", tmp_path, mirror=mirror.address)
    assert len(mirror.asked) == len(tiny)
    (folder / "three.json").write_bytes(b"[3")
    fetch("tiny", tmp_path, mirror=mirror.address)
    assert mirror.asked[len(tiny) :] == ["three.json"]
    assert kept(folder) == tiny


def test_an_altered_file_is_refused_by_name_and_not_kept(mirror: Mirror, tiny: dict[str, bytes], tmp_path: Path):
    """The good files of the same mirror are kept, so that only the bad one is asked for next time."""
    put(mirror.folder / "part/two.csv", b"TWO\n")
    with pytest.raises(SourceError) as caught:
        fetch("tiny", tmp_path / "fetched", mirror=mirror.address)
    message = str(caught.value)
    assert "part/two.csv is not the published file" in message
    assert "one.csv" not in message and "three.json" not in message
    assert kept(tmp_path / "fetched") == {f"tiny/{name}": tiny[name] for name in ("part/one.csv", "three.json")}


@pytest.mark.parametrize("spoil", [lambda content: content[:-1], lambda content: b""], ids=["cut off", "empty"])
def test_a_file_that_is_cut_off_is_refused(
    mirror: Mirror, tiny: dict[str, bytes], tmp_path: Path, spoil: Callable[[bytes], bytes]
):
    put(mirror.folder / "three.json", spoil(tiny["three.json"]))
    with pytest.raises(SourceError, match=r"three\.json"):
        fetch("tiny", tmp_path / "fetched", mirror=mirror.address)
    assert "tiny/three.json" not in kept(tmp_path / "fetched")


def test_every_file_that_could_not_be_had_is_named(mirror: Mirror, tiny: dict[str, bytes], tmp_path: Path):
    """One is gone from the mirror, one was altered: both stand in the same message."""
    (mirror.folder / "part/one.csv").unlink()
    put(mirror.folder / "three.json", b"[4]\n")
    with pytest.raises(SourceError) as caught:
        fetch("tiny", tmp_path / "fetched", mirror=mirror.address)
    message = str(caught.value)
    assert "part/one.csv" in message and "404" in message
    assert "three.json is not the published file" in message
    assert kept(tmp_path / "fetched") == {"tiny/part/two.csv": tiny["part/two.csv"]}


def test_without_its_server_nothing_is_fetched(tiny: dict[str, bytes], tmp_path: Path):
    """The base address of the source is used where no mirror is named; nobody answers there."""
    with pytest.raises(SourceError) as caught:
        fetch("tiny", tmp_path / "fetched")
    for name in tiny:
        assert f"http://127.0.0.1:1/nowhere/{name}" in str(caught.value)
    assert kept(tmp_path / "fetched") == {}


@pytest.mark.parametrize("name", ["table", "simulated", "routerbank", "../routerdc"])
def test_a_source_that_is_not_published_is_refused_with_those_that_are(tmp_path: Path, name: str):
    with pytest.raises(SourceError) as caught:
        fetch(name, tmp_path)
    for known in PUBLISHED:
        assert known in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_every_published_file_stays_inside_its_folder():
    """A path that climbs out, or a hash that is none, would be a trap in the list itself."""
    for entry in PUBLISHED.values():
        assert entry["base"].startswith("https://") and entry["base"].endswith("/")
        for local, file in entry["files"].items():
            for path in (Path(entry["folder"]) / local, Path(file["path"])):
                assert not path.is_absolute() and ".." not in path.parts
            assert len(bytes.fromhex(file["sha256"])) == 32
