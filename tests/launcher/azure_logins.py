"""This process as a program of the stage's Azure, logged in as somebody."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from launcher.providers.azure import auth, login
from stage.azure.people import Principal
from stage.azure.world import World, inside


def forget() -> None:
    """Forgets logins and connections, which a process keeps."""
    login._tokens.clear()
    login._credential.cache_clear()
    login._chosen.cache_clear()
    auth._sessions = threading.local()


@contextmanager
def logged_in(world: World, principal: Principal | str | None) -> Iterator[None]:
    """Is somebody, or with None nobody, while the block lasts."""
    with inside(world.at(principal)):
        forget()
        yield
    forget()
