"""The providers that an upstream can be made from: addresses, headers, and what each can do; one row each.

A row gives the values of a new upstream; all of them can be changed there. Where a provider's models differ from each
other, the row says what most can, and a deployment says otherwise.

Sources, November 2026: console.groq.com/docs/openai,
docs.ollama.com/api/openai-compatibility, learn.microsoft.com/azure/foundry/openai/api-version-lifecycle, AWS's page on
inference endpoints of Bedrock, platform.claude.com/docs/en/api/versioning; for what a cancelled stream costs,
OpenRouter's page on streaming.
"""

import re
from dataclasses import dataclass

from gateway.capabilities import ALL_CAPABILITIES, DESCRIPTIONS, Capability
from gateway.models import Authentication, Dialect, OnDisconnect, OutputLimitParameter, Upstream

_TO_REPLACE = re.compile(r"[A-Z]{4,}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Provider:
    """One row. Capitals in `base_url` are to be replaced; `{model}` is not, it stands for the model's name."""

    key: str
    name: str
    base_url: str
    dialect: Dialect = Dialect.OPENAI
    authentication: Authentication = Authentication.BEARER
    api_version: str = ""
    output_limit_parameter: OutputLimitParameter = OutputLimitParameter.MAX_TOKENS
    capabilities: Capability = ALL_CAPABILITIES
    # Breaking a stream off ends what it costs; elsewhere it is read to its end, so that the figures are known.
    cancel_stops_billing: bool = True
    hint: str = ""

    @property
    def has_own_address(self) -> bool:
        """Return whether the address is the same for everybody, so that it need not be given."""
        return bool(self.base_url) and not _TO_REPLACE.search(self.base_url)

    def columns(self) -> dict[str, object]:
        """Return the values of a new upstream's columns, but its name, address and secret."""
        stop = OnDisconnect.STOP if self.cancel_stops_billing else OnDisconnect.DRAIN
        return {
            "dialect": self.dialect,
            "authentication": self.authentication,
            "api_version": self.api_version,
            "output_limit_parameter": self.output_limit_parameter,
            "on_disconnect": stop,
            **{description.column: c in self.capabilities for c, description in DESCRIPTIONS.items()},
        }


_NEWER_LIMIT = OutputLimitParameter.MAX_COMPLETION_TOKENS
_NO_LOGPROBS = ALL_CAPABILITIES & ~Capability.LOGPROBS
_NO_CHOICES = ALL_CAPABILITIES & ~Capability.CHOICES
_PLAIN = ALL_CAPABILITIES & ~(Capability.LOGPROBS | Capability.CHOICES)
_PLAIN_TEXT = _PLAIN & ~Capability.IMAGES

_ROWS = (
    Provider(
        key="openai",
        name="OpenAI",
        base_url="https://api.openai.com/v1",
        output_limit_parameter=_NEWER_LIMIT,
        hint="Reasoning models refuse temperature and top_p: say so at their deployments.",
    ),
    Provider(
        key="azure",
        name="Azure OpenAI (v1)",
        base_url="https://RESOURCE.openai.azure.com/openai/v1",
        authentication=Authentication.API_KEY,
        output_limit_parameter=_NEWER_LIMIT,
        hint="The upstream's model name is the name of your deployment.",
    ),
    Provider(
        key="azure-classic",
        name="Azure OpenAI (dated versions)",
        base_url="https://RESOURCE.openai.azure.com/openai/deployments/{model}",
        authentication=Authentication.API_KEY,
        api_version="2024-10-21",
        output_limit_parameter=_NEWER_LIMIT,
        hint="Leave {model} in the address: the name of your deployment goes there, call by call.",
    ),
    Provider(
        key="anthropic",
        name="Anthropic",
        base_url="https://api.anthropic.com/v1",
        dialect=Dialect.ANTHROPIC,
        authentication=Authentication.X_API_KEY,
        api_version="2026-10-21",
        capabilities=_PLAIN & ~Capability.SAMPLING,
        hint="Claude 4.6 and older take temperature and top_p with the version 2023-06-01: make a second upstream.",
    ),
    Provider(
        key="gemini",
        name="Google Gemini",
        base_url="https://generativelanguage.googleapis.com/v1beta/openai",
        capabilities=_NO_LOGPROBS,
        cancel_stops_billing=False,
        hint="Google's OpenAI-compatible endpoint; the secret is a Gemini API key.",
    ),
    Provider(
        key="bedrock",
        name="Amazon Bedrock",
        base_url="https://bedrock-runtime.REGION.amazonaws.com/openai/v1",
        output_limit_parameter=_NEWER_LIMIT,
        capabilities=_PLAIN,
        cancel_stops_billing=False,
        hint="The secret is a Bedrock API key, not an AWS access key.",
    ),
    Provider(
        key="mistral",
        name="Mistral",
        base_url="https://api.mistral.ai/v1",
        capabilities=_NO_LOGPROBS,
        cancel_stops_billing=False,
    ),
    Provider(
        key="groq",
        name="Groq",
        base_url="https://api.groq.com/openai/v1",
        output_limit_parameter=_NEWER_LIMIT,
        capabilities=_PLAIN_TEXT,
        cancel_stops_billing=False,
        hint="Some models read images, and some take no JSON schema: say so at their deployments.",
    ),
    Provider(
        key="openrouter",
        name="OpenRouter",
        base_url="https://openrouter.ai/api/v1",
        capabilities=_NO_CHOICES,
        hint="Whether cancelling stops the bill depends on the provider behind the model.",
    ),
    Provider(key="together", name="Together AI", base_url="https://api.together.xyz/v1"),
    Provider(key="fireworks", name="Fireworks AI", base_url="https://api.fireworks.ai/inference/v1"),
    Provider(
        key="deepseek",
        name="DeepSeek",
        base_url="https://api.deepseek.com/v1",
        capabilities=_NO_CHOICES & ~(Capability.IMAGES | Capability.JSON_SCHEMA),
    ),
    Provider(key="xai", name="xAI", base_url="https://api.x.ai/v1"),
    Provider(
        key="perplexity",
        name="Perplexity",
        base_url="https://api.perplexity.ai",
        capabilities=_PLAIN & ~Capability.TOOLS,
        cancel_stops_billing=False,
        hint="It has no list of models, so the test of the connection cannot show one.",
    ),
    Provider(
        key="ollama",
        name="Ollama",
        base_url="http://127.0.0.1:11434/v1",
        capabilities=_NO_CHOICES & ~Capability.IMAGES,
        hint="No secret. Models that read images: say so at their deployments.",
    ),
    Provider(
        key="vllm",
        name="vLLM",
        base_url="http://127.0.0.1:8000/v1",
        capabilities=ALL_CAPABILITIES & ~Capability.IMAGES,
        hint="Tools need the server's --enable-auto-tool-choice. Models that read images: say so at their deployments.",
    ),
    Provider(
        key="llama-cpp",
        name="llama.cpp server",
        base_url="http://127.0.0.1:8080/v1",
        capabilities=ALL_CAPABILITIES & ~Capability.IMAGES,
        hint="Tools need the server's --jinja.",
    ),
    Provider(
        key="local",
        name="Embedded local model",
        base_url="",
        dialect=Dialect.LOCAL,
        capabilities=ALL_CAPABILITIES & ~Capability.IMAGES,
        hint="Runs inside this server ('manage.py serve'); no address and no secret.",
    ),
    Provider(
        key="custom",
        name="Another, OpenAI-compatible",
        base_url="",
        hint="Anything that answers POST /chat/completions. Every capability is switched on: take off what it lacks.",
    ),
    Provider(
        key="custom-anthropic",
        name="Another, Anthropic-compatible",
        base_url="",
        dialect=Dialect.ANTHROPIC,
        authentication=Authentication.X_API_KEY,
        api_version="2023-06-01",
        capabilities=_PLAIN,
        hint="Anything that answers POST /messages as Anthropic does.",
    ),
)
PROVIDERS: dict[str, Provider] = {provider.key: provider for provider in _ROWS}


def default_provider(dialect: Dialect) -> Provider:
    """Return the row of an upstream that names none."""
    match dialect:
        case Dialect.LOCAL:
            return PROVIDERS["local"]
        case Dialect.ANTHROPIC:
            return PROVIDERS["custom-anthropic"]
        case _:
            return PROVIDERS["custom"]


def take_defaults(row: Upstream, provider: Provider) -> None:
    """Give an unsaved upstream its provider's values, and the address where everybody has the same."""
    row.provider = provider.key
    for column, value in provider.columns().items():
        setattr(row, column, value)
    if not row.base_url and provider.has_own_address:
        row.base_url = provider.base_url


def find_address_problem(row: Upstream) -> str | None:
    """Return what is wrong with an upstream's address, as the end of a sentence about it."""
    if row.dialect == Dialect.LOCAL:
        return None
    provider = PROVIDERS.get(row.provider)
    example = provider.base_url if provider is not None and provider.base_url else "https://api.openai.com/v1"
    if not row.base_url:
        return f"is required: where is it? For example {example}"
    if not row.base_url.startswith(("http://", "https://")):
        return "begins with http:// or https://"
    if provider is not None and row.base_url.rstrip("/") == provider.base_url and not provider.has_own_address:
        return f"is still the pattern: replace {' and '.join(_TO_REPLACE.findall(row.base_url))} with your own"
    return None


def find_version_problem(row: Upstream) -> str | None:
    """Return what is wrong with the version that an upstream is asked for."""
    if row.dialect == Dialect.ANTHROPIC and not row.api_version:
        return f"is required by Anthropic, for example {PROVIDERS['anthropic'].api_version}"
    return None
