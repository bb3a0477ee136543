"""The plots of the documentation show the figures that are kept beside them."""

from __future__ import annotations

import pytest

from docs.plots import HERE, plots


@pytest.mark.parametrize('name', plots())
def test_plot_shows_the_figures(name: str) -> None:
    kept = (HERE / 'images' / name).read_text(encoding='utf-8')
    assert kept == plots()[name], "'make plots' draws them"
