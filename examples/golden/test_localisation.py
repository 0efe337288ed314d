"""Plants an error in one module of the PyTorch backend after the other, and sees whether the kit names that module:

    python test_localisation.py data/golden

The error is a factor of 1.0005 on what the module puts out. Exits 1 if another module than the planted one is named.
"""

import contextlib
import io
import sys
from unittest import mock

import pytorch_backend
from diffusers.models.modeling_utils import ModelMixin

sys.path.append(sys.argv[1])  # golden.py is part of the kit
import golden


def planted(module_name):
    """`from_pretrained` whose models have the error."""
    original = ModelMixin.from_pretrained.__func__

    def wrong(_, __, y):
        return (y[0] * 1.0005, *y[1:]) if isinstance(y, tuple) else y * 1.0005

    def from_pretrained(cls, *args, **kwargs):
        model = original(cls, *args, **kwargs)
        model.get_submodule(module_name).register_forward_hook(wrong)
        return model

    return mock.patch.object(ModelMixin, "from_pretrained", classmethod(from_pretrained))


def main(folder):
    kit, failed, planted_errors = golden.open(folder), 0, 0
    for case in kit.cases(level="network"):
        stored, metadata = case.stored
        for tap in [name for name in stored if name.startswith("taps.")]:
            module = tap.removeprefix("taps.")
            with planted(module), contextlib.redirect_stdout(io.StringIO()):
                results = pytorch_backend.backend(case.op, case.attributes, **case.inputs)
            verdict = golden.judge(*case.stored, results)
            found = verdict.note.rpartition("first wrong: ")[2]
            planted_errors += 1
            if found != tap:
                failed += 1
                print(f"{case.id}: planted in {module}, found in {found or 'none'}: {verdict}")
    print(f"{planted_errors} errors planted, {planted_errors - failed} found where they were")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
