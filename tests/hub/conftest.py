"""What these tests share."""

from tests.support.models import hub, tiny_base  # noqa: F401
