"""Make the notebooks in this folder from the article's chapters, which `convcore study --article` runs too.

    python examples/notebooks/generate.py

Run it after changing a chapter in ``src/convcore/study/article/chapters``; a test compares. Needs nbformat.
"""

from __future__ import annotations

from pathlib import Path

import nbformat
from nbformat import v4

from convcore.study.article import chapter_files, may_lack, read_chapter

FOLDER = Path(__file__).parent
NOTE = (
    "*A chapter of the article that `convcore study --article` runs. Files that it asks for are looked up by"
    " name in the folder that the environment variable `CONVCORE_DATA` names.*"
)


def notebook_text(chapter_file: Path) -> str:
    """Return the text of a chapter's notebook: no outputs, and the same for the same chapter."""
    chapter = read_chapter(chapter_file)
    cells = []
    for number, (cell, lacking) in enumerate(zip(chapter.cells, may_lack(chapter), strict=True)):
        make = v4.new_markdown_cell if cell.kind == "markdown" else v4.new_code_cell
        text = cell.text if number else f"{cell.text}\n\n{NOTE}"
        # "Run all" goes on after a cell with this tag, whose file may not be there.
        tags = {"tags": ["raises-exception"]} if lacking else {}
        cells.append(make(text, id=f"cell-{number}", metadata=tags))
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = v4.new_notebook(
        cells=cells, metadata={"kernelspec": kernel, "language_info": {"name": "python"}}
    )
    nbformat.validate(notebook)
    return nbformat.writes(notebook) + "\n"


def main() -> None:
    """Write every notebook, and remove those whose chapter is gone."""
    texts = {FOLDER / f"{file.stem}.ipynb": notebook_text(file) for file in chapter_files()}
    for old in set(FOLDER.glob("*.ipynb")) - set(texts):
        old.unlink()
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        print(path.name)


if __name__ == "__main__":
    main()
