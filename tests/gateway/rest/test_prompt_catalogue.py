"""GET /v1/prompts: what a key may run, what it has to send, and nothing about any other prompt."""

from typing import Any

import pytest
from django.test import Client

from keys.scopes import Scope
from prompts.authoring import deprecate_version
from tests.factories import make_key, make_model
from tests.prompting import make_prompt, make_released, publish, release, text_content

pytestmark = pytest.mark.django_db
CITY: dict[str, Any] = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def get(client: Client, path: str, token: str) -> Any:
    return client.get(path, headers={"authorization": f"Bearer {token}"})


def test_a_key_sees_labels_versions_and_rollouts_of_what_it_may_run(client: Client) -> None:
    first = make_released("mail")
    second = publish(first.prompt, text_content("Say hello kindly to {{ name }}."))
    release(second, percent=10)
    deprecate_version(version_id=first.pk, author="ada", note="old")
    make_prompt("draft-only")
    make_released("secret")
    (shown,) = get(client, "/v1/prompts", make_key(allowed_prompts=("mail", "draft-only")).token).json()["data"]
    assert (shown["object"], shown["name"]) == ("prompt", "mail")
    assert shown["labels"] == [
        {"name": "production", "version": "1.0.0", "rollout": {"version": "1.0.1", "percent": 10}}
    ]
    assert [(v["version"], v["deprecated_at"] is None) for v in shown["versions"]] == [
        ("1.0.1", True),
        ("1.0.0", False),
    ]


def test_a_prompt_tells_its_schemas_and_an_example_but_never_its_text(client: Client) -> None:
    make_released(
        "mail",
        text_content("Tell {{ name }}.", system="SECRET", output_schema=CITY, allowed_overrides=("temperature",)),
    )
    answer = get(client, "/v1/prompts/mail", make_key().token)
    shown = answer.json()
    assert (shown["version"], shown["label"], shown["model"]) == ("1.0.0", "production", "some-model")
    assert (shown["output_schema"], shown["parameters"]) == (CITY, ["temperature"])
    assert shown["input_schema"]["required"] == ["name"]
    assert shown["example"] == {"inputs": {"name": "some name"}}
    assert "SECRET" not in answer.content.decode()


def test_the_pin_is_that_of_a_run_and_the_example_repeats_it(client: Client) -> None:
    model = make_model()
    version = make_released("mail", text_content(model=""))
    publish(version.prompt, text_content("Bye, {{ first }} {{ last }}.", model=""))
    token = make_key().token
    assert get(client, "/v1/prompts/mail", token).json()["example"]["parameters"] == {"model": model.name}
    newer = get(client, "/v1/prompts/mail?version=2.0.0", token).json()
    assert (newer["version"], newer["label"], newer["example"]["version"]) == ("2.0.0", None, "2.0.0")
    assert set(newer["example"]["inputs"]) == {"first", "last"}
    for query, status in (("version=3", 404), ("version=staging", 404), ("version=1.x", 400), ("nonsense=1", 400)):
        assert get(client, f"/v1/prompts/mail?{query}", token).status_code == status, query


def test_an_outsider_learns_nothing(client: Client) -> None:
    make_released("mail")
    other = make_key(allowed_prompts=("other",)).token
    hidden, missing = get(client, "/v1/prompts/mail", other), get(client, "/v1/prompts/nowhere", other)
    assert (hidden.status_code, missing.status_code) == (404, 404)
    assert hidden.json()["error"]["message"] == missing.json()["error"]["message"].replace("nowhere", "mail")
    assert get(client, "/v1/prompts", other).json()["data"] == []
    unscoped = make_key(scopes=(Scope.CHAT_WRITE,)).token
    assert get(client, "/v1/prompts", unscoped).status_code == 403
    assert client.get("/v1/prompts").status_code == 401
