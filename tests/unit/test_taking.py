"""No row of the suite falls between the make targets."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import pytest

from tests.taking import ONE_IN, Row, is_taken

pytestmark = pytest.mark.once
NAMES = [f"tests/faults/test_x.py::test_{number}" for number in range(40 * ONE_IN)]


def rows(name: str, **marks: bool) -> Iterator[Row]:
    """A fault test that starts workers: on both databases, with both kinds."""
    for on_postgres, kind in product((True, False), (0, 1)):
        yield Row(name, on_postgres, kind=kind, kinds=2, sampled=True, **marks)


def takers(row: Row) -> list[str]:
    return [target for target in ("test", "faults") if is_taken(row, target)]


@pytest.mark.parametrize("longer", [False, True], ids=["short", "longer"])
def test_a_fault_test_is_in_one_of_test_and_faults_whatever_its_name(longer: bool) -> None:
    for name in NAMES:
        of_a_test = [takers(row) for row in rows(name, longer=longer)]
        assert of_a_test[0] == (["faults"] if longer else ["test"]), "PostgreSQL, the first kind of worker"
        assert all(len(found) <= 1 for found in of_a_test), "no row is run twice"
        if longer:
            assert of_a_test[1:] == [[], [], []], "each once"


@pytest.mark.parametrize("tests", [1, 2, 3, 7])
def test_of_a_file_make_test_takes_some_and_make_faults_all_others(tests: int) -> None:
    found = [takers(Row("name", True, sampled=True, number=number)) for number in range(tests)]
    assert found[0] == ["test"] and all(len(takers) == 1 for takers in found)
    assert found.count(["faults"]) >= tests // 2


def test_the_other_combinations_are_sampled_by_both_and_differently() -> None:
    others = [row for name in NAMES for row in list(rows(name))[1:]]
    for target, combination in product(("test", "faults"), ((True, 1), (False, 0), (False, 1))):
        taken = [row for row in others if is_taken(row, target) and (row.on_postgres, row.kind) == combination]
        of = [row for row in others if (row.on_postgres, row.kind) == combination]
        share = len(of) / ONE_IN / (1 if combination[0] else 2)
        assert 0.4 * share < len(taken) < 2 * share, (target, combination)


def test_a_test_that_knows_no_database_is_in_the_sqlite_pass_once() -> None:
    for name in NAMES:
        on_sqlite = [row for row in rows(name, once=True) if not row.on_postgres]
        assert [takers(row) for row in on_sqlite if row.kind == 0] == [["test"]]


@pytest.mark.parametrize("fault", [True, False])
def test_a_test_that_starts_no_process_is_taken_on_postgresql_and_every_second_one_on_sqlite_too(fault: bool) -> None:
    assert all(takers(Row(name, True, fault=fault)) == ["test"] for name in NAMES)
    on_sqlite = [takers(Row(name, False, fault=fault)) for name in NAMES]
    assert all(found in (["test"], ["faults"]) for found in on_sqlite)
    assert 0.4 < on_sqlite.count(["test"]) / len(NAMES) < 0.6


@pytest.mark.parametrize("fault", [True, False])
def test_a_longer_one_that_starts_no_process_is_left_to_make_faults_on_both(fault: bool) -> None:
    for on_postgres, number in product((True, False), range(3)):
        assert takers(Row("name", on_postgres, fault=fault, longer=True, number=number)) == ["faults"]


@pytest.mark.parametrize("parameters", [2, 4, 9])
@pytest.mark.parametrize(
    "kept_to",
    [{"on_postgres": True}, {"on_postgres": False, "once": True}, {"on_postgres": True, "only_postgres": True}],
    ids=["on PostgreSQL", "once", "on PostgreSQL only"],
)
def test_its_first_parameter_is_taken_at_once_and_each_other_by_one_of_both(
    parameters: int, kept_to: dict[str, bool]
) -> None:
    found = [takers(Row("name", number=number, **kept_to)) for number in range(parameters)]
    assert found[0] == ["test"] and all(len(takers) == 1 for takers in found) and ["faults"] in found


def test_make_test_takes_more_parameters_where_they_are_cheaper_or_run_on_one_database_only() -> None:
    def early(**marks: bool) -> int:
        return sum(takers(Row("name", number=number, **marks)) == ["test"] for number in range(12))

    assert early(on_postgres=False, once=True) == 4
    assert early(on_postgres=True, only_postgres=True) == 4
    assert early(on_postgres=True) == 2


def test_the_matrix_takes_every_fault_row_and_nothing_else() -> None:
    assert all(is_taken(row, "matrix") for name in NAMES for row in rows(name, longer=True))
    assert not is_taken(Row("name", True, fault=False), "matrix")
