"""The numpy dtypes and enums agree with native/layout.h, as a C compiler reads it."""

from __future__ import annotations

import re
import shutil
import subprocess
from enum import IntEnum
from pathlib import Path

import numpy as np
import pytest

from fastalloc.recording import layout

HEADER_FILE = Path(__file__).parents[2] / "src" / "fastalloc" / "native" / "layout.h"

STRUCTS: dict[str, np.dtype[np.void]] = {
    "fa_region": layout.REGION,
    "fa_held": layout.HELD,
    "fa_resident": layout.RESIDENT,
    "fa_header": layout.HEADER,
    "fa_thread": layout.THREAD,
    "fa_function": layout.FUNCTION,
    "fa_node": layout.NODE,
    "fa_site": layout.SITE,
    "fa_live": layout.LIVE,
    "fa_freed": layout.FREED,
    "fa_span": layout.SPAN,
    "fa_phase": layout.PHASE,
    "fa_thread_name": layout.THREAD_NAME,
    "fa_record": layout.RECORD,
    "fa_tick": layout.TICK,
    "fa_event": layout.EVENT,
}
ENUMS: dict[str, tuple[type[IntEnum], str]] = {
    "fa_region_id": (layout.Region, "FA_"),
    "fa_mode": (layout.Mode, "FA_MODE_"),
    "fa_state": (layout.State, "FA_STATE_"),
    "fa_control": (layout.Control, "FA_CONTROL_"),
    "fa_off": (layout.Off, "FA_OFF_"),
    "fa_free_design": (layout.FreeDesign, "FA_FREE_"),
    "fa_domain": (layout.Domain, "FA_DOMAIN_"),
    "fa_guard": (layout.Guard, "FA_GUARD_"),
    "fa_exit": (layout.Exit, "FA_EXIT_"),
    "fa_loss": (layout.Loss, "FA_LOSS_"),
    "fa_record_kind": (layout.RecordKind, "FA_RECORD_"),
    "fa_event_kind": (layout.EventKind, "FA_EVENT_"),
    "fa_native_event": (layout.NativeEvent, "FA_NATIVE_"),
}


@pytest.fixture(scope="module")
def header() -> str:
    """The text of layout.h without comments."""
    return re.sub(r"/\*.*?\*/", "", HEADER_FILE.read_text(), flags=re.DOTALL)


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a program compiled against layout.h prints of everything the dtypes and enums name."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    lines = [
        'printf("magic %s\\n", FA_MAGIC);',
        'printf("version %d\\n", (int)FA_LAYOUT_VERSION);',
        'printf("page %d\\n", (int)FA_PAGE_BYTES);',
        'printf("attributes %d\\n", FA_ATTRIBUTES_BYTES);',
    ]
    for struct, dtype in STRUCTS.items():
        lines.append(f'printf("{struct} %d\\n", (int)sizeof(struct {struct}));')
        for field in dtype.names or ():
            member = f"((struct {struct} *)0)->{field}"
            lines.append(
                f'printf("{struct}.{field} %d %d %d\\n", (int)offsetof(struct {struct}, {field}), '
                f"(int)sizeof({member}), IS_SIGNED({member}));"
            )
    for enum, prefix in ENUMS.values():
        for entry in enum:
            name = prefix + entry.name
            lines.append(f'printf("{name} %d\\n", (int){name});')
    lines += [
        f'printf("{name} %d\\n", (int){name});'
        for name in ("FA_REGION_COUNT", "FA_LOSS_COUNT", "FA_DOMAIN_COUNT")
    ]
    source = tmp_path_factory.mktemp("layout") / "layout.c"
    source.write_text(
        "#include <stddef.h>\n#include <stdio.h>\n"
        f'#include "{HEADER_FILE}"\n'
        "#define IS_SIGNED(x) _Generic((x), int32_t: 1, int64_t: 1, default: 0)\n"
        "int main(void) {\n" + "\n".join(lines) + "\nreturn 0; }\n"
    )
    program = source.with_suffix("")
    subprocess.run([compiler, "-std=c11", "-w", "-o", program, source], check=True)
    output = subprocess.run([program], check=True, capture_output=True, text=True).stdout
    return dict(line.split(" ", 1) for line in output.splitlines())


def fields_of(header: str, struct: str) -> list[str]:
    """The names of a struct's fields, as layout.h declares them."""
    body = re.search(rf"struct {struct} \{{(.*?)\}};", header, re.DOTALL)
    assert body, f"layout.h has no struct {struct}"
    return re.findall(r"(\w+)(?:\[\w+\])?;", body[1])


@pytest.mark.parametrize("struct", STRUCTS)
def test_every_field_lies_where_the_compiler_puts_it(struct: str, compiled: dict[str, str]) -> None:
    dtype = STRUCTS[struct]
    assert compiled[struct] == str(dtype.itemsize)
    assert dtype.names
    for name in dtype.names:
        field, offset = dtype[name], dtype.fields[name][1] if dtype.fields else None
        signed = int(field.kind == "i")
        assert compiled[f"{struct}.{name}"] == f"{offset} {field.itemsize} {signed}", name


@pytest.mark.parametrize("struct", STRUCTS)
def test_no_field_of_the_header_is_missing(struct: str, header: str) -> None:
    assert fields_of(header, struct) == list(STRUCTS[struct].names or ())


def test_no_struct_of_the_header_is_missing(header: str) -> None:
    assert set(re.findall(r"^struct (\w+) \{", header, re.MULTILINE)) == set(STRUCTS)


@pytest.mark.parametrize("name", ENUMS)
def test_enums_have_the_headers_values(name: str, compiled: dict[str, str]) -> None:
    enum, prefix = ENUMS[name]
    for entry in enum:
        assert compiled[prefix + entry.name] == str(entry.value)


@pytest.mark.parametrize("name", ENUMS)
def test_no_value_of_an_enum_is_missing(name: str, header: str) -> None:
    enum, prefix = ENUMS[name]
    body = re.search(rf"enum {name} \{{(.*?)\}};", header, re.DOTALL)
    assert body, f"layout.h has no enum {name}"
    names = [value for value in re.findall(r"\bFA_\w+", body[1]) if not value.endswith("_COUNT")]
    assert names == [prefix + entry.name for entry in enum]


def test_no_enum_of_the_header_is_missing(header: str) -> None:
    assert set(re.findall(r"^enum (\w+) \{", header, re.MULTILINE)) == set(ENUMS)


def test_constants_agree(compiled: dict[str, str]) -> None:
    assert compiled["magic"].encode() == layout.MAGIC
    assert compiled["version"] == str(layout.LAYOUT_VERSION)
    assert compiled["page"] == str(layout.PAGE_BYTES)
    assert compiled["attributes"] == str(layout.ATTRIBUTES_BYTES)
    assert compiled["FA_REGION_COUNT"] == str(len(layout.Region))
    assert compiled["FA_LOSS_COUNT"] == str(len(layout.Loss))
    assert compiled["FA_DOMAIN_COUNT"] == str(len(layout.Domain))


def test_every_region_has_an_entry() -> None:
    assert set(layout.ENTRY) == set(layout.Region)
