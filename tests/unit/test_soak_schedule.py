"""The soak's seed replays its faults."""

from itertools import islice

from tests.soak.schedule import planned

NAMES = ["kill", "stop", "wipe"]


def drawn(seed: int, draws: int) -> list[tuple[str, float, float]]:
    """Fifty faults, each of which first draws so many numbers for itself."""
    found = []
    for fault in islice(planned(seed, NAMES, 5.0), 50):
        first = fault.random.random()
        for _ in range(draws):
            fault.random.random()
        found.append((fault.name, fault.pause, first))
    return found


def test_the_same_seed_draws_the_same_faults_whatever_else_is_drawn() -> None:
    assert drawn(7, 0) == drawn(7, 3)


def test_another_seed_draws_other_faults() -> None:
    assert drawn(7, 0) != drawn(8, 0)


def test_faults_of_all_kinds_come_at_about_the_requested_pace() -> None:
    faults = list(islice(planned(7, NAMES, 5.0), 500))

    assert {fault.name for fault in faults} == set(NAMES)
    assert all(2.5 <= fault.pause <= 7.5 for fault in faults)
    assert 4.7 < sum(fault.pause for fault in faults) / 500 < 5.3
