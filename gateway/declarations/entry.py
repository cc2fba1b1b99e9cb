"""What all entries of a declarations file have in common."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Slug = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$", min_length=1)]


class Entry(BaseModel):
    """Base of everything in the file: an unknown field is a mistake, not a comment."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)
