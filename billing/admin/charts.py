"""Charts of days, drawn by the bundled Chart.js."""

from collections.abc import Sequence
from typing import Any

from billing.statistics import DayFigures
from common.money import NANO_PER_USD

# Chart.js would write a tick of two hundred-thousandths as 2E-5. Nine decimals are all that money has, and the lowest
# top of the scale keeps its steps from having more.
USD_TICKS = {"format": {"notation": "standard", "maximumFractionDigits": 9}}
USD_LOWEST_TOP = 0.00000001

DAY_CHART_OPTIONS = {
    "responsive": True,
    "maintainAspectRatio": False,
    "animation": False,
    "interaction": {"mode": "index", "intersect": False},
    "plugins": {"legend": {"display": True, "align": "end", "labels": {"boxWidth": 10, "boxHeight": 10}}},
    "scales": {
        "x": {"grid": {"display": False}, "ticks": {"maxTicksLimit": 10, "maxRotation": 0}},
        "y": {
            "position": "left",
            "beginAtZero": True,
            "suggestedMax": USD_LOWEST_TOP,
            "ticks": USD_TICKS,
            "border": {"display": False},
            "title": {"display": True, "text": "USD"},
        },
        "calls": {
            "position": "right",
            "beginAtZero": True,
            "border": {"display": False},
            "grid": {"display": False},
            "ticks": {"precision": 0},
            "title": {"display": True, "text": "calls"},
        },
    },
}


def day_chart(days: Sequence[DayFigures]) -> dict[str, Any]:
    """Return the data of a chart: what each day's calls cost, and how many there were."""
    return {
        "labels": [f"{day.day:%d %b}" for day in days],
        "datasets": [
            {
                "label": "Spend (USD)",
                "type": "bar",
                # For drawing only: a bar has fewer pixels than a float has digits.
                "data": [day.charged_nanousd / NANO_PER_USD for day in days],
                "backgroundColor": "var(--color-primary-600)",
                "borderRadius": 3,
            },
            {
                "label": "Calls",
                "type": "line",
                "yAxisID": "calls",
                "data": [day.calls for day in days],
                "borderColor": "var(--color-base-400)",
                "backgroundColor": "var(--color-base-400)",
                "borderWidth": 2,
                "pointRadius": 0,
                "tension": 0,
            },
        ],
    }
