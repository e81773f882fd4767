"""What needs a whole project, and says nothing to its owner: real trainings by the worker, real notebooks."""

from baking import ROOT, BakedProject


def test_what_its_owner_does_not_see_passes_in_a_bake(demo_project: BakedProject) -> None:
    """In one session of pytest, for it takes seconds to import torch."""
    targets = []
    for source in sorted((ROOT / "tests/template/in_bake").glob("test_*.py")):
        target = demo_project.folder / f"tests/test_unseen_{source.name.removeprefix('test_')}"
        target.write_text(source.read_text().replace("PACKAGE", demo_project.package))
        targets.append(target)
    try:
        demo_project.run("uv", "run", "--no-sync", "pytest", *map(str, targets), timeout=1700)  # seconds
    finally:
        for target in targets:
            target.unlink()
