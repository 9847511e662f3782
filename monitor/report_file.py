"""A job's report as one HTML file: no script, no address of a server, nothing that a reader would have to load."""

from tornado.template import DictLoader

from scorebeat.monitor import formatting
from scorebeat.monitor.job_report import JobReport
from scorebeat.monitor.templates import OURS

STYLES = ("report.css", "runs.css")


def as_html(report: JobReport) -> str:
    """The page of the job as it is now."""
    loader = DictLoader({path.name: path.read_text("utf-8") for path in OURS.glob("*.html")})
    static = OURS.parent / "static"
    style = "\n".join((static / name).read_text("utf-8") for name in STYLES)
    page: bytes = loader.load("report.html").generate(report=report, formatting=formatting, style=style, is_live=False)
    return page.decode("utf-8")
