"""Secrets: shown by nothing that prints, writes or logs, and masked in every text."""

import copy
import json
import pickle
from dataclasses import asdict, dataclass

import pytest

from cotuning_tune.base.errors import UserError, first_line
from cotuning_tune.base.secrets import Secret, masked, masked_settings

URL = "postgresql+psycopg://tuner:Geheim-4711@127.0.0.1:9/optuna"


@dataclass(frozen=True)
class Holder:
    """Something that holds a secret among other things."""

    name: str
    url: Secret


def test_a_secret_is_shown_by_nothing() -> None:
    """str, repr, format, an f-string with a width, a dataclass and its dict show three stars."""
    secret = Secret(URL)
    held = Holder("run", secret)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r:>9}", "%s" % secret, repr(held), str(asdict(held))]  # noqa: UP031
    assert all("***" in text and "Geheim" not in text for text in shown)
    assert secret.reveal() == URL


def test_a_secret_is_not_stored_unasked() -> None:
    """Neither JSON nor pickle takes it, and it has no dict that one could write."""
    with pytest.raises(TypeError):
        json.dumps({"url": Secret(URL)})
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(Secret(URL))
    assert not hasattr(Secret(URL), "__dict__")


def test_secrets_compare_by_their_text() -> None:
    """Equal texts are equal secrets, also as copies; a text is no secret; the empty one is false and shows nothing."""
    assert Secret(URL) == Secret(URL) == copy.deepcopy(Secret(Secret(URL))) != Secret("x")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret(URL) != URL
    assert not Secret()
    assert str(Secret()) == ""


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (URL, "postgresql+psycopg://tuner:***@127.0.0.1:9/optuna"),
        (
            f"at {URL}, and s3://KEY:SECRET@b",
            "at postgresql+psycopg://tuner:***@127.0.0.1:9/optuna, and s3://KEY:***@b",
        ),
        (f"--optuna-storage={URL}", "--optuna-storage=postgresql+psycopg://tuner:***@127.0.0.1:9/optuna"),
        ("mysql://u:p@ss/w:rd@h/db", "mysql://u:***@h/db"),
        ("redis://:only@h", "redis://:***@h"),
        ("postgresql://h/db?user=u&password=pw&x=1", "postgresql://h/db?user=u&password=***&x=1"),
        ("postgresql://h/db?sslpassword=pw", "postgresql://h/db?sslpassword=***"),
        ("http://127.0.0.1:8265 for me@host", "http://127.0.0.1:8265 for me@host"),
        ("user:word@host", "user:word@host"),
    ],
)
def test_passwords_of_urls_are_masked(text: str, shown: str) -> None:
    """Between user and host, with any character in it, and as a parameter; what is no password stays."""
    assert masked(text) == shown


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("postgresql://u:pa55@word@host/db", 'could not translate host name "word@host" to address'),
        ("postgresql://u:geheim:4711x@h/db", "invalid literal for int() with base 10: '4711x'"),
        ("postgresql://u:ge%40heim@h/db", 'password authentication failed with "ge@heim"'),
        ("mysql://h/db?passwd=geheim", "refused: passwd geheim"),
        ("plainkey", "not a URL: plainkey"),
    ],
)
def test_the_pieces_of_a_torn_url_are_covered(url: str, said: str) -> None:
    """What a reader of URLs took for a host or a port, but is of the password, is hidden too."""
    shown = Secret(url).cover(said)
    assert "***" in shown
    assert not any(piece in shown for piece in ("word@", "4711x", "heim", "plainkey"))


def test_settings_with_telling_names_are_masked() -> None:
    """Values of keys, tokens and passwords are hidden in a text, other values are not."""
    text = "export HF_TOKEN=abc123\nexport CACHE=/scratch\n"
    assert masked_settings(text, ["HF_TOKEN=abc123", "CACHE=/scratch", "EMPTY_KEY="]) == text.replace("abc123", "***")


def test_an_error_shows_no_password() -> None:
    """The one line of a mistake and the first line of any exception are masked."""
    assert "Geheim" not in str(UserError(f"{URL} cannot be opened"))
    assert "Geheim" not in first_line(ValueError(f"bad {URL}\nmore"))
