"""What is predicted of a GPU: how loops are found in machine code, and what the model makes of them."""

import importlib
from dataclasses import replace

import numpy as np
import pytest
from cuda_host import fake_cupy

instructions = importlib.import_module("benchmarks.instructions")
model = importlib.import_module("benchmarks.model")
predict = importlib.import_module("benchmarks.predict")


def blocks_of(*lines):
    """Return the basic blocks of instructions; labels stand before them."""
    text = []
    for i, line in enumerate(lines):
        label, _, code = line.rpartition(": ")
        text += [f"{label}:"] * bool(label) + [f"        /*{16 * i:04x}*/                   {code} ;"]
    return instructions._blocks("\n".join(text))


COUNTING = (
    ".L_x_0: LDG.E.128.CONSTANT R4, desc[UR4][R2.64]",
    "@P0 BRA `(.L_x_1)",
    "ATOMS.POPC.INC.32 RZ, [R4+URZ]",
    "ATOMS.POPC.INC.32 RZ, [R5+URZ]",
    "BRA `(.L_x_2)",
    ".L_x_1: LDG.E.U8 R6, desc[UR4][R2.64]",  # one by one
    "ATOMS.POPC.INC.32 RZ, [R6+URZ]",
    ".L_x_2: IADD3 R2, R2, 0x10, RZ",
    "@!P1 BRA `(.L_x_0)",
    ".L_x_3: LDS.128 R4, [R2]",
    "RED.E.ADD.64.STRONG.GPU desc[UR4][R2.64], R4",
    "@!P1 BRA `(.L_x_3)",
    "EXIT",
)


def test_loops_of_a_kernel_that_counts():
    blocks = blocks_of(*COUNTING)
    pixels = instructions.Pixels(itemsize=1)
    assert pixels.loop(blocks, instructions._COUNT) == (7 / 16, 16)
    assert pixels.loop(blocks, instructions._STORE) is None
    assert instructions.fold_loop(blocks) == (3 / 4, 4)
    assert instructions.load_loop(blocks) is None


def test_loops_of_a_kernel_that_maps():
    """Of vectors of four pixels, with tables that it gathers from where shared memory does not hold them."""
    blocks = blocks_of(
        ".L_x_0: LDG.E.U16.CONSTANT R4, desc[UR4][R2.64]",
        "STS.64 [R2], R4",
        "@!P1 BRA `(.L_x_0)",
        ".L_x_1: LDG.E.64 R4, desc[UR4][R2.64]",
        "@P0 BRA `(.L_x_2)",
        "LDG.E.U16.CONSTANT R4, desc[UR4][R2.64]",
        "BRA `(.L_x_3)",
        ".L_x_2: LDS.64 R4, [R2]",
        ".L_x_3: @P2 BRA `(.L_x_4)",
        "STG.E.U16 desc[UR4][R2.64], R4",
        ".L_x_4: STG.E.64 desc[UR4][R2.64], R4",
        "@!P1 BRA `(.L_x_1)",
        "EXIT",
    )
    cells = instructions.Pixels(itemsize=2, vector=8)
    assert cells.loop(blocks, instructions._STORE) == (6 / 4, 4)
    assert cells.loop(blocks, instructions._STORE, gathers=True) == (8 / 4, 4)
    assert instructions.load_loop(blocks) == (3 / 2, 2)


def test_loops_of_a_kernel_that_makes_tables():
    """Two loops over the bins, the second of which loads two counts before it uses one."""
    blocks = blocks_of(
        ".L_x_0: LDG.E.64 R4, desc[UR4][R2.64]",
        "@!P1 BRA `(.L_x_0)",
        ".L_x_1: LDG.E.64 R4, desc[UR4][R2.64]",
        "LDG.E.64 R6, desc[UR4][R2.64]",
        "STG.E.64 desc[UR4][R2.64], R4",
        "@!P1 BRA `(.L_x_1)",
        "EXIT",
    )
    assert instructions.table_loops(blocks) == pytest.approx((2 + 2, 2 / 3))


def test_turns_of_shared_memory():
    lane = np.arange(32)
    words = np.stack([lane, 32 * lane, 0 * lane, 16 * lane, 32 * (lane // 2)])
    assert [model.turns(row[None]) for row in words] == [1, 32, 1, 16, 16]
    assert model.turns(words) == np.mean([1, 32, 1, 16, 16])
    assert model.sectors(np.stack([lane, 32 * lane])) == (1 + 32) / 2


def test_every_call_has_a_bill():
    """From the launches that the backend makes; no time is shorter where an assumption is worse."""
    loops = dict.fromkeys(instructions.PHASES, instructions.Loop(10.0, 4.0))
    taken = dict.fromkeys(model.BILLS, loops)
    chip, kernels = model.CHIPS["H200"], set()
    with fake_cupy.installed():
        for case in predict.CASES:
            kernels |= {launch.kernel for launch in model.launches_of(chip, case)}
            good = predict.seconds(chip, model.GOOD, case, taken)
            for field in predict.UNITS:
                worse = replace(model.GOOD, **{field: getattr(model.BAD, field)})
                assert predict.seconds(chip, worse, case, taken) >= good, (case, field)
            assert predict.seconds(chip, model.BAD, case, taken) > good > 0.8 * predict.floor(chip, case)
        text = predict.report(taken)
    assert kernels == set(model.BILLS)
    assert all(text.count(predict.name_of(case)) >= 2 for case in predict.CASES)
