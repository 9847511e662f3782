"""A job's report as one HTML file: no script, no address of a server, nothing that a reader would have to load."""

from scorebeat.monitor import formatting
from scorebeat.monitor.job_report import JobReport
from scorebeat.monitor.templates import OURS, loader, read

STYLES = ("report.css", "runs.css")


def as_html(report: JobReport) -> str:
    """The page of the job as it is now."""
    static = OURS.parent / "static"
    style = "\n".join((static / name).read_text("utf-8") for name in STYLES)
    page: bytes = (
        loader(read(OURS))
        .load("report.html")
        .generate(report=report, formatting=formatting, style=style, is_live=False)
    )
    return page.decode("utf-8")
