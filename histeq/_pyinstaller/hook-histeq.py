"""PyInstaller's hook: modules whose names histeq computes, and the sources of the CUDA kernels."""

from PyInstaller.utils.hooks import collect_data_files, collect_submodules

_OF_THE_COMMAND_LINE = ("histeq.__main__", "histeq._cli", "histeq._files")


def _is_for_applications(name: str) -> bool:
    """Leave out what would bring Pillow, Matplotlib and the like."""
    return not name.startswith(_OF_THE_COMMAND_LINE)


hiddenimports = collect_submodules("histeq", _is_for_applications) + collect_submodules("histeq_kernels")
datas = collect_data_files("histeq_kernels", includes=["**/*.cu", "**/*.cuh"])
