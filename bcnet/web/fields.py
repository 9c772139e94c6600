"""Reading single fields of forms and addresses: the value, or a sentence that says what is allowed.

Belongs here: what several pages read alike. What only one page knows stands with that page.
"""

from bcnet.web.errors import Refusal


def choose(form, field: str, offered) -> str:
    """Read one choice of a form; the first that is offered where the field is missing or empty.

    Args:
        form: of a request, or any mapping.
        field: its name.
        offered: the words to choose from.

    Raises:
        Refusal: 422, naming what is offered.

    Example:
        >>> choose({"class": "benign"}, "class", ["malignant", "benign"])
        'benign'
    """
    if not offered:
        raise Refusal(422, f"No {field} for this is loaded on this server.")
    chosen = form.get(field) or offered[0]
    if chosen not in offered:
        raise Refusal(422, f"The field `{field}` must be one of {', '.join(offered)}.")
    return chosen


def read_text(form, field: str, longest: int = 200) -> str:
    """Read a text as it was typed, without the blanks around it.

    Args:
        form: of a request, or any mapping.
        field: its name; a missing one is empty.
        longest: letters allowed.

    Raises:
        Refusal: 422 for a longer text, or one with letters that no database takes.
    """
    text = (form.get(field) or "").strip()
    is_whole = "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)
    if len(text) > longest or not is_whole:
        raise Refusal(422, f"The field `{field}` takes plain text of at most {longest:,} letters.")
    return text


def read_page(arguments) -> int:
    """Read the number of a page, from 1.

    Raises:
        Refusal: 422 for anything else.
    """
    text = arguments.get("page", "1")
    if not (text.isascii() and text.isdigit() and len(text) < 7 and int(text)):
        raise Refusal(422, "The field `page` must be a whole number from 1.")
    return int(text)
