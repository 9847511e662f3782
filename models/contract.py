"""What every model is to the rest of Scorebeat, whatever its format."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

import pyarrow as pa

from scorebeat.core.errors import ModelError
from scorebeat.models.arrow_types import type_name, type_named

if TYPE_CHECKING:
    from scorebeat.models.inputs.samples import Sample


@dataclass(frozen=True)
class Trained:
    """What a column was in the DataFrame that a model was fitted on, as far as its file knows. Empty: not known."""

    name: str = ""
    """Its name there, where the input has another."""
    dtype: str = ""
    """Its dtype in pandas' words: `category`, `object`, `datetime64[ns]`, `Int64`."""
    categories: tuple[str | int | float | bool, ...] = ()
    """The categories of a `category`, in the order of their codes."""
    ordered: bool = False
    """Whether the categories have an order."""
    null: str = ""
    """What stood where there was no value: `None` or `NaN`."""
    index: str = ""
    """The dtype of whole numbers that are categories, where it is not int64 and the library wants it back."""
    exact: bool = False
    """Whether the model's own code may see what float64 rounds: whole numbers beyond 2^53."""

    def to_json(self) -> dict[str, Any]:
        """What is known, JSON values only."""
        found = {
            "trained_as": self.name,
            "dtype": self.dtype,
            "ordered": self.ordered,
            "null": self.null,
            "index": self.index,
            "exact": self.exact,
        }
        return {key: value for key, value in found.items() if value} | (
            {"categories": [*self.categories]} if self.categories else {}
        )

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Self:
        """What `to_json` stored among an input's keys; versions of before have none of them."""
        return cls(
            str(data.get("trained_as", "")),
            str(data.get("dtype", "")),
            tuple(data.get("categories", ())),
            bool(data.get("ordered", False)),
            str(data.get("null", "")),
            str(data.get("index", "")),
            bool(data.get("exact", False)),
        )


@dataclass(frozen=True)
class Input:
    """One input of a model: a column, or an array of fixed length when `length` is set."""

    name: str
    type: pa.DataType
    """Type of one value (of one element, for an array)."""
    length: int | None = None
    trained: Trained = Trained()

    @property
    def trained_name(self) -> str:
        """Its name in training."""
        return self.trained.name or self.name

    @property
    def column_type(self) -> pa.DataType:
        """Type of the column that `Model.predict` gets for this input."""
        return self.type if self.length is None else pa.list_(self.type, self.length)

    def __str__(self) -> str:
        array = "" if self.length is None else f"[{self.length}]"
        return f"{self.name} {type_name(self.type)}{array}"


@dataclass(frozen=True)
class Signature:
    """What a model wants and gives, by column name."""

    inputs: tuple[Input, ...]
    outputs: pa.Schema

    @property
    def columns(self) -> pa.Schema:
        """Schema of the rows that `Model.predict` gets."""
        return pa.schema([(i.name, i.column_type) for i in self.inputs])

    def to_json(self) -> dict[str, Any]:
        """JSON values only. Raises ModelError for a type outside the closed set."""
        return {
            "inputs": [
                {"name": i.name, "type": type_name(i.type)}
                | ({"length": i.length} if i.length else {})
                | i.trained.to_json()
                for i in self.inputs
            ],
            "outputs": [{"name": f.name, "type": type_name(f.type)} for f in self.outputs],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """The signature that `to_json` stored. Raises ModelError when it is not one."""
        try:
            inputs = tuple(
                Input(str(i["name"]), type_named(i["type"]), i.get("length"), Trained.from_json(i))
                for i in data["inputs"]
            )
            outputs = pa.schema([(str(o["name"]), type_named(o["type"])) for o in data["outputs"]])
        except (KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"this is not a model's signature ({error!r}): {str(data)[:200]}") from None
        return cls(inputs, outputs)


@dataclass(frozen=True)
class Given:
    """What the person who adds a model says of it, where its files do not."""

    inputs: tuple[str, ...] = ()
    """Names of the inputs, or `name:type` such as `review:string` or `pixels:float32[784]`."""
    outputs: tuple[str, ...] = ()
    """Names of the output columns: of all, or of all but the label."""
    classes: tuple[str, ...] = ()
    """A classifier's classes in the model's order, where its file has only their numbers."""
    trusted: frozenset[str] = frozenset()
    """Types in the model's file that may be loaded although they are not known to be harmless."""
    code: frozenset[str] = frozenset()
    """Formats that run code when they are opened and may be: `pickle`, `mlflow`."""
    files: tuple[str, ...] = ()
    """Further files that the model's own code opens; copied beside it."""
    sample: "Sample | None" = None
    """Rows to try the model on."""
    unsteady: bool = False
    """Whether it is accepted that predictions of a row depend on the rows beside it, or differ from call to call."""


NOTHING = Given()


@dataclass(frozen=True)
class Described:
    """What a format found in a model's files; model.toml keeps it, under the digest."""

    signature: Signature
    options: Mapping[str, Any] = field(default_factory=dict)
    """The format's own, for its `load`: text, numbers, true or false, or lists of them."""
    notes: tuple[str, ...] = ()
    """What the person who adds the model should know of how its inputs were bound; not stored."""
    unsure: str = ""
    """Why it may score rows otherwise than its library: such a version is published by a person only; not stored."""


class Model(Protocol):
    """A loaded model.

    It may have two attributes more, both False where they are absent: `returns_new_arrays`, by which nothing
    that predict() returned is written to later, so that it need not be copied; and `thread_safe`, by which several
    threads may be in predict() at once.
    """

    outputs: pa.Schema

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Score rows.

        `rows` has the signature's inputs in their order: scalar columns, and for an array input a
        FixedSizeList in which only elements may be NULL. Returns as many rows, in the same order, with
        exactly the columns of `outputs`. Called outside any database transaction. Raises InputError for
        values the model cannot take.
        """
        ...
