"""Prompts as YAML files, so that they can live in git: one file a prompt, with what its draft says and its test cases.

Names of fields are those of the editor. A field that is left out is empty; an unknown one is refused. Aliases are
refused: a few lines of them can stand for gigabytes.
"""

import difflib
from dataclasses import dataclass
from typing import Any

import orjson
import yaml

from prompts.authoring import change_prompt, create_prompt, save_draft, set_reuse
from prompts.checks import Check, read_checks, write_checks
from prompts.content import PromptContent, content_of, read_content
from prompts.errors import PromptInvalid
from prompts.json_values import JsonObject, JsonValue, from_json
from prompts.models import Prompt, PromptDraft, PromptTestCase
from prompts.testing import save_test_case

MAX_FILE_CHARACTERS = 1_000_000
_ABOUT = ("name", "description", "owner", "tags", "cache_seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseInFile:
    """A test case as a file has it."""

    name: str
    inputs: JsonObject
    checks: tuple[Check, ...]
    is_active: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PromptFile:
    """What a file says."""

    name: str
    description: str
    owner: str
    tags: tuple[str, ...]
    content: PromptContent
    tests: tuple[CaseInFile, ...]
    # For how long answers may be reused; None: as the model says.
    cache_seconds: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What pushing a file changes; `difference` is a unified diff of the file's form, empty when nothing."""

    prompt: Prompt
    is_new: bool
    difference: str


def write_file(prompt: Prompt) -> str:
    """Return the file of a prompt as its draft and test cases stand."""
    draft = PromptDraft.objects.get(prompt=prompt)
    cases = PromptTestCase.objects.filter(prompt=prompt).order_by("name", "id")
    return _dump(
        PromptFile(
            name=prompt.name,
            description=prompt.description,
            owner=prompt.owner,
            tags=tuple(prompt.tags),
            content=read_content(draft.content),
            tests=tuple(
                CaseInFile(
                    name=case.name,
                    inputs=_object(from_json(case.inputs), "tests"),
                    checks=read_checks(from_json(case.checks)),
                    is_active=case.is_active,
                )
                for case in cases
            ),
            cache_seconds=prompt.cache_seconds,
        )
    )


def read_file(text: str) -> PromptFile:
    """Return what a file says. Raises PromptInvalid (and PromptTestInvalid), naming the field."""
    data = _load(text)
    tests = data.pop("tests", None) or []
    if not isinstance(tests, list):
        raise PromptInvalid("'tests' must be a list.", param="tests")
    about = {name: data.pop(name, None) for name in _ABOUT}
    tags = about["tags"] or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise PromptInvalid("'tags' must be a list of texts.", param="tags")
    seconds = about["cache_seconds"]
    if seconds is not None and (type(seconds) is not int or not 0 <= seconds < 2**31):
        raise PromptInvalid("'cache_seconds' must be a whole number of seconds.", param="cache_seconds")
    return PromptFile(
        name=_text(about["name"], "name"),
        description=_text(about["description"], "description"),
        owner=_text(about["owner"], "owner"),
        tags=tuple(str(tag) for tag in tags),
        content=content_of(data),
        tests=tuple(_read_case(item) for item in tests),
        cache_seconds=seconds,
    )


def push_file(file: PromptFile, *, author: str) -> Pushed:
    """Bring the prompt's draft and test cases to what a file says; the caller's transaction makes it real or not.

    Test cases that the file does not have are left as they are. Raises what saving raises.
    """
    prompt = Prompt.objects.filter(name=file.name).first()
    before = "" if prompt is None else write_file(prompt)
    is_new = prompt is None
    if prompt is None:
        prompt = create_prompt(
            name=file.name,
            author=author,
            description=file.description,
            owner=file.owner,
            tags=file.tags,
            content=file.content,
        )
    else:
        change_prompt(prompt_id=prompt.pk, description=file.description, owner=file.owner, tags=file.tags)
        if read_content(PromptDraft.objects.get(prompt=prompt).content).as_json() != file.content.as_json():
            save_draft(prompt_id=prompt.pk, content=file.content, author=author)
    set_reuse(prompt_id=prompt.pk, seconds=file.cache_seconds)
    known = dict(PromptTestCase.objects.filter(prompt=prompt).values_list("name", "pk"))
    for case in file.tests:
        save_test_case(
            prompt_id=prompt.pk,
            name=case.name,
            inputs=case.inputs,
            checks=case.checks,
            author=author,
            is_active=case.is_active,
            case_id=known.get(case.name),
        )
    prompt.refresh_from_db()
    return Pushed(prompt=prompt, is_new=is_new, difference=difference_of(before, write_file(prompt), name=file.name))


def difference_of(before: str, after: str, *, name: str) -> str:
    """Return the unified diff of two files."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"{name} (now)", f"{name} (then)"
    )
    return "".join(lines)


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as blocks, so that a template in a file looks like the template."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)


def _dump(file: PromptFile) -> str:
    content: Any = from_json(file.content.as_json())
    data = {
        "name": file.name,
        "description": file.description,
        "owner": file.owner,
        "tags": list(file.tags),
        "cache_seconds": file.cache_seconds,
        **content,
        "tests": [
            {
                "name": case.name,
                "inputs": case.inputs,
                "checks": write_checks(case.checks),
                **({} if case.is_active else {"is_active": False}),
            }
            for case in file.tests
        ],
    }
    filled = {key: value for key, value in data.items() if value not in (None, "", [], {})}
    # Wide: a folded line would change with every word before it.
    return yaml.dump(filled, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000)


def _load(text: str) -> JsonObject:
    if len(text) > MAX_FILE_CHARACTERS:
        raise PromptInvalid(f"A file has at most {MAX_FILE_CHARACTERS:,} characters.")
    try:
        if any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=yaml.SafeLoader)):
            raise PromptInvalid("Aliases (*name) are not allowed; write the value again.")
        data = yaml.safe_load(text)
        # Through JSON: YAML's own kinds (dates, sets, binary) have no place in a prompt.
        plain = from_json(orjson.dumps(data, option=orjson.OPT_PASSTHROUGH_DATETIME))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark is not None else ""
        raise PromptInvalid(f"Not valid YAML{where}: {getattr(error, 'problem', None) or error}.") from None
    except (TypeError, ValueError, RecursionError) as error:
        raise PromptInvalid(f"A value is no JSON value ({error}); put texts that look like dates in quotes.") from None
    return _object(plain, "")


def _read_case(item: JsonValue) -> CaseInFile:
    case = _object(item, "tests")
    unknown = sorted(set(case) - {"name", "inputs", "checks", "is_active"})
    if unknown:
        raise PromptInvalid(f"Unknown fields of a test case: {', '.join(unknown)}.", param="tests")
    return CaseInFile(
        name=_text(case.get("name"), "tests"),
        inputs=_object(case.get("inputs") or {}, "tests"),
        checks=read_checks(case.get("checks") or []),
        is_active=case.get("is_active", True) is not False,
    )


def _object(value: JsonValue, param: str) -> JsonObject:
    if not isinstance(value, dict):
        raise PromptInvalid("A mapping of fields is needed here.", param=param or None)
    return value


def _text(value: JsonValue, param: str) -> str:
    if value is not None and not isinstance(value, str):
        raise PromptInvalid(f"'{param}' must be text; quote it.", param=param)
    return value or ""
