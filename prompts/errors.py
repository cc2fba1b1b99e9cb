"""What can go wrong with prompts: in writing them, in releasing them, and in calling them."""

from collections.abc import Sequence

from common.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, TollkeeperError


class PromptNotFound(NotFound):
    code = "prompt_not_found"
    summary = "No such prompt, or nothing of it answers to the version, major or label that was asked for."

    def __init__(self, *, name: str, pin: str = "", reason: str = "") -> None:
        what = f"'{name[:80]}@{pin[:50]}'" if pin else f"'{name[:80]}'"
        detail = f" {reason}" if reason else ""
        super().__init__(
            f"There is no prompt {what}.{detail} Check the name and the version; nothing else is called in its place.",
            param="version" if pin else "name",
        )


class PinInvalid(InvalidRequest):
    code = "invalid_prompt_version"
    summary = "The version is neither a major number, nor a full number, nor a label."

    def __init__(self, *, pin: str) -> None:
        super().__init__(
            f"'{pin[:50]}' names no version. Give a major number ('2'), a whole one ('2.1.0') or a label.",
            param="version",
        )


class PromptInputInvalid(InvalidRequest):
    code = "invalid_prompt_inputs"
    summary = "The inputs do not satisfy the prompt's input schema; `param` names the place."

    def __init__(self, message: str, *, param: str = "inputs", problems: Sequence[str] = ()) -> None:
        super().__init__(message, param=param, details={"problems": list(problems)} if problems else None)


class PromptParameterRefused(InvalidRequest):
    code = "prompt_parameter_not_allowed"
    summary = "The prompt fixes this parameter; callers may not override it."

    def __init__(self, *, name: str, allowed: Sequence[str]) -> None:
        allowed_text = ", ".join(allowed) or "none"
        super().__init__(
            f"This prompt does not let callers set '{name[:50]}'. Parameters that they may set: {allowed_text}.",
            param=name[:50],
            details={"allowed": list(allowed)},
        )


class PromptTooLarge(InvalidRequest):
    code = "prompt_too_large"
    summary = "Inputs, or the messages made of them, are larger than any prompt may be."

    def __init__(self, *, what: str, limit: int) -> None:
        super().__init__(
            f"{what} would be larger than {limit:,} characters. Send shorter inputs.",
            param="inputs",
            details={"limit": limit},
        )


class PromptRenderFailed(TollkeeperError):
    code = "prompt_render_failed"
    status = 422
    type = "invalid_request_error"
    retryable = False
    summary = "The template could not be filled in with these inputs."

    def __init__(self, *, reason: str) -> None:
        super().__init__(
            f"The prompt could not be filled in with these inputs: {reason}. Check them against the prompt's input "
            "schema; if they fit, tell the prompt's owner.",
            param="inputs",
        )


class PromptUnusable(TollkeeperError):
    code = "prompt_unusable"
    status = 503
    type = "api_error"
    retryable = False
    summary = "The version cannot be filled in, for example because a prompt that it includes was taken back."

    def __init__(self, *, name: str, number: str, reason: str) -> None:
        super().__init__(
            f"Version {number} of the prompt '{name}' cannot be used now. Tell its owner, or pin another version.",
            internal_detail=reason,
        )


class PromptInvalid(InvalidRequest):
    code = "invalid_prompt"
    summary = "The prompt's text, schemas or settings are not valid; `param` names the field."


class TemplateInvalid(PromptInvalid):
    code = "invalid_prompt_template"
    summary = "A message's template is not valid; the sentence says where and why."


class SchemaInvalid(PromptInvalid):
    code = "invalid_prompt_schema"
    summary = "A JSON Schema of the prompt is not valid."


class PromptExists(Conflict):
    code = "prompt_exists"
    summary = "A prompt of this name exists."

    def __init__(self, *, name: str) -> None:
        super().__init__(
            f"A prompt named '{name}' exists already. Edit its draft, or choose another name.", param="name"
        )


class DraftOutdated(Conflict):
    code = "draft_outdated"
    summary = "Somebody else saved the draft since it was read."

    def __init__(self, *, author: str) -> None:
        super().__init__(
            f"The draft was saved by {author or 'somebody else'} since you opened it. Open it again, and put your "
            "change into it; nothing of either was lost."
        )


class NothingToPublish(Conflict):
    code = "nothing_to_publish"
    summary = "The draft is what was published last."

    def __init__(self, *, number: str) -> None:
        super().__init__(f"The draft says what version {number} says; there is nothing to publish. Edit it first.")


class ReleaseRefused(Conflict):
    code = "release_refused"
    summary = "The label cannot be moved so; the sentence says what stands in the way."


class ReleaseOutdated(Conflict):
    code = "release_outdated"
    summary = "The label was moved by somebody else since it was looked at."

    def __init__(self, *, label: str) -> None:
        super().__init__(f"The label '{label}' was moved since you looked at it. Look again, then decide.")


class ApprovalNotAllowed(PermissionDenied):
    code = "approval_not_allowed"
    summary = "A move is approved by somebody else than its author."

    def __init__(self) -> None:
        super().__init__("You proposed this move, so somebody else has to approve it.")


class PromptTestInvalid(InvalidRequest):
    code = "invalid_prompt_test"
    summary = "The test case's inputs or checks are not valid."
