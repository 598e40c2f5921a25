"""Makes the picture of the README: the semantic task, simulated and solved."""

from pathlib import Path

import deeplinear as dl


def main() -> None:
    """Writes docs/images/semantic.svg."""
    data = dl.learn(dl.tasks.semantic(), hidden=16, init="decoupled", scale=1e-3)
    picture = dl.plots.svg(dl.plots.overview(data), "Mode strengths and loss of the semantic task over time")
    path = Path(__file__).parent / "images" / "semantic.svg"
    path.parent.mkdir(exist_ok=True)
    path.write_text(picture, encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
