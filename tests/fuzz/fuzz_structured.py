"""The first engine: hypothesis draws edits of valid files, and shrinks what breaks a promise to its smallest form."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from fuzz_mutations import Edit, Style, damaged, kinds
from fuzz_promise import Outcome, Target
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

_NUMBERS = st.integers(0, 2**20 - 1)


def edits_of(target: Target) -> st.SearchStrategy[tuple[int, Style, Sequence[Edit]]]:
    """(which original, at which level, one to four edits)."""

    def of_style(style: Style) -> st.SearchStrategy[tuple[int, Style, Sequence[Edit]]]:
        edits = st.lists(st.tuples(st.sampled_from(kinds(style)), _NUMBERS, _NUMBERS), min_size=1, max_size=4)
        return st.tuples(st.integers(0, len(target.originals) - 1), st.just(style), edits)

    return st.sampled_from(list(target.styles)).flatmap(of_style)


def run_structured(
    target: Target, count: int, seed_value: int, note: Callable[[], None] = lambda: None
) -> Counter[Outcome]:
    """Outcomes of at least `count` inputs. Raises Violation, with the smallest edits that hypothesis found.

    note: called after each input.
    """
    outcomes: Counter[Outcome] = Counter()
    round_ = 0
    # Hypothesis stops early when it believes to have seen everything; another seed then goes on.
    while (missing := count - outcomes.total()) > 0:
        _one_round(target, missing, seed_value + round_, outcomes, note)
        round_ += 1
    return outcomes


def _one_round(
    target: Target, count: int, seed_value: int, outcomes: Counter[Outcome], note: Callable[[], None]
) -> None:
    @seed(seed_value)
    @settings(
        max_examples=count,
        database=None,
        report_multiple_bugs=False,  # several would come as a group, which nobody here expects
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
    )
    @given(edits_of(target))
    def promise_holds(drawn: tuple[int, Style, Sequence[Edit]]) -> None:
        which, style, edits = drawn
        outcomes[target.check(damaged(target.originals[which], style, edits))] += 1
        note()

    promise_holds()
