from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from skyloop.documents.run import NamedDocument
from skyloop.storage.digest import first_difference

DATA: dict[str, Any] = {"a": 1.0, "b": [1.0, float("nan")], "queue_seconds": 1.0}


def run(*, status: str = "success", **data: Any) -> list[NamedDocument]:
    return [("event", {"data": DATA | data}), ("stop", {"exit_status": status})]


def test_labels_and_the_kind_of_a_store_make_no_difference():
    stored = run(b=np.array([1.0, np.nan]), a=1, queue_seconds=7.0)
    assert first_difference(run(), stored) is None


@pytest.mark.parametrize(
    ("other", "told"),
    [
        (run(a=1.0 + 1e-15), ("a", 1.0, 1.0 + 1e-15)),
        (run(b=[2.0, float("nan")]), ("b[0]", 1.0, 2.0)),
        (run(status="abort"), ("exit_status", "success", "abort")),
        (run()[:1], ("exit_status", "success", "no stop document")),
        (run(c=1), ("c", "nothing", 1)),
    ],
)
def test_what_differs_first_is_named_with_both_values(other: list[NamedDocument], told: tuple[str, Any, Any]):
    assert first_difference(run(), other) == told
