"""What PyInstaller must know to freeze an application that uses histeq: it finds the hook here by itself."""

from pathlib import Path


def hook_folders() -> list[str]:
    """Return where the hooks are; the entry point `pyinstaller40` in pyproject.toml names this function."""
    return [str(Path(__file__).parent)]
