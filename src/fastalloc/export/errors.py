"""The one error this package raises for a reason its caller can act on."""


class ExportError(ValueError):
    """An export that cannot be done; the message is one sentence for the user."""
