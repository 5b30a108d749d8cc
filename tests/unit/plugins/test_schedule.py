# SPDX-FileCopyrightText: 2026 Archipel maintainers
# SPDX-License-Identifier: GPL-3.0-or-later
"""In which order steps begin, and how many at a time."""

from __future__ import annotations

import hypothesis
import pytest
from ansible_collections.archipel.platform.plugins.module_utils._schedule import Limits, Order, Queue, Step
from hypothesis import strategies as st

NONE = Limits(None, None, None, None, 100)
ANY = Order()


def rounds(steps, order=ANY, limits=NONE):
    """The indices of each round, if all that begins in one ends in it."""
    queue, found = Queue({one[0].index: one for one in steps}, order, limits), []
    while queue:
        begun = [step for batch in queue.begin() for step in batch]
        assert begun, "nothing can begin, and something is left"
        found.append([step.index for step in begun])
        for step in begun:
            queue.done(step.index)
    return found


def make(index, host="hv1"):
    return [Step(index, host)]


def test_one_that_others_wait_for_long_is_asked_for_alone():
    steps = {index: [Step(index, "hv1", waits=index != 2)] for index in range(4)}
    batches = Queue(steps, Order({3: {0}}), NONE).begin()
    assert [[step.index for step in batch] for batch in batches] == [[0], [1, 2]]


def stop(index, host="hv1"):
    return [Step(index, host, None, True)]


def move(index, source="hv1", target="hv2"):
    return [Step(index, source, target), Step(index, target)]


@pytest.mark.parametrize(
    ("steps", "after", "expected"),
    [
        ([make(0), make(1), make(2, "hv2")], {}, [[0, 1, 2]]),
        # What it depends on comes first; of a chain one by one.
        ([make(0), make(1), make(2)], {0: {1}, 1: {2}}, [[2], [1], [0]]),
        ([make(0), make(1)], {0: {1, 7}}, [[1], [0]]),  # 7 has nothing to be done
        # What is freed on a hypervisor comes before what is taken there, and does not keep other hypervisors.
        ([make(0), stop(1), make(2, "hv2")], {}, [[1, 2], [0]]),
        ([move(0), stop(1, "hv2")], {}, [[1], [0], [0]]),
        ([move(0), stop(1, "hv1")], {}, [[0, 1], [0]]),
        # It goes in the opposite order.
        ([stop(0), stop(1)], {0: {1}}, [[0], [1]]),
        # Whatever depends on what: freeing waits for freeing only.
        ([stop(0), make(1)], {0: {1}}, [[0], [1]]),
        ([make(0), stop(1)], {0: {1}}, [[1], [0]]),
        # A machine's own steps are one after another.
        ([[*stop(0), Step(0, "hv1", "hv2")], make(1, "hv2")], {}, [[0, 1], [0]]),
    ],
)
def test_order(steps, after, expected):
    assert rounds(steps, Order(after)) == expected


def test_groups_come_one_after_another_and_go_the_other_way():
    order = Order({}, {0: 1, 1: 0, 2: 2, 3: 1})
    assert rounds([make(0), make(1), make(2), make(3)], order) == [[1], [0, 3], [2]]
    assert rounds([stop(0), stop(1), stop(2), stop(3)], order) == [[2], [0, 3], [1]]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"parallel": 2}, [[0, 1], [2, 3], [4, 5], [4, 5]]),
        ({"per_hypervisor": 1}, [[0, 3, 4, 5], [1, 4, 5], [2]]),
        ({"migrations": 1}, [[0, 1, 2, 3, 4], [4, 5], [5]]),
        ({"per_source": 1}, [[0, 1, 2, 3, 4], [4, 5], [5]]),
    ],
)
def test_limits(limits, expected):
    steps = [make(0), make(1), make(2), make(3, "hv2"), move(4, "hv1", "hv3"), move(5, "hv1", "hv4")]
    assert rounds(steps, ANY, NONE._replace(**limits)) == expected


def test_a_request_has_as_many_machines_of_one_hypervisor_as_the_batch_says():
    queue = Queue({index: make(index, f"hv{index % 2}") for index in range(10)}, Order(), NONE._replace(batch=3))
    assert [[step.index for step in batch] for batch in queue.begin()] == [[0, 2, 4], [1, 3, 5], [6, 8], [7, 9]]
    assert queue.begin() == []


def test_what_is_dropped_keeps_nobody():
    queue = Queue({0: stop(0), 1: make(1)}, Order({1: {0}}, {0: -1}), NONE)
    queue.begin()
    queue.drop(0)
    assert queue.dependents(0) == [1] and queue.waiting() == [1]
    assert [[step.index for step in batch] for batch in queue.begin()] == [[1]]
    queue.done(1)
    assert not queue


@st.composite
def fleets(draw):
    """Steps of up to 12 machines on three hypervisors, who depends on whom, groups and limits."""
    hosts = st.sampled_from(["hv1", "hv2", "hv3"])
    kinds = st.sampled_from([make, stop, move, lambda index, host: [*stop(index, host), Step(index, host, "hv3")]])
    count = draw(st.integers(1, 12))
    steps = [draw(kinds)(index, draw(hosts)) for index in range(count)]
    after = {index: set(draw(st.lists(st.integers(0, index - 1), max_size=3))) for index in range(1, count)}
    groups = {index: draw(st.integers(0, 2)) for index in range(count)}
    # A group that comes later than one of its machines' dependents would ask for the impossible.
    for index in range(1, count):
        groups[index] = max([groups[index], *(groups[other] for other in after[index])])
    limit = st.one_of(st.none(), st.integers(1, 3))
    limits = Limits(draw(limit), draw(limit), draw(limit), draw(limit), draw(st.integers(1, 4)))
    return steps, Order(after, groups), limits


@hypothesis.given(fleets(), st.randoms(use_true_random=False))
@hypothesis.settings(deadline=None)
def test_every_machine_has_its_turn_in_order_and_within_limits(fleet, random):
    steps, order, limits = fleet
    queue = Queue({one[0].index: one for one in steps}, order, limits)
    busy, finished = [], set()
    while queue:
        for batch in queue.begin():
            assert len({step.host for step in batch}) == 1 and len(batch) <= limits.batch
            for step in batch:
                busy.append(step)
                if not step.frees:
                    assert order.after.get(step.index, set()) <= finished
        assert busy
        assert limits.parallel is None or len(busy) <= limits.parallel
        moves = [step.host for step in busy if step.target]
        assert limits.migrations is None or len(moves) <= limits.migrations
        assert limits.per_source is None or all(moves.count(host) <= limits.per_source for host in moves)
        stays = [step.host for step in busy if not step.target]
        assert limits.per_hypervisor is None or all(stays.count(host) <= limits.per_hypervisor for host in stays)
        step = busy.pop(random.randrange(len(busy)))
        queue.done(step.index)
        if step == steps[step.index][-1]:
            finished.add(step.index)
    assert len(finished) == len(steps)
