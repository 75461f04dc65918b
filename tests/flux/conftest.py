"""What these tests share."""

from tests.support.models import hub, one_thread, tiny_base, tiny_klein, tiny_klein_base  # noqa: F401
