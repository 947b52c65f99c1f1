"""The errors that a user can cause and mend."""


class UserError(ValueError):
    """Something a user can put right. Its text is one line: the flag or file at fault, and the way out."""
