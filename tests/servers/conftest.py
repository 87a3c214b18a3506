"""Real servers, each started once in a session and only when a test asks for it."""

from tests.checkers.conftest import probe
from tests.servers.nginx import nginx

__all__ = ["nginx", "probe"]
