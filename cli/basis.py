"""Learn a basis from fitted people: the directions they really use, in place of random ones.

    hyperdreambooth precompute ... --a 200 --b 100 --out people/        (a wide random basis)
    hyperdreambooth basis --data people/                                (writes people/basis.safetensors, a 100, b 50)
    hyperdreambooth train --data people/ --basis people/basis.safetensors ...

The learned basis has half the size of the one that people were fitted in, if nothing else is said; one of the same size
would only be turned. Prints, side by side, how much of people's change survives in the learned basis and in a random one
of the same size. A tenth of the people is held out: theirs is the figure that counts.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.description, parser.formatter_class = __doc__, argparse.RawDescriptionHelpFormatter
    parser.add_argument("--data", type=Path, required=True, help="folder that precompute made, with fitted people")
    parser.add_argument("--a", type=int, help="size on the input side (default: half of the data's)")
    parser.add_argument("--b", type=int, help="size on the output side (default: half of the data's)")
    parser.add_argument("--out", type=Path, help="basis file (default: DATA/basis.safetensors)")
    parser.add_argument("--most", type=int, default=2000, help="people to learn from at most")


def run(args: argparse.Namespace, rest: list[str]) -> None:
    from ..hypernet.shards import PreparedPeople
    from ..lidb.basis_form import rebuild, save_basis
    from ..lidb.learned_basis import learn_basis, project
    from ..lidb.targets import TargetTable

    data = PreparedPeople(args.data)
    if len(data.fitted) < 4:
        raise ValueError(
            f"{args.data} has {len(data.fitted)} people with a fitted LiDB; a basis needs at least 4, better hundreds. "
            "Run precompute with --fit."
        )
    table, wide = TargetTable.unpack(data.settings["table"]), rebuild(data.settings["basis"])
    a, b = (max(1, w // 2) if given is None else given for given, w in ((args.a, wide.a), (args.b, wide.b)))
    out = args.out or args.data / "basis.safetensors"
    who = data.fitted[: args.most]
    thetas, held_out = data.thetas(who), max(1, len(who) // 10)
    learned = learn_basis(table, wide, thetas[:-held_out], a, b)
    rows = {"learned": learned, "random": _random_inside(wide, table, a, b)}
    print(f"share of |delta_W|^2 that survives a = {a}, b = {b} (of {wide.a}, {wide.b})")
    facts = {"people": len(who) - held_out}
    for name, basis in rows.items():
        kept = [project(table, wide, basis, part)[1].mean().item() for part in (thetas[:-held_out], thetas[-held_out:])]
        facts[name] = {"learnt_from": kept[0], "held_out": kept[1]}
        print(f"  {name:8} {100 * kept[0]:5.1f} %   held-out people {100 * kept[1]:5.1f} %")
    out.parent.mkdir(parents=True, exist_ok=True)
    save_basis(out, learned, facts)
    print(f"{out}: digest {learned.digest}, {out.stat().st_size / 1e6:.1f} MB")


def _random_inside(wide, table, a: int, b: int):
    """A random basis of the wanted size inside the wide one: what a smaller random basis would have caught."""
    from ..lidb.basis import Basis
    from ..lidb.learned_basis import LearnedBasis

    inner = Basis(a, b, seed=1)
    A = {n: wide.A_aux(n) @ inner.A_aux(wide.a) for n in {t.in_features for t in table}}
    B = {m: inner.B_aux(wide.b) @ wide.B_aux(m) for m in {t.out_features for t in table}}
    return LearnedBasis(A, B)
