"""Prompts for tests, built through the public functions."""

from itertools import count

from prompts.authoring import create_prompt, publish_version, save_draft
from prompts.content import MessageTemplate, PromptContent, Role
from prompts.json_values import JsonObject
from prompts.models import LabelMove, Prompt, PromptVersion
from prompts.names import ChangeLevel
from prompts.releasing import move_label

_numbers = count(1)


def text_content(
    user: str = "Say hello to {{ name }}.",
    *,
    system: str | None = None,
    input_schema: JsonObject | None = None,
    output_schema: JsonObject | None = None,
    model: str = "some-model",
    parameters: JsonObject | None = None,
    allowed_overrides: tuple[str, ...] = (),
) -> PromptContent:
    """Return a content with a user message, and a system message before it where one is given."""
    messages = [MessageTemplate(role=Role.USER, template=user)]
    if system is not None:
        messages.insert(0, MessageTemplate(role=Role.SYSTEM, template=system))
    return PromptContent(
        messages=tuple(messages),
        input_schema=input_schema,
        output_schema=output_schema,
        model=model,
        parameters=parameters or {},
        allowed_overrides=allowed_overrides,
    )


def make_prompt(name: str | None = None, content: PromptContent | None = None) -> Prompt:
    """Create a prompt with a draft."""
    return create_prompt(name=name or f"prompt-{next(_numbers)}", author="ada", content=content or text_content())


def publish(
    prompt: Prompt, content: PromptContent | None = None, *, level: ChangeLevel | None = None, note: str = "for a test"
) -> PromptVersion:
    """Publish the draft, or `content`."""
    if content is not None:
        save_draft(prompt_id=prompt.pk, content=content, author="ada")
    return publish_version(prompt_id=prompt.pk, author="ada", note=note, level=level)


def release(version: PromptVersion, label: str = "production", *, percent: int = 100) -> LabelMove:
    """Point a label at a version."""
    outcome = move_label(
        prompt_id=version.prompt_id,
        label=label,
        version_id=version.pk,
        percent=percent,
        reason="for a test",
        author="ada",
    )
    assert outcome.move is not None
    return outcome.move


def make_released(name: str, content: PromptContent | None = None) -> PromptVersion:
    """Create, publish and release a prompt to production."""
    version = publish(make_prompt(name, content))
    release(version)
    return version
