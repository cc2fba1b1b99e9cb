"""CloudEvents 1.0 in JSON lines: one event a row, with an id that is the same in every run.

Metering systems drop an event that they have seen: OpenMeter by `source` and `id`, Lago by `transaction_id` and
Stripe by `identifier`, which take the `id`. So a file may be sent again after any failure.
Source: https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from collections.abc import Iterator

from billing.export_models import ExportDataset
from billing.exports.cells import write_usd
from billing.exports.columns import ColumnKind
from billing.exports.json_lines import encode_object, json_object
from billing.exports.reading import read_batches
from billing.exports.selection import Selection
from billing.exports.tally import Tally

_ENVELOPE = {"specversion": "1.0", "datacontenttype": "application/json"}
_TYPES = {ExportDataset.USAGE: "tollkeeper.usage", ExportDataset.LEDGER: "tollkeeper.transfer"}


def write_cloud_events(selection: Selection, tally: Tally) -> Iterator[bytes]:
    """Yield the file in parts."""
    columns = selection.columns
    names = [column.name for column in columns]
    dataset = selection.dataset
    identify = _usage_id if dataset.name is ExportDataset.USAGE else _transfer_id
    moment = next(column.name for column in columns if column.sql == dataset.moment)
    envelope = {**_ENVELOPE, "type": _TYPES[dataset.name], "source": f"/tollkeeper/{dataset.name.value}"}
    usd = [column.name for column in columns if column.kind is ColumnKind.USD]
    for rows in read_batches(selection, columns):
        lines = []
        for row in rows:
            data: dict[str, object] = dict(zip(names, row, strict=True))
            tally.add_rows(1, row[names.index(dataset.total)])
            for name in usd:
                data[name] = write_usd(row[names.index(name)])
            if "tags" in data:
                data |= {"tags": json_object(str(data["tags"])), "is_stream": bool(data["is_stream"])}
            event = {**envelope, "id": identify(data), "subject": data["customer_id"], "time": data[moment]}
            lines.append(encode_object({**event, "data": data}))
        yield b"".join(lines)


def _usage_id(data: dict[str, object]) -> str:
    return f"{data['request_id']}-{data['sequence']}"


def _transfer_id(data: dict[str, object]) -> str:
    return f"transfer-{data['id']}"
