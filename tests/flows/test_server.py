"""A server of this machine: who may reach it."""

from __future__ import annotations

import pytest
from prefect.settings import PREFECT_SERVER_API_AUTH_STRING, temporary_settings

from flows.server import CORS, is_of_this_machine, require_guarded, settings_of
from schemas.errors import ConfigurationError


@pytest.mark.parametrize(
    ("host", "own"),
    [("127.0.0.1", True), ("127.8.9.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("vm", False)],  # noqa: S104
)
def test_a_network_is_shown_a_server_with_a_password_alone(host: str, own: bool) -> None:
    assert is_of_this_machine(host) == own
    with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: "user:password"}):
        require_guarded(host)
    with temporary_settings({PREFECT_SERVER_API_AUTH_STRING: None}):
        if own:
            require_guarded(host)
            return
        with pytest.raises(ConfigurationError, match="shows the server to a network, and it has no password") as caught:
            require_guarded(host)
    assert "Set PREFECT_SERVER_API_AUTH_STRING=user:password" in caught.value.remedy


def test_no_pages_but_its_own_are_answered_unless_somebody_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CORS, raising=False)
    assert settings_of("127.0.0.1", 4200)[CORS] == "http://127.0.0.1:4200"
    monkeypatch.setenv(CORS, "https://pages.example")
    assert settings_of("127.0.0.1", 4200)[CORS] == "https://pages.example"
