"""What the template needs from Jinja: its own place, text that stays text, and the rules for a project's name.

cookiecutter loads this file from the template's folder on every route (path, ``.``, git, zip, cruft), before it asks anything.
The filters work in ``cookiecutter.json``, in the rendered files and in the hooks.
"""

import json
import keyword
import re
import sys
from pathlib import Path

from cookiecutter.exceptions import FailedHookException
from jinja2 import Environment
from jinja2.ext import Extension
from slugify import slugify

# Resolved when the module is imported: with the template address ``.`` a later change of directory would move it.
TEMPLATE_REPO = Path(__file__).resolve().parent

#: The name of the template's folder, itself a template.
PROJECT_FOLDER = "{{cookiecutter.project_slug}}"

#: Names that mean something else inside every project.
PROJECT_NAMES = {"insert_tasks", "run", "shared_lib", "task", "taskfleet", "test", "tests"}

#: The distributions that a project installs, whatever its Python and its system; made by ``poe generate``. uv cannot resolve a project
#: that has the name of one of them, which would depend on itself.
INSTALLED_NAMES = set((TEMPLATE_REPO / "installed_names.txt").read_text(encoding="utf-8").split())

#: The longest project name, in characters; file systems allow 255 for a whole file name.
LONGEST_SLUG = 80


class TemplateSupport(Extension):
    """Publish ``template_repo`` and the filters, and render nothing but the template's own text."""

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        environment.globals["template_repo"] = str(TEMPLATE_REPO)
        environment.filters.update(
            distribution=distribution, markdown=markdown, slug_refusal=slug_refusal, toml=toml, valid_slug=valid_slug
        )
        questions = json.loads((TEMPLATE_REPO / "cookiecutter.json").read_text(encoding="utf-8"))
        hooks = (file.read_text(encoding="utf-8") for file in (TEMPLATE_REPO / "hooks").glob("*.py"))
        defaults = (value for value in questions.values() if isinstance(value, str))
        self.trusted = {PROJECT_FOLDER, *defaults, *hooks}

    def preprocess(self, source: str, name: str | None, filename: str | None = None) -> str:  # noqa: ARG002
        """Return a source that Jinja may run: a file of the template as it is, anything else as a quoted text.

        cookiecutter renders answers from the command line or a configuration file as if they were templates, and Jinja
        templates can run any Python. Files come with a name; of the nameless sources only those known are templates.
        """
        if name is not None or source in self.trusted:
            return source
        quoted = source.encode("unicode_escape").decode("ascii").replace('"', '\\"')
        return '{{ "' + quoted + '" }}'


def toml(text: str) -> str:
    """Return the text as a TOML string, quotes included.

    Jinja's own ``tojson`` will not do: it writes characters beyond U+FFFF as two surrogates, which TOML forbids.
    """
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def markdown(text: str) -> str:
    """Return the text on one line, with everything escaped that Markdown or HTML would act on."""
    line = " ".join(re.sub(r"[\x00-\x1f\x7f-\x9f]+", " ", text).split())
    line = re.sub(r"([\\`*_\[\]<>&#~|$])", r"\\\1", line)
    return re.sub(r"^(\d*)([-+=.)])", r"\1\\\2", line)  # a list or an underline, at the start only


def distribution(slug: str) -> str:
    """Return the name of the project's distribution.

    Raises:
        FailedHookException: The slug cannot be the name of a single folder. All other faults are the pre_gen hook's,
            but cookiecutter makes the folder before that hook runs, and of ``a/b`` it would leave ``a`` behind.
    """
    if slug in {"", ".", ".."} or re.search(r"[/\\:\0]", slug) or len(slug) > LONGEST_SLUG:
        raise FailedHookException(slug_refusal(slug))
    return distribution_name(slug)


def distribution_name(slug: str) -> str:
    """Return the name that packaging tools make of the slug, see https://packaging.python.org/specifications/name-normalization."""
    return re.sub(r"_+", "-", slug)


def valid_slug(text: str) -> str:
    """Return a project name that will be accepted, made from any text."""
    slug = slugify(text, separator="_", max_length=60) or "my_tasks"
    if slug[0].isdigit():
        slug = f"tasks_{slug}"
    return f"{slug}_tasks" if slug_fault(slug) else slug


def slug_refusal(slug: str) -> str:
    """Return one line saying why the slug is refused and what to answer instead, or an empty text if it is good."""
    fault = slug_fault(slug)
    return fault and f"error: project_slug is {slug!a}, which is {fault}. Answer for example {valid_slug(slug)!r}."


def slug_fault(slug: str) -> str:
    """Return what is wrong with the slug, or an empty text."""
    if not slug:
        return "empty"
    if not re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", slug):
        return "not made of small letters, digits and underscores, from a letter first to a letter or digit last"
    if len(slug) > LONGEST_SLUG:
        return f"longer than {LONGEST_SLUG} characters"
    if keyword.iskeyword(slug):
        return "a word of the Python language"
    if slug in sys.stdlib_module_names:
        return "a module of Python's standard library"
    if slug in PROJECT_NAMES:
        return "a name that every project uses for something else"
    if distribution_name(slug) in INSTALLED_NAMES:
        return "a package that every project installs"
    return ""
