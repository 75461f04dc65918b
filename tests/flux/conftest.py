"""What these tests share."""

from tests.support.models import hub, one_thread, tiny_base  # noqa: F401
