"""Reject answers that would create a broken project: report all errors at once, one per line.

cookiecutter renders this file like any other, so the answers arrive as JSON, never as code.
The rules for the project's name are in local_extensions.py.
"""

import json
import sys

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")
[SLUG_REFUSAL] = json.loads(r"""{{ [cookiecutter.project_slug | slug_refusal] | tojson }}""")
FREE_TEXTS = ("project_name", "description", "author_name")


def errors():
    if not ANSWERS["project_name"].strip():
        yield "error: project_name is empty. Answer with any text, for example 'My Tasks'."
    for question in FREE_TEXTS:
        try:
            ANSWERS[question].encode("utf-8")
        except UnicodeEncodeError:
            # Bytes in another encoding on the command line; they cannot be written to a file.
            yield f"error: {question} is {ANSWERS[question]!a}, which is not valid UTF-8. Use a UTF-8 terminal."
    if SLUG_REFUSAL:
        yield SLUG_REFUSAL


if __name__ == "__main__":
    sys.exit("\n".join(errors()) or 0)
