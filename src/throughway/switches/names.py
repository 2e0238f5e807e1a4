"""The names that switches have: IDs of protocols and families."""

from difflib import get_close_matches

from throughway.catalogue.catalogue import Catalogue


def has_switch(catalogue: Catalogue, name: str) -> bool:
    """Whether a protocol or a family has this name."""
    return name in catalogue.ids or name in catalogue.families


def unknown(catalogue: Catalogue, name: str) -> str:
    """Say that there is no such name, with the nearest one where one is near."""
    names = sorted({*catalogue.ids, *catalogue.families})
    near = get_close_matches(name, names, 1)
    meant = f"did you mean `{near[0]}`? " if near else ""
    return f"there is no protocol or family `{name}`; {meant}`throughway protocols list` names all"
