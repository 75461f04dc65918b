"""Programs of other people: a command with places to be filled in, run without a shell."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from shutil import which

from refgc.errors import EngineError, InputError, quoted, shortened

# How long a program may take for one picture, in seconds. Chosen by hand.
SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class ExternalProgram:
    """A program that is run once for each picture.

    Attributes:
        template: its command; words are split as a shell does. `{name}` is filled in.
        called: what it is called in a sentence, such as "generator".
        placeholders: the names that may stand in braces; "output" must.
        seconds: how long it may take.
    """

    template: str
    called: str
    placeholders: tuple[str, ...]
    seconds: float = SECONDS

    def check(self) -> None:
        """Refuses a template that cannot be filled, and a program that is not here.

        Raises:
            InputError: the template cannot be used.
            EngineError: there is no such program.
        """
        words = self.words(dict.fromkeys(self.placeholders, ""))
        if "{output}" not in self.template:
            raise InputError(f"The {self.called}'s command has no {{output}}; write there where its picture goes.")
        if which(words[0]) is None:
            raise EngineError(
                f"The {self.called}'s program {quoted(words[0])} is not found; install it or give its path."
            )

    def words(self, values: Mapping[str, str]) -> list[str]:
        """The words of the command, filled in.

        Args:
            values: by the name in braces. A value stays one word, whatever is in it.

        Raises:
            InputError: the command is empty or cannot be split, or a name in braces is unknown.
        """
        try:
            words = shlex.split(self.template)
        except ValueError as error:
            raise InputError(
                f"The {self.called}'s command {quoted(self.template)} cannot be split ({error})."
            ) from error
        if not words:
            raise InputError(f"The {self.called}'s command is empty; write its program and its options.")

        def value_of(match: re.Match[str]) -> str:
            if match[1] not in values:
                known = ", ".join(f"{{{name}}}" for name in self.placeholders)
                raise InputError(f"The {self.called}'s command has {match[0]}, which means nothing; there are {known}.")
            return values[match[1]]

        return [re.sub(r"\{(\w*)\}", value_of, word) for word in words]

    def run(self, values: Mapping[str, str]) -> None:
        """Runs the command and waits for its end.

        Args:
            values: see `words`.

        Raises:
            InputError: it took too long, or ended with another status than 0; the sentence has the last line that it
                wrote to its standard error.
            OSError: it cannot be started.
        """
        # A session of its own, so that what the command starts can be ended with it.
        with subprocess.Popen(
            self.words(values),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as process:
            try:
                _, said = process.communicate(timeout=self.seconds)
            except subprocess.TimeoutExpired as error:
                raise InputError(f"The {self.called} took longer than {self.seconds:g} seconds.") from error
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
        if process.returncode:
            lines = said.decode(errors="replace").strip().splitlines()
            last = shortened(lines[-1], 200) if lines else "it said nothing"
            raise InputError(f"The {self.called} ended with status {process.returncode} ({last}).")
