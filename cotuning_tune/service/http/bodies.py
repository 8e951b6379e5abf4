"""What requests may hold: each body's keys, their types and bounds. A key that is not known is refused."""

from typing import Annotated

from fastapi import Depends, Path, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from cotuning_tune.service.asked import MOST_PAGE, PAGE
from cotuning_tune.service.http.answers import other
from cotuning_tune.service.http.guard import Service, actor, service_of
from cotuning_tune.service.people import Actor
from cotuning_tune.service.problems import Problem

MOST_NUMBER = 2**53  # which every reader of JSON keeps
Count = Annotated[int, Field(ge=0, le=1_000_000)]
Text = Annotated[str, Field(max_length=200)]
Labels = Annotated[dict[Text, Text], Field(max_length=20)]


class Body(BaseModel):
    """A body: nothing is converted, nothing unknown is passed by."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class CheckBody(Body):
    """An experiment to look at: its TOML text, and the name it would run under."""

    experiment: str
    name: Text = "run"


class RunBody(Body):
    """A run that is asked for. ``least`` and ``most``: trials at a time (``most`` 0: as many as there are)."""

    experiment: str
    name: Text
    backend: Text = ""
    least: Count = 1
    most: Count = 0
    priority: Annotated[int, Field(ge=-1, le=1)] = 0
    labels: Labels = {}
    private: bool = False


class ChangeBody(Body):
    """What shall be different of a run. ``trials``: of each study in all, so that a repeated request adds nothing."""

    trials: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    least: Count | None = None
    most: Count | None = None
    priority: Annotated[int, Field(ge=-1, le=1)] | None = None
    labels: Labels | None = None
    private: bool | None = None


class ComparisonBody(Body):
    """Runs to compare, by their ids."""

    runs: Annotated[list[Text], Field(max_length=20)]


class TokenBody(Body):
    """A token: what for, with at most which role, valid for how many days."""

    label: Text = ""
    role: Text = ""
    days: Annotated[float, Field(gt=0, le=3650)] = 90.0


Limit = Annotated[float, Field(ge=0, le=MOST_NUMBER)] | None


class LimitsBody(Body):
    """What a user may have; null: no limit. Only what is given is set."""

    weight: Annotated[float, Field(gt=0, le=1000)] = 1.0
    units: Limit = None
    runs: Count | None = None
    hours: Limit = None
    disk: Annotated[int, Field(ge=0, le=MOST_NUMBER)] | None = None
    high: bool = False


class UserBody(LimitsBody):
    """A new user."""

    name: Text
    role: Text = "member"


class UserChangeBody(LimitsBody):
    """What shall be different of a user; ``active`` false takes all his tokens."""

    role: Text = "member"
    active: bool = True


class WebhookBody(Body):
    """Whom to tell of which states."""

    url: Annotated[str, Field(max_length=2000)]
    events: Annotated[list[Text], Field(max_length=10)] = []


def idempotency_key(request: Request) -> str:
    """The Idempotency-Key of a creating request, '' without one. Raises Problem for one that cannot be kept."""
    key = request.headers.get("idempotency-key", "")
    if len(key) > 200 or not (key.isascii() and key.isprintable()):
        raise Problem("the Idempotency-Key cannot be used", "up to 200 ASCII characters are possible")
    return key


def if_match(request: Request) -> str:
    """The tag that a change is meant for; '' for whichever it is. Raises Problem (400)."""
    text = request.headers.get("if-match", "*").strip()
    tag = text.removeprefix("W/").strip('"')
    if text == "*":
        return ""
    if not (tag.isascii() and tag.isalnum() and len(tag) <= 64):
        raise other(400, "Not understood", "this If-Match is none of the service's", "send the ETag that GET gave")
    return tag


Who = Annotated[Actor, Depends(actor)]
Asked = Annotated[Service, Depends(service_of)]
Key = Annotated[str, Depends(idempotency_key)]
Tag = Annotated[str, Depends(if_match)]
Id = Annotated[str, Path(max_length=64)]
Name = Annotated[str, Path(max_length=300)]
Cursor = Annotated[str, Query(max_length=100)]
Page = Annotated[int, Query(ge=1, le=MOST_PAGE)]
Word = Annotated[str, Query(max_length=200)]
DEFAULT_PAGE = PAGE
