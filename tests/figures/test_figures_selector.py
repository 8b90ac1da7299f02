"""One figure out of several, with a menu that shows the traces of one at a time."""

import pandas as pd
import pytest

from lib.figures import dots
from lib.figures.selector import selector


def one(value):
    return dots(pd.DataFrame([{"method": "dense", "seed": 0, "x": value}]), "x", "method", title=f"value {value}")


def test_a_menu_shows_the_traces_of_one_figure():
    first, second = one(1.0), one(2.0)
    joined = selector({"a": first, "b": second}, "which")
    assert [trace.visible for trace in joined.data] == [True] * len(first.data) + [False] * len(second.data)
    menu = joined.layout.updatemenus[0]
    assert menu.name == "which" and [button.label for button in menu.buttons] == ["a", "b"]
    assert list(menu.buttons[1].args[0]["visible"]) == [False] * len(first.data) + [True] * len(second.data)
    assert "value 1" in joined.layout.meta["alt"] and "value 2" in joined.layout.meta["alt"]
    with pytest.raises(ValueError, match="no figures"):
        selector({})
