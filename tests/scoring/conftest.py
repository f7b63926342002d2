"""The model room's fixtures, for scoring."""
from tests.model.conftest import base, images, maker, photographs  # noqa: F401
