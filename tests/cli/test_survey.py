"""What the demo counts, and that its check against the files can fail."""

from __future__ import annotations

from pathlib import Path

import pytest

from celeriac.cli.demo import survey
from celeriac.cli.demo.job import NAMES, Job

FILES = {
    "one.py": "import os\nclass A:\n    def f(self):\n        return os.name\n\n    async def g(self): pass\n",
    "two.py": "def long():\n" + "    os = 1\n" * 20 + "    return os",
    "broken.py": "def :\n",
    "below/__init__.py": "",
    "below/latin.py": "# -*- coding: latin-1 -*-\nword = '\xe9'\n",
    "site-packages/other.py": "x = 1\n",
    "below/__pycache__/old.py": "x = 1\n",
    "text.txt": "x\n",
}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    return tmp_path


def test_modules_are_all_but_what_was_installed(root: Path) -> None:
    assert survey.modules(root) == ["below/__init__.py", "below/latin.py", "broken.py", "one.py", "two.py"]


def test_one_module(root: Path) -> None:
    count = survey.measure(root, "one.py")
    assert (count["lines"], count["classes"], count["functions"], count["coroutines"]) == (6, 1, 1, 1)
    assert count["longest"] == [(2, "f", "one.py"), (1, "g", "one.py")]
    assert dict(count["names"]) == {"os": 1, "name": 1}


def test_a_module_that_is_no_python_is_counted_too(root: Path) -> None:
    count = survey.measure(root, "broken.py")
    assert (count["lines"], count["unparsed"], count["functions"]) == (1, ["broken.py"], 0)


def test_the_order_of_merging_does_not_matter(root: Path) -> None:
    counts = [survey.measure(root, name) for name in survey.modules(root)]
    at_once = survey.merge(counts)
    by_parts = survey.merge([survey.merge(counts[:2]), survey.merge([]), survey.merge(counts[2:])])
    assert at_once == by_parts
    assert at_once["longest"][0] == (22, "long", "two.py")
    assert dict(at_once["names"])["os"] == 22
    assert at_once["processes"][0][1] == 5
    assert survey.faults(at_once, root, survey.modules(root)) == []


def test_a_wrong_count_is_found(root: Path) -> None:
    names = survey.modules(root)
    counts = [survey.measure(root, name) for name in names]
    lost = survey.faults(survey.merge(counts[1:]), root, names)
    assert lost == ["not counted: below/__init__.py"]
    doubled = survey.faults(survey.merge([*counts, counts[3]]), root, names)
    assert doubled[0] == "counted 2 times: one.py"
    assert "lines" in doubled[1]
    assert survey.faults(survey.merge(counts), root, names[1:])[0] == "counted, but not asked for: below/__init__.py"


def test_the_tasks_carry_counts_through_messages_and_results(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(survey, "library", lambda: root)
    names = survey.modules(root)
    job = Job(broker="memory://demo-tasks", task_always_eager=True, task_store_eager_result=True)
    maps = job.measure.delay_many(names)
    merges = [job.merge.delay([each.id for each in maps[:3]]), job.merge.delay([each.id for each in maps[3:]])]
    whole = job.conclude.delay([each.id for each in merges]).get()
    assert survey.faults(whole, root, names) == []
    assert len(whole["names"]) <= NAMES
