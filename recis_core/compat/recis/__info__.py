"""Whether this is a build for Alibaba's own services."""


def is_internal_enabled() -> bool:
    return False
