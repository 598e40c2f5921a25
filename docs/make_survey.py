"""Makes docs/survey.md: every statement of theory beside the function that computes it."""

import inspect
from pathlib import Path

from deeplinear import theory

PATH = Path(__file__).parent / "survey.md"
ROOT = "src/deeplinear/theory/propositions"
HEAD = """# The executable survey

Every statement of theory as a function that measures it, on any squared error and any network:
`theory.verify(objective, network, trajectory)`, `deeplinear verify digits --hidden 32,32`. A residual is the relative
error of an identity or the relative violation of an inequality. Where an assumption fails, the statement does not
apply, and its note says by how much. This page is made by `docs/make_survey.py`.

Letters are those of the survey: $A = \\mathrm{blk}_1(W_1, \\dots, W_h)$ is the adjacency matrix, $E =
\\mathrm{blk}_h(\\Sigma)$ the target, $S$ the learned modes, $Z$ the blocks beside them, $\\mathfrak{h}$ the second
derivative of the loss along a direction. Statements about critical points are held against points of the question's own
spectrum and widths, and against the network itself where it is critical.
"""


def text() -> str:
    """The page."""
    return "\n".join([HEAD, *(_section(each) for each in theory.statements())])


def _section(each: theory.Statement) -> str:
    file = inspect.unwrap(each.measure).__module__.rsplit(".", 1)[1] + ".py"
    lines = [
        f"## {each.name} (`--only {each.key}`)",
        "",
        each.words,
        "",
        "$$",
        each.latex,
        "$$",
        "",
        f"- Computed by [`{each.measure.__name__}`](../{ROOT}/{file}) in `{file}`: {_first_sentence(each.measure)}",
        f"- Source: {each.source}",
        f"- Assumes: {each.assumptions}",
    ]
    if each.erratum:
        lines.append(f"- Erratum: {each.erratum}")
    if each.as_printed is not None:
        lines.append(f"- As printed: `{each.as_printed.__name__}`, which does not hold in general")
    return "\n".join([*lines, ""])


def _first_sentence(function: object) -> str:
    return (inspect.getdoc(function) or "").split("\n\n")[0].replace("\n", " ")


def main() -> None:
    """Writes docs/survey.md."""
    PATH.write_text(text(), encoding="utf-8")
    print(PATH)


if __name__ == "__main__":
    main()
