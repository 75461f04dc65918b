"""The one step of the build that pyproject.toml cannot describe: the example pictures go into the package.

In the repository they lie in examples/, where people look for them. An installed page finds them in its assets.
"""

from __future__ import annotations

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

EXAMPLES = Path("examples")
INSTALLED_EXAMPLES = Path("refgc", "page", "assets", "examples")
# Pictures, masks and meta.json of each example; the scripts in examples/make stay out.
PATTERNS = ("*/*.jpg", "*/*.png", "*/meta.json")


class BuildWithExamples(build_py):
    """Copies the examples beside the page's other assets. An editable install reads them from the repository."""

    def run(self) -> None:
        """Builds the package, then adds the examples."""
        super().run()
        if self.editable_mode:
            return
        for target, source in self.example_files().items():
            Path(target).parent.mkdir(parents=True, exist_ok=True)
            self.copy_file(source, target)

    def get_outputs(self, include_bytecode: bool = True) -> list[str]:
        """Every file that the build writes."""
        own: list[str] = super().get_outputs(include_bytecode)
        return own if self.editable_mode else [*own, *self.example_files()]

    def get_source_files(self) -> list[str]:
        """Every file that the build reads; a source distribution holds them."""
        own: list[str] = super().get_source_files()
        return [*own, *self.example_files().values()]

    def example_files(self) -> dict[str, str]:
        """The file in the repository, by the file to be written."""
        folder = Path(self.build_lib or "build/lib") / INSTALLED_EXAMPLES
        sources = [path for pattern in PATTERNS for path in sorted(EXAMPLES.glob(pattern))]
        return {str(folder / path.relative_to(EXAMPLES)): str(path) for path in sources}


setup(cmdclass={"build_py": BuildWithExamples})
