"""What a run must have in common with the one that it goes on with: arguments, and the state of the files."""

import dataclasses
from typing import TYPE_CHECKING, Any

import histeq
from histeq._passes.image import Image, Selection, lasting_identity

if TYPE_CHECKING:
    from histeq._passes.files import Job, Work


def begun(job: "Job", work: "Work", image: Image, pages_together: bool) -> dict[str, str | None]:
    """Return how a store is begun, as text by name."""
    how: dict[str, Any] = {"pages": "together" if pages_together else "each", "layout": work.layout}
    how |= {"memory": work.run.memory, "compression": work.options.compression}
    how |= {"overviews": work.options.overviews}
    files = {"src": job.source, "mask": work.mask and work.mask.file}
    for field in dataclasses.fields(work.method):
        value = getattr(work.method, field.name)
        if isinstance(value, Selection):
            how |= {each.name: getattr(value, each.name) for each in dataclasses.fields(value)}
        elif isinstance(value, Image):
            files[field.name] = value.file
        else:
            how[field.name] = value
    states: dict[str, str | None] = {
        f"state of {file}": lasting_identity(file) for file in files.values() if file is not None
    }
    how |= {name: None if file is None else str(file) for name, file in files.items()}
    return {"histeq": histeq.__version__, **{name: repr(value) for name, value in how.items()}, **states}
