"""What is shown of addresses."""

import pytest

from gans.errors import masked, shown


@pytest.mark.parametrize(
    ("url", "seen"),
    [
        ("postgresql://me:hush@host:5/x", "postgresql://me:***@host:5/x"),
        ("postgresql://me:h@u/s:h?@host/x", "postgresql://me:***@host/x"),
        ("postgresql://:hush@host/x", "postgresql://:***@host/x"),
        ("postgresql://host/x?user=u&password=hush", "postgresql://host/x?user=u&password=***"),
        ("postgresql://host/x?sslmode=on&sslpassword=hush#f", "postgresql://host/x?sslmode=on&sslpassword=***#f"),
        ("postgresql://me:hush@host/x?password=hush", "postgresql://me:***@host/x?password=***"),
        ("https://host/?API_KEY=hush&page=3", "https://host/?API_KEY=***&page=3"),
        ("https://host/?access_token=hush", "https://host/?access_token=***"),
        (
            "https://host/?X-Amz-Signature=hush&client_secret=hush",
            "https://host/?X-Amz-Signature=***&client_secret=***",
        ),
        ("https://hush@host/x", "https://***@host/x"),
    ],
)
def test_no_secret_is_shown(url, seen):
    assert shown(url) == seen
    assert masked(f"cannot connect to {url} (because)") == f"cannot connect to {seen} (because)"


@pytest.mark.parametrize(
    "url",
    [
        "sqlite:///mlflow.db",
        "sqlite:////a folder/x@y.db",
        "postgresql://me@host:5/x?sslmode=require",
        "http://127.0.0.1:5000",
        "sweeps.journal",
        "",
    ],
)
def test_the_rest_of_an_address_stays_as_it_is(url):
    assert shown(url) == url
    assert masked(shown(url)) == url


def test_what_is_masked_stays_so():
    assert masked(masked("no postgresql://h/x?password=hush: gone")) == "no postgresql://h/x?password=*** gone"
