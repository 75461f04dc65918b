"""What a study is: its methods, items, checks and questions, as `study.json` of its folder has them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from refgc.errors import InputError, first_fault, quoted
from refgc.imaging.files import write_whole

STUDY, PICTURES, ANSWERS = "study.json", "pictures", "answers.sqlite"
# Keys 1 to 9 choose.
FEWEST_METHODS, MOST_METHODS = 2, 9
MOST_ITEMS = 1000
# What the right choice of a check is called; the degraded ones are called by the way they were made.
RIGHT = "right"
# What a vote for none is called, beside the methods.
NO_DIFFERENCE = "no difference"
LONGEST_NAME, LONGEST_TITLE, LONGEST_TEXT = 60, 200, 10_000

Kind: TypeAlias = Literal["item", "repeat", "check"]

CONSENT = """\
You will see pictures that were made by several methods, and say which you find best. There are no right answers.

Taking part is voluntary. You can stop at any moment and go on later with your code, or withdraw, which deletes your \
answers.

What is kept: your answers, how long each took, and the order in which the pictures were shown. Nothing is kept that \
says who you are: no name, no address of your computer, no cookies. The answers are published in sum, and one by one \
without anything about you."""


def _plain(name: str) -> str:
    if name != name.strip() or not name.isprintable() or name == NO_DIFFERENCE:
        raise ValueError("a name has letters that can be read, without blanks around it")
    return name


Name = Annotated[str, Field(min_length=1, max_length=LONGEST_NAME), AfterValidator(_plain)]
Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Picture(_Part):
    """A picture of the study, without metadata.

    Attributes:
        file: its name in the folder of pictures, which is the hash of its pixels and says nothing of its origin.
        width: in pixels.
        height: in pixels.
    """

    file: Annotated[str, Field(pattern=r"^[0-9a-f]{32}\.png$")]
    width: Annotated[int, Field(ge=1)]
    height: Annotated[int, Field(ge=1)]


class StudyItem(_Part):
    """What is shown at once.

    Attributes:
        id: of the item; that of a check begins with "check".
        reference: the photo of the object.
        generated: the small generated picture.
        choices: the results by method, or of a check by `RIGHT` and the names of the degraded ones; all of one size.
    """

    id: str
    reference: Picture
    generated: Picture
    choices: dict[str, Picture]


class Question(_Part):
    """One question.

    Attributes:
        name: in tables.
        text: as people read it.
    """

    name: Name
    text: Annotated[str, Field(min_length=1, max_length=300)]


# Those of the user study in the RefGC-SR2 paper.
QUESTIONS = (
    Question(name="refinement", text="Which result refines the generated picture best?"),
    Question(name="detail", text="Which result shows the detail of the reference photo best?"),
    Question(name="overall", text="Which result is best overall?"),
)


class Study(_Part):
    """A study.

    Attributes:
        version: of this schema.
        title: shown on the page.
        consent: what people agree to before they begin; paragraphs are parted by empty lines.
        seed: of every order.
        methods: their names, which nobody sees who takes part.
        questions: asked of each item.
        items: real ones.
        checks: items with an evident right answer.
        items_per_rater: how many real items a person sees; each is seen about equally often.
    """

    version: Literal[1] = 1
    title: Annotated[str, Field(min_length=1, max_length=LONGEST_TITLE)] = "Which picture is best?"
    consent: Text = CONSENT
    seed: int = 0
    methods: Annotated[tuple[Name, ...], Field(min_length=FEWEST_METHODS, max_length=MOST_METHODS)]
    questions: Annotated[tuple[Question, ...], Field(min_length=1, max_length=9)] = QUESTIONS
    items: Annotated[tuple[StudyItem, ...], Field(min_length=1, max_length=MOST_ITEMS)]
    checks: tuple[StudyItem, ...] = ()
    items_per_rater: Annotated[int, Field(ge=1)]

    @model_validator(mode="after")
    def _check(self) -> Study:
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("two methods have one name")
        if len({question.name for question in self.questions}) < len(self.questions):
            raise ValueError("two questions have one name")
        if self.items_per_rater > len(self.items):
            raise ValueError("items_per_rater is more than there are items")
        for item in self.items:
            if set(item.choices) != set(self.methods):
                raise ValueError(f"the item {quoted(item.id)} has not exactly one result of each method")
        for check in self.checks:
            if RIGHT not in check.choices or len(check.choices) != len(self.methods):
                raise ValueError(
                    f"the check {quoted(check.id)} needs one right choice, and as many as there are methods"
                )
        ids = [item.id for item in (*self.items, *self.checks)]
        if len(set(ids)) < len(ids):
            raise ValueError("two items have one id")
        return self

    @property
    def digest(self) -> str:
        """Of all that decides what was asked. Texts may be mended while a study runs, and methods may not."""
        fixed = self.model_dump_json(exclude={"title", "consent", "questions"})
        names = [question.name for question in self.questions]
        return hashlib.sha256(f"{fixed} {names}".encode()).hexdigest()

    def shown(self) -> Mapping[str, StudyItem]:
        """All items and checks by their ids."""
        return {item.id: item for item in (*self.items, *self.checks)}


def read_study(folder: Path) -> Study:
    """The study of a folder.

    Raises:
        InputError: there is none, or it cannot be used.
    """
    place = folder / STUDY
    try:
        return Study.model_validate_json(place.read_bytes())
    except FileNotFoundError as error:
        raise InputError(f"{quoted(str(folder))} is no study; make one with `refgc study init`.") from error
    except OSError as error:
        raise InputError(f"{quoted(str(place))} cannot be read ({error.strerror}); check its permissions.") from error
    except ValidationError as error:
        field, fault = first_fault(error)
        raise InputError(f"{quoted(str(place))} cannot be used: {field or 'the study'}: {fault}.") from error


def write_study(folder: Path, study: Study) -> None:
    """Write `study.json`.

    Raises:
        InputError: it cannot be written.
    """
    write_whole(folder / STUDY, f"{study.model_dump_json(indent=2)}\n".encode())
