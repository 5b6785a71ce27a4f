"""One server of the shipped model for all files here, and the official client of its schema."""

from __future__ import annotations

import pytest
from article_api import ASKED, ArticleApi
from running_server import running_server

from unified import UnifiedModel
from unified.serving.article_library import ArticleLibrary

openai = pytest.importorskip("openai")


@pytest.fixture(scope="session")
def pocket():
    return UnifiedModel.from_pretrained("pocket")


@pytest.fixture(scope="session")
def server(pocket):
    with running_server(pocket) as running:
        yield running


@pytest.fixture(scope="session")
def client(server):
    """OpenAI's own client, as it is; it does not ask again where it is refused."""
    with openai.OpenAI(base_url=server.url, api_key="none", max_retries=0, timeout=300) as client:
        yield client


@pytest.fixture
def refused():
    """A request that is refused: its error, whose field and status are as expected."""

    def check(call, param, *words, status=400):
        with pytest.raises(openai.APIStatusError) as refusal:
            call()
        error = refusal.value
        assert error.status_code == status, error
        assert error.param == param, error
        assert all(word in error.body["message"] for word in words), error
        return error

    return check


@pytest.fixture(scope="session")
def api(pocket, tmp_path_factory):
    """A server of articles."""
    with (
        ArticleLibrary(tmp_path_factory.mktemp("articles")) as library,
        running_server(pocket, library=library) as server,
    ):
        yield ArticleApi(server, library)


@pytest.fixture(scope="session")
def told(api):
    """The events of one article."""
    return api.events("POST", "/v1/articles", ASKED)


@pytest.fixture(scope="session")
def written(told):
    """Its id; no test changes it."""
    return told[0]["id"]


@pytest.fixture
def article(api, written):
    """The id of a copy."""
    return api.copy(written)
