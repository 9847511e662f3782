"""What a job's runs cost, month by month."""

from collections.abc import Sequence

from scorebeat.monitor import formatting
from scorebeat.monitor.charts.chart import Bar, Chart, Row, bars
from scorebeat.producer.costs.cost_report import JobMonth


def by_month(months: Sequence[JobMonth]) -> Chart:
    """Money, or without prices device time; what of it was waste on top. `months` has the newest first."""
    found = list(reversed(months))
    is_priced = any(one.cost.cost is not None for one in found)
    currency = next((one.cost.currency for one in found if one.cost.currency), "")

    def amount(value: float | None) -> str:
        if value is None:
            return formatting.NOTHING
        return f"{formatting.money(value)} {currency}" if is_priced else formatting.duration(value)

    drawn = []
    for one in found:
        whole, wasted = (
            (one.cost.cost or 0.0, one.cost.wasted_cost or 0.0)
            if is_priced
            else (one.cost.device_seconds, one.cost.wasted_seconds)
        )
        title = f"{one.month:%Y-%m}: {amount(whole)}, wasted {amount(wasted)}"
        drawn.append(Bar(title, (("active", max(0.0, whole - wasted)), ("failed", wasted))))
    marks, _, highest = bars(drawn)
    of = "cost" if is_priced else "time of devices"
    return Chart(
        "costs",
        "Cost by month" if is_priced else "Time of devices by month",
        f"{formatting.plural(len(found), 'month')}; the newest: {drawn[-1].title if drawn else 'none'}",
        ("Month", "Runs", "Rows", "Devices", "CPU", "Wasted", "Cost", "A run", "A million rows"),
        tuple(
            Row(
                (
                    f"{one.month:%Y-%m}",
                    formatting.count(one.runs),
                    formatting.count(one.cost.rows),
                    formatting.duration(one.cost.device_seconds),
                    formatting.duration(one.cost.cpu_seconds),
                    formatting.duration(one.cost.wasted_seconds),
                    *(
                        formatting.NOTHING if value is None else f"{formatting.money(value)} {currency}"
                        for value in (
                            one.cost.cost,
                            None if one.cost.cost is None or not one.runs else one.cost.cost / one.runs,
                            one.cost.a_million_rows,
                        )
                    ),
                )
            )
            for one in months
        ),
        marks=marks,
        highest=amount(highest) if found else "",
        ends=(f"{found[0].month:%Y-%m}", f"{found[-1].month:%Y-%m}") if found else ("", ""),
        legend=(("active", of), ("failed", "of it wasted")),
    )
