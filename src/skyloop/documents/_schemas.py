"""event-model's schemas, compiled once each for a check that costs microseconds."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, cast

__all__ = ["schema_fault"]

_Schema = dict[str, Any]
_LONGEST_REASON = 300


def schema_fault(name: str, doc: Mapping[str, Any]) -> str:
    """What breaks event-model's schema of this kind of document; empty when nothing does.

    Args:
        name: one of the names that event-model gives to single documents.
        doc: the document; never changed.
    """
    refused, check = _compiled(name)
    try:
        check(doc)
    except refused as error:
        return str(error).replace("\n", " ")[:_LONGEST_REASON]
    except RecursionError:
        return "it is nested too deep, or holds itself"
    except TypeError:
        return "it has a key that is not a string"
    return ""


@functools.cache
def _compiled(name: str) -> tuple[type[Exception], Callable[[Mapping[str, Any]], Any]]:
    import fastjsonschema  # here, not above: nothing is compiled or loaded at import
    from event_model import DocumentNames, schemas

    schema = _closed(_as_draft7(schemas[DocumentNames[name]]))
    # Defaults off: they would be written into the document, which all callbacks share.
    check: Any = fastjsonschema.compile(schema, use_default=False)
    return fastjsonschema.JsonSchemaException, check


def _as_draft7(schema: Any) -> Any:
    """The same schema in the words of draft 7, which knows no `prefixItems`."""
    if isinstance(schema, list):
        return [_as_draft7(item) for item in cast("list[Any]", schema)]
    if not isinstance(schema, dict):
        return schema
    words = {key: _as_draft7(value) for key, value in cast("_Schema", schema).items()}
    if "prefixItems" in words:
        words["items"] = words.pop("prefixItems")
    return words


def _closed(schema: _Schema) -> _Schema:
    """The same schema without `unevaluatedProperties: false`, which draft 7 would pass over.

    event-model writes it where a document adds properties to a partial one (`allOf`); here the properties of
    both stand in one list that is closed.
    """
    if schema.get("unevaluatedProperties") is not False:
        return schema
    parts = [schema["$defs"][part["$ref"].rsplit("/", 1)[-1]] for part in schema["allOf"]]
    properties = {k: v for part in [*parts, schema] for k, v in part["properties"].items()}
    required = [key for part in [*parts, schema] for key in part.get("required", ())]
    kept = {k: v for k, v in schema.items() if k not in ("allOf", "unevaluatedProperties")}
    return {**kept, "properties": properties, "required": required, "additionalProperties": False}
