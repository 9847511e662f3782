"""The contract that every model has with the rest of Scorebeat, whatever its format."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

import pyarrow as pa

from scorebeat.core.errors import ModelError
from scorebeat.models.arrow_types import is_list, type_name, type_named

if TYPE_CHECKING:
    from scorebeat.models.inputs.samples import Sample


@dataclass(frozen=True)
class Trained:
    """What is known of a column in the DataFrame that a model was fitted on. An empty field is unknown."""

    name: str = ""
    """Its name in training, if the input has another one."""
    dtype: str = ""
    """Its dtype as pandas calls it: `category`, `object`, `datetime64[ns]`, `Int64`."""
    categories: tuple[str | int | float | bool, ...] = ()
    """The categories of a `category`, in the order of their codes."""
    ordered: bool = False
    """Whether the categories have an order."""
    null: str = ""
    """The missing value in training: `None` or `NaN`."""
    index: str = ""
    """The dtype of categories that are whole numbers, if it is not int64 and the library requires it."""
    exact: bool = False
    """Whether the model's own code may depend on whole numbers beyond 2^53, which float64 rounds."""

    def to_json(self) -> dict[str, Any]:
        """The known fields, JSON values only."""
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
        """The fields that `to_json` stored among an input's keys; older versions have none of them."""
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
    def is_array(self) -> bool:
        """Whether one value is an array, of fixed length or not."""
        return self.length is not None or is_list(self.type)

    @property
    def column_type(self) -> pa.DataType:
        """Type of the column that `Model.predict` gets for this input."""
        return self.type if self.length is None else pa.list_(self.type, self.length)

    def __str__(self) -> str:
        array = "" if self.length is None else f"[{self.length}]"
        return f"{self.name} {type_name(self.type)}{array}"


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a model, by column name."""

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
        """The signature that `to_json` stored. Raises ModelError if it is none."""
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
class AddOptions:
    """The options of the person who adds a model: what its files do not say."""

    inputs: tuple[str, ...] = ()
    """Names of the inputs, or `name:type` such as `review:string` or `pixels:float32[784]`."""
    outputs: tuple[str, ...] = ()
    """Names of all output columns, or of all but the label."""
    classes: tuple[str, ...] = ()
    """A classifier's classes in the model's order, if its file has only their numbers."""
    trusted: frozenset[str] = frozenset()
    """Types in the model's file that may be loaded although they are not known to be harmless."""
    code: frozenset[str] = frozenset()
    """Formats that may be opened although that runs code: `pickle`, `mlflow`."""
    files: tuple[str, ...] = ()
    """Further files that the model's own code opens; copied beside it."""
    sample: "Sample | None" = None
    """Rows to try the model on."""
    reference: "Sample | None" = None
    """Rows of the training data, which runs are compared with."""
    golden: Path | None = None
    """A file with inputs, and the outputs that the model must return for them wherever it is loaded."""
    engine: str = ""
    """The engine that scores it, `native` or `compiled`; empty to choose the fastest of those that agree."""
    unsteady: bool = False
    """Whether predictions may depend on the other rows of a batch, or differ from call to call."""


NOTHING = AddOptions()


@dataclass(frozen=True)
class Described:
    """What a format found in a model's files; stored in model.toml, which the digest covers."""

    signature: Signature
    options: Mapping[str, Any] = field(default_factory=dict)
    """The format's own options, for its `load`: text, numbers, true or false, or lists of them."""
    notes: tuple[str, ...] = ()
    """Notes on how the inputs were bound, for the person who adds the model; not stored."""
    unsure: str = ""
    """Why its predictions may differ from its library's; empty if they do not. Only a person publishes such a
    version. Not stored."""


class Model(Protocol):
    """A loaded model.

    It may have two more attributes, each False by default. `returns_new_arrays`: the model never writes to arrays that
    it returned, so they need no copy. `thread_safe`: several threads may call predict() at once. And if it has
    several engines, a method `use_engine(engine, cache)`, which raises EngineUnavailable, and `engine`, the one in use.
    """

    outputs: pa.Schema

    def predict(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Score rows.

        `rows` has the signature's inputs in their order: scalar columns, and for an array input a
        FixedSizeList in which only elements may be NULL. Returns as many rows, in the same order, with
        exactly the columns of `outputs`. Called outside any database transaction. Raises InputError for
        values that the model does not take.
        """
        ...
