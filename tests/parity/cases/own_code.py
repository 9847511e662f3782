"""Python classes over several files, and PyTorch programs."""

from importlib import import_module
from pathlib import Path
from textwrap import dedent
from typing import Any

import numpy as np

from scorebeat.models.contract import AddOptions
from tests.parity import frames
from tests.parity.case import Built, Case, Expected
from tests.parity.fitted import types_of

LINKED = """
    import json
    import numpy as np
    from scorebeat.models.inner import open_model
    from offers import prices
    from offers.words import clean

    class Offer:
        inputs = {"city": "string", "visits": "int64", "income": "float64"}
        outputs = {"label": "string", "price": "float64", "known": "bool", "near": "list<float64>"}

        def __init__(self, files, device):
            self.factors = json.loads((files / "factors.json").read_text("utf-8"))

        def predict(self, rows):
            cities = [clean(city) for city in rows["city"].to_pylist()]
            visits = rows["visits"].fill_null(0).to_numpy(zero_copy_only=False)
            income = rows["income"].fill_null(0).to_numpy(zero_copy_only=False)
            price = prices.price(visits, income)
            return {
                "label": cities,
                "price": price,
                "known": [city in self.factors for city in cities],
                "near": [[p, p / 2] for p in price.tolist()],
            }
"""
WORDS = """
    def clean(text):
        return (text or "").strip().lower()
"""
PRICES = """
    import numpy as np

    def price(visits, income):
        return np.log1p(income) * (1 + visits)
"""
REUSED = """
    import numpy as np

    class Doubled:
        inputs = {"age": "float64"}
        outputs = {"value": "float64"}

        def __init__(self, files, device):
            self.buffer = np.empty(1_000_000)

        def predict(self, rows):
            found = self.buffer[: rows.num_rows]
            found[:] = rows["age"].to_numpy(zero_copy_only=False)
            if np.isnan(found).any():
                raise ValueError("no age is no age")
            found *= 2
            return {"value": found}
"""


def written(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(exist_ok=True)
        path.write_text(dedent(text), "utf-8")


def several_files(folder: Path) -> Built:
    """A class over a package of its own, with a file that it opens."""
    written(folder, offers__offer=LINKED, offers__words=WORDS, offers__prices=PRICES)
    (folder / "offers/__init__.py").write_text("")
    (folder / "factors.json").write_text('{"zürich": 2, "l\'aquila": 1}', "utf-8")

    def predict(frame: Any) -> Expected:
        cities = [city.strip().lower() for city in frame["city"].fillna("")]
        price = np.log1p(frame["income"].fillna(0)) * (1 + frame["visits"].fillna(0))
        return {
            "label": np.array(cities, object),
            "price": price.to_numpy(),
            "known": np.isin(cities, ["zürich", "l'aquila"]),
            "near": np.column_stack([price, price / 2]),
        }

    return Built(
        "offers.offer:Offer",
        frames.today(("city", "income", "visits")),
        predict,
        AddOptions(files=("factors.json",)),
        types_of(("visits",)),
    )


def one_buffer(folder: Path) -> Built:
    """A class that returns the same buffer each time, and refuses some rows."""
    written(folder, doubled=REUSED)

    def predict(frame: Any) -> Expected:
        if frame["age"].isna().any():
            raise ValueError("no age is no age")
        return {"value": frame["age"].to_numpy() * 2}

    return Built("doubled:Doubled", frames.today(("age",)), predict)


def program(folder: Path) -> Built:
    """A PyTorch program over four columns."""
    torch = import_module("torch")
    torch.manual_seed(1)
    model = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 2)).eval()
    rows = torch.export.Dim("rows")
    exported = torch.export.export(model, (torch.ones(3, 4),), dynamic_shapes=({0: rows},))
    torch.export.save(exported, folder / "model.pt2")
    columns = ("age", "income", "debt", "visits")
    frame = frames.today(columns, nulls=False).fillna(0) / [50, 30_000, 2_500, 6]

    def predict(part: Any) -> Expected:
        with torch.no_grad():
            found = model(torch.from_numpy(part.to_numpy(np.float32))).numpy()
        return {"output_0": found[:, 0], "output_1": found[:, 1]}

    return Built(folder / "model.pt2", frame, predict, AddOptions(inputs=columns))


CASES = {
    "a Python class over several files": Case(several_files),
    "a Python class with one buffer": Case(one_buffer),
    "a PyTorch program": Case(program, needs=("torch",)),
}
