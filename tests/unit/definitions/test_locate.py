"""Finding the files and choosing among the pipelines."""

from __future__ import annotations

import pytest

from stretto.core.errors import InputError
from stretto.definitions import Definition, choose, load, locate

DIRECTORY = [
    ".cicd-pipelines/nightly.yml",
    ".cicd-pipelines/ci.yaml",
    ".cicd-pipelines/old/x.yml",
    ".cicd-pipelines/README.md",
]


def pipeline(name: str, file: str) -> Definition:
    """Return a pipeline of one job."""
    return load(file, f"name: {name}\njobs: {{a: {{stage: test, script: x}}}}\n".encode())


def test_locate_prefers_what_is_asked_then_the_root() -> None:
    """The given file comes first, then the one at the root, then all directly in the directory, sorted."""
    assert locate(["ci/a.yml", "pipeline.yml"], file="./ci/a.yml") == ("ci/a.yml",)
    assert locate(["pipeline.yaml", *DIRECTORY]) == ("pipeline.yaml",)
    assert locate(["sub/pipeline.yml", *DIRECTORY]) == (".cicd-pipelines/ci.yaml", ".cicd-pipelines/nightly.yml")


@pytest.mark.parametrize(
    ("listing", "file", "message"),
    [
        ([], None, "no pipeline.yml"),
        ([".cicd-pipelines/old/x.yml"], None, "no pipeline.yml"),
        (["pipeline.yml", "pipeline.yaml"], None, "both pipeline.yml and pipeline.yaml"),
        (["pipeline.yml"], "pipelin.yml", "no such file"),
        (["pipeline.yml"], "../pipeline.yml", "leaves the repository"),
        (["pipeline.yml"], "a/../../pipeline.yml", "leaves the repository"),
        (["pipeline.yml"], "/pipeline.yml", "leaves the repository"),
    ],
)
def test_locate_refuses(listing: list[str], file: str | None, message: str) -> None:
    """No file, two files at the root, and a path that is not in the commit are errors with a hint."""
    with pytest.raises(InputError, match=message) as caught:
        locate(listing, file=file)
    assert caught.value.hint


def test_choose_picks_by_name_in_order() -> None:
    """Names choose, in their order and once each; a single pipeline needs no name."""
    a, b, c = (pipeline(name, f"{name}.yml") for name in "abc")
    assert choose([a]) == (a,)
    assert choose([a, b, c], ["c", "a", "c"]) == (c, a)


def test_choose_refuses_what_is_not_clear() -> None:
    """Several pipelines without a name, an unknown name and two of one name are errors that name them."""
    a, b = pipeline("first", "a.yml"), pipeline("second", "b.yml")
    with pytest.raises(InputError, match="2 pipelines: 'first', 'second'"):
        choose([a, b])
    with pytest.raises(InputError, match="no pipeline 'secnd'") as caught:
        choose([a, b], ["secnd"])
    assert caught.value.hint == "did you mean 'second'?"
    with pytest.raises(InputError, match=r"a.yml and c.yml both have the name 'first'"):
        choose([a, pipeline("first", "c.yml")], ["first"])
