"""Tables of plain text and of Markdown, fit for copying."""

import statistics


def table(header, rows):
    """Rows of strings under a header; the first column is a name, the others are numbers."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i == 0 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths))
        ).rstrip()
        for row in [header, *rows]
    )


def markdown(header, rows, names=1):
    """The same in Markdown; the first `names` columns are names, the others are numbers."""
    rules = ["---" if i < names else "---:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(row) + " |" for row in [header, rules, *rows])


def median(values):
    """Of the values that there are; None of none."""
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None
