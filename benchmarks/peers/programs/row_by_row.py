"""The pattern's own job: load all rows, predict them one by one, and SELECT, COMMIT and refresh each by the ORM."""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import create_engine, select
from sqlalchemy.orm import Session

from benchmarks.peers.programs.mapped import mapped
from benchmarks.peers.programs.model import Model
from benchmarks.peers.programs.task import Score, Task, serve


@contextmanager
def started(task: Task) -> Iterator[Score]:
    engine = create_engine(task.sqlalchemy_url)
    classes = mapped(engine)
    prediction_of = classes[task.target]
    model = Model(task)

    def score(table: str) -> None:
        with Session(engine) as session:
            for row in session.scalars(select(classes[table])).all():
                outputs = model.predict_row(row)
                prediction = session.get(prediction_of, row.id)
                if prediction is None:
                    prediction = prediction_of(id=row.id)
                    session.add(prediction)
                for name, value in outputs.items():
                    setattr(prediction, name, value)
                session.commit()
                session.refresh(prediction)

    yield score
    engine.dispose()


if __name__ == "__main__":
    serve(started, ("SQLAlchemy", "psycopg2-binary"))
