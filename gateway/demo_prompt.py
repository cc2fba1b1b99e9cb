"""The demonstration prompt: sorts a customer's mail into an object, small enough for the embedded model."""

from django.db import transaction

from gateway.local_model import MODEL_NAME
from prompts.authoring import create_prompt, publish_version
from prompts.checks import Check, CheckKind
from prompts.content import MessageTemplate, PromptContent, Role
from prompts.json_values import JsonObject
from prompts.models import Prompt
from prompts.names import PRODUCTION
from prompts.releasing import move_label
from prompts.testing import save_test_case

PROMPT_NAME = "sort-mail"
EXAMPLE_MAIL = "Hello, my parcel 4711 has not arrived yet and I need it by Friday!"
_CONTENT = PromptContent(
    messages=(
        MessageTemplate(
            role=Role.SYSTEM,
            template="You sort the mail of a shop. Say what it is about, whether it is urgent, and sum it up in a few "
            "words.",
        ),
        # A model of this size does as it has seen it done.
        MessageTemplate(role=Role.USER, template="My invoice of May shows the wrong amount."),
        MessageTemplate(
            role=Role.ASSISTANT,
            template='{"topic": "billing", "is_urgent": false, "summary": "Wrong amount on an invoice."}',
        ),
        MessageTemplate(role=Role.USER, template="{{ mail }}"),
    ),
    input_schema={
        "type": "object",
        "properties": {"mail": {"type": "string", "minLength": 1, "maxLength": 4_000, "examples": [EXAMPLE_MAIL]}},
        "required": ["mail"],
        "additionalProperties": False,
    },
    output_schema={
        "type": "object",
        "properties": {
            "topic": {"enum": ["order", "delivery", "billing", "other"]},
            "is_urgent": {"type": "boolean"},
            "summary": {"type": "string", "maxLength": 80},
        },
        "required": ["topic", "is_urgent", "summary"],
        "additionalProperties": False,
    },
    model=MODEL_NAME,
    parameters={"temperature": 0, "max_completion_tokens": 120},
    allowed_overrides=("temperature",),
)


@transaction.atomic
def ensure_demo_prompt(author: str) -> str:
    """Make and release the prompt where it is missing, and return its name; one that exists stays as it is."""
    if Prompt.objects.filter(name=PROMPT_NAME).exists():
        return PROMPT_NAME
    prompt = create_prompt(
        name=PROMPT_NAME,
        author=author,
        description="Sorts a customer's mail: topic, urgency, and a few words of summary.",
        owner=author,
        tags=("demo",),
        content=_CONTENT,
    )
    inputs: JsonObject = {"mail": EXAMPLE_MAIL}
    save_test_case(
        prompt_id=prompt.pk,
        name="a late parcel",
        inputs=inputs,
        checks=(Check(kind=CheckKind.SCHEMA), Check(kind=CheckKind.MAX_TOKENS, value=1_000)),
        author=author,
    )
    version = publish_version(prompt_id=prompt.pk, author=author, note="The first version of the demonstration.")
    move_label(
        prompt_id=prompt.pk,
        label=PRODUCTION,
        version_id=version.pk,
        reason="The demonstration calls it.",
        author=author,
    )
    return PROMPT_NAME
