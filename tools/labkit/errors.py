"""What the lab raises."""


class LabError(Exception):
    """Something the user should know, in one sentence."""
