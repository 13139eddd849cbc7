r"""The option that the answer chooses is the right one: by its letter or its text, boxed, stated, or alone."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from jaxroute.collect.graders.grade import Grade
from jaxroute.collect.graders.reading import boxed, has_words, plain, references, stated
from jaxroute.errors import listed, shortened

OPTION = re.compile(r"^[ \t]*(?:options?\s*:\s*)?\(?([A-Za-z])[.):][ \t]+(\S[^\n]*)", re.MULTILINE | re.IGNORECASE)
LEADING = re.compile(r"[\s(*\[`\"']*(?:option\s+|choice\s+)?([A-Za-z])(?:[)\].:*`\"'\s]|$)", re.IGNORECASE)
"""A letter that begins a text and is no word: `(B)`, `B. Windows`, `**B**`, `option B`."""
MARKED = re.compile(r"\(([A-Z])\)|\*\*\(?([A-Z])[).:]?\*\*")
"""A letter in parentheses or in bold."""
ALONE = re.compile(r"(?<![\w'])([B-HJ-Z])(?![\w'])")
"""A capital letter that is no word; A and I are."""
FIELDS = ("choices", "options")


@dataclass(frozen=True)
class Config:
    """How references are written."""

    digits: Literal["auto", "index", "text"] = "auto"
    """What a number as reference is: an option's index, counted from `first`, or its text; `auto`: whichever is possible."""
    first: int = 0
    """The index of the first option."""


def grade(answer: str, reference: Any, question: Any, config: Config) -> Grade:
    """1 where the option that the answer chooses is the reference's (a letter, an index, an option's text, or a list of them).

    Options are the question's `choices`, else the lettered lines of its prompt.
    """
    options = options_of(question)
    right = [letter for one in references(reference) if (letter := _letters(one, options, config))]
    chosen = choice(answer, options)
    if chosen is None:
        return Grade(0.0, "it chooses no option")
    if right:
        return Grade(float(any(chosen in letters for letters in right)), f"it chooses {chosen}")
    # A reference that is none of the options is compared as a text.
    return Grade(float(plain(options.get(chosen, "")) in map(plain, references(reference))), f"it chooses {chosen}")


def problem(reference: Any, question: Any, config: Config) -> str:
    """A reference must be one option."""
    options = options_of(question)
    for one in references(reference):
        letters = _letters(one, options, config)
        if not letters:
            there = (
                f"the options are {listed(f'{name}. {text}' for name, text in options.items())}"
                if options
                else "there are none"
            )
            return f"the reference {shortened(one)} is no option: {there}; give a letter, an index or a text"
        if len(letters) > 1:
            return (
                f"the reference {shortened(one)} is the index of {letters[0]} and the text of {letters[1]}: "
                "give digits=index or digits=text"
            )
    return ""


def options_of(question: Any) -> dict[str, str]:
    """Letter and text of every option: of the question's `choices`, else of the last lettered lines of its prompt."""
    if isinstance(question, Mapping):
        given = next((question[name] for name in FIELDS if question.get(name)), None)
        if isinstance(given, Mapping):
            return {str(name).upper(): str(text) for name, text in given.items()}
        if isinstance(given, list | tuple):
            return {_letter(place): str(text) for place, text in enumerate(given)}
    prompt = question.get("prompt", "") if isinstance(question, Mapping) else question
    found: dict[str, str] = {}
    for letter, text in OPTION.findall(prompt if isinstance(prompt, str) else ""):
        if letter.upper() == "A":
            found = {}
        if letter.upper() == _letter(len(found)):
            found[letter.upper()] = text.strip()
    return found


def choice(answer: str, options: Mapping[str, str]) -> str | None:
    """The letter of the option that the answer chooses; None where it chooses none. Without options any letter goes."""
    if (box := boxed(answer)) is not None:
        return _led(box, options) or _held(box, options)
    if (said := stated(answer)) and (found := _led(said, options) or _held(said, options)):
        return found
    marked = [one or other for one, other in MARKED.findall(answer)]
    alone = ALONE.findall(answer)
    last = (letter for letter in [*marked[::-1], *alone[::-1]] if _is_option(letter, options))
    return _led(answer, options) or next(last, None) or _held(answer, options)


def _led(text: str, options: Mapping[str, str]) -> str | None:
    """The option that a text is, or whose letter it begins with."""
    same = [letter for letter, option in options.items() if plain(option) == plain(text)]
    if len(same) == 1:
        return same[0]
    leading = LEADING.match(text)
    if leading and _is_option(leading[1].upper(), options) and not _is_word(text, leading):
        return leading[1].upper()
    return None


def _held(text: str, options: Mapping[str, str]) -> str | None:
    """The one option whose text is in a text."""
    there = [letter for letter, option in options.items() if has_words(plain(text), plain(option))]
    # "Windows 10" holds "10": what is part of another option that is there was not meant.
    there = [one for one in there if not any(one != other and _covers(options, other, one) for other in there)]
    return there[0] if len(there) == 1 else None


def _covers(options: Mapping[str, str], letter: str, other: str) -> bool:
    return has_words(plain(options[letter]), plain(options[other]))


def _is_word(text: str, leading: re.Match[str]) -> bool:
    """Whether the letter is the word A or I, or any lower-case letter that other words follow."""
    bare = leading[0].strip() == leading[1] and text[leading.end() :].strip() != ""
    return bare and (leading[1] in "AI" or leading[1].islower())


def _is_option(letter: str, options: Mapping[str, str]) -> bool:
    return not options or letter in options


def _letters(reference: str, options: Mapping[str, str], config: Config) -> list[str]:
    """The options that a reference may mean: none, one, or two where a number is an index and another option's text."""
    text = reference.strip()
    if re.fullmatch(r"\(?[A-Za-z][.)]?", text) and _is_option(letter := text.strip("().").upper(), options):
        return [letter]
    same = [letter for letter, option in options.items() if plain(option) == plain(text)]
    place = int(float(text)) - config.first if re.fullmatch(r"\d{1,3}(?:\.0)?", text) else -1
    index = [_letter(place)] if 0 <= place < (len(options) or 26) else []
    if config.digits != "auto" and index:
        return index if config.digits == "index" else same[:1]
    return list(dict.fromkeys([*index, *same[:1]]))


def _letter(place: int) -> str:
    return chr(ord("A") + place) if place < 26 else str(place)
